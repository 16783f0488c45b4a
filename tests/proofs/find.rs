//! What `archiver find` finds, and what it does not read.

use super::{common::*, local_manifest};
use serde_json::Value;
use std::{collections::BTreeSet, ffi::OsString, fs, path::Path};

fn find(world: &World, args: &[&str]) -> Ran {
    world.archiver(&[&["find", "--json"], args].concat())
}

fn paths(ran: &Ran) -> Vec<Vec<u8>> {
    ran.json_lines().iter().map(path_of).collect()
}

/// Eight files in two directories: three pieces at least.
fn archived() -> World {
    let world = World::new();
    world.fill(
        "mkdir -p a/deep b; for i in 1 2 3 4; do head -c 400000 /dev/urandom >a/deep/$i; head -c 400000 /dev/urandom >b/$i; done",
    );
    world.run_once().expect(0);
    assert!(world.keys().len() >= 3);
    world
}

/// A vault that cannot be reached.
fn away(world: &mut World) {
    world.setup.url = Some(format!("file://{}/away", world.root.path().display()));
}

#[test]
fn names_and_paths_are_found_as_find_finds_them() {
    let world = World::nasty_and_large();
    world.run_once();
    // A pattern of ours, and what says the same to the stock tool.
    for (pattern, theirs) in [
        ("*", "-mindepth 1"),
        ("*a*", "-name '*a*'"),
        ("?", "-regextype posix-extended -regex '(.*/)?[^/]' -mindepth 1"),
        ("[a-f]*", "-name '[a-f]*' -mindepth 1"),
        ("/*", "-mindepth 1 -maxdepth 1"),
        ("/*/*", "-mindepth 2 -maxdepth 2"),
        ("*/", "-mindepth 1 -type d"),
        ("**", "-mindepth 1"),
        ("/", "-maxdepth 0"),
    ] {
        let script = "cd \"$1\"; find . $2 ! -type s -printf '%P\\0'";
        let script = script.replace("$2", theirs);
        let told = world.bash(&format!("export LC_ALL=C.UTF-8; {script}"), &[&world.source]).expect(0).stdout;
        let mut expected: BTreeSet<Vec<u8>> = told.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        if !theirs.contains("maxdepth 0") {
            expected.remove(&b""[..]);
        }
        let ran = find(&world, &[pattern]).expect(0);
        let mut lines = ran.json_lines();
        lines.retain(|line| line["segment"].is_null() || line["segment"]["index"] == 1);
        let found: BTreeSet<Vec<u8>> = lines.iter().map(path_of).collect();
        assert_eq!(found.len(), lines.len(), "{pattern}: each has one line");
        let shown = |paths: &BTreeSet<Vec<u8>>| paths.iter().map(|path| shown(path)).collect::<Vec<_>>();
        let (more, less) = (&found - &expected, &expected - &found);
        assert!(more.is_empty() && less.is_empty(), "{pattern}: {:?} {:?}", shown(&more), shown(&less));
        assert!(!found.is_empty(), "{pattern}");
    }
}

