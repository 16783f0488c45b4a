//! What a pass in the vault is made of, by the best that tells it.

use super::{
    Finding, FoundPass, Objects,
    listing::seq_of,
    open_pass::{leave_open, order},
    row::{self, Place},
};
use crate::{
    archive::index::{Index, IndexPiece},
    catalog::{Adopted, PackedRow, PassRow, SegmentRow},
    compress, durable,
    fate::Chain,
    name::{Compression, PieceName, SourceName},
    pipeline::{described, local_manifest, name_in},
    restore::{BringError, Manifests, RestoreError, patiently},
    vault::{Key, checksum::crc64},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, fmt, path::Path};

/// What told what a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Derived {
    Manifest,
    Index,
    /// Of the object.
    Metadata,
    /// It must be opened to know.
    Nothing,
}

impl Derived {
    pub fn as_str(self) -> &'static str {
        match self {
            Derived::Manifest => "manifest",
            Derived::Index => "index",
            Derived::Metadata => "metadata",
            Derived::Nothing => "nothing",
        }
    }
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Derived::Manifest => "its manifest",
            Derived::Index => "the index",
            Derived::Metadata => "the metadata of the object",
            Derived::Nothing => "nothing but itself",
        })
    }
}

/// No pass has more pieces than this: a name that says so is nothing of ours.
const SEQ_MAX: u32 = 100_000_000;

/// How much is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What bringing back needs: a manifest is read only where no index tells of its piece.
    Ranges,
    /// Every manifest.
    All,
}

/// What the vault tells of a pass.
pub struct Told {
    pub row: PassRow,
    pub last_seq: u32,
    pub pieces: Vec<Adopted>,
    pub derived: BTreeMap<Derived, u64>,
    pub findings: Vec<Finding>,
}

/// What a manifest says of its whole pass.
struct Origin {
    host: String,
    filter_sha256: String,
}

pub struct Reading<'a> {
    pub manifests: &'a Manifests<'a>,
    /// Where manifests stay.
    pub state: &'a Path,
    pub depth: Depth,
    pub now: Timestamp,
}

