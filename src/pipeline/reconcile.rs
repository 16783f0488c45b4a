//! A catalog that is behind catches up: one that went back to its copy, or an older one that somebody put in its place.
//!
//! What it does not know stands elsewhere, and is true there: what is on its way on the shelves, what every piece and
//! pass was in the records and manifests on this host, and whether a piece was delivered in the vault. Secret keys are
//! not needed for any of it. It is found out in this order, and nothing is packed or sent before it is done:
//!
//! 1. Passes and pieces that the catalog does not know get their rows from the records (`kept`), so that no seq is ever
//!    given twice.
//! 2. Pieces on the shelves move on from there as at every start (`recovery`). Those that stand on no shelf, and of
//!    which a manifest is kept, are looked for in the vault (`absent`).
//! 3. A pass whose index is in the vault, of the very pieces that the catalog knows now, has ended.
//! 4. What the vault lists of passes that are open and is known to nobody is a disagreement (`listing`): then the run
//!    ends, and says so.
//!
//! All of it may be repeated; a crash leaves the catalog behind, and the next start begins again.

mod absent;
mod listing;

use super::{
    context::{Context, Failure},
    delivery,
    described::{Described, described},
    greeting, kept, labels,
    naming::Naming,
    records::{local_manifest, read_manifest},
};
use crate::{
    archive::manifest::Head,
    catalog::{PassRow, PieceRow, PieceState},
    name::{Encryption, PassId, PieceName, SourceName},
    notice::Notice,
    vault::Key,
};
use kept::{PassRecord, disagreement};
use std::collections::{BTreeMap, BTreeSet};

/// Brings the catalog up to what happened. `shelved`: ids of the pieces on the shelves.
pub fn reconcile(ctx: &Context, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    finish_retirements(ctx)?;
    let unknown = unknown(ctx, shelved)?;
    let pieces: usize = unknown.values().map(BTreeSet::len).sum();
    if ctx.catalog.behind()?.is_none() && !unknown.is_empty() {
        let what = format!(
            "The catalog is older than the records beside it, which tell of {pieces} pieces in {} passes that it does \
             not know",
            unknown.len()
        );
        // Kept, because what is told by the records is known in a moment, and the vault is not yet asked then.
        ctx.catalog.set_behind(&what)?;
    }
    let Some(why) = ctx.catalog.behind()? else { return absent::settle_all(ctx, shelved) };
    ctx.tell(Notice::CatalogBehind { why });
    for ((source, pass), seqs) in open_passes(ctx, unknown)? {
        catch_up(ctx, &source, pass, &seqs, shelved)?;
    }
    absent::settle_all(ctx, shelved)?;
    greeting::greet(ctx)?;
    listing::check(ctx, shelved)?;
    ctx.catalog.caught_up()?;
    ctx.tell(Notice::CatalogCaughtUp { pieces: pieces as u64 });
    // The next damage goes back to here. What fails now is done at the end of the day.
    let _ = ctx.catalog.backup_to(&ctx.catalog.copy_file());
    Ok(())
}

/// A retirement that was on record when a crash came, and not yet in the catalog.
fn finish_retirements(ctx: &Context) -> Result<(), Failure> {
    for row in ctx.catalog.undelivered()? {
        let record = kept::piece(&ctx.options.state, row.name())?;
        if let Some(why) = record.and_then(|record| record.retired) {
            ctx.catalog.set_retired(row.name(), &why)?;
        }
    }
    Ok(())
}

type Unknown = BTreeMap<(SourceName, PassId), BTreeSet<u32>>;

