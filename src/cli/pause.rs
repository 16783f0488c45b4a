//! `archiver pause` and `archiver resume`: what a running daemon does not go on with for now.

use super::{Failed, USAGE, source, systemd::become_the_service};
use crate::{
    catalog::Catalog,
    config::Settings,
    daemon::{Question, ask},
    notice::Step,
    pipeline::{Part, Paused},
};
use serde_json::json;
use std::io::{Write, stdout};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this source is not read; its pieces that are packed go on
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only this stage
    #[arg(long, value_enum, conflicts_with = "source")]
    pub stage: Option<Stage>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Stage {
    /// The reading of all sources
    Pack,
    Compress,
    Encrypt,
    /// Parts under way are ended
    Upload,
}

impl Stage {
    fn step(self) -> Step {
        match self {
            Stage::Pack => Step::Pack,
            Stage::Compress => Step::Compress,
            Stage::Encrypt => Step::Encrypt,
            Stage::Upload => Step::Upload,
        }
    }
}

pub fn pause(args: &super::Args, paused: &Args) -> Result<u8, Failed> {
    tell(args, paused, Question::Pause)
}

pub fn resume(args: &super::Args, resumed: &Args) -> Result<u8, Failed> {
    tell(args, resumed, Question::Resume)
}

/// For the next start. By root as the service, which must be able to write what is left.
fn resume_without(settings: &Settings, part: &Part) -> Result<Vec<String>, Failed> {
    become_the_service(&settings.state, &settings.staging.path)?;
    let catalog = Catalog::open(&settings.catalog_file())?;
    let paused = Paused::load(&catalog)?.without(part);
    paused.keep(&catalog)?;
    Ok(paused.texts())
}

fn tell(
    args: &super::Args,
    Args { source: named, stage }: &Args,
    question: fn(Part) -> Question,
) -> Result<u8, Failed> {
    let settings = args.settings()?;
    let part = match (named, stage) {
        (Some(named), _) => Part::Source(source(&settings, Some(named))?),
        (None, Some(stage)) => Part::Stage(stage.step()),
        (None, None) => Part::Everything,
    };
    let question = question(part);
    let answer = match (ask(&settings.state, &question)?, &question) {
        (Some(answer), _) => answer,
        (None, Question::Resume(part)) => json!({ "paused": resume_without(&settings, part)? }),
        (None, _) => return Err(Failed::new(1, "No daemon listens: nothing is under way")),
    };
    if let Some(why) = answer["wrong"].as_str() {
        return Err(Failed::new(USAGE, why));
    }
    let Some(paused) = answer["paused"].as_array() else {
        return Err(Failed::new(1, format!("The daemon does not understand: {answer}")));
    };
    let texts = |of: &[serde_json::Value]| of.iter().filter_map(|text| text.as_str()).collect::<Vec<_>>().join(", ");
    let mut out = stdout().lock();
    if paused.is_empty() {
        writeln!(out, "Nothing is paused")?;
        return Ok(0);
    }
    writeln!(out, "Paused: {}", texts(paused))?;
    for (stage, told) in answer["now"]["stages"].as_object().into_iter().flatten() {
        for piece in told["pieces"].as_array().into_iter().flatten() {
            writeln!(out, "Under way: {stage} {}", piece["piece"].as_str().unwrap_or_default())?;
        }
    }
    Ok(0)
}
