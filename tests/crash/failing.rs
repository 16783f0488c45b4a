//! A disk of staging that fails: for one call, or from some moment on.

use crate::{
    check::{Compare, assert_right, judge},
    mounts::{Disk, EXT4, SMALL, XFS, cannot_mount},
    points::{Interrupted, campaign, first, run_until_with},
    source::{self, setting, sh},
    world::{Running, Setup, World},
};

/// Ends of a run during which a disk failed: none at all, as it passed, or the one that says which disk it was.
const CODES: [Option<i32>; 4] = [Some(0), Some(4), Some(6), Some(7)];

/// What is wrong after a run in which the Nth call failed, and after the next one.
fn failed_at(point: u64, options: &[&str]) -> Interrupted {
    let world = World::new(Setup { encrypted: true, cap: 32 << 20, ..Setup::default() }, source::mixed);
    let (ran, seen, last) = run_until_with(&world, options, point);
    let mut wrong = Vec::new();
    if !CODES.contains(&ran.code) {
        wrong.push(format!("exit code {:?}\n{}", ran.code, ran.log));
    }
    let after = world.run();
    wrong.extend(judge(&world, &after, Compare::Equal));
    for ran in [ran, after] {
        if ran.log.contains("Piece rotten") {
            wrong.push(format!("Something was published that was not on the disk\n{}", ran.log));
        }
    }
    Interrupted { seen, last, wrong }
}

fn failures(what: &str, options: &[&str], step: u64) {
    if cfg!(not(target_arch = "x86_64")) {
        println!("The tracer makes no call fail on this machine: not tested");
        return;
    }
    let most = setting("ARCHIVER_FAIL_MOST", 2);
    let (count, violations) = campaign(what, (first(step), step, most), |point| failed_at(point, options));
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(count >= 1, "the program is traced no more");
}

/// EIO and EDQUOT: one of them, another in every run of the tests, or both.
fn errors() -> Vec<&'static str> {
    let errors = vec!["5", "122"];
    match setting("ARCHIVER_FAIL_ALL", 0) {
        0 => vec![errors[std::process::id() as usize % 2]],
        _ => errors,
    }
}

#[test]
fn any_call_may_fail_once() {
    for errno in errors() {
        failures(&format!("error {errno} once"), &["-w", "-e", errno], setting("ARCHIVER_FAIL_STEP", 491));
    }
}

/// Linux drops what it could not write: after a flush that failed, the next one says that all is well, and the file
/// holds what was on the disk before. Drafts were never flushed before.
const DROP: &str = "dd if=/dev/zero of=\"$FILE\" bs=$(stat -c %s \"$FILE\") count=1 conv=notrunc status=none";

#[test]
fn a_file_is_never_trusted_after_a_flush_that_failed() {
    let options = ["-m", "/staging/tmp/", "-c", DROP, "-e", "5"];
    failures("EIO of a draft, and what was written is gone", &options, setting("ARCHIVER_FAIL_STEP_FLUSH", 23));
}

/// Of the shelves one, another in every run of the tests, or all.
fn shelves() -> Vec<&'static str> {
    let shelves = vec!["tar", "xz", "gpg"];
    match setting("ARCHIVER_FAIL_ALL", 0) {
        0 => vec![shelves[std::process::id() as usize % 3]],
        _ => shelves,
    }
}

/// A world with the disk of its staging, and something on this shelf. Nobody kills the run.
fn with_disk(make: &str, shelf: &str, and_then: impl FnOnce(&World, &Disk, Running)) {
    let setup = Setup { encrypted: true, cap: 32 << 20, compress: "level = 9", ..Setup::default() };
    let world = World::new(setup, source::mixed);
    let disk = Disk::image(&world, make, &["staging"]);
    let mut running = world.start();
    assert!(running.until(|_| !world.staged(shelf).is_empty()), "{}", running.log());
    and_then(&world, &disk, running);
}

