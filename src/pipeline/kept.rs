//! What stays on this host of every pass and piece, beside the catalog and its manifests: records from which rows are
//! made again when the catalog is behind.
//!
//! ```text
//! state/manifests/<source>/<pass>/
//!     pass.json               how the pass was begun, and what its walk has seen when that has ended
//!     <seq>.piece.json        the row of a piece, its exceptions, and why it was retired, if it was
//!     <seq>.jsonl.zst         its manifest, once it is sealed
//! ```
//!
//! A record is durable before the catalog says the same, so the catalog never knows of a piece, of a retirement or of
//! the end of a walk that would be forgotten with it. Records of a pass are kept as long as its manifests.

use super::{
    context::{Context, Failure},
    naming::Naming,
    records::{local_manifest, local_manifests},
};
use crate::{
    archive::manifest::ExceptionLine,
    catalog::{NewPass, PackedRow, PassRow},
    durable::{self, DurableError, at},
    fate::{Fate, Trouble},
    name::{PassId, PieceName, SourceName},
    staging::{RecordError, read_record, write_record},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// How a pass was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassRecord {
    pub host: String,
    pub source_id: String,
    pub filter_sha256: String,
    /// The directory of the pass in the vault, with the trailing `/`.
    pub prefix: String,
    /// Entries that the walk has seen, once it has ended.
    pub seen: Option<u64>,
}

/// A piece as it was packed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PieceRecord {
    pub row: PackedRow,
    pub exceptions: Vec<ExceptionLine>,
    /// Why its range is packed again under another seq.
    pub retired: Option<String>,
}

const PASS_FILE: &str = "pass.json";
const PIECE_END: &str = ".piece.json";
const MANIFEST_END: &str = ".jsonl.zst";

fn pass_file(state: &Path, source: &SourceName, pass: PassId) -> PathBuf {
    local_manifests(state, source, pass).join(PASS_FILE)
}

fn piece_file(state: &Path, name: &PieceName) -> PathBuf {
    local_manifests(state, &name.source, name.pass).join(format!("{:06}{PIECE_END}", name.seq))
}

fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), Failure> {
    let dir = path.parent().expect("a record lies in a directory");
    durable::create_dir(dir).and_then(|()| write_record(path, record)).map_err(|err| {
        // On a full disk what was begun takes room, and nobody may come back to it.
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let _ = durable::remove(Path::new(&draft));
        Failure::from(err).in_state()
    })
}

/// `None`: there is none, or it is damaged, which is as good as none where a manifest says the same.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    match read_record(path) {
        Ok(record) => Ok(Some(record)),
        Err(RecordError::Missing(_) | RecordError::Damaged { .. }) => Ok(None),
        Err(err) => Err(Failure::from(err).in_state()),
    }
}

/// Makes sure that a pass of the catalog is on record.
pub fn keep_pass(ctx: &Context, pass: &PassRow) -> Result<(), Failure> {
    let file = pass_file(&ctx.options.state, &pass.source, pass.pass);
    if read::<PassRecord>(&file)?.is_some() {
        return Ok(());
    }
    write(&file, &record_of(ctx, pass)?)
}

fn record_of(ctx: &Context, pass: &PassRow) -> Result<PassRecord, Failure> {
    Ok(PassRecord {
        host: pass.host.clone(),
        source_id: pass.source_id.clone(),
        filter_sha256: pass.filter_sha256.clone(),
        prefix: Naming::of(ctx, &pass.source, pass.pass)?.prefix(pass.pass),
        seen: pass.seen,
    })
}

pub fn pass(state: &Path, source: &SourceName, pass: PassId) -> Result<Option<PassRecord>, Failure> {
    read(&pass_file(state, source, pass))
}

/// Records the end of a walk, here and in the catalog.
pub fn end_walk(ctx: &Context, source: &SourceName, id: PassId, seen: u64) -> Result<(), Failure> {
    if let Some(row) = ctx.catalog.pass(source, id)? {
        let record = PassRecord { seen: Some(seen), ..record_of(ctx, &row)? };
        write(&pass_file(&ctx.options.state, source, id), &record)?;
    }
    Ok(ctx.catalog.walk_ended(source, id, seen)?)
}

/// Records a piece that has its place on a shelf, here and in the catalog.
pub fn add_piece(ctx: &Context, row: &PackedRow, exceptions: &[ExceptionLine]) -> Result<(), Failure> {
    let record = PieceRecord { row: row.clone(), exceptions: exceptions.to_vec(), retired: None };
    write(&piece_file(&ctx.options.state, &row.name), &record)?;
    add_row(ctx, row, exceptions)
}

