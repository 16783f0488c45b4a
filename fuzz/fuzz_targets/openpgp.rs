#![no_main]

#[path = "../../tests/fuzz/targets.rs"]
#[allow(dead_code)]
mod targets;

/// Panics of the OpenPGP library are caught where it is called. The hook of libFuzzer would end at each of them; from
/// here on only those that come through do.
static CAUGHT: std::sync::Once = std::sync::Once::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    CAUGHT.call_once(|| std::panic::set_hook(Box::new(|_| ())));
    targets::openpgp(data);
});
