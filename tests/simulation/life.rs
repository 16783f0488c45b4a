//! One life of the daemon: a process that runs the pipeline until all that is due is delivered, or its time has come.

use crate::{
    letters::{DIGEST, Letters},
    line::{Hours, Line, OpenHours},
    world::World,
};
use archiver::{
    catalog::Catalog,
    compress, config,
    daemon::{self, Run},
    fate::Waits,
    name::Compression,
    notice::{Monitor, Notice},
    pipeline::{self, Live, Parts},
    staging::Stop,
    upload::Retries,
    vault::{Vault, directory::DirectoryVault},
    window::Window,
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

pub const HOUR: i64 = 3_600_000;
pub const DAY: i64 = 24 * HOUR;
/// The variable that makes a process a life.
pub const PLAN: &str = "ARCHIVER_LIFE";
/// Of the window; its clocks are set back and forth.
const ZONE: &str = "Europe/Berlin";

/// All times in milliseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub root: PathBuf,
    /// A pass is due.
    pub begin: bool,
    pub now: i64,
    /// It is killed when so many things have happened after this time.
    pub crash_at: i64,
    pub crash_after: u64,
    /// Not killed: whoever does something then panics, and the life goes on.
    pub panics: bool,
    pub stop_at: i64,
    pub outages: Vec<(i64, i64)>,
    pub settings: Told,
    /// When the configuration is read again, and what it says then.
    pub reloads: Vec<(i64, Told)>,
}

/// Settings that become others in the middle of the work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub concurrency: usize,
    pub window: Vec<String>,
    pub max_size: u64,
    pub zstd: bool,
}

impl Told {
    pub fn window(&self) -> Window {
        Window::parse(&self.window).unwrap()
    }

    fn fill(&self, options: &mut pipeline::Options) {
        options.upload.concurrency = self.concurrency;
        options.pack.max_size = self.max_size;
        options.compress = compress::Options::for_method(if self.zstd { Compression::Zstd } else { Compression::None });
    }
}

/// A life that takes longer hangs.
const HANGS: Duration = Duration::from_secs(180);
/// What a thread says that panics because it was told to.
/// Begins a line of the log of a life that was told other settings.
pub const RELOADED: &str = "reloaded:";
pub const DEFECT: &str = "A defect that somebody made";

#[derive(Debug)]
pub enum Lived {
    /// `panicked`: one of its threads did once, and it went on.
    Complete {
        panicked: bool,
    },
    Crashed,
    Stopped {
        panicked: bool,
    },
    /// In trouble, or worse: its log.
    Failed(String),
}

/// Lives a life, and tells how it ended and when.
pub fn live(world: &World, plan: &Plan) -> (Lived, i64) {
    world.configure("");
    let log = fs::File::create(world.path("log")).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "one_life", "--nocapture"]).env(PLAN, serde_json::to_string(plan).unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if HANGS < began.elapsed() => break None,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    let log = fs::read_to_string(world.path("log")).unwrap();
    let now = fs::read(world.path("now")).unwrap_or_else(|err| panic!("{err}\n{log}"));
    // Once, and by our doing; any other is a defect.
    let has_panicked = log.contains("panicked at");
    let is_ours = plan.panics && log.matches("panicked at").count() == 1 && log.contains(DEFECT);
    let ended = log.lines().rev().find_map(|line| line.strip_prefix("ended: "));
    let lived = match (status.map(|status| status.signal()), ended) {
        (Some(Some(9)), _) if !has_panicked => Lived::Crashed,
        (Some(None), Some(_)) if has_panicked && !is_ours => Lived::Failed(log),
        (Some(None), Some("Complete")) => Lived::Complete { panicked: has_panicked },
        (Some(None), Some("Stopped")) => Lived::Stopped { panicked: has_panicked },
        _ => Lived::Failed(format!("{status:?}\n{log}")),
    };
    (lived, i64::from_le_bytes(now.try_into().unwrap()))
}

/// What happens is told in the log of the life and to people, and is a moment at which it may end.
struct Witness(Arc<Hours>, Letters);

impl Monitor for Witness {
    fn notice(&self, notice: &Notice) {
        println!("{} {notice:?}", self.0.now());
        self.1.notice(notice, self.0.now());
        self.0.happens();
    }
}

pub fn run(text: &str) {
    let plan: Plan = serde_json::from_str(text).unwrap();
    let settings = config::load(&plan.root.join("archiver.toml")).unwrap();
    let (stop, cancel) = (Stop::default(), CancellationToken::new());
    let letters = Letters::open(&plan.root);
    let hours = Arc::new(Hours::new(&plan, stop.clone(), cancel.clone()));
    let mut options = daemon::pipeline(&settings, &Run { once: true, ..Run::default() });
    // It is never given up, and what an upload tries again by itself would be tried in real time.
    options.give_up_after = Some(Duration::from_secs(3600 * 24 * 365));
    options.silence = Some(DIGEST);
    options.upload.retries = Retries { max: 1, waits: Waits::secs(1, 1) };
    plan.settings.fill(&mut options);
    options.sources[0].pass_now = plan.begin;
    let window = Arc::new(OpenHours::new(plan.settings.window(), TimeZone::get(ZONE).unwrap(), hours.clone()));
    let line = Line::new(DirectoryVault::open(&plan.root.join("vault")).unwrap(), &plan, hours.clone());
    let (clock, wait) = (hours.clone(), hours.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let line: Arc<dyn Vault> = Arc::new(line);
    let live = Live::new(options.clone(), line.clone());
    let (told, opens, waits) = (live.clone(), window.clone(), stop.clone());
    hours.on_reload(Box::new(move |settings| {
        println!("{RELOADED} {settings:?}");
        let mut options = options.clone();
        settings.fill(&mut options);
        opens.set(settings.window());
        told.set(options, line.clone());
        waits.nudge();
    }));
    let finish = pipeline::run(Parts {
        live,
        catalog: Catalog::open(&settings.catalog_file()).unwrap(),
        monitor: Arc::new(Witness(hours, letters)),
        clock: Arc::new(move || {
            clock.happens();
            clock.now()
        }),
        wait: Arc::new(move |_, time| wait.pass(time)),
        stop,
        cancel,
        gate: window,
        runtime: runtime.handle().clone(),
        ready: Box::new(|| ()),
    });
    println!("ended: {:?}", finish.ended);
}
