//! What is left out: by rule, because it is our own, because it is mounted.

use super::common::{World, path_of};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A mount that goes with its value.
pub struct Mount(PathBuf);

impl Mount {
    pub fn tmpfs(at: &Path) -> Mount {
        Mount::of("tmpfs", at)
    }

    pub fn of(kind: &str, at: &Path) -> Mount {
        let mounted = Command::new("mount").args(["-t", kind, kind]).arg(at).status().unwrap();
        assert!(mounted.success());
        Mount(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// All members that are counted, and the sums of what the ranges say.
fn contents(world: &World) -> (BTreeSet<String>, Value) {
    let (mut members, mut seen, mut clean) = (BTreeSet::new(), 0, 0);
    let mut excluded = serde_json::Map::new();
    for key in world.keys() {
        let manifest = world.manifest(&key);
        let own = manifest.members.iter().filter(|member| member["note"] != "ancestor");
        members.extend(own.map(|member| String::from_utf8(path_of(member)).unwrap()));
        let counts = &manifest.range["counts"];
        seen += counts["seen"].as_u64().unwrap();
        clean += counts["clean"].as_u64().unwrap();
        for (rule, count) in counts["excluded"].as_object().into_iter().flatten() {
            let sum = excluded.get(rule).and_then(Value::as_u64).unwrap_or(0) + count.as_u64().unwrap();
            excluded.insert(rule.clone(), sum.into());
        }
    }
    (members, json!({ "seen": seen, "clean": clean, "excluded": excluded }))
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn what_a_rule_leaves_out_is_counted_under_the_rule() {
    let mut world = World::new();
    world.setup.source =
        "exclude = [\"*.tmp\", \"/scratch/\"]\ninclude = [\"keep.tmp\"]\nexclude_tag = \"NOBACKUP\"".to_owned();
    world.fill(
        "mkdir -p scratch/deep sub/scratch tagged/below; touch a.tmp keep.tmp sub/b.tmp sub/c scratch/deep/x sub/scratch/y \
         tagged/NOBACKUP tagged/1 tagged/2 tagged/below/3 name.tmpx",
    );
    world.run_once().expect(0);
    let (members, counts) = contents(&world);
    let kept =
        ["", "keep.tmp", "name.tmpx", "sub", "sub/c", "sub/scratch", "sub/scratch/y", "tagged", "tagged/NOBACKUP"];
    assert_eq!(members, names(kept));
    let excluded = json!({ "exclude \"*.tmp\"": 2, "exclude \"/scratch/\"": 1, "exclude_tag \"NOBACKUP\"": 3 });
    assert_eq!(counts, json!({ "seen": kept.len() + 6, "clean": kept.len(), "excluded": excluded }));
    let found = world.bash("find \"$1\" | wc -l", &[&world.source]).text().trim().parse::<usize>().unwrap();
    assert_eq!(found, kept.len() + 6 + 3, "Only what lies below an excluded directory is not seen");
    assert_eq!(world.exceptions(), [Value::Null; 0]);
}

#[test]
fn our_own_directories_are_left_out_of_a_source_and_only_they() {
    let mut world = World::new();
    world.fill("mkdir -p staging/tmp state vault; touch staging/tmp/theirs state/theirs vault/theirs");
    world.source = world.root.path().to_owned();
    world.run_once().expect(0);
    let (members, counts) = contents(&world);
    let kept = [
        "",
        "archiver.toml",
        "passphrase",
        "source",
        "source/staging",
        "source/staging/tmp",
        "source/staging/tmp/theirs",
        "source/state",
        "source/state/theirs",
        "source/vault",
        "source/vault/theirs",
    ];
    assert_eq!(members, names(kept));
    assert_eq!(counts["excluded"], json!({ "own": 3 }));
}

#[test]
fn a_mount_inside_is_left_out_with_one_file_system_and_that_is_told() {
    let mut world = World::new();
    world.fill("mkdir mnt; touch file mnt/hidden");
    let _mount = Mount::tmpfs(&world.source.join("mnt"));
    fs::write(world.source.join("mnt/inside"), "mounted").unwrap();
    world.setup.source = "one_file_system = true".to_owned();
    world.run_once().expect(0);
    assert_eq!(contents(&world).0, names(["", "file", "mnt"]));
    let exceptions = world.exceptions();
    assert_eq!(exceptions.len(), 1, "{exceptions:?}");
    assert_eq!(path_of(&exceptions[0]), b"mnt");
    assert_eq!((&exceptions[0]["reason"], &exceptions[0]["severity"]), (&"mount".into(), &"info".into()));
    world.setup.source = String::new();
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    assert_eq!(contents(&world).0, names(["", "file", "mnt", "mnt/inside"]));
    assert_eq!(world.exceptions(), [Value::Null; 0]);
}

#[test]
fn a_pseudo_filesystem_is_never_entered_and_that_is_told() {
    let world = World::new();
    world.fill("mkdir proc; touch file");
    let _mount = Mount::of("proc", &world.source.join("proc"));
    world.run_once().expect(0);
    assert_eq!(contents(&world).0, names(["", "file", "proc"]));
    assert_eq!(world.exceptions().len(), 1);
    assert_eq!(world.exceptions()[0]["reason"], "mount");
}
