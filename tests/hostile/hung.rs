//! Reads that never end: of a server that is gone, of a disk that tries for minutes.

use super::{common::World, is_root, odd::Mounted, unpacked};
use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A name that would forge a line of the log and color it.
const NAME: &str = "hung\n\x1b[31mforged";
pub const ESCAPED: &str = r"hung\n\u{1b}[31mforged";
/// A tenth of the time after which a thread that gives no sign would be taken to hang, were it not for the source.
pub const WATCHDOG: Duration = Duration::from_secs(3);
/// Enough for several pieces of 1 MiB before it.
const BEFORE: usize = 6;

pub fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hangs {
    /// Reads of a file, which the kernel gives up when the process ends.
    File,
    /// Reads of a file, for which the kernel waits whatever happens.
    DirectFile,
    Listing,
    /// Everything that is asked of the root, from the beginning.
    Root,
}

/// Files enough for some pieces, then what hangs, then a last file.
pub fn source(world: &World, hangs: Hangs) -> Mounted {
    let is_dir = hangs == Hangs::Listing;
    let mut ino = 0;
    let mounted = Mounted::new(&world.source, |nodes| {
        for number in 0..BEFORE {
            nodes.file(1, &format!("a{number}"), noise(700_000, number as u8));
        }
        ino = if is_dir { nodes.dir(1, NAME) } else { nodes.file(1, NAME, noise(2_500_000, 99)) };
        nodes.node(ino).is_direct = hangs == Hangs::DirectFile;
        if is_dir {
            nodes.file(ino, "inside", noise(5000, 98));
        }
        nodes.file(1, "z", noise(5000, 97));
    });
    mounted.hang(if hangs == Hangs::Root { 1 } else { ino });
    mounted
}

#[expect(clippy::disallowed_methods, reason = "tests may wait for a moment")]
fn pause(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

pub fn until(what: &str, at_most: u64, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(at_most), "Waited in vain for: {what}");
        pause(50);
    }
}

