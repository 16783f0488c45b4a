//! What `archiver drill` shows, records, and refuses; and that `status` says when it is time for one.

use super::{common::*, proofs, sql};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

fn status(world: &World) -> Value {
    world.archiver(&["status", "--json"]).expect(0).json_lines().remove(0)
}

/// Three pieces or more, of which the last is the smallest.
fn fill(world: &World) {
    world.fill("for i in 1 2 3; do head -c 900000 /dev/urandom >$i; done; echo small >4; setfattr -n user.a -v 1 4");
}

/// Sealed to a certificate, whose secret key is given.
fn to_certificate() -> (World, PathBuf) {
    let mut world = World::new();
    let (certificate, _) = world.certificate("backup");
    world.setup.encrypt = format!("recipients = [{certificate:?}]");
    let secret = world.root.path().join("secret.asc");
    world.bash("gpg --batch --armor --export-secret-keys backup@example.org >\"$1\"", &[&secret]).expect(0);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fill(&world);
    world.run_once().expect(0);
    (world, secret)
}

#[test]
fn the_smallest_piece_is_opened_and_that_is_on_record() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    assert_eq!((&status(&world)["drill"], &status(&world)["drill_due"]), (&Value::Null, &false.into()));
    let outcome = world.archiver(&["drill", "--json"]).expect(0).json_lines().remove(0)["outcome"].take();
    let smallest = world.bash(
        "cd \"$1\"; find nas1 -name '*.tar.xz.gpg' -printf '%s %p\\n' | sort -n | head -n 1 | cut -d ' ' -f 2",
        &[&world.vault],
    );
    assert_eq!((&outcome["opened"], &outcome["encrypted"]), (&smallest.text().trim().into(), &true.into()));
    assert_eq!(proofs(&world, "opened"), 1);
    let told = status(&world)["drill"].as_str().unwrap().to_owned();
    let now = world.bash("date -u +%F", &[""; 0]).text();
    assert!(told.starts_with(now.trim()), "{told}");
    assert_eq!(world.bash("cd \"$1\"; find restore -type f", &[&world.state]).text(), "");
    // Another one, by its number and by its name.
    let mut names: Vec<String> =
        world.pieces().iter().map(|piece| piece["name"].as_str().unwrap().to_owned()).collect();
    names[0] = "1".to_owned();
    for piece in &names {
        let ran = world.archiver(&["drill", "--piece", piece]).expect(0);
        assert!(ran.text().contains("all whole. The key opens it"), "{}", ran.text());
    }
    assert_eq!(proofs(&world, "opened"), names.len());
    world.archiver(&["drill", "--piece", "77"]).expect(2);
}

#[test]
fn with_certificates_alone_status_says_when_it_is_time() {
    let (mut world, secret) = to_certificate();
    let text = || world.archiver(&["status"]).expect(0).text();
    assert!(text().contains("No drill has shown yet that the secret key opens"), "{}", text());
    assert_eq!((&status(&world)["drill"], &status(&world)["drill_due"]), (&Value::Null, &true.into()));
    // The backup host has no key: nothing is called damaged, and nothing is on record.
    let ran = world.archiver(&["drill"]).expect(5);
    assert!(ran.text().is_empty() && ran.stderr.contains("it is sealed to"), "{}", ran.stderr);
    assert_eq!(proofs(&world, "opened"), 0);
    world.setup.more = format!("[restore]\nsecret_key_file = {secret:?}");
    world.archiver(&["drill"]).expect(0);
    let text = || world.archiver(&["status"]).expect(0).text();
    assert_eq!((text().contains("drill"), &status(&world)["drill_due"]), (false, &false.into()));
    sql(&world, "UPDATE setting SET value = '2020-02-03T04:05:06Z' WHERE name = 'drill'");
    assert!(text().contains("The last drill was on 2020-02-03: it is time for one (archiver drill)"), "{}", text());
    assert_eq!(status(&world)["drill"], "2020-02-03T04:05:06Z");
}

