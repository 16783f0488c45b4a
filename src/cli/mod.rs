//! The commands: one file each, all built from the definitions here. Data goes to stdout, all else to stderr.

mod access;
mod aws_policy;
mod check;
mod decrypt;
mod delete;
mod doctor;
mod drill;
mod exceptions;
mod find;
mod ls;
mod manual;
mod members;
mod pause;
mod plan;
mod progress;
mod rebuild;
mod recovery_sheet;
mod rehearse;
mod reload;
mod restore;
mod run;
mod status;
mod systemd;
mod terms;
mod tree;
mod verify;

use crate::{
    catalog::{Catalog, CatalogError},
    config::{self, ConfigError, Settings},
    durable::DurableError,
    fate::{Chain, Fateful},
    name::{PassId, SourceName},
};
use clap::{Parser, Subcommand};
use std::{
    error::Error,
    fmt,
    io::{self, BufRead, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

/// The configuration, where none is named.
const CONFIG: &str = "/etc/archiver.toml";

/// Exit code of a usage or configuration error.
pub const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "archiver",
    version,
    about = "Archives filesystems too large to image and too slow to read twice",
    max_term_width = 100
)]
pub struct Args {
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG, env = "ARCHIVER_CONFIG")]
    pub config: PathBuf,
    /// Tell only what is wrong
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell more
    #[arg(long, short, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon; ends on SIGTERM or SIGINT
    Run(run::Args),
    /// Read the configuration and print every problem, or the effective settings
    Check(check::Args),
    /// Try everything for real: vault rights, keys, staging, clock, mail
    Doctor(doctor::Args),
    /// Print the AWS policies and bucket settings that an S3 vault needs, filled in, and what installs them
    AwsPolicy(aws_policy::Args),
    /// Tell what a pass would be: pieces, sizes, staging, time and money; changes nothing
    Plan(plan::Args),
    /// Let the running daemon rest: all of it, the reading of one source, or one stage; survives a restart
    Pause(pause::Args),
    /// Let go on what was paused
    Resume(pause::Args),
    /// Let the running daemon read its configuration again
    Reload(reload::Args),
    /// Tell what is going on, what waits, and what went wrong
    Status(status::Args),
    /// List the pieces of a pass, or the members of a piece
    Ls(ls::Args),
    /// Tell which piece holds something: names, or paths with `*`, `?` and `**`
    Find(find::Args),
    /// List every entry that was not archived clean, with the reason
    Exceptions(exceptions::Args),
    /// Bring files back: plan, price, thaw, wait, fetch, prove, unpack
    Restore(restore::Args),
    /// Tell whether what was archived is still what it was: source, vault, and pieces that are fetched and opened
    Verify(verify::Args),
    /// Turn downloaded objects into plain tars
    Decrypt(decrypt::Args),
    /// Make a new catalog from the vault alone
    Rebuild(rebuild::Args),
    /// Hold catalog and vault against each other
    Sync(rebuild::SyncArgs),
    /// Remove pieces from the vault and the catalog; refuses what nothing supersedes
    Delete(delete::Args),
    /// Print, for the safe, where everything is, which keys open it, and the commands that bring it back without us
    RecoverySheet(recovery_sheet::Args),
    /// Open one piece with the key that a restore would need, prove it, and record that it worked
    Drill(drill::Args),
    /// Print the listing of a source, as archived with every pass
    Tree(tree::Args),
    /// Do the whole job on a directory, into a throw-away vault, restore it with gpg, xz and tar, and compare
    Rehearse(rehearse::Args),
    /// Print a man page
    Man(manual::ManArgs),
    /// Print what completes command lines in a shell
    Completions(manual::CompletionsArgs),
    /// What units of systemd call
    #[command(hide = true)]
    Systemd(systemd::Args),
}

/// Exit code of what is complete, but not all of it as it was.
pub const INCOMPLETE: u8 = 3;

/// Exit code of what is held, by a limit or by a no.
pub const HELD: u8 = 75;

/// A command that failed: what to say and how to exit.
#[derive(Debug)]
pub struct Failed {
    pub code: u8,
    pub what: String,
}

impl Failed {
    pub fn new(code: u8, what: impl fmt::Display) -> Failed {
        Failed { code, what: what.to_string() }
    }

    pub fn usage(what: impl fmt::Display) -> Failed {
        Failed::new(USAGE, what)
    }

    /// An error that knows its trouble, with all its causes.
    pub fn of(err: &impl Fateful) -> Failed {
        Failed::new(err.trouble().exit_code(), Chain(err))
    }

