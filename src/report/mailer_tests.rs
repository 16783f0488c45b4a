use super::{
    super::stub::{Answer, Event, Stub},
    *,
};
use crate::fate::Trouble;
use std::sync::atomic::{AtomicU64, Ordering};

/// Long enough to fail a test by never ending.
const EVER: Duration = Duration::from_secs(1_000_000);
const DAY: u64 = 86_400;

/// A mailer whose clock is moved by hand.
struct Bench {
    mailer: Mailer,
    stub: Stub,
    now: Arc<AtomicU64>,
}

fn options(digest: u64, port: u16) -> Options {
    Options {
        smtp: format!("smtp://127.0.0.1:{port}"),
        password: None,
        from: "a@b.org".into(),
        to: vec!["ops@b.org".into()],
        digest: Duration::from_secs(digest),
    }
}

/// A clock and a calendar that are moved by hand.
fn clock(now: &Arc<AtomicU64>) -> Clock {
    let at = |now: &Arc<AtomicU64>| {
        let now = Arc::clone(now);
        move || Duration::from_secs(now.load(Ordering::SeqCst))
    };
    let (elapsed, wall) = (at(now), at(now));
    Clock { elapsed: Box::new(elapsed), wall: Box::new(move || SystemTime::UNIX_EPOCH + wall()) }
}

fn patience(first: Duration, farewell: Duration) -> Patience {
    Patience { first, most: EVER, timeout: EVER, farewell, rest: Duration::ZERO }
}

fn bench(digest: u64, first: Duration, farewell: Duration, stub: Stub) -> Bench {
    let now = Arc::new(AtomicU64::new(0));
    let mailer =
        Mailer::start(&options(digest, stub.port), "nas1", None, clock(&now), patience(first, farewell)).unwrap();
    Bench { mailer, stub, now }
}

impl Bench {
    /// Waits until the thread knows that this many attempts in a row have failed.
    fn failed(&self, failures: u32) {
        while self.mailer.shared.lock().failures < failures {
            thread::yield_now();
        }
    }

    /// The thread looks at the clock again, as it does by itself every minute.
    fn at(&self, seconds: u64) {
        self.now.store(seconds, Ordering::SeqCst);
        drop(self.mailer.shared.lock());
        self.mailer.shared.news.notify_all();
    }
}

fn trouble(what: &str) -> Notice {
    Notice::Trouble { trouble: Trouble::Vault, what: what.into(), retry_in: None }
}

fn subject(data: &str) -> &str {
    data.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap()
}

#[test]
fn a_notice_becomes_a_mail() {
    let bench = bench(DAY, EVER, EVER, Stub::start(|_, _| Answer::Take));
    bench.mailer.notice(&Notice::Started { version: "1" });
    bench.mailer.notice(&trouble("Cannot reach it"));
    assert_eq!(subject(&bench.stub.mail().data), "[archiver nas1] vault: Cannot reach it");
}

#[test]
fn a_temporary_failure_is_tried_until_it_is_out() {
    let answers = [Answer::Say(451), Answer::Cut, Answer::Say(421), Answer::Take];
    let stub = Stub::start(move |number, _| answers[number.min(3)]);
    let bench = bench(DAY, Duration::ZERO, EVER, stub);
    bench.mailer.notice(&trouble("x"));
    assert_eq!(
        [bench.stub.event(), bench.stub.event(), bench.stub.event()],
        [Event::Denied, Event::Denied, Event::Denied]
    );
    assert!(matches!(bench.stub.event(), Event::Mail(_)));
    drop(bench.mailer);
    assert_eq!(bench.stub.rest(), []);
}

#[test]
fn between_attempts_it_waits_longer_and_longer() {
    let bench = bench(DAY, Duration::from_secs(60), EVER, Stub::start(|_, _| Answer::Say(451)));
    bench.mailer.notice(&trouble("x"));
    let mut now = 0;
    for failures in 1..6 {
        assert_eq!(bench.stub.event(), Event::Denied);
        let shared = &bench.mailer.shared;
        bench.failed(failures);
        now += 60 << (failures - 1);
        assert_eq!(shared.lock().next_attempt, Duration::from_secs(now));
        bench.at(now);
    }
}

#[test]
fn what_was_refused_for_good_is_told_by_the_next() {
    let stub = Stub::start(|number, _| if number < 2 { Answer::Say(550) } else { Answer::Take });
    let bench = bench(0, EVER, EVER, stub);
    for what in ["one", "two", "three", "four"] {
        bench.mailer.notice(&trouble(what));
    }
    let got = bench.stub.mail().data;
    assert!(subject(&got).ends_with("three") && got.contains("could not be sent before this one: 2."));
    let got = bench.stub.mail().data;
    assert!(subject(&got).ends_with("four") && !got.contains("could not be sent"));
}

