//! A piece that takes longer than the host is up still ends: every run is killed as soon as it has made one mark.

use crate::{
    check::{Compare, assert_right},
    source::Random,
    world::{Ran, Setup, World},
};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// More runs than there are marks in all.
const RUNS_MAX: u32 = 60;

/// Content of a mark, where there is one.
fn mark(world: &World, suffix: &str) -> Option<(String, u64)> {
    let name = world.staged("tmp").into_iter().find(|name| name.ends_with(suffix))?;
    let inode = fs::metadata(world.staging("tmp").join(&name)).ok()?.ino();
    Some((name, inode))
}

/// Kills every run at its first new mark, until one ends. Gives the kills, and from where steps of this stage went on.
pub fn kill_at_marks(world: &World, suffix: &str, stage: &str) -> (u32, Vec<u64>) {
    let mut resumed = Vec::new();
    for kills in 0..RUNS_MAX {
        let before = mark(world, suffix);
        let mut running = world.start();
        let marked = running.until(|_| {
            let now = mark(world, suffix);
            now.is_some() && now != before
        });
        let log = match marked {
            true => {
                running.kill();
                running.log()
            }
            false => {
                let Ran { code, log } = running.wait();
                assert_eq!(code, Some(0), "{log}");
                log
            }
        };
        let steps = log.lines().filter(|line| line.contains("Step started") && line.contains(stage));
        resumed.extend(steps.map(|line| line.rsplit("resumed_at=").next().unwrap().parse::<u64>().unwrap()));
        if !marked {
            return (kills, resumed);
        }
    }
    panic!("{RUNS_MAX} runs, and no end: {resumed:?}");
}

/// Small files: 20 MiB in 5,000 of them.
fn small_files(root: &Path) {
    let mut random = Random::new(3);
    for dir in 0..50 {
        let dir = root.join(format!("{dir:02}"));
        fs::create_dir(&dir).unwrap();
        for n in 0..100 {
            fs::write(dir.join(n.to_string()), random.bytes(4000)).unwrap();
        }
    }
}

/// Text, on which high levels are slow.
pub fn text(root: &Path) {
    let mut random = Random::new(4);
    for n in 0..3 {
        let words: Vec<String> = (0..500_000).map(|_| format!("{} ", random.below(50_000))).collect();
        fs::write(root.join(n.to_string()), words.concat()).unwrap();
    }
}

pub fn slow_packing() -> World {
    let setup = Setup { cap: 64 << 20, max_size: "8MiB", compress: "level = 0", ..Setup::default() };
    World::new(setup, small_files)
}

pub fn slow_compressing() -> World {
    let setup = Setup { cap: 64 << 20, max_size: "10MiB", compress: "level = 9", ..Setup::default() };
    World::new(setup, text)
}

#[test]
fn a_piece_that_is_packed_for_longer_than_runs_last_is_finished() {
    let world = slow_packing();
    let (kills, resumed) = kill_at_marks(&world, ".tar.mark", "stage=\"pack\"");
    assert_right(&world, Compare::Equal, "packed in bits");
    let on = resumed.iter().filter(|at| **at > 0).count();
    println!("packing: {kills} kills, {on} drafts went on, from {resumed:?}");
    assert!(kills >= 5 && on >= 5, "{kills} kills, went on from {resumed:?}");
}

/// One file that nearly fills a piece, and one that becomes segments of as much.
fn large_files(root: &Path) {
    let mut random = Random::new(5);
    fs::write(root.join("one"), random.bytes(14 << 20)).unwrap();
    fs::write(root.join("parted"), random.bytes(20 << 20)).unwrap();
}

#[test]
fn a_file_that_is_read_for_longer_than_runs_last_is_finished() {
    let setup = Setup { cap: 64 << 20, max_size: "15MiB", compress: "level = 0", ..Setup::default() };
    let world = World::new(setup, large_files);
    let (kills, resumed) = kill_at_marks(&world, ".tar.mark", "stage=\"pack\"");
    assert_right(&world, Compare::Equal, "packed in bits of a file");
    let on = resumed.iter().filter(|at| **at > 1 << 20).count();
    println!("packing large files: {kills} kills, {on} drafts went on, from {resumed:?}");
    assert!(kills >= 8 && on >= 5, "{kills} kills, went on from {resumed:?}");
}

#[test]
fn a_piece_that_is_compressed_for_longer_than_runs_last_is_finished() {
    let world = slow_compressing();
    let (kills, resumed) = kill_at_marks(&world, ".xz.mark", "stage=\"compress\"");
    assert_right(&world, Compare::Equal, "compressed in bits");
    let on = resumed.iter().filter(|at| **at > 0).count();
    println!("compressing: {kills} kills, {on} drafts went on, from {resumed:?}");
    assert!(kills >= 4 && on >= 4, "{kills} kills, went on from {resumed:?}");
}
