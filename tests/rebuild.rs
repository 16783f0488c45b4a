//! Promises about what a vault tells when all else is gone: `rebuild`, `sync`, and `restore --from-vault`.

#![expect(clippy::disallowed_methods, reason = "these tests play the operator, from outside")]

mod common;

use common::{Ran, World, snapshot::snapshot};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

const MANIFESTS: &str = "find \"$1\" -name '*.manifest.jsonl.zst*'";
const INDEX: &str = "find \"$1\" -name 'index.json.zst*'";

/// All kinds of entries, a file larger than a piece among them, in several pieces.
fn archived(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::nasty();
    world.fill("rm special/socket; head -c 2500000 /dev/urandom >zz-large; touch -d 2004-05-06 zz-large .");
    change(&mut world);
    world.run_once().expect_one_of(&[0, 3]);
    assert!(world.keys().len() >= 5);
    world
}

trait ExpectOneOf {
    fn expect_one_of(self, codes: &[i32]) -> Self;
}

impl ExpectOneOf for Ran {
    #[track_caller]
    fn expect_one_of(self, codes: &[i32]) -> Ran {
        assert!(codes.contains(&self.code), "{}: {}", self.code, self.stderr);
        self
    }
}

/// This machine is another one.
fn lose_the_host(world: &World) {
    for dir in [&world.state, &world.staging] {
        fs::remove_dir_all(dir).unwrap();
    }
}

fn remove_from_vault(world: &World, find: &str) {
    world.bash(&format!("{find} -delete"), &[&world.vault]).expect(0);
}

fn back(world: &World, name: &str, args: &[&str]) -> (Ran, PathBuf) {
    let to = world.root.path().join(name);
    let ran = world.archiver(&[&["restore", "/", "--yes", "--json", "--to", to.to_str().unwrap()], args].concat());
    (ran, to)
}

fn outcome(ran: &Ran) -> Value {
    ran.json_lines().pop().unwrap()["outcome"].take()
}

/// Everything that the source has, but for what is not archived, has come back as it was.
fn is_back(world: &World, to: &Path) {
    let (was, is) = (snapshot(&world.source), snapshot(to));
    let missing: Vec<_> = was.keys().filter(|path| !is.contains_key(*path)).map(|path| common::shown(path)).collect();
    let more: Vec<_> = is.keys().filter(|path| !was.contains_key(*path)).map(|path| common::shown(path)).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing: {missing:?}, more: {more:?}");
    for (path, was) in was {
        let is = &is[&path];
        let of = |seen: &common::snapshot::Seen| {
            (seen.kind.clone(), seen.mode.clone(), seen.owner.clone(), seen.content.clone())
        };
        assert_eq!(of(&was), of(is), "{}", common::shown(&path));
    }
}

/// Files that came back as directories of their segments become files.
fn join_segments(world: &World, to: &Path) {
    let was = snapshot(&world.source);
    let mut joined = 0;
    for path in was.keys() {
        let (was, is) = (world.source.join(common::os(path)), to.join(common::os(path)));
        if is.is_dir() && was.is_file() {
            world.join_segments(&is);
            joined += 1;
        }
    }
    assert!(joined > 0);
}

/// What `ls --all --json` tells, without what only the first catalog can know.
fn pieces(world: &World) -> Vec<Value> {
    world.archiver(&["ls", "data", "--all", "--json"]).expect(0).json_lines()
}

#[test]
fn a_catalog_is_made_anew_of_the_vault_alone_and_says_the_same() {
    for opaque in [false, true] {
        let world = archived(|world| {
            if opaque {
                "names = \"opaque\"".clone_into(&mut world.setup.vault);
            }
        });
        let (before, exceptions) = (pieces(&world), world.exceptions());
        let members = |seq: &str| world.archiver(&["ls", "data", seq, "--json"]).expect(0).json_lines();
        let second = members("2");
        lose_the_host(&world);
        let ran = world.archiver(&["rebuild", "--json"]).expect(0);
        let lines = ran.json_lines();
        assert!(lines.iter().all(|line| line["finding"].is_null()), "{lines:?}");
        assert_eq!(lines[0]["pass"]["derived"]["manifest"], before.len());
        assert_eq!(pieces(&world), before);
        assert_eq!(world.exceptions(), exceptions);
        assert_eq!(members("2"), second);
        world.archiver(&["verify", "--vault", "--deep", "100", "--yes"]).expect(0);
        let (ran, to) = back(&world, "back", &[]);
        ran.expect(0);
        is_back(&world, &to);
        // It has a copy to go back to, of files larger than a piece as well.
        world.bash("rm \"$1\"/catalog.sqlite", &[&world.state]).expect(0);
        world.archiver(&["run", "--once"]).expect_one_of(&[0, 3]);
        assert_eq!(pieces(&world), before);
        // The work goes on from there, in the same vault and by the same names.
        world.fill("echo new >new");
        world.archiver(&["run", "--once", "--pass-now", "data"]).expect_one_of(&[0, 3]);
        let all = pieces(&world);
        assert!(all.len() > before.len());
        let dir = |line: &Value| line["key"].as_str().unwrap().rsplitn(3, '/').nth(2).unwrap().to_owned();
        assert!(all.iter().all(|line| dir(line) == dir(&before[0])), "{all:?}");
        world.archiver(&["sync"]).expect(0);
    }
}

