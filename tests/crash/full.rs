//! Disks of staging and state that are full, out of inodes, or read-only for a while.

use crate::{
    catalog::stop_at,
    check::{Compare, judge},
    disk::highest,
    mounts::{Disk, SMALL, TINY_BLOCKS, cannot_mount},
    source::{self, setting, sh},
    world::{Ran, Setup, World, binary},
};

/// Room for all pieces at once.
fn roomy() -> World {
    World::new(Setup { cap: ROOM, ..Setup::default() }, source::mixed)
}

const ROOM: u64 = 64 << 20;

/// Tenths of the need that are tried: one, another in every run of the tests, or all.
fn tenths() -> Vec<u64> {
    match setting("ARCHIVER_FULL_ALL", 0) {
        0 => vec![u64::from(std::process::id()) % 10],
        _ => (0..10).collect(),
    }
}

/// A disk in memory and one on a loop device: one of them, or both.
fn kinds() -> Vec<Option<&'static str>> {
    let kinds = vec![None, Some(SMALL)];
    match setting("ARCHIVER_FULL_ALL", 0) {
        0 => vec![kinds[std::process::id() as usize / 10 % 2]],
        _ => kinds,
    }
}

/// The last is how SQLite tells that the index of its log found no room.
const FULL: &[&str] = &["No space left on device", "database or disk is full", "Error code 4874"];

/// Every line that tells of trouble is of this class, and one says why.
fn tells(log: &str, class: &str, why: &[&str]) -> Vec<String> {
    let troubles: Vec<&str> = log.lines().filter(|line| line.contains("trouble=")).collect();
    let mut wrong: Vec<String> = troubles
        .iter()
        .filter(|line| !line.contains(&format!("trouble=\"{class}\"")))
        .map(ToString::to_string)
        .collect();
    if !why.iter().any(|why| log.contains(why)) {
        wrong.push(format!("It does not tell of {why:?}"));
    }
    wrong
}

/// A run ends with the queue kept, and the next one finds room.
fn ends_and_goes_on(dir: &'static [&'static str], tenth: u64, need: u64, code: i32, class: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for make in kinds() {
        let world = roomy();
        let disk = match make {
            None => Disk::memory(&world, ROOM, dir),
            Some(make) => Disk::image(&world, make, dir),
        };
        disk.leave(need * tenth / 10);
        let ran = world.run();
        let what = format!("{tenth}/10 of {}, {make:?}", dir[0]);
        println!("{what}: exit code {:?}", ran.code);
        // What goes to the vault in time makes room for the rest.
        if ran.code != Some(code) && (ran.code != Some(0) || tenth == 0) {
            wrong.push(format!("{what}: exit code {:?}\n{}", ran.code, ran.log));
        }
        if ran.code == Some(code) {
            wrong.extend(tells(&ran.log, class, FULL).into_iter().map(|line| format!("{what}: {line}\n{}", ran.log)));
        }
        disk.give_back();
        let after = world.run();
        wrong.extend(judge(&world, &after, Compare::Equal).into_iter().map(|line| format!("{what}: {line}")));
        if after.log.contains("Piece rotten") {
            wrong.push(format!("{what}: something published was torn\n{}", after.log));
        }
    }
    wrong
}

