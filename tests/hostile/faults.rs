//! Filesystems that fail and lie: what is lost is told, and nothing else is lost.

use super::{
    common::World,
    exceptions, is_root,
    odd::{Mounted, Nodes},
    told, unpacked,
};
use fuser::FileType;
use std::{fs, path::PathBuf};

const LEN: usize = 300_000;
/// More than one answer of a listing holds.
const MANY: usize = 5000;

fn content() -> Vec<u8> {
    (0..LEN).map(|at| (at / 7 % 251) as u8 + 1).collect()
}

/// A run over a source of `a`, `z` and what `fill` adds, all of which GNU tar unpacks. The world, and where.
fn run(code: i32, fill: impl FnOnce(&mut Nodes)) -> Option<(World, PathBuf)> {
    if !is_root() {
        return None;
    }
    let mut world = World::new();
    "8MiB".clone_into(&mut world.setup.max_size);
    "64MiB".clone_into(&mut world.setup.cap);
    "retries = 1".clone_into(&mut world.setup.pack);
    let source = Mounted::new(&world.source, |nodes| {
        nodes.file(1, "a", "first");
        fill(nodes);
        nodes.file(1, "z", "last");
    });
    world.run_once().expect(code);
    drop(source);
    let to = unpacked(&world);
    assert_eq!((fs::read(to.join("a")).unwrap(), fs::read(to.join("z")).unwrap()), (b"first".into(), b"last".into()));
    Some((world, to))
}

#[test]
fn only_the_pages_that_cannot_be_read_are_zeros_and_the_first_of_them_is_told() {
    let fill = |nodes: &mut Nodes| {
        let file = nodes.file(1, "m", content());
        nodes.node(file).bad = 100_000..110_000;
    };
    let Some((world, to)) = run(3, fill) else { return };
    let mut expected = content();
    expected[98_304..110_592].fill(0);
    assert!(fs::read(to.join("m")).unwrap() == expected);
    assert_eq!(exceptions(&world), [told("m", "damaged", "loss")]);
    let line = &world.exceptions()[0];
    assert!(line["errno"] == 5 && line["detail"].as_str().unwrap().contains("the first at 98304"), "{line}");
}

#[test]
fn a_directory_whose_listing_fails_at_once_or_halfway_is_a_loss_and_never_half_there() {
    for fails_at in [0, 1, MANY / 2, MANY - 1] {
        let fill = |nodes: &mut Nodes| {
            let dir = nodes.dir(1, "m");
            for number in 0..MANY {
                nodes.file(dir, &format!("{number:05}"), "x");
            }
            nodes.node(dir).list_fails_at = Some(fails_at);
        };
        let Some((world, to)) = run(3, fill) else { return };
        assert_eq!(exceptions(&world), [told("m", "unreadable", "loss")], "at {fails_at}");
        assert!(fs::symlink_metadata(to.join("m")).is_err(), "at {fails_at}");
    }
}

#[test]
fn a_name_without_a_file_has_vanished_and_is_no_alarm() {
    let fill = |nodes: &mut Nodes| {
        let ghost = nodes.file(1, "m", "never seen");
        nodes.node(ghost).is_ghost = true;
        let ghost = nodes.dir(1, "n");
        nodes.node(ghost).is_ghost = true;
    };
    let Some((world, _)) = run(0, fill) else { return };
    assert_eq!(exceptions(&world), [told("m", "vanished", "info"), told("n", "vanished", "info")]);
}

#[test]
fn a_file_of_no_blocks_has_its_content() {
    let fill = |nodes: &mut Nodes| {
        let file = nodes.file(1, "m", content());
        nodes.node(file).has_no_blocks = true;
    };
    let Some((world, to)) = run(0, fill) else { return };
    assert!(fs::read(to.join("m")).unwrap() == content());
    assert_eq!(exceptions(&world), []);
}

#[test]
fn a_file_that_holds_less_than_it_says_is_filled_with_zeros_and_told() {
    for is_direct in [false, true] {
        let fill = |nodes: &mut Nodes| {
            let file = nodes.file(1, "m", content());
            (nodes.node(file).extra_size, nodes.node(file).is_direct) = (70_000, is_direct);
        };
        let Some((world, to)) = run(3, fill) else { return };
        let mut expected = content();
        expected.resize(LEN + 70_000, 0);
        assert!(fs::read(to.join("m")).unwrap() == expected);
        assert_eq!(exceptions(&world), [told("m", "damaged", "loss")]);
        let detail = world.exceptions()[0]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("70000 of 370000") && detail.contains("the first at 300000"), "{detail}");
    }
}

#[test]
fn a_listing_that_lies_about_types_changes_nothing() {
    let fill = |nodes: &mut Nodes| {
        let file = nodes.file(1, "m", content());
        nodes.node(file).listed_as = Some(FileType::Directory);
        let dir = nodes.dir(1, "n");
        nodes.node(dir).listed_as = Some(FileType::RegularFile);
        nodes.file(dir, "inside", "inside");
        let fifo = nodes.file(1, "o", "a file after all");
        nodes.node(fifo).listed_as = Some(FileType::NamedPipe);
    };
    let Some((world, to)) = run(0, fill) else { return };
    assert!(fs::read(to.join("m")).unwrap() == content());
    assert_eq!(fs::read(to.join("n/inside")).unwrap(), b"inside");
    assert_eq!(fs::read(to.join("o")).unwrap(), b"a file after all");
    assert_eq!(exceptions(&world), []);
}

#[test]
fn what_is_something_else_each_time_it_is_asked_is_a_loss() {
    let fill = |nodes: &mut Nodes| {
        let file = nodes.file(1, "m", content());
        nodes.node(file).becomes = Some(FileType::NamedPipe);
        let dir = nodes.dir(1, "n");
        nodes.node(dir).becomes = Some(FileType::Symlink);
    };
    let Some((world, to)) = run(3, fill) else { return };
    assert_eq!(exceptions(&world), [told("m", "unreadable", "loss"), told("n", "unreadable", "loss")]);
    assert!(fs::symlink_metadata(to.join("m")).is_err() && fs::symlink_metadata(to.join("n")).is_err());
}
