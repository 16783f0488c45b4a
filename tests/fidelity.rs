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
        self.tars.iter().for_each(|tar| self.world.untar(tar, &dir));
        let (_, files) = self.places();
        for file in &files {
            self.world.join_segments(&dir.join(common::os(file)));
        }
        self.is_the_source(&dir);
        files.len()
    }

    /// The same by the command, which joins segments itself.
    fn restore_brings_everything_back(&self) {
        let dir = self.world.root.path().join("by command");
        let mut args = ["restore", "/", "--yes", "--to"].map(std::ffi::OsString::from).to_vec();
        args.push(dir.clone().into());
        self.world.archiver(&args).expect(0);
        self.is_the_source(&dir);
    }

    /// The piece of each path, and the paths that are in segments.
    fn places(&self) -> (BTreeMap<Vec<u8>, String>, BTreeSet<Vec<u8>>) {
        let (mut piece, mut files) = (BTreeMap::new(), BTreeSet::new());
        for (key, manifest) in &self.pieces {
            for member in manifest.members.iter().filter(|member| !has_note(member, "ancestor")) {
                let mut path = path_of(member);
                if !member["segment"].is_null() {
                    path.truncate(path.len() - "/000001".len());
                    files.insert(path.clone());
                }
                piece.insert(path, key.clone());
            }
        }
        (piece, files)
    }

    /// Nothing differs, and nothing is there besides.
    fn is_the_source(&self, dir: &Path) {
        let paths = self.source.iter().filter(|(_, seen)| seen.kind != "s").map(|(path, _)| path.clone()).collect();
        let found = differences(&self.source, &snapshot(dir), &paths, &self.places().0);
        assert!(found.is_empty(), "{}", told(&found));
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
        let types = [("f", "file"), ("d", "dir"), ("l", "symlink"), ("p", "fifo"), ("c", "char"), ("b", "block")];
        assert!(types.contains(&(seen.kind.as_str(), member["type"].as_str().unwrap())), "{}", shown(&path));
        let mtime = member["mtime"].as_str().unwrap().strip_suffix('Z').unwrap();
        assert_eq!(seen.mtime.strip_suffix('0'), Some(mtime), "{}", shown(&path));
        let is_alone = member["nlink"] == 1 || seen.kind == "d";
        assert_eq!(has_note(member, "linked") || has_note(member, "hardlink"), !is_alone, "{}", shown(&path));
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
    let mut done = archive(World::nasty_and_large());
    done.manifests_agree();
    done.every_piece_opens_alone();
    let segmented = done.everything_comes_back();
    done.restore_brings_everything_back();
    assert_eq!(segmented, 6, "files in segments: those that do not fit with their headers, and no other");
    let full = |tar: &&PathBuf| fs::metadata(tar).unwrap().len() == MIB;
    assert!(done.tars.iter().any(|tar| full(&tar)), "No piece uses all of its room");
    println!("{} entries in {} pieces, {segmented} in segments, 0 differences", done.source.len(), done.pieces.len());
}

#[test]
fn the_lines_of_the_readme_bring_everything_back() {
    let done = archive(World::nasty_and_large());
    let (_, lines) = include_str!("../README.md").split_once("# absolute paths\n").unwrap();
    let (lines, _) = lines.split_once("\n\n").unwrap();
    let world = &done.world;
    let dir = world.dir("by-hand");
    let pass = world.vault.join(Path::new(&done.pieces[0].0).parent().unwrap());
    let script = format!("cd \"$1\"; pass=$2 key=$3\n{lines}");
    let ran = world.bash(&script, &[&dir, &pass, &world.passphrase]).expect(0);
    assert!(!ran.stderr.contains("FAILED"), "{}", ran.stderr);
    assert!(done.places().1.len() > 2, "Some files are in segments");
    done.is_the_source(&dir);
}

