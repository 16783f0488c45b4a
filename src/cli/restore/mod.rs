//! `archiver restore`: brings files back. It says what that takes and costs, asks, and then thaws, waits, fetches,
//! proves and unpacks. It is recorded in the catalog, and goes on where it was after whatever came in between: what was
//! fetched, and what is in place, stays.

mod bring;
mod jobs;
mod plan;

use super::{
    Failed,
    access::Access,
    terms::{Speed, budget},
};
use crate::{
    catalog::Catalog,
    inventory::Depth,
    name::{PassId, SourceName},
    path::SourcePath,
    price::Tier,
    restore::{Job, JobState},
    units::Bandwidth,
};
use bring::Manner;
use jiff::Timestamp;
use jobs::Jobs;
use plan::Plan;
use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is to come back, relative to the source; `/` is all of it. With `*`, `?`, `[a-z]` or `**` in it a pattern, as of
    /// `archiver find`
    #[arg(required_unless_present_any = ["resume", "list", "cancel"], value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Where it goes: a/b of the source to DIR/a/b. Nothing that is there is replaced
    #[arg(long, value_name = "DIR", required_unless_present_any = ["resume", "list", "cancel"])]
    pub to: Option<PathBuf>,
    /// The source; may be left out when there is only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The pass; default: the last that has ended
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    /// As it was then: the last pass that had begun and has ended. A date, for the end of that day, or a time
    #[arg(long, value_name = "DATE", conflicts_with = "pass", value_parser = moment)]
    pub at: Option<Timestamp>,
    /// How soon what is in an archive class can be read; with --resume what is thawing is made faster. Default: bulk
    #[arg(long, value_enum)]
    pub tier: Option<Speed>,
    /// How long thawed copies are kept, days
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(1..=365))]
    pub days: u32,
    /// Bytes per second that the line takes, like 10MB/s: no more is thawed at once than it can fetch in time
    #[arg(long, value_name = "RATE")]
    pub link: Option<Bandwidth>,
    /// Refuse what would cost more than this, dollars
    #[arg(long, value_name = "USD", value_parser = budget)]
    pub budget: Option<f64>,
    /// Without a catalog: what is where is taken from the vault
    #[arg(long)]
    pub from_vault: bool,
    /// With --from-vault, whose passes, where several hosts share the vault
    #[arg(long, value_name = "NAME", requires = "from_vault")]
    pub host: Option<String>,
    /// Replace what is there
    #[arg(long)]
    pub overwrite: bool,
    /// Only say what it would take and cost
    #[arg(long)]
    pub dry_run: bool,
    /// Stay until it is done; this is the default
    #[arg(long, conflicts_with = "detach")]
    pub wait: bool,
    /// Let a unit of its own do it, over all restarts of the machine: archiver-restore@JOB.service
    #[arg(long)]
    pub detach: bool,
    /// Go on with a restore; without its id with the only one that is not done
    #[arg(long, value_name = "JOB", num_args = 0..=1, default_missing_value = "", conflicts_with_all = [
        "paths", "to", "list", "cancel", "source", "pass", "at", "days", "link", "from_vault", "overwrite", "detach", "wait",
    ])]
    pub resume: Option<String>,
    /// List restores
    #[arg(long, conflicts_with_all = ["paths", "to", "cancel"])]
    pub list: bool,
    /// Give a restore up. What came back stays
    #[arg(long, value_name = "JOB", conflicts_with_all = ["paths", "to"])]
    pub cancel: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// One JSON object per line: the plan, each entry that is not as it was, and the outcome
    #[arg(long)]
    pub json: bool,
}

/// What is to come back.
pub struct Request {
    pub source: SourceName,
    pub pass: PassId,
    pub paths: Vec<SourcePath>,
    pub patterns: Vec<String>,
    pub tier: Tier,
    pub days: u32,
    pub line: Option<u64>,
}

pub fn run(args: &super::Args, restore: &Args) -> Result<u8, Failed> {
    let access = Access::new(&args.config)?;
    match (restore.list, &restore.cancel, &restore.resume) {
        (true, _, _) => jobs::list(&access.settings, restore.json),
        (_, Some(id), _) => jobs::cancel(&access.settings, id),
        (_, _, Some(id)) => resume(args, access, restore, id),
        _ => begin(args, access, restore),
    }
}