pub fn add_row(ctx: &Context, row: &PackedRow, exceptions: &[ExceptionLine]) -> Result<(), Failure> {
    let exceptions: Vec<_> = exceptions.iter().filter_map(ExceptionLine::exception).collect();
    Ok(ctx.catalog.add_packed(row, &exceptions)?)
}

pub fn piece(state: &Path, name: &PieceName) -> Result<Option<PieceRecord>, Failure> {
    let record: Option<PieceRecord> = read(&piece_file(state, name))?;
    let is_of = |record: &PieceRecord| record.row.name.id() == name.id();
    Ok(record.filter(is_of))
}

/// Records that the range of a piece is packed again, here and in the catalog.
pub fn retire(ctx: &Context, name: &PieceName, why: &str) -> Result<(), Failure> {
    let row = ctx.catalog.piece(&name.source, name.pass, name.seq)?;
    if let Some(row) = row {
        // What it was exceptions of is told by what replaces it.
        let record = PieceRecord { row: row.packed, exceptions: Vec::new(), retired: Some(why.to_owned()) };
        write(&piece_file(&ctx.options.state, name), &record)?;
    }
    Ok(ctx.catalog.set_retired(name, why)?)
}

/// Whether this host remembers a piece, in whatever state it is.
pub fn is_kept(state: &Path, name: &PieceName) -> bool {
    piece_file(state, name).is_file() || has_manifest(state, name)
}

/// Removes all that is kept here of a pass, or of these pieces of it, which the vault does not hold any more.
pub fn forget(
    state: &Path,
    source: &SourceName,
    pass: PassId,
    seqs: Option<&BTreeSet<u32>>,
) -> Result<(), DurableError> {
    let Some(seqs) = seqs else { return durable::remove_tree(&local_manifests(state, source, pass)) };
    for seq in seqs {
        let name = PieceName { source: source.clone(), pass, seq: *seq, label: None };
        durable::remove(&piece_file(state, &name))?;
        durable::remove(&local_manifest(state, &name))?;
    }
    Ok(())
}

pub fn has_manifest(state: &Path, name: &PieceName) -> bool {
    local_manifest(state, name).is_file()
}

/// Every pass that something is kept of, by source and time.
pub fn passes(state: &Path) -> Result<BTreeSet<(SourceName, PassId)>, Failure> {
    let root = state.join("manifests");
    let mut found = BTreeSet::new();
    for source in names(&root)? {
        let dir = root.join(&source);
        let Ok(source) = source.parse::<SourceName>() else { continue };
        for pass in names(&dir)? {
            let Ok(pass) = pass.parse::<PassId>() else { continue };
            // A crash may come before anything is kept of a pass.
            if !kept(state, &source, pass)?.is_empty() || pass_file(state, &source, pass).is_file() {
                found.insert((source.clone(), pass));
            }
        }
    }
    Ok(found)
}

/// Seqs of all pieces that something is kept of.
pub fn kept(state: &Path, source: &SourceName, pass: PassId) -> Result<BTreeSet<u32>, Failure> {
    let names = names(&local_manifests(state, source, pass))?;
    let seq = |name: &String| name.strip_suffix(PIECE_END).or_else(|| name.strip_suffix(MANIFEST_END))?.parse().ok();
    Ok(names.iter().filter_map(seq).collect())
}

fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let in_state = |err: DurableError| Failure::from(err).in_state();
    let entries = match fs::read_dir(dir) {
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(at("list", dir)).map_err(in_state)?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = entries.map(name).collect::<io::Result<Vec<_>>>().map_err(at("list", dir)).map_err(in_state)?;
    names.sort();
    Ok(names)
}

/// The pass as the catalog is told of it.
pub fn new_pass(source: &SourceName, pass: PassId, record: &PassRecord) -> NewPass {
    NewPass {
        source: source.clone(),
        pass,
        host: record.host.clone(),
        source_id: record.source_id.clone(),
        filter_sha256: record.filter_sha256.clone(),
    }
}

/// Catalog, staging, this host's records and the vault disagree: nobody but an operator knows who is right.
pub fn disagreement(what: &str) -> Failure {
    let what = format!(
        "{what}: bring back a newer copy of the state directory, or make the catalog anew from the vault (`archiver \
         rebuild`) on a machine with the secret key"
    );
    Failure::new(Fate::Operator, Trouble::State, what)
}
