//! Kills and stops at random moments, again and again, until a run comes to its end all the same.

use crate::{
    check::{Compare, assert_right, finish, judge},
    source::{self, Random, setting},
    world::{Running, Setup, World},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// So many interruptions of one run at most; then it is left alone.
const IN_A_ROW_MAX: u32 = 30;
/// What systemd would wait for a stop, by the contract.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// How long a run takes here and now.
fn duration(setup: &Setup) -> Duration {
    let world = World::new(setup.clone(), source::mixed);
    let began = Instant::now();
    assert_right(&world, Compare::Equal, "undisturbed");
    began.elapsed()
}

/// Interrupts runs `count` times at random moments, in as many worlds as that takes. Gives the violations.
fn interrupt(setup: &Setup, count: u64, seed: u64, mut how: impl FnMut(&mut Running) -> Option<String>) -> Vec<String> {
    let micros = u64::try_from(duration(setup).as_micros()).unwrap();
    let (mut random, mut violations) = (Random::new(seed), Vec::new());
    let (mut interrupted, mut worlds) = (0, 0);
    while interrupted < count {
        worlds += 1;
        let world = World::new(setup.clone(), source::mixed);
        let mut wrong = Vec::new();
        let mut left = IN_A_ROW_MAX;
        let ended = loop {
            let mut running = world.start();
            thread::sleep(Duration::from_micros(random.below(micros)));
            if !running.is_running() {
                break Some(running.wait());
            }
            wrong.extend(how(&mut running));
            (interrupted, left) = (interrupted + 1, left - 1);
            if left == 0 {
                break None;
            }
        };
        // A run that was stopped at its very end is complete, and the next one has nothing to do.
        wrong.extend(match ended {
            Some(ran) => judge(&world, &ran, Compare::Equal),
            None => finish(&world, Compare::Equal),
        });
        for line in &wrong {
            println!("seed {seed}, world {worlds}: {line}");
            violations.push(format!("seed {seed}, world {worlds}: {}", line.lines().next().unwrap()));
        }
    }
    println!("{setup:?}: {interrupted} interruptions of {worlds} runs, {} violations", violations.len());
    violations
}

#[test]
fn kills_at_random_moments_lose_and_double_nothing() {
    let (count, seed) = (setting("ARCHIVER_KILLS", 12), setting("ARCHIVER_SEED", u64::from(std::process::id())));
    for setup in [Setup::default(), Setup { cap: 64 << 20, encrypted: true, ..Setup::default() }] {
        let violations = interrupt(&setup, count / 2, seed, |running| {
            running.kill();
            None
        });
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}

#[test]
fn a_stop_at_any_moment_ends_soon_and_the_rest_follows() {
    let (count, seed) = (setting("ARCHIVER_STOPS", 10), setting("ARCHIVER_SEED", u64::from(std::process::id())));
    let mut longest = Duration::ZERO;
    for setup in [Setup::default(), Setup { compress: "level = 9", encrypted: true, ..Setup::default() }] {
        let violations = interrupt(&setup, count / 2, seed, |running| {
            let began = Instant::now();
            running.terminate();
            let code = running.code();
            longest = longest.max(began.elapsed());
            match code {
                // Complete at that very moment, or not.
                Some(0 | 143) if began.elapsed() < STOPS_WITHIN => None,
                code => Some(format!("stopped with {code:?} after {:?}\n{}", began.elapsed(), running.log())),
            }
        });
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
    println!("the longest stop took {longest:?}");
}
