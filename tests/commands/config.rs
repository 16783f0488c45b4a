//! What is refused before anything begins.

use super::{archived, common::World};
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn a_configuration_that_is_not_there_is_a_usage_error() {
    let world = World::new();
    let missing = world.root.path().join("missing.toml");
    for command in [&["run", "--once"][..], &["check"], &["ls"], &["status"], &["exceptions"], &["tree"]] {
        let script = "\"$@\" 2>&1";
        let mut args = vec![super::common::BINARY.into(), "--config".into(), missing.clone().into_os_string()];
        args.extend(command.iter().map(Into::into));
        let ran = world.bash(script, &args).expect(2);
        assert!(ran.text().contains("missing.toml"), "{}", ran.text());
    }
    world.archiver(&["no-such-command"]).expect(2);
    world.archiver(&["ls", "no-such-source"]).expect(2);
}

/// A line that is replaced, what it becomes, and the key that is blamed.
const BROKEN: &[(&str, &str, &str)] = &[
    ("cap =", "cap = \"2MiB\"", "staging.cap"),
    ("cap =", "cap = -1", "staging.cap"),
    ("cap =", "capp = \"2TB\"", "staging.capp"),
    ("state =", "state = \"relative\"", "state"),
    ("name =", "name = \"Data\"", "source.name"),
    ("max_size =", "max_size = \"1KiB\"", "pack.max_size"),
    ("max_size =", "max_size = 1.5", "pack.max_size"),
    ("checkpoint =", "retries = 1000", "pack.retries"),
    ("method =", "method = \"gzip\"", "compress.method"),
    ("level =", "level = 10", "compress.level"),
    ("passphrase_file =", "passphrase_file = \"/no/such/file\"", "encrypt.passphrase_file"),
    ("passphrase_file =", "recipients = []", "encrypt.recipients"),
    ("url =", "url = \"ftp://x\"", "vault.url"),
    ("host =", "host = \"a/b\"", "vault.host"),
    ("checkpoint =", "exclude = [\"x\"]", "pack.exclude"),
];

#[test]
fn every_mistake_is_told_with_file_line_and_key_and_nothing_is_made() {
    let mut world = World::new();
    world.state = world.root.path().join("new/state");
    world.staging = world.root.path().join("new/staging");
    world.vault = world.root.path().join("new/vault");
    let good = fs::read_to_string(world.config()).unwrap();
    for (line, broken, key) in BROKEN {
        let at = good.lines().position(|text| text.starts_with(line)).unwrap();
        let text: Vec<&str> = good.lines().enumerate().map(|(n, old)| if n == at { broken } else { old }).collect();
        let file = world.root.path().join("broken.toml");
        fs::write(&file, text.join("\n")).unwrap();
        for command in [&["run", "--once"][..], &["run"], &["check"]] {
            let mut args =
                vec!["10".into(), super::common::BINARY.into(), "--config".into(), file.clone().into_os_string()];
            args.extend(command.iter().map(Into::into));
            let ran = world.bash("timeout \"$@\" 2>&1", &args).expect(2);
            let told = format!("{}:{}: {key}:", file.display(), at + 1);
            assert!(ran.text().contains(&told), "{broken}: {told} is not in {}", ran.text());
        }
        assert!(!world.root.path().join("new").exists(), "{broken}");
    }
}

#[test]
fn a_pattern_that_cannot_be_used_is_a_mistake_of_the_configuration() {
    for (pattern, key) in [("[a", "exclude"), ("#x", "exclude"), ("", "include")] {
        let mut world = World::new();
        world.setup.source = format!("{key} = [{pattern:?}]");
        let ran = world.run_once().expect(2);
        assert!(ran.stderr.contains(&format!("archiver.toml:8: source.{key}")), "{}", ran.stderr);
        assert_eq!(world.objects(), [""; 0]);
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut world = World::new();
    "bad".clone_into(&mut world.setup.cap);
    "worse".clone_into(&mut world.setup.method);
    world.setup.pack = "max_members = 0".to_owned();
    let ran = world.run_once().expect(2);
    for key in ["staging.cap", "compress.method", "pack.max_members"] {
        assert!(ran.stderr.contains(key), "{key} is not in {}", ran.stderr);
    }
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let world = World::new();
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&world.passphrase, fs::Permissions::from_mode(mode)).unwrap();
        let ran = world.run_once().expect(2);
        assert!(ran.stderr.contains("encrypt.passphrase_file") && ran.stderr.contains("chmod 600"), "{}", ran.stderr);
    }
    assert_eq!(world.objects(), [""; 0]);
}

/// Keys that are there and cannot be used: the run holds, and nothing leaves.
#[test]
fn keys_that_cannot_be_used_end_the_run_with_a_code_of_their_own() {
    let mut world = World::new();
    fs::write(world.source.join("file"), "x").unwrap();
    let (good, _) = world.certificate("good");
    let at = |name: &str| world.root.path().join(name);
    fs::write(at("garbage.asc"), "this is no certificate\n").unwrap();
    fs::write(at("empty.asc"), "").unwrap();
    let script = "gpg --batch -q --faked-system-time 20200101T000000 --passphrase '' --quick-gen-key old@example.org \
                  future-default default 1y; gpg --batch --armor --export old@example.org > \"$1\"";
    world.bash(script, &[at("expired.asc")]).expect(0);
    world.bash("gpg --batch --armor --export-secret-keys good@example.org > \"$1\"", &[at("secret.asc")]).expect(0);
    world.setup.encrypt = format!("recipients = [{:?}]", at("missing.asc"));
    world.run_once().expect(2);
    for bad in ["garbage", "empty", "expired", "secret"] {
        let bad = at(&format!("{bad}.asc"));
        for recipients in [format!("[{bad:?}]"), format!("[{good:?}, {bad:?}]")] {
            world.setup.encrypt = format!("recipients = {recipients}");
            let ran = world.run_once();
            assert_eq!(ran.code, 5, "{recipients}: {}", ran.stderr);
        }
    }
    world.setup.encrypt = format!("passphrase_file = {:?}", world.passphrase);
    for bad in ["", "\n"] {
        fs::write(&world.passphrase, bad).unwrap();
        world.run_once().expect(5);
    }
    assert_eq!(archived(&world), [""; 0]);
    fs::write(&world.passphrase, "a better one, of several words\n").unwrap();
    world.run_once().expect(0);
    assert_eq!(world.keys().len(), 1);
}
