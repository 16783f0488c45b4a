//! Rows, and how they are read from the tables.

use crate::{
    name::{Label, PassId, PieceName, SourceName},
    notice::{Exception, Reason},
    path::SourcePath,
};
use jiff::Timestamp;
use rusqlite::{
    Row,
    types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef},
};
use serde::{Deserialize, Serialize, de::value};
use std::{error::Error, str::FromStr};

type SqlResult<T> = Result<T, rusqlite::Error>;

/// How far a piece has come. It only moves to the next of the first four, or to `Retired` from the first three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PieceState {
    /// A tar on its shelf.
    Packed,
    Compressed,
    /// Encrypted, with its manifest; waits to be uploaded.
    Sealed,
    /// The vault holds it and its manifest, by receipt.
    Delivered,
    /// Every local form was lost before it was delivered; its range is packed again under another seq.
    Retired,
}

impl PieceState {
    const ALL: [PieceState; 5] =
        [PieceState::Packed, PieceState::Compressed, PieceState::Sealed, PieceState::Delivered, PieceState::Retired];

    pub fn as_str(self) -> &'static str {
        match self {
            PieceState::Packed => "packed",
            PieceState::Compressed => "compressed",
            PieceState::Sealed => "sealed",
            PieceState::Delivered => "delivered",
            PieceState::Retired => "retired",
        }
    }

    /// Whether a piece may go from this state to `next`. A form that is made again before the next one stands,
    /// as after a crash, goes from its state to the same.
    pub fn may_become(self, next: PieceState) -> bool {
        use PieceState::{Compressed, Delivered, Packed, Retired, Sealed};
        match next {
            Packed => false,
            Compressed => matches!(self, Packed | Compressed),
            Sealed => matches!(self, Compressed | Sealed),
            Delivered => self == Sealed,
            Retired => matches!(self, Packed | Compressed | Sealed),
        }
    }
}

impl ToSql for PieceState {
    fn to_sql(&self) -> SqlResult<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for PieceState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<PieceState> {
        let text = value.as_str()?;
        PieceState::ALL.into_iter().find(|state| state.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

/// A pass that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPass {
    pub source: SourceName,
    pub pass: PassId,
    pub host: String,
    /// The source's id in keys: its name, or a random id with opaque names.
    pub source_id: String,
    /// Of the rules by which entries are left out.
    pub filter_sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassRow {
    pub source: SourceName,
    pub pass: PassId,
    pub host: String,
    pub source_id: String,
    pub filter_sha256: String,
    /// Entries that the whole walk has seen; `None` while it goes on.
    pub seen: Option<u64>,
    /// When everything was delivered; `None` before.
    pub ended: Option<Timestamp>,
}

impl PassRow {
    pub(super) const COLUMNS: &str = "source, pass, host, source_id, filter_sha256, seen, ended";

    pub(super) fn of(row: &Row<'_>) -> SqlResult<PassRow> {
        Ok(PassRow {
            source: parsed(row, "source")?,
            pass: parsed(row, "pass")?,
            host: row.get("host")?,
            source_id: row.get("source_id")?,
            filter_sha256: row.get("filter_sha256")?,
            seen: row.get("seen")?,
            ended: parsed_if_any(row, "ended")?,
        })
    }
}

/// Which part of a file that is larger than a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// From 1.
    pub index: u32,
    pub count: u32,
    /// Of the segment's first byte in the file.
    pub offset: u64,
    /// Bytes of the segment.
    pub len: u64,
    /// Bytes of the whole file.
    pub file_size: u64,
}

/// A piece as it was packed: what never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedRow {
    pub name: PieceName,
    /// The range: first and last path of the walk that it stands for.
    pub first: SourcePath,
    pub last: SourcePath,
    /// A walk goes on after this path; not before `last`.
    pub position: SourcePath,
    pub segment: Option<SegmentRow>,
    /// What the next segment of the same file needs to know, as the packer wrote it.
    pub segment_state: Option<String>,
    /// Headers in the tar, without those of ancestors.
    pub members: u64,
    pub tar_size: u64,
    pub tar_sha256: String,
    /// What was seen and what became of it, as JSON.
    pub counts: String,
    /// Entries that the walk has seen in this range.
    pub seen: u64,
    /// Entries that the packer has archived.
    pub archived: u64,
    /// Exceptions of severity loss.
    pub lost: u64,
    /// The seq of the retired piece of which this one packs the range, or a part of it, again.
    pub replaces: Option<u32>,
    pub packed_at: Timestamp,
}

/// The compressed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    pub size: u64,
    pub sha256: String,
}

