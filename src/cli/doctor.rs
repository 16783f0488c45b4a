//! `archiver doctor`: tries everything for real.

use super::{Failed, USAGE};
use crate::{
    config::ConfigError,
    daemon,
    fate::{Chain, Trouble},
    finding::{Finding, State},
};
use std::io::{self, Write, stdout};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Send a mail, too
    #[arg(long)]
    pub mail: bool,
    /// One JSON object per line: check, state, what, hint, and the permission that is missing
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, doctor: &Args) -> Result<u8, Failed> {
    let mut sheet = Sheet { is_json: doctor.json, is_quiet: args.quiet, code: 0, written: Ok(()) };
    let settings = match daemon::load(&args.config) {
        Ok(settings) => settings,
        Err(err) => {
            findings_of(args, &err).into_iter().for_each(|finding| sheet.tell(&finding));
            sheet.written?;
            return Ok(USAGE);
        }
    };
    super::systemd::become_the_service(&settings.state, &settings.staging.path)?;
    let what = format!("{:?} has no problem", args.config);
    sheet.tell(&of_configuration(State::Ok, what));
    daemon::doctor(&settings, doctor.mail, &mut |finding| sheet.tell(&finding)).map_err(|what| Failed::new(1, what))?;
    sheet.written?;
    Ok(sheet.code)
}

/// What is printed, and what has become of it.
struct Sheet {
    is_json: bool,
    is_quiet: bool,
    /// Of the first problem.
    code: u8,
    written: Result<(), Failed>,
}

impl Sheet {
    fn tell(&mut self, finding: &Finding) {
        if finding.state == State::Problem && self.code == 0 {
            self.code = finding.trouble.exit_code();
        }
        if self.written.is_ok() && !(self.is_quiet && finding.state == State::Ok) {
            self.written = self.write(finding);
        }
    }

    fn write(&self, finding: &Finding) -> Result<(), Failed> {
        let mut out = stdout().lock();
        if self.is_json {
            writeln!(out, "{}", serde_json::to_string(finding).map_err(|err| Failed::other(&err))?)?;
        } else {
            writeln!(out, "{finding}")?;
        }
        let flushed: io::Result<()> = out.flush();
        Ok(flushed?)
    }
}

fn of_configuration(state: State, what: String) -> Finding {
    let check = "configuration";
    Finding { check, state, what, hint: String::new(), permission: None, trouble: Trouble::Internal }
}

/// Each with its line, as `check` tells it.
fn findings_of(args: &super::Args, err: &ConfigError) -> Vec<Finding> {
    let problems = err.problems().iter().map(|problem| {
        let line = problem.line.map(|line| format!("{line}:")).unwrap_or_default();
        of_configuration(State::Problem, format!("{}:{line} {problem}", args.config.display()))
    });
    let mut findings: Vec<Finding> = problems.collect();
    if findings.is_empty() {
        findings.push(of_configuration(State::Problem, Chain(err).to_string()));
    }
    findings
}
