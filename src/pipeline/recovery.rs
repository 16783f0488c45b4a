//! At every start: the catalog is brought up to what stands on the shelves, and the stages get their backlog.
//!
//! The shelves are the truth about pieces under way. A piece without a row is adopted from its record; a row
//! that is behind is moved on; a row whose piece is nowhere is given up, and its range is packed again.

use super::{
    context::{Context, Failure},
    drafts, ending, kept,
    middle::list_len,
    packing::ROW_RECORD,
    reconcile,
    records::{CompressedRecord, SealedRecord},
    retry::{Outcome, Patience},
};
use crate::{
    archive::list::MemberList,
    catalog::{PackedRow, PieceState},
    fate::{Fate, Stopped, Trouble},
    name::PieceName,
    notice::Notice,
    staging::{Backlog, Compressed, Encrypted, Packed, Piece, RecordError, Reservation, Shelf, read_record},
};
use std::collections::BTreeSet;

/// What every stage begins with.
pub struct Recovered {
    pub packed: Vec<Piece<Packed>>,
    pub compressed: Vec<Piece<Compressed>>,
    pub encrypted: Vec<Piece<Encrypted>>,
}

pub fn recover(ctx: &Context, backlog: Backlog) -> Result<Recovered, Failure> {
    let Backlog { packed, compressed, encrypted, pass_objects, .. } = backlog;
    catch_up(ctx, &shelved(&packed, &compressed, &encrypted))?;
    let packed = adopt(ctx, packed)?;
    let compressed = move_on(ctx, adopt(ctx, compressed)?, move_on_compressed)?;
    let encrypted = move_on(ctx, adopt(ctx, encrypted)?, move_on_sealed)?;
    let mut here: BTreeSet<String> = BTreeSet::new();
    for piece in &packed {
        hold(ctx, &mut here, piece, Reservation::standing(piece.len(), list_len(ctx, piece.name())));
    }
    for piece in &compressed {
        hold(ctx, &mut here, piece, Reservation::standing(piece.len(), list_len(ctx, piece.name())));
    }
    for piece in &encrypted {
        let manifest = piece.len() / 100 + list_len(ctx, piece.name());
        hold(ctx, &mut here, piece, Reservation::sealed(piece.len(), manifest, list_len(ctx, piece.name())));
    }
    for row in ctx.catalog.undelivered()? {
        if !here.contains(&row.name().id()) {
            give_up(ctx, row.name(), "It stands on no shelf")?;
        }
    }
    ending::recover(ctx, &pass_objects)?;
    drafts::recover(ctx, &here)?;
    Ok(Recovered { packed, compressed, encrypted })
}

/// Ids of all pieces on the shelves.
fn shelved(
    packed: &[Piece<Packed>],
    compressed: &[Piece<Compressed>],
    sealed: &[Piece<Encrypted>],
) -> BTreeSet<String> {
    let packed = packed.iter().map(Piece::name);
    let compressed = compressed.iter().map(Piece::name);
    packed.chain(compressed).chain(sealed.iter().map(Piece::name)).map(PieceName::id).collect()
}

/// A vault that does not answer is waited for: without it nobody knows what was delivered.
fn catch_up(ctx: &Context, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    let mut patience = Patience::default();
    loop {
        match reconcile::reconcile(&ctx.renewed(), shelved) {
            Ok(()) => {
                patience.succeeded(ctx);
                return Ok(());
            }
            Err(failure) if failure.trouble != Trouble::Vault && failure.fate != Fate::Retry => return Err(failure),
            Err(failure) => match patience.failed(ctx, &failure) {
                Outcome::Done(()) => {}
                Outcome::Stopped | Outcome::Rotten(_) => return Err(Stopped.into()),
            },
        }
    }
}

fn hold<S: Shelf>(ctx: &Context, here: &mut BTreeSet<String>, piece: &Piece<S>, need: Reservation) {
    here.insert(piece.name().id());
    ctx.staging.budget().adopt(&piece.name().id(), need);
}

/// The range of this piece is packed again.
fn give_up(ctx: &Context, name: &PieceName, why: &str) -> Result<(), Failure> {
    ctx.tell(Notice::PieceRotten { piece: name.clone(), why: why.to_owned() });
    kept::retire(ctx, name, why)?;
    Ok(ctx.staging.forget(name)?)
}

/// Brings rows up to the shelf on which their pieces stand. A row that cannot be brought up, because a record is
/// damaged, would stop its piece at the end of its way; one that is up to date needs no record here, and a stage
/// that does finds the damage itself.
fn move_on<S: Shelf>(
    ctx: &Context,
    pieces: Vec<Piece<S>>,
    of: impl Fn(&Context, &Piece<S>, PieceState) -> Result<(), Failure>,
) -> Result<Vec<Piece<S>>, Failure> {
    let mut kept = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let name = piece.name();
        let Some(row) = ctx.catalog.piece(&name.source, name.pass, name.seq)? else { continue };
        match of(ctx, &piece, row.state) {
            Err(failure) if failure.fate == Fate::Rotten => give_up(ctx, row.name(), &failure.chain())?,
            Err(failure) => return Err(failure),
            Ok(()) => kept.push(piece),
        }
    }
    Ok(kept)
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
            kept::add_piece(ctx, &row, &packed.range.exceptions)?;
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

fn move_on_compressed(ctx: &Context, piece: &Piece<Compressed>, state: PieceState) -> Result<(), Failure> {
    if state >= PieceState::Compressed {
        return Ok(());
    }
    let record: CompressedRecord = read_record(&ctx.staging.list_file(piece.name(), Compressed::RECORD))?;
    Ok(ctx.catalog.set_compressed(piece.name(), &record.row())?)
}

fn move_on_sealed(ctx: &Context, piece: &Piece<Encrypted>, state: PieceState) -> Result<(), Failure> {
    let name = piece.name();
    if state >= PieceState::Sealed {
        return Ok(());
    }
    if state == PieceState::Packed {
        let compressed = read_record::<CompressedRecord>(&ctx.staging.list_file(name, Compressed::RECORD))?;
        ctx.catalog.set_compressed(name, &compressed.row())?;
    }
    let record: SealedRecord = read_record(&ctx.staging.list_file(name, Encrypted::RECORD))?;
    let (packed, _) = MemberList::open(&ctx.staging.list_file(name, Packed::RECORD))?;
    let archived = packed.range.counts.clean + packed.range.counts.changed;
    Ok(ctx.catalog.set_sealed(name, &record.row(archived))?)
}
