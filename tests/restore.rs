//! Promises about `archiver restore`: what comes back, what does not, and what is left alone. That all of a nasty tree
//! comes back is held by `fidelity.rs`.

#![expect(clippy::disallowed_methods, reason = "these tests play the operator, from outside")]

mod common;

#[path = "restore/asked.rs"]
mod asked;

use common::{Ran, World, snapshot::snapshot};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

fn restore(world: &World, to: &Path, args: &[&str]) -> Ran {
    world.archiver(&[&["restore", "--yes", "--json", "--to", to.to_str().unwrap()], args].concat())
}

/// What was planned, and what came of it.
fn outcome(ran: &Ran) -> (Value, Value) {
    let mut lines = ran.json_lines();
    (lines.remove(0)["plan"].take(), lines.pop().unwrap()["outcome"].take())
}

/// Entries that are not as they were, with the reasons.
fn wrong(ran: &Ran) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let lines = ran.json_lines();
    lines
        .iter()
        .filter(|line| line["wrong"].is_string())
        .map(|line| (text(&line["path"]), text(&line["wrong"])))
        .collect()
}

/// Eight files of 400 kB in two directories: three pieces at least.
fn archived() -> (World, PathBuf) {
    let world = World::new();
    world.fill(
        "mkdir -p a/deep b; for i in 1 2 3 4; do head -c 400000 /dev/urandom >a/deep/$i; head -c 400000 /dev/urandom >b/$i; done
         echo linked >b/7; ln b/7 b/8; ln -s deep/1 a/link; chmod 751 a; chmod 500 a/deep; touch -d 2001-02-03 a/deep a",
    );
    world.run_once().expect(0);
    assert!(world.keys().len() >= 3);
    let to = world.root.path().join("back");
    (world, to)
}

/// Both trees are the same but for what these paths name.
fn is_same_but(world: &World, to: &Path, but: &[&str]) {
    let (mut was, mut is) = (snapshot(&world.source), snapshot(to));
    for path in but {
        was.remove(path.as_bytes());
        is.remove(path.as_bytes());
    }
    assert_eq!(was.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>());
    for (path, was) in was {
        let is = &is[&path];
        let of = |seen: &common::snapshot::Seen| {
            (seen.kind.clone(), seen.mode.clone(), seen.owner.clone(), seen.mtime.clone(), seen.content.clone())
        };
        assert_eq!(of(&was), of(is), "{}", String::from_utf8_lossy(&path));
    }
}

/// What was unpacked takes no room; manifests that were fetched stay for the next one.
fn nothing_is_left(world: &World) {
    let left = "find \"$1\" -type f -not -path '*/manifests/*.manifest.jsonl.zst.clear'";
    assert_eq!(world.bash(left, &[world.root.path().join("state/restore")]).text(), "");
}

fn paths(wrong: Vec<(String, String)>) -> Vec<String> {
    wrong.into_iter().map(|(path, _)| path).collect()
}

#[test]
fn one_file_comes_back_from_its_piece_alone_with_the_directories_above_it() {
    let (world, to) = archived();
    let ran = restore(&world, &to, &["/a/deep/2"]).expect(0);
    let (plan, outcome) = outcome(&ran);
    assert_eq!((plan["pieces"].as_array().unwrap().len(), &outcome["came"]), (1, &1.into()));
    let found = snapshot(&to);
    let paths: Vec<String> = found.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(paths.iter().filter(|path| path.starts_with("a/")).collect::<Vec<_>>(), ["a/deep", "a/deep/2"]);
    let was = snapshot(&world.source);
    for path in ["a", "a/deep", "a/deep/2"].map(str::as_bytes) {
        assert_eq!((&was[path].mode, &was[path].mtime), (&found[path].mode, &found[path].mtime));
    }
    assert_eq!(fs::read(to.join("a/deep/2")).unwrap(), fs::read(world.source.join("a/deep/2")).unwrap());
    nothing_is_left(&world);
}

