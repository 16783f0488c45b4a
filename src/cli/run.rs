//! `archiver run`: the daemon.

use super::{Failed, progress::Bars};
use crate::{
    daemon::{self, Run},
    log,
    notice::Monitor,
};
use std::{
    io::{IsTerminal, stderr},
    sync::Arc,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bring every pass that is due to its end, with everything delivered, then exit
    #[arg(long)]
    pub once: bool,
    /// Upload at any hour
    #[arg(long)]
    pub ignore_window: bool,
    /// A pass of this source is due now
    #[arg(long, value_name = "SOURCE")]
    pub pass_now: Vec<String>,
}

pub fn run(args: &super::Args, run: &Args) -> Result<u8, Failed> {
    let settings = daemon::load(&args.config)?;
    for name in &run.pass_now {
        super::source(&settings, Some(name))?;
    }
    let mut monitors: Vec<Arc<dyn Monitor>> = vec![Arc::new(log::init(args.level(settings.log.level.as_str())))];
    if stderr().is_terminal() && !args.quiet {
        monitors.push(Arc::new(Bars::new()));
    }
    let run = Run { once: run.once, ignore_window: run.ignore_window, pass_now: run.pass_now.clone() };
    daemon::run(&settings, &run, monitors).map_err(|(code, what)| Failed::new(code, what))
}
