//! `archiver tree`: the listing of a source, as archived with every pass.

use super::{Failed, access::Access, json_line, members::each_member};
use crate::archive::listing::Listing;
use std::{
    io::{BufWriter, Write, stdout},
    ops::ControlFlow,
};

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
    let access = Access::with(args.settings()?)?;
    let source = super::source(&access.settings, tree.source.as_deref())?;
    let catalog = super::catalog(&access.settings)?;
    let rows = super::ls::last_pass(&catalog, &source, tree.pass.as_deref())?;
    let mut out = BufWriter::new(stdout().lock());
    for row in &rows {
        each_member(&access, row, |member| {
            if !tree.json {
                Listing::new(&mut out).add(&member)?;
            } else if member.is_counted() {
                json_line(&mut out, &serde_json::to_value(&member).map_err(|err| Failed::other(&err))?)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    out.flush()?;
    Ok(0)
}
