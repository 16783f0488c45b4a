//! `archiver ls`: the pieces of a pass, or the members of one.

use super::{Failed, access::Access, json_line, members::each_member};
use crate::{
    archive::listing::Listing,
    catalog::{Catalog, PieceRow, PieceState},
    name::{PassId, SourceName},
    path::SourcePath,
    units::ByteSize,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{BufWriter, Write, stdout},
    ops::ControlFlow,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source; may be left out when there is only one
    pub source: Option<String>,
    /// A piece, by its number or name: list its members
    pub piece: Option<String>,
    /// The pass; default: the last
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    /// Pieces of all passes
    #[arg(long, conflicts_with = "pass")]
    pub all: bool,
    /// Sum entries and sizes by the first N path components
    #[arg(long, value_name = "N")]
    pub collate: Option<usize>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, ls: &Args) -> Result<u8, Failed> {
    let access = Access::with(args.settings()?)?;
    let settings = &access.settings;
    // With one source `ls 17` means its piece.
    let is_source = |name: &str| settings.sources.iter().any(|source| source.name.as_str() == name);
    let (named, piece) = match (&ls.source, &ls.piece) {
        (Some(first), None) if !is_source(first) && is_piece(first) => (None, Some(first.as_str())),
        (source, piece) => (source.as_deref(), piece.as_deref()),
    };
    let source = super::source(settings, named)?;
    let catalog = super::catalog(settings)?;
    let passes: Vec<PassId> = if ls.all {
        catalog.passes(Some(&source))?.iter().map(|row| row.pass).collect()
    } else {
        vec![super::pass(&catalog, &source, ls.pass.as_deref())?]
    };
    let mut rows = Vec::new();
    for pass in passes {
        rows.extend(catalog.pieces(&source, pass)?.into_iter().filter(|row| row.state != PieceState::Retired));
    }
    if let Some(piece) = piece {
        rows.retain(|row| row.is_named(piece));
        if rows.is_empty() {
            return Err(Failed::usage(format!("There is no piece {piece:?} in this pass of {source}")));
        }
    }
    let mut out = BufWriter::new(stdout().lock());
    match (ls.collate, piece) {
        (Some(depth), _) => collate(&access, &rows, depth, ls.json, &mut out)?,
        (None, Some(_)) => members(&access, &rows, ls.json, &mut out)?,
        (None, None) => pieces(&rows, ls.json, &mut out)?,
    }
    out.flush()?;
    Ok(0)
}

fn is_piece(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_digit()) || text.contains(".tar")
}

fn pieces(rows: &[PieceRow], as_json: bool, out: &mut dyn Write) -> Result<(), Failed> {
    let mut pass = rows.first().map(|row| row.name().pass);
    let has_several = rows.iter().any(|row| Some(row.name().pass) != pass);
    if has_several {
        pass = None;
    }
    for row in rows {
        if !as_json && has_several && pass != Some(row.name().pass) {
            pass = Some(row.name().pass);
            writeln!(out, "{}:", row.name().pass)?;
        }
        if as_json {
            let segment = row.packed.segment.map(|segment| json!({ "index": segment.index, "count": segment.count }));
            let line = json!({
                "source": row.packed.name.source.as_str(), "pass": row.packed.name.pass.to_string(), "seq": row.packed.name.seq, "name": row.packed.name.short(),
                "state": row.state.as_str(), "first": row.packed.first.display(), "last": row.packed.last.display(), "segment": segment,
                "members": row.packed.members, "seen": row.packed.seen, "archived": row.packed.archived, "lost": row.packed.lost,
                "tar_size": row.packed.tar_size, "sealed_size": row.sealed.as_ref().map(|sealed| sealed.size),
                "key": row.delivered.as_ref().map(|delivered| &delivered.key), "manifest_key": row.delivered.as_ref().map(|delivered| &delivered.manifest_key),
            });
            json_line(out, &line)?;
        } else {
            let size = row.sealed.as_ref().map_or(String::new(), |sealed| ByteSize(sealed.size).to_string());
            let name = row.packed.name.short();
            let segment = row
                .packed
                .segment
                .map_or(String::new(), |segment| format!(" part {} of {}", segment.index, segment.count));
            writeln!(
                out,
                "{name:<40} {:<10} {:>9} {:>11} {size:>11}  {} .. {}{segment}",
                row.state.as_str(),
                row.packed.members,
                ByteSize(row.packed.tar_size).to_string(),
                row.packed.first,
                row.packed.last
            )?;
        }
    }
    Ok(())
}

fn members(access: &Access, rows: &[PieceRow], as_json: bool, out: &mut dyn Write) -> Result<(), Failed> {
    for row in rows {
        if as_json {
            each_member(access, row, |member| {
                json_line(out, &serde_json::to_value(&member).map_err(|err| Failed::other(&err))?)?;
                Ok(ControlFlow::Continue(()))
            })?;
        } else {
            let mut listing = Listing::new(&mut *out);
            each_member(access, row, |member| {
                listing.add(&member)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
    }
    Ok(())
}

fn collate(access: &Access, rows: &[PieceRow], depth: usize, as_json: bool, out: &mut dyn Write) -> Result<(), Failed> {
    let mut sums: BTreeMap<SourcePath, (u64, u64)> = BTreeMap::new();
    for row in rows {
        each_member(access, row, |member| {
            if let Some(path) = member.source_path()
                && member.is_counted()
            {
                let head = path.components().take(depth).fold(SourcePath::root(), |head, name| head.join(name));
                let sum = sums.entry(head).or_default();
                sum.0 += 1;
                sum.1 += member.segment.map_or(member.size, |segment| segment.file_size);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    for (path, (entries, bytes)) in sums {
        if as_json {
            json_line(out, &json!({ "path": path.display(), "entries": entries, "bytes": bytes }))?;
        } else {
            writeln!(out, "{entries:>10} {:>11}  {path}", ByteSize(bytes).to_string())?;
        }
    }
    Ok(())
}

/// The rows of the last pass of a source, for commands that read all of it.
pub fn last_pass(catalog: &Catalog, source: &SourceName, pass: Option<&str>) -> Result<Vec<PieceRow>, Failed> {
    let pass = super::pass(catalog, source, pass)?;
    let mut rows = catalog.pieces(source, pass)?;
    rows.retain(|row| matches!(row.state, PieceState::Sealed | PieceState::Delivered));
    Ok(rows)
}
