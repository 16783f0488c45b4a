//! Promises about telling people, with a real mail server (STARTTLS, AUTH, certificates), servers that are of no help,
//! and a service for heartbeats behind TLS.

#![expect(clippy::disallowed_methods, reason = "these tests play the operator, from outside")]

#[path = "common/mod.rs"]
mod common;
#[path = "mail/servers.rs"]
mod servers;

use common::{BINARY, Ran, World};
use servers::{Certificates, Mta, Pings, port, scripted};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

const TOLD: &str = "Mail cannot be sent yet";

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("Only root can run a mail server in a root of its own: not tested");
    }
    is_root
}

/// `run --once` on a machine that knows the servers' names, and trusts who signed their certificates, or not.
fn run_once(world: &World, certificates: &Certificates, trusts: bool) -> Ran {
    let hosts = world.root.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost mail.example.org other.example.org\n").unwrap();
    let script =
        "mount --bind \"$1\" /etc/hosts; exec timeout -k 5 120 \"$2\" --config \"$3\" run --once --pass-now data";
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-euc", script, "_"]).args([hosts.as_path(), Path::new(BINARY), &world.config()]);
    if trusts {
        command.env("SSL_CERT_FILE", certificates.ca());
    }
    Ran::of(command.stdin(Stdio::null()).output().unwrap())
}