fn begin(args: &super::Args, mut access: Access, restore: &Args) -> Result<u8, Failed> {
    if restore.from_vault {
        make_catalog(&mut access, restore.host.as_deref())?;
    }
    let settings = &access.settings;
    let jobs = Jobs::of(settings, restore.from_vault);
    let catalog = super::catalog(settings)?;
    let request = request(&catalog, &access, restore)?;
    let plan = Plan::make(&access, &catalog, &request)?;
    drop(catalog);
    plan.show(settings, &request, restore.json)?;
    plan.offer.within_budget(restore.budget)?;
    if restore.dry_run {
        return Ok(0);
    }
    super::agree(restore.yes, "Go on?")?;
    if restore.detach {
        jobs::may_detach(&args.config)?;
    }
    let Request { source, pass, paths, patterns, tier, days, line } = request;
    let to = restore.to.as_deref().ok_or_else(|| Failed::usage("--to DIR says where it goes"))?;
    let mut job = Job {
        id: Job::new_id(Timestamp::now()),
        begun: Timestamp::now(),
        source,
        pass,
        paths,
        patterns,
        to: std::path::absolute(to)?,
        tier,
        days,
        line,
        overwrite: restore.overwrite,
        cost: plan.offer.cost.as_ref().map(crate::price::Return::total),
        from_vault: restore.from_vault,
        detached: restore.detach,
        hurry: false,
        to_inode: None,
        state: JobState::Open,
        phase: "begun".to_owned(),
        pieces: plan.pieces.len() as u64,
        pieces_done: 0,
    };
    // The same command goes on with what it began.
    if let Some(begun) = jobs.open_like(&job) {
        jobs::check_target(&begun)?;
        (job.id, job.begun, job.to_inode) = (begun.id, begun.begun, begun.to_inode);
    }
    if restore.detach {
        jobs.record(&job)?;
        jobs::detach(&job)?;
        println!("{}", job.id);
        return Ok(0);
    }
    bring::work(&access, &plan, job, &jobs, Manner { quiet: args.quiet, json: restore.json })
}

fn resume(args: &super::Args, mut access: Access, restore: &Args, id: &str) -> Result<u8, Failed> {
    let mut job = jobs::find(&access.settings, Some(id))?;
    if job.state != JobState::Open {
        return Err(Failed::usage(format!("The restore {} is {}", job.id, job.state.as_str())));
    }
    let jobs = Jobs::of(&access.settings, job.from_vault);
    if job.from_vault {
        access.settings.state = jobs::state_from_vault(&access.settings);
    }
    // Only faster: what was asked for cannot be made slower.
    let hurry = matches!(restore.tier, Some(Speed::Standard)) && job.tier == Tier::Bulk;
    if hurry {
        job.tier = Tier::Standard;
    }
    let request = Request {
        source: job.source.clone(),
        pass: job.pass,
        paths: job.paths.clone(),
        patterns: job.patterns.clone(),
        tier: job.tier,
        days: job.days,
        line: job.line,
    };
    let catalog = super::catalog(&access.settings)?;
    let plan = Plan::make(&access, &catalog, &request)?;
    drop(catalog);
    if hurry || restore.dry_run {
        plan.show(&access.settings, &request, restore.json)?;
    }
    plan.offer.within_budget(restore.budget)?;
    if restore.dry_run {
        return Ok(0);
    }
    if hurry {
        super::agree(restore.yes, "Make it faster for that?")?;
        job.hurry = true;
        if job.detached && !jobs::is_unit() {
            return jobs::restart(&jobs, &job).map(|()| 0);
        }
    }
    jobs::check_target(&job)?;
    (job.pieces, job.pieces_done) = (plan.pieces.len() as u64, 0);
    bring::work(&access, &plan, job, &jobs, Manner { quiet: args.quiet, json: restore.json })
}

fn request(catalog: &Catalog, access: &Access, restore: &Args) -> Result<Request, Failed> {
    let source = source(catalog, access, restore.source.as_deref())?;
    let pass = pass(catalog, &source, restore)?;
    let (mut paths, mut patterns) = (Vec::new(), Vec::new());
    for path in &restore.paths {
        if !path.as_bytes().iter().any(|byte| b"*?[".contains(byte)) {
            paths.push(SourcePath::parse(path.as_bytes()).map_err(Failed::usage)?);
        } else {
            let pattern = path.to_str().ok_or_else(|| {
                let path = path.display();
                Failed::usage(format!("{path}: a pattern must be UTF-8; `archiver find` tells what to write instead"))
            })?;
            patterns.push(pattern.to_owned());
        }
    }
    let tier = restore.tier.map_or(Tier::Bulk, Tier::from);
    Ok(Request { source, pass, paths, patterns, tier, days: restore.days, line: restore.link.map(|link| link.0) })
}

