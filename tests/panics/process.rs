//! A process that runs the pipeline with a monitor that panics.

use crate::world::{Ran, World};
use archiver::{
    catalog::Catalog,
    config,
    daemon::{self, Run},
    log::{self, LogMonitor},
    notice::{Monitor, Notice, Step},
    pipeline::{self, AlwaysOpen, Live, Parts},
    staging::Stop,
    vault::directory::DirectoryVault,
};
use serde::{Deserialize, Serialize};
use std::{
    cell::RefCell,
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The variable that makes a process a run.
pub const PLAN: &str = "ARCHIVER_PANICS";
/// What a panic says with a name in it that would forge a line, as the log tells it.
const NAME: &str = "a\n\x1b[31mname";
pub const SAID: &str = r"no such thing as a\\n\\u{1b}[31mname";

const HANGS: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub root: PathBuf,
    /// The thread that is to panic, …
    pub thread: String,
    /// … at work on this, …
    pub source: Option<String>,
    pub seq: Option<u32>,
    /// … after so many signs of its progress, …
    pub skip: u32,
    /// … and so often at each further one.
    pub times: u32,
    /// Not `run --once`: it is told to stop when the pass has ended.
    pub is_daemon: bool,
}

impl Plan {
    pub fn of(world: &World, thread: &str) -> Plan {
        let thread = thread.to_owned();
        Plan { root: world.path(""), thread, source: None, seq: None, skip: 0, times: 1, is_daemon: false }
    }
}

pub fn run(world: &World, plan: &Plan) -> Ran {
    let log = fs::File::create(world.path("log")).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "one_run", "--nocapture"]).env(PLAN, serde_json::to_string(plan).unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < HANGS {
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait().unwrap();
    let log = fs::read_to_string(world.path("log")).unwrap();
    let code = log.lines().rev().find_map(|line| line.strip_prefix("exit code: ")).map(|code| code.parse().unwrap());
    Ran { code, log }
}

thread_local! {
    /// What this thread is at: source and seq.
    static AT: RefCell<Option<(String, u32)>> = const { RefCell::new(None) };
}

/// Logs what it is told, and panics.
struct Trap {
    plan: Plan,
    log: LogMonitor,
    skip: AtomicU32,
    left: AtomicU32,
    stop: Stop,
    cancel: CancellationToken,
}

fn takes_one(from: &AtomicU32) -> bool {
    from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Monitor for Trap {
    fn notice(&self, notice: &Notice) {
        self.log.notice(notice);
        match notice {
            Notice::StepStarted { piece, .. } => AT.set(Some((piece.source.to_string(), piece.seq))),
            Notice::PassEnded { .. } if self.plan.is_daemon => {
                self.stop.tell();
                self.cancel.cancel();
            }
            _ => {}
        }
    }

    fn progress(&self, _: Step, _: u64) {
        let is_it = AT.with_borrow(|at| {
            let (source, seq) = (at.as_ref().map(|at| &at.0), at.as_ref().map(|at| at.1));
            thread::current().name() == Some(&self.plan.thread)
                && (self.plan.source.is_none() || self.plan.source.as_ref() == source)
                && (self.plan.seq.is_none() || self.plan.seq == seq)
        });
        if is_it && !takes_one(&self.skip) {
            assert!(!takes_one(&self.left), "no such thing as {NAME}");
        }
    }
}

pub fn pipeline(text: &str) {
    let plan: Plan = serde_json::from_str(text).unwrap();
    let settings = config::load(&plan.root.join("archiver.toml")).unwrap();
    let (stop, cancel) = (Stop::default(), CancellationToken::new());
    let options = daemon::pipeline(&settings, &Run { once: !plan.is_daemon, ..Run::default() });
    let vault = DirectoryVault::open(&plan.root.join("vault")).unwrap();
    let (skip, left) = (AtomicU32::new(plan.skip), AtomicU32::new(plan.times));
    let log = log::init("info");
    let trap = Trap { plan, log, skip, left, stop: stop.clone(), cancel: cancel.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let finish = pipeline::run(Parts {
        live: Live::new(options, Arc::new(vault)),
        catalog: Catalog::open(&settings.catalog_file()).unwrap(),
        monitor: Arc::new(trap),
        clock: Arc::new(jiff::Timestamp::now),
        wait: Arc::new(Stop::wait),
        stop,
        cancel,
        gate: Arc::new(AlwaysOpen),
        runtime: runtime.handle().clone(),
        ready: Box::new(|| ()),
    });
    println!("exit code: {}", finish.exit_code());
}