    pub fn other(err: &(dyn Error + 'static)) -> Failed {
        Failed::new(1, Chain(err))
    }
}

impl From<ConfigError> for Failed {
    fn from(err: ConfigError) -> Failed {
        Failed::usage(Chain(&err))
    }
}

impl From<CatalogError> for Failed {
    fn from(err: CatalogError) -> Failed {
        Failed::of(&err)
    }
}

impl From<DurableError> for Failed {
    fn from(err: DurableError) -> Failed {
        Failed::of(&err)
    }
}

impl From<io::Error> for Failed {
    fn from(err: io::Error) -> Failed {
        // Who reads us has closed the pipe and needs nothing more.
        if err.kind() == io::ErrorKind::BrokenPipe { Failed::new(0, "") } else { Failed::other(&err) }
    }
}

impl Args {
    pub fn run(self) -> ExitCode {
        let done = match &self.command {
            Command::Run(args) => run::run(&self, args),
            Command::Check(args) => check::run(&self, args),
            Command::Doctor(args) => doctor::run(&self, args),
            Command::AwsPolicy(args) => aws_policy::run(&self, args),
            Command::Plan(args) => plan::run(&self, args),
            Command::Pause(args) => pause::pause(&self, args),
            Command::Resume(args) => pause::resume(&self, args),
            Command::Reload(_) => reload::run(&self),
            Command::Status(args) => status::run(&self, args),
            Command::Ls(args) => ls::run(&self, args),
            Command::Find(args) => find::run(&self, args),
            Command::Exceptions(args) => exceptions::run(&self, args),
            Command::Restore(args) => restore::run(&self, args),
            Command::Verify(args) => verify::run(&self, args),
            Command::Decrypt(args) => decrypt::run(&self, args),
            Command::Rebuild(args) => rebuild::run(&self, args),
            Command::Sync(args) => rebuild::sync(&self, args),
            Command::Delete(args) => delete::run(&self, args),
            Command::RecoverySheet(args) => recovery_sheet::run(&self, args),
            Command::Drill(args) => drill::run(&self, args),
            Command::Tree(args) => tree::run(&self, args),
            Command::Rehearse(args) => rehearse::run(&self, args),
            Command::Man(args) => manual::man(args),
            Command::Completions(args) => manual::completions(args),
            Command::Systemd(args) => systemd::run(&self, args),
        };
        match done {
            Ok(code) => ExitCode::from(code),
            Err(failed) => {
                if !failed.what.is_empty() {
                    eprintln!("archiver: {}", failed.what);
                }
                ExitCode::from(failed.code)
            }
        }
    }

    /// The settings, checked; every problem is told at once.
    pub fn settings(&self) -> Result<Settings, Failed> {
        Ok(config::load(&self.config)?)
    }

    /// The level of the log: what the command line says, else what the configuration says.
    pub fn level<'a>(&self, configured: &'a str) -> &'a str {
        match (self.quiet, self.verbose) {
            (true, _) => "warn",
            (_, true) => "debug",
            _ => configured,
        }
    }
}

/// The catalog as the daemon left it, or has it now.
pub fn catalog(settings: &Settings) -> Result<Catalog, Failed> {
    Ok(Catalog::open_read_only(&settings.catalog_file())?)
}

/// The source that is meant: the one that is named, or the only one.
pub fn source(settings: &Settings, named: Option<&str>) -> Result<SourceName, Failed> {
    let names = || settings.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    match named {
        Some(named) => settings
            .sources
            .iter()
            .find(|source| source.name.as_str() == named)
            .map(|source| source.name.clone())
            .ok_or_else(|| Failed::usage(format!("There is no source {named:?}; the configuration has {}", names()))),
        None => match settings.sources.as_slice() {
            [only] => Ok(only.name.clone()),
            _ => Err(Failed::usage(format!("Which source? The configuration has {}", names()))),
        },
    }
}

/// The pass that is meant: the one that is named, or the last one.
pub fn pass(catalog: &Catalog, source: &SourceName, named: Option<&str>) -> Result<PassId, Failed> {
    let passes = catalog.passes(Some(source))?;
    match named {
        Some(named) => {
            let id: PassId = named.parse().map_err(Failed::usage)?;
            let known = passes.iter().any(|row| row.pass == id);
            if known { Ok(id) } else { Err(Failed::usage(format!("There is no pass {id} of {source}"))) }
        }
        None => match passes.first() {
            Some(row) => Ok(row.pass),
            None => Err(Failed::new(1, format!("There is no pass of {source} yet"))),
        },
    }
}

/// Asks on the terminal, unless it is answered already.
pub fn agree(yes: bool, question: &str) -> Result<(), Failed> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failed::usage("There is no terminal to ask on; --yes says that it is meant"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failed::new(HELD, "Nothing was done")) }
}

/// One JSON object on a line of its own.
pub fn json_line(out: &mut dyn io::Write, value: &serde_json::Value) -> Result<(), Failed> {
    Ok(writeln!(out, "{value}")?)
}