/// The sealed form and its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub size: u64,
    pub sha256: String,
    /// CRC64NVME.
    pub crc64: u64,
    pub manifest_size: u64,
    /// CRC64NVME of the sealed manifest.
    pub manifest_crc64: u64,
    /// Archived entries, counted in the finished manifest.
    pub archived_read_back: u64,
}

/// Where the vault holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub key: String,
    pub manifest_key: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceRow {
    pub packed: PackedRow,
    pub state: PieceState,
    pub compressed: Option<Compressed>,
    pub sealed: Option<Sealed>,
    pub delivered: Option<Delivered>,
    /// Why it was retired.
    pub retired: Option<String>,
    /// Whether pieces that replace this retired one cover its whole range.
    pub replaced_done: bool,
}

impl PieceRow {
    pub fn name(&self) -> &PieceName {
        &self.packed.name
    }

    /// Whether somebody may mean this piece: by its number, its name, or its key in the vault.
    pub fn is_named(&self, text: &str) -> bool {
        let name = self.name();
        let key = self.delivered.as_ref().map(|delivered| delivered.key.as_str());
        text.parse() == Ok(name.seq)
            || text == name.short()
            || text == name.to_string()
            || key.is_some_and(|key| key == text || key.ends_with(&format!("/{text}")))
    }

    pub(super) fn of(row: &Row<'_>) -> SqlResult<PieceRow> {
        Ok(PieceRow {
            packed: packed(row)?,
            state: row.get("state")?,
            compressed: match row.get("compressed_size")? {
                Some(size) => Some(Compressed { size, sha256: row.get("compressed_sha256")? }),
                None => None,
            },
            sealed: match row.get("sealed_size")? {
                Some(size) => Some(Sealed {
                    size,
                    sha256: row.get("sealed_sha256")?,
                    crc64: row.get::<_, i64>("sealed_crc64")?.cast_unsigned(),
                    manifest_size: row.get("manifest_size")?,
                    manifest_crc64: row.get::<_, i64>("manifest_crc64")?.cast_unsigned(),
                    archived_read_back: row.get("archived_read_back")?,
                }),
                None => None,
            },
            delivered: match row.get("key")? {
                Some(key) => {
                    Some(Delivered { key, manifest_key: row.get("manifest_key")?, at: parsed(row, "delivered_at")? })
                }
                None => None,
            },
            retired: row.get("retired_why")?,
            replaced_done: row.get("replaced_done")?,
        })
    }
}

fn packed(row: &Row<'_>) -> SqlResult<PackedRow> {
    Ok(PackedRow {
        name: PieceName {
            source: parsed(row, "source")?,
            pass: parsed(row, "pass")?,
            seq: row.get("seq")?,
            label: parsed_if_any::<Label>(row, "label")?,
        },
        first: path(row, "first")?,
        last: path(row, "last")?,
        position: path(row, "position")?,
        segment: match row.get("segment_index")? {
            Some(index) => Some(SegmentRow {
                index,
                count: row.get("segment_count")?,
                offset: row.get("segment_offset")?,
                len: row.get("segment_len")?,
                file_size: row.get("segment_file_size")?,
            }),
            None => None,
        },
        segment_state: row.get("segment_state")?,
        members: row.get("members")?,
        tar_size: row.get("tar_size")?,
        tar_sha256: row.get("tar_sha256")?,
        counts: row.get("counts")?,
        seen: row.get("seen")?,
        archived: row.get("archived")?,
        lost: row.get("lost")?,
        replaces: row.get("replaces")?,
        packed_at: parsed(row, "packed_at")?,
    })
}

/// `(seq, exception)`.
pub(super) fn exception(row: &Row<'_>) -> SqlResult<(u32, Exception)> {
    let reason: String = row.get("reason")?;
    let reason = Reason::deserialize(value::StrDeserializer::<value::Error>::new(&reason));
    let exception = Exception {
        path: path(row, "path")?,
        reason: reason.map_err(|err| unreadable(row, "reason", Type::Text, err))?,
        errno: row.get("errno")?,
        detail: row.get("detail")?,
    };
    Ok((row.get("seq")?, exception))
}

