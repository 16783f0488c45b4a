//! `archiver run`: the daemon.

use super::{Failed, progress::Bars};
use crate::{
    daemon::{self, Run},
    log,
    notice::Monitor,
    units::Seconds,
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
    /// With --once: try again whatever fails until it has failed for so long, like 15m, then exit with its code
    #[arg(long, value_name = "DURATION", requires = "once")]
    pub give_up_after: Option<Seconds>,
    /// Upload at any hour
    #[arg(long)]
    pub ignore_window: bool,
    /// A pass of this source is due now
    #[arg(long, value_name = "SOURCE")]
    pub pass_now: Vec<String>,
}

pub fn run(args: &super::Args, run: &Args) -> Result<u8, Failed> {
    let settings = daemon::load(&args.config)?;
    super::systemd::become_the_service(&settings.state, &settings.staging.path)?;
    for name in &run.pass_now {
        super::source(&settings, Some(name))?;
    }
    let mut monitors: Vec<Arc<dyn Monitor>> = vec![Arc::new(log::init(args.level(settings.log.level.as_str())))];
    if stderr().is_terminal() && !args.quiet {
        monitors.push(Arc::new(Bars::new()));
    }
    let run = Run {
        once: run.once,
        give_up_after: run.give_up_after.map(Seconds::duration),
        ignore_window: run.ignore_window,
        pass_now: run.pass_now.clone(),
        log_level_is_given: args.quiet || args.verbose,
    };
    daemon::run(&settings, &run, monitors).map_err(|(code, what)| Failed::new(code, what))
}
