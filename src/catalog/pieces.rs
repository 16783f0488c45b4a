//! Pieces: recorded when they are packed, moved forward, found by path.

use super::{
    Catalog, Result,
    error::Fail,
    passes,
    row::{self, Compressed, PackedRow, PieceRow, PieceState, Sealed},
};
use crate::{
    name::{PassId, PieceName, SourceName},
    notice::{Exception, Severity},
    path::SourcePath,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Transaction, named_params};

type SqlResult<T> = std::result::Result<T, rusqlite::Error>;

/// Pieces by first path; the segments of one file have the same.
const ORDER: &str = "source, pass, first, ifnull(segment_index, 0), seq";

impl Catalog {
    /// The next number for a piece of this pass: from 1, and never one that any row has or had.
    pub fn next_seq(&self, source: &SourceName, pass: PassId) -> Result<u32> {
        self.write("number a piece in", |tx| {
            passes::must_find(tx, source, pass)?;
            let last: u32 = tx
                .prepare_cached("SELECT last_seq FROM pass WHERE source = ?1 AND pass = ?2")?
                .query_row((source.as_str(), pass.to_string()), |row| row.get(0))?;
            last.checked_add(1).ok_or_else(|| Fail::Refused("it has no more numbers".to_owned()))
        })
    }

    /// Records a piece that stands on the first shelf, with its exceptions. A piece that is recorded already,
    /// by name and digest, is left as it is: it is adopted twice when a crash came between shelf and catalog.
    pub fn add_packed(&self, piece: &PackedRow, exceptions: &[Exception]) -> Result<()> {
        self.write("record a piece in", |tx| {
            let name = &piece.name;
            if let Some(known) = find(tx, &name.source, name.pass, name.seq)? {
                let known = known.packed;
                return if (&known.name, known.tar_size, &known.tar_sha256) == (name, piece.tar_size, &piece.tar_sha256)
                {
                    Ok(())
                } else {
                    Err(Fail::Refused(format!(
                        "seq {} of {name} is that of {}, with another content",
                        name.seq, known.name
                    )))
                };
            }
            may_add(tx, piece)?;
            insert(tx, piece)?;
            insert_exceptions(tx, name, exceptions)?;
            tx.prepare_cached("UPDATE pass SET last_seq = max(last_seq, ?3) WHERE source = ?1 AND pass = ?2")?
                .execute((name.source.as_str(), name.pass.to_string(), name.seq))?;
            Ok(())
        })
    }

    /// Records that the compressed form stands on its shelf. May be called again while it is not yet sealed.
    pub fn set_compressed(&self, name: &PieceName, form: &Compressed) -> Result<()> {
        self.advance(name, PieceState::Compressed, |_| Ok(true), |tx, id| put_compressed(tx, id, form))
    }

    /// Records that the sealed form and its manifest stand on their shelf. May be called again while they are
    /// not delivered.
    pub fn set_sealed(&self, name: &PieceName, form: &Sealed) -> Result<()> {
        self.advance(name, PieceState::Sealed, |_| Ok(true), |tx, id| put_sealed(tx, id, form))
    }

    /// Records that the vault has shown receipts for the piece and its manifest. Again with the same keys is no
    /// error.
    pub fn set_delivered(&self, name: &PieceName, key: &str, manifest_key: &str, at: Timestamp) -> Result<()> {
        let is_news = |row: &PieceRow| match &row.delivered {
            Some(before) if (&*before.key, &*before.manifest_key) == (key, manifest_key) => Ok(false),
            Some(before) => Err(Fail::Refused(format!("{name} is delivered already, as {}", before.key))),
            None => Ok(true),
        };
        self.advance(name, PieceState::Delivered, is_news, |tx, id| put_delivered(tx, id, key, manifest_key, at))
    }

    /// Records that every local form of a piece was lost before it was delivered. Again is no error; the first
    /// reason stays.
    pub fn set_retired(&self, name: &PieceName, why: &str) -> Result<()> {
        let is_news = |row: &PieceRow| Ok(row.state != PieceState::Retired);
        self.advance(name, PieceState::Retired, is_news, |tx, id| {
            tx.prepare_cached("UPDATE piece SET retired_why = ?2 WHERE rowid = ?1")?.execute((id, why))
        })
    }