/// Mails that wait, as the next start would find them.
fn waiting(world: &World) -> usize {
    let text = fs::read(world.state.join("mails.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&text).unwrap();
    kept["letters"].as_array().unwrap().len()
}

fn mail(world: &World, smtp: &str, password: Option<&str>) -> String {
    let mut section =
        format!("[mail]\nsmtp = \"{smtp}\"\nfrom = \"archiver@example.org\"\nto = [\"ops@example.org\"]\n");
    if let Some(password) = password {
        let file = world.root.path().join("mail-password");
        fs::write(&file, password).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        section.push_str(&format!("password_file = {file:?}\n"));
    }
    section
}

#[test]
fn a_real_server_takes_mails_and_what_is_wrong_with_it_is_told_once_and_set_right_later() {
    if !is_root() {
        return;
    }
    let certificates = Certificates::make();
    let mta = Mta::start(&certificates);
    let url = |host: &str| format!("smtp://backup@{host}:{}", mta.port);
    let (right, good) = (url("mail.example.org"), "a password of a test");
    let table = [
        // Server, password, whether its certificate is trusted, what is said.
        (&right, good, true, None),
        (&right, "another", true, Some("535")),
        (&right, good, false, Some("certificate")),
        (&url("other.example.org"), good, true, Some("certificate")),
    ];
    for (smtp, password, trusts, said) in table {
        let mut world = World::new();
        fs::remove_dir(&world.source).unwrap();
        world.setup.more = mail(&world, smtp, Some(password));
        let (before, began) = (mta.mails().len(), Instant::now());
        let ran = run_once(&world, &certificates, trusts).expect(75);
        assert!(began.elapsed() < Duration::from_secs(20), "{smtp} holds the run");
        assert!(!ran.stderr.contains(good), "{}", ran.stderr);
        if let Some(said) = said {
            assert_eq!(ran.stderr.matches(TOLD).count(), 1, "{}", ran.stderr);
            assert!(ran.stderr.lines().any(|line| line.contains(TOLD) && line.contains(said)), "{}", ran.stderr);
            assert_eq!((waiting(&world), mta.mails().len()), (1, before));
            // It is not told again what was told, but what waited arrives.
            world.setup.more = mail(&world, &right, Some(good));
            run_once(&world, &certificates, true).expect(75);
        } else {
            assert!(!ran.stderr.contains(TOLD), "{}", ran.stderr);
        }
        let mails = mta.wait_for(before + 1);
        assert_eq!((mails.len(), waiting(&world)), (before + 1, 0));
        assert!(mails.iter().all(|mail| mail.contains("Subject: [archiver nas1] data: The pass is held")), "{mails:?}");
    }
}

#[test]
fn a_server_that_is_of_no_help_holds_nothing_and_loses_only_what_it_refused() {
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = port();
    let table = [
        (hangs.local_addr().unwrap().port(), TOLD, 1),
        (down, TOLD, 1),
        (scripted("451 4.7.1 Greylisted, try again\x1b[2J later").port, TOLD, 1),
        (scripted("550 5.1.1 No such user").port, "Mail was refused", 0),
    ];
    for (port, said, kept) in table {
        let mut world = World::new();
        world.fill("echo hello >file");
        world.setup.more = mail(&world, &format!("smtp://127.0.0.1:{port}"), None);
        let began = Instant::now();
        let ran = world.run_once().expect(0);
        assert!(began.elapsed() < Duration::from_secs(20), "{said}: the run was held");
        assert!(!ran.stderr.contains('\x1b'), "{:?}", ran.stderr);
        // A server that hangs is not given up yet.
        let times = usize::from(port != hangs.local_addr().unwrap().port());
        assert_eq!(ran.stderr.matches(said).count(), times, "{}", ran.stderr);
        assert_eq!(waiting(&world), kept, "{said}");
    }
}

/// A daemon that writes what it says into a file of the world, until it is killed.
struct Daemon(Child, PathBuf);

impl Daemon {
    fn start(world: &World, name: &str) -> Daemon {
        let path = world.root.path().join(name);
        let log = fs::File::create(&path).unwrap();
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(world.config()).arg("run").stdin(Stdio::null()).stdout(Stdio::null());
        Daemon(command.stderr(log).spawn().unwrap(), path)
    }

    fn hear(&self, what: &str) {
        wait_until(what, || fs::read_to_string(&self.1).unwrap().contains(what));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "Waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_reload_hands_over_what_waits_and_a_daemon_that_is_killed_again_and_again_mails_once() {
    let mut world = World::new();
    fs::remove_dir(&world.source).unwrap();
    let (down, up) = (scripted("451 Later"), scripted("250 OK"));
    world.setup.more = mail(&world, &format!("smtp://127.0.0.1:{}", down.port), None);
    let daemon = Daemon::start(&world, "first");
    daemon.hear(TOLD);
    world.setup.more = mail(&world, &format!("smtp://127.0.0.1:{}", up.port), None);
    world.archiver(&["reload"]).expect(0);
    let mails = || up.mails.load(Ordering::SeqCst);
    wait_until("the mail arrives", || mails() == 1);
    wait_until("that is written down", || waiting(&world) == 0);
    drop(daemon);
    for name in ["second", "third", "fourth"] {
        Daemon::start(&world, name).hear("Pass held");
    }
    assert_eq!((mails(), waiting(&world)), (1, 0));
}

#[test]
fn a_heartbeat_is_heard_when_all_is_done_and_never_by_who_cannot_be_trusted() {
    if !is_root() {
        return;
    }
    let certificates = Certificates::make();
    let pings = Pings::start(&certificates);
    for (host, trusts, heard) in
        [("mail.example.org", true, 1), ("mail.example.org", false, 0), ("other.example.org", true, 0)]
    {
        let mut world = World::new();
        world.fill("echo hello >file");
        world.setup.more = format!("[heartbeat]\nurl = \"https://{host}:{}/secret\"\n", pings.port);
        let before = pings.heard();
        let ran = run_once(&world, &certificates, trusts).expect(0);
        assert_eq!(pings.heard() - before, heard, "{host} {trusts}: {}", ran.stderr);
        assert_eq!(ran.stderr.matches("The heartbeat is not heard").count(), 1 - heard, "{}", ran.stderr);
        assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
        // Held, it is not complete.
        fs::remove_dir_all(&world.source).unwrap();
        let before = pings.heard();
        run_once(&world, &certificates, trusts).expect(75);
        assert_eq!(pings.heard(), before);
        let told = world.archiver(&["check"]).text();
        assert!(!told.contains("secret") && told.contains(&format!("https://{host}:{}/…", pings.port)), "{told}");
    }
}
