//! A kill at every point at which a run changes a name or flushes to disk, counted over all of its threads.

use crate::{
    check::{Compare, assert_right, finish, judge},
    source,
    world::{KILLED, Ran, Setup, World},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Compiled once: kills a program at the Nth point, see there.
pub fn tracer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/crashpoint.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crashpoint.{}", std::process::id()));
        let built = Command::new("cc").args(["-O1", "-Wall", "-o"]).arg(&program).arg(code).status().unwrap();
        assert!(built.success());
        program
    })
}

/// Runs until the Nth point, or to the end. Tells how it ended, how many points it met, and the last one's name.
pub fn run_until(world: &World, point: u64) -> (Ran, u64, String) {
    let count = world.path("count");
    let before = [count.to_str().unwrap().to_owned(), point.to_string()];
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let ran = world.start_with(world.command(tracer().to_str().unwrap(), &before)).wait();
    let text = fs::read_to_string(&count).unwrap();
    let (seen, last) = text.trim().split_once(' ').unwrap();
    (ran, seen.parse().unwrap(), last.to_owned())
}

/// A number from the environment, so that a campaign can do more than a test.
pub fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Kills one run in each world, at `first`, `first + step` and so on, until a run ends before its point.
fn campaign(setup: &Setup, first: u64, step: u64) -> (u64, Vec<String>) {
    let (mut kills, mut violations) = (0, Vec::new());
    let mut point = first;
    loop {
        let world = World::new(setup.clone(), source::mixed);
        let (ran, seen, last) = run_until(&world, point);
        let wrong = match ran.code {
            Some(KILLED) => finish(&world, Compare::Equal),
            _ => judge(&world, &ran, Compare::Equal),
        };
        for line in &wrong {
            println!("point {point} ({last}): {line}");
        }
        if !wrong.is_empty() {
            violations.push(format!("point {point} ({last}): {}", wrong[0].lines().next().unwrap()));
        }
        if ran.code != Some(KILLED) {
            println!("{setup:?}: {kills} kills at every {step} of {seen} points, {} violations", violations.len());
            return (kills, violations);
        }
        kills += 1;
        point += step;
    }
}

#[test]
fn a_kill_at_any_point_loses_and_doubles_nothing() {
    let step = setting("ARCHIVER_POINTS_STEP", 37);
    let first = setting("ARCHIVER_POINTS_FIRST", 1 + u64::from(std::process::id()) % step);
    let (kills, violations) = campaign(&Setup::default(), first, step);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(kills >= 5, "{kills} kills: the program is traced no more");
}

#[test]
fn a_kill_at_any_point_with_encryption_loses_and_doubles_nothing() {
    let step = setting("ARCHIVER_POINTS_STEP_GPG", 211);
    let setup = Setup { encrypted: true, cap: 32 << 20, ..Setup::default() };
    let (kills, violations) = campaign(&setup, 1 + u64::from(std::process::id()) % step, step);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(kills >= 1, "{kills} kills: the program is traced no more");
}

#[test]
fn an_undisturbed_run_is_right() {
    let world = World::new(Setup::default(), source::mixed);
    assert_right(&world, Compare::Equal, "undisturbed");
}