#[test]
fn a_full_disk_ends_a_run_with_the_queue_kept_and_room_lets_it_go_on() {
    if cannot_mount() {
        return;
    }
    let (need, _) = highest(&roomy(), "staging");
    let tried = tenths().into_iter();
    let wrong: Vec<String> =
        tried.flat_map(|tenth| ends_and_goes_on(&["staging"], tenth, need, 6, "staging")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_full_disk_of_the_state_ends_a_run_and_room_lets_it_go_on() {
    if cannot_mount() {
        return;
    }
    let (need, _) = highest(&roomy(), "state");
    let tried = tenths().into_iter();
    let wrong: Vec<String> = tried.flat_map(|tenth| ends_and_goes_on(&["state"], tenth, need, 7, "state")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a daemon says while something is wrong, and after it. Nobody starts it again.
fn goes_on(world: &World, class: &str, why: &[&str], spoil: impl FnOnce(), repair: impl FnOnce()) -> Vec<String> {
    let mut running = world.start_daemon();
    assert!(running.until(|running| running.log().contains("Pass under way")), "{}", running.log());
    spoil();
    assert!(running.until(|running| tells(&running.log(), class, why).is_empty()), "{}", running.log());
    assert!(!running.log().contains("Pass ended"), "It came too late\n{}", running.log());
    repair();
    if !running.until(|running| running.log().contains("Pass ended")) {
        return vec![format!("It did not go on\n{}", running.log())];
    }
    running.terminate();
    let ran = Ran { code: running.code(), log: running.log() };
    let mut wrong = judge(world, &ran, Compare::Equal);
    wrong.extend(tells(&ran.log, class, why));
    for never in ["Piece rotten", "retry_in=never"] {
        if ran.log.contains(never) {
            wrong.push(format!("{never}\n{}", ran.log));
        }
    }
    if !ran.log.contains(&format!("Recovered trouble=\"{class}\"")) {
        wrong.push(format!("It does not tell that it is over\n{}", ran.log));
    }
    wrong
}

/// Slow enough that a pass is under way for a while.
fn slow() -> World {
    World::new(Setup { cap: ROOM, compress: "level = 9", encrypted: true, ..Setup::default() }, source::mixed)
}

#[test]
fn a_daemon_goes_on_by_itself_when_a_full_disk_has_room_again() {
    if cannot_mount() {
        return;
    }
    for (dir, class) in [(&["staging"] as &[&str], "staging"), (&["state"], "state")] {
        let world = slow();
        let disk = Disk::image(&world, SMALL, dir);
        let wrong = goes_on(&world, class, FULL, || disk.leave(0), || disk.give_back());
        assert_eq!(wrong, Vec::<String>::new());
    }
}

#[test]
fn a_daemon_that_starts_on_a_full_disk_of_the_state_waits_for_room() {
    if cannot_mount() {
        return;
    }
    let world = slow();
    let disk = Disk::image(&world, SMALL, &["state"]);
    stop_at(&world, 1);
    disk.leave(0);
    let mut running = world.start_daemon();
    assert!(running.until(|running| running.log().contains("Will retry trouble=\"state\"")), "{}", running.log());
    disk.give_back();
    assert!(running.until(|running| running.log().contains("Pass ended")), "{}", running.log());
    running.terminate();
    let ran = Ran { code: running.code(), log: running.log() };
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
}

#[test]
fn a_full_disk_in_small_blocks_is_told_and_ends_nothing_by_a_signal() {
    if cannot_mount() {
        return;
    }
    let world = roomy();
    let disk = Disk::image(&world, TINY_BLOCKS, &["state"]);
    let mut wrong = Vec::new();
    stop_at(&world, 1);
    for left in [0, 2, 5, 8, 9, 10, 12, 16, 24, 32, 36, 40, 48, 64, 96, 128, 160] {
        // As a power cut leaves it: the index of the log has a name and no room.
        sh(&world.path("state"), "rm -f catalog.sqlite-shm");
        disk.leave(left << 10);
        let asked = world.command(binary(), &[]).args(["ls", "--all", "--json"]).output().unwrap().status.code();
        let ran = world.run();
        disk.give_back();
        println!("{left} KiB: ls {asked:?}, run {:?}", ran.code);
        if ![Some(0), Some(7)].contains(&asked) || ![Some(0), Some(7)].contains(&ran.code) {
            wrong.push(format!("{left} KiB: exit codes {asked:?} and {:?}\n{}", ran.code, ran.log));
        } else if ran.code == Some(7) {
            wrong.extend(tells(&ran.log, "state", FULL).into_iter().map(|line| format!("{left} KiB: {line}")));
        }
    }
    wrong.extend(judge(&world, &world.run(), Compare::Equal));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_daemon_goes_on_by_itself_when_a_full_disk_in_small_blocks_has_room_again() {
    if cannot_mount() {
        return;
    }
    let world = slow();
    let disk = Disk::image(&world, TINY_BLOCKS, &["state"]);
    let wrong = goes_on(&world, "state", FULL, || disk.leave(0), || disk.give_back());
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_daemon_goes_on_by_itself_when_a_disk_has_inodes_again() {
    if cannot_mount() {
        return;
    }
    let world = slow();
    let disk = Disk::image(&world, "truncate -s 64M image; mkfs.ext4 -q -m 0 -N 64 image", &["staging"]);
    let take = "mkdir disk/taken; for n in {1..99}; do : > disk/taken/$n || break; done 2>/dev/null";
    let take = || drop(sh(&world.path(""), take));
    let wrong = goes_on(&world, "staging", FULL, take, || disk.give_back());
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_daemon_goes_on_by_itself_when_a_disk_is_no_longer_read_only() {
    if cannot_mount() {
        return;
    }
    let world = slow();
    let disk = Disk::image(&world, SMALL, &["staging"]);
    // Refused for as long as a file is open for writing, as a lock is that was made just now.
    sh(&world.path(""), "install -m 600 /dev/null staging/lock");
    let close = "for n in {1..20000}; do mount -o remount,ro disk 2>/dev/null && exit; sleep 0.001; done; false";
    let close = || drop(sh(&world.path(""), close));
    let wrong = goes_on(&world, "staging", &["Read-only file system"], close, || disk.remount("rw"));
    assert_eq!(wrong, Vec::<String>::new());
}
