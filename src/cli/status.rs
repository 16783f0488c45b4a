//! `archiver status`: what is going on, what waits, what went wrong.

mod view;

use super::{Failed, json_line};
use crate::{
    catalog::{Catalog, CatalogError},
    config::{Settings, Source},
    daemon::{Question, SETTINGS_REFUSED, ask, ask_any},
    name::Encryption,
    pipeline::Paused,
    report::{Standing, is_drill_due},
    staging,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write, stdout},
    thread,
    time::Duration,
};

const WATCH_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Again every two seconds
    #[arg(long)]
    pub watch: bool,
}

#[expect(clippy::disallowed_methods, reason = "a signal ends this process, asleep or not")]
pub fn run(args: &super::Args, status: &Args) -> Result<u8, Failed> {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(wrong) => return without_settings(status, wrong),
    };
    loop {
        let catalog = match Catalog::open_read_only(&settings.catalog_file()) {
            Err(CatalogError::Missing { .. }) => None,
            catalog => Some(catalog?),
        };
        let value = gather(&settings, catalog.as_ref())?;
        let mut out = stdout().lock();
        if status.json {
            json_line(&mut out, &value)?;
        } else if status.watch && out.is_terminal() {
            // Home, line by line over what was there, and clear what is below: no flicker, and the last picture stays.
            let text = view::of(&value).lines().fold("\x1b[H".to_owned(), |text, line| text + line + "\x1b[K\n");
            write!(out, "{text}\x1b[J")?;
        } else {
            write!(out, "{}", view::of(&value))?;
        }
        out.flush()?;
        if !status.watch {
            return Ok(0);
        }
        thread::sleep(WATCH_EVERY);
    }
}

/// What the daemon of this machine says of itself, where the configuration cannot say which one is meant.
fn without_settings(status: &Args, wrong: Failed) -> Result<u8, Failed> {
    if let Some(daemon) = ask_any(&Question::Status).ok().flatten() {
        if status.json {
            json_line(&mut stdout(), &json!({ "daemon": daemon, "running": true }))?;
        } else {
            write!(stdout().lock(), "{}", view::of_daemon(&daemon))?;
        }
    }
    Err(wrong)
}

fn gather(settings: &Settings, catalog: Option<&Catalog>) -> Result<Value, Failed> {
    let standing = |source: &Source| Standing::of(catalog, &source.name, &source.path, Timestamp::now());
    let sources = settings.sources.iter().map(standing).collect::<Result<Vec<_>, _>>()?;
    let (refused, paused) = match catalog {
        Some(catalog) => {
            let refused = catalog.setting(SETTINGS_REFUSED)?.filter(|why| !why.is_empty());
            (refused, Paused::load(catalog)?)
        }
        None => (None, Paused::default()),
    };
    let drill = catalog.map(Catalog::drill).transpose()?.flatten();
    let with_certificates = settings.encrypt.method != Encryption::None && settings.encrypt.passphrase_file.is_none();
    let has_delivered = sources.iter().any(|source| source.pass.as_ref().is_some_and(|pass| pass.pieces.delivered > 0));
    // A daemon that does not answer is told by `running` alone: the rest is known without it.
    let daemon = ask(&settings.state, &Question::Status).ok().flatten();
    Ok(json!({
        "daemon": daemon,
        "settings_refused": refused,
        "paused": paused.texts(),
        "drill": drill,
        "drill_due": with_certificates && has_delivered && is_drill_due(drill, Timestamp::now()),
        "running": staging::is_in_use(&settings.staging.path),
        "staging": { "path": settings.staging.path, "used": staging::used_below(&settings.staging.path), "cap": settings.staging.cap.0 },
        "sources": sources,
    }))
}