/// The disk refuses everything from then on, until the run has given up.
fn dies(make: &str, repair: impl Fn(&Disk)) {
    for shelf in shelves() {
        with_disk(make, shelf, |world, disk, running| {
            sh(&world.path(""), &disk.cut());
            let ran = running.wait();
            assert_eq!(ran.code, Some(6), "something in {shelf}\n{}", ran.log);
            let told = ran.log.lines().any(|line| line.contains("ERROR") && line.contains("trouble=\"staging\""));
            assert!(told, "{}", ran.log);
            repair(disk);
            assert_right(world, Compare::Equal, &format!("something in {shelf}"));
        });
    }
}

#[test]
fn a_disk_that_dies_ends_a_run_and_what_is_on_it_is_delivered_when_it_is_back() {
    if cannot_mount() {
        return;
    }
    let all = setting("ARCHIVER_FAIL_ALL", 0) == 1;
    let is_even = std::process::id().is_multiple_of(2);
    for (make, is_chosen) in [(EXT4, is_even), (XFS, !is_even)] {
        if all || is_chosen {
            dies(make, |disk| {
                disk.restart();
            });
        }
    }
}

#[test]
fn a_new_disk_in_the_place_of_a_dead_one_is_filled_again() {
    if !cannot_mount() {
        dies(SMALL, |disk| disk.renew(SMALL));
    }
}

#[test]
fn what_a_disk_cannot_read_any_more_is_made_again() {
    if cannot_mount() {
        return;
    }
    for shelf in shelves() {
        with_disk(SMALL, shelf, |world, disk, running| {
            // What is written from now on is there; all else is gone but for what is in memory.
            sh(&world.path(""), "truncate -s 1M image;");
            sh(&world.path(""), "sync -f disk || true; echo 3 > /proc/sys/vm/drop_caches");
            let ran = running.wait();
            println!("cut short with something in {shelf}: exit code {:?}", ran.code);
            assert!(matches!(ran.code, Some(0 | 6)), "{}", ran.log);
            disk.renew(SMALL);
            assert_right(world, Compare::Equal, shelf);
        });
    }
}

#[test]
fn a_disk_that_is_full_only_when_it_flushes_tears_nothing() {
    if cannot_mount() {
        return;
    }
    // The filesystem believes in 64 MiB, and the memory below it has fewer.
    let make = "mkdir thin; mount -t tmpfs -o size=4M none thin; ln -s thin/image image;
        truncate -s 64M thin/image; mkfs.ext4 -q -b 4096 -m 0 image";
    let world = World::new(Setup { cap: 32 << 20, compress: "level = 9", ..Setup::default() }, source::mixed);
    let disk = Disk::image(&world, make, &["staging"]);
    let ran = world.run();
    let unmount = || drop(sh(&world.path(""), "umount -l thin"));
    if ran.code != Some(6) {
        unmount();
        panic!("{ran:?}");
    }
    disk.unmount();
    sh(&world.path(""), "mount -o remount,size=64M thin; e2fsck -fy image > /dev/null || [ $? -le 2 ]");
    disk.mount();
    let after = world.run();
    let wrong = judge(&world, &after, Compare::Equal);
    unmount();
    assert_eq!(wrong, Vec::<String>::new(), "{}", ran.log);
    assert!(!after.log.contains("Piece rotten"), "{}\n{}", ran.log, after.log);
}

#[test]
fn the_end_of_a_pass_is_told_whatever_fails_behind_it() {
    let flushes = ["-m", "/state/manifests/"];
    let (_, points, _) = run_until_with(&World::new(Setup::default(), source::mixed), &flushes, 0);
    // The last two are of records of what the pass sent last, that are removed.
    for point in [points - 1, points] {
        let world = World::new(Setup::default(), source::mixed);
        let (ran, _, _) = run_until_with(&world, &[&flushes[..], &["-e", "5"]].concat(), point);
        assert!(ran.code == Some(0) && ran.log.contains("Pass ended"), "{}", ran.log);
        let told = ran.log.lines().filter(|line| line.contains("os error 5"));
        assert!(told.clone().all(|line| line.contains("trouble=\"state\"")), "{}", ran.log);
        assert_right(&world, Compare::Equal, "after it");
    }
}
