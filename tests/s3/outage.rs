//! Outages of days, in which the hours pass while the pipeline waits: nothing ends, and the end of the outage is
//! found within the longest wait.

use crate::{
    inside::{Hours, Inside},
    tools::{BUCKET, Random, setting, wait_until},
    world::World,
};
use archiver::{fate::Waits, upload::Retries, vault::s3::Patience};
use archiver_s3_double::{
    Act, Proxy, Rule,
    proxy::{Knobs, Stall},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const LONGEST_WAIT: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3_600);

/// What an upload tries again by itself, it tries in real time; the hours pass only while the pipeline waits.
const AT_ONCE: Retries = Retries { max: 6, waits: Waits { first: Duration::from_millis(1), longest: LONGEST_PAUSE } };
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

fn impatient() -> Patience {
    Patience { connect: Duration::from_secs(1), silence: Duration::from_millis(300), ..Patience::default() }
}

/// In the middle of an upload the way to the server ends for two days: refused, swallowed, or only one way open.
#[test]
fn two_days_of_darkness_end_by_themselves_within_five_minutes() {
    let seed = setting("ARCHIVER_SEED", u64::from(std::process::id()));
    let mut world = World::new(1);
    let proxy = Arc::new(Proxy::start(world.double.address()));
    world.endpoint = proxy.endpoint();
    world.double.script(Rule::new(Act::Nothing).on("UploadPart").part(2).delay(Duration::from_millis(500)));
    let (hours, random) = (Hours::at("2026-11-20T20:00:00Z"), Mutex::new(Random::new(seed)));
    let (began, ends) = (hours.now(), hours.now() + 48 * HOUR);
    let (clock, way) = (hours.clone(), proxy.clone());
    let inside = Inside {
        hours: hours.clone(),
        wait: Arc::new(move |_, time| {
            clock.pass(time);
            let mut knobs = Knobs::default();
            if clock.now() < ends {
                match random.lock().unwrap().below(40) {
                    0 => knobs.blackhole = true,
                    1 => knobs.stall = Stall::Down,
                    _ => knobs.refuse = true,
                }
            }
            way.set(knobs);
            way.cut_all();
        }),
        window: None,
        concurrency: 1,
        patience: impatient(),
        retries: AT_ONCE,
    };
    let going = inside.start(&world);
    wait_until("a part is there", || world.double.uploads(BUCKET).iter().any(|upload| !upload.parts.is_empty()));
    proxy.set(Knobs { refuse: true, ..Knobs::default() });
    proxy.cut_all();
    world.double.clear_script();
    let real = Instant::now();
    wait_until("it is delivered", || {
        assert!(!going.is_over(), "seed {seed}: it gave up\n{}", going.ears.last(5));
        going.ears.count("PassEnded") == 1
    });
    let (late, tries) = (hours.since(ends), going.ears.count("Trouble"));
    let (down, recovered) = (hours.since(began), going.ears.count("Recovered"));
    println!(
        "figure: an outage of 48 h: delivered {} s after its end, {tries} tries in {:.1} h, {recovered} recovery; {:.0} s",
        late.as_secs(),
        down.as_secs_f64() / 3_600.0,
        real.elapsed().as_secs_f64()
    );
    assert!(late <= LONGEST_WAIT, "seed {seed}: {late:?}");
    assert_eq!(recovered, 1);
    going.end();
    assert_eq!((world.wrong(), world.parts_again()), (Vec::new(), Vec::new()), "seed {seed}");
}

/// At least a share of all requests is refused, for a day; then all, for an hour; then none. Tells how long it took.
fn storm(share: f64, seed: u64) -> Duration {
    let world = Arc::new(World::new(1));
    let hours = Hours::at("2026-11-20T20:00:00Z");
    let (began, clock, server) = (hours.now(), hours.clone(), world.clone());
    for (index, code) in ["SlowDown", "InternalError", "TooManyRequests"].into_iter().enumerate() {
        // A third of all, of what the rules before let through.
        let chance = share / 3.0 / (1.0 - share / 3.0 * index as f64);
        world.double.script(Rule::new(Act::refuse(code)).chance(chance, seed + index as u64));
    }
    // What has a body may also come too slowly.
    let slow = Rule::new(Act::refuse("RequestTimeout")).on("UploadPart");
    world.double.script(slow.chance(share / 4.0, seed + 3));
    let phase = Mutex::new(0);
    let inside = Inside {
        hours: hours.clone(),
        wait: Arc::new(move |_, time| {
            clock.pass(time);
            let (passed, mut phase) = (clock.since(began), phase.lock().unwrap());
            if *phase == 0 && 24 * HOUR <= passed {
                server.double.clear_script();
                server.double.script(Rule::new(Act::refuse("SlowDown")));
                *phase = 1;
            }
            if *phase == 1 && 25 * HOUR <= passed {
                server.double.clear_script();
                *phase = 2;
            }
        }),
        window: None,
        concurrency: 3,
        patience: impatient(),
        retries: AT_ONCE,
    };
    let going = inside.start(&world);
    wait_until("it is delivered", || {
        assert!(!going.is_over(), "{share}, seed {seed}: it gave up\n{}", going.ears.last(5));
        going.ears.count("PassEnded") == 1
    });
    let took = hours.since(began);
    println!(
        "figure: {:.0} % of all requests refused: delivered after {:.0} s, {} tries",
        share * 100.0,
        took.as_secs_f64(),
        going.ears.count("Trouble")
    );
    assert!(took <= 25 * HOUR + LONGEST_WAIT, "{share}, seed {seed}: {took:?}");
    going.end();
    assert_eq!((world.wrong(), world.parts_again()), (Vec::new(), Vec::new()), "{share}, seed {seed}");
    took
}

#[test]
fn storms_of_any_strength_end_no_daemon() {
    let seed = setting("ARCHIVER_SEED", u64::from(std::process::id()));
    for share in [0.0, 0.1, 0.5, 0.9, 1.0] {
        storm(share, seed);
    }
}