#[test]
fn a_downloaded_piece_is_opened_where_there_is_only_the_key_and_the_host_is_told() {
    let (world, secret) = to_certificate();
    let key = world.keys()[0].clone();
    let away = world.dir("away");
    let (piece, manifest) = (
        away.join(Path::new(&key).file_name().unwrap()),
        away.join(Path::new(&World::manifest_key(&key)).file_name().unwrap()),
    );
    fs::copy(world.vault.join(&key), &piece).unwrap();
    fs::copy(world.vault.join(World::manifest_key(&key)), &manifest).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (piece_name, manifest_name, secret) = (text(&piece), text(&manifest), text(&secret));
    let alone = |args: &[&str]| {
        let script = "cd \"$1\"; shift; \"$@\"";
        let all = [&[away.to_str().unwrap(), BINARY, "--config", "/none", "drill"], args].concat();
        world.bash(script, &all)
    };
    let ran = alone(&[&piece_name, "--manifest", &manifest_name, "--secret-key-file", &secret]).expect(0);
    assert!(ran.text().contains("all whole") && ran.stderr.contains("archiver drill --elsewhere"), "{}", ran.stderr);
    let ran = alone(&[&piece_name, "--secret-key-file", &secret]).expect(0);
    assert!(ran.stderr.contains("no member compared"), "{}", ran.stderr);
    // What gpg has in its keyring does as well; without a keyring there is nothing.
    alone(&[&piece_name]).expect(0);
    let empty = world.dir("empty");
    let script = "chmod 700 \"$1\"; GNUPGHOME=\"$1\" \"$2\" --config /none drill \"$3\"";
    world.bash(script, &[empty.as_path(), Path::new(BINARY), &piece]).expect(5);
    alone(&[&piece_name, "--passphrase-file", &text(&world.passphrase)]).expect(5);
    assert_eq!((fs::read_dir(&away).unwrap().count(), &status(&world)["drill"]), (2, &Value::Null));
    // Another manifest, and bytes that are not what was sealed.
    let other = world.vault.join(World::manifest_key(&world.keys()[1]));
    alone(&[&piece_name, "--manifest", &text(&other), "--secret-key-file", &secret]).expect(3);
    let whole = fs::read(&piece).unwrap();
    for damage in [&whole[..whole.len() - 1], &[&whole[..5000], b"x", &whole[5001..]].concat()] {
        fs::write(&piece, damage).unwrap();
        let ran = alone(&[&piece_name, "--manifest", &manifest_name, "--secret-key-file", &secret]);
        assert!(ran.code == 3 && ran.text().starts_with("damaged  "), "{} {} {}", ran.code, ran.text(), ran.stderr);
    }
    world.archiver(&["drill", "--elsewhere"]).expect(2);
    world.archiver(&["drill", "--elsewhere", "--piece", &key]).expect(0);
    // That the key opens it is on record; the proof of its members was elsewhere.
    assert_eq!((proofs(&world, "opened"), status(&world)["drill"].is_string()), (0, true));
}

#[test]
fn a_copy_is_held_against_the_catalog_that_knows_it() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let keys = world.keys();
    let object = |key: &str| world.vault.join(key);
    let ran = world.archiver(&["drill", object(&keys[1]).to_str().unwrap()]).expect(0);
    assert_eq!(ran.stderr, "");
    assert_eq!((proofs(&world, "opened"), status(&world)["drill"].is_string()), (1, true));
    // Whole, and not what has that name.
    sql(&world, "DELETE FROM proof");
    fs::copy(object(&keys[0]), object(&keys[1])).unwrap();
    let ran = world.archiver(&["drill", object(&keys[1]).to_str().unwrap()]).expect(3);
    assert!(ran.text().contains("it is not what was sealed"), "{}", ran.text());
    assert_eq!(proofs(&world, "opened"), 0);
    world.archiver(&["drill", "/none"]).expect(2);
}

#[test]
fn what_is_not_encrypted_is_proven_and_no_drill() {
    let mut world = World::new();
    "method = \"none\"".clone_into(&mut world.setup.encrypt);
    fill(&world);
    world.run_once().expect(0);
    let ran = world.archiver(&["drill"]).expect(0);
    assert!(ran.text().contains("It is not encrypted"), "{}", ran.text());
    assert_eq!((proofs(&world, "opened"), &status(&world)["drill"]), (1, &Value::Null));
    assert_eq!(status(&world)["drill_due"], false);
}
