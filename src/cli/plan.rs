//! `archiver plan`: what a pass would be, what it needs, how long it takes and what it costs. Changes nothing.

mod report;

use super::{Failed, json_line};
use crate::{
    archive::cut,
    catalog::{Catalog, CatalogError, PackedRow, Sealed},
    config::Settings,
    durable,
    fate::{Chain, Trouble},
    name::SourceName,
    pipeline::{self, Forecast, Forecaster, Keep, NotNow, SourceSpec},
    units::{Bandwidth, ByteSize},
};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use report::{Known, Report};
use serde_json::json;
use std::{
    fmt,
    io::{Write, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often it is kept how far a walk has come, where a piece ends.
const KEEP_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source; default: each of them
    pub source: Option<String>,
    /// Bytes per second that the line takes, like 10MB/s; upload.bandwidth limits it further
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub link: Option<Bandwidth>,
    /// Sealed bytes per byte of tar, like 0.6; default: as in earlier passes, else 1
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub ratio: Option<f64>,
    /// List the pieces, too, from the first one on, also where a plan was interrupted
    #[arg(long)]
    pub pieces: bool,
    /// Start over where a plan was interrupted
    #[arg(long)]
    pub fresh: bool,
    /// One JSON object for each source, after one for each of its pieces with --pieces
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<Bandwidth, String> {
    match text.parse() {
        Ok(Bandwidth(0)) => Err("write a rate above 0, like 10MB/s".to_owned()),
        rate => rate.map_err(|err| err.to_string()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| *ratio > 0.0 && *ratio <= 2.0);
    ratio.ok_or_else(|| "write a number above 0 and up to 2, like 0.6".to_owned())
}

/// Exit code where entries would be lost.
const LOST: u8 = 3;

pub fn run(args: &super::Args, plan: &Args) -> Result<u8, Failed> {
    let settings = crate::daemon::load(&args.config)?;
    super::systemd::become_the_service(&settings.state, &settings.staging.path)?;
    let named = plan.source.as_deref().map(|name| super::source(&settings, Some(name))).transpose()?;
    let catalog = match Catalog::open_read_only(&settings.catalog_file()) {
        Err(CatalogError::Missing { .. }) => None,
        catalog => Some(catalog?),
    };
    let options = crate::daemon::pipeline(&settings, &crate::daemon::Run::default());
    let mut code = 0;
    for spec in options.sources.iter().filter(|spec| named.as_ref().is_none_or(|name| *name == spec.name)) {
        let found = match Planning::open(&settings, &options, spec, catalog.as_ref(), plan, args.quiet)
            .and_then(Planning::finish)
        {
            // The others can be planned all the same.
            Err(failed) if failed.code == Trouble::Source.exit_code() && named.is_none() => {
                eprintln!("archiver: {}", failed.what);
                code = failed.code;
                continue;
            }
            found => found?,
        };
        let report = Report::new(&settings, spec, &found, known(catalog.as_ref(), &spec.name)?, plan);
        if plan.json {
            let value = serde_json::to_value(&report).map_err(|err| Failed::other(&err))?;
            json_line(&mut stdout(), &value)?;
        } else {
            report.show(&settings)?;
        }
        if found.lost() > 0 && code == 0 {
            code = LOST;
        }
    }
    Ok(code)
}

/// One source while it is walked.
struct Planning<'a> {
    spec: &'a SourceSpec,
    args: &'a Args,
    /// Where it is kept how far it comes.
    file: PathBuf,
    forecaster: Forecaster,
    bar: ProgressBar,
}

impl<'a> Planning<'a> {
    fn open(
        settings: &Settings,
        options: &pipeline::Options,
        spec: &'a SourceSpec,
        catalog: Option<&Catalog>,
        args: &'a Args,
        is_quiet: bool,
    ) -> Result<Planning<'a>, Failed> {
        let file = settings.state.join(format!("plan-{}.json", spec.name));
        if args.fresh {
            forget(&file)?;
        }
        // Pieces that were listed before an interruption would be missing in the list.
        let keep = (!args.pieces).then(|| Keep { file: file.clone(), every: KEEP_EVERY });
        let forecaster = Forecaster::open(options, spec, catalog, keep).map_err(|why| cannot(spec, why))?;
        if let Some((begun, behind)) = forecaster.resumed().filter(|_| !is_quiet) {
            let behind = behind.display();
            eprintln!("archiver: The plan that began {begun} goes on behind {behind}; --fresh starts over");
        }
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg} {at}") {
            let pulse = forecaster.pulse().clone();
            let at = move |_: &ProgressState, out: &mut dyn fmt::Write| {
                if let Some(beat) = pulse.stands_still(Duration::ZERO) {
                    let _ = write!(out, "{}", beat.path.display());
                }
            };
            bar.set_style(style.with_key("at", at));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(Planning { spec, args, file, forecaster, bar })
    }

    fn finish(mut self) -> Result<Forecast, Failed> {
        let mut is_kept = true;
        while let Some(piece) = self.forecaster.next_piece().map_err(|why| cannot(self.spec, why))? {
            let so_far = self.forecaster.so_far();
            let (entries, pieces) = (so_far.entries(), so_far.pieces.len());
            self.bar.set_message(format!("{}: {entries} entries, {pieces} pieces", self.spec.name));
            if self.args.pieces {
                self.bar.suspend(|| self.show(&piece))?;
            }
            match self.forecaster.keep() {
                Ok(()) => is_kept = true,
                Err(err) if std::mem::take(&mut is_kept) => {
                    self.bar.suspend(|| eprintln!("archiver: An interruption would cost all of this: {}", Chain(&err)));
                }
                Err(_) => {}
            }
        }
        self.bar.finish_and_clear();
        forget(&self.file)?;
        Ok(self.forecaster.into_forecast())
    }

    fn show(&self, piece: &cut::Plan) -> Result<(), Failed> {
        let first = piece.items.first().map(|item| item.path().display()).unwrap_or_default();
        let last = piece.last().map(|path| path.display()).unwrap_or_default();
        let seq = self.forecaster.so_far().pieces.len();
        let segment = piece.segment.as_ref();
        let mut out = stdout().lock();
        if self.args.json {
            let segment = segment.map(|segment| json!({ "index": segment.index, "count": segment.count }));
            let value = json!({
                "source": self.spec.name.as_str(), "seq": seq, "tar_size": piece.tar_size,
                "members": piece.members, "first": first, "last": last, "segment": segment,
            });
            return json_line(&mut out, &value);
        }
        let range = match segment {
            Some(segment) => format!("{first} part {} of {}", segment.index, segment.count),
            None => format!("{first} .. {last}"),
        };
        let size = ByteSize(piece.tar_size);
        Ok(writeln!(out, "{seq:06} {size:>12} {:>8} {range}", piece.members)?)
    }
}

