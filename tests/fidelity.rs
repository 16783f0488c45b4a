//! Promises about what comes back: every piece alone, all together, as stock tools see it.

mod common;

use common::{
    Manifest, World, path_of, shown,
    snapshot::{Snapshot, differences, snapshot, told},
};
use std::collections::{BTreeMap, BTreeSet};
use std::{
    fs,
    path::{Path, PathBuf},
};

const NASTY: &str = include_str!("common/nasty.sh");
const MIB: u64 = 1 << 20;

/// A run that is over, with all that it left in the vault.
struct Archived {
    world: World,
    source: Snapshot,
    /// By key, in walk order.
    pieces: Vec<(String, Manifest)>,
    /// In the order of `pieces`, once they are opened.
    tars: Vec<PathBuf>,
}

fn archive(world: World) -> Archived {
    let source = snapshot(&world.source);
    world.run_once().expect(0);
    assert_eq!(snapshot(&world.source), source, "Archiving changes nothing in the source");
    let pieces = world.keys().into_iter().map(|key| (key.clone(), world.manifest(&key))).collect();
    Archived { world, source, pieces, tars: Vec::new() }
}

fn has_note(member: &serde_json::Value, note: &str) -> bool {
    member["note"].as_str().is_some_and(|notes| notes.split(',').any(|n| n == note))
}

impl Archived {
    /// Opens every piece alone in a directory of its own and compares what it holds with the source.
    fn every_piece_opens_alone(&mut self) {
        for (at, (key, manifest)) in self.pieces.iter().enumerate() {
            let dir = self.world.dir(&format!("alone/{at}"));
            let tar = self.world.open_piece_alone(key, &dir);
            let len = fs::metadata(&tar).unwrap().len();
            assert!(len <= MIB && manifest.head["tar_size"] == len, "{key}: {len}");
            self.tars.push(tar);
            let mut restored = snapshot(&dir);
            let mut paths: BTreeSet<Vec<u8>> = BTreeSet::new();
            for member in &manifest.members {
                let path = path_of(member);
                if member["segment"].is_null() {
                    paths.insert(path);
                } else {
                    self.is_segment(member, &dir, &restored);
                    let file = &path[..path.len() - "/000001".len()];
                    restored.remove(&path).unwrap();
                    restored.remove(file).unwrap();
                }
            }
            let piece = paths.iter().map(|path| (path.clone(), key.clone())).collect();
            let found = differences(&self.source, &restored, &paths, &piece);
            assert!(found.is_empty(), "{key}: {}", told(&found));
        }
    }

    /// A segment has the metadata of its file, and the bytes that its manifest says.
    fn is_segment(&self, member: &serde_json::Value, dir: &Path, restored: &Snapshot) {
        let path = path_of(member);
        let (whole, part) = (&self.source[&path[..path.len() - "/000001".len()]], &restored[&path]);
        let meta = |seen: &common::snapshot::Seen| {
            (seen.mode.clone(), seen.owner.clone(), seen.mtime.clone(), seen.xattrs.clone(), seen.acl.clone())
        };
        assert_eq!(meta(whole), meta(part), "{} in {dir:?}", shown(&path));
        assert_eq!(member["sha256"].as_str(), Some(part.content.as_str()), "{}", shown(&path));
        assert_eq!(member["segment"]["file_size"].to_string(), whole.size);
    }

    /// All pieces into one directory, segments joined, and nothing differs.
    fn everything_comes_back(&self) -> usize {
        let dir = self.world.dir("together");
        let (mut piece, mut files) = (BTreeMap::new(), BTreeSet::new());
        for ((key, manifest), tar) in self.pieces.iter().zip(&self.tars) {
            self.world.untar(tar, &dir);
            for member in manifest.members.iter().filter(|member| !has_note(member, "ancestor")) {
                let mut path = path_of(member);
                if !member["segment"].is_null() {
                    path.truncate(path.len() - "/000001".len());
                    files.insert(path.clone());
                }
                piece.insert(path, key.clone());
            }
        }
        for file in &files {
            self.world.join_segments(&dir.join(common::os(file)));
        }
        let paths = self.source.iter().filter(|(_, seen)| seen.kind != "s").map(|(path, _)| path.clone()).collect();
        let found = differences(&self.source, &snapshot(&dir), &paths, &piece);
        assert!(found.is_empty(), "{}", told(&found));
        files.len()
    }

    /// The manifests say of each entry what stock tools say, each entry once, and they add up to the tree.
    fn manifests_agree(&self) {
        let (mut seen, mut counted, mut skipped) = (0, BTreeMap::new(), 0);
        for (key, manifest) in &self.pieces {
            assert_eq!(manifest.head["key"].as_str(), Some(key.as_str()));
            for member in &manifest.members {
                self.member_agrees(member);
                let segment = &member["segment"];
                if !has_note(member, "ancestor") && (segment.is_null() || segment["index"] == segment["count"]) {
                    *counted.entry(path_of(member)).or_insert(0) += 1;
                }
            }
            let counts = &manifest.range["counts"];
            seen += counts["seen"].as_u64().unwrap();
            skipped += counts["skipped"]["socket"].as_u64().unwrap_or(0);
            assert_eq!(counts["changed"], 0, "{key}");
        }
        assert!(counted.values().all(|times| *times == 1), "One copy per path");
        assert_eq!(seen, self.source.len() as u64);
        assert_eq!(counted.len() as u64 + skipped, seen);
    }

    fn member_agrees(&self, member: &serde_json::Value) {
        let mut path = path_of(member);
        let segment = &member["segment"];
        if !segment.is_null() {
            path.truncate(path.len() - "/000001".len());
        }
        let seen = &self.source[&path];
        let mode = format!("{:0>4}", seen.mode);
        assert_eq!(member["mode"], mode.as_str(), "{}", shown(&path));
        assert_eq!(format!("{}:{}", member["uid"], member["gid"]), seen.owner, "{}", shown(&path));
        if seen.kind == "f" && !has_note(member, "ancestor") {
            let sum = if segment.is_null() { &member["sha256"] } else { &member["file_sha256"] };
            let is_told = segment.is_null() || segment["index"] == segment["count"];
            let is_link = has_note(member, "hardlink");
            if is_told && !is_link {
                assert_eq!(sum.as_str(), Some(seen.content.as_str()), "{}", shown(&path));
            }
        }
    }
}

#[test]
fn a_nasty_tree_comes_back_from_every_piece_alone_and_from_all_together() {
    let world = World::new();
    let script = world.root.path().join("nasty.sh");
    fs::write(&script, NASTY).unwrap();
    world.bash("cd \"$1\"; source \"$2\"", &[&world.source, &script]).expect(0);
    let mut done = archive(world);
    done.manifests_agree();
    done.every_piece_opens_alone();
    let segmented = done.everything_comes_back();
    assert!(segmented >= 6, "{segmented} files in segments");
    let exceptions = done.world.exceptions();
    assert_eq!(exceptions.len(), 1, "{exceptions:?}");
    assert_eq!((&exceptions[0]["reason"], &exceptions[0]["severity"]), (&"socket".into(), &"info".into()));
    println!("{} entries in {} pieces, {segmented} in segments, 0 differences", done.source.len(), done.pieces.len());
}
