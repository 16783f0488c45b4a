//! `archiver verify`: whether what was archived is still what it was: the source, what the vault says of its objects, what
//! S3 computes of them, and pieces that are fetched and opened.

mod batches;
pub mod checks;

use super::{Failed, INCOMPLETE, access::Access, json_line, progress, terms::Terms};
use crate::{
    archive::manifest::{member_name, split},
    catalog::{Catalog, CatalogError, PieceRow, PieceState},
    config::Settings,
    fate::Chain,
    name::{PassId, SourceName},
    verify::{Finding, Subject, Verdict},
};
use clap::ArgGroup;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use std::{io::stdout, path::PathBuf};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("how").required(true).multiple(true))]
pub struct Args {
    /// Read the source again and compare it with the manifests: what is missing, what was changed since, what is damaged
    #[arg(long, group = "how")]
    pub local: bool,
    /// Compare what the vault says of every object with what was recorded: size, class, checksum; reads no piece
    #[arg(long, group = "how")]
    pub vault: bool,
    /// Thaw and fetch the N pieces that were not opened for the longest time, and prove them to the last member
    #[arg(long, value_name = "N", group = "how")]
    pub deep: Option<usize>,
    /// Write the list of objects for a job of S3 Batch Operations, "Compute checksum": S3 reads them where they lie
    #[arg(long, value_name = "FILE", group = "how")]
    pub batch: Option<PathBuf>,
    /// Compare the completion reports of such a job with what was recorded: CRC64NVME, or SHA256 of full objects
    #[arg(long, value_name = "FILE", num_args = 1.., group = "how")]
    pub batch_report: Vec<PathBuf>,
    /// The source; may be left out when there is only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The pass; default: the last
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    /// With --deep: only say what it would take and cost
    #[arg(long, requires = "deep")]
    pub dry_run: bool,
    #[command(flatten)]
    pub terms: Terms,
    /// One JSON object per line: each finding, and the outcome
    #[arg(long)]
    pub json: bool,
}

/// What is looked at.
pub struct Scope<'a> {
    access: &'a Access,
    catalog: Catalog,
    source: SourceName,
    pass: PassId,
    /// Of the pass, in walk order; not those that were made again.
    rows: Vec<PieceRow>,
}

impl Scope<'_> {
    fn settings(&self) -> &Settings {
        &self.access.settings
    }

    fn delivered(&self) -> Vec<PieceRow> {
        self.rows.iter().filter(|row| row.state == PieceState::Delivered).cloned().collect()
    }
}

pub fn run(args: &super::Args, verify: &Args) -> Result<u8, Failed> {
    let access = Access::with(args.settings()?)?;
    let source = super::source(&access.settings, verify.source.as_deref())?;
    let catalog = super::catalog(&access.settings)?;
    let pass = super::pass(&catalog, &source, verify.pass.as_deref())?;
    let mut rows = catalog.pieces(&source, pass)?;
    rows.retain(|row| row.state != PieceState::Retired);
    let scope = Scope { access: &access, catalog, source, pass, rows };
    let mut report = Report::new(verify.json, args.quiet);
    // What may cost something is settled before anything takes long.
    let deep = match verify.deep {
        Some(count) => checks::plan(&scope, count, verify, &mut report)?,
        None => Vec::new(),
    };
    if let Some(file) = &verify.batch {
        batches::list(&scope, file)?;
    }
    if !verify.batch_report.is_empty() {
        batches::report(&scope, &verify.batch_report, verify.pass.is_some(), &mut report)?;
    }
    if verify.vault {
        checks::vault(&scope, &mut report)?;
    }
    if verify.local {
        checks::local(&scope, &mut report)?;
    }
    if !verify.dry_run && verify.deep.is_some() {
        checks::deep(&scope, &deep, &verify.terms, &mut report)?;
    }
    report.end()
}

/// What was found, as it is told.
pub struct Report {
    pub json: bool,
    pub quiet: bool,
    pub bar: ProgressBar,
    check: &'static str,
    /// By verdict.
    found: Vec<(Verdict, u64)>,
    sums: Map<String, Value>,
}

impl Report {
    pub fn new(json: bool, quiet: bool) -> Report {
        let verdicts = [Verdict::Changed, Verdict::Unproven, Verdict::Missing, Verdict::Damaged];
        let found = verdicts.map(|verdict| (verdict, 0)).to_vec();
        Report { json, quiet, bar: ProgressBar::hidden(), check: "", found, sums: Map::new() }
    }

    pub fn begin(&mut self, check: &'static str, total: Option<u64>) {
        self.check = check;
        self.bar = progress::bytes(self.json || self.quiet, total);
    }

    /// One finding, of this piece. Who reads us may have gone; what is looked at is not for them alone.
    pub fn tell(&mut self, piece: Option<&str>, finding: &Finding) {
        for (verdict, count) in &mut self.found {
            *count += u64::from(*verdict == finding.verdict);
        }
        let line = self.json.then(|| {
            let mut line = json!({
                "check": self.check, "verdict": finding.verdict.as_str(), "piece": piece, "why": finding.why,
            });
            match &finding.subject {
                Subject::Object(key) => line["key"] = key.as_str().into(),
                Subject::Entry(path) => match split(&member_name(path)) {
                    (Some(text), _) => line["path"] = text.into(),
                    (None, b64) => line["path_b64"] = b64.into(),
                },
            }
            line
        });
        self.bar.suspend(|| match line {
            Some(line) => drop(json_line(&mut stdout(), &line)),
            None => {
                use std::io::Write;
                let _ = writeln!(stdout(), "{:<8} {}: {}", finding.verdict.as_str(), finding.subject, finding.why);
            }
        });
    }

    /// What a check has looked at.
    pub fn sum(&mut self, sums: Value, text: &str) {
        self.bar.finish_and_clear();
        if !self.json && !self.quiet {
            eprintln!("{}: {text}", self.check);
        }
        self.sums.insert(self.check.to_owned(), sums);
    }

    /// Something of interest that is no finding.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("archiver: {text}"));
    }

    pub fn end(self) -> Result<u8, Failed> {
        let is_bad = self.found.iter().any(|(verdict, count)| *verdict > Verdict::Changed && *count > 0);
        if self.json {
            let mut outcome = self.sums;
            for (verdict, count) in &self.found {
                outcome.insert(verdict.as_str().to_owned(), (*count).into());
            }
            json_line(&mut stdout(), &json!({ "outcome": outcome }))?;
        } else if !self.quiet {
            let found = self.found.iter().rev().map(|(verdict, count)| format!("{count} {}", verdict.as_str()));
            eprintln!("{}", found.collect::<Vec<_>>().join(", "));
        }
        Ok(if is_bad { INCOMPLETE } else { 0 })
    }
}

/// Records something in the catalog, which a daemon may have open. Whoever may not write it has looked all the same.
pub fn record(settings: &Settings, write: impl FnOnce(&Catalog) -> Result<(), CatalogError>) -> bool {
    let recorded = Catalog::open(&settings.catalog_file()).and_then(|catalog| write(&catalog));
    if let Err(err) = &recorded {
        eprintln!("archiver: It is not on record that this was proven: {}", Chain(err));
    }
    recorded.is_ok()
}
