//! `archiver recovery-sheet`: what somebody needs who has nothing left but the bucket and the key, for the safe. Where
//! the data is, what opens it, and the commands that bring it back, with the names of this vault filled in. No secret is
//! on it.
//!
//! The commands are those of the README, which a test runs on a machine that has nothing of ours.

mod facts;
mod html;
mod text;

use super::Failed;
use crate::{durable, fate::Chain};
use facts::Facts;
use std::{
    io::{Write, stdout},
    path::PathBuf,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A page for printing, with QR codes
    #[arg(long, conflicts_with = "json")]
    pub html: bool,
    /// Write it there
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, sheet: &Args) -> Result<u8, Failed> {
    let settings = args.settings()?;
    let facts = Facts::gather(&settings)?;
    let text = match (sheet.html, sheet.json) {
        (true, _) => html::page(&facts)?,
        (false, true) => format!("{}\n", serde_json::to_string(&facts).map_err(|err| Failed::other(&err))?),
        (false, false) => text::text(&facts),
    };
    match &sheet.to {
        Some(file) => {
            let file = std::path::absolute(file)?;
            durable::write_for_all(&file, text.as_bytes()).map_err(|err| Failed::new(1, Chain(&err)))?;
        }
        None => stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(0)
}
