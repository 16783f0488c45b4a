//! States in which several things have gone wrong at once, each of which was fatal once.

use crate::{
    check::{Compare, assert_right, judge},
    points::run_until,
    progress::{kill_at_marks, slow_packing},
    source::{self, Random, sh},
    world::{KILLED, Setup, World},
};
use std::{fs, path::Path};

/// What a run says of where the steps of a stage began.
fn resumed(log: &str, stage: &str) -> Vec<u64> {
    let steps = log.lines().filter(|line| line.contains("Step started") && line.contains(stage));
    steps.map(|line| line.rsplit("resumed_at=").next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_draft_goes_on_although_a_piece_before_it_is_lost() {
    let world = slow_packing();
    let mut running = world.start();
    let is_second = |name: &String| name.ends_with(".000002.tar.mark");
    assert!(running.until(|_| world.staged("tmp").iter().any(is_second)));
    running.kill();
    // The first piece, in whatever form it stands.
    sh(&world.path("staging"), "rm -f {tar,xz,gpg}/*.tar*; ls tmp/*.000002.tar.mark");
    let ran = world.run();
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
    assert!(ran.log.contains("It stands on no shelf"), "{}", ran.log);
    assert_eq!(resumed(&ran.log, "stage=\"pack\"").iter().filter(|at| **at > 0).count(), 1, "{}", ran.log);
}

#[test]
fn a_lost_piece_that_is_packed_again_for_longer_than_runs_last_is_finished() {
    let world = slow_packing();
    let mut running = world.start();
    assert!(running.until(|running| running.log().contains("stage=\"compress\"")));
    running.kill();
    sh(&world.path("staging"), "rm -f {tar,xz,gpg}/*.tar*");
    let (kills, resumed) = kill_at_marks(&world, ".tar.mark", "stage=\"pack\"");
    assert_right(&world, Compare::Equal, "packed again in bits");
    let on = resumed.iter().filter(|at| **at > 0).count();
    println!("again: {kills} kills, {on} drafts went on, from {resumed:?}");
    assert!(on >= 5, "{resumed:?}");
}

#[test]
fn the_only_file_of_a_draft_may_be_gone_or_too_large_when_it_goes_on() {
    let large = |root: &Path| {
        let mut random = Random::new(6);
        ["a", "b", "c"].iter().for_each(|name| fs::write(root.join(name), random.bytes(14 << 20)).unwrap());
    };
    for script in ["rm b", "rm b c", "rm b; mkdir b; echo x > b/x", "head -c 10M /dev/zero | tr '\\0' x >> b"] {
        let world = World::new(Setup { cap: 64 << 20, max_size: "15MiB", ..Setup::default() }, large);
        let mut running = world.start();
        let is_second = |name: &String| name.ends_with(".000002.tar.mark");
        assert!(running.until(|_| world.staged("tmp").iter().any(is_second)), "{}", running.log());
        running.kill();
        sh(&world.source(), script);
        let ran = world.run();
        assert_eq!(judge(&world, &ran, Compare::Consistent), Vec::<String>::new(), "{script}\n{}", ran.log);
        let named = "zstd -dqc vault/h1/data/*/*.manifest.jsonl.zst | grep -o '\"path\":\"[^\"]*' | cut -d '\"' -f 4";
        let archived = sh(&world.path(""), &format!("{named} | sed 's|^b/0000..$|b|' | sort -u"));
        let files = sh(&world.source(), "find . -printf '%P\\n' | sed 's|^$|./|' | sort");
        assert_eq!(archived, files, "{script}");
    }
}

/// Runs in new worlds up to ever later points, until something is on the disk.
fn killed_when(first: u64, is_so: impl Fn(&World) -> bool) -> World {
    for point in (first..).step_by(3) {
        let world = World::new(Setup::default(), source::mixed);
        let (ran, _, _) = run_until(&world, point);
        assert_eq!(ran.code, Some(KILLED), "never seen up to point {point}\n{}", ran.log);
        if is_so(&world) {
            return world;
        }
    }
    unreachable!("points are many, but not endless");
}

/// The listing and the index of a pass take less than this many points at its end.
const LAST_POINTS: u64 = 75;

#[test]
fn what_a_pass_sends_last_may_rot_or_be_lost() {
    let world = World::new(Setup::default(), source::mixed);
    let (_, points, _) = run_until(&world, 0);
    for file in ["tree.txt.xz", "index.json.zst"] {
        let is_sealed = |world: &World| {
            let delivered = world.path(&format!("{}/{file}", pass(world)));
            world.staged("gpg").iter().any(|name| name.ends_with(file)) && !delivered.exists()
        };
        let world = killed_when(points - LAST_POINTS, is_sealed);
        let root = world.path("");
        sh(&root, "mkdir kept; cp -a staging state vault kept");
        for damage in ["printf X | dd of=$f bs=1 seek=20 conv=notrunc", "truncate -s -1 $f", ": > $f", "rm $f"] {
            sh(&root, "for d in staging state vault; do rm -rf $d; cp -a kept/$d $d; done");
            sh(&world.staging("gpg"), &format!("f=$(echo *.{file}); {damage}"));
            assert_right(&world, Compare::Equal, &format!("{file}: {damage}"));
        }
    }
}

/// The directory of the only pass in the vault.
fn pass(world: &World) -> String {
    sh(&world.path(""), "echo vault/h1/data/*").trim().to_owned()
}

#[test]
fn an_upload_of_a_piece_that_is_lost_halfway_is_thrown_away() {
    // 8 MiB are the smallest part, so a piece of 12 MiB takes two.
    let large = |root: &Path| fs::write(root.join("F"), Random::new(9).bytes(12 << 20)).unwrap();
    let setup = Setup { cap: 80 << 20, max_size: "16MiB", ..Setup::default() };
    let world = World::new(setup, large);
    world.configure("[upload]\nbandwidth = \"1MB/s\"");
    let uploads = world.path("vault/.archiver/uploads");
    let mut running = world.start();
    assert!(running.until(|_| fs::read_dir(&uploads).is_ok_and(|mut dirs| dirs.next().is_some())));
    running.kill();
    sh(&world.staging("gpg"), "printf X | dd of=$(echo *.tar.xz) bs=1 seek=10000000 conv=notrunc");
    world.configure("");
    let ran = world.run();
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
    assert!(ran.log.contains("Piece rotten"), "{}", ran.log);
}

#[test]
fn a_piece_that_the_disk_cannot_read_any_more_is_made_again() {
    let world = World::new(Setup { compress: "level = 9", cap: 64 << 20, ..Setup::default() }, source::mixed);
    let mut running = world.start();
    assert!(running.until(|_| world.staged("tar").len() >= 3));
    running.kill();
    let file = world.staging("tar").join(world.staged("tar").last().unwrap());
    let file = file.to_str().unwrap();
    let trace = ["-f", "-qq", "-o", "/dev/null", "-P", file, "-e", "trace=read,pread64", "-e"];
    let inject = [&trace[..], &["inject=read,pread64:error=EIO"]].concat();
    let ran = world.start_with(world.command("strace", &inject)).wait();
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
    assert!(ran.log.contains("Piece rotten") && ran.log.contains("os error 5"), "{}", ran.log);
}

#[test]
fn a_piece_that_vanishes_while_the_daemon_runs_is_made_again() {
    let world = World::new(Setup { compress: "level = 9", cap: 64 << 20, ..Setup::default() }, source::mixed);
    let mut running = world.start();
    assert!(running.until(|_| world.staged("tar").len() >= 4));
    fs::remove_file(world.staging("tar").join(world.staged("tar").last().unwrap())).unwrap();
    let ran = running.wait();
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
    assert!(ran.log.contains("Piece rotten"), "{}", ran.log);
}

#[test]
fn a_held_source_does_not_keep_another_from_its_end() {
    let world = World::new(Setup::default(), source::mixed);
    let root = world.path("");
    world.configure(&format!("[[source]]\nname = \"absent\"\npath = \"{}/absent\"", root.display()));
    let ran = world.run();
    assert_eq!(ran.code, Some(75), "{}", ran.log);
    assert!(ran.log.contains("Pass ended source=\"data\""), "{}", ran.log);
    world.configure("");
    assert_right(&world, Compare::Equal, "without the held one");
}

#[test]
fn room_that_can_never_come_is_an_error_and_not_a_hang() {
    let world = World::new(Setup::default(), source::mixed);
    sh(&world.path(""), "mkdir -m 700 staging staging/tmp");
    fs::write(world.staging("tmp").join("of-somebody-else"), vec![1; 2 << 20]).unwrap();
    let ran = world.run();
    assert_eq!(ran.code, Some(6), "{}", ran.log);
    assert!(ran.log.contains("files of somebody else"), "{}", ran.log);
    fs::remove_file(world.staging("tmp").join("of-somebody-else")).unwrap();
    assert_right(&world, Compare::Equal, "with room");
}
