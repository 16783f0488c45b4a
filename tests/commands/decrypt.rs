//! Promises about `archiver decrypt` of many objects: what comes, what does not and why, and that nothing is replaced.

use super::common::{BINARY, Ran, World};
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

/// A pass of four pieces or more.
fn archived() -> World {
    let world = World::new();
    world.fill(
        "mkdir a b; for i in 1 2 3 4; do head -c 400000 /dev/urandom >a/$i; head -c 400000 /dev/urandom >b/$i; done",
    );
    world.run_once().expect(0);
    assert!(world.keys().len() >= 4);
    world
}

fn decrypt(world: &World, to: &Path, args: &[&Path]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(["--config", "/none", "decrypt", "--json", "--passphrase-file"]).arg(&world.passphrase);
    Ran::of(command.arg("--to").arg(to).args(args).output().unwrap())
}

/// What stock tools make of an object.
fn is_as_stock_tools_have_it(world: &World, key: &str, made: &Path) {
    assert!(fs::read(made).unwrap() == world.open_object(key), "{key}");
}

#[test]
fn a_directory_is_opened_as_a_whole_with_the_directories_between() {
    let world = archived();
    let to = world.root.path().join("clear");
    // What is not of ours, or leads elsewhere, is not looked at.
    fs::write(world.vault.join("nas1/notes.gpg"), "mine").unwrap();
    symlink(&world.vault, world.vault.join("nas1/loop")).unwrap();
    let ran = decrypt(&world, &to, &[&world.vault]).expect(0);
    let sealed: Vec<String> =
        world.objects().into_iter().filter(|key| key.ends_with(".gpg") && !key.contains("notes")).collect();
    let lines = ran.json_lines();
    assert_eq!((lines.len(), sealed.len()), (sealed.len(), 2 * world.keys().len() + 2));
    for (line, key) in lines.iter().zip(&sealed) {
        assert_eq!(line["file"], world.vault.join(key).to_str().unwrap(), "in order of names");
        let made = Path::new(line["made"].as_str().unwrap());
        assert_eq!(made.parent(), to.join(key).parent());
        assert_eq!(line["bytes"], fs::metadata(made).unwrap().len());
        is_as_stock_tools_have_it(&world, key, made);
    }
    let files = world.bash("find \"$1\" -type f | wc -l", &[&to]).text();
    assert_eq!(files.trim(), sealed.len().to_string());
    assert!(decrypt(&world, &to, &[&world.source]).expect(2).stderr.contains("no objects of ours"));
}

#[test]
fn one_that_is_damaged_keeps_no_other_and_what_is_there_is_kept() {
    let world = archived();
    let keys = world.keys();
    let files: Vec<_> = keys.iter().map(|key| world.vault.join(key)).collect();
    let damage = "printf x | dd of=\"$1\" bs=1 seek=100000 conv=notrunc status=none";
    world.bash(damage, &[&files[1]]).expect(0);
    let to = world.dir("clear");
    let name = |key: &str| key.rsplit('/').next().unwrap().trim_end_matches(".xz.gpg").to_owned();
    fs::write(to.join(name(&keys[2])), "mine").unwrap();
    let missing = world.vault.join("000999-none.tar.xz.gpg");
    let args: Vec<&Path> = files.iter().map(AsRef::as_ref).chain([missing.as_path()]).collect();
    let ran = decrypt(&world, &to, &args).expect(3);
    let lines = ran.json_lines();
    assert_eq!(lines.len(), keys.len() + 1);
    assert!(lines[1]["error"].as_str().unwrap().contains(&keys[1]), "{}", lines[1]);
    assert_eq!(lines[2]["kept"], to.join(name(&keys[2])).to_str().unwrap());
    assert!(lines[keys.len()]["error"].as_str().unwrap().contains("No such file"), "{}", lines[keys.len()]);
    assert_eq!(fs::read(to.join(name(&keys[2]))).unwrap(), b"mine");
    for at in [0, 3] {
        is_as_stock_tools_have_it(&world, &keys[at], &to.join(name(&keys[at])));
    }
    // Nothing half made is left, and the damaged one has no name.
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().ends_with(".part")), "{left:?}");
    assert!(!to.join(name(&keys[1])).exists());
    // When none came, the code is that of the error: keys.
    fs::write(&world.passphrase, "another one\n").unwrap();
    decrypt(&world, &world.root.path().join("none"), &args[..1]).expect(5);
}

#[test]
fn two_that_would_become_one_are_refused_before_anything_is_made() {
    let world = archived();
    let (key, to) = (&world.keys()[0], world.root.path().join("clear"));
    let file = world.vault.join(key);
    let copy = world.dir("copy").join(file.file_name().unwrap());
    fs::copy(&file, &copy).unwrap();
    let compressed = copy.with_extension("");
    fs::write(&compressed, "").unwrap();
    for second in [&copy, &compressed, &file] {
        let ran = decrypt(&world, &to, &[&file, second]).expect(2);
        assert!(ran.stderr.contains("would both become"), "{}", ran.stderr);
        assert!(!to.exists());
    }
}
