//! What a pass in the vault is made of, by the best that tells it.

use super::{
    Finding, FoundPass, Objects,
    listing::seq_of,
    row::{self, Place},
};
use crate::{
    archive::index::{Index, IndexPiece},
    catalog::{Adopted, PassRow, PieceState},
    compress, durable,
    fate::Chain,
    name::{Compression, PieceName, SourceName},
    path::SourcePath,
    pipeline::{described, is_kept, local_manifest},
    restore::{BringError, Manifests, RestoreError, patiently},
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
            told.last_seq = told.last_seq.max(*seq);
            if let Some((piece, origin)) = self.piece(found, objects, by_seq.get(seq), source.as_ref(), &mut told)? {
                source.get_or_insert_with(|| piece.row.name().source.clone());
                if let Some(origin) = origin {
                    (told.row.host, told.row.filter_sha256) = (origin.host, origin.filter_sha256);
                }
                told.pieces.push(piece);
            }
        }
        // Of opaque names only what is inside tells what they stand for; all of a pass has one source.
        if let Some(source) = source {
            for piece in &mut told.pieces {
                piece.row.packed.name.source = source.clone();
            }
            told.row.source = source;
        }
        if told.row.ended.is_none() {
            self.leave_open(&mut told);
        }
        let packed = |piece: &Adopted| {
            let row = &piece.row.packed;
            (row.first.order_key(), row.segment.map_or(0, |segment| segment.index), row.name.seq)
        };
        told.pieces.sort_by_key(packed);
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
                Ok(index) => return Ok(Some(index)),
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
        let by_key = row::manifest_key(&key).zip(row::name_of(&key, &source, found.pass));
        let Some((manifest_key, name)) = by_key else {
            told.findings.push(Finding::Stranger { key });
            return Ok(None);
        };
        let place = Place { key: &key, manifest_key, manifest: objects.manifest.as_ref(), at: found.pass.started() };
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
            Ok(told) => told,
            Err(_) => {
                let bytes = self.manifests.open(&place.manifest_key)?;
                if self.depth == Depth::All {
                    durable::create_dir(local.parent().expect("a manifest lies in a directory"))?;
                    durable::write(&local, &bytes)?;
                } else {
                    local = self.manifests.keep(&place.manifest_key, &bytes)?;
                }
                read(&local).inspect_err(|_| drop(durable::remove(&local)))?
            }
        };
        let origin = Origin { host: told.head.host.clone(), filter_sha256: told.head.filter_sha256.clone() };
        if told.head.key != place.key.as_str() {
            let other = std::io::Error::other(format!("it is the manifest of {}", told.head.key));
            return Err(RestoreError::Damaged { path: local, source: other }.into());
        }
        // Opaque names: what is inside says the name of the source, and where manifests of it stay.
        let proper = local_manifest(self.state, &told.row.name);
        if self.depth == Depth::All && proper != local {
            durable::create_dir(proper.parent().expect("a manifest lies in a directory"))?;
            durable::rename(&local, &proper)?;
        }
        Ok((row::of_manifest(told, place), origin))
    }

    /// Makes a pass that has not ended one that a walk can go on with: what is not there is to be packed again.
    fn leave_open(&self, told: &mut Told) {
        told.pieces.sort_by_key(|piece| piece.row.name().seq);
        let farthest = told.pieces.iter().map(|piece| &piece.row.packed.last).max().cloned();
        let mut begun = None;
        for piece in &mut told.pieces {
            if piece.row.packed.segment.is_some() && Some(&piece.row.packed.first) == farthest.as_ref() {
                begun.get_or_insert_with(Vec::new).push(piece);
            }
        }
        let count = |piece: &&mut Adopted| piece.row.packed.segment.map(|segment| segment.count as usize);
        if let Some(pieces) = begun.filter(|pieces| pieces.first().and_then(count) != Some(pieces.len())) {
            for (at, piece) in pieces.into_iter().enumerate() {
                if let Some(delivered) = piece.row.delivered.take().and_then(|delivered| delivered.key.parse().ok()) {
                    told.findings.push(Finding::Segments { key: delivered });
                }
                retire(piece, "The last segments of its file are not in the vault");
                (piece.row.packed.segment, piece.row.replaced_done) = (None, at > 0);
            }
        }
        let present: BTreeMap<u32, Adopted> =
            told.pieces.iter().map(|piece| (piece.row.name().seq, piece.clone())).collect();
        for seq in (1..told.last_seq).filter(|seq| !present.contains_key(seq)) {
            let after = present.range(seq..).next().map(|(_, piece)| piece);
            let (Some(after), name) =
                (after, PieceName { source: told.row.source.clone(), pass: told.row.pass, seq, label: None })
            else {
                continue;
            };
            // The records beside the catalog tell what became of it.
            if is_kept(self.state, &name) {
                continue;
            }
            let first = present.range(..seq).next_back().map(|(_, piece)| piece.row.packed.last.clone());
            let first = first.unwrap_or_else(SourcePath::root);
            let mut gap = after.clone();
            let packed = &mut gap.row.packed;
            if packed.first < first {
                continue;
            }
            (packed.last, packed.position, packed.first) = (packed.first.clone(), packed.first.clone(), first);
            (packed.name, packed.segment, packed.seen) = (name, None, 0);
            (packed.members, packed.archived, packed.lost, gap.exceptions) = (0, 0, 0, Vec::new());
            gap.row.delivered = None;
            retire(&mut gap, "It was not in the vault when the catalog was made anew");
            told.findings.push(Finding::Gap { pass: told.row.pass, seq });
            told.pieces.push(gap);
        }
    }
}

fn retire(piece: &mut Adopted, why: &str) {
    piece.row.state = PieceState::Retired;
    piece.row.retired = Some(why.to_owned());
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