#[test]
fn a_hundred_thousand_errors_are_one_mail() {
    let bench = bench(DAY, EVER, EVER, Stub::start(|_, _| Answer::Take));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25_000).for_each(|i| bench.mailer.notice(&trouble(&format!("Fire {i}")))));
        }
    });
    bench.stub.mail();
    assert!(bench.mailer.shared.lock().queue.is_empty());
    // The rest is told when the digest is due, though nothing more happens.
    bench.at(DAY);
    assert!(bench.stub.mail().data.contains("99999"));
    drop(bench.mailer);
    assert_eq!(bench.stub.rest(), []);
}

#[test]
fn a_server_that_is_gone_for_weeks_fills_no_memory() {
    let stub = Stub::start(|number, _| if number == 0 { Answer::Say(451) } else { Answer::Take });
    let bench = bench(0, Duration::from_secs(60), EVER, stub);
    bench.mailer.notice(&trouble("first"));
    assert_eq!(bench.stub.event(), Event::Denied);
    for i in 0..10_000 {
        bench.mailer.notice(&trouble(&format!("Fire {i}")));
    }
    bench.at(60);
    let mut got = Vec::new();
    while got.len() < QUEUE_MAX {
        got.push(bench.stub.mail().data);
    }
    let lost = 10_001 - QUEUE_MAX;
    assert!(got[0].contains(&format!("could not be sent before this one: {lost}.")), "{}", got[0]);
    assert!(subject(&got[QUEUE_MAX - 1]).ends_with("Fire 9999"));
    drop(bench.mailer);
    assert_eq!(bench.stub.rest(), []);
}

#[test]
fn a_server_that_hangs_blocks_neither_sending_nor_dropping() {
    let bench = bench(0, EVER, Duration::ZERO, Stub::start(|_, _| Answer::Hang));
    bench.mailer.notice(&trouble("first"));
    assert_eq!(bench.stub.event(), Event::Denied);
    (0..1000).for_each(|_| bench.mailer.notice(&Notice::Recovered { trouble: Trouble::Vault }));
    drop(bench.mailer);
}

#[test]
fn what_is_left_at_the_end_is_tried_once() {
    for (works, arrived) in [(true, 3), (false, 0)] {
        let stub = Stub::start(move |number, _| if works && number > 0 { Answer::Take } else { Answer::Say(451) });
        let bench = bench(0, EVER, EVER, stub);
        bench.mailer.notice(&trouble("one"));
        assert_eq!(bench.stub.event(), Event::Denied);
        bench.failed(1);
        bench.mailer.notice(&trouble("two"));
        bench.mailer.notice(&trouble("three"));
        drop(bench.mailer);
        let rest = bench.stub.rest();
        let mails = rest.iter().filter(|event| matches!(event, Event::Mail(_))).count();
        assert_eq!((mails, rest.len() - mails), (arrived, usize::from(!works)), "{rest:?}");
    }
}

#[test]
fn a_mail_that_got_out_ends_the_waiting() {
    let stub = Stub::start(|number, _| if number == 1 { Answer::Take } else { Answer::Say(451) });
    let bench = bench(0, Duration::from_secs(60), Duration::ZERO, stub);
    bench.mailer.notice(&trouble("one"));
    bench.failed(1);
    bench.at(60);
    assert_eq!(bench.stub.event(), Event::Denied);
    assert!(matches!(bench.stub.event(), Event::Mail(_)));
    bench.mailer.notice(&trouble("two"));
    assert_eq!(bench.stub.event(), Event::Denied);
    while bench.mailer.shared.lock().next_attempt < Duration::from_secs(61) {
        thread::yield_now();
    }
    assert_eq!(bench.mailer.shared.lock().next_attempt, Duration::from_secs(120));
}

