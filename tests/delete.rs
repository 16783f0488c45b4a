//! Promises about `archiver delete`: what goes, what stays, and what is refused. What a bucket adds to that is in
//! `s3/delete.rs`.

#![expect(clippy::disallowed_methods, reason = "these tests play the operator, from outside")]

mod common;

use common::{BINARY, Ran, World};
use serde_json::Value;
use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

fn delete(world: &World, args: &[&str]) -> Ran {
    world.archiver(&[&["delete", "--yes"], args].concat())
}

/// Passes of the source, the newest first, as `ls --all` tells of their pieces.
fn passes(world: &World) -> Vec<String> {
    let rows = world.archiver(&["ls", "data", "--all", "--json"]).expect(0).json_lines();
    let mut passes: Vec<String> = rows.iter().map(|row| row["pass"].as_str().unwrap().to_owned()).collect();
    passes.dedup();
    passes
}

/// Two passes of three pieces or more, the older of which is superseded. Gives their ids, the older first.
fn twice() -> (World, String, String) {
    let world = World::new();
    world.fill(
        "mkdir a b; for i in 1 2 3 4; do head -c 400000 /dev/urandom >a/$i; head -c 400000 /dev/urandom >b/$i; done",
    );
    world.run_once().expect(0);
    // A pass is named by the second in which it began.
    thread::sleep(Duration::from_millis(1_100));
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    let passes = passes(&world);
    assert_eq!(passes.len(), 2);
    (world, passes[1].clone(), passes[0].clone())
}

fn objects_of(world: &World, pass: &str) -> Vec<String> {
    world.objects().into_iter().filter(|key| key.contains(pass)).collect()
}

/// Rows of the catalog or of its copy, counted by Python.
fn count(world: &World, file: &str, condition: &str) -> String {
    let script = "python3 -c 'import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])' \
                  \"$1\" \"SELECT count(*) FROM $2\"";
    let file = world.state.join(file);
    world.bash(script, &[file.as_os_str(), condition.as_ref()]).expect(0).text().trim().to_owned()
}

fn change(world: &World, sql: &str) {
    let script =
        "python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()' \"$@\"";
    world.bash(script, &[world.state.join("catalog.sqlite").as_os_str(), sql.as_ref()]).expect(0);
}

fn comes_back(world: &World, name: &str) {
    let to = world.root.path().join(name);
    world.archiver(&["restore", "/", "--yes", "--to", to.to_str().unwrap()]).expect(0);
    world.bash("diff -r \"$1\" \"$2\"", &[&world.source, &to]).expect(0);
}

