//! Promises about defects of the program itself: a panic while one piece is worked on, one source has its turn or one
//! pass ends costs another try of that, and nothing else. All else goes on in the same process.
//!
//! Each run is a process of its own in which the pipeline is put together with a monitor that panics where it is told
//! to; all else in it is what the program is made of, its log too.

#![expect(clippy::disallowed_methods, reason = "these tests play the operator, from outside")]

#[allow(dead_code)]
#[path = "crash/check.rs"]
mod check;
#[allow(dead_code)]
#[path = "crash/leaks.rs"]
mod leaks;
#[path = "panics/process.rs"]
mod process;
#[path = "crash/restored.rs"]
mod restored;
#[allow(dead_code)]
#[path = "crash/source.rs"]
mod source;
#[allow(dead_code)]
#[path = "crash/world.rs"]
mod world;

use check::{Compare, assert_right, judge};
use process::{Plan, SAID, run};
use source::Random;
use std::{env, fs, path::Path, thread};
use world::{Ran, Setup, World};

const STAGES: [&str; 5] = ["archiver", "compressor", "encrypter", "uploader", "ender"];

/// Encrypted where that is what panics: opening it again takes a second for each object.
fn world(thread: &str) -> World {
    World::new(Setup { encrypted: thread == "encrypter", cap: 32 << 20, ..Setup::default() }, source::mixed)
}

/// Lines of the log that tell a panic, all with what it said, escaped, and where it happened.
#[track_caller]
fn told(ran: &Ran, thread: &str) -> usize {
    let lines: Vec<&str> = ran.log.lines().filter(|line| line.contains("Panicked")).collect();
    for line in &lines {
        let is_told = line.contains("ERROR") && line.contains(&format!("thread={thread:?}"));
        assert!(is_told && line.contains("tests/panics/process.rs:") && line.contains(SAID), "{line}");
    }
    assert!(!ran.log.contains('\x1b') && !ran.log.contains("panicked at"), "{}", ran.log);
    lines.len()
}

/// State of each piece that `ls` tells, by source and seq.
fn states(world: &World, source: &str) -> Vec<(u64, String)> {
    let text = world.ask(&["ls", source, "--json"]).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.map(|row| (row["seq"].as_u64().unwrap(), row["state"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_panic_in_any_stage_costs_another_try_and_nothing_else() {
    let tried = |thread: &str| {
        // At the first sign of progress, and at later ones.
        for (skip, times) in [(0, 1), (3, 2)] {
            let world = world(thread);
            let ran = run(&world, &Plan { times, skip, ..Plan::of(&world, thread) });
            assert_eq!(told(&ran, thread), times as usize, "{thread}, {skip}\n{}", ran.log);
            assert_eq!(ran.log.matches("Pass ended").count(), 1, "{thread}, {skip}\n{}", ran.log);
            assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new(), "{thread}, {skip}");
        }
    };
    thread::scope(|scope| STAGES.iter().for_each(|stage| drop(scope.spawn(|| tried(stage)))));
}

#[test]
fn a_piece_on_which_a_stage_always_panics_keeps_no_other_and_is_there_for_the_next_run() {
    for thread in ["compressor", "encrypter", "uploader"] {
        let world = world(thread);
        let ran = run(&world, &Plan { seq: Some(3), times: u32::MAX, ..Plan::of(&world, thread) });
        assert_eq!(ran.code, Some(1), "{thread}\n{}", ran.log);
        assert_eq!(told(&ran, thread), 4, "{thread}\n{}", ran.log);
        assert_eq!(ran.log.matches("Cannot go on trouble=\"internal\"").count(), 1, "{thread}\n{}", ran.log);
        let states = states(&world, "data");
        let is_right = |(seq, state): &(u64, String)| (*seq == 3) != (state == "delivered");
        assert!(states.len() > 7 && states.iter().all(is_right), "{thread}: {states:?}");
        assert!(world.staged("tmp").is_empty(), "{thread}: {:?}", world.staged("tmp"));
        assert_right(&world, Compare::Equal, thread);
    }
}

#[test]
fn a_source_whose_turns_always_panic_keeps_no_other_source() {
    let world = world("archiver");
    fs::create_dir(world.path("other")).unwrap();
    fs::write(world.path("other/file"), Random::new(3).bytes(1_500_000)).unwrap();
    world.configure(&format!("[[source]]\nname = \"other\"\npath = {:?}", world.path("other")));
    let plan = Plan { source: Some("data".to_owned()), seq: Some(2), times: u32::MAX, ..Plan::of(&world, "archiver") };
    let ran = run(&world, &plan);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    assert_eq!(told(&ran, "archiver"), 4, "{}", ran.log);
    assert!(ran.log.contains("Pass ended source=\"other\"") && !ran.log.contains("Pass ended source=\"data\""));
    assert_eq!(states(&world, "data"), [(1, "delivered".to_owned())], "{}", ran.log);
    assert!(states(&world, "other").iter().all(|(_, state)| state == "delivered"), "{}", ran.log);
    assert!(world.staged("tmp").is_empty(), "{:?}", world.staged("tmp"));
    assert_eq!(world.run().code, Some(0));
    assert!(states(&world, "data").iter().all(|(_, state)| state == "delivered"));
}

#[test]
fn a_pass_whose_end_always_panics_is_there_for_the_next_run() {
    let world = world("ender");
    let ran = run(&world, &Plan { times: u32::MAX, ..Plan::of(&world, "ender") });
    assert_eq!((ran.code, told(&ran, "ender")), (Some(1), 4), "{}", ran.log);
    assert!(states(&world, "data").iter().all(|(_, state)| state == "delivered"), "{}", ran.log);
    assert_right(&world, Compare::Equal, "ender");
}

/// A piece that fills its draft with marks goes on at the last one.
#[test]
fn a_long_draft_goes_on_at_its_mark_after_a_panic() {
    let one = |root: &Path| fs::write(root.join("one"), Random::new(5).bytes(14 << 20)).unwrap();
    for thread in ["archiver", "compressor"] {
        let setup = Setup { cap: 64 << 20, max_size: "15MiB", ..Setup::default() };
        let world = World::new(setup, one);
        let ran = run(&world, &Plan { skip: 9, ..Plan::of(&world, thread) });
        assert_eq!(told(&ran, thread), 1, "{thread}\n{}", ran.log);
        let stage = if thread == "archiver" { "stage=\"pack\"" } else { "stage=\"compress\"" };
        let steps: Vec<&str> =
            ran.log.lines().filter(|line| line.contains("started") && line.contains(stage)).collect();
        let resumed = |line: &str| line.rsplit("resumed_at=").next().unwrap().parse::<u64>().unwrap();
        assert!(steps.len() == 2 && resumed(steps[0]) == 0 && resumed(steps[1]) > 0, "{steps:#?}");
        assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new(), "{thread}");
    }
}

#[test]
fn a_daemon_tries_for_as_long_as_it_takes() {
    let world = world("uploader");
    // More often than a run that somebody waits for would.
    let ran = run(&world, &Plan { is_daemon: true, seq: Some(3), times: 5, ..Plan::of(&world, "uploader") });
    assert_eq!(told(&ran, "uploader"), 5, "{}", ran.log);
    assert_eq!(ran.log.matches("Recovered").count(), 1, "{}", ran.log);
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
}

/// A run, in the process that is started for it.
#[test]
fn one_run() {
    if let Ok(plan) = env::var(process::PLAN) {
        process::pipeline(&plan);
    }
}