#[test]
fn every_form_of_a_piece_comes_back() {
    for (method, encrypt, suffix) in
        [("none", "passphrase", ".tar.gpg"), ("xz", "none", ".tar.xz"), ("none", "none", ".tar")]
    {
        let mut world = World::nasty();
        method.clone_into(&mut world.setup.method);
        if encrypt == "none" {
            world.setup.encrypt = "method = \"none\"".to_owned();
        }
        let mut done = archive(world);
        assert!(done.pieces.iter().all(|(key, _)| key.ends_with(suffix)), "{suffix}");
        done.manifests_agree();
        done.every_piece_opens_alone();
        done.everything_comes_back();
        done.restore_brings_everything_back();
    }
}

#[test]
fn every_certificate_opens_every_object_and_all_of_them_are_named() {
    let mut world = World::nasty();
    "zstd".clone_into(&mut world.setup.method);
    let certificates = [world.certificate("first"), world.certificate("second")];
    world.setup.encrypt = format!("recipients = [{:?}, {:?}]", certificates[0].0, certificates[1].0);
    let mut done = archive(world);
    assert!(done.pieces.iter().all(|(key, _)| key.ends_with(".tar.zst.gpg")));
    done.every_piece_opens_alone();
    done.everything_comes_back();
    let prints: BTreeSet<&str> = certificates.iter().map(|(_, print)| print.as_str()).collect();
    for (key, manifest) in &done.pieces {
        let named = manifest.head["fingerprints"].as_array().unwrap().iter().filter_map(|print| print.as_str());
        assert_eq!(named.collect::<BTreeSet<_>>(), prints, "{key}");
    }
    let script = "gpg --batch --list-packets \"$1\" 2>/dev/null | grep -c '^:pubkey enc packet: version 3'";
    let sealed: Vec<String> = done.world.objects().into_iter().filter(|key| key.ends_with(".gpg")).collect();
    assert_eq!(sealed.len(), 2 * done.pieces.len() + 2);
    for key in sealed {
        assert_eq!(done.world.bash(script, &[done.world.vault.join(&key)]).text().trim(), "2", "{key}");
    }
}

#[test]
fn the_vault_holds_what_the_contract_names_and_nothing_else() {
    let done = archive(World::nasty());
    let world = &done.world;
    let objects = world.objects();
    let pass = objects.iter().find_map(|key| Some(key.strip_prefix("nas1/data/")?.split_once('/')?.0)).unwrap();
    let name = "[0-9]{6}-[A-Za-z0-9._-]{1,100}";
    let pattern = format!(
        "^(archiver\\.json|nas1/data/[0-9]{{8}}T[0-9]{{6}}Z/({name}\\.tar\\.xz\\.gpg|{name}\\.manifest\\.jsonl\\.zst\\.gpg|\
         index\\.json\\.zst\\.gpg|tree\\.txt\\.xz\\.gpg))$"
    );
    let text = objects.join("\n");
    let strange = world.bash("printf '%s\\n' \"$1\" | grep -Ev \"$2\" || true", &[text, pattern]);
    assert_eq!(strange.text(), "");
    assert_eq!(objects.len(), 1 + 2 * done.pieces.len() + 2, "{objects:?}");
    assert!(objects.iter().all(|key| key.rsplit('/').next().unwrap().len() <= 200));
    let about: serde_json::Value = serde_json::from_slice(&world.open_object("archiver.json")).unwrap();
    assert!(about.is_object(), "{about}");

    let index = world.open_object(&format!("nas1/data/{pass}/index.json.zst.gpg"));
    let index = serde_json::from_slice::<serde_json::Value>(&index).unwrap()["index"].take();
    let pieces = index["pieces"].as_array().unwrap();
    let keys: Vec<&str> = pieces.iter().map(|piece| piece["key"].as_str().unwrap()).collect();
    assert_eq!(keys, done.pieces.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>());
    for (piece, (key, manifest)) in pieces.iter().zip(&done.pieces) {
        assert_eq!(piece["manifest_key"], World::manifest_key(key).as_str());
        for field in ["tar_size", "tar_sha256", "sealed_size", "sealed_sha256"] {
            assert_eq!(piece[field], manifest.head[field], "{key} {field}");
        }
        let sum = world.bash("sha256sum < \"$1\" | cut -d ' ' -f 1", &[world.vault.join(key)]);
        assert_eq!(piece["sealed_sha256"], sum.text().trim());
    }
    assert_eq!(index["counts"]["seen"], done.source.len());

    let tree = world.open_object(&format!("nas1/data/{pass}/tree.txt.xz.gpg"));
    assert_eq!(world.archiver(&["tree", "data"]).expect(0).stdout, tree);
    let sockets = done.source.values().filter(|seen| seen.kind == "s").count();
    assert_eq!(String::from_utf8(tree).unwrap().lines().count(), done.source.len() - sockets, "One line per entry");
}

