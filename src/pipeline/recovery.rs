//! At every start: the catalog is brought up to what stands on the shelves, and the stages get their backlog.
//!
//! The shelves are the truth about pieces under way. A piece without a row is adopted from its record; a row
//! that is behind is moved on; a row whose piece is nowhere is given up, and its range is packed again.

use super::{
    context::{Context, Failure},
    lane::ResumedDraft,
    middle::list_len,
    packing::ROW_RECORD,
    records::{CompressedRecord, SealedRecord},
};
use crate::{
    archive::{list::MemberList, manifest::ExceptionLine, pack::Mark},
    catalog::{PackedRow, PieceState},
    durable,
    name::{PassId, PieceName, SourceName},
    notice::Notice,
    staging::{Backlog, Compressed, Encrypted, Packed, Piece, RecordError, Reservation, Shelf, read_record},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// What every stage begins with.
pub struct Recovered {
    pub packed: Vec<Piece<Packed>>,
    pub compressed: Vec<Piece<Compressed>>,
    pub encrypted: Vec<Piece<Encrypted>>,
}

pub fn recover(ctx: &Context, backlog: Backlog) -> Result<Recovered, Failure> {
    let Backlog { packed, compressed, encrypted, marks, .. } = backlog;
    let packed = adopt(ctx, packed)?;
    let compressed = adopt(ctx, compressed)?;
    let encrypted = adopt(ctx, encrypted)?;
    let mut here: BTreeSet<String> = BTreeSet::new();
    for piece in &packed {
        hold(ctx, &mut here, piece, Reservation::standing(piece.len(), list_len(ctx, piece.name())));
    }
    for piece in &compressed {
        let record = move_on_compressed(ctx, piece);
        ignore_damage(record)?;
        hold(ctx, &mut here, piece, Reservation::standing(piece.len(), list_len(ctx, piece.name())));
    }
    for piece in &encrypted {
        ignore_damage(move_on_sealed(ctx, piece))?;
        let manifest = piece.len() / 100 + list_len(ctx, piece.name());
        hold(ctx, &mut here, piece, Reservation::sealed(piece.len(), manifest, list_len(ctx, piece.name())));
    }
    for row in ctx.catalog.undelivered()? {
        let name = row.name();
        if !here.contains(&name.id()) {
            let why = "It stands on no shelf";
            ctx.tell(Notice::PieceRotten { piece: name.clone(), why: why.to_owned() });
            ctx.catalog.set_retired(name, why)?;
            ctx.staging.forget(name)?;
        }
    }
    hold_drafts(ctx, &marks, &here)?;
    Ok(Recovered { packed, compressed, encrypted })
}

fn hold<S: Shelf>(ctx: &Context, here: &mut BTreeSet<String>, piece: &Piece<S>, need: Reservation) {
    here.insert(piece.name().id());
    ctx.staging.budget().adopt(&piece.name().id(), need);
}

/// A damaged record is found again by the stage that needs it, which then gives the piece up.
fn ignore_damage(moved: Result<(), Failure>) -> Result<(), Failure> {
    match moved {
        Err(failure) if failure.fate == crate::fate::Fate::Rotten => Ok(()),
        moved => moved,
    }
}

/// Makes rows for pieces that have none, and clears away what is delivered or given up already.
fn adopt<S: Shelf>(ctx: &Context, pieces: Vec<Piece<S>>) -> Result<Vec<Piece<S>>, Failure> {
    let mut kept = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let name = piece.name();
        match ctx.catalog.piece(&name.source, name.pass, name.seq)? {
            Some(row) if matches!(row.state, PieceState::Delivered | PieceState::Retired) => {
                ctx.staging.forget(name)?;
                continue;
            }
            Some(_) => {}
            None => {
                if !adopt_row(ctx, &piece)? {
                    continue;
                }
            }
        }
        kept.push(piece);
    }
    Ok(kept)
}

