//! A kill at every point at which a run changes a name or flushes to disk, counted over all of its threads.

use crate::{
    check::{Compare, assert_right, finish, judge},
    source::{self, setting},
    world::{KILLED, Ran, Setup, World},
};
use std::{
    fs,
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
    run_until_with(world, &[], point)
}

/// The same, with options of the tracer.
pub fn run_until_with(world: &World, options: &[&str], point: u64) -> (Ran, u64, String) {
    let count = world.path("count");
    let point = point.to_string();
    let before = [options, &[count.to_str().unwrap(), &point]].concat();
    let ran = world.start_with(world.command(tracer().to_str().unwrap(), &before)).wait();
    let text = fs::read_to_string(&count).unwrap();
    let (seen, last) = text.trim().split_once(' ').unwrap();
    (ran, seen.parse().unwrap(), last.to_owned())
}

/// A run that was to be interrupted at a point, and what was wrong after it.
pub struct Interrupted {
    pub seen: u64,
    pub last: String,
    pub wrong: Vec<String>,
}

/// Interrupts one run at `first`, the next at `first + step` and so on, `most` times or until a run ends before its
/// point. Gives how often, and the violations.
pub fn campaign(
    what: &str,
    (first, step, most): (u64, u64, u64),
    mut interrupt: impl FnMut(u64) -> Interrupted,
) -> (u64, Vec<String>) {
    let (mut count, mut seen, mut violations) = (0, 0, Vec::new());
    for point in (first..).step_by(usize::try_from(step).unwrap()) {
        let done = interrupt(point);
        for line in &done.wrong {
            println!("{what}, point {point} ({}): {line}", done.last);
        }
        if let Some(line) = done.wrong.first() {
            violations.push(format!("{what}, point {point} ({}): {}", done.last, line.lines().next().unwrap()));
        }
        seen = seen.max(done.seen);
        if done.seen < point {
            break;
        }
        count += 1;
        if count == most {
            break;
        }
    }
    println!("{what}: {count} interruptions at every {step} of {seen} points, {} violations", violations.len());
    (count, violations)
}

/// Kills at points, as the tracer counts them with these options.
fn kills(what: &str, setup: &Setup, options: &[&str], range: (u64, u64, u64)) -> u64 {
    let (count, violations) = campaign(what, range, |point| {
        let world = World::new(setup.clone(), source::mixed);
        let (ran, seen, last) = run_until_with(&world, options, point);
        let wrong = match ran.code {
            Some(KILLED) => finish(&world, Compare::Equal),
            _ => judge(&world, &ran, Compare::Equal),
        };
        Interrupted { seen, last, wrong }
    });
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    count
}

/// Somewhere in the first step, elsewhere in every run of the tests.
pub fn first(step: u64) -> u64 {
    setting("ARCHIVER_POINTS_FIRST", 1 + u64::from(std::process::id()) % step)
}

#[test]
fn a_kill_at_any_point_loses_and_doubles_nothing() {
    let step = setting("ARCHIVER_POINTS_STEP", 37);
    let kills = kills("killed", &Setup::default(), &[], (first(step), step, u64::MAX));
    assert!(kills >= 5, "{kills} kills: the program is traced no more");
}

#[test]
fn a_kill_at_any_point_with_encryption_loses_and_doubles_nothing() {
    let step = setting("ARCHIVER_POINTS_STEP_GPG", 211);
    let setup = Setup { encrypted: true, cap: 32 << 20, ..Setup::default() };
    let kills = kills("killed, encrypted", &setup, &[], (first(step), step, u64::MAX));
    assert!(kills >= 1, "{kills} kills: the program is traced no more");
}

#[test]
fn a_kill_at_any_write_loses_and_doubles_nothing() {
    let step = setting("ARCHIVER_POINTS_STEP_WRITE", 397);
    let most = setting("ARCHIVER_POINTS_MOST_WRITE", 3);
    let kills = kills("killed, writes too", &Setup::default(), &["-w"], (first(step), step, most));
    assert!(kills >= 1, "{kills} kills: the program is traced no more");
}

#[test]
fn an_undisturbed_run_is_right() {
    let world = World::new(Setup::default(), source::mixed);
    assert_right(&world, Compare::Equal, "undisturbed");
}
