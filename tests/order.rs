//! Promises about order: paths are compared component by component, and no order of events makes an entry appear
//! twice or not at all.

mod common;

use common::{
    World, path_of, shown,
    snapshot::{differences, snapshot, told},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
};

/// `Photos` is larger than two pieces, and each of its siblings sorts next to it in another way when paths are
/// compared as strings. The files below `a` share the label that is made of their paths.
const TREE: &str = r#"
mkdir -p Photos/2019 'Photos (old)/2018' Photos-2019 Photos.bak Videos a/b
for i in 1 2 3 4 5; do
    head -c 400000 /dev/urandom > "Photos/2019/$i"
    head -c 300000 /dev/urandom > "Photos/z$i"
    head -c 50000 /dev/urandom > "Photos (old)/2018/$i"
    head -c 50000 /dev/urandom > "Photos-2019/$i"
    head -c 50000 /dev/urandom > "Photos.bak/$i"
    head -c 90000 /dev/urandom > "Videos/$i"
done
head -c 2200000 /dev/urandom > Photos/film
: > Photos! ; : > Photos0; : > 'Photos '
head -c 700000 /dev/urandom > a/b.c
head -c 700000 /dev/urandom > a/b/c
"#;

/// What every place of the program must agree with: names compared as bytes, a directory before what is in it.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    if path.is_empty() { Vec::new() } else { path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect() }
}

/// A file and how many segments it has, of which each member names one.
fn without_segment(member: &serde_json::Value) -> Vec<u8> {
    let mut path = path_of(member);
    if !member["segment"].is_null() {
        path.truncate(path.len() - "/000001".len());
    }
    path
}

fn is_whole(world: &World) {
    let source = snapshot(&world.source);
    let together = world.dir("together");
    let (mut walked, mut piece, mut segmented) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    let keys = world.keys();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "Keys are unique");
    for key in &keys {
        for member in world.manifest(key).members {
            if member["note"].as_str().is_some_and(|note| note.contains("ancestor")) {
                continue;
            }
            let path = without_segment(&member);
            let segment = &member["segment"];
            if !segment.is_null() {
                segmented.insert(path.clone());
            }
            if segment.is_null() || segment["index"] == segment["count"] {
                walked.push(path.clone());
            }
            piece.insert(path, key.clone());
        }
        world.open_piece_alone(key, &together);
    }
    for pair in walked.windows(2) {
        assert!(components(&pair[0]) < components(&pair[1]), "{} before {}", shown(&pair[0]), shown(&pair[1]));
    }
    assert_eq!(walked.len(), source.len());
    for file in segmented {
        world.join_segments(&together.join(common::os(&file)));
    }
    let paths = source.keys().cloned().collect();
    let found = differences(&source, &snapshot(&together), &paths, &piece);
    assert!(found.is_empty(), "{}", told(&found));
    let of = |path: &str| &piece[path.as_bytes()];
    assert_ne!(of("a/b.c"), of("a/b/c"));
}

/// Sums of all that is in the vault under a key.
fn sums(world: &World) -> BTreeSet<String> {
    let script = "cd \"$1\"; find . -name '*.tar.*' -not -path './.*' -type f -print0 | xargs -0 -r sha256sum";
    world.bash(script, &[&world.vault]).expect(0).text().lines().map(str::to_owned).collect()
}

#[test]
fn the_pieces_in_order_are_the_tree_in_order() {
    let world = World::new();
    world.fill(TREE);
    world.run_once().expect(0);
    is_whole(&world);
}

#[test]
fn a_kill_in_the_middle_of_a_directory_loses_and_repeats_nothing() {
    // While reading a file in the middle of it, while reading a segment, and while reading a sibling behind it.
    for file in ["Photos/2019/4", "Photos/film", "Photos-2019/2"] {
        let world = World::new();
        world.fill(TREE);
        let path = world.source.join(file);
        let kill = ["-P".as_ref(), path.as_os_str(), "-e".as_ref(), OsStr::new("inject=pread64:signal=KILL:when=1")];
        let killed = world.run_once_under_strace(&kill);
        assert_ne!(killed.code, 0, "{file}: {}", killed.stderr);
        let before = sums(&world);
        world.run_once().expect(0);
        assert!(before.is_subset(&sums(&world)), "{file}: what was delivered stays");
        is_whole(&world);
        assert_eq!(world.archiver(&["ls", "--all", "--json"]).json_lines().len(), world.keys().len());
    }
}
