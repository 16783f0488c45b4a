//! What the vault lists below this host's passes, held against what the catalog knows after it caught up.

use super::super::{
    context::{Context, Failure},
    kept::{self, disagreement},
    naming::Naming,
};
use crate::{
    catalog::{PieceRow, PieceState},
    name::{PassId, PieceName, SourceName},
    vault::Key,
};
use std::collections::{BTreeMap, BTreeSet};

/// Keys asked for at once; S3 gives no more.
const PAGE: usize = 1000;

/// An error when the vault holds something of these passes that nobody here knows of.
pub fn check(ctx: &Context, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    let mut sources: BTreeSet<SourceName> = ctx.catalog.passes(None)?.into_iter().map(|row| row.source).collect();
    sources.extend(ctx.options.sources.iter().map(|spec| spec.name.clone()));
    for source in sources {
        check_source(ctx, &source, shelved)?;
    }
    Ok(())
}

fn check_source(ctx: &Context, source: &SourceName, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    let passes = ctx.catalog.passes(Some(source))?;
    let newest = passes.first().map(|row| row.pass);
    let open = passes.iter().find(|row| row.ended.is_none()).map(|row| row.pass);
    let mut rows = BTreeMap::new();
    if let Some(pass) = open {
        rows.extend(ctx.catalog.pieces(source, pass)?.into_iter().map(|row| (row.name().seq, row)));
    }
    let is_accounted = |pass: PassId, file: &str| {
        // Passes begin one after the other: one before the newest that is known is of an earlier state, and ended.
        let is_unknown = newest.is_none_or(|newest| pass > newest);
        !is_unknown && (open != Some(pass) || is_known(ctx, (source, pass), &rows, file, shelved))
    };
    for naming in Naming::every(ctx, source)? {
        check_below(ctx, &naming.below(), is_accounted)?;
    }
    Ok(())
}

/// An error when anything there is not accounted for.
fn check_below(ctx: &Context, below: &str, is_accounted: impl Fn(PassId, &str) -> bool) -> Result<(), Failure> {
    let mut after: Option<Key> = None;
    loop {
        let list = || ctx.vault.list(below, after.as_ref(), PAGE);
        let listed = ctx.ask(ctx.options.upload.retries.ask(list))?;
        for object in &listed {
            let Some((pass, file)) = object.key.as_str().strip_prefix(below).and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            let Ok(pass) = pass.parse::<PassId>() else { continue };
            if !is_accounted(pass, file) {
                let what = format!(
                    "The vault holds {}, of which neither the catalog nor staging nor the records in {:?} know",
                    object.key, ctx.options.state
                );
                return Err(disagreement(&what));
            }
        }
        match listed.last() {
            Some(last) if listed.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(()),
        }
    }
}

/// Whether an object of the open pass is accounted for.
fn is_known(
    ctx: &Context,
    (source, pass): (&SourceName, PassId),
    rows: &BTreeMap<u32, PieceRow>,
    file: &str,
    shelved: &BTreeSet<String>,
) -> bool {
    let digits: String = file.chars().take_while(char::is_ascii_digit).collect();
    // Listing and index are looked at when the pass ends.
    let Ok(seq) = digits.parse::<u32>() else { return true };
    let name = PieceName { source: source.clone(), pass, seq, label: None };
    // One that has no row yet is adopted from its shelf.
    shelved.contains(&name.id())
        || rows.get(&seq).is_some_and(|row| match row.state {
            PieceState::Delivered | PieceState::Retired => true,
            // Without a manifest here nobody can tell whether this is all of it, and it would be packed again.
            _ => kept::has_manifest(&ctx.options.state, &name),
        })
}