/// Whoever brings back on another machine may have a configuration without sources, or with others.
fn source(catalog: &Catalog, access: &Access, named: Option<&str>) -> Result<SourceName, Failed> {
    let mut known: Vec<SourceName> = catalog.passes(None)?.into_iter().map(|row| row.source).collect();
    known.sort();
    known.dedup();
    match (named, &known[..]) {
        (Some(named), _) if known.iter().any(|source| source.as_str() == named) => named.parse().map_err(Failed::usage),
        (None, [only]) => Ok(only.clone()),
        _ => super::source(&access.settings, named),
    }
}

fn pass(catalog: &Catalog, source: &SourceName, restore: &Args) -> Result<PassId, Failed> {
    if restore.pass.is_some() {
        return super::pass(catalog, source, restore.pass.as_deref());
    }
    let passes = catalog.passes(Some(source))?;
    let in_time = || passes.iter().filter(|row| restore.at.is_none_or(|at| row.pass.started() <= at));
    // Of one that goes on only a part is there.
    match in_time().find(|row| row.ended.is_some()).or_else(|| in_time().next()) {
        Some(row) => {
            if let Some(newer) = in_time().next().filter(|newer| newer.pass > row.pass) {
                let (pass, newer) = (row.pass, newer.pass);
                eprintln!(
                    "archiver: A newer pass, {newer}, is not complete: this is {pass}; --pass {newer} takes what there is of it"
                );
            }
            Ok(row.pass)
        }
        None => match (restore.at, passes.last()) {
            (Some(_), Some(first)) => {
                Err(Failed::usage(format!("--at: the first pass of {source} began at {}", first.pass.started())))
            }
            _ => Err(Failed::new(1, format!("There is no pass of {source} yet"))),
        },
    }
}

/// Makes a catalog of the vault alone, and lets it be that of this command.
fn make_catalog(access: &mut Access, host: Option<&str>) -> Result<(), Failed> {
    let state = jobs::state_from_vault(&access.settings);
    crate::durable::create_dir(&state)?;
    let contents = super::rebuild::listed(access)?;
    let hosts = super::rebuild::hosts(&contents, &access.settings, host)?;
    let (draft, file) = (state.join("catalog.sqlite.rebuilt"), state.join("catalog.sqlite"));
    for told in super::rebuild::make(access, &contents, &hosts, (&state, &draft), Depth::Ranges)? {
        for finding in &told.findings {
            eprintln!("archiver: {finding}");
        }
    }
    // One that cannot be read any more is no loss but for the restores that it knew.
    if let Ok(before) = Catalog::open_read_only(&file) {
        let made = Catalog::open(&draft)?;
        made.carry_over(&before)?;
        made.close()?;
    }
    // A log that was left would be played back into the new one.
    for end in ["-wal", "-shm", "-journal"] {
        crate::durable::remove(&state.join(format!("catalog.sqlite{end}")))?;
    }
    crate::durable::rename(&draft, &file)?;
    access.settings.state = state;
    Ok(())
}

/// A day means its end; a time without a zone is one of this machine's.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(pass) = text.parse::<PassId>() {
        return Ok(pass.started());
    }
    let is_day = text.len() == "2026-11-20".len();
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| is_day).map(|day| day.at(23, 59, 59, 0));
    let civil = day.or_else(|| text.parse::<jiff::civil::DateTime>().ok().filter(|_| !is_day));
    let zoned = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::system()).ok());
    zoned
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| "write a day like 2026-11-20, or a time like 2026-11-20T20:00:00".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_end_and_a_time_is_that_time() {
        let zone = jiff::tz::TimeZone::system();
        let local =
            |text: &str| text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(zone.clone()).unwrap().timestamp();
        for (text, expected) in [
            ("2026-11-20", local("2026-11-20T23:59:59")),
            ("2026-11-20T14:42:59", local("2026-11-20T14:42:59")),
            ("2026-11-20 14:42", local("2026-11-20T14:42:00")),
            ("2026-11-20T00:00:00", local("2026-11-20T00:00:00")),
            ("2026-11-20T14:42:59Z", "2026-11-20T14:42:59Z".parse().unwrap()),
            ("2026-11-20T14:42:59+05:00", "2026-11-20T09:42:59Z".parse().unwrap()),
            ("20261120T144259Z", "2026-11-20T14:42:59Z".parse().unwrap()),
        ] {
            assert_eq!(moment(text), Ok(expected), "{text}");
        }
        for text in ["", "14:42", "2026-13-01", "yesterday", "2026-11-20T25:00:00"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