impl Reading<'_> {
    /// Reads what there is of a pass. `is_newest`: no later one of this source is there, so it may go on.
    pub fn pass(&self, found: &FoundPass, is_newest: bool) -> Result<Told, BringError> {
        let mut findings = Vec::new();
        let index = self.index(found, &mut findings)?;
        let mut by_seq: BTreeMap<u32, IndexPiece> = BTreeMap::new();
        for piece in index.iter().flat_map(|index| &index.pieces) {
            if let Some(seq) = piece.key.as_str().rsplit('/').next().and_then(seq_of) {
                by_seq.insert(seq, piece.clone());
            }
        }
        let mut source = index.as_ref().map(|index| index.source.clone());
        let mut told = Told {
            row: row_of(found, index.as_ref(), self.now, is_newest),
            last_seq: index.iter().flat_map(|index| index.retired.iter().copied()).max().unwrap_or(0),
            pieces: Vec::new(),
            derived: BTreeMap::new(),
            findings,
        };
        let mut objects = found.pieces.clone();
        for seq in by_seq.keys() {
            objects.entry(*seq).or_default();
        }
        for (seq, objects) in &objects {
            if *seq > SEQ_MAX {
                let strangers = [&objects.piece, &objects.manifest].into_iter().flatten();
                told.findings.extend(strangers.map(|listed| Finding::Stranger { key: listed.key.clone() }));
                continue;
            }
            if let Some((piece, origin)) = self.piece(found, objects, by_seq.get(seq), source.as_ref(), &mut told)? {
                source.get_or_insert_with(|| piece.row.name().source.clone());
                if let Some(origin) = origin {
                    (told.row.host, told.row.filter_sha256) = (origin.host, origin.filter_sha256);
                }
                told.last_seq = told.last_seq.max(*seq);
                told.pieces.push(piece);
            }
        }
        join_segments(&mut told.pieces);
        // Of opaque names only what is inside tells what they stand for; all of a pass has one source.
        if let Some(source) = source {
            for piece in &mut told.pieces {
                piece.row.packed.name.source = source.clone();
            }
            told.row.source = source;
        }
        if told.row.ended.is_none() {
            leave_open(&mut told, self.state);
        }
        told.pieces.sort_by_key(|piece| order(&piece.row));
        told.row.seen = told
            .row
            .seen
            .or_else(|| told.row.ended.map(|_| told.pieces.iter().map(|piece| piece.row.packed.seen).sum()));
        Ok(told)
    }

    fn index(&self, found: &FoundPass, findings: &mut Vec<Finding>) -> Result<Option<Index>, BringError> {
        let mut no = |why: String| findings.push(Finding::NoIndex { prefix: found.prefix(), why });
        let Some(listed) = &found.index else {
            no("there is none".to_owned());
            return Ok(None);
        };
        let read = |bytes: Vec<u8>| -> Result<Index, Box<dyn std::error::Error + Send + Sync>> {
            Ok(Index::read(compress::reader(Compression::Zstd, std::io::Cursor::new(bytes))?)?)
        };
        match self.manifests.open(&listed.key) {
            Ok(bytes) => match read(bytes) {
                Ok(index) => match of_another(&index, found) {
                    None => return Ok(Some(index)),
                    Some(why) => no(why),
                },
                Err(err) => no(Chain(err.as_ref()).to_string()),
            },
            Err(err) if err.is_of_object() => no(Chain(&err).to_string()),
            Err(err) => return Err(err),
        }
        Ok(None)
    }

    /// The row of a piece; and where it comes from, if its manifest was read.
    fn piece(
        &self,
        found: &FoundPass,
        objects: &Objects,
        indexed: Option<&IndexPiece>,
        source: Option<&SourceName>,
        told: &mut Told,
    ) -> Result<Option<(Adopted, Option<Origin>)>, BringError> {
        let key = match (&objects.piece, indexed) {
            (Some(listed), _) => listed.key.clone(),
            (None, Some(piece)) => piece.key.clone(),
            // Its manifest went first; the piece may still be on its way.
            (None, None) => return Ok(None),
        };
        if objects.piece.is_none() {
            told.findings.push(Finding::NoPiece { key: key.clone() });
        }
        let source = source.cloned().unwrap_or_else(|| source_of(found));
        let by_key = row::manifest_key(&key).zip(name_in(key.as_str(), &source, found.pass));
        let Some((manifest_key, name)) = by_key else {
            told.findings.push(Finding::Stranger { key });
            return Ok(None);
        };
        let manifest = objects.manifest.as_ref();
        let manifest_crc64 = match manifest.filter(|_| self.depth == Depth::All) {
            Some(listed) => self.checksum(&listed.key)?,
            None => 0,
        };
        let place = Place { key: &key, manifest_key, manifest, manifest_crc64, at: found.pass.started() };
        let mut why = "there is none".to_owned();
        if objects.manifest.is_some() && (self.depth == Depth::All || indexed.is_none()) {
            match self.by_manifest(&name, &place) {
                Ok((piece, origin)) => {
                    *told.derived.entry(Derived::Manifest).or_default() += 1;
                    return Ok(Some((piece, Some(origin))));
                }
                Err(err) if err.is_of_object() => why = Chain(&err).to_string(),
                Err(err) => return Err(err),
            }
        }
        let (piece, by) = match indexed.and_then(|piece| row::of_index(name.clone(), piece, &place)) {
            Some(piece) => (piece, Derived::Index),
            None => {
                let vault = &self.manifests.vault;
                let receipt = self.manifests.runtime.block_on(patiently(|| vault.head(&key)))?;
                let Some(receipt) = receipt else { return Ok(None) };
                row::of_receipt(name, &receipt, &place)
            }
        };
        *told.derived.entry(by).or_default() += 1;
        if self.depth == Depth::All || objects.manifest.is_none() || by > Derived::Index {
            told.findings.push(Finding::NoManifest { key: key.clone(), why, by });
        }
        Ok(Some((piece, None)))
    }

    /// As the vault says, or of the bytes where it does not say; 0 where it is gone.
    fn checksum(&self, key: &Key) -> Result<u64, BringError> {
        let Manifests { vault, runtime, .. } = self.manifests;
        let Some(receipt) = runtime.block_on(patiently(|| vault.head(key)))? else { return Ok(0) };
        let crc64 = match receipt.crc64 {
            Some(crc64) => crc64,
            None => crc64(&runtime.block_on(patiently(|| vault.get_range(key, 0, receipt.size)))?),
        };
        Ok(crc64.0)
    }

    fn by_manifest(&self, name: &PieceName, place: &Place<'_>) -> Result<(Adopted, Origin), BringError> {
        let read = |local: &Path| {
            let damaged = |failure: crate::pipeline::Failure| RestoreError::Damaged {
                path: local.to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, failure.error),
            };
            described(local, place.at).map_err(damaged)
        };
        let mut local = local_manifest(self.state, name);
        let told = match read(&local) {
            Ok(told) if told.head.key == place.key.as_str() => told,
            _ => {
                let bytes = self.manifests.open(&place.manifest_key)?;
                let fetched = self.manifests.keep(&place.manifest_key, &bytes)?;
                let told = read(&fetched)?;
                if told.head.key != place.key.as_str() {
                    let other = std::io::Error::other(format!("it is the manifest of {}", told.head.key));
                    return Err(RestoreError::Damaged { path: fetched, source: other }.into());
                }
                if self.depth == Depth::All {
                    durable::create_dir(local.parent().expect("a manifest lies in a directory"))?;
                    durable::write(&local, &bytes)?;
                    durable::remove(&fetched)?;
                } else {
                    local = fetched;
                }
                told
            }
        };
        let origin = Origin { host: told.head.host.clone(), filter_sha256: told.head.filter_sha256.clone() };
        // Opaque names: what is inside says the name of the source, and where manifests of it stay.
        let proper = local_manifest(self.state, &told.row.name);
        if self.depth == Depth::All && proper != local {
            durable::create_dir(proper.parent().expect("a manifest lies in a directory"))?;
            durable::rename(&local, &proper)?;
        }
        Ok((row::of_manifest(told, place), origin))
    }
}

