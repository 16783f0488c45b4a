//! What is on this host, a vault in a directory, and mail.

use super::{Finding, amiss, common::World};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

fn doctor(world: &World, args: &[&str]) -> (Vec<Finding>, i32) {
    let ran = world.archiver(&[&["doctor", "--json"], args].concat());
    assert_eq!(ran.stderr, "");
    (ran.json_lines().iter().map(Finding::of).collect(), ran.code)
}

fn told(world: &World, check: &str) -> (Finding, i32) {
    let (findings, code) = doctor(world, &[]);
    (findings.iter().find(|one| one.check == check).unwrap_or_else(|| panic!("{findings:#?}")).clone(), code)
}

#[test]
fn a_vault_in_a_directory_is_tried_and_left_as_it_was() {
    let world = World::new();
    let (vault, code) = told(&world, "vault");
    assert_eq!((vault.state.as_str(), code), ("warning", 0), "{vault:#?}");
    assert!(fs::read_dir(&world.vault).unwrap().next().is_none(), "None is made");
    world.run_once().expect(0);
    let tree = || world.bash("cd \"$1\"; find . | sort", &[&world.vault]).expect(0).text();
    let before = tree();
    let (findings, code) = doctor(&world, &[]);
    assert_eq!((amiss(&findings), code), (vec![("mail", "warning")], 0), "{findings:#?}");
    assert!(findings.iter().any(|one| one.check == "objects"));
    assert_eq!(tree(), before);
    fs::remove_dir_all(&world.vault).unwrap();
    let (vault, code) = told(&world, "vault");
    assert!(vault.state == "problem" && vault.what.contains("was before") && code == 4, "{vault:#?}");
    assert!(!world.vault.exists());
}

#[test]
fn what_is_wrong_here_ends_in_its_own_code() {
    let world = World::new();
    fs::remove_dir(&world.source).unwrap();
    let (source, code) = told(&world, "source");
    assert_eq!((source.state.as_str(), code), ("problem", 75), "{source:#?}");

    let mut world = World::new();
    "require_mount = true".clone_into(&mut world.setup.source);
    assert!(told(&world, "source").0.what.contains("not a mount point"));

    let mut world = World::new();
    "800TB".clone_into(&mut world.setup.cap);
    let (room, code) = told(&world, "staging-room");
    assert!(room.state == "problem" && room.what.contains("less than the cap") && code == 6, "{room:#?}");

    let world = World::new();
    fs::write(&world.passphrase, "short\n").unwrap();
    let (keys, code) = told(&world, "keys");
    assert_eq!((keys.state.as_str(), code), ("problem", 5), "{keys:#?}");

    let world = World::new();
    fs::write(world.state.join("catalog.sqlite"), "not a catalog").unwrap();
    let (state, code) = told(&world, "state");
    assert_eq!((state.state.as_str(), code), ("problem", 7), "{state:#?}");
}

#[test]
fn a_configuration_that_is_wrong_is_all_that_is_told() {
    let mut world = World::new();
    "nonsense = 1".clone_into(&mut world.setup.vault);
    let (findings, code) = doctor(&world, &[]);
    assert_eq!((amiss(&findings), code), (vec![("configuration", "problem")], 2), "{findings:#?}");
    assert!(findings[0].what.contains("archiver.toml:") && findings[0].what.contains("nonsense"), "{findings:#?}");
    let text = world.archiver(&["doctor"]).expect(2).text();
    assert!(text.starts_with("problem  configuration "), "{text}");
    fs::remove_file(&world.passphrase).unwrap();
    let (findings, code) = doctor(&world, &[]);
    assert!(findings.len() == 2 && code == 2, "Each problem is one: {findings:#?}");
}

#[test]
fn a_certificate_that_expires_soon_is_told() {
    let mut world = World::new();
    let file = world.root.path().join("soon.asc");
    for (life, state) in [("80d", "warning"), ("200d", "ok")] {
        let script = "gpg --batch -q --passphrase '' --quick-gen-key \"$1@example.org\" future-default default \"$1\"; \
                      gpg --batch --armor --export \"$1@example.org\" > \"$2\"";
        world.bash(script, &[life.as_ref(), file.as_os_str()]).expect(0);
        world.setup.encrypt = format!("recipients = [{file:?}]");
        let (findings, code) = doctor(&world, &[]);
        let soon = findings.iter().find(|one| one.check == "keys-expiry");
        assert_eq!((soon.map_or("ok", |one| one.state.as_str()), code), (state, 0), "{findings:#?}");
        assert!(soon.is_none_or(|one| one.what.contains("expires in 7")), "{findings:#?}");
    }
}

#[test]
fn a_running_daemon_is_left_alone() {
    let world = World::new();
    let mut daemon = world.spawn(&["--quiet", "run"]);
    let began = Instant::now();
    while told(&world, "staging").0.what.contains("not") && began.elapsed() < Duration::from_secs(40) {}
    let (findings, code) = doctor(&world, &[]);
    let is_running = daemon.try_wait().unwrap().is_none();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let staging = findings.iter().find(|one| one.check == "staging").unwrap();
    assert!(staging.what.contains("in use by a daemon") && code == 0, "{findings:#?}");
    assert!(!findings.iter().any(|one| one.check == "staging-speed"), "{findings:#?}");
    assert!(is_running);
}

/// Takes one mail, or refuses whom it is for.
fn mail_server(refuses: bool) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = thread::spawn(move || {
        let (mut out, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(out.try_clone().unwrap()).lines().map_while(Result::ok);
        let (mut mail, mut is_data) = (String::new(), false);
        out.write_all(b"220 here\r\n").unwrap();
        for line in lines.by_ref() {
            let answer = match (is_data, line.get(..4).unwrap_or(&line)) {
                (true, ".") => "250 taken",
                (true, _) => {
                    mail += &format!("{line}\n");
                    continue;
                }
                (false, "DATA") => "354 go on",
                (false, "RCPT") if refuses => "550 nobody of that name",
                (false, _) => "250 yes",
            };
            is_data = answer.starts_with("354");
            if out.write_all(format!("{answer}\r\n").as_bytes()).is_err() {
                break;
            }
        }
        mail
    });
    (port, served)
}

#[test]
fn a_mail_is_sent_when_it_is_asked_for() {
    for refuses in [false, true] {
        let mut world = World::new();
        let (port, served) = mail_server(refuses);
        world.setup.more =
            format!("[mail]\nsmtp = \"smtp://127.0.0.1:{port}\"\nfrom = \"a@example.org\"\nto = [\"ops@example.org\"]");
        let (mail, code) = told(&world, "mail");
        assert!(mail.what.contains("not tried") && code == 0, "{mail:#?}");
        let (findings, code) = doctor(&world, &["--mail"]);
        let mail = findings.last().unwrap();
        let expected = if refuses { ("problem", 1) } else { ("ok", 0) };
        assert_eq!((mail.state.as_str(), code), expected, "{mail:#?}");
        assert_eq!(served.join().unwrap().contains("This is a test"), !refuses);
    }
}
