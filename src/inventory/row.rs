//! Rows of pieces, made of what is known of them.

use super::pass::Derived;
use crate::{
    archive::index::IndexPiece,
    catalog::{Adopted, Compressed, Delivered, PackedRow, PieceRow, PieceState, Sealed, SegmentRow},
    name::PieceName,
    path::SourcePath,
    pipeline::{Described, path_of},
    vault::{Crc64, Key, Listed, Receipt, SHA256_LABEL},
};
use jiff::Timestamp;

/// Where a piece and its manifest lie, or would.
pub struct Place<'a> {
    pub key: &'a Key,
    pub manifest_key: Key,
    pub manifest: Option<&'a Listed>,
    /// CRC64NVME of the sealed manifest, where that was asked for.
    pub manifest_crc64: u64,
    pub at: Timestamp,
}

/// The key of the manifest beside a piece.
pub fn manifest_key(key: &Key) -> Option<Key> {
    let text = key.as_str();
    let stem = &text[..text.rfind(".tar")?];
    let end = if text.ends_with(".gpg") { ".gpg" } else { "" };
    format!("{stem}.manifest.jsonl.zst{end}").parse().ok()
}

pub fn of_manifest(described: Described, place: &Place<'_>) -> Adopted {
    let Described { head, row, exceptions } = described;
    let crc64 = Crc64::from_base64(&head.sealed_crc64nvme).map_or(0, |crc| crc.0);
    let sealed = (head.sealed_size, head.sealed_sha256, crc64);
    let compressed = Compressed { size: head.compressed_size, sha256: head.compressed_sha256 };
    let exceptions = exceptions.iter().filter_map(crate::archive::manifest::ExceptionLine::exception).collect();
    adopted(row, Some(compressed), sealed, exceptions, place)
}

pub fn of_index(name: PieceName, piece: &IndexPiece, place: &Place<'_>) -> Option<Adopted> {
    let (first, last) = piece.ends()?;
    let segment = piece.segment.map(|[index, count]| SegmentRow { index, count, offset: 0, len: 0, file_size: 0 });
    let row = PackedRow {
        members: piece.members,
        tar_size: piece.tar_size,
        tar_sha256: piece.tar_sha256.clone(),
        segment,
        ..bare(name, first, last, place.at)
    };
    Some(adopted(row, None, (piece.sealed_size, piece.sealed_sha256.clone(), 0), Vec::new(), place))
}

/// Of what the object says of itself. A range that it does not say, or not all of, is everything.
pub fn of_receipt(name: PieceName, receipt: &Receipt, place: &Place<'_>) -> (Adopted, Derived) {
    let label = |label: &str| receipt.metadata.get(label).and_then(|text| path_of(text));
    let (range, derived) = match (label("first"), label("last")) {
        (Some((first, true)), Some((last, true))) if first <= last => ((first, last), Derived::Metadata),
        _ => ((SourcePath::root(), last_of_all()), Derived::Nothing),
    };
    let sha256 = receipt.metadata.get(SHA256_LABEL).cloned().unwrap_or_default();
    let sealed = (receipt.size, sha256, receipt.crc64.map_or(0, |crc| crc.0));
    (adopted(bare(name, range.0, range.1, place.at), None, sealed, Vec::new(), place), derived)
}

/// No path comes after this one but what is below it, and no name is longer.
fn last_of_all() -> SourcePath {
    SourcePath::parse(&[0xff; 255]).expect("a name may have 255 bytes")
}

fn bare(name: PieceName, first: SourcePath, last: SourcePath, packed_at: Timestamp) -> PackedRow {
    PackedRow {
        name,
        first,
        position: last.clone(),
        last,
        segment: None,
        segment_state: None,
        members: 0,
        tar_size: 0,
        tar_sha256: String::new(),
        counts: "{}".to_owned(),
        seen: 0,
        archived: 0,
        lost: 0,
        replaces: None,
        packed_at,
    }
}

fn adopted(
    row: PackedRow,
    compressed: Option<Compressed>,
    (size, sha256, crc64): (u64, String, u64),
    exceptions: Vec<crate::notice::Exception>,
    place: &Place<'_>,
) -> Adopted {
    let sealed = Sealed {
        size,
        sha256,
        crc64,
        manifest_size: place.manifest.map_or(0, |listed| listed.size),
        manifest_crc64: place.manifest_crc64,
        archived_read_back: row.archived,
    };
    let delivered =
        Delivered { key: place.key.to_string(), manifest_key: place.manifest_key.to_string(), at: place.at };
    Adopted {
        row: PieceRow {
            packed: row,
            state: PieceState::Delivered,
            compressed,
            sealed: Some(sealed),
            delivered: Some(delivered),
            retired: None,
            replaced_done: false,
        },
        exceptions,
    }
}
