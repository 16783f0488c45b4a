//! `archiver status`: what is going on, what waits, what went wrong.

use super::{Failed, json_line};
use crate::{
    catalog::{Catalog, CatalogError, PassRow, PieceRow, PieceState},
    config::Settings,
    daemon::{Question, SETTINGS_REFUSED, ask, ask_any},
    path::SourcePath,
    pipeline::Paused,
    staging,
    units::ByteSize,
};
use serde_json::{Value, json};
use std::{
    io::{Write, stdout},
    path::Path,
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
        if status.watch && !status.json {
            // Home, and clear what is below: no flicker, and the last picture stays.
            print!("\x1b[H\x1b[J");
        }
        if status.json {
            json_line(&mut stdout(), &value)?;
        } else {
            show(&value)?;
        }
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
            show_now(&mut stdout().lock(), &daemon)?;
        }
    }
    Err(wrong)
}

fn gather(settings: &Settings, catalog: Option<&Catalog>) -> Result<Value, Failed> {
    let mut sources = Vec::new();
    for source in &settings.sources {
        let pass = match catalog {
            Some(catalog) => catalog.passes(Some(&source.name))?.into_iter().next(),
            None => None,
        };
        sources.push(match (catalog, pass) {
            (Some(catalog), Some(pass)) => {
                let pieces = catalog.pieces(&source.name, pass.pass)?;
                source_json(source.name.as_str(), &source.path, &pass, &pieces)
            }
            _ => json!({ "source": source.name.as_str(), "path": source.path, "state": "waiting" }),
        });
    }
    let (refused, paused) = match catalog {
        Some(catalog) => {
            let refused = catalog.setting(SETTINGS_REFUSED)?.filter(|why| !why.is_empty());
            (refused, Paused::load(catalog)?)
        }
        None => (None, Paused::default()),
    };
    // A daemon that does not answer is told by `running` alone: the rest is known without it.
    let daemon = ask(&settings.state, &Question::Status).ok().flatten();
    Ok(json!({
        "daemon": daemon,
        "settings_refused": refused,
        "paused": paused.parts().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "running": staging::is_in_use(&settings.staging.path),
        "staging": { "path": settings.staging.path, "used": staging::used_below(&settings.staging.path), "cap": settings.staging.cap.0 },
        "sources": sources,
    }))
}

fn source_json(name: &str, path: &Path, pass: &PassRow, pieces: &[PieceRow]) -> Value {
    let count = |state: PieceState| pieces.iter().filter(|row| row.state == state).count();
    let standing = |row: &&PieceRow| row.state != PieceState::Retired;
    let sum = |of: fn(&PieceRow) -> u64| pieces.iter().filter(standing).map(of).sum::<u64>();
    let state = match (pass.ended.is_some(), pass.seen.is_some()) {
        (true, _) => "ended",
        (false, true) => "delivering",
        (false, false) => "walking",
    };
    json!({
        "source": name,
        "path": path,
        "state": state,
        "pass": pass.pass.to_string(),
        "position": pieces.iter().filter(standing).map(|row| &row.packed.position).max().map(SourcePath::display),
        "pieces": {
            "packed": count(PieceState::Packed),
            "compressed": count(PieceState::Compressed),
            "sealed": count(PieceState::Sealed),
            "delivered": count(PieceState::Delivered),
            "retired": count(PieceState::Retired),
        },
        "seen": sum(|row| row.packed.seen),
        "archived": sum(|row| row.packed.archived),
        "lost": sum(|row| row.packed.lost),
        "tar_bytes": sum(|row| row.packed.tar_size),
        "sealed_bytes": sum(|row| row.sealed.as_ref().map_or(0, |sealed| sealed.size)),
    })
}

/// What only the daemon itself knows.
fn show_now(out: &mut dyn Write, daemon: &Value) -> Result<(), Failed> {
    let now = &daemon["now"];
    if let Some(wrong) = daemon["file"]["wrong"].as_str() {
        writeln!(out, "The configuration as it is now would be refused:\n{wrong}")?;
    }
    for change in daemon["file"]["changes"].as_array().into_iter().flatten() {
        writeln!(out, "Not in force before a reload: {}", change.as_str().unwrap_or_default())?;
    }
    for (stage, told) in now["stages"].as_object().into_iter().flatten() {
        for piece in told["pieces"].as_array().into_iter().flatten() {
            let (done, bytes) = (piece["done"].as_u64().unwrap_or(0), piece["bytes"].as_u64().unwrap_or(0));
            let percent = 100 * done / bytes.max(1);
            let rate = ByteSize(told["rate"].as_u64().unwrap_or(0));
            writeln!(out, "  {stage:9} {percent:3} % of {}, {rate}/s", piece["piece"].as_str().unwrap_or_default())?;
        }
    }
    for (what, key) in [("The slowest step now", "bottleneck"), ("The window opens", "window_opens")] {
        if let Some(told) = now[key].as_str() {
            writeln!(out, "{what}: {told}")?;
        }
    }
    if let Some(what) = now["trouble"]["what"].as_str() {
        writeln!(out, "Trouble with {}: {what}", now["trouble"]["kind"].as_str().unwrap_or_default())?;
    }
    for (source, what) in now["sources"].as_object().into_iter().flatten() {
        writeln!(out, "{source}: {}", what.as_str().unwrap_or_default())?;
    }
    Ok(())
}

fn show(status: &Value) -> Result<(), Failed> {
    let mut out = stdout().lock();
    let running = if status["running"] == true { "running" } else { "not running" };
    let bytes = |value: &Value| ByteSize(value.as_u64().unwrap_or(0)).to_string();
    let staging = &status["staging"];
    writeln!(out, "archiver is {running}; staging holds {} of {}", bytes(&staging["used"]), bytes(&staging["cap"]))?;
    if let Some(why) = status["settings_refused"].as_str() {
        writeln!(out, "The configuration that was read last is refused, the one before holds:\n{why}")?;
    }
    let paused = status["paused"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    if !paused.is_empty() {
        writeln!(out, "Paused: {} (archiver resume)", paused.join(", "))?;
    }
    show_now(&mut out, &status["daemon"])?;
    for source in status["sources"].as_array().into_iter().flatten() {
        writeln!(out)?;
        let text = |key: &str| source[key].as_str().unwrap_or("").to_owned();
        if source["pass"].is_null() {
            writeln!(out, "{}: no pass yet", text("source"))?;
            continue;
        }
        let pieces = &source["pieces"];
        writeln!(out, "{}: pass {} {}, at {}", text("source"), text("pass"), text("state"), text("position"))?;
        writeln!(
            out,
            "  pieces     {} packed, {} compressed, {} sealed, {} delivered, {} made again",
            pieces["packed"], pieces["compressed"], pieces["sealed"], pieces["delivered"], pieces["retired"]
        )?;
        writeln!(
            out,
            "  entries    {} seen, {} archived, {} lost or damaged",
            source["seen"], source["archived"], source["lost"]
        )?;
        writeln!(
            out,
            "  size       {} as tar, {} sealed",
            bytes(&source["tar_bytes"]),
            bytes(&source["sealed_bytes"])
        )?;
    }
    Ok(out.flush()?)
}