#[test]
fn whatever_is_gone_the_data_come_back_and_it_is_said_what_told_of_them() {
    for (name, gone, by) in [
        ("index", vec![INDEX], "manifest"),
        ("manifests", vec![MANIFESTS], "index"),
        ("some", vec!["find \"$1\" -name '00000[246]*.manifest.jsonl.zst*'"], "index"),
        ("all", vec![INDEX, MANIFESTS], "metadata"),
        ("opaque", vec![INDEX, MANIFESTS], "nothing"),
    ] {
        let world = archived(|world| {
            if name == "opaque" {
                "names = \"opaque\"".clone_into(&mut world.setup.vault);
            }
        });
        let pieces = world.keys().len();
        for find in gone {
            remove_from_vault(&world, find);
        }
        // The catalog of this host alone: manifests are here as well, or not.
        let (ran, to) = back(&world, "with-catalog", &[]);
        ran.expect(0);
        is_back(&world, &to);
        fs::remove_dir_all(world.state.join("manifests")).unwrap();
        let (ran, to) = back(&world, "without-manifests", &[]);
        ran.expect(0);
        is_back(&world, &to);
        lose_the_host(&world);
        let (ran, to) = back(&world, "from-vault", &["--from-vault"]);
        assert!(name == "index" || ran.stderr.contains("no manifest"), "{}", ran.stderr);
        assert!(!["index", "all", "opaque"].contains(&name) || ran.stderr.contains("no index"), "{}", ran.stderr);
        let ran = ran.expect(0);
        if ["all", "opaque"].contains(&name) {
            assert_eq!(outcome(&ran)["pieces_derived"], pieces);
            // Nothing but its manifest says of which file a segment is a part.
            join_segments(&world, &to);
        }
        is_back(&world, &to);
        let lines = world.archiver(&["rebuild", "--json"]).expect(0).json_lines();
        let told = lines.iter().find(|line| line["pass"].is_object()).unwrap();
        assert!(told["pass"]["derived"][by].as_u64().unwrap() > 0, "{name}: {told}");
        let (ran, to) = back(&world, "rebuilt", &[]);
        ran.expect(0);
        if ["all", "opaque"].contains(&name) {
            join_segments(&world, &to);
        }
        is_back(&world, &to);
    }
}

#[test]
fn one_file_comes_back_from_the_vault_alone() {
    let world = archived(|_| ());
    lose_the_host(&world);
    let to = world.root.path().join("back");
    let to_arg = to.to_str().unwrap();
    let ran = world.archiver(&["restore", "zz-large", "--from-vault", "--yes", "--json", "--to", to_arg]).expect(0);
    assert_eq!(outcome(&ran)["came"], 1);
    world.bash("cmp \"$1/zz-large\" \"$2/zz-large\"", &[&to, &world.source]).expect(0);
    let ran = world.archiver(&["restore", "none", "--from-vault", "--yes", "--to", to_arg]).expect(1);
    assert!(ran.stderr.contains("none: nothing of that name"), "{}", ran.stderr);
}