#[test]
fn every_name_finds_itself_in_the_piece_that_holds_it() {
    let world = World::nasty();
    world.run_once();
    let mut seen = 0;
    for key in world.keys() {
        let manifest = world.manifest(&key);
        for (path, member) in manifest.by_path() {
            let is_counted = member["note"].as_str().is_none_or(|note| !note.contains("ancestor"));
            if !is_counted || member["segment"].is_object() || path.len() > 3000 {
                continue;
            }
            let args = ["find", "--json"].map(OsString::from).into_iter().chain([os(&[b"/", &*path].concat())]);
            let ran = world.archiver(&args.collect::<Vec<_>>()).expect(0);
            let lines = ran.json_lines();
            let line = lines.iter().find(|line| path_of(line) == path).unwrap_or_else(|| panic!("{}", shown(&path)));
            assert_eq!(line["key"], key.as_str(), "{}", shown(&path));
            assert_eq!(
                [&line["type"], &line["size"], &line["mtime"]],
                [&member["type"], &member["size"], &member["mtime"]]
            );
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn lines_name_piece_and_path_and_a_file_in_parts_has_a_line_for_each() {
    let mut world = archived();
    world.fill("head -c 2500000 /dev/urandom >b/large");
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    let ran = world.archiver(&["find", "b/large"]).expect(0);
    let lines: Vec<String> = ran.text().lines().map(str::to_owned).collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for (at, line) in lines.iter().enumerate() {
        assert!(line.ends_with(&format!("  b/large part {} of {}", at + 1, lines.len())), "{line}");
    }
    let parts: Vec<Value> = find(&world, &["large"]).expect(0).json_lines();
    assert!(parts.iter().all(|part| part["size"] == 2_500_000 && part["path"] == "b/large"));
    let keys = parts.iter().map(|part| part["key"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(keys.len(), lines.len());
    // Of two passes the newest comes first; the first has no such file.
    let all = find(&world, &["b/1", "large", "--all"]).expect(0).json_lines();
    let passes: Vec<&str> = all.iter().map(|line| line["pass"].as_str().unwrap()).collect();
    assert!(passes.is_sorted_by(|a, b| a >= b) && passes[0] != passes[passes.len() - 1], "{passes:?}");
    let first = passes[passes.len() - 1];
    find(&world, &["large", "--pass", first]).expect(1);
    find(&world, &["b/1", "--pass", first]).expect(0);
    away(&mut world);
    find(&world, &["b/1"]).expect(0);
}

#[test]
fn nothing_is_found_with_1_and_what_leads_outside_is_a_mistake() {
    let world = archived();
    assert_eq!(find(&world, &["none"]).expect(1).text(), "");
    assert_eq!(find(&world, &["a/deep/1/x", "/deep", "a/*/1/"]).expect(1).text(), "");
    find(&world, &["../x"]).expect(2);
    find(&world, &[]).expect(2);
    let both = find(&world, &["none", "*/deep/1"]).expect(0);
    assert_eq!(paths(&both), [b"a/deep/1"]);
}

#[test]
fn a_manifest_that_cannot_hold_it_is_not_read() {
    let mut world = archived();
    let of = |path: &str| find(&world, &[path]).json_lines()[0]["seq"].as_u64().unwrap();
    let (first, last) = (of("a/deep/1"), of("b/4"));
    assert!(first < last);
    for seq in 1..=world.keys().len() as u64 {
        if seq != last {
            fs::remove_file(local_manifest(&world, seq as u32)).unwrap();
        }
    }
    away(&mut world);
    for pattern in ["b/4", "/b/4"] {
        assert_eq!(paths(&find(&world, &[pattern]).expect(0)), [b"b/4"], "{pattern}");
    }
    for pattern in ["a/deep/1", "4", "b/*"] {
        find(&world, &[pattern]).expect(4);
    }
}

#[test]
fn what_is_lost_here_is_fetched_once_for_all_commands() {
    let mut world = archived();
    let listed = world.archiver(&["ls", "data", "1", "--json"]).expect(0).text();
    let tree = world.archiver(&["tree"]).expect(0).text();
    fs::remove_dir_all(world.state.join("manifests")).unwrap();
    let ran = world.archiver(&["ls", "data", "1", "--json"]).expect(0);
    assert_eq!((ran.text(), ran.stderr.as_str()), (listed, ""));
    assert_eq!(world.archiver(&["tree"]).expect(0).text(), tree);
    assert_eq!(paths(&find(&world, &["4"]).expect(0)), [&b"a/deep/4"[..], b"b/4"]);
    // Clear manifests stay in the directory of restores, and not in the vault's stead.
    away(&mut world);
    find(&world, &["4"]).expect(4);
}

/// Flips a byte there, from the end.
fn damage(world: &World, file: &Path, from_end: u64) {
    let at = fs::metadata(file).unwrap().len() - from_end;
    let script = "b=$(od -An -tu1 -j $2 -N 1 \"$1\"); printf \\\\x$(printf %x $((b ^ 255))) | \
                  dd of=\"$1\" bs=1 seek=$2 conv=notrunc status=none";
    world.bash(script, &[file.as_os_str(), at.to_string().as_ref()]).expect(0);
}

#[test]
fn a_manifest_is_read_no_further_than_the_path_can_be() {
    let mut world = World::new();
    "16MiB".clone_into(&mut world.setup.max_size);
    "80MiB".clone_into(&mut world.setup.cap);
    world.fill("mkdir a b; for n in $(seq 10000 11500); do echo $n >a/$n-$RANDOM; echo >b/$n-$RANDOM$RANDOM; done");
    world.run_once().expect(0);
    let whole = |seq: u32| fs::metadata(local_manifest(&world, seq)).unwrap().len();
    let largest = (1..=world.keys().len() as u32).max_by_key(|seq| whole(*seq)).unwrap();
    let members = world.archiver(&["ls", "data", &largest.to_string(), "--json"]).expect(0).json_lines();
    let counted: Vec<String> = members
        .iter()
        .filter(|line| line["type"] == "file")
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    assert!(counted.len() > 1000);
    damage(&world, &local_manifest(&world, largest), 100);
    let (early, late) = (&counted[3], &counted[counted.len() - 1]);
    let ran = find(&world, &[early]).expect(0);
    assert_eq!((paths(&ran), ran.stderr.as_str()), (vec![early.as_bytes().to_vec()], ""));
    // What lies behind the damage comes from the vault, and nothing comes twice.
    let ran = find(&world, &[late]).expect(0);
    assert_eq!(paths(&ran), [late.as_bytes()]);
    assert!(ran.stderr.contains("it is fetched again"), "{}", ran.stderr);
    let again = world.archiver(&["ls", "data", &largest.to_string(), "--json"]).expect(0).json_lines();
    assert_eq!(again, members);
}

#[test]
fn what_is_not_sealed_yet_is_told() {
    let world = archived();
    let script = "python3 -c '
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db: db.execute(\"UPDATE piece SET state = \\x27packed\\x27 WHERE seq = 1\")
' \"$1\"";
    world.bash(script, &[world.state.join("catalog.sqlite")]).expect(0);
    let ran = find(&world, &["a/deep/1"]).expect(1);
    assert!(ran.stderr.contains("1 pieces that are not sealed yet were not looked through"), "{}", ran.stderr);
    find(&world, &["b/4"]).expect(0);
}
