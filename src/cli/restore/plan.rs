//! What a restore takes: the fewest pieces that hold it, bytes, hours and money.

use super::Request;
use crate::{
    archive::{entry::Kind, manifest::note},
    catalog::{Catalog, PieceRow, PieceState},
    cli::{
        Failed,
        access::Access,
        json_line,
        members::each_member,
        terms::{Offer, hours},
    },
    config::Settings,
    glob::Glob,
    path::SourcePath,
    price::Tier,
    restore::{Selection, Wanted, is_in},
    units::{ByteSize, Seconds},
};
use serde_json::json;
use std::{collections::BTreeMap, io::stdout, ops::ControlFlow};

/// Said of a path of which no manifest tells.
const NOTHING: &str = "nothing of that name was archived in this pass";

pub struct Plan {
    pub selection: Selection,
    pub pieces: Vec<Wanted>,
    /// Pieces that are not in the vault yet.
    pub waiting: u64,
    /// Paths of which nothing was archived.
    pub unknown: u64,
    /// What comes back takes no more on the disk, bytes; 0 where nobody knows.
    pub disk: u64,
    pub offer: Offer,
}

impl Plan {
    pub fn make(access: &Access, catalog: &Catalog, request: &Request) -> Result<Plan, Failed> {
        let settings = &access.settings;
        let mut paths = request.paths.clone();
        let mut unknown = 0;
        for pattern in &request.patterns {
            let found = matching(access, catalog, request, pattern)?;
            if found.is_empty() {
                unknown += 1;
                eprintln!("archiver: {pattern}: {NOTHING}");
            }
            paths.extend(found);
        }
        let selection = Selection::new(paths);
        let rows = touching(catalog, request, &selection)?;
        for path in &request.paths {
            if !is_known(path, &rows, access)? {
                unknown += 1;
                eprintln!("archiver: {}: {NOTHING}", path.display());
            }
        }
        if unknown == (request.paths.len() + request.patterns.len()) as u64 {
            return Err(Failed::new(1, "There is nothing to bring back"));
        }
        let mut pieces = Vec::new();
        let mut waiting = 0;
        for row in &rows {
            match Wanted::of(row, &settings.state).map_err(|err| Failed::other(&err))? {
                Some(wanted) => pieces.push(wanted),
                None => waiting += 1,
            }
        }
        if waiting > 0 {
            eprintln!("archiver: {waiting} pieces of it are not in the vault yet, and do not come back");
        }
        let disk = rows.iter().filter(|row| row.delivered.is_some()).map(|row| row.packed.tar_size).sum();
        let sizes: Vec<u64> = pieces.iter().map(|piece| piece.object.size).collect();
        let offer = Offer::of(&sizes, settings, request.tier, request.days);
        Ok(Plan { selection, pieces, waiting, unknown, disk, offer })
    }

    pub fn show(&self, settings: &Settings, request: &Request, as_json: bool) -> Result<(), Failed> {
        let offer = &self.offer;
        let fetching = request.line.filter(|line| *line > 0).map(|line| offer.bytes / line);
        if as_json {
            let keys: Vec<_> = self.pieces.iter().map(|piece| piece.object.key.as_str()).collect();
            let of_tier = json!({ "bulk": hours(settings, Tier::Bulk), "standard": hours(settings, Tier::Standard) });
            let plan = json!({
                "source": request.source.as_str(), "pass": request.pass.to_string(), "pieces": keys, "bytes": offer.bytes,
                "largest": offer.largest, "thaw_hours": offer.hours, "thaw_hours_of": of_tier, "fetch_seconds": fetching,
                "cost": offer.cost, "disk": self.disk, "waiting": self.waiting, "unknown": self.unknown,
            });
            return json_line(&mut stdout(), &json!({ "plan": plan }));
        }
        eprintln!("{} {}: {}", request.source, request.pass, offer.text());
        eprintln!("One at a time; the largest takes {} of {:?}", ByteSize(offer.largest), settings.restore.path);
        if self.disk > 0 {
            eprintln!("What comes back takes at most {} on the disk", ByteSize(self.disk));
        }
        if offer.hours > 0 {
            eprintln!("What was thawed is kept readable for {} days", request.days);
        }
        if let Some(seconds) = fetching {
            eprintln!("Fetching takes {}", Seconds(seconds));
        }
        Ok(())
    }
}

/// Whether something of this path was archived. Where a manifest is nowhere only the piece itself can say.
fn is_known(path: &SourcePath, rows: &[PieceRow], access: &Access) -> Result<bool, Failed> {
    if path.is_root() {
        return Ok(true);
    }
    for row in rows.iter().filter(|row| path.is_within(&row.packed.first) || row.packed.last >= *path) {
        match access.manifest(row) {
            Ok(manifest) if !is_in(path, &manifest).unwrap_or(true) => {}
            Err(failed) if failed.code == 4 => return Err(failed),
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// The pieces that hold any of these paths, each once, in walk order.
fn touching(catalog: &Catalog, request: &Request, selection: &Selection) -> Result<Vec<PieceRow>, Failed> {
    let mut found = BTreeMap::new();
    for path in selection.paths() {
        for row in catalog.touching(&request.source, request.pass, path)? {
            let segment = row.packed.segment.map_or(0, |segment| segment.index);
            found.insert((row.packed.first.order_key(), segment, row.packed.name.seq), row);
        }
    }
    Ok(found.into_values().collect())
}

/// What a pattern means in the pass, by its manifests.
fn matching(access: &Access, catalog: &Catalog, request: &Request, pattern: &str) -> Result<Vec<SourcePath>, Failed> {
    let glob = Glob::parse(pattern.as_bytes()).map_err(Failed::usage)?;
    let mut found: Vec<SourcePath> = Vec::new();
    for row in catalog.touching(&request.source, request.pass, &glob.prefix())? {
        if row.state < PieceState::Sealed {
            continue;
        }
        each_member(access, &row, |member| {
            let path = member.source_path().filter(|_| !member.has_note(note::ANCESTOR));
            if let Some(path) = path
                && !found.last().is_some_and(|last| path.is_within(last))
                && glob.matches(&path, member.r#type == Kind::Dir.as_str())
            {
                found.push(path);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(found)
}