/// Sums over a pass. Retired pieces count only where it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub pieces: u64,
    pub sealed: u64,
    pub delivered: u64,
    /// Retired pieces, replaced or not.
    pub retired: u64,
    /// Retired pieces whose range is not yet packed again.
    pub to_repack: u64,
    /// Entries that the pass's own walk has seen while it cut: of retired pieces too, and not of those that
    /// packed a range again. When the walk has ended this is [`PassRow::seen`].
    pub walked: u64,
    pub seen: u64,
    /// As the packer counted.
    pub archived: u64,
    /// As counted in the finished manifests, of pieces that are sealed.
    pub archived_read_back: u64,
    /// Exceptions of severity loss.
    pub lost: u64,
    pub members: u64,
    pub tar_bytes: u64,
    pub compressed_bytes: u64,
    pub sealed_bytes: u64,
    pub delivered_bytes: u64,
}

impl Totals {
    pub(super) const SQL: &str = "
        SELECT count(*) FILTER (WHERE state <> 'retired') AS pieces,
            count(*) FILTER (WHERE state IN ('sealed', 'delivered')) AS sealed,
            count(*) FILTER (WHERE state = 'delivered') AS delivered,
            count(*) FILTER (WHERE state = 'retired') AS retired,
            count(*) FILTER (WHERE state = 'retired' AND NOT replaced_done) AS to_repack,
            ifnull(sum(seen) FILTER (WHERE replaces IS NULL), 0) AS walked,
            ifnull(sum(seen) FILTER (WHERE state <> 'retired'), 0) AS seen,
            ifnull(sum(archived) FILTER (WHERE state <> 'retired'), 0) AS archived,
            ifnull(sum(archived_read_back) FILTER (WHERE state <> 'retired'), 0) AS archived_read_back,
            ifnull(sum(lost) FILTER (WHERE state <> 'retired'), 0) AS lost,
            ifnull(sum(members) FILTER (WHERE state <> 'retired'), 0) AS members,
            ifnull(sum(tar_size) FILTER (WHERE state <> 'retired'), 0) AS tar_bytes,
            ifnull(sum(compressed_size) FILTER (WHERE state <> 'retired'), 0) AS compressed_bytes,
            ifnull(sum(sealed_size) FILTER (WHERE state <> 'retired'), 0) AS sealed_bytes,
            ifnull(sum(sealed_size + manifest_size) FILTER (WHERE state = 'delivered'), 0) AS delivered_bytes
        FROM piece WHERE source = ?1 AND pass = ?2";

    pub(super) fn of(row: &Row<'_>) -> SqlResult<Totals> {
        Ok(Totals {
            pieces: row.get("pieces")?,
            sealed: row.get("sealed")?,
            delivered: row.get("delivered")?,
            retired: row.get("retired")?,
            to_repack: row.get("to_repack")?,
            walked: row.get("walked")?,
            seen: row.get("seen")?,
            archived: row.get("archived")?,
            archived_read_back: row.get("archived_read_back")?,
            lost: row.get("lost")?,
            members: row.get("members")?,
            tar_bytes: row.get("tar_bytes")?,
            compressed_bytes: row.get("compressed_bytes")?,
            sealed_bytes: row.get("sealed_bytes")?,
            delivered_bytes: row.get("delivered_bytes")?,
        })
    }
}

fn path(row: &Row<'_>, column: &str) -> SqlResult<SourcePath> {
    let key = row.get_ref(column)?.as_blob()?;
    SourcePath::from_order_key(key).map_err(|err| unreadable(row, column, Type::Blob, err))
}

pub(super) fn parsed<T: FromStr<Err: Error + Send + Sync + 'static>>(row: &Row<'_>, column: &str) -> SqlResult<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|err| unreadable(row, column, Type::Text, err))
}

fn parsed_if_any<T: FromStr<Err: Error + Send + Sync + 'static>>(row: &Row<'_>, column: &str) -> SqlResult<Option<T>> {
    if row.get_ref(column)? == ValueRef::Null { Ok(None) } else { parsed(row, column).map(Some) }
}

fn unreadable(row: &Row<'_>, column: &str, kind: Type, err: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(err))
}
