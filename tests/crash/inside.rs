//! Marks inside a member, and what may happen to the source or the configuration between two runs.

use crate::{
    check::{Compare, assert_right, judge},
    source::{Random, sh},
    world::{Setup, World},
};
use std::{fs, path::Path};

fn setup() -> Setup {
    Setup { cap: 64 << 20, max_size: "15MiB", ..Setup::default() }
}

/// A file that becomes segments, and something behind it.
fn parted(root: &Path) {
    let mut random = Random::new(5);
    fs::write(root.join("parted"), random.bytes(20 << 20)).unwrap();
    fs::write(root.join("z"), random.bytes(100)).unwrap();
}

fn killed_in(world: &World, seq: &str) {
    let mut running = world.start();
    let name = format!(".{seq}.tar.mark");
    assert!(running.until(|_| world.staged("tmp").iter().any(|found| found.ends_with(&name))), "{}", running.log());
    running.kill();
}

#[test]
fn a_large_file_that_is_gone_between_two_runs_still_adds_up() {
    for (seq, script) in [
        ("000002", "rm parted"),
        ("000003", "rm parted"),
        ("000002", "rm parted; mkdir parted; echo x > parted/x"),
        ("000003", "rm parted; mkdir parted; echo x > parted/x"),
    ] {
        let world = World::new(setup(), parted);
        killed_in(&world, seq);
        sh(&world.source(), script);
        let ran = world.run();
        let wrong = judge(&world, &ran, Compare::Consistent);
        assert!(wrong.is_empty(), "{seq} {script}: {}", wrong.join("\n"));
    }
}

#[test]
fn a_lost_piece_whose_last_file_became_too_large_is_made_again_whole() {
    let files = |root: &Path| {
        let mut random = Random::new(6);
        ["a", "b"].iter().for_each(|name| fs::write(root.join(name), random.bytes(14 << 20)).unwrap());
    };
    for seq in ["000003", "000004"] {
        let world = World::new(setup(), files);
        world.configure("[upload]\nbandwidth = \"20kB/s\"");
        let mut running = world.start();
        assert!(
            running.until(|_| world.staged("gpg").iter().any(|name| name.contains(".000002-"))
                || world.staged("xz").iter().any(|name| name.contains(".000002-"))),
            "{}",
            running.log()
        );
        running.kill();
        sh(&world.path("staging"), "rm -f {tar,xz,gpg}/*.000002*.tar*");
        sh(&world.source(), "cat b > c; cat c >> b; rm c");
        world.configure("");
        killed_in(&world, seq);
        let ran = world.run();
        let wrong = judge(&world, &ran, Compare::Consistent);
        assert!(wrong.is_empty(), "{seq}: {}", wrong.join("\n"));
        let named = sh(
            &world.path(""),
            "zstd -dqc vault/h1/data/*/*.manifest.jsonl.zst | grep -o '\"path\":\"b/[^\"]*' | cut -d '\"' -f 4 | sort | tr '\\n' ' '",
        );
        assert_eq!(named.trim(), "b/000001 b/000002", "{seq}\n{}", ran.log);
    }
}

#[test]
fn what_cannot_be_read_because_the_whole_source_is_gone_is_read_when_it_is_back() {
    let one = |root: &Path| fs::write(root.join("one"), Random::new(5).bytes(14 << 20)).unwrap();
    let world = World::new(setup(), one);
    // strace looks at where a file is now.
    let (here, away) = (world.source().join("one"), world.path("away/one"));
    sh(&world.path(""), "sed -i 's/^checkpoint.*/&\\nretries = 0/' archiver.toml");
    let trace = [
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        here.to_str().unwrap(),
        "-P",
        away.to_str().unwrap(),
        "-e",
        "trace=pread64",
        "-e",
    ];
    let inject = [&trace[..], &["inject=pread64:error=EIO:delay_enter=2000:when=6+"]].concat();
    let mut running = world.start_with(world.command("strace", &inject));
    assert!(running.until(|_| world.staged("tmp").iter().any(|name| name.ends_with(".tar.mark"))), "{}", running.log());
    fs::rename(world.source(), world.path("away")).unwrap();
    assert_eq!(running.code(), Some(75), "{}", running.log());
    fs::rename(world.path("away"), world.source()).unwrap();
    assert_right(&world, Compare::Equal, "the source is back");
}

/// Bytes of all files of staging.
fn staged(world: &World) -> u64 {
    ["tmp", "tar", "xz", "gpg", "list"]
        .iter()
        .flat_map(|dir| fs::read_dir(world.staging(dir)).into_iter().flatten())
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .sum()
}

#[test]
fn pieces_may_be_smaller_after_a_restart() {
    let one = |root: &Path| fs::write(root.join("one"), Random::new(5).bytes(14 << 20)).unwrap();
    let mut world = World::new(setup(), one);
    killed_in(&world, "000001");
    (world.setup.max_size, world.setup.cap) = ("4MiB", 3 * (4 << 20) * 101 / 100 + 1);
    world.configure("");
    let mut running = world.start();
    let mut most = 0;
    running.until(|_| {
        most = most.max(staged(&world));
        false
    });
    let ran = running.wait();
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
    assert!(most <= world.setup.cap, "{most} of {}", world.setup.cap);
}

#[test]
fn segments_may_be_smaller_after_a_restart_when_none_stands_yet() {
    let mut world = World::new(setup(), parted);
    killed_in(&world, "000002");
    (world.setup.max_size, world.setup.cap) = ("4MiB", 3 * (4 << 20) * 101 / 100 + 1);
    world.configure("");
    assert_right(&world, Compare::Equal, "in smaller segments");
}

#[test]
fn segments_that_do_not_fit_any_more_are_an_error_until_there_is_room() {
    let mut world = World::new(setup(), parted);
    killed_in(&world, "000003");
    (world.setup.max_size, world.setup.cap) = ("1MiB", 3 * (1 << 20) * 101 / 100 + 1);
    world.configure("");
    let ran = world.run();
    assert_eq!(ran.code, Some(6), "{}", ran.log);
    world.setup = setup();
    world.configure("");
    assert_right(&world, Compare::Equal, "with room");
}
