//! A restore at work: what it says, and what came of it.

use super::{Failed, jobs::Jobs, plan::Plan};
use crate::{
    cli::{
        INCOMPLETE,
        access::{self, Access},
        json_line, progress,
    },
    path::SourcePath,
    restore::{BringError, Bringing, FetchError, Job, JobState, News, Outcome, Target, Thawing, Unpacker, Wrong},
    units::ByteSize,
};
use indicatif::ProgressBar;
use serde_json::json;
use std::{
    cell::{Cell, RefCell},
    io::stdout,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

/// Least time between two records of how far it is.
const PACE_LEAST: Duration = Duration::from_secs(2);

/// How it speaks.
#[derive(Clone, Copy)]
pub struct Manner {
    pub quiet: bool,
    pub json: bool,
}

/// Works on a job to its end. Gives the exit code.
pub fn work(access: &Access, plan: &Plan, mut job: Job, jobs: &Jobs, manner: Manner) -> Result<u8, Failed> {
    // Before it is on record: whether there are a vault and keys at all.
    access.manifests()?;
    let target = Target::open(&job.to, job.overwrite).map_err(|err| Failed::other(&err))?;
    job.to_inode = std::fs::metadata(&job.to).ok().map(|meta| meta.ino());
    jobs.save(&job);
    let bar = progress::bytes(manner.quiet || manner.json, Some(plan.offer.bytes));
    let job = RefCell::new(job);
    let derived = Cell::new(0);
    let done = bring(access, plan, target, (&job, jobs, &bar, &derived), manner);
    bar.finish_and_clear();
    let mut job = job.into_inner();
    let (outcome, lost) = match done {
        Ok(done) => done,
        Err(failed) => {
            if let Some(failed) = &failed.record {
                job.phase.clone_from(failed);
                jobs.save(&job);
            }
            return Err(failed.failed);
        }
    };
    tell(&outcome, (lost, derived.get()), manner.json)?;
    let is_complete = outcome.wrong == 0 && lost == 0 && plan.waiting == 0 && plan.unknown == 0;
    job.state = if is_complete { JobState::Complete } else { JobState::Incomplete };
    job.phase = text(&outcome);
    (job.pieces_done, job.hurry) = (job.pieces, false);
    jobs.save(&job);
    jobs.end(&access.settings, &job);
    Ok(if is_complete { 0 } else { INCOMPLETE })
}

/// Each record reads the whole catalog, to be sure of it: of many small pieces not each is worth that.
#[derive(Default)]
struct Pace(Cell<Option<Instant>>);

impl Pace {
    fn save(&self, jobs: &Jobs, job: &Job) {
        let began = Instant::now();
        if self.0.get().is_some_and(|next| began < next) {
            return;
        }
        jobs.save(job);
        self.0.set(Some(Instant::now() + PACE_LEAST.max(began.elapsed() * 50)));
    }
}

type With<'a> = (&'a RefCell<Job>, &'a Jobs, &'a ProgressBar, &'a Cell<u64>);

fn bring(
    access: &Access,
    plan: &Plan,
    target: Target,
    (job, jobs, bar, derived): With<'_>,
    manner: Manner,
) -> Result<(Outcome, u64), Ended> {
    let settings = &access.settings;
    let mut wrong = |path: &SourcePath, wrong: &Wrong| bar.suspend(|| tell_wrong(path, wrong, manner.json));
    let pace = Pace::default();
    let at = |phase: String, is_next: bool| {
        bar.set_message(phase.clone());
        let mut job = job.borrow_mut();
        job.pieces_done += u64::from(is_next);
        if job.phase != phase && !jobs.is_cancelled(&job.id) {
            job.phase = phase;
            pace.save(jobs, &job);
        }
    };
    let news = |news: News<'_>| match news {
        News::Thawing(key) => at(format!("thawing {key}"), false),
        News::Fetching(key) => at(format!("fetching {key}"), false),
        News::Came(bytes) => bar.inc(bytes),
        News::Unpacking(key) => at(format!("unpacking {key}"), false),
        News::Done(key) => at(format!("done with {key}"), true),
        News::Derived { key, why } => {
            derived.set(derived.get() + 1);
            bar.suspend(|| eprintln!("archiver: {key}: no manifest ({why}): what it holds is taken from itself"));
        }
        News::Lost { key, why } => bar.suspend(|| eprintln!("archiver: {key}: {why}")),
    };
    let Job { id, tier, days, line, overwrite, hurry, .. } = job.borrow().clone();
    let is_cancelled = || jobs.is_cancelled(&id);
    let mut unpacker = Unpacker::new(target, &plan.selection, overwrite, &mut wrong);
    let manifests = access.manifests()?;
    let thawing = Thawing {
        vault: manifests.vault.clone(),
        runtime: manifests.runtime.clone(),
        tier,
        hurry,
        days,
        line,
        is_cancelled: &is_cancelled,
        tell: &news,
    };
    let bringing = Bringing {
        manifests,
        thawing,
        staging: settings.restore.path.clone(),
        cap: settings.restore.cap.0,
        tell: &news,
    };
    let lost = bringing.run(&plan.pieces, &mut unpacker).map_err(|err| failed(&err, &id))?;
    let outcome = unpacker.finish().map_err(|err| Failed::other(&err))?;
    Ok((outcome, lost))
}

/// How it failed, and what is recorded of that: nothing of a restore that is not ours any more, or not yet.
struct Ended {
    failed: Failed,
    record: Option<String>,
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Ended {
        Ended { record: Some(failed.what.clone()), failed }
    }
}

fn failed(err: &BringError, id: &str) -> Ended {
    if matches!(err, BringError::Cancelled) {
        let failed = Failed::new(crate::cli::HELD, format!("The restore {id} was cancelled"));
        return Ended { failed, record: None };
    }
    let Failed { code, what } = access::failed(err);
    let record = Some(what.clone()).filter(|_| !matches!(err, BringError::Fetch(FetchError::InUse(_))));
    let what = format!("{what}. `archiver restore --resume {id}`, or the same command, goes on from here");
    Ended { failed: Failed { code, what }, record }
}

fn tell_wrong(path: &SourcePath, wrong: &Wrong, as_json: bool) {
    if as_json {
        // Who reads us may have gone; what is brought back is not for them alone.
        let _ = json_line(&mut stdout(), &json!({ "path": path.display(), "wrong": wrong.to_string() }));
    } else {
        eprintln!("archiver: {}: {wrong}", path.display());
    }
}

fn text(outcome: &Outcome) -> String {
    let Outcome { came, were_there, bytes, wrong } = outcome;
    let there = if *were_there > 0 { format!(", {were_there} of them were there already") } else { String::new() };
    format!("{came} entries came back as they were{there}; {wrong} did not; {} written", ByteSize(*bytes))
}

fn tell(outcome: &Outcome, (lost, derived): (u64, u64), as_json: bool) -> Result<(), Failed> {
    let Outcome { came, were_there, bytes, wrong } = outcome;
    if as_json {
        let outcome = json!({
            "came": came, "were_there": were_there, "bytes": bytes, "wrong": wrong, "pieces_lost": lost, "pieces_derived": derived,
        });
        return json_line(&mut stdout(), &json!({ "outcome": outcome }));
    }
    eprintln!("{}", text(outcome));
    if derived > 0 {
        eprintln!(
            "{derived} pieces told themselves what is in them: a file that is larger than a piece may be a directory of its \
             segments, which `cat FILE/*` joins"
        );
    }
    Ok(())
}
