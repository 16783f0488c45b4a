//! What a restore takes: the fewest pieces that hold it, bytes, hours and money.

use super::Request;
use crate::{
    archive::{entry::Kind, manifest::note},
    catalog::{Catalog, PieceRow, PieceState},
    cli::{Failed, access::Access, json_line, members::each_member},
    config::{Settings, VaultUrl},
    glob::Glob,
    path::SourcePath,
    price::{Return, Stock, Tier},
    restore::{Selection, Wanted, is_in},
    units::{ByteSize, Seconds},
    vault::s3,
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
    pub cost: Option<Return>,
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
        let is_s3 = matches!(settings.vault.url, VaultUrl::S3 { .. });
        let bytes = pieces.iter().map(|piece| piece.object.size).sum();
        let stock = Stock { pieces: pieces.len() as u64, bytes, ..Stock::default() };
        let prices = settings.prices.as_ref().filter(|_| is_s3);
        let cost = prices.map(|prices| prices.restore(&stock, request.tier, request.days));
        Ok(Plan { selection, pieces, waiting, unknown, cost })
    }

    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.object.size).sum()
    }

    pub fn show(&self, settings: &Settings, request: &Request, as_json: bool) -> Result<(), Failed> {
        let largest = self.pieces.iter().map(|piece| piece.object.size).max().unwrap_or(0);
        let hours = hours(settings, request.tier);
        let fetching = request.line.filter(|line| *line > 0).map(|line| self.bytes() / line);
        if as_json {
            let keys: Vec<_> = self.pieces.iter().map(|piece| piece.object.key.as_str()).collect();
            let of_tier =
                json!({ "bulk": self::hours(settings, Tier::Bulk), "standard": self::hours(settings, Tier::Standard) });
            let plan = json!({
                "source": request.source.as_str(), "pass": request.pass.to_string(), "pieces": keys, "bytes": self.bytes(),
                "largest": largest, "thaw_hours": hours, "thaw_hours_of": of_tier, "fetch_seconds": fetching, "cost": self.cost,
                "waiting": self.waiting, "unknown": self.unknown,
            });
            return json_line(&mut stdout(), &json!({ "plan": plan }));
        }
        eprintln!(
            "{} pieces of the pass {} of {}, {} to fetch, one at a time; the largest takes {} of {:?}",
            self.pieces.len(),
            request.pass,
            request.source,
            ByteSize(self.bytes()),
            ByteSize(largest),
            settings.restore.path
        );
        if hours > 0 {
            eprintln!("They can be read within {hours} hours, and are kept readable for {} days", request.days);
        }
        if let Some(seconds) = fetching {
            eprintln!("Fetching them takes {}", Seconds(seconds));
        }
        if let Some(cost) = &self.cost {
            eprintln!(
                "About {:.2} $: {:.2} to thaw, {:.2} for the copies, {:.2} for what leaves the region",
                cost.total(),
                cost.thaw,
                cost.copies,
                cost.egress
            );
        }
        Ok(())
    }
}

/// Within how many hours what is frozen can be read.
fn hours(settings: &Settings, tier: Tier) -> u32 {
    let is_frozen = matches!(settings.vault.url, VaultUrl::S3 { .. }) && s3::is_frozen(&settings.vault.storage_class);
    match (is_frozen, tier) {
        (false, _) => 0,
        (true, Tier::Bulk) => 48,
        (true, Tier::Standard) => 12,
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
