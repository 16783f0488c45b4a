//! Limits of the system that are too low for a run: a clear end or none, and nothing lost.

use crate::{
    check::{Compare, assert_right},
    source::{self, setting, sh},
    world::{Ran, Setup, World, binary},
};
use std::process::Command;

fn world() -> World {
    World::new(Setup { encrypted: true, cap: 32 << 20, ..Setup::default() }, source::mixed)
}

/// What a run within a limit may say when it ends; the next one, without, completes.
fn ends_clearly(world: &World, ran: &Ran, limit: &str, said: &[&str]) {
    println!("{limit}: exit code {:?}", ran.code);
    let is_told = || said.iter().any(|said| ran.log.contains(said));
    assert!(ran.code == Some(0) || ran.code.is_some() && is_told(), "{limit}: {:?}\n{}", ran.code, ran.log);
    assert_right(world, Compare::Equal, limit);
}

fn step() -> usize {
    usize::try_from(setting("ARCHIVER_LIMITS_STEP", 20)).unwrap()
}

#[test]
fn a_run_with_few_open_files_ends_clearly_or_well() {
    for value in (8..40).step_by(step()) {
        let (world, limit) = (world(), format!("--nofile={value}"));
        let ran = world.start_with(world.command("prlimit", &[&limit])).wait();
        assert!(ran.code.is_some_and(|code| code < 128), "{limit}: {:?}\n{}", ran.code, ran.log);
        ends_clearly(&world, &ran, &limit, &["Too many open files", "os error 24", "unable to open database file"]);
    }
}

/// A user of whom nothing else runs, since the limit counts all threads of a user, and binds anybody but root.
const NOBODY_ELSE: &str = "61917";

#[test]
fn a_run_that_gets_too_few_threads_ends_clearly_or_well() {
    let user = [&format!("--reuid={NOBODY_ELSE}"), &format!("--regid={NOBODY_ELSE}"), "--clear-groups"];
    let can = Command::new("setpriv").args(user).args([binary(), "--version"]).output();
    if !can.is_ok_and(|out| out.status.success()) {
        println!("Only root can become another user, who must be able to run the program: not tested");
        return;
    }
    for value in (1..32).step_by(2 * step().div_ceil(5)) {
        let (world, limit) = (world(), format!("--nproc={value}"));
        sh(&world.path(""), &format!("chown -R {NOBODY_ELSE}:{NOBODY_ELSE} ."));
        let ran = world.start_with(world.command("setpriv", &[&user[..], &["prlimit", &limit]].concat())).wait();
        assert!(ran.code.is_some_and(|code| code < 128), "{limit}: {:?}\n{}", ran.code, ran.log);
        // Not the source, which is archived as it was.
        sh(&world.path(""), "for dir in *; do [[ $dir == source ]] || chown -R 0:0 \"$dir\"; done; chown 0:0 .");
        ends_clearly(&world, &ran, &limit, &["Cannot start", "start a thread", "Resource temporarily unavailable"]);
    }
}

/// Where memory is refused the program ends at once, as by a kill, and says so.
#[test]
fn a_run_with_little_memory_ends_clearly_or_well() {
    for value in (64..1100).step_by(15 * step()) {
        let (world, limit) = (world(), format!("--as={}", value << 20));
        let can = Command::new("prlimit").args([&limit, binary(), "--version"]).output().unwrap();
        if !can.status.success() {
            println!("{limit}: the system cannot even load the program");
            continue;
        }
        let ran = world.start_with(world.command("prlimit", &[&limit])).wait();
        let said = [
            "memory allocation of",
            "Cannot allocate memory",
            "out of memory",
            "failed to map segment",
            "Cannot start",
            "start a thread",
        ];
        ends_clearly(&world, &ran, &limit, &said);
    }
}
