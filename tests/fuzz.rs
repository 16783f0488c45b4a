//! Rubbish is an error and no more: whatever reads files that others may have damaged or made neither panics nor takes
//! much memory or time, and what it accepts it writes and reads again as the same.
//!
//! `ARCHIVER_FUZZ_SECONDS` is how long each target is run, `ARCHIVER_SEED` which inputs are made. In the directory
//! `ARCHIVER_FUZZ_CORPUS` the seeds are left for libFuzzer, which finds little without them.

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets.rs"]
mod targets;

use mutate::{Random, mutated};
use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};
use targets::{TARGETS, Target};

/// No input takes longer, on the slowest of machines.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);
/// Most memory of all targets at once, KiB. A decoder may have a gigabyte where a stream says that it needs it.
const MEMORY_MAX: u64 = 1536 << 10;
/// Inputs that were accepted are kept to be changed further, the seeds always.
const CORPUS_LEN_MAX: usize = 512;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs one input; where that fails, leaves it in a file and says so.
fn run(name: &str, target: Target, input: &[u8], seed: u64) -> bool {
    let began = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = began.elapsed();
    if done.is_ok() && took < INPUT_TIME_MAX {
        return done.unwrap_or_default();
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{seed}"));
    fs::write(&file, input).unwrap();
    panic!(
        "{name}, seed {seed}: {} after {took:?}; the input is in {file:?}",
        if done.is_ok() { "slow" } else { "panic" }
    );
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name").1;
    let seed = setting("ARCHIVER_SEED", 1);
    let time = Duration::from_secs(setting("ARCHIVER_FUZZ_SECONDS", 2));
    let mut random = Random(seed);
    let mut corpus = seeds::of(name);
    let seeds = corpus.len();
    if let Some(dir) = env::var_os("ARCHIVER_FUZZ_CORPUS") {
        let dir = Path::new(&dir).join(name);
        fs::create_dir_all(&dir).unwrap();
        for (number, input) in corpus.iter().enumerate() {
            fs::write(dir.join(format!("seed-{number}")), input).unwrap();
        }
    }
    // What only grows is no other input, and a slow one.
    let len_max = 2 * corpus.iter().map(Vec::len).max().unwrap_or_default() + 256;
    for input in &corpus {
        assert!(run(name, target, input, seed), "{name}: a seed is refused: {}", String::from_utf8_lossy(input));
    }
    let (began, mut runs, mut accepted) = (Instant::now(), 0_u64, 0_u64);
    while began.elapsed() < time {
        let (from, other) = (random.below(corpus.len()), random.below(corpus.len()));
        let input = mutated(&mut random, &corpus[from], &corpus[other]);
        runs += 1;
        if !run(name, target, &input, seed) {
            continue;
        }
        accepted += 1;
        if input.len() <= len_max {
            match corpus.len() {
                len if len < CORPUS_LEN_MAX => corpus.push(input),
                len => corpus[seeds + random.below(len - seeds)] = input,
            }
        }
    }
    println!("{name}: {runs} inputs, {accepted} accepted");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_MAX, "{name}: {peak} KiB");
}

#[test]
fn no_configuration_makes_it_panic_and_one_that_is_accepted_is_told_as_it_is_read() {
    fuzz("configuration");
}

#[test]
fn no_manifest_makes_it_panic_and_its_lines_are_written_as_they_are_read() {
    fuzz("manifest");
}

#[test]
fn no_index_makes_it_panic_and_it_is_written_as_it_is_read() {
    fuzz("index");
}

#[test]
fn no_member_list_makes_it_panic_even_with_right_digests() {
    fuzz("member_list");
}

#[test]
fn no_mark_makes_it_panic_and_it_is_written_as_it_is_read() {
    fuzz("mark");
}

#[test]
fn names_paths_sizes_and_times_are_spelled_as_they_are_read() {
    fuzz("names");
}

#[test]
fn no_catalog_makes_it_panic_whatever_is_in_its_rows() {
    fuzz("catalog");
    fuzz("catalog_rows");
}

#[test]
fn no_compressed_stream_makes_it_panic() {
    fuzz("xz");
    fuzz("zstd");
}

#[test]
fn no_sealed_form_makes_it_panic() {
    fuzz("openpgp");
}
