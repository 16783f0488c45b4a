//! Connections that are reset in the middle of a part: only that part is sent again, and the object is right.

use crate::{
    direct::{Bench, noise, options},
    tools::{MIB, PART, Random, setting},
};
use archiver::pipeline::AlwaysOpen;
use archiver_s3_double::{
    Proxy,
    proxy::{Cut, Knobs},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Deliveries that are begun for one object at most: one for each cut that hits something else than a part, and one.
const DELIVERIES_MAX: u32 = 4;
/// Seeds at a time. Each waits most of its time before it sends a part again.
const WORKERS: u64 = 4;

#[derive(Clone, Copy, Default)]
struct Seen {
    size: u64,
    received: u64,
    cuts: u64,
    parts_again: u64,
    deliveries: u64,
}

/// Cuts one or two connections at places that follow from the seed.
fn cut(proxy: &Proxy, random: &mut Random, concurrency: u64, size: u64) {
    let next = |after| proxy.next(Knobs { cut: after, ..Knobs::default() });
    let victim = random.below(concurrency);
    (0..victim).for_each(|_| next(None));
    next(Some(Cut::After(random.below(size / concurrency))));
    if random.below(3) == 0 {
        next(Some(Cut::After(random.below(PART))));
    }
}

async fn deliver(seed: u64, noise: &[u8]) -> Result<Seen, String> {
    let (bench, mut random) = (Bench::new(), Random::new(seed));
    let proxy = Proxy::start(bench.double.address());
    let bytes = &noise[..(2 * PART + 1 + random.below(PART)) as usize];
    let concurrency = 1 + random.below(3);
    cut(&proxy, &mut random, concurrency, bytes.len() as u64);
    let vault = bench.vault(&proxy.endpoint()).await;
    let uploader = bench.uploader(vault, Arc::new(AlwaysOpen), options(concurrency as usize));
    let (parcel, stop) = (bench.parcel(bytes), CancellationToken::new());
    let mut deliveries = 0;
    let receipt = loop {
        deliveries += 1;
        match uploader.deliver(&parcel, &stop, &|_| ()).await {
            Ok(receipt) => break receipt,
            // The cut came between parts, which whoever delivers goes on after.
            Err(err) if deliveries == DELIVERIES_MAX => return Err(format!("{err:?}")),
            Err(_) => {}
        }
    };
    if !receipt.proves(&parcel.spec) {
        return Err(format!("{receipt:?} proves nothing"));
    }
    bench.is_delivered(bytes)?;
    let mut seen = again(&bench)?;
    seen.cuts = proxy.passed().cut;
    seen.deliveries = u64::from(deliveries);
    seen.size = bytes.len() as u64;
    if seen.parts_again > seen.cuts || seen.received > seen.size + seen.cuts * PART {
        return Err(format!("{} parts and {} bytes for {} cuts", seen.parts_again, seen.received, seen.cuts));
    }
    Ok(seen)
}

/// What was received more than once: nothing that was whole, and of the rest what was cut.
fn again(bench: &Bench) -> Result<Seen, String> {
    let mut requests: BTreeMap<i32, (u64, u64)> = BTreeMap::new();
    for entry in bench.double.log_of("UploadPart") {
        let (all, whole) = requests.entry(entry.part.unwrap()).or_default();
        *all += 1;
        *whole += u64::from(entry.content_length == Some(entry.received));
    }
    if requests.len() != 3 || requests.values().any(|(_, whole)| *whole != 1) {
        return Err(format!("each of 3 parts is received whole once: {requests:?}"));
    }
    let received = bench.double.log_of("UploadPart").iter().map(|entry| entry.received).sum();
    Ok(Seen { received, parts_again: requests.values().map(|(all, _)| all - 1).sum(), ..Seen::default() })
}

#[test]
fn of_a_connection_that_is_cut_only_its_part_is_sent_again() {
    let (seed, count) = (setting("ARCHIVER_SEED", u64::from(std::process::id())), setting("ARCHIVER_CUTS", 25));
    let (noise, next) = (noise(3 * PART + MIB), AtomicU64::new(0));
    let (all, wrong) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let seed = seed.wrapping_add(next.fetch_add(1, Ordering::Relaxed));
                    if next.load(Ordering::Relaxed) > count {
                        break;
                    }
                    match runtime.block_on(deliver(seed, &noise)) {
                        Ok(seen) => all.lock().unwrap().push(seen),
                        Err(what) => wrong.lock().unwrap().push(format!("seed {seed}: {what}")),
                    }
                }
            });
        }
    });
    let (all, wrong) = (all.into_inner().unwrap(), wrong.into_inner().unwrap());
    let sum = |of: fn(&Seen) -> u64| all.iter().map(of).sum::<u64>();
    println!(
        "figure: cuts: {} seeds, {} connections cut, {} parts sent again, none whole, {} deliveries; {} bytes received of {}, \
         overhead {:.4}; {} violations; {:.0} s",
        all.len() + wrong.len(),
        sum(|seen| seen.cuts),
        sum(|seen| seen.parts_again),
        sum(|seen| seen.deliveries),
        sum(|seen| seen.received),
        sum(|seen| seen.size),
        sum(|seen| seen.received) as f64 / sum(|seen| seen.size) as f64,
        wrong.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(sum(|seen| seen.parts_again) * 2 > count, "Hardly any part was cut");
}