#[test]
fn a_superseded_pass_goes_with_all_that_is_of_it() {
    let (world, old, new) = twice();
    let before = objects_of(&world, &new);
    assert!(objects_of(&world, &old).len() > 7);
    let ran = delete(&world, &["--pass", &old, "--json"]).expect(0);
    let lines = ran.json_lines();
    let (plan, outcome) = (&lines[0]["plan"], &lines[1]["outcome"]);
    assert_eq!((&plan["passes"][0]["whole"], &plan["in_the_way"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(plan["objects"], outcome["objects"]);
    assert_eq!(objects_of(&world, &old), [""; 0]);
    assert_eq!(objects_of(&world, &new), before);
    assert_eq!(passes(&world), [new.as_str()]);
    // Neither a record, nor what the vault knew of an object, nor an empty directory is left, and no copy remembers it.
    let left = world
        .bash("find \"$1\" \"$2\" -path \"*$3*\"", &[world.state.as_os_str(), world.vault.as_os_str(), old.as_ref()]);
    assert_eq!(left.text(), "");
    for file in ["catalog.sqlite", "catalog.sqlite.copy"] {
        for table in ["pass", "piece", "exception", "proof"] {
            assert_eq!(count(&world, file, &format!("{table} WHERE pass = '{old}'")), "0", "{file} {table}");
        }
    }
    comes_back(&world, "back");
    // The next start finds nothing that it does not understand.
    thread::sleep(Duration::from_millis(1_100));
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    delete(&world, &["--pass", &old]).expect(2);
}

#[test]
fn what_nothing_supersedes_goes_by_force_alone() {
    let (world, old, new) = twice();
    let all = world.objects();
    let ran = delete(&world, &["--pass", &new]).expect(1);
    assert!(ran.stderr.contains(&format!("nothing supersedes the pass {new}")) && ran.stderr.contains("--force"));
    // Nothing at all goes when one thing may not.
    for args in [&["--pass", &old, &new][..], &["--all-of-source"], &["--piece", &world.keys()[0]]] {
        let ran = delete(&world, args).expect(1);
        assert!(ran.stderr.contains("Nothing is removed"), "{}", ran.stderr);
        assert_eq!(world.objects(), all);
    }
    // What supersedes must be in the vault, and whole, and have lost no more.
    let index = objects_of(&world, &new).into_iter().find(|key| key.contains("index.json")).unwrap();
    fs::rename(world.vault.join(&index), world.root.path().join("index")).unwrap();
    assert!(delete(&world, &["--pass", &old]).expect(1).stderr.contains("the index of"));
    fs::rename(world.root.path().join("index"), world.vault.join(&index)).unwrap();
    let lost = |pass: &str, path: u8| {
        format!(
            "INSERT INTO exception VALUES ('data', '{pass}', x'{path:x}', 2, {path}, 'denied', 13, 'Permission denied')"
        )
    };
    // As many are lost in each, but not the same.
    change(&world, &lost(&new, b'a'));
    change(&world, &lost(&old, b'b'));
    assert!(delete(&world, &["--pass", &old]).expect(1).stderr.contains("lacks a, which was archived before"));
    change(&world, "DELETE FROM exception");
    delete(&world, &["--piece", &world.keys()[0], "--force"]).expect(0);
    assert!(delete(&world, &["--pass", &old]).expect(1).stderr.contains("pieces were removed"));
    assert!(!objects_of(&world, &old).is_empty());

    delete(&world, &["--all-of-source", "--force"]).expect(0);
    assert_eq!(world.objects(), ["archiver.json"]);
    // The newest pass is remembered, since it says when the next is due; it is one of nothing.
    assert_eq!(
        (count(&world, "catalog.sqlite", "pass"), count(&world, "catalog.sqlite", "piece")),
        ("1".into(), "0".into())
    );
    world.run_once().expect(0);
    assert_eq!(world.objects(), ["archiver.json"], "no pass is due");
    let to = world.root.path().join("nothing");
    let restore = ["restore", "/", "--yes", "--to", to.to_str().unwrap()];
    for args in [&["status"][..], &["ls"], &["exceptions"], &["plan"], &["tree", "data"], &["recovery-sheet"], &restore]
    {
        let ran = world.archiver(args);
        assert!([0, 1].contains(&ran.code) && !ran.stderr.contains("panicked"), "{args:?}: {}", ran.stderr);
    }
    thread::sleep(Duration::from_millis(1_100));
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    comes_back(&world, "back");
    delete(&world, &["--pass", &new]).expect(0);
    assert_eq!(count(&world, "catalog.sqlite", "pass"), "1");
}

#[test]
fn a_piece_is_named_in_every_way_and_no_other_goes() {
    let (world, old, new) = twice();
    let rows = world.archiver(&["ls", "data", "--pass", &old, "--json"]).expect(0).json_lines();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let ran = delete(&world, &["--piece", "2"]).expect(2);
    assert!(ran.stderr.contains(&old) && ran.stderr.contains(&new), "{}", ran.stderr);
    let full = format!("data.{old}.{}", text(&rows[1], "name"));
    let ran = delete(&world, &["--piece", &text(&rows[0], "key"), &full]).expect(0);
    assert!(ran.stderr.contains("its index in the vault still names them"), "{}", ran.stderr);
    let left = objects_of(&world, &old);
    for row in &rows[..2] {
        let (key, manifest) = (text(row, "key"), text(row, "manifest_key"));
        assert!(!left.contains(&key) && !left.contains(&manifest));
    }
    let ends = |end: &str| left.iter().filter(|key| key.ends_with(end)).count();
    assert_eq!(
        (ends(".tar.xz.gpg"), ends(".jsonl.zst.gpg"), ends("index.json.zst.gpg")),
        (rows.len() - 2, rows.len() - 2, 1)
    );
    assert_eq!(world.archiver(&["ls", "data", "--pass", &old, "--json"]).expect(0).json_lines().len(), rows.len() - 2);
    assert_eq!(count(&world, "catalog.sqlite", &format!("piece WHERE pass = '{new}'")), rows.len().to_string());
    // With its last pieces the pass goes, the index first.
    let rest: Vec<String> = rows[2..].iter().map(|row| text(row, "key")).collect();
    let args: Vec<&str> = ["--piece"].into_iter().chain(rest.iter().map(String::as_str)).collect();
    delete(&world, &args).expect(0);
    assert_eq!((objects_of(&world, &old), passes(&world)), (Vec::new(), vec![new]));
    let ran = delete(&world, &["--piece", "999"]).expect(2);
    assert!(ran.stderr.contains("There is no piece"), "{}", ran.stderr);
    comes_back(&world, "back");
}

#[test]
fn nothing_goes_that_was_not_agreed_to() {
    let (world, old, _) = twice();
    let all = world.objects();
    let ran = world.archiver(&["delete", "--pass", &old]).expect(2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    let ran = delete(&world, &["--pass", &old, "--dry-run"]).expect(0);
    assert!(ran.stderr.contains(&format!("All of the pass {old}")), "{}", ran.stderr);
    for args in [&["delete", "--yes"][..], &["delete", "--yes", "--pass", &old, "--all-of-source"]] {
        world.archiver(args).expect(2);
    }
    // On a terminal, which `script` makes, a no is a no.
    for (answer, gone) in [("n", false), ("y", true)] {
        let config = world.config();
        let typed = format!(
            "echo {answer} | script -qec '{BINARY} --config {} delete --pass {old}' /dev/null",
            config.display()
        );
        let ran = world.bash(&format!("{typed} || test $? = 75"), &[""; 0]).expect(0);
        assert!(ran.text().contains("Delete it? [y/N]"), "{}", ran.text());
        assert_eq!(world.objects() != all, gone, "{answer}");
    }
}

#[test]
fn what_is_on_its_way_stays_whatever_is_said() {
    let mut world = World::new();
    world.fill("head -c 400000 /dev/urandom >file");
    "[upload]\nbandwidth = \"2kB/s\"".clone_into(&mut world.setup.more);
    let mut run = world.spawn(&["--quiet", "run", "--once"]);
    let sealed = || world.archiver(&["status", "--json"]).json_lines()[0]["sources"][0]["pieces"]["sealed"] == 1;
    while !sealed() {
        assert!(run.try_wait().unwrap().is_none());
    }
    // Also while a daemon works.
    for args in [&["--piece", "1", "--force"][..], &["--all-of-source", "--force"]] {
        let ran = delete(&world, args).expect(1);
        assert!(ran.stderr.contains("has not ended") && !ran.stderr.contains("--force"), "{}", ran.stderr);
    }
    run.kill().unwrap();
    run.wait().unwrap();
    world.setup.more.clear();
    world.run_once().expect(0);
    comes_back(&world, "back");
}

#[test]
fn a_daemon_that_runs_is_not_disturbed() {
    let (mut world, old, new) = twice();
    "repeat = \"1h\"".clone_into(&mut world.setup.source);
    let mut daemon = world.spawn(&["run"]);
    let rests = || world.archiver(&["status", "--json"]).json_lines()[0]["daemon"].is_object();
    while !rests() {
        assert!(daemon.try_wait().unwrap().is_none());
    }
    delete(&world, &["--pass", &old]).expect(0);
    assert_eq!(passes(&world), [new.as_str()]);
    assert!(daemon.try_wait().unwrap().is_none());
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let ended = daemon.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    world.run_once().expect(0);
    comes_back(&world, "back");
}

#[test]
fn a_source_that_is_configured_no_more_can_go_and_another_vault_is_left_alone() {
    let (world, _, _) = twice();
    let text = fs::read_to_string(world.config()).unwrap();
    let elsewhere = world.dir("elsewhere");
    fs::create_dir(elsewhere.join("source")).unwrap();
    let other = world.root.path().join("other.toml");
    fs::write(&other, text.replace("name = \"data\"", "name = \"new\"")).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&other).args(["delete", "--yes", "--force", "--all-of-source"]).args(args);
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    };
    run(&["--source", "typo"]).expect(2);
    run(&[]).expect(1);
    run(&["--source", "data"]).expect(0);
    assert_eq!(world.objects(), ["archiver.json"]);
    // A vault of the same keys and another name.
    let (world, old, _) = twice();
    fs::write(world.vault.join("archiver.json"), "{\"format\":1,\"vault\":\"another\"}\n").unwrap();
    let all = world.objects();
    let ran = delete(&world, &["--pass", &old]).expect(7);
    assert!(ran.stderr.contains("names the vault another"), "{}", ran.stderr);
    assert_eq!(world.objects(), all);
}

#[test]
fn a_later_pass_that_holds_less_supersedes_nothing() {
    let refused = |world: &World, pass: &str, told: &str| {
        let ran = delete(world, &["--pass", pass, "--dry-run"]);
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
        delete(world, &["--pass", pass]).expect(1);
    };
    // A piece of it is not in the vault, or not as it was.
    let (world, old, _) = twice();
    let object = world.vault.join(&world.keys()[1]);
    let aside = world.root.path().join("aside");
    fs::rename(&object, &aside).unwrap();
    refused(&world, &old, "1 pieces of ");
    world.bash("head -c -1 \"$1\" >\"$2\"", &[&aside, &object]).expect(0);
    refused(&world, &old, "1 pieces of ");
    // A segment of a large file was removed from it.
    let mut world = World::new();
    world.fill("echo a >a; head -c 4000000 /dev/urandom >large");
    world.run_once().expect(0);
    thread::sleep(Duration::from_millis(1_100));
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    let (old, key) = (passes(&world)[1].clone(), world.keys()[2].clone());
    delete(&world, &["--piece", &key, "--force"]).expect(0);
    refused(&world, &old, "pieces were removed");
    // It was made by other rules.
    thread::sleep(Duration::from_millis(1_100));
    "exclude = [\"/a\"]".clone_into(&mut world.setup.source);
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    refused(&world, &old, "pieces were removed");
    let middle = passes(&world)[1].clone();
    refused(&world, &middle, "by other rules");
}

#[test]
fn a_restore_that_is_not_done_is_not_robbed_of_its_pieces() {
    let (world, old, _) = twice();
    let to = world.root.path().join("back");
    let to = to.to_str().unwrap();
    world.archiver(&["restore", "/", "--pass", &old, "--yes", "--to", to]).expect(0);
    delete(&world, &["--pass", &old, "--dry-run"]).expect(0);
    change(&world, "UPDATE restore SET record = replace(record, '\"complete\"', '\"open\"')");
    let ran = delete(&world, &["--pass", &old]).expect(1);
    assert!(ran.stderr.contains("is not done"), "{}", ran.stderr);
}
