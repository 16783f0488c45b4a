//! The power of the disk that holds staging and state fails at a point of a run: what was not flushed is gone.
//!
//! The filesystem is shut down without writing its log while every thread stands still, so the next mount finds what a
//! machine finds that starts again. A cache in the disk itself is not played: a barrier that is missing in the
//! filesystem would not be found.

use crate::{
    check::{Compare, judge},
    mounts::{Disk, EXT4, XFS, cannot_mount},
    points::{Interrupted, campaign, first, run_until_with},
    source::{self, setting, sh},
    world::{KILLED, Setup, World},
};
use std::{
    io::Read,
    process::{Command, Stdio},
};

/// The points of a run, about.
const POINTS: u64 = 900;

/// What was published before the cut is whole: nothing had to be made again.
fn cut_at(point: u64, make: &str, dirs: &'static [&'static str]) -> Interrupted {
    let world = World::new(Setup::default(), source::mixed);
    let disk = Disk::image(&world, make, dirs);
    sh(&world.path(""), "sync -f disk");
    let (ran, seen, last) = run_until_with(&world, &["-c", &disk.cut()], point);
    let mut wrong = Vec::new();
    if ran.code != Some(KILLED) {
        wrong = judge(&world, &ran, Compare::Equal);
    } else {
        disk.restart();
        let after = world.run();
        if after.log.contains("Piece rotten") {
            wrong.push(format!("Something published was torn or gone\n{}", after.log));
        }
        wrong.extend(judge(&world, &after, Compare::Equal));
    }
    Interrupted { seen, last, wrong }
}

fn cuts(what: &str, make: &str, dirs: &'static [&'static str]) {
    if cannot_mount() {
        return;
    }
    let most = setting("ARCHIVER_POWER_CUTS", 2);
    let step = setting("ARCHIVER_POWER_STEP", POINTS / most);
    let (count, violations) = campaign(what, (first(step), step, most), |point| cut_at(point, make, dirs));
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(count >= 1, "the program is traced no more");
}

const ALL: &[&str] = &["staging", "state", "vault"];

#[test]
fn a_power_cut_at_any_point_tears_nothing_on_ext4() {
    cuts("power cut, ext4", EXT4, &["staging", "state"]);
}

#[test]
fn a_power_cut_at_any_point_tears_nothing_on_xfs() {
    cuts("power cut, XFS", XFS, &["staging", "state"]);
}

#[test]
fn a_power_cut_at_any_point_tears_nothing_of_the_vault_on_ext4() {
    cuts("power cut, vault too, ext4", EXT4, ALL);
}

#[test]
fn a_power_cut_at_any_point_tears_nothing_of_the_vault_on_xfs() {
    cuts("power cut, vault too, XFS", XFS, ALL);
}

#[test]
fn what_was_not_flushed_is_gone_after_a_cut() {
    if cannot_mount() {
        return;
    }
    for make in [EXT4, XFS] {
        let world = World::new(Setup::default(), |_| {});
        let disk = Disk::image(&world, make, &["staging"]);
        let write = "cd staging; printf flushed > a; sync a .; printf new > b.tmp; mv b.tmp b";
        sh(&world.path(""), write);
        // Someone's namespace made meanwhile has the disk, too.
        let script = ["--mount", "bash", "-c", "echo; exec sleep infinity"];
        let mut other = Command::new("unshare").args(script).stdout(Stdio::piped()).spawn().unwrap();
        other.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        sh(&world.path(""), &disk.cut());
        disk.restart();
        other.kill().unwrap();
        other.wait().unwrap();
        let found = sh(&world.path("staging"), "cat a; test ! -e b || cat b");
        assert_eq!(found, "flushed", "{make}");
    }
}