fn objects(vault: &Path) -> usize {
    let is_piece = |name: &str| name.contains(".tar.");
    let found = Command::new("find").arg(vault).args(["-type", "f", "-printf", "%f\n"]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().filter(|name| is_piece(name)).count()
}

/// A daemon with a watchdog that we hear, and its log.
pub struct Daemon {
    child: Child,
    /// When it was heard last, and how often.
    pub heard: Arc<Mutex<(Instant, usize)>>,
    log: PathBuf,
}

impl Daemon {
    pub fn start(world: &World) -> Daemon {
        let (at, log) = (world.root.path().join("notify"), world.root.path().join("log"));
        let _ = fs::remove_file(&at);
        let socket = UnixDatagram::bind(&at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let heard = Arc::new(Mutex::new((Instant::now(), 0)));
        let ears = heard.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len) = socket.recv(&mut buffer) {
                if buffer[..len].starts_with(b"WATCHDOG=1") {
                    let mut heard = ears.lock().unwrap();
                    *heard = (Instant::now(), heard.1 + 1);
                }
            }
        });
        let mut command = Command::new(super::common::BINARY);
        command
            .arg("--config")
            .arg(world.config())
            .arg("run")
            .env("NOTIFY_SOCKET", &at)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        Daemon { child: command.spawn().unwrap(), heard, log }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Told to end, it does within this time. The kernel keeps the shell of a process in which a read hangs that it does
    /// not interrupt, but nothing in it runs any more.
    pub fn terminate(&mut self) -> Duration {
        let (began, pid) = (Instant::now(), self.child.id());
        assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
        let is_over = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ");
        while !is_over() {
            assert!(began.elapsed() < Duration::from_secs(20), "It does not end: {}", self.log());
            pause(20);
        }
        began.elapsed()
    }

    /// The code that it ended with, when it is gone.
    pub fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Everything is archived once the hang is over.
pub fn completes(world: &World, inside: &str) {
    world.run_once().expect(0);
    assert_eq!(world.exceptions().len(), 0);
    let to = unpacked(world);
    for number in 0..BEFORE {
        assert!(fs::read(to.join(format!("a{number}"))).unwrap() == noise(700_000, number as u8));
    }
    assert!(fs::read(to.join("z")).unwrap() == noise(5000, 97));
    let hung = to.join(NAME).join(inside);
    if inside.is_empty() {
        if to.join(NAME).is_dir() {
            world.join_segments(&to.join(NAME));
        }
        assert!(fs::read(to.join(NAME)).unwrap() == noise(2_500_000, 99));
    } else {
        assert!(fs::read(hung).unwrap() == noise(5000, 98));
    }
}

#[test]
fn a_read_that_hangs_keeps_nothing_else_and_is_told_once_and_when_it_goes_on() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let source = source(&world, Hangs::File);
    let mut daemon = Daemon::start(&world);
    until("a read that hangs", 30, || source.is_waited_for());
    until("the pieces before it in the vault", 30, || objects(&world.vault) == BEFORE);
    let pings = daemon.heard.lock().unwrap().1;
    until("the line of the log", 60, || {
        assert!(daemon.heard.lock().unwrap().0.elapsed() < WATCHDOG, "The watchdog would bite");
        daemon.log().contains("Archiving stands still")
    });
    println!("{} pings while it hung", daemon.heard.lock().unwrap().1 - pings);
    // No second line, and no end.
    let began = Instant::now();
    while began.elapsed() < 3 * WATCHDOG {
        assert!(daemon.heard.lock().unwrap().0.elapsed() < WATCHDOG, "The watchdog would bite");
        pause(50);
    }
    source.go_on();
    until("the end of the pass", 30, || daemon.log().contains("Pass ended"));
    until("the end of the hang in the log", 5, || daemon.log().contains("Archiving goes on"));
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("Archiving ")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    // In quotes, which doubles the backslashes.
    let names_it = format!("path=\"{}\"", ESCAPED.replace('\\', r"\\"));
    assert!(lines.iter().all(|line| line.contains(" WARN Archiving ") && line.contains(&names_it)), "{lines:?}");
    assert!(lines[0].contains("stands still source=\"data\"") && lines[0].contains("since=\"20"), "{lines:?}");
    assert!(!log.contains('\x1b'));
    println!("An idle daemon ends within {:?}", daemon.terminate());
    assert_eq!(daemon.code(), Some(0));
    completes(&world, "");
}

fn ends_although(hangs: Hangs) {
    let world = World::new();
    let source = source(&world, hangs);
    let mut daemon = Daemon::start(&world);
    until("a read that hangs", 30, || source.is_waited_for());
    // Looking ahead for the last ones it meets a listing that hangs.
    let before = match hangs {
        Hangs::Root => 0,
        Hangs::Listing => BEFORE - 2,
        Hangs::File | Hangs::DirectFile => BEFORE,
    };
    until("the pieces before it in the vault", 30, || objects(&world.vault) >= before);
    println!("{hangs:?}: it ends within {:?}", daemon.terminate());
    let path = if hangs == Hangs::Root { "/".to_owned() } else { ESCAPED.replace('\\', r"\\") };
    let line = format!("what=\"the archiving of {path} in data\"");
    assert!(daemon.log().contains(&line), "{}", daemon.log());
    // The next one can begin, whatever the kernel keeps of the one before.
    let mut next = Daemon::start(&world);
    until("the next run", 30, || hangs == Hangs::Root || next.log().contains("resumed=true"));
    source.go_on();
    assert_eq!(daemon.code(), Some(0));
    until("the end of the pass", 30, || next.log().contains("Pass ended"));
    next.terminate();
    assert_eq!(next.code(), Some(0));
    completes(&world, if hangs == Hangs::Listing { "inside" } else { "" });
}

/// Side by side, because each of them takes as long as a daemon waits.
#[test]
fn a_daemon_ends_although_a_read_hangs_whether_or_not_a_signal_interrupts_it() {
    if !is_root() {
        return;
    }
    thread::scope(|scope| {
        for hangs in [Hangs::File, Hangs::DirectFile, Hangs::Listing, Hangs::Root] {
            scope.spawn(move || ends_although(hangs));
        }
    });
}