#[test]
fn the_commands_tell_what_the_vault_holds() {
    let mut done = archive(World::nasty());
    done.every_piece_opens_alone();
    let world = &done.world;
    let archived = done.source.values().filter(|seen| seen.kind != "s").count();

    let (mut listed, rows) = (0, world.pieces());
    for (row, (key, manifest)) in rows.iter().zip(&done.pieces) {
        assert_eq!((&row["state"], &row["key"]), (&"delivered".into(), &key.as_str().into()));
        let seq = row["seq"].to_string();
        let members = world.archiver(&["ls", "data", &seq, "--json"]).expect(0).json_lines();
        assert_eq!(members, manifest.members, "{key}");
        listed += world.archiver(&["ls", &seq]).expect(0).text().lines().count();
    }
    assert_eq!(listed, archived, "`ls PIECE` has a line for every entry");
    assert_eq!(world.archiver(&["ls"]).expect(0).text().lines().count(), rows.len());

    let mut sums: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for (path, _) in done.source.iter().filter(|(_, seen)| seen.kind != "s") {
        *sums.entry(path.split(|b| *b == b'/').next().unwrap().to_vec()).or_default() += 1;
    }
    let collated = world.archiver(&["ls", "--collate", "1", "--json"]).expect(0).json_lines();
    assert_eq!(collated.len(), sums.len());
    let of = |name: &str| collated.iter().find(|line| line["path"] == name).unwrap();
    for name in ["names", "links", "meta", "sparse", "special"] {
        assert_eq!(of(name)["entries"], sums[name.as_bytes()], "{name}");
    }
    let bytes: u64 = ["all-hole", "end", "begin", "islands", "large"]
        .map(|name| done.source[format!("sparse/{name}").as_bytes()].size.parse::<u64>().unwrap())
        .iter()
        .sum();
    assert_eq!(of("sparse")["bytes"], bytes);

    let status = world.archiver(&["status", "--json"]).expect(0).json_lines().remove(0);
    let source = &status["sources"][0];
    assert_eq!((&source["state"], &status["running"]), (&"ended".into(), &false.into()));
    assert_eq!((&source["seen"], &source["archived"]), (&done.source.len().into(), &archived.into()));
    assert_eq!((&source["pieces"]["delivered"], &source["lost"]), (&rows.len().into(), &0.into()));

    let exceptions = world.exceptions();
    assert_eq!(exceptions.len(), 1, "{exceptions:?}");
    assert_eq!((&exceptions[0]["reason"], &exceptions[0]["severity"]), (&"socket".into(), &"info".into()));
    assert_eq!(path_of(&exceptions[0]), b"special/socket");

    let to = world.dir("decrypted");
    let mut args = vec!["decrypt".into(), "--to".into(), to.clone().into_os_string()];
    args.extend(done.pieces.iter().map(|(key, _)| world.vault.join(key).into_os_string()));
    let ran = world.archiver(&args).expect(0);
    for (made, tar) in ran.text().lines().zip(&done.tars) {
        assert!(fs::read(made).unwrap() == fs::read(tar).unwrap(), "{made} is not {tar:?}");
    }
    assert_eq!(fs::read_dir(to).unwrap().count(), done.tars.len());
}
