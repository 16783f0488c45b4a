//! `archiver restore`: brings files back. It says what that takes and costs, asks, and then thaws, waits, fetches,
//! proves and unpacks. Begun again, it goes on: what was fetched, and what is in place, stays.

use super::{
    Failed,
    access::{self, Access},
    json_line,
};
use crate::{
    catalog::{CatalogError, PieceRow},
    config::{Settings, VaultUrl},
    path::SourcePath,
    pipeline::local_manifest,
    price::{Return, Stock, Tier},
    restore::{BringError, Bringing, Manifests, News, Outcome, Selection, Target, Unpacker, Wanted, Wrong, is_in},
    units::ByteSize,
    vault::s3,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead, IsTerminal, stderr, stdin, stdout},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Said of a path of which no manifest tells.
const NOTHING: &str = "nothing of that name was archived in this pass";
/// Exit code where not all is as it was.
const INCOMPLETE: u8 = 3;
/// Exit code of what is held, by a limit.
const HELD: u8 = 75;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Speed {
    /// Within 48 hours
    Bulk,
    /// Within 12 hours, for eight times as much
    Standard,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is to come back, relative to the source; `/` is all of it
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Where it goes: a/b of the source to DIR/a/b. Nothing that is there is replaced
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The source; may be left out when there is only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The pass; default: the last
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    /// How soon what is in an archive class can be read
    #[arg(long, value_enum, default_value = "bulk")]
    pub tier: Speed,
    /// How long thawed copies are kept, days
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(1..=365))]
    pub days: u32,
    /// Refuse what would cost more than this, dollars
    #[arg(long, value_name = "USD", value_parser = budget)]
    pub budget: Option<f64>,
    /// Replace what is there
    #[arg(long)]
    pub overwrite: bool,
    /// Only say what it would take and cost
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// One JSON object per line: the plan, each entry that is not as it was, and the outcome
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, restore: &Args) -> Result<u8, Failed> {
    let access = Access::new(&args.config)?;
    let settings = &access.settings;
    let plan = Plan::make(settings, restore)?;
    plan.show(settings, restore)?;
    if let Some(budget) = restore.budget
        && plan.cost.is_none()
        && matches!(settings.vault.url, VaultUrl::S3 { .. })
    {
        let why = "the configuration has no [prices] for this vault";
        return Err(Failed::usage(format!("--budget {budget}: {why}, so nobody knows what it would cost")));
    }
    if let Some((cost, budget)) = plan.cost.zip(restore.budget).filter(|(cost, budget)| cost.total() > *budget) {
        return Err(Failed::new(HELD, format!("It would cost {:.2} $, and --budget is {budget:.2} $", cost.total())));
    }
    if restore.dry_run {
        return Ok(0);
    }
    agree(restore)?;
    let manifests = access.manifests()?;
    let to = std::path::absolute(&restore.to)?;
    let target = Target::open(&to, restore.overwrite).map_err(|err| Failed::other(&err))?;
    let bar = bar(args.quiet || restore.json, plan.bytes());
    let done = bring(&plan, target, manifests, (settings, restore, &bar));
    bar.finish_and_clear();
    let (outcome, lost) = done?;
    tell(&outcome, lost, restore)?;
    Ok(if outcome.wrong > 0 || lost > 0 || plan.waiting > 0 || plan.unknown > 0 { INCOMPLETE } else { 0 })
}

/// What is to come back, from where, and what that costs.
struct Plan {
    selection: Selection,
    pieces: Vec<Wanted>,
    /// Pieces that are not in the vault yet.
    waiting: u64,
    /// Paths of which nothing was archived.
    unknown: u64,
    cost: Option<Return>,
}

impl Plan {
    fn make(settings: &Settings, restore: &Args) -> Result<Plan, Failed> {
        let source = super::source(settings, restore.source.as_deref())?;
        let catalog = super::catalog(settings)?;
        let pass = super::pass(&catalog, &source, restore.pass.as_deref())?;
        let paths = restore.paths.iter().map(|path| SourcePath::parse(path.as_bytes()));
        let paths = paths.collect::<Result<Vec<_>, _>>().map_err(Failed::usage)?;
        let rows = touching(|path| catalog.touching(&source, pass, path), &paths)?;
        let mut pieces = Vec::new();
        let mut waiting = 0;
        for row in &rows {
            match Wanted::of(row, &settings.state).map_err(|err| Failed::other(&err))? {
                Some(wanted) => pieces.push(wanted),
                None => waiting += 1,
            }
        }
        if waiting > 0 {
            eprintln!("archiver: {waiting} pieces of it are not in the vault yet, and do not come back");
        }
        let mut unknown = 0;
        for path in paths.iter().filter(|path| !is_known(path, &rows, settings)) {
            unknown += 1;
            eprintln!("archiver: {}: {NOTHING}", path.display());
        }
        if unknown == paths.len() as u64 {
            return Err(Failed::new(1, "There is nothing to bring back"));
        }
        let is_s3 = matches!(settings.vault.url, VaultUrl::S3 { .. });
        let bytes = pieces.iter().map(|piece| piece.object.size).sum();
        let stock = Stock { pieces: pieces.len() as u64, bytes, ..Stock::default() };
        let prices = settings.prices.as_ref().filter(|_| is_s3);
        let cost = prices.map(|prices| prices.restore(&stock, tier(restore.tier), restore.days));
        Ok(Plan { selection: Selection(paths), pieces, waiting, unknown, cost })
    }

    fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.object.size).sum()
    }

    fn show(&self, settings: &Settings, restore: &Args) -> Result<(), Failed> {
        let largest = self.pieces.iter().map(|piece| piece.object.size).max().unwrap_or(0);
        let hours = match (is_frozen(settings), restore.tier) {
            (false, _) => 0,
            (true, Speed::Bulk) => 48,
            (true, Speed::Standard) => 12,
        };
        if restore.json {
            let keys: Vec<_> = self.pieces.iter().map(|piece| piece.object.key.as_str()).collect();
            let plan = json!({
                "pieces": keys, "bytes": self.bytes(), "largest": largest, "thaw_hours": hours, "cost": self.cost,
                "waiting": self.waiting, "unknown": self.unknown,
            });
            return json_line(&mut stdout(), &json!({ "plan": plan }));
        }
        let (count, size) = (self.pieces.len(), ByteSize(self.bytes()));
        eprintln!(
            "{count} pieces, {size} to fetch, one at a time; the largest takes {} of {:?}",
            ByteSize(largest),
            settings.restore.path
        );
        if hours > 0 {
            eprintln!("They can be read within {hours} hours, and are kept readable for {} days", restore.days);
        }
        if let Some(cost) = &self.cost {
            eprintln!(
                "About {:.2} $: {:.2} to thaw, {:.2} for the copies, {:.2} for what leaves the region",
                cost.total(),
                cost.thaw,
                cost.copies,
                cost.egress
            );
        }
        Ok(())
    }
}

/// Whether something of this path was archived, as far as the manifests on this host tell.
fn is_known(path: &SourcePath, rows: &[PieceRow], settings: &Settings) -> bool {
    path.is_root() || rows.iter().any(|row| is_in(path, &local_manifest(&settings.state, row.name())).unwrap_or(true))
}

fn budget(text: &str) -> Result<f64, String> {
    let amount = text.parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| "write an amount in dollars, like 12.50".to_owned())
}

fn is_frozen(settings: &Settings) -> bool {
    matches!(settings.vault.url, VaultUrl::S3 { .. }) && s3::is_frozen(&settings.vault.storage_class)
}

fn tier(speed: Speed) -> Tier {
    match speed {
        Speed::Bulk => Tier::Bulk,
        Speed::Standard => Tier::Standard,
    }
}

/// The pieces that hold any of these paths, each once, in walk order.
fn touching(
    find: impl Fn(&SourcePath) -> Result<Vec<PieceRow>, CatalogError>,
    paths: &[SourcePath],
) -> Result<Vec<PieceRow>, Failed> {
    let mut found = BTreeMap::new();
    for path in paths {
        for row in find(path)? {
            let segment = row.packed.segment.map_or(0, |segment| segment.index);
            found.insert((row.packed.first.order_key(), segment, row.packed.name.seq), row);
        }
    }
    Ok(found.into_values().collect())
}

fn agree(restore: &Args) -> Result<(), Failed> {
    if restore.yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        return Err(Failed::usage("There is no terminal to ask on; --yes says that it is meant"));
    }
    eprint!("Go on? [y/N] ");
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failed::new(HELD, "Nothing was done")) }
}

fn bar(is_hidden: bool, bytes: u64) -> ProgressBar {
    if is_hidden || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("[{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {msg}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}

type With<'a> = (&'a Settings, &'a Args, &'a ProgressBar);

fn bring(
    plan: &Plan,
    target: Target,
    manifests: Manifests<'_>,
    (settings, restore, bar): With<'_>,
) -> Result<(Outcome, u64), Failed> {
    let mut wrong = |path: &SourcePath, wrong: &Wrong| bar.suspend(|| tell_wrong(path, wrong, restore.json));
    let news = |news: News<'_>| match news {
        News::Thawing(key) => bar.set_message(format!("thawing {key}")),
        News::Fetching(key) => bar.set_message(format!("fetching {key}")),
        News::Came(bytes) => bar.inc(bytes),
        News::Unpacking(key) => bar.set_message(format!("unpacking {key}")),
        News::Lost { key, why } => bar.suspend(|| eprintln!("archiver: {key}: {why}")),
    };
    let mut unpacker = Unpacker::new(target, &plan.selection, restore.overwrite, &mut wrong);
    let bringing = Bringing {
        manifests,
        staging: settings.restore.path.clone(),
        cap: settings.restore.cap.0,
        tier: tier(restore.tier),
        days: restore.days,
        tell: &news,
    };
    let lost = bringing.run(&plan.pieces, &mut unpacker).map_err(failed)?;
    let outcome = unpacker.finish().map_err(|err| Failed::other(&err))?;
    Ok((outcome, lost))
}

fn failed(err: BringError) -> Failed {
    let failed = access::failed(&err);
    Failed { what: format!("{}. The same command goes on from here", failed.what), ..failed }
}

fn tell_wrong(path: &SourcePath, wrong: &Wrong, as_json: bool) {
    if as_json {
        // Who reads us may have gone; what is brought back is not for them alone.
        let _ = json_line(&mut stdout(), &json!({ "path": path.display(), "wrong": wrong.to_string() }));
    } else {
        eprintln!("archiver: {}: {wrong}", path.display());
    }
}

fn tell(outcome: &Outcome, lost: u64, restore: &Args) -> Result<(), Failed> {
    let Outcome { came, were_there, bytes, wrong } = outcome;
    if restore.json {
        let outcome =
            json!({ "came": came, "were_there": were_there, "bytes": bytes, "wrong": wrong, "pieces_lost": lost });
        return json_line(&mut stdout(), &json!({ "outcome": outcome }));
    }
    let there = if *were_there > 0 { format!(", {were_there} of them were there already") } else { String::new() };
    eprintln!("{came} entries came back as they were{there}; {wrong} did not; {} written", ByteSize(*bytes));
    Ok(())
}
