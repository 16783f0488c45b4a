//! Slow, lossy and limited lines.

use crate::{
    direct::{Bench, noise, options},
    tools::{MIB, PART, at_length, wait_until},
    world::World,
};
use archiver::{
    pipeline::AlwaysOpen,
    upload::{Options, Retries},
};
use archiver_s3_double::{Proxy, proxy::Knobs};
use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Delivers over such a line, and gives the seconds that took. No part may be sent twice: a slow line is no dead one.
fn deliver_over(knobs: Knobs, bytes: &[u8], concurrency: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench::new();
    let proxy = Proxy::start(bench.double.address());
    proxy.set(knobs);
    let began = Instant::now();
    runtime.block_on(async {
        let options = Options { retries: Retries { max: 1, ..Retries::default() }, ..options(concurrency) };
        let uploader = bench.uploader(bench.vault(&proxy.endpoint()).await, Arc::new(AlwaysOpen), options);
        let stop = CancellationToken::new();
        uploader.deliver(&bench.parcel(bytes), &stop, &|_| ()).await.unwrap();
    });
    bench.is_delivered(bytes).unwrap();
    let sent: Vec<_> = bench.double.log_of("UploadPart").iter().map(|entry| (entry.part, entry.received)).collect();
    assert_eq!(sent.len() as u64, (bytes.len() as u64).div_ceil(PART), "a false stall: {sent:?}");
    began.elapsed().as_secs_f64()
}

#[test]
fn a_slow_line_and_a_lossy_one_are_no_dead_ones() {
    for (what, rate, loss_percent, latency) in
        [("1 MiB/s and connection", Some(MIB), 0.0, 0), ("0.3 % loss and 50 ms each way", None, 0.3, 50)]
    {
        let latency = Duration::from_millis(latency);
        let knobs = Knobs { rate, loss_percent, latency, seed: 1, ..Knobs::default() };
        let took = deliver_over(knobs, &noise(PART + MIB), 2);
        println!("figure: {what}: 9 MiB delivered in {took:.0} s");
    }
}

/// 64 kbit/s over both parts together: one after the other.
#[test]
fn a_line_of_64_kilobits_delivers() {
    if !at_length() {
        return;
    }
    let knobs = Knobs { rate: Some(8_000), ..Knobs::default() };
    let took = deliver_over(knobs, &noise(PART + MIB), 1);
    println!("figure: 64 kbit/s: 9 MiB delivered in {took:.0} s, no stall");
}

/// At 30 % loss nearly every read of the proxy waits for a segment that is sent again.
#[test]
fn a_line_that_loses_a_third_delivers() {
    if !at_length() {
        return;
    }
    let knobs = Knobs { loss_percent: 30.0, latency: Duration::from_millis(50), seed: 1, ..Knobs::default() };
    let took = deliver_over(knobs, &noise(PART + MIB), 2);
    println!("figure: 30 % loss: 9 MiB delivered in {took:.0} s, no stall");
}

/// Bytes per second that reach the server over so many seconds, from the real binary with four parts at once.
fn rate_of(limit: u64, seconds: u64) -> f64 {
    let mut world = World::new(0);
    // More than goes out in the time: parts of four at once.
    let size = (limit * (seconds + 4)).max(5 * PART);
    fs::write(world.path("source/film"), noise(size)).unwrap();
    "concurrency = 4".clone_into(&mut world.vault);
    world.more = format!("[upload]\nbandwidth = \"{limit}B/s\"\n");
    world.max_size = size + MIB;
    let running = world.start(&["run"]);
    wait_until("parts are under way", || {
        world.double.log_of("UploadPart").iter().filter(|entry| entry.received > 0).count() == 4
    });
    let (began, before) = (Instant::now(), world.double.bytes_received());
    thread::sleep(Duration::from_secs(seconds));
    let rate = (world.double.bytes_received() - before) as f64 / began.elapsed().as_secs_f64();
    running.terminate();
    println!(
        "figure: bandwidth: {limit} B/s for {seconds} s, 4 parts at once: {rate:.0} B/s, {:+.2} %",
        100.0 * (rate / limit as f64 - 1.0)
    );
    rate
}

#[test]
fn the_bandwidth_holds_over_all_parts_together() {
    let (limit, seconds, off) = if at_length() { (4_000_000, 60, 0.05) } else { (4_000_000, 10, 0.10) };
    let rate = rate_of(limit, seconds);
    assert!((rate / limit as f64 - 1.0).abs() < off, "{rate} of {limit} bytes per second");
}

/// What is limited is limited for what goes in one part as well.
#[test]
fn the_bandwidth_holds_for_an_object_of_one_part() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bench, bytes, rate) = (Bench::new(), noise(6 * MIB), 2 * MIB);
    let began = Instant::now();
    runtime.block_on(async {
        let limited = Options { bandwidth: Some(rate), ..options(4) };
        let vault = bench.vault(&bench.double.endpoint()).await;
        let uploader = bench.uploader(vault, Arc::new(AlwaysOpen), limited);
        uploader.deliver(&bench.parcel(&bytes), &CancellationToken::new(), &|_| ()).await.unwrap();
    });
    let took = began.elapsed().as_secs_f64();
    // A busy machine may take longer, but never less.
    assert!((2.8..30.0).contains(&took), "6 MiB at 2 MiB/s took {took} s");
}
