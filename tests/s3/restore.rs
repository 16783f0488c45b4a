//! What is in an archive class comes back: asked for, waited for, and asked for again when it has frozen meanwhile.

use crate::{
    tools::{BUCKET, MIB, Random, sh, wait_until},
    world::World,
};
use archiver_s3_double::Thaw;
use std::{fs, time::Duration};

const HOUR: u64 = 3_600;

/// Four pieces; a thaw takes so many seconds by the clock of the server.
fn archived(thaw: u64) -> World {
    let mut world = World::new(0);
    world.max_size = MIB;
    for n in 0..4 {
        fs::write(world.path(&format!("source/{n}")), Random::new(n).bytes(700_000)).unwrap();
    }
    assert_eq!(world.run_once().code, Some(0));
    assert_eq!(world.pieces().len(), 4);
    world.double.set_thaw(Thaw { standard: Duration::from_secs(thaw), bulk: Duration::from_secs(thaw) });
    world
}

fn restore(world: &World, paths: &[&str]) -> Vec<String> {
    let to = world.path("back").to_str().unwrap().to_owned();
    [&["restore", "--yes", "--to", &to], paths].concat().into_iter().map(str::to_owned).collect()
}

/// So many thaws were asked for, and answered: then it is asked how far they are.
pub fn wait_for_thaws(world: &World, count: u64) {
    wait_until("thaws are asked for", || world.double.requests("RestoreObject") == count);
    let heads = world.double.requests("HeadObject");
    wait_until("it is asked how far they are", || world.double.requests("HeadObject") > heads);
}

fn is_back(world: &World) {
    sh(&world.path(""), "diff -r source back");
}

#[test]
fn what_is_frozen_is_thawed_and_waited_for() {
    let world = archived(3);
    let args = restore(&world, &["/"]);
    let ran = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>()).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    is_back(&world);
    // All at once, each once.
    assert_eq!(world.double.requests("RestoreObject"), 4);
}

#[test]
fn one_file_thaws_one_piece() {
    let world = archived(0);
    let args = restore(&world, &["2"]);
    let ran = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>()).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!(world.double.requests("RestoreObject"), 1);
    sh(&world.path(""), "cmp source/2 back/2; test $(ls back | wc -l) = 1");
}

#[test]
fn what_has_frozen_again_meanwhile_is_thawed_again() {
    let world = archived(48 * HOUR);
    let args = restore(&world, &["/"]);
    let run = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for_thaws(&world, 4);
    // One of them has frozen again when its turn comes.
    let keys: Vec<String> =
        world.pieces().iter().map(|piece| format!("lab/{}", piece["key"].as_str().unwrap())).collect();
    assert!(world.double.freeze(BUCKET, &keys[1]));
    world.double.clock().advance(Duration::from_secs(49 * HOUR));
    wait_for_thaws(&world, 5);
    world.double.clock().advance(Duration::from_secs(49 * HOUR));
    let ran = run.wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    is_back(&world);
}

#[test]
fn a_restore_that_is_killed_while_it_waits_asks_for_nothing_twice() {
    let world = archived(48 * HOUR);
    let args = restore(&world, &["/"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for _ in 0..3 {
        let mut run = world.start(&args);
        wait_for_thaws(&world, 4);
        run.kill();
    }
    world.double.clock().advance(Duration::from_secs(49 * HOUR));
    assert_eq!(world.start(&args).wait().code, Some(0));
    assert_eq!(world.double.requests("RestoreObject"), 4);
    is_back(&world);
}
