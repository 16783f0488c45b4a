//! `archiver reload`: a running daemon takes the configuration, or says why not.

use super::{Failed, USAGE};
use crate::daemon::{Question, ask, ask_any};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(args: &super::Args) -> Result<u8, Failed> {
    // The daemon reads its own file; of ours the state says which daemon is meant. Where ours cannot say it, there is
    // the one of this machine, and what it thinks of its own.
    let answer = match args.settings() {
        Ok(settings) => ask(&settings.state, &Question::Reload)?,
        Err(wrong) => Some(ask_any(&Question::Reload)?.ok_or(wrong)?),
    };
    let Some(answer) = answer else {
        let what = "No daemon listens; the configuration is read when it starts (`systemctl start archiver`)";
        return Err(Failed::new(1, what));
    };
    match answer["taken"].as_bool() {
        Some(true) => Ok(0),
        Some(false) => Err(Failed::new(USAGE, answer["why"].as_str().unwrap_or_default())),
        None => Err(Failed::new(1, format!("The daemon does not understand: {answer}"))),
    }
}