    /// Records that other pieces cover the whole range of a retired one.
    pub fn set_replaced(&self, name: &PieceName) -> Result<()> {
        self.write("record a piece in", |tx| {
            let (row, id) = must_find(tx, name)?;
            if row.state != PieceState::Retired {
                return Err(Fail::Refused(format!("{name} is {}, not retired", row.state.as_str())));
            }
            tx.prepare_cached("UPDATE piece SET replaced_done = 1 WHERE rowid = ?1")?.execute([id])?;
            Ok(())
        })
    }

    pub fn piece(&self, source: &SourceName, pass: PassId, seq: u32) -> Result<Option<PieceRow>> {
        self.read("read a piece in", |conn| find(conn, source, pass, seq))
    }

    /// All pieces of a pass, retired ones too, in order of first path, then segment.
    pub fn pieces(&self, source: &SourceName, pass: PassId) -> Result<Vec<PieceRow>> {
        self.pieces_where("source = ?1 AND pass = ?2", (source.as_str(), pass.to_string()))
    }

    /// Pieces of all sources that are on their way, by source, pass and first path.
    pub fn undelivered(&self) -> Result<Vec<PieceRow>> {
        self.pieces_where("state IN ('packed', 'compressed', 'sealed')", ())
    }

    /// Retired pieces of all sources whose ranges are not yet covered by others.
    pub fn to_repack(&self) -> Result<Vec<PieceRow>> {
        self.pieces_where("state = 'retired' AND NOT replaced_done", ())
    }

    /// The pieces whose range holds this very path: one, or all segments of a large file. A retired piece holds
    /// nothing.
    pub fn holding(&self, source: &SourceName, pass: PassId, path: &SourcePath) -> Result<Vec<PieceRow>> {
        self.pieces_where(
            "source = ?1 AND pass = ?2 AND first <= ?3 AND last >= ?3 AND state <> 'retired'",
            (source.as_str(), pass.to_string(), path.order_key()),
        )
    }

    /// The pieces whose range holds this path or anything below it.
    pub fn touching(&self, source: &SourceName, pass: PassId, path: &SourcePath) -> Result<Vec<PieceRow>> {
        // What lies below continues the key with a NUL; 1 is the least byte that begins something else.
        // Everything lies below the root, whose key is empty and whose children have no NUL before them.
        let mut end = path.order_key();
        end.push(1);
        self.pieces_where(
            "source = ?1 AND pass = ?2 AND (first < ?4 OR ?3 = x'') AND last >= ?3 AND state <> 'retired'",
            (source.as_str(), pass.to_string(), path.order_key(), end),
        )
    }

    /// The piece after whose position the walk of the pass goes on: the farthest that was cut by the walk itself,
    /// and not when a range was packed again. It may be retired by now; its range is not walked again here.
    pub fn resume_point(&self, source: &SourceName, pass: PassId) -> Result<Option<PieceRow>> {
        self.read("read a piece in", |conn| {
            conn.prepare_cached(
                "SELECT * FROM piece WHERE source = ?1 AND pass = ?2 AND replaces IS NULL
                 ORDER BY position DESC, ifnull(segment_index, 0) DESC, seq DESC LIMIT 1",
            )?
            .query_row((source.as_str(), pass.to_string()), PieceRow::of)
            .optional()
        })
    }

    /// Every exception of a pass with the seq of its piece, in walk order, without those of retired pieces: their
    /// ranges are told of by what replaces them.
    pub fn exceptions(&self, source: &SourceName, pass: PassId) -> Result<Vec<(u32, Exception)>> {
        self.exceptions_of(source, pass, |_| true, usize::MAX)
    }

