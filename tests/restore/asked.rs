//! What is asked for, by whom, and again.

use super::{archived, is_same_but, restore};
use crate::common::{self, World};
use std::{fs, path::Path};

#[test]
fn patterns_and_days_say_what_comes_back() {
    let (world, to) = archived();
    let ran = restore(&world, &to, &["a/**/[13]", "b/?", "*.none", "/link"]).expect(3);
    assert!(ran.stderr.contains("*.none: nothing of that name"), "{}", ran.stderr);
    let found = |dir: &Path| world.bash("cd \"$1\"; find . -not -type d | sort", &[dir]).text();
    assert_eq!(found(&to), "./a/deep/1\n./a/deep/3\n./b/1\n./b/2\n./b/3\n./b/4\n./b/7\n./b/8\n");
    let deep = world.root.path().join("deep");
    restore(&world, &deep, &["de?p"]).expect(0);
    world.bash("diff -r \"$1/a/deep\" \"$2/a/deep\"; test ! -e \"$2/b\"", &[&world.source, &deep]).expect(0);
    // As it was: the second pass has other files.
    let first = world.pieces()[0]["pass"].as_str().unwrap().to_owned();
    world.fill("rm b/4; echo new >b/5");
    std::thread::sleep(std::time::Duration::from_secs(1));
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    let (then, now) = (world.root.path().join("then"), world.root.path().join("now"));
    restore(&world, &then, &["b", "--at", &first]).expect(0);
    restore(&world, &now, &["b"]).expect(0);
    assert!(then.join("b/4").exists() && !then.join("b/5").exists());
    assert!(!now.join("b/4").exists() && now.join("b/5").exists());
    let tomorrow = world.bash("date -d tomorrow +%F", &[""; 0]).text();
    restore(&world, &world.root.path().join("tomorrow"), &["b/5", "--at", tomorrow.trim()]).expect(0);
    let ran = restore(&world, &to, &["b", "--at", "2001-02-03"]).expect(2);
    assert!(ran.stderr.contains("the first pass"), "{}", ran.stderr);
}

#[test]
fn keys_that_only_gpg_has_open_what_was_sealed_to_them() {
    let mut world = World::new();
    let (certificate, fingerprint) = world.certificate("ops");
    world.setup.encrypt = format!("recipients = [{certificate:?}]");
    world.fill("mkdir a; echo one >a/1; head -c 1500000 /dev/urandom >a/2; touch -d 2001-02-03 a/* a .");
    world.run_once().expect(0);
    let to = world.root.path().join("back");
    // In an environment where its keyring is.
    let with_keys = |dir: &Path| {
        let script = "\"$1\" --config \"$2\" restore / --yes --to \"$3\"";
        world.bash(script, &[Path::new(common::BINARY), &world.config(), dir])
    };
    with_keys(&to).expect(0);
    is_same_but(&world, &to, &[]);
    // One that is damaged is told as that, and costs itself only.
    let key = &world.keys()[1];
    let damage = "printf x | dd of=\"$1\" bs=1 seek=100000 conv=notrunc status=none";
    world.bash(damage, &[world.vault.join(key)]).expect(0);
    let ran = with_keys(&world.root.path().join("again"));
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    // Somebody else has none.
    let empty = world.dir("empty");
    world.bash("chmod 700 \"$1\"", &[&empty]).expect(0);
    let script = "GNUPGHOME=\"$4\" \"$1\" --config \"$2\" restore a/1 --yes --to \"$3\"";
    let none = world.root.path().join("none");
    let ran = world.bash(script, &[Path::new(common::BINARY), &world.config(), &none, &empty]);
    let id = world.bash("gpg --batch --with-colons -k | grep ^sub | cut -d : -f 5", &[""; 0]).text();
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains(id.trim()) || ran.stderr.contains(&fingerprint), "{}", ran.stderr);
}

#[test]
fn a_restore_that_is_resumed_asks_no_less_and_goes_nowhere_else() {
    let (world, to) = archived();
    let object = world.vault.join(&world.keys()[1]);
    // It ends on the way: a directory in the place of the piece is no object that could be lost.
    let aside = world.root.path().join("aside");
    fs::rename(&object, &aside).unwrap();
    fs::create_dir(&object).unwrap();
    let args = ["--quiet", "restore", "/", "--yes", "--to", to.to_str().unwrap()];
    let mut run = world.spawn(&args);
    let began = std::time::Instant::now();
    while !to.join("a/deep/1").exists() {
        assert!(began.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    fs::remove_dir(&object).unwrap();
    fs::rename(&aside, &object).unwrap();
    let open = world.archiver(&["restore", "--list", "--json"]).expect(0).json_lines();
    assert_eq!(open[0]["state"], "open");
    let job = open[0]["job"].as_str().unwrap();
    // Its disk is not mounted.
    fs::rename(&to, &aside).unwrap();
    let ran = world.archiver(&["restore", "--resume", job]).expect(75);
    assert!(ran.stderr.contains("is its disk mounted"), "{}", ran.stderr);
    assert!(!to.exists());
    fs::rename(&aside, &to).unwrap();
    world.archiver(&["restore", "--resume", job, "--dry-run"]).expect(0);
    world.archiver(&["restore", "--resume", job, "--overwrite"]).expect(2);
    // The same command is the same restore.
    restore(&world, &to, &["/"]).expect(0);
    let listed = world.archiver(&["restore", "--list", "--json"]).expect(0).json_lines();
    assert_eq!((listed.len(), &listed[0]["job"], &listed[0]["state"]), (1, &job.into(), &"complete".into()));
    world.archiver(&["restore", "--resume", job]).expect(2);
    is_same_but(&world, &to, &[]);
}

#[test]
fn who_may_not_make_devices_is_told_and_gets_all_else() {
    if !rustix::process::geteuid().is_root() {
        println!("Only root can make what nobody may: not tested");
        return;
    }
    let world = World::new();
    world.fill(
        "mkdir d; mknod d/null c 1 3; mknod d/disk b 7 0; echo one >d/file; mkfifo d/pipe; chown -R 65534:65534 .",
    );
    world.run_once().expect(0);
    let to = world.dir("back");
    let binary = world.root.path().join("archiver");
    fs::copy(common::BINARY, &binary).unwrap();
    let script = "chown -R 65534:65534 \"$1\"; cd \"$1\"; setpriv --reuid=65534 --regid=65534 --clear-groups \
                  ./archiver --config \"$2\" restore / --yes --json --to \"$3\"";
    let ran = world.bash(script, &[world.root.path(), &world.config(), &to]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let told = super::paths(super::wrong(&ran));
    assert_eq!(told, ["d/disk", "d/null"], "{}", ran.text());
    let found = world.bash("cd \"$1\"; find d -mindepth 1 -printf '%y %P\\n' | sort", &[&to]).text();
    assert_eq!(found, "f file\np pipe\n");
}