#[test]
fn a_pass_that_was_cut_off_goes_on_from_a_new_catalog() {
    // Pieces of small files, then six segments of a large one, then two more.
    for cut in ["0000002", "0000001 0000003", "0000004", "0000005", "0000007", "0000010", "0000004 0000007 0000011"] {
        let mut world = World::new();
        world.fill(
            "for d in a b c d; do mkdir $d; for n in 1 2; do head -c 400000 /dev/urandom >$d/$n; done; done
             head -c 5000000 /dev/urandom >large; mkdir z; head -c 600000 /dev/urandom >z/1; head -c 600000 /dev/urandom >z/2",
        );
        world.run_once().expect(0);
        let whole = world.keys().len();
        assert!(whole >= 11, "{:?}", world.keys());
        // As a host leaves it that was lost in the middle.
        remove_from_vault(&world, INDEX);
        remove_from_vault(&world, "find \"$1\" -name 'tree.txt*'");
        for seq in cut.split(' ').map(|seq| &seq[1..]).chain([&*format!("{whole:06}")]) {
            remove_from_vault(&world, &format!("find \"$1\" -path '*/{seq}-*'"));
        }
        lose_the_host(&world);
        let ran = world.archiver(&["rebuild", "--json"]).expect(0);
        let lines = ran.json_lines();
        assert!(
            lines.iter().any(|line| ["gap", "segments"].contains(&line["finding"].as_str().unwrap_or(""))),
            "{lines:?}"
        );
        assert_eq!(lines.last().unwrap()["pass"]["ended"], false);
        "repeat = \"90d\"".clone_into(&mut world.setup.source);
        world.run_once().expect(0);
        let passes: Vec<Value> = pieces(&world).iter().map(|piece| piece["pass"].clone()).collect();
        assert!(passes.iter().all(|pass| *pass == passes[0]), "the same pass");
        world.bash(&format!("test -n \"$({INDEX})\""), &[&world.vault]).expect(0);
        let entries = world.archiver(&["tree", "data", "--json"]).expect(0).json_lines();
        let mut paths: Vec<_> = entries.iter().map(common::path_of).collect();
        paths.sort();
        let all = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), all, "nothing twice after {cut}");
        let (ran, to) = back(&world, "back", &[]);
        ran.expect(0);
        is_back(&world, &to);
    }
}

