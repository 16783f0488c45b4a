//! Half a year in minutes: passes that take days, a crash or a panic, a restart with other settings and a reload of
//! others every day, an outage every week, on a clock that goes when something waits or is sent. Everything but time and the line is
//! real: walk, cut, pack, compress, the directory vault, the catalog, the disk; and what comes back is opened with
//! stock tools.
//!
//! A life of the daemon is a process of its own, so that a crash is one. Which happens when follows from a seed;
//! what each thread had done by then is up to the system.

#![expect(clippy::disallowed_methods, reason = "these tests play the operator, from outside")]

#[allow(dead_code)]
#[path = "crash/check.rs"]
mod check;
#[allow(dead_code)]
#[path = "crash/leaks.rs"]
mod leaks;
#[path = "simulation/ageing.rs"]
mod ageing;
#[path = "simulation/letters.rs"]
mod letters;
#[path = "simulation/life.rs"]
mod life;
#[path = "simulation/line.rs"]
mod line;
#[path = "crash/restored.rs"]
mod restored;
#[allow(dead_code)]
#[path = "service/smtp.rs"]
mod smtp;
#[allow(dead_code)]
#[path = "crash/source.rs"]
mod source;
#[allow(dead_code)]
#[path = "crash/world.rs"]
mod world;

use check::{Compare, judge};
use life::{DAY, HOUR, Lived, Plan, RELOADED, Told};
use source::{Random, setting, sh};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    time::Instant,
};
use world::{Ran, Setup, World};

/// A Friday, two days before clocks are set back in the zone of the window.
const BEGIN: &str = "2026-10-23T12:00:00Z";

