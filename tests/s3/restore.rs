//! What is in an archive class comes back: asked for, waited for, and asked for again when it has frozen meanwhile.

use crate::{
    tools::{BUCKET, MIB, Random, setting, sh, wait_until},
    world::World,
};
use archiver_s3_double::{Act, Rule, Thaw};
use serde_json::Value;
use std::{fs, time::Duration};

const HOUR: u64 = 3_600;

/// Four pieces; a thaw takes so many seconds by the clock of the server.
fn archived(thaw: u64) -> World {
    archived_in(4, thaw)
}

fn archived_in(pieces: u64, thaw: u64) -> World {
    let mut world = World::new(0);
    world.max_size = MIB;
    for n in 0..pieces {
        fs::write(world.path(&format!("source/{n}")), Random::new(n).bytes(700_000)).unwrap();
    }
    let ran = world.start(&["run", "--once"]).wait_for(Duration::from_secs(900));
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!(world.pieces().len() as u64, pieces);
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

fn run(world: &World, args: &[String]) -> crate::world::Ran {
    world.start(&args.iter().map(String::as_str).collect::<Vec<_>>()).wait()
}

/// The restores that the catalog knows.
fn jobs(world: &World) -> Vec<Value> {
    world.json_lines(&["restore", "--list", "--json"])
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
    let world = archived_in(setting("ARCHIVER_RESTORE_PIECES", 20), 0);
    let args = restore(&world, &["2"]);
    let ran = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>()).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!((world.double.requests("RestoreObject"), fetches(&world)), (1, 1));
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

#[test]
fn no_more_is_thawed_than_the_line_can_fetch_before_it_freezes_again() {
    let world = archived(24 * HOUR);
    let mut args = restore(&world, &["/"]);
    // In half a day one piece, and not two.
    args.extend(["--days", "1", "--link", "20B/s"].map(str::to_owned));
    let run = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    for count in 1..=4 {
        wait_for_thaws(&world, count);
        assert_eq!(world.double.requests("RestoreObject"), count);
        world.double.clock().advance(Duration::from_secs(25 * HOUR));
    }
    assert_eq!(run.wait().code, Some(0));
    assert_eq!(world.double.requests("RestoreObject"), 4);
    is_back(&world);
}

#[test]
fn a_thaw_under_way_is_made_faster() {
    let world = archived(0);
    world.double.set_thaw(Thaw { standard: Duration::from_secs(12 * HOUR), bulk: Duration::from_secs(48 * HOUR) });
    let args = restore(&world, &["/"]);
    let mut slow = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for_thaws(&world, 4);
    slow.kill();
    let job = jobs(&world)[0]["job"].as_str().unwrap().to_owned();
    let fast = world.start(&["restore", "--resume", &job, "--tier", "standard", "--yes"]);
    wait_for_thaws(&world, 8);
    world.double.clock().advance(Duration::from_secs(13 * HOUR));
    assert_eq!(fast.wait().code, Some(0));
    is_back(&world);
    assert_eq!(jobs(&world)[0]["state"], "complete");
}

#[test]
fn a_restore_is_in_the_catalog_until_it_is_done() {
    let world = archived(48 * HOUR);
    let args = restore(&world, &["/"]);
    let mut first = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for_thaws(&world, 4);
    let listed = jobs(&world);
    assert_eq!((listed.len(), &listed[0]["state"], &listed[0]["pieces"]), (1, &"open".into(), &4.into()));
    assert!(listed[0]["phase"].as_str().unwrap().starts_with("thawing "), "{listed:?}");
    first.kill();
    // Without its id: there is only one.
    let second = world.start(&["restore", "--resume"]);
    world.double.clock().advance(Duration::from_secs(49 * HOUR));
    assert_eq!(second.wait().code, Some(0));
    is_back(&world);
    let done = &jobs(&world)[0];
    assert_eq!((&done["state"], &done["pieces_done"]), (&"complete".into(), &4.into()));
    assert_eq!(world.double.requests("RestoreObject"), 4);
    // There is nothing to go on with now.
    let ran = world.start(&["restore", "--resume"]).wait();
    assert!(ran.code == Some(2) && ran.log.contains("--list"), "{}", ran.log);
}

#[test]
fn a_restore_that_is_cancelled_ends_and_is_not_resumed() {
    let world = archived(48 * HOUR);
    let args = restore(&world, &["/"]);
    let waiting = world.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for_thaws(&world, 4);
    let job = jobs(&world)[0]["job"].as_str().unwrap().to_owned();
    assert_eq!(run(&world, &["restore", "--cancel", &job].map(str::to_owned)).code, Some(0));
    assert_eq!(waiting.wait().code, Some(75));
    assert_eq!(jobs(&world)[0]["state"], "cancelled");
    let again = run(&world, &["restore", "--resume", &job].map(str::to_owned));
    assert!(again.code == Some(2) && again.log.contains("cancelled"), "{}", again.log);
}

#[test]
fn one_object_that_cannot_be_had_costs_its_own_members() {
    let world = archived(0);
    let key = format!("lab/{}", world.pieces()[1]["key"].as_str().unwrap());
    assert!(world.double.lose_object(BUCKET, &key));
    let ran = run(&world, &restore(&world, &["/"]));
    assert_eq!(ran.code, Some(3), "{}", ran.log);
    assert!(ran.log.contains(&key["lab/".len()..]), "{}", ran.log);
    sh(&world.path(""), "for n in 0 2 3; do cmp source/$n back/$n; done; test ! -e back/1");
}

#[test]
fn one_object_that_is_refused_costs_its_own_members() {
    for operation in ["RestoreObject", "GetObject", "HeadObject"] {
        let world = archived(0);
        let key = world.pieces()[2]["key"].as_str().unwrap().to_owned();
        world.double.script(Rule::new(Act::refuse("AccessDenied")).on(operation).key(&key));
        let ran = run(&world, &restore(&world, &["/"]));
        assert_eq!(ran.code, Some(3), "{operation}: {}", ran.log);
        assert!(ran.log.contains(&key), "{operation}: {}", ran.log);
        sh(&world.path(""), "for n in 0 1 3; do cmp source/$n back/$n; done; test ! -e back/2");
    }
    // All of them: then it is no matter of one.
    let world = archived(0);
    world.double.script(Rule::new(Act::refuse("AccessDenied")).on("RestoreObject"));
    let ran = run(&world, &restore(&world, &["/"]));
    assert_eq!(ran.code, Some(4), "{}", ran.log);
}

#[test]
fn whatever_kills_it_and_whenever_nothing_is_fetched_twice_but_what_was_under_way() {
    let kills = setting("ARCHIVER_RESTORE_KILLS", 20);
    let mut world = World::new(0);
    world.max_size = 256 * MIB;
    // A piece of 31 ranges, and a small one.
    fs::create_dir(world.path("source/d")).unwrap();
    for (n, len) in [(1, 247 * MIB), (2, 20 * MIB)] {
        fs::write(world.path(&format!("source/d/{n}")), Random::new(n).bytes(len)).unwrap();
    }
    assert_eq!(world.run_once().code, Some(0));
    world.double.set_thaw(Thaw { standard: Duration::ZERO, bulk: Duration::ZERO });
    let ranges: u64 = world.pieces().iter().map(|piece| piece["sealed_size"].as_u64().unwrap().div_ceil(RANGE)).sum();
    let args = restore(&world, &["/"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut random = Random::new(setting("ARCHIVER_SEED", 1));
    let mut killed = 0;
    while killed < kills {
        sh(&world.path(""), "rm -rf back");
        let (before, mut in_this) = (fetches(&world), 0);
        while in_this < 5 {
            let mut run = world.start(&args);
            std::thread::sleep(Duration::from_micros(random.below(1_500_000)));
            if !run.is_running() {
                break;
            }
            run.kill();
            in_this += 1;
        }
        killed += in_this;
        let ran = world.start(&args).wait();
        assert_eq!(ran.code, Some(0), "{}", ran.log);
        is_back(&world);
        let asked = fetches(&world) - before;
        assert!(asked <= ranges + RANGES * in_this, "{asked} ranges of {ranges} after {in_this} kills");
    }
    println!("{killed} kills, nothing fetched twice but what was under way");
}

/// Bytes that are asked for at once, and how often that is under way.
const RANGE: u64 = 8 * MIB;
const RANGES: u64 = 8;

/// Ranges of pieces that were asked for so far.
fn fetches(world: &World) -> u64 {
    let entries = world.double.log_of("GetObject");
    entries.iter().filter(|entry| entry.key.as_ref().is_some_and(|key| key.contains(".tar"))).count() as u64
}
