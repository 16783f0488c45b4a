//! The disk of staging: never more of it than allowed, and nothing lost when it is full all the same.

use crate::{
    check::{Compare, judge},
    mounts::{Disk, XFS, cannot_mount},
    source::{self, Random},
    world::{SMALLEST_CAP, Setup, World},
};
use std::{fs, os::unix::fs::MetadataExt, path::Path, thread, time::Duration};

/// Bytes of allocated blocks below a directory, itself included, as `du` counts them.
fn allocated(dir: &Path) -> u64 {
    let own = fs::metadata(dir).map_or(0, |meta| 512 * meta.blocks());
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    own + entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => allocated(&entry.path()),
            // What goes away meanwhile takes nothing.
            _ => fs::symlink_metadata(entry.path()).map_or(0, |meta| 512 * meta.blocks()),
        })
        .sum::<u64>()
}

/// The most that a directory takes during a run, and the samples taken.
pub fn highest(world: &World, dir: &str) -> (u64, u32) {
    let mut running = world.start();
    let (mut highest, mut samples) = (0, 0);
    while running.is_running() {
        highest = highest.max(allocated(&world.path(dir)));
        samples += 1;
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(judge(world, &running.wait(), Compare::Equal), Vec::<String>::new());
    (highest, samples)
}

/// Entries that are nothing but metadata, so that lists and manifests are as large as they get.
fn names(root: &Path) {
    for n in 0..1500 {
        fs::write(root.join(format!("{n:04}-{}", "x".repeat(60))), "").unwrap();
    }
    for n in 0..100 {
        std::os::unix::fs::symlink("y/".repeat(900), root.join(format!("link-{n}"))).unwrap();
    }
}

/// Just as large as a piece may be.
fn full(root: &Path) {
    let mut random = Random::new(5);
    for n in 0..12 {
        fs::write(root.join(n.to_string()), random.bytes((1 << 20) - 6000)).unwrap();
    }
}

#[test]
fn staging_never_takes_more_than_its_cap() {
    // On a real disk: there directories take blocks, too.
    for (what, source) in [("mixed", source::mixed as fn(&Path)), ("names", names), ("full", full)] {
        for encrypted in [false, true] {
            let setup = Setup { encrypted, ..Setup::default() };
            let world = World::at(tempfile::TempDir::new().unwrap(), setup, source);
            let (highest, samples) = highest(&world, "staging");
            let part = highest as f64 / world.setup.cap as f64;
            println!("{what}, encrypted {encrypted}: max/cap {part:.3}, {samples} samples");
            assert!(highest <= world.setup.cap, "{what}: {highest} of {}", world.setup.cap);
        }
    }
}

#[test]
fn staging_never_takes_more_than_its_cap_where_blocks_are_given_ahead() {
    if cannot_mount() {
        return;
    }
    let large = |root: &Path| {
        let mut random = Random::new(5);
        for n in 0..12 {
            fs::write(root.join(n.to_string()), random.bytes((8 << 20) - 6000)).unwrap();
        }
    };
    for encrypted in [false, true] {
        let cap = 8 * SMALLEST_CAP;
        let setup = Setup { encrypted, cap, max_size: "8MiB", ..Setup::default() };
        let world = World::at(tempfile::TempDir::new().unwrap(), setup, large);
        let _disk = Disk::image(&world, XFS, &["staging"]);
        let (highest, samples) = highest(&world, "staging");
        let part = highest as f64 / world.setup.cap as f64;
        println!("on XFS, encrypted {encrypted}: max/cap {part:.3}, {samples} samples");
        assert!(highest <= world.setup.cap, "{highest} of {}", world.setup.cap);
    }
}
