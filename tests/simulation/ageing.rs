//! A daemon that grows old: one process that lives for days, with a pass every three hours, an outage and a window that
//! closes every day, and mails to a server. What it holds when it has nothing to do must not grow.

use crate::{
    begin,
    letters::DIGEST,
    life::{DAY, HOUR, Plan, Told},
    line::{Hours, Line, OpenHours},
    smtp::Sink,
    source::{Random, setting},
    world::{Setup, World},
};
use archiver::{
    catalog::Catalog,
    config,
    daemon::{self, Run},
    fate::Waits,
    notice::{Monitor, Notice},
    pipeline::{self, Live, Parts},
    report::{self, Mailer, Patience, mail},
    staging::Stop,
    upload::Retries,
    vault::{Vault, directory::DirectoryVault},
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The variable that makes a process such a daemon.
pub const AGE: &str = "ARCHIVER_AGE";
/// From the begin of a pass to that of the next.
const REPEAT: i64 = 3 * HOUR;
/// A pass that is due, or under way, and takes longer in real time hangs.
const HANGS: Duration = Duration::from_secs(120);
/// How long threads may take to end, and files to be closed, once nothing is to be done.
const SETTLES: Duration = Duration::from_secs(20);
/// How much more memory an idle daemon may have than after its first pass, however long it lives: SQLite's cache, up to
/// 2 MiB of a catalog that grows, and the stacks and pages of the program that only an outage or a closed window needs.
/// A leak of 400 KiB for each pass is more within a day, one of 60 KiB within a week.
const GROWS_MAX_KIB: u64 = 3 << 10;
/// As a rule glibc keeps what was freed: in up to eight arenas for a core, each as large as whatever its threads once had
/// at the same time. Which thread gets which is chance, so after the first pass that grows for days, up to a limit, and
/// nothing smaller than that could be told from a leak. One arena, and what is large given back when it is freed.
const OF_GLIBC: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072")];

#[derive(Debug, Serialize, Deserialize)]
struct Age {
    plan: Plan,
    days: i64,
    /// Of the mail server.
    port: u16,
}

/// What an idle process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    hours: i64,
    passes: u32,
    files: usize,
    threads: usize,
    /// Of which pages of files, as of the program itself, are no part.
    anonymous_kib: u64,
    rss_kib: u64,
}

/// Counts passes.
#[derive(Default)]
struct Passes {
    begun: AtomicU32,
    begun_at: AtomicI64,
    ended: AtomicU32,
}

struct Witness(Arc<Passes>, Arc<Hours>, Mailer);

