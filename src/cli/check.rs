//! `archiver check`: every problem of the configuration, or the effective settings.

use super::{Failed, USAGE, json_line};
use std::io::stdout;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object: the settings, or the problems
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, check: &Args) -> Result<u8, Failed> {
    let settings = match crate::daemon::load(&args.config) {
        Ok(settings) => settings,
        Err(err) if check.json => {
            json_line(&mut stdout(), &serde_json::json!({ "file": args.config, "problems": err.problems() }))?;
            return Ok(USAGE);
        }
        Err(err) => return Err(err.into()),
    };
    if check.json {
        let settings = serde_json::to_value(&settings).map_err(|err| Failed::other(&err))?;
        json_line(&mut stdout(), &settings)?;
    } else if !args.quiet {
        print!("{}", settings.effective());
    }
    for trouble in crate::daemon::foreseen(&settings) {
        eprintln!("archiver: {trouble}");
    }
    Ok(0)
}