#[test]
fn other_settings_take_over_what_waits_and_what_was_told() {
    let bench = bench(DAY, EVER, EVER, Stub::start(|_, _| Answer::Say(451)));
    bench.mailer.notice(&trouble("one"));
    bench.failed(1);
    bench.mailer.notice(&trouble("two"));
    let stub = Stub::start(|_, _| Answer::Take);
    bench.mailer.change(&Options { to: vec!["new@b.org".into()], ..options(2 * DAY, stub.port) }, "nas2").unwrap();
    let got = stub.mail();
    assert_eq!((subject(&got.data), &*got.to), ("[archiver nas2] vault: one", "new@b.org"));
    // What was held back before is summed up, in the time that holds now.
    bench.at(DAY + 1);
    bench.mailer.notice(&trouble("three"));
    bench.at(2 * DAY);
    assert!(stub.mail().data.contains("2 mails were held back"));
    assert_eq!(stub.rest(), []);
}

/// What is written while something happens.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_server_that_fails_for_weeks_is_told_once_and_so_is_its_end() {
    let bench = bench(0, EVER, Duration::ZERO, Stub::start(|_, _| Answer::Hang));
    let (shared, paper) = (&bench.mailer.shared, Paper::default());
    let written = paper.clone();
    let layer = tracing_subscriber::fmt().with_writer(move || paper.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(layer, || {
        let mut state = shared.lock();
        let mut settle = |outcome, refused: &[&str]| {
            state.enqueue(Mail::test(), &shared.clock);
            let letter = state.queue[0].clone();
            let refused = refused.iter().map(|to| ((*to).to_owned(), "550 No".to_owned())).collect();
            shared.settle(&mut state, Tried { letter, outcome, refused }, true);
        };
        (0..500).for_each(|n| settle(Outcome::Later(format!("451 Again in {n} seconds")), &[]));
        settle(Outcome::Arrived, &["a@b.org"]);
        (0..500).for_each(|_| settle(Outcome::Refused, &["a@b.org"]));
        settle(Outcome::Later("down again".to_owned()), &[]);
        state.queue.clear();
    });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let count = |what: &str| text.matches(what).count();
    let counts = [count("cannot be sent yet"), count("goes out again"), count("was refused"), text.lines().count()];
    assert_eq!(counts, [2, 1, 1, 4], "{text}");
}

#[test]
fn a_daemon_that_is_started_again_and_again_mails_once() {
    let (dir, stub) = (tempfile::tempdir().unwrap(), Stub::start(|_, _| Answer::Take));
    let now = Arc::new(AtomicU64::new(1_000_000));
    let start = || {
        let options = options(DAY, stub.port);
        Mailer::start(&options, "nas1", Some(dir.path()), clock(&now), patience(EVER, EVER)).unwrap()
    };
    for _ in 0..20 {
        start().notice(&trouble("It does not start"));
        now.fetch_add(60, Ordering::SeqCst);
    }
    assert_eq!(stub.rest().len(), 1);
    // A day after the first it says how often.
    now.store(1_000_000 + DAY, Ordering::SeqCst);
    let mailer = start();
    assert!(stub.mail().data.contains("19 mails were held back"));
    drop(mailer);
    assert_eq!(stub.rest(), []);
}

#[test]
fn what_waits_for_a_server_survives_the_process() {
    let (dir, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
    let is_up = Arc::new(AtomicU64::new(0));
    let up = Arc::clone(&is_up);
    let stub = Stub::start(move |_, to| match (up.load(Ordering::SeqCst), to) {
        (1, _) | (_, "two@b.org") => Answer::Take,
        _ => Answer::Say(451),
    });
    let options = Options { to: vec!["ops@b.org".into(), "two@b.org".into()], ..options(0, stub.port) };
    let start = || Mailer::start(&options, "nas1", Some(dir.path()), clock(&now), patience(EVER, EVER)).unwrap();
    let mailer = start();
    mailer.notice(&trouble("one"));
    assert_eq!((stub.event(), stub.mail().to), (Event::Denied, "two@b.org".into()));
    mailer.notice(&trouble("two"));
    // As it would be found after a crash.
    let kept = || std::fs::read_to_string(dir.path().join("mails.json")).unwrap_or_default();
    while !kept().contains("vault: two") || !kept().contains("\"done\":[\"two@b.org\"]") {
        thread::yield_now();
    }
    drop(mailer);
    stub.rest();
    is_up.store(1, Ordering::SeqCst);
    let mailer = start();
    let mut got: Vec<String> =
        (0..3).map(|_| stub.mail()).map(|got| format!("{} {}", got.to, subject(&got.data))).collect();
    got.sort_unstable();
    drop(mailer);
    let expected = ["ops@b.org one", "ops@b.org two", "two@b.org two"];
    let expected = expected.map(|line| line.replace(' ', " [archiver nas1] vault: "));
    assert_eq!((got.as_slice(), stub.rest()), (expected.as_slice(), vec![]));
}