#[test]
fn what_lies_in_the_place_of_another_is_not_believed() {
    let world = archived(|_| ());
    let keys = world.keys();
    let copy = |from: &str, to: &str| fs::copy(world.vault.join(from), world.vault.join(to)).unwrap();
    // The manifest of another piece.
    copy(&World::manifest_key(&keys[2]), &World::manifest_key(&keys[1]));
    // What nobody could number.
    copy(&keys[0], &format!("{}/4294967295-x.tar.xz.gpg", keys[0].rsplit_once('/').unwrap().0));
    let second = || world.archiver(&["run", "--once", "--pass-now", "data"]).expect_one_of(&[0, 3]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    second();
    let other = world.keys()[0].rsplit_once('/').unwrap().0.to_owned();
    let first = keys[0].rsplit_once('/').unwrap().0.to_owned();
    // The index of another pass, and a copy of a whole one.
    copy(&format!("{other}/index.json.zst.gpg"), &format!("{first}/index.json.zst.gpg"));
    world.bash("cp -r \"$1/nas1/data\" \"$1/nas1/data-old\"", &[&world.vault]).expect(0);
    lose_the_host(&world);
    let pass = first.rsplit_once('/').unwrap().1;
    for name in ["one", "two"] {
        let (ran, to) = back(&world, name, &["--from-vault", "--pass", pass]);
        assert!(ran.stderr.contains("no index (it is that of the pass"), "{}", ran.stderr);
        assert!(name == "two" || ran.stderr.contains("it is not the manifest of"), "{}", ran.stderr);
        ran.expect(0);
        is_back(&world, &to);
    }
    let lines = world.archiver(&["rebuild", "--json"]).expect(0).json_lines();
    // Of the copied one nothing is where its manifests say.
    let is_of =
        |line: &&Value, kind: &str| line["finding"] == kind && !line["what"].as_str().unwrap().contains("data-old/");
    let count = |kind: &str| lines.iter().filter(|line| is_of(line, kind)).count();
    assert_eq!((count("stranger"), count("no-manifest"), count("no-index"), count("gap")), (1, 1, 1, 0), "{lines:?}");
    let (ran, to) = back(&world, "rebuilt", &["--pass", pass]);
    ran.expect(0);
    is_back(&world, &to);
}

#[test]
fn passes_of_another_host_are_nobody_elses() {
    let mut world = archived(|_| ());
    "host = \"nas2\"".clone_into(&mut world.setup.vault);
    let config = world.config();
    let text = fs::read_to_string(&config).unwrap().replace("host = \"nas1\"\n", "");
    lose_the_host(&world);
    let run = |args: &str| {
        let script = format!("\"$1\" --config \"$2\" {args}");
        fs::write(&config, &text).unwrap();
        world.bash(&script, &[Path::new(common::BINARY), &config])
    };
    let ran = run("rebuild");
    assert!(ran.code == 2 && ran.stderr.contains("--host"), "{}", ran.stderr);
    run("run --once").expect_one_of(&[0, 3]);
    run("sync --repair").expect(0);
    assert_eq!(run("ls data --all --json").json_lines().iter().filter(|line| line["state"] != "delivered").count(), 0);
    assert!(run("ls data --all --json").text().lines().all(|line| line.contains("nas2/")));
}

#[test]
fn restores_outlive_a_new_catalog_and_a_damaged_one() {
    let world = archived(|_| ());
    let key = world.keys()[1].clone();
    // One that is open: it may not go where it went.
    let (ran, to) = back(&world, "back", &[]);
    ran.expect(0);
    let jobs = || world.archiver(&["restore", "--list", "--json"]).expect(0).json_lines();
    let before = jobs();
    world.archiver(&["rebuild", "--yes"]).expect(0);
    assert_eq!(jobs(), before);
    let (ran, _) = back(&world, "other", &["--from-vault"]);
    ran.expect(0);
    assert_eq!(jobs().len(), 2);
    fs::write(world.state.join("catalog.sqlite"), "no catalog").unwrap();
    assert_eq!(jobs().len(), 1, "That of the vault is told all the same");
    // And the other way round: what was made of the vault can be made again.
    world.archiver(&["rebuild"]).expect(0);
    fs::write(world.state.join("restore/from-vault/catalog.sqlite"), "no catalog").unwrap();
    fs::write(world.state.join("restore/from-vault/catalog.sqlite-wal"), "no log").unwrap();
    let (ran, third) = back(&world, "third", &["--from-vault"]);
    ran.expect(0);
    is_back(&world, &third);
    is_back(&world, &to);
    assert!(world.vault.join(key).exists());
}

#[test]
fn a_good_catalog_is_not_replaced_without_asking_and_never_thrown_away() {
    let world = archived(|_| ());
    let ran = world.archiver(&["rebuild"]).expect(2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    let before = pieces(&world);
    let sum = |file: &Path| world.bash("sha256sum <\"$1\"", &[file]).text();
    let dry = sum(&world.state.join("catalog.sqlite"));
    world.archiver(&["rebuild", "--dry-run"]).expect(0);
    assert_eq!(sum(&world.state.join("catalog.sqlite")), dry);
    world.archiver(&["rebuild", "--yes"]).expect(0);
    assert_eq!(pieces(&world), before);
    world.bash("ls \"$1\"/catalog.sqlite.replaced-*", &[&world.state]).expect(0);
    // A damaged one need not be asked for.
    fs::write(world.state.join("catalog.sqlite"), "no catalog").unwrap();
    world.archiver(&["rebuild"]).expect(0);
    assert_eq!(pieces(&world), before);
}

#[test]
fn catalog_and_vault_are_held_against_each_other_both_ways() {
    let world = archived(|_| ());
    world.archiver(&["sync"]).expect(0);
    let key = world.keys()[1].clone();
    let differences = || {
        let lines = world.archiver(&["sync", "--json"]).json_lines();
        lines.iter().map(|line| format!("{} {}", line["difference"], line["key"]).replace('"', "")).collect::<Vec<_>>()
    };
    let object = world.vault.join(&key);
    let aside = world.root.path().join("aside");
    fs::rename(&object, &aside).unwrap();
    assert_eq!(differences(), [format!("missing {key}")]);
    world.bash("head -c -100 \"$1\" >\"$2\"", &[&aside, &object]).expect(0);
    assert_eq!(differences(), [format!("size {key}")]);
    fs::rename(&aside, &object).unwrap();
    let dir = object.parent().unwrap();
    fs::copy(&object, dir.join("000099-x.tar.xz.gpg")).unwrap();
    assert_eq!(differences(), [format!("unknown {}/000099-x.tar.xz.gpg", key.rsplit_once('/').unwrap().0)]);
    fs::remove_file(dir.join("000099-x.tar.xz.gpg")).unwrap();
    // A pass that an older catalog does not know is taken into it.
    let old = world.root.path().join("old.sqlite");
    fs::copy(world.state.join("catalog.sqlite"), &old).unwrap();
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect_one_of(&[0, 3]);
    let all = pieces(&world);
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(world.state.join(format!("catalog.sqlite{end}")));
    }
    fs::copy(&old, world.state.join("catalog.sqlite")).unwrap();
    assert!(differences()[0].starts_with("unknown-pass "), "{:?}", differences());
    world.archiver(&["sync", "--repair"]).expect(0);
    assert_eq!(differences(), [""; 0]);
    assert_eq!(pieces(&world), all);
}