impl Monitor for Witness {
    fn notice(&self, notice: &Notice) {
        println!("{} {notice:?}", self.1.now());
        self.2.notice(notice);
        match notice {
            Notice::PassStarted { .. } => {
                self.0.begun_at.store(self.1.millis(), Ordering::SeqCst);
                self.0.begun.fetch_add(1, Ordering::SeqCst)
            }
            Notice::PassEnded { .. } => self.0.ended.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < HANGS, "Waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn mailer(root: &Path, hours: &Arc<Hours>, port: u16) -> Mailer {
    let (since, at) = (hours.clone(), hours.clone());
    let clock = report::Clock {
        elapsed: Box::new(move || Duration::from_millis(since.millis() as u64)),
        wall: Box::new(move || at.now().into()),
    };
    let options = mail::Options {
        smtp: format!("smtp://localhost:{port}"),
        password: None,
        from: "archiver@example.org".to_owned(),
        to: vec!["ops@example.org".to_owned()],
        digest: DIGEST,
    };
    Mailer::start(&options, "h1", Some(&root.join("state")), clock, Patience::default()).unwrap()
}

fn held(now: i64, passes: &Passes, begin: i64) -> Held {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    Held {
        hours: (now - begin) / HOUR,
        passes: passes.ended.load(Ordering::SeqCst),
        // One of them is that of the list.
        files: fs::read_dir("/proc/self/fd").unwrap().count() - 1,
        threads: fs::read_dir("/proc/self/task").unwrap().count(),
        anonymous_kib: kib("Anonymous:"),
        rss_kib: kib("Rss:"),
    }
}

/// When files and threads are as many as `before`, or, the first time, as many as a second ago.
fn settled(before: Option<Held>, look: impl Fn() -> Held) -> Held {
    let (began, mut last) = (Instant::now(), look());
    loop {
        thread::sleep(Duration::from_secs(2));
        let now = look();
        let count = |held: &Held| (held.files, held.threads);
        if before.is_none_or(|before| count(&before) == count(&now)) && count(&last) == count(&now)
            || SETTLES < began.elapsed()
        {
            return now;
        }
        last = now;
    }
}

/// The life, in the process that is started for it.
pub fn run(text: &str) {
    let Age { plan, days, port } = serde_json::from_str(text).unwrap();
    let settings = config::load(&plan.root.join("archiver.toml")).unwrap();
    let (stop, cancel) = (Stop::default(), CancellationToken::new());
    let hours = Arc::new(Hours::new(&plan, stop.clone(), cancel.clone()));
    let mut options = daemon::pipeline(&settings, &Run::default());
    options.silence = Some(DIGEST);
    // What an upload tries again by itself would be tried in real time.
    options.upload.retries = Retries { max: 1, waits: Waits::secs(1, 1) };
    options.sources[0].repeat = Some(Duration::from_millis(REPEAT as u64));
    let gate = Arc::new(OpenHours::new(plan.settings.window(), TimeZone::UTC, hours.clone()));
    let line = Line::new(DirectoryVault::open(&plan.root.join("vault")).unwrap(), &plan, hours.clone());
    let line: Arc<dyn Vault> = Arc::new(line);
    // As the daemon's, but for threads that end when they have nothing to do: how many of them there were at once is chance.
    let mut workers = tokio::runtime::Builder::new_multi_thread();
    let runtime = workers.worker_threads(2).thread_keep_alive(Duration::from_millis(500)).enable_all().build().unwrap();
    let (passes, clock, wait) = (Arc::<Passes>::default(), hours.clone(), hours.clone());
    let parts = Parts {
        live: Live::new(options, line),
        catalog: Catalog::open(&settings.catalog_file()).unwrap(),
        monitor: Arc::new(Witness(passes.clone(), hours.clone(), mailer(&plan.root, &hours, port))),
        clock: Arc::new(move || clock.now()),
        wait: Arc::new(move |_, time| wait.pass(time)),
        stop: stop.clone(),
        cancel: cancel.clone(),
        gate,
        runtime: runtime.handle().clone(),
        ready: Box::new(|| ()),
    };
    let work = thread::spawn(|| pipeline::run(parts));
    let count = |of: &AtomicU32| of.load(Ordering::SeqCst);
    let look = || held(hours.millis(), &passes, plan.now);
    let (mut pass, mut first) = (0, None);
    for day in 1..=days {
        while hours.millis() < plan.now + day * DAY {
            while pass > 0 && hours.millis() < passes.begun_at.load(Ordering::SeqCst) + REPEAT {
                hours.pass(Duration::from_secs(600));
            }
            // After an outage the next one is due at once.
            pass += 1;
            wait_until("a pass has begun", || pass <= count(&passes.begun));
            wait_until("the pass has ended", || pass <= count(&passes.ended));
            if first.is_none() {
                first = Some(settled(None, look));
                println!("aged {}", serde_json::to_string(&first).unwrap());
            }
        }
        println!("aged {}", serde_json::to_string(&settled(first, look)).unwrap());
    }
    stop.tell();
    cancel.cancel();
    println!("ended: {:?}", work.join().unwrap().ended);
}

/// 3 MB in pieces of a megabyte.
fn tree(root: &Path) {
    let mut random = Random::new(5);
    for n in 0..60 {
        fs::write(root.join(format!("{n:02}")), random.bytes(n * 1600)).unwrap();
    }
}

#[test]
fn a_daemon_that_lives_for_days_holds_no_more_than_after_its_first_pass() {
    let days = setting("ARCHIVER_AGE_DAYS", 1) as i64;
    let setup = Setup { cap: 16 << 20, encrypted: true, ..Setup::default() };
    let (world, sink, now) = (World::new(setup, tree), Sink::start(), begin());
    // While a pass is delivered that began three hours before the day was over.
    let outages = (1..=days).map(|day| now + day * DAY - REPEAT).map(|at| (at + HOUR / 3, at + 2 * HOUR)).collect();
    let settings = Told { concurrency: 3, window: vec!["15:30-13:00".to_owned()], max_size: 1 << 20, zstd: false };
    let never = i64::MAX;
    let plan = Plan {
        root: world.path(""),
        begin: true,
        now,
        crash_at: never,
        crash_after: 0,
        panics: false,
        stop_at: never,
        outages,
        settings,
        reloads: Vec::new(),
    };
    let age = serde_json::to_string(&Age { plan, days, port: sink.port }).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "one_age", "--nocapture"]).env(AGE, age).envs(OF_GLIBC).stdin(Stdio::null());
    let out = command.output().unwrap();
    let log = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{log}{}", String::from_utf8_lossy(&out.stderr));
    let held: Vec<Held> = log
        .lines()
        .filter_map(|line| line.strip_prefix("aged "))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    held.iter().for_each(|held| println!("{held:?}"));
    let (first, last) = (held[0], held[held.len() - 1]);
    let mut mails = BTreeMap::<String, i64>::new();
    for mail in sink.mails.try_iter() {
        let subject = mail.lines().find(|line| line.starts_with("Subject: ")).unwrap();
        *mails.entry(subject.to_owned()).or_default() += 1;
    }
    let (count, failures) = (mails.values().sum::<i64>(), log.matches(" Trouble {").count());
    let grown = last.rss_kib.saturating_sub(first.rss_kib);
    println!(
        "figure: {days} days, {} passes, {failures} failures: {} files, {} threads, {grown} KiB more than after the first pass; {count} mails",
        last.passes, last.files, last.threads
    );
    assert_eq!((last.files, last.threads), (first.files, first.threads), "files and threads");
    assert!(grown <= GROWS_MAX_KIB, "{grown} KiB more");
    // At most one of each kind per digest, of the days that it lived.
    assert!(mails.values().all(|count| *count <= last.hours / 24 + 1) && mails.len() <= 4, "{mails:?}");
    assert!(3 * days as usize <= failures && 3 <= mails.len(), "Nothing was tried: {mails:?}");
}