/// Passes on record that the catalog does not know, and those of which it does not know every piece. Unless it is behind,
/// one on a shelf that has no row yet is what a crash leaves, and is adopted from there.
fn unknown(ctx: &Context, shelved: &BTreeSet<String>) -> Result<Unknown, Failure> {
    let is_behind = ctx.catalog.behind()?.is_some();
    let mut unknown = Unknown::new();
    for (source, pass) in kept::passes(&ctx.options.state)? {
        let row = ctx.catalog.pass(&source, pass)?;
        if row.as_ref().is_some_and(|row| row.ended.is_some()) {
            continue;
        }
        let known: BTreeSet<u32> = ctx.catalog.pieces(&source, pass)?.iter().map(|row| row.name().seq).collect();
        let is_new = |seq: &u32| {
            let name = PieceName { source: source.clone(), pass, seq: *seq, label: None };
            !known.contains(seq) && (is_behind || row.is_none() || !shelved.contains(&name.id()))
        };
        let new: BTreeSet<u32> =
            kept::kept(&ctx.options.state, &source, pass)?.into_iter().filter(|seq| is_new(seq)).collect();
        if row.is_none() || !new.is_empty() {
            unknown.insert((source, pass), new);
        }
    }
    Ok(unknown)
}

/// All passes that are to be looked at, in order of time: those with something unknown, and those that the catalog
/// says are open.
fn open_passes(ctx: &Context, mut unknown: Unknown) -> Result<Unknown, Failure> {
    for row in ctx.catalog.passes(None)?.into_iter().filter(|row| row.ended.is_none()) {
        unknown.entry((row.source, row.pass)).or_default();
    }
    Ok(unknown)
}

fn catch_up(
    ctx: &Context,
    source: &SourceName,
    pass: PassId,
    seqs: &BTreeSet<u32>,
    shelved: &BTreeSet<String>,
) -> Result<(), Failure> {
    let record = begin(ctx, source, pass)?;
    // A seq is higher than that of the piece whose range it packs again, which so is known and retired before.
    for seq in seqs {
        add(ctx, &PieceName { source: source.clone(), pass, seq: *seq, label: None }, shelved)?;
    }
    finish_retirements(ctx)?;
    absent::settle(ctx, source, pass, shelved)?;
    let walked = ctx.catalog.totals(source, pass)?.walked;
    let row = ctx.catalog.pass(source, pass)?;
    if let Some(seen) = record.and_then(|record| record.seen)
        && seen == walked
        && row.is_some_and(|row| row.seen.is_none())
    {
        ctx.catalog.walk_ended(source, pass, seen)?;
    }
    end_if_indexed(ctx, source, pass)
}

/// Makes the catalog know the pass, and by which names it stands in the vault.
fn begin(ctx: &Context, source: &SourceName, pass: PassId) -> Result<Option<PassRecord>, Failure> {
    let record = match kept::pass(&ctx.options.state, source, pass)? {
        Some(record) => Some(record),
        None => record_from_manifest(ctx, source, pass)?,
    };
    if ctx.catalog.pass(source, pass)?.is_some() {
        return Ok(record);
    }
    let id = || format!("the pass {pass} of {source}");
    let Some(record) = record else {
        return Err(disagreement(&format!("The catalog does not know {}, and its records are damaged", id())));
    };
    if let Some(open) = ctx.catalog.open_pass(source)? {
        let what = format!("{} was begun when {} had ended, but the vault does not hold its index", id(), open.pass);
        return Err(disagreement(&what));
    }
    if Naming::recall(ctx, source, &record.prefix)?.prefix(pass) != record.prefix {
        let what = format!("{} lies below {} in the vault, and not where the configuration says", id(), record.prefix);
        return Err(disagreement(&what));
    }
    ctx.catalog.begin_pass(&kept::new_pass(source, pass, &record))?;
    Ok(Some(record))
}

/// Of a pass that was begun before passes were put on record.
fn record_from_manifest(ctx: &Context, source: &SourceName, pass: PassId) -> Result<Option<PassRecord>, Failure> {
    let seqs = kept::kept(&ctx.options.state, source, pass)?.into_iter();
    let names = seqs.map(|seq| PieceName { source: source.clone(), pass, seq, label: None });
    let Some(name) = names.into_iter().find(|name| kept::has_manifest(&ctx.options.state, name)) else {
        return Ok(None);
    };
    let reader = read_manifest(&local_manifest(&ctx.options.state, &name))?;
    let Head { host, source_id, filter_sha256, key, .. } = reader.head().clone();
    let prefix = key.rsplit_once('/').map_or_else(String::new, |(dir, _)| format!("{dir}/"));
    Ok(Some(PassRecord { host, source_id, filter_sha256, prefix, seen: None }))
}