fn forget(file: &Path) -> Result<(), Failed> {
    durable::remove(file).map_err(|err| Failed::new(Trouble::State.exit_code(), Chain(&err)))
}

fn cannot(spec: &SourceSpec, why: NotNow) -> Failed {
    match why {
        NotNow::Held(why) => Failed::new(Trouble::Source.exit_code(), format!("Source {}: {why}", spec.name)),
        NotNow::Failed(failure) => Failed::new(failure.trouble.exit_code(), failure.chain()),
    }
}

/// What the last pass that has ended tells, or where none has, the last with sealed pieces.
fn known(catalog: Option<&Catalog>, source: &SourceName) -> Result<Option<Known>, Failed> {
    let Some(catalog) = catalog else { return Ok(None) };
    let mut passes = catalog.passes(Some(source))?;
    passes.sort_by_key(|pass| pass.ended.is_none());
    for pass in passes {
        let rows = catalog.pieces(source, pass.pass)?;
        let sealed: Vec<_> = rows.iter().filter_map(|row| Some((&row.packed, row.sealed.as_ref()?))).collect();
        let sum = |of: fn(&PackedRow, &Sealed) -> u64| sealed.iter().map(|(packed, sealed)| of(packed, sealed)).sum();
        let (tar, entries): (u64, u64) = (sum(|packed, _| packed.tar_size), sum(|packed, _| packed.archived));
        let (size, manifests): (u64, u64) = (sum(|_, sealed| sealed.size), sum(|_, sealed| sealed.manifest_size));
        if tar > 0 && entries > 0 {
            return Ok(Some(Known {
                ratio: size as f64 / tar as f64,
                manifest_entry: manifests as f64 / entries as f64,
            }));
        }
    }
    Ok(None)
}
