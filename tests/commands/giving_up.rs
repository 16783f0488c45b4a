//! Promises about how long a run that somebody waits for tries again.

use super::{archived, common::World, fill, is_restored, status, wait_until};
use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStderr},
    time::{Duration, Instant},
};

const TIME: Duration = Duration::from_secs(3);
/// What the work itself, and a machine with other things to do, may take beyond that.
const SLACK: Duration = Duration::from_secs(20);

const PATIENT: [&str; 4] = ["run", "--once", "--give-up-after", "3s"];

fn takes_its_time(began: Instant, time: Duration) {
    let took = began.elapsed();
    assert!(time <= took && took < time + SLACK, "{took:?}");
}

/// Every piece is still there, and goes out once it can.
fn the_queue_was_kept(world: &World) {
    world.run_once().expect(0);
    is_restored(world);
    assert_eq!(status(world)["sources"][0]["pieces"]["retired"], 0, "Nothing was made twice");
}

fn move_dir(world: &World, from: &Path, to: &Path) {
    world.bash("mv -T -- \"$1\" \"$2\"", &[from, to]).expect(0);
}

/// Waits for the first words about a failure. Who writes must not lose its reader.
fn hear_of_trouble(run: &mut Child) -> Lines<BufReader<ChildStderr>> {
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines();
    let told = said.by_ref().map_while(Result::ok).find(|line| line.contains("retry_in"));
    assert!(told.is_some(), "It ended without a word about trying again");
    said
}

#[test]
fn a_time_to_give_up_is_for_runs_that_end() {
    let world = World::new();
    for args in [
        &["run", "--give-up-after", "3s"][..],
        &["run", "--once", "--give-up-after", "soon"],
        &["run", "--once", "--give-up-after"],
    ] {
        let ran = world.archiver(args).expect(2);
        assert!(ran.stderr.contains("--once") || ran.stderr.contains("--give-up-after"), "{}", ran.stderr);
    }
    assert!(fs::read_dir(&world.state).unwrap().next().is_none(), "Nothing is made");
}

#[test]
fn a_vault_that_is_not_there_is_looked_for_until_the_time_is_up() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    fs::remove_dir_all(&world.vault).unwrap();
    let began = Instant::now();
    let again = ["--pass-now", "data"];
    let ran = world.archiver(&[&PATIENT[..], &again].concat()).expect(4);
    takes_its_time(began, TIME);
    assert!(ran.stderr.contains("retry_in") && ran.stderr.contains("is not there"), "{}", ran.stderr);
    assert!(!world.vault.exists(), "A vault that was used is never made anew");
    let ran = world.archiver(&[&["run", "--once"][..], &again].concat()).expect(4);
    assert!(!ran.stderr.contains("retry_in"), "Without a time it gives up at once: {}", ran.stderr);
}

#[test]
fn a_vault_that_comes_back_in_time_is_used() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let away = world.root.path().join("away");
    move_dir(&world, &world.vault, &away);
    let mut run = world.spawn(&["run", "--once", "--pass-now", "data", "--give-up-after", "10m"]);
    let _reader = hear_of_trouble(&mut run);
    move_dir(&world, &away, &world.vault);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    is_restored(&world);
}

#[test]
fn a_vault_that_goes_away_in_the_middle_is_waited_for_until_the_time_is_up() {
    let mut world = World::new();
    fill(&world);
    world.setup.more = "[upload]\nbandwidth = \"100kB/s\"".to_owned();
    // Without a time it would end within seven seconds.
    let mut run = world.spawn(&["run", "--once", "--give-up-after", "9s"]);
    wait_until("an upload is under way", || status(&world)["sources"][0]["pieces"]["sealed"].as_u64() > Some(0));
    let away = world.root.path().join("away");
    let began = Instant::now();
    move_dir(&world, &world.vault, &away);
    assert_eq!(run.wait().unwrap().code(), Some(4));
    takes_its_time(began, Duration::from_secs(9));
    move_dir(&world, &away, &world.vault);
    world.setup.more = String::new();
    the_queue_was_kept(&world);
}

/// A trouble that does not pass by itself ends a run at once; whoever gives it time may be at work on it.
#[test]
fn what_needs_an_operator_is_tried_again_as_well() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let mark = world.vault.join("archiver.json");
    let good = fs::read(&mark).unwrap();
    fs::write(&mark, "{\"format\":99}\n").unwrap();
    let ran = world.archiver(&["run", "--once", "--pass-now", "data"]).expect(4);
    assert!(!ran.stderr.contains("retry_in"), "{}", ran.stderr);
    let before = archived(&world);
    let began = Instant::now();
    let ran = world.archiver(&PATIENT).expect(4);
    takes_its_time(began, TIME);
    assert!(ran.stderr.contains("retry_in=3.0"), "{}", ran.stderr);
    assert_eq!(archived(&world), before);
    fs::write(&mark, good).unwrap();
    the_queue_was_kept(&world);
}