/// Pieces of one file beside one that is known to be a segment of it are segments, too, in the order of their numbers.
fn join_segments(pieces: &mut [Adopted]) {
    let mut counts: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for row in pieces.iter().map(|piece| &piece.row.packed) {
        if let Some(segment) = row.segment {
            counts.insert(row.first.order_key(), segment.count);
        }
    }
    for (file, count) in counts {
        let is_of = |row: &PackedRow| row.first.order_key() == file && row.first == row.last;
        let mut of_file: Vec<&mut PackedRow> =
            pieces.iter_mut().map(|piece| &mut piece.row.packed).filter(|row| is_of(row)).collect();
        if of_file.len() as u32 != count {
            continue;
        }
        of_file.sort_by_key(|row| row.name.seq);
        for (row, index) in of_file.into_iter().zip(1..) {
            row.segment.get_or_insert(SegmentRow { index, count, offset: 0, len: 0, file_size: 0 });
        }
    }
}

/// Why an index is not that of the pass beside which it lies.
fn of_another(index: &Index, found: &FoundPass) -> Option<String> {
    let prefix = found.prefix();
    let strays = |key: &Key| !key.as_str().starts_with(&prefix);
    if (index.pass, &index.source_id) != (found.pass, &found.source_id) {
        return Some(format!("it is that of the pass {} of {}", index.pass, index.source));
    }
    let stray = index.pieces.iter().find(|piece| strays(&piece.key) || strays(&piece.manifest_key));
    stray.map(|piece| format!("it names {}, which lies elsewhere", piece.key))
}

fn source_of(found: &FoundPass) -> SourceName {
    found.source_id.parse().unwrap_or_else(|_| "unknown".parse().expect("a plain word names a source"))
}

fn row_of(found: &FoundPass, index: Option<&Index>, now: Timestamp, is_newest: bool) -> PassRow {
    PassRow {
        source: source_of(found),
        pass: found.pass,
        host: index.map_or_else(|| found.host_id.clone(), |index| index.host.clone()),
        source_id: found.source_id.clone(),
        filter_sha256: String::new(),
        seen: index.map(|index| index.counts.seen),
        // When it did nobody has written down.
        ended: (index.is_some() || !is_newest).then_some(now),
    }
}