/// A piece that cannot say what it is was never committed as far as anybody knows: it goes, and the walk,
/// which goes on behind the last row, packs its range again.
fn adopt_row<S: Shelf>(ctx: &Context, piece: &Piece<S>) -> Result<bool, Failure> {
    let name = piece.name();
    let row: Result<PackedRow, RecordError> = read_record(&ctx.staging.list_file(name, ROW_RECORD));
    let list = MemberList::open(&ctx.staging.list_file(name, Packed::RECORD));
    match (row, list) {
        (Ok(row), Ok((packed, _))) if ctx.catalog.pass(&name.source, name.pass)?.is_some() => {
            let exceptions: Vec<_> = packed.range.exceptions.iter().filter_map(ExceptionLine::exception).collect();
            ctx.catalog.add_packed(&row, &exceptions)?;
            Ok(true)
        }
        (row, list) => {
            let why = match (row.err(), list.err()) {
                (Some(err), _) => err.to_string(),
                (_, Some(err)) => err.to_string(),
                _ => "The catalog does not know its pass".to_owned(),
            };
            ctx.tell(Notice::PieceRotten { piece: name.clone(), why });
            ctx.staging.forget(name)?;
            Ok(false)
        }
    }
}

fn move_on_compressed(ctx: &Context, piece: &Piece<Compressed>) -> Result<(), Failure> {
    let record: CompressedRecord = read_record(&ctx.staging.list_file(piece.name(), Compressed::RECORD))?;
    Ok(ctx.catalog.set_compressed(piece.name(), &record.row())?)
}

fn move_on_sealed(ctx: &Context, piece: &Piece<Encrypted>) -> Result<(), Failure> {
    let name = piece.name();
    let compressed = read_record::<CompressedRecord>(&ctx.staging.list_file(name, Compressed::RECORD))?;
    let row = ctx.catalog.piece(&name.source, name.pass, name.seq)?;
    if row.is_some_and(|row| row.state == PieceState::Packed) {
        ctx.catalog.set_compressed(name, &compressed.row())?;
    }
    let record: SealedRecord = read_record(&ctx.staging.list_file(name, Encrypted::RECORD))?;
    let (packed, _) = MemberList::open(&ctx.staging.list_file(name, Packed::RECORD))?;
    let archived = packed.range.counts.clean + packed.range.counts.changed;
    Ok(ctx.catalog.set_sealed(name, &record.row(archived))?)
}

/// Gives room to the archiver's drafts that go on, and removes those that cannot. One whose piece stands on a shelf
/// already was committed.
fn hold_drafts(ctx: &Context, marks: &[PathBuf], here: &BTreeSet<String>) -> Result<(), Failure> {
    for path in marks {
        let Some(id) = packed_draft(path) else { continue };
        let list = ctx.staging.tmp_file(&format!("{id}.jsonl"));
        match read_record::<Mark>(path) {
            Ok(mark) if list.exists() && !here.contains(&id) => {
                ctx.staging.budget().adopt(&id, Reservation::planned(mark.tar_len, mark.list_len));
            }
            _ => {
                for file in [path, &ctx.staging.tmp_file(&format!("{id}.tar")), &list] {
                    durable::remove(file)?;
                }
            }
        }
    }
    Ok(())
}

/// The draft with which the archiver goes on in a pass, if there is one.
pub fn draft(ctx: &Context, source: &SourceName, pass: PassId) -> Result<Option<ResumedDraft>, Failure> {
    let seq = ctx.catalog.next_seq(source, pass)?;
    let id = PieceName { source: source.clone(), pass, seq, label: None }.id();
    let list = ctx.staging.tmp_file(&format!("{id}.jsonl"));
    match read_record(&ctx.staging.mark_file(&format!("{id}.tar"))) {
        Ok(mark) if list.exists() && ctx.staging.tmp_file(&format!("{id}.tar")).exists() => {
            Ok(Some(ResumedDraft { seq, mark }))
        }
        _ => Ok(None),
    }
}

/// The id of the piece whose packing this mark is of: its draft has no label yet.
fn packed_draft(mark: &Path) -> Option<String> {
    let name = mark.file_name()?.to_str()?.strip_suffix(".tar.mark")?;
    name.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit()).then(|| name.to_owned())
}
