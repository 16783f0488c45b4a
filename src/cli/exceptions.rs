//! `archiver exceptions`: every entry that was not archived clean.

use super::{Failed, json_line};
use crate::path::escape;
use serde_json::json;
use std::io::{BufWriter, Write, stdout};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source; default: all
    pub source: Option<String>,
    /// The pass; default: the last
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, exceptions: &Args) -> Result<u8, Failed> {
    let settings = args.settings()?;
    let sources = match &exceptions.source {
        Some(named) => vec![super::source(&settings, Some(named))?],
        None => settings.sources.iter().map(|source| source.name.clone()).collect(),
    };
    let catalog = super::catalog(&settings)?;
    let mut out = BufWriter::new(stdout().lock());
    for source in sources {
        if exceptions.pass.is_none() && catalog.passes(Some(&source))?.is_empty() {
            continue;
        }
        let pass = super::pass(&catalog, &source, exceptions.pass.as_deref())?;
        for (seq, exception) in catalog.exceptions(&source, pass)? {
            let severity = exception.severity();
            if exceptions.json {
                let (path, path_b64) =
                    crate::archive::manifest::split(&crate::archive::manifest::member_name(&exception.path));
                let line = json!({
                    "source": source.as_str(), "pass": pass.to_string(), "piece": seq, "path": path, "path_b64": path_b64,
                    "reason": exception.reason, "severity": severity, "errno": exception.errno, "detail": exception.detail,
                });
                json_line(&mut out, &line)?;
            } else {
                let severity = if severity == crate::notice::Severity::Loss { "loss" } else { "info" };
                let detail = escape(exception.detail.as_bytes());
                writeln!(out, "{severity} {:<10} {} {}: {detail}", exception.reason.as_str(), source, exception.path)?;
            }
        }
    }
    out.flush()?;
    Ok(0)
}
