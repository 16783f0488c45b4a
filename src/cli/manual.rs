//! `archiver man` and `archiver completions`: drawn from the same definitions that the command line is read by.

use super::Failed;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::io::{Write, stdout};

/// The page of the configuration.
const CONFIGURATION: &str = "archiver.toml";
const VERSION: &str = concat!("archiver ", env!("CARGO_PKG_VERSION"));
/// Every key with its default and a sentence.
const SAMPLE: &str = include_str!("../../config/archiver.toml");

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Complete and clean; nothing was due."),
    ("1", "Failed."),
    ("2", "Usage or configuration; a missing file, too."),
    ("3", "Complete, but some entries were lost or damaged: see archiver exceptions."),
    ("4", "The vault could not be reached, or refused; what waits for it is kept."),
    ("5", "Keys are there, but unusable."),
    ("6", "The staging disk is full, or fails."),
    ("7", "State needs an operator: no rights, damaged without a good copy, or in use by another archiver."),
    ("75", "Held: a source is not there, not mounted, or empty and was not before."),
    ("130, 143", "Stopped by SIGINT or SIGTERM before the end; the next run goes on there."),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/archiver.toml", "The configuration: archiver.toml(5)."),
    ("/var/lib/archiver", "State: catalog and its copy, manifests, records. Another place with the key state."),
    ("/var/lib/archiver/staging", "The working directory. Another place with the key staging.path."),
];

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The page: a command, or archiver.toml; default: the program itself
    pub page: Option<String>,
    /// List the files that there are pages for, like archiver-run.1
    #[arg(long, conflicts_with = "page")]
    pub list: bool,
}

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

pub fn man(args: &ManArgs) -> Result<u8, Failed> {
    let mut program = super::Args::command().disable_help_subcommand(true);
    program.build();
    let mut out = stdout().lock();
    if args.list {
        writeln!(out, "archiver.1\n{CONFIGURATION}.5")?;
        for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
            writeln!(out, "archiver-{}.1", command.get_name())?;
        }
        return Ok(0);
    }
    match args.page.as_deref() {
        None => {
            Man::new(program).manual("archiver").render(&mut out)?;
            list("EXIT STATUS", EXIT_STATUS).to_writer(&mut out)?;
            list("FILES", FILES).to_writer(&mut out)?;
        }
        Some(CONFIGURATION) => configuration().to_writer(&mut out)?,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => Man::new(command.clone()).source(VERSION).manual("archiver").render(&mut out)?,
            None => return Err(Failed::usage(format!("There is no page {name:?}; archiver man --list names all"))),
        },
    }
    Ok(0)
}

fn list(heading: &str, items: &[(&str, &str)]) -> Roff {
    let mut page = Roff::new();
    page.control("SH", [heading]);
    for (term, what) in items {
        page.control("TP", []);
        page.text([bold(*term)]);
        page.text([roman(*what)]);
    }
    page
}

fn configuration() -> Roff {
    let mut page = Roff::new();
    page.control("TH", [CONFIGURATION, "5", "", VERSION, "archiver"]);
    page.control("SH", ["NAME"]);
    page.text([roman("archiver.toml - configuration of archiver")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "TOML. Unknown keys, wrong types and impossible values are errors, and archiver check tells all of them at \
         once with their lines. Sizes are \"512GiB\", \"2TB\" or bytes; lengths of time \"90d\" or \"12h\". Below stands \
         every key with its default, or where it has none with an example; those after a # are absent by default.",
    )]);
    page.control("SH", ["KEYS"]);
    page.control("nf", []);
    for line in SAMPLE.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page
}

pub fn completions(args: &CompletionsArgs) -> Result<u8, Failed> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::Args::command(), "archiver", &mut text);
    Ok(stdout().write_all(&text).map(|()| 0)?)
}