    /// The first exceptions of a pass that are losses, in walk order.
    pub fn losses(&self, source: &SourceName, pass: PassId, most: usize) -> Result<Vec<Exception>> {
        let losses = self.exceptions_of(source, pass, |exception| exception.severity() == Severity::Loss, most)?;
        Ok(losses.into_iter().map(|(_, exception)| exception).collect())
    }

    fn exceptions_of(
        &self,
        source: &SourceName,
        pass: PassId,
        is_meant: impl Fn(&Exception) -> bool,
        most: usize,
    ) -> Result<Vec<(u32, Exception)>> {
        self.read("read exceptions in", |conn| {
            conn.prepare_cached(
                "SELECT exception.* FROM exception JOIN piece USING (source, pass, seq)
                 WHERE source = ?1 AND pass = ?2 AND state <> 'retired' ORDER BY path, seq, number",
            )?
            .query_map((source.as_str(), pass.to_string()), row::exception)?
            .filter(|row| row.as_ref().map_or(true, |(_, exception)| is_meant(exception)))
            .take(most)
            .collect()
        })
    }

    fn pieces_where(&self, condition: &'static str, params: impl Params) -> Result<Vec<PieceRow>> {
        self.read("read pieces in", |conn| {
            conn.prepare_cached(&format!("SELECT * FROM piece WHERE {condition} ORDER BY {ORDER}"))?
                .query_map(params, PieceRow::of)?
                .collect()
        })
    }

