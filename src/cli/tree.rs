//! `archiver tree`: the listing of a source, as archived with every pass.

use super::{Failed, json_line};
use crate::{
    catalog::PieceRow,
    config::Settings,
    pipeline::{local_manifest, read_manifest, write_tree},
};
use std::io::{BufWriter, Write, stdout};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source; may be left out when there is only one
    pub source: Option<String>,
    /// The pass; default: the last
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    /// One JSON object per entry, as in the manifests
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, tree: &Args) -> Result<u8, Failed> {
    let settings = args.settings()?;
    let source = super::source(&settings, tree.source.as_deref())?;
    let catalog = super::catalog(&settings)?;
    let rows = super::ls::last_pass(&catalog, &source, tree.pass.as_deref())?;
    let mut out = BufWriter::new(stdout().lock());
    if tree.json {
        as_json(&settings, &rows, &mut out)?;
    } else {
        let done = write_tree(&settings.state, &rows, &mut out);
        // A pipe that its reader has closed is told as an error of what was read for it.
        out.flush()?;
        done.map_err(|failure| Failed::new(failure.trouble.exit_code(), failure.chain()))?;
    }
    out.flush()?;
    Ok(0)
}

fn as_json(settings: &Settings, rows: &[PieceRow], out: &mut dyn Write) -> Result<(), Failed> {
    for row in rows {
        let manifest = read_manifest(&local_manifest(&settings.state, row.name())).map_err(|err| Failed::of(&err))?;
        for member in manifest {
            let member = member.map_err(|err| Failed::other(&err))?;
            if member.is_counted() {
                json_line(out, &serde_json::to_value(&member).map_err(|err| Failed::other(&err))?)?;
            }
        }
    }
    Ok(())
}
