//! `archiver systemd`, hidden: what the units and the generator of the package call.

mod drop_in;
mod failed;
mod identity;
mod prepare;

pub use identity::take as become_the_service;

use super::Failed;
use crate::{config, daemon};
use std::{fs, path::PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write the part of archiver.service that follows from the configuration, into a directory of units
    Generator { dir: PathBuf },
    /// Make the directories that are missing, for the user of the service
    Prepare,
    /// Mail that the unit has failed which systemd names
    Failed,
}

pub fn run(args: &super::Args, systemd: &Args) -> Result<u8, Failed> {
    match &systemd.what {
        What::Generator { dir } => {
            let dir = dir.join("archiver.service.d");
            fs::create_dir_all(&dir)?;
            let text = drop_in::text(&args.config, &config::parts(&args.config), &drop_in::mount_points());
            fs::write(dir.join("50-configured.conf"), text)?;
            Ok(0)
        }
        What::Prepare => prepare::run(&config::parts(&args.config), &state_directory()),
        What::Failed => failed::run(args, &state_directory()),
    }
}

/// Where a failure is looked up and told from.
fn state_directory() -> PathBuf {
    daemon::own_directory().unwrap_or_else(|| "/var/lib/archiver".into())
}