fn begin() -> i64 {
    BEGIN.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

const WINDOWS: [&[&str]; 3] = [&["20:00-07:00"], &[], &["Sat-Sun 00:00-24:00", "22:30-06:15"]];

/// Some 30 MiB in pieces of two or three parts, one file larger than a piece, and small ones.
fn tree(root: &Path) {
    let mut random = Random::new(11);
    for dir in ["a", "b/deep", "large", "small"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for n in 0..6 {
        fs::write(root.join(format!("a/{n}")), random.bytes(1_500_000)).unwrap();
        fs::write(root.join(format!("b/deep/{n}")), random.bytes(300_000)).unwrap();
    }
    fs::write(root.join("large/file"), random.bytes(21_000_000)).unwrap();
    for n in 0..100 {
        fs::write(root.join(format!("small/{n:03}")), random.bytes(n * 100)).unwrap();
    }
}

/// What people do to their files meanwhile.
fn change(root: &Path, random: &mut Random) {
    // Between two of its segments, too.
    if random.below(8) == 0 {
        let len = random.below(30_000_000) as usize;
        fs::write(root.join("large/file"), random.bytes(len)).unwrap();
    }
    for _ in 0..=random.below(6) {
        let dir = ["a", "b", "b/deep", "small"][random.below(4) as usize];
        let file = root.join(dir).join(format!("{:03}", random.below(30)));
        match random.below(4) {
            0 => drop(fs::remove_file(file)),
            1 => drop(fs::rename(&file, file.with_extension("old"))),
            _ => {
                let len = random.below(400_000) as usize;
                fs::write(file, random.bytes(len)).unwrap();
            }
        }
    }
}

/// What a configuration says.
fn settings(random: &mut Random) -> Told {
    Told {
        concurrency: 1 + random.below(4) as usize,
        window: WINDOWS[random.below(3) as usize].iter().map(|span| (*span).to_owned()).collect(),
        max_size: [12 << 20, 20 << 20][random.below(2) as usize],
        zstd: random.below(2) == 0,
    }
}

/// One a day.
fn reloads(random: &mut Random, begin: i64, days: i64) -> Vec<(i64, Told)> {
    (0..days).map(|day| (begin + day * DAY + random.below(DAY as u64) as i64, settings(random))).collect()
}

/// What happened in all.
#[derive(Default)]
struct Sum {
    lives: u32,
    crashes: u32,
    /// Panics that a life survived.
    panics: u32,
    stops: u32,
    reloads: usize,
    passes: u32,
    equal: u32,
    /// When mails of each kind went out.
    mails: BTreeMap<String, Vec<i64>>,
    violations: Vec<String>,
}

/// What must hold when a pass has ended. Its objects are put aside then: the checker looks at one pass at a time.
fn look(world: &World, compare: Compare) -> Vec<String> {
    let log = fs::read_to_string(world.path("log")).unwrap();
    let mut wrong = judge(world, &Ran { code: Some(0), log }, compare);
    wrong.extend(sent_again(world));
    sh(&world.path("vault"), "rm -rf h1 .archiver/objects/h1; : > ../sent");
    wrong
}

/// Objects and parts that were sent although the vault had them.
fn sent_again(world: &World) -> Vec<String> {
    let sent = fs::read_to_string(world.path("sent")).unwrap_or_default();
    let mut seen = BTreeSet::new();
    sent.lines().filter(|line| !seen.insert(*line)).map(|line| format!("sent again: {line}")).collect()
}

/// The last pass and whether it has ended, as the next start would find it.
fn pass(world: &World) -> (String, bool) {
    let status: serde_json::Value = serde_json::from_str(&world.ask(&["status", "--json"]).unwrap()).unwrap();
    let source = &status["sources"][0];
    (source["pass"].as_str().unwrap_or_default().to_owned(), source["state"] == "ended")
}

/// When the next of something happens that comes once a day.
fn within_a_day(random: &mut Random, now: i64) -> i64 {
    now + random.below(2 * DAY as u64) as i64
}

/// One in every `span`, of a minute to two sevenths of it.
fn outages(random: &mut Random, begin: i64, days: i64, span: i64) -> Vec<(i64, i64)> {
    let mut outage = |n: i64| {
        let from = begin + n * span + random.below(span as u64 / 7 * 6) as i64;
        (from, from + HOUR / 60 + random.below(span as u64 / 7 * 2) as i64)
    };
    (0..=days * DAY / span).map(&mut outage).collect()
}

fn simulate(days: i64, seed: u64, outage_every: i64) -> Sum {
    let setup = Setup { cap: 96 << 20, max_size: "20MiB", compress: "method = \"none\"", ..Setup::default() };
    let (world, mut random) = (World::new(setup, tree), Random::new(seed));
    let (mut sum, mut looked_at, mut changed) = (Sum::default(), String::new(), false);
    let begin = begin();
    let outages = outages(&mut random, begin, days, outage_every);
    let reloads = reloads(&mut random, begin, days);
    let (mut now, mut crash_at, mut stop_at, mut is_due) = (begin, begin, begin, true);
    while now < begin + days * DAY && sum.violations.is_empty() {
        let plan = Plan {
            root: world.path(""),
            begin: is_due,
            now,
            crash_at,
            crash_after: random.below(60),
            panics: random.below(3) == 0,
            stop_at,
            outages: outages.clone(),
            // Other settings at each start.
            settings: settings(&mut random),
            reloads: reloads.clone(),
        };
        sum.lives += 1;
        let (lived, then) = life::live(&world, &plan);
        let stands_still = now == then && matches!(lived, Lived::Complete { .. });
        assert!(now <= then && !stands_still, "{plan:?}: ended at {then}");
        now = then;
        sum.reloads += fs::read_to_string(world.path("log")).unwrap().matches(RELOADED).count();
        if let Lived::Complete { panicked: true } | Lived::Stopped { panicked: true } = lived {
            sum.panics += 1;
            crash_at = within_a_day(&mut random, now);
        }
        match lived {
            Lived::Crashed => {
                sum.crashes += 1;
                crash_at = within_a_day(&mut random, now);
            }
            Lived::Stopped { .. } => {
                sum.stops += 1;
                stop_at = within_a_day(&mut random, now);
            }
            Lived::Complete { .. } => {}
            Lived::Failed(log) => sum.violations.push(log),
        }
        let (pass, has_ended) = pass(&world);
        is_due = pass == looked_at || has_ended;
        if has_ended && pass != looked_at {
            let compare = if changed { Compare::Consistent } else { Compare::Equal };
            let day = (now - begin) / DAY;
            sum.violations.extend(look(&world, compare).into_iter().map(|line| format!("day {day}, {pass}: {line}")));
            sum.passes += 1;
            sum.equal += u32::from(!changed);
            (looked_at, changed) = (pass, false);
            change(&world.source(), &mut random);
            now += random.below(DAY as u64) as i64;
        } else if sum.passes % 2 == 1 {
            // Every other pass sees a source that changes; the rest must give back just what was there.
            change(&world.source(), &mut random);
            changed = true;
        }
    }
    sum.mails = letters::sent(&world.path(""));
    sum
}

/// At most one of each kind per digest, whatever happened.
fn check_mails(sum: &Sum, days: i64) {
    let total: usize = sum.mails.values().map(Vec::len).sum();
    let digest = letters::DIGEST.as_millis() as i64;
    println!(
        "{total} mails in {days} days: {:?}",
        sum.mails.iter().map(|(kind, at)| (kind, at.len())).collect::<Vec<_>>()
    );
    for (kind, at) in &sum.mails {
        assert!(at.windows(2).all(|two| digest <= two[1] - two[0]), "{kind}: {at:?}");
    }
    // Passes may take some days more to their end.
    assert!(0 < total && total <= sum.mails.len() * (2 * days + 2) as usize, "{:?}", sum.mails);
    for kind in ["trouble vault", "recovered vault", "pass-ended"] {
        assert!(sum.mails.contains_key(kind), "{kind} is told: {:?}", sum.mails.keys());
    }
}

#[test]
fn an_outage_a_day_is_a_few_mails_a_day() {
    let (days, seed) = (4, setting("ARCHIVER_SEED", 1));
    let sum = simulate(days, seed, DAY);
    assert!(sum.violations.is_empty(), "seed {seed}: {}", sum.violations.join("\n"));
    check_mails(&sum, days);
}

#[test]
fn months_of_crashes_restarts_and_outages_lose_and_double_nothing() {
    let seed = setting("ARCHIVER_SEED", 1);
    println!("seed {seed}");
    let days = setting("ARCHIVER_DAYS", 10) as i64;
    let began = Instant::now();
    let sum = simulate(days, seed, 7 * DAY);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "simulated, seed {seed}: {days} days in {seconds:.0} s, {} lives, {} crashes, {} panics survived, {} restarts, {} reloads, \
         {} passes ({} of a source that stood still), {} violations",
        sum.lives,
        sum.crashes,
        sum.panics,
        sum.stops,
        sum.reloads,
        sum.passes,
        sum.equal,
        sum.violations.len()
    );
    assert!(sum.violations.is_empty(), "seed {seed}: {}", sum.violations.join("\n"));
    check_mails(&sum, days);
    let all = [sum.crashes + sum.panics, sum.stops, sum.passes, sum.reloads as u32];
    assert!(all.iter().all(|count| 0 < *count), "seed {seed}: nothing was tried");
}

/// A life, in the process that is started for it.
#[test]
fn one_life() {
    if let Ok(plan) = env::var(life::PLAN) {
        life::run(&plan);
    }
}

/// A daemon that grows old, in the process that is started for it.
#[test]
fn one_age() {
    if let Ok(age) = env::var(ageing::AGE) {
        ageing::run(&age);
    }
}