    /// Moves a piece forward to `next`, if that is news.
    fn advance(
        &self,
        name: &PieceName,
        next: PieceState,
        is_news: impl FnOnce(&PieceRow) -> std::result::Result<bool, Fail>,
        set: impl FnOnce(&Transaction<'_>, i64) -> std::result::Result<usize, rusqlite::Error>,
    ) -> Result<()> {
        self.write("record a piece in", |tx| {
            let (row, id) = must_find(tx, name)?;
            if !is_news(&row)? {
                return Ok(());
            }
            if !row.state.may_become(next) {
                let (from, to) = (row.state.as_str(), next.as_str());
                return Err(Fail::Refused(format!("{name} is {from}, and cannot become {to}")));
            }
            set(tx, id)?;
            tx.prepare_cached("UPDATE piece SET state = ?2 WHERE rowid = ?1")?.execute((id, next))?;
            Ok(())
        })
    }
}

fn find(
    conn: &Connection,
    source: &SourceName,
    pass: PassId,
    seq: u32,
) -> std::result::Result<Option<PieceRow>, rusqlite::Error> {
    conn.prepare_cached("SELECT * FROM piece WHERE source = ?1 AND pass = ?2 AND seq = ?3")?
        .query_row((source.as_str(), pass.to_string(), seq), PieceRow::of)
        .optional()
}

/// The piece of exactly this name, and its rowid.
fn must_find(tx: &Transaction<'_>, name: &PieceName) -> std::result::Result<(PieceRow, i64), Fail> {
    tx.prepare_cached("SELECT rowid AS id, * FROM piece WHERE source = ?1 AND pass = ?2 AND seq = ?3")?
        .query_row((name.source.as_str(), name.pass.to_string(), name.seq), |row| {
            Ok((PieceRow::of(row)?, row.get("id")?))
        })
        .optional()?
        .filter(|(row, _)| row.name() == name)
        .ok_or_else(|| Fail::Refused(format!("it knows no piece {name}")))
}

pub(super) fn put_compressed(tx: &Transaction<'_>, id: i64, form: &Compressed) -> SqlResult<usize> {
    tx.prepare_cached("UPDATE piece SET compressed_size = ?2, compressed_sha256 = ?3 WHERE rowid = ?1")?.execute((
        id,
        form.size,
        &form.sha256,
    ))
}

pub(super) fn put_sealed(tx: &Transaction<'_>, id: i64, form: &Sealed) -> SqlResult<usize> {
    tx.prepare_cached(
        "UPDATE piece SET sealed_size = ?2, sealed_sha256 = ?3, sealed_crc64 = ?4, manifest_size = ?5,
        manifest_crc64 = ?6, archived_read_back = ?7 WHERE rowid = ?1",
    )?
    .execute((
        id,
        form.size,
        &form.sha256,
        form.crc64.cast_signed(),
        form.manifest_size,
        form.manifest_crc64.cast_signed(),
        form.archived_read_back,
    ))
}

pub(super) fn put_delivered(
    tx: &Transaction<'_>,
    id: i64,
    key: &str,
    manifest_key: &str,
    at: Timestamp,
) -> SqlResult<usize> {
    tx.prepare_cached("UPDATE piece SET key = ?2, manifest_key = ?3, delivered_at = ?4 WHERE rowid = ?1")?.execute((
        id,
        key,
        manifest_key,
        at.to_string(),
    ))
}

/// Whether a new piece fits to what is recorded.
fn may_add(tx: &Transaction<'_>, piece: &PackedRow) -> std::result::Result<(), Fail> {
    let PackedRow { name, first, last, position, replaces, .. } = piece;
    if !(first <= last && last <= position) || name.seq == 0 {
        return Err(Fail::Refused(format!("{name} goes from {first} to {last}, at {position}")));
    }
    if passes::must_find(tx, &name.source, name.pass)?.ended.is_some() {
        return Err(Fail::Refused(format!("the pass of {name} has ended")));
    }
    if let Some(seq) = replaces {
        let replaced = find(tx, &name.source, name.pass, *seq)?;
        if replaced.is_none_or(|row| row.state != PieceState::Retired) {
            return Err(Fail::Refused(format!("{name} replaces {seq:06}, which is not retired")));
        }
    }
    Ok(())
}

pub(super) fn insert(tx: &Transaction<'_>, piece: &PackedRow) -> std::result::Result<(), rusqlite::Error> {
    let segment = piece.segment.as_ref();
    tx.prepare_cached(
        "INSERT INTO piece (source, pass, seq, label, first, last, position, segment_index, segment_count,
            segment_offset, segment_len, segment_file_size, segment_state, members, tar_size, tar_sha256, counts,
            seen, archived, lost, replaces, packed_at, state)
         VALUES (:source, :pass, :seq, :label, :first, :last, :position, :segment_index, :segment_count,
            :segment_offset, :segment_len, :segment_file_size, :segment_state, :members, :tar_size, :tar_sha256,
            :counts, :seen, :archived, :lost, :replaces, :packed_at, :state)",
    )?
    .execute(named_params! {
        ":source": piece.name.source.as_str(),
        ":pass": piece.name.pass.to_string(),
        ":seq": piece.name.seq,
        ":label": piece.name.label.as_ref().map(crate::name::Label::as_str),
        ":first": piece.first.order_key(),
        ":last": piece.last.order_key(),
        ":position": piece.position.order_key(),
        ":segment_index": segment.map(|segment| segment.index),
        ":segment_count": segment.map(|segment| segment.count),
        ":segment_offset": segment.map(|segment| segment.offset),
        ":segment_len": segment.map(|segment| segment.len),
        ":segment_file_size": segment.map(|segment| segment.file_size),
        ":segment_state": piece.segment_state,
        ":members": piece.members,
        ":tar_size": piece.tar_size,
        ":tar_sha256": piece.tar_sha256,
        ":counts": piece.counts,
        ":seen": piece.seen,
        ":archived": piece.archived,
        ":lost": piece.lost,
        ":replaces": piece.replaces,
        ":packed_at": piece.packed_at.to_string(),
        ":state": PieceState::Packed,
    })?;
    Ok(())
}

pub(super) fn insert_exceptions(
    tx: &Transaction<'_>,
    name: &PieceName,
    exceptions: &[Exception],
) -> std::result::Result<(), rusqlite::Error> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO exception (source, pass, seq, number, path, reason, errno, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let pass = name.pass.to_string();
    for (number, Exception { path, reason, errno, detail }) in exceptions.iter().enumerate() {
        statement.execute((
            name.source.as_str(),
            &pass,
            name.seq,
            number,
            path.order_key(),
            reason.as_str(),
            errno,
            detail,
        ))?;
    }
    Ok(())
}
