//! Promises about a stage that waits for the next one.

use super::{
    common::World,
    daemon::{Daemon, closed, has_ended},
    is_restored, status, wait_until,
};
use std::time::{Duration, Instant};

/// A tenth of the time after which a thread that gives no sign is taken to hang; an upload that waits gives one in 5 s.
const WATCHDOG: Duration = Duration::from_secs(1);
/// More than may wait between two stages, with those that each has in hand.
const PIECES: u64 = 26;

/// Pieces that this stage has ended, and no other.
fn count(world: &World, state: &str) -> u64 {
    status(world)["sources"][0]["pieces"][state].as_u64().unwrap_or(0)
}

#[test]
fn a_stage_that_cannot_tell_the_next_one_of_more_pieces_rests_and_does_not_hang() {
    let mut world = World::new();
    world.fill("for i in $(seq 10 35); do head -c 900000 /dev/urandom > f$i; done");
    (world.setup.method, world.setup.encrypt) = ("none".to_owned(), "method = \"none\"".to_owned());
    (world.setup.cap, world.setup.more) = ("96MiB".to_owned(), closed());
    let (daemon, heard) = Daemon::start_notifying(&world, WATCHDOG);
    daemon.hear("Waiting for the upload window");
    wait_until("all are packed", || {
        PIECES <= ["packed", "compressed", "sealed"].map(|state| count(&world, state)).iter().sum()
    });
    // One is in hand, 16 are told of; the next one is sealed, and nobody can be told.
    wait_until("more are sealed than can be told of", || 18 <= count(&world, "sealed"));
    let began = Instant::now();
    wait_until("some time has passed", || {
        assert!(heard.hungry_for() < WATCHDOG * 2, "The watchdog would bite: {}", daemon.said());
        WATCHDOG * 15 < began.elapsed()
    });
    let sealed = count(&world, "sealed");
    assert!((18..PIECES).contains(&sealed), "{sealed}: nobody had to wait");
    assert!(!daemon.said().contains("given no sign"), "{}", daemon.said());
    world.setup.more.clear();
    daemon.reload(&world);
    wait_until("the pass has ended", || has_ended(&world, 0));
    daemon.stop();
    is_restored(&world);
}