#[test]
fn another_name_of_a_file_comes_back_without_the_first() {
    let (world, to) = archived();
    restore(&world, &to, &["b/8"]).expect(0);
    assert_eq!(fs::read(to.join("b/8")).unwrap(), b"linked\n");
    assert!(!to.join("b/7").exists());
    let all = world.root.path().join("all");
    restore(&world, &all, &["b"]).expect(0);
    assert_eq!(fs::metadata(all.join("b/8")).unwrap().ino(), fs::metadata(all.join("b/7")).unwrap().ino());
}

#[test]
fn what_is_there_is_left_alone_unless_it_is_to_be_replaced() {
    let (world, to) = archived();
    fs::create_dir_all(to.join("a/deep")).unwrap();
    fs::write(to.join("a/deep/2"), "mine").unwrap();
    fs::set_permissions(to.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    let ran = restore(&world, &to, &["/"]).expect(3);
    assert_eq!(wrong(&ran).iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["a/deep/2"]);
    assert_eq!(fs::read(to.join("a/deep/2")).unwrap(), b"mine");
    assert_eq!(fs::metadata(to.join("a")).unwrap().mode() & 0o7777, 0o700, "It is somebody's");
    // Once more: all the rest is there.
    let (_, again) = outcome(&restore(&world, &to, &["/"]).expect(3));
    assert_eq!((&again["wrong"], &again["bytes"]), (&1.into(), &0.into()), "{again}");
    let (_, replaced) = outcome(&restore(&world, &to, &["/", "--overwrite"]).expect(0));
    assert_eq!(replaced["wrong"], 0);
    is_same_but(&world, &to, &[""]);
}

#[test]
fn nothing_is_put_outside_by_a_link_in_the_way() {
    let (world, to) = archived();
    let outside = world.dir("outside");
    fs::create_dir_all(&to).unwrap();
    std::os::unix::fs::symlink(&outside, to.join("a")).unwrap();
    for more in [&["/"][..], &["/", "--overwrite"]] {
        let ran = restore(&world, &to, more).expect(3);
        let wrong = wrong(&ran);
        assert!(wrong.len() == 7 && wrong.iter().all(|(path, _)| path.starts_with('a')), "{wrong:?}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(to.join("b/4").exists());
    }
}

#[test]
fn a_piece_that_is_damaged_or_gone_costs_its_own_members_only() {
    for damage in
        ["printf x | dd of=\"$1\" bs=1 seek=100000 conv=notrunc status=none", "rm \"$1\"", "truncate -s 5000 \"$1\""]
    {
        let (world, to) = archived();
        let key = &world.keys()[1];
        world.bash(damage, &[world.vault.join(key)]).expect(0);
        let ran = restore(&world, &to, &["/"]).expect(3);
        let lost: Vec<String> = wrong(&ran).into_iter().map(|(path, _)| path).collect();
        let manifest = world.archiver(&["ls", "data", "2", "--json"]).expect(0).json_lines();
        let of_piece = manifest.iter().filter(|line| line["note"] != "ancestor");
        let members: Vec<&str> = of_piece.map(|line| line["path"].as_str().unwrap()).collect();
        assert_eq!(lost, members, "{damage}");
        assert!(ran.stderr.contains(key.as_str()), "{}", ran.stderr);
        let (_, outcome) = outcome(&ran);
        assert_eq!(outcome["pieces_lost"], 1);
        is_same_but(&world, &to, &[&members[..], &["a", "a/deep", "b", ""]].concat());
    }
}

#[test]
fn without_manifests_on_this_host_those_of_the_vault_do() {
    let (world, to) = archived();
    fs::remove_dir_all(world.root.path().join("state/manifests")).unwrap();
    restore(&world, &to, &["/"]).expect(0);
    is_same_but(&world, &to, &[]);
    nothing_is_left(&world);
}

#[test]
fn a_manifest_that_is_damaged_here_comes_from_the_vault_and_one_that_is_nowhere_from_its_piece() {
    let (world, to) = archived();
    let manifest = world.bash("find \"$1\" -name 000002.jsonl.zst", &[world.root.path().join("state")]).text();
    let damage = "printf x | dd of=\"$1\" bs=1 seek=$(($(stat -c %s \"$1\") * 2 / 3)) conv=notrunc status=none";
    world.bash(damage, &[manifest.trim()]).expect(0);
    restore(&world, &to, &["/"]).expect(0);
    is_same_but(&world, &to, &[]);
    let key = &world.keys()[1];
    fs::remove_file(world.vault.join(World::manifest_key(key))).unwrap();
    world.bash("rm -r \"$1\"", &[world.root.path().join("state/restore/manifests")]).expect(0);
    let again = world.root.path().join("again");
    let ran = restore(&world, &again, &["/"]).expect(0);
    assert_eq!(outcome(&ran).1["pieces_derived"], 1);
    assert!(ran.stderr.contains(&format!("{key}: no manifest")), "{}", ran.stderr);
    is_same_but(&world, &again, &[]);
    nothing_is_left(&world);
}

#[test]
fn names_of_links_pipes_and_of_many_files_come_back_without_the_first_ones() {
    let world = World::new();
    world.fill(
        "mkdir a b; ln -s x a/l; ln a/l b/l; mkfifo a/p; ln a/p b/p
         for n in {1..300}; do echo $n >a/$n; ln a/$n b/$n; done; touch -hd @1 a/* b/*",
    );
    world.run_once().expect(0);
    let to = world.root.path().join("back");
    for _ in 0..2 {
        let (_, outcome) = outcome(&restore(&world, &to, &["b"]).expect(0));
        assert_eq!((&outcome["came"], &outcome["wrong"]), (&303.into(), &0.into()));
        world
            .bash(
                "diff -r --no-dereference -x p \"$1/b\" \"$2/b\"; test -p \"$2/b/p\"; test ! -e \"$2/a\"",
                &[&world.source, &to],
            )
            .expect(0);
    }
    let all = world.root.path().join("all");
    restore(&world, &all, &["/"]).expect(0);
    world
        .bash("cd \"$1\"; for n in l p {1..300}; do test $(stat -c %i a/$n) = $(stat -c %i b/$n); done", &[&all])
        .expect(0);
    is_same_but(&world, &all, &[]);
}

#[test]
fn what_is_in_place_is_not_fetched_again() {
    let (world, to) = archived();
    restore(&world, &to, &["/"]).expect(0);
    world.bash("find \"$1\" -name '*.tar.xz.gpg' -delete", &[&world.vault]).expect(0);
    let (_, again) = outcome(&restore(&world, &to, &["/"]).expect(0));
    assert_eq!((&again["came"], &again["bytes"]), (&again["were_there"], &0.into()));
    is_same_but(&world, &to, &[]);
    // Files larger than a piece need their pieces, to be known.
    let world = World::nasty_and_large();
    world.run_once().expect(0);
    let to = world.root.path().join("back");
    restore(&world, &to, &["/"]).expect(0);
    let (_, again) = outcome(&restore(&world, &to, &["/"]).expect(0));
    assert_eq!((&again["came"], &again["bytes"]), (&again["were_there"], &0.into()), "{again}");
}

#[test]
fn a_piece_that_comes_later_leaves_the_directory_as_it_was() {
    let (world, to) = archived();
    let object = world.vault.join(&world.keys()[1]);
    let aside = world.root.path().join("aside");
    fs::rename(&object, &aside).unwrap();
    restore(&world, &to, &["/"]).expect(3);
    fs::rename(&aside, &object).unwrap();
    restore(&world, &to, &["/"]).expect(0);
    is_same_but(&world, &to, &[]);
}

#[test]
fn metadata_of_what_is_there_are_told_and_acls_above_go_no_further() {
    let (world, to) = archived();
    fs::create_dir(&to).unwrap();
    world.bash("setfacl -m d:u:1000:rwx \"$1\"", &[&to]).expect(0);
    restore(&world, &to, &["/"]).expect(0);
    let acls = world.bash("cd \"$1\"; getfacl -R --skip-base a b", &[&to]).text();
    assert_eq!(acls, "");
    world.bash("cd \"$1\"; chmod 777 b/1; chown 5 b/2; touch b/3", &[&to]).expect(0);
    let wrong = wrong(&restore(&world, &to, &["b"]).expect(3));
    let told = |what: &str| wrong.iter().any(|(_, why)| why.contains(what));
    assert_eq!(paths(wrong.clone()), ["b/1", "b/2", "b/3"]);
    assert!(told("mode") && told("owner") && told("time"), "{wrong:?}");
}

#[test]
fn what_is_asked_for_and_not_there_is_told() {
    let (world, to) = archived();
    let ran = restore(&world, &to, &["b/1", "typo"]).expect(3);
    assert!(ran.stderr.contains("typo: nothing of that name"), "{}", ran.stderr);
    assert!(to.join("b/1").exists());
    let mut world = World::new();
    world.fill("head -c 400000 /dev/urandom >file");
    "[upload]\nbandwidth = \"2kB/s\"".clone_into(&mut world.setup.more);
    let mut run = world.spawn(&["--quiet", "run", "--once"]);
    let sealed = || world.archiver(&["status", "--json"]).json_lines()[0]["sources"][0]["pieces"]["sealed"] == 1;
    while !sealed() {
        assert!(run.try_wait().unwrap().is_none());
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let ran = restore(&world, &to, &["file"]).expect(3);
    assert!(ran.stderr.contains("not in the vault yet"), "{}", ran.stderr);
    assert_eq!(outcome(&ran).0["waiting"], 1);
}

#[test]
fn nothing_is_done_that_was_not_agreed_to() {
    let (world, to) = archived();
    let dir = to.to_str().unwrap();
    let ran = world.archiver(&["restore", "/", "--to", dir]).expect(2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    let ran = world.archiver(&["restore", "/", "--to", dir, "--dry-run"]).expect(0);
    assert!(ran.stderr.contains("pieces"), "{}", ran.stderr);
    assert!(!to.exists());
    world.archiver(&["restore", "/none", "--to", dir, "--yes"]).expect(1);
    world.archiver(&["restore", "../x", "--to", dir, "--yes"]).expect(2);
    world.archiver(&["restore", "/"]).expect(2);
    world.archiver(&["restore", "/", "--to", dir, "--yes", "--budget", "nan"]).expect(2);
}

#[test]
fn a_piece_that_is_larger_than_the_cap_is_not_begun() {
    let mut world = World::new();
    "4MiB".clone_into(&mut world.setup.max_size);
    "20MiB".clone_into(&mut world.setup.cap);
    world.fill("head -c 2000000 /dev/urandom >large");
    world.run_once().expect(0);
    let to = world.root.path().join("back");
    "[restore]\ncap = \"1MiB\"".clone_into(&mut world.setup.more);
    let ran = restore(&world, &to, &["/"]).expect(6);
    assert!(ran.stderr.contains("restore.cap"), "{}", ran.stderr);
    "[restore]\ncap = \"3MiB\"".clone_into(&mut world.setup.more);
    restore(&world, &to, &["/"]).expect(0);
}

#[test]
fn a_restore_that_is_killed_at_any_moment_goes_on() {
    let (world, to) = archived();
    let args = ["--quiet", "restore", "/", "--yes", "--to", to.to_str().unwrap()];
    let began = std::time::Instant::now();
    world.archiver(&args).expect(0);
    let whole = began.elapsed();
    for round in 1..=20 {
        world.bash("chmod -R u+w \"$1\"; rm -r \"$1\"", &[&to]).expect(0);
        for _ in 0..3 {
            let mut run = world.spawn(&args);
            std::thread::sleep(whole * round / 22);
            run.kill().unwrap();
            run.wait().unwrap();
        }
        world.archiver(&args).expect(0);
        is_same_but(&world, &to, &[]);
    }
}

#[test]
fn a_link_that_a_kill_left_without_its_metadata_gets_them() {
    let (world, to) = archived();
    restore(&world, &to, &["/"]).expect(0);
    let undone = "cd \"$1\"; setfattr -n user.archiver.incomplete -v 1 a; touch -h a/link; chown -h 5 a/link";
    world.bash(undone, &[&to]).expect(0);
    restore(&world, &to, &["/"]).expect(0);
    is_same_but(&world, &to, &[]);
}
