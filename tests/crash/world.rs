//! A throw-away installation: source, staging, state, a directory vault and a configuration.

use crate::source::sh;
use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The program under test: the one that was built with this test, or another that a campaign names.
pub fn binary() -> &'static str {
    static NAMED: OnceLock<Option<String>> = OnceLock::new();
    NAMED.get_or_init(|| env::var("ARCHIVER_BINARY").ok()).as_deref().unwrap_or(env!("CARGO_BIN_EXE_archiver"))
}

/// A run that takes longer hangs; the slowest takes a tenth of it.
const HANGS: Duration = Duration::from_secs(180);
pub const KILLED: i32 = 128 + 9;

/// How a world differs from the smallest one.
#[derive(Clone, Debug)]
pub struct Setup {
    pub cap: u64,
    pub max_size: &'static str,
    pub compress: &'static str,
    pub encrypted: bool,
    /// Further sections.
    pub more: &'static str,
}

/// 3 × max_size + 1 %.
pub const SMALLEST_CAP: u64 = (3 << 20) * 101 / 100 + 1;

impl Default for Setup {
    fn default() -> Setup {
        Setup { cap: SMALLEST_CAP, max_size: "1MiB", compress: "level = 0", encrypted: false, more: "" }
    }
}

pub struct World {
    pub setup: Setup,
    dir: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    /// As a shell says it; `None` when it had to be killed because it hung.
    pub code: Option<i32>,
    pub log: String,
}

impl World {
    /// In memory where that is possible: a killed process leaves the same there, and nobody waits for a disk.
    pub fn new(setup: Setup, source: impl FnOnce(&Path)) -> World {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        World::at(dir, setup, source)
    }

    pub fn at(dir: TempDir, setup: Setup, source: impl FnOnce(&Path)) -> World {
        let world = World { setup, dir };
        for name in ["source", "vault"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        source(&world.source());
        fs::write(world.path("passphrase"), "correct horse battery staple").unwrap();
        sh(world.dir.path(), "chmod 600 passphrase");
        world.configure("");
        world
    }

    /// Writes the configuration, with `more` for this run.
    pub fn configure(&self, more: &str) {
        let Setup { cap, max_size, compress, encrypted, more: always } = &self.setup;
        let root = self.dir.path().display();
        let encrypt = match encrypted {
            true => format!("passphrase_file = \"{root}/passphrase\""),
            false => "method = \"none\"".to_owned(),
        };
        let text = format!(
            "state = \"{root}/state\"\ntime_zone = \"UTC\"\n[staging]\npath = \"{root}/staging\"\ncap = {cap}\n\
             [[source]]\nname = \"data\"\npath = \"{root}/source\"\n\
             [pack]\nmax_size = \"{max_size}\"\ncheckpoint = \"1MiB\"\n\
             [compress]\n{compress}\nstream = \"1MiB\"\n[encrypt]\n{encrypt}\n\
             [vault]\nurl = \"file://{root}/vault\"\nhost = \"h1\"\npart_size = \"5MiB\"\n{always}\n{more}\n"
        );
        fs::write(self.path("archiver.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub fn staging(&self, dir: &str) -> PathBuf {
        self.path("staging").join(dir)
    }

    /// Names in a directory of staging.
    pub fn staged(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.staging(dir)) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn command(&self, program: &str, before: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(before);
        if program != binary() {
            command.arg(binary());
        }
        command.arg("--config").arg(self.path("archiver.toml"));
        command
    }

    /// Starts `run --once`, its log in a file, so that nothing ever waits for a reader.
    pub fn start(&self) -> Running {
        self.start_with(self.command(binary(), &[]))
    }

    pub fn start_with(&self, mut command: Command) -> Running {
        command.args(["run", "--once"]);
        self.spawn(command)
    }

    /// Starts a daemon, which ends only when it is told to.
    pub fn start_daemon(&self) -> Running {
        let mut command = self.command(binary(), &[]);
        command.arg("run");
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Running {
        let log = self.path("log");
        let file = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Running { child: command.spawn().unwrap(), log, began: Instant::now() }
    }

    pub fn run(&self) -> Ran {
        self.start().wait()
    }

    /// What `archiver COMMAND…` prints.
    pub fn ask(&self, args: &[&str]) -> Result<String, String> {
        let out = self.command(binary(), &[]).args(args).output().unwrap();
        match out.status.success() {
            true => Ok(String::from_utf8(out.stdout).unwrap()),
            false => Err(format!("{args:?}: {}", String::from_utf8_lossy(&out.stderr))),
        }
    }
}

pub struct Running {
    pub child: Child,
    log: PathBuf,
    began: Instant,
}

impl Running {
    pub fn wait(mut self) -> Ran {
        Ran { code: self.code(), log: self.log() }
    }

    /// Waits for its end, and kills it if it hangs.
    pub fn code(&mut self) -> Option<i32> {
        while self.began.elapsed() < HANGS {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            thread::sleep(Duration::from_millis(3));
        }
        self.kill();
        None
    }

    /// Kills it as the system would, unless it has ended.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until something is so, or it ends, or hangs. Tells whether it is so.
    pub fn until(&mut self, mut is_so: impl FnMut(&Running) -> bool) -> bool {
        while self.is_running() && self.began.elapsed() < HANGS {
            if is_so(self) {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