/// Makes the row of a piece again.
fn add(ctx: &Context, name: &PieceName, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    let state = &ctx.options.state;
    match kept::piece(state, name)? {
        Some(record) => {
            kept::add_row(ctx, &record.row, &record.exceptions)?;
            if let Some(why) = &record.retired {
                ctx.catalog.set_retired(&record.row.name, why)?;
            }
            Ok(())
        }
        // It is adopted from there.
        None if shelved.contains(&name.id()) => Ok(()),
        None if kept::has_manifest(state, name) => add_from_manifest(ctx, name),
        None => {
            let what = format!("The record of the piece {name} is damaged, and it has no manifest here");
            Err(disagreement(&what))
        }
    }
}

/// Of a piece whose record is damaged, or that was packed before pieces were put on record.
fn add_from_manifest(ctx: &Context, name: &PieceName) -> Result<(), Failure> {
    let path = local_manifest(&ctx.options.state, name);
    let Described { row, exceptions, .. } = described(&path, (ctx.clock)())?;
    if row.segment.is_some_and(|segment| segment.index < segment.count) {
        let what = format!("The record of {name} is damaged, and the next segment of its file cannot go on without it");
        return Err(disagreement(&what));
    }
    if row.name.id() != name.id() {
        return Err(disagreement(&format!("The manifest {path:?} is of another piece")));
    }
    kept::add_piece(ctx, &row, &exceptions)
}

/// Ends a pass whose index is in the vault. The index says of which pieces it is; one of others is left to the end of
/// the pass, which refuses it.
fn end_if_indexed(ctx: &Context, source: &SourceName, pass: PassId) -> Result<(), Failure> {
    let pieces = ctx.catalog.pieces(source, pass)?;
    let under_way = |row: &PieceRow| !matches!(row.state, PieceState::Delivered | PieceState::Retired);
    let lost = ctx.catalog.to_repack()?.iter().any(|row| row.name().source == *source && row.name().pass == pass);
    let Some(PassRow { ended: None, seen, .. }) = ctx.catalog.pass(source, pass)? else { return Ok(()) };
    if pieces.is_empty() || pieces.iter().any(under_way) {
        return Ok(());
    }
    let delivered: Vec<PieceRow> = pieces.into_iter().filter(|row| row.state == PieceState::Delivered).collect();
    let all = labels::all_of(&delivered);
    let prefix = Naming::of(ctx, source, pass)?.prefix(pass);
    for encryption in [Encryption::OpenPgp, Encryption::None] {
        let key: Key = format!("{prefix}index.json.zst{}", encryption.suffix()).parse()?;
        let receipt = ctx.ask(ctx.options.upload.retries.ask(|| ctx.vault.head(&key)))?;
        let of_pieces = receipt.and_then(|receipt| receipt.metadata.get(labels::PIECES).cloned());
        if of_pieces.as_ref() != Some(&all) {
            continue;
        }
        if seen.is_none() {
            ctx.catalog.walk_ended(source, pass, ctx.catalog.totals(source, pass)?.walked)?;
        }
        if lost {
            mark_replaced(ctx, source, pass)?;
        }
        delivery::abort_uploads(ctx, &prefix)?;
        return Ok(ctx.catalog.end_pass(source, pass, (ctx.clock)())?);
    }
    Ok(())
}

/// The pass has ended, so what it retired was packed again.
fn mark_replaced(ctx: &Context, source: &SourceName, pass: PassId) -> Result<(), Failure> {
    for row in ctx.catalog.to_repack()? {
        if row.name().source == *source && row.name().pass == pass {
            ctx.catalog.set_replaced(row.name())?;
        }
    }
    Ok(())
}
