//! What the middle stages leave on record of each piece, and the manifests that stay on this host.

use super::context::Failure;
use crate::{
    archive::{
        filter::FilterError,
        list::ListError,
        manifest_io::{ManifestError, ManifestReader},
    },
    catalog, compress,
    durable::{self, DurableError, at},
    fate::{Fate, Fateful, Trouble},
    name::{Compression, Encryption, PassId, PieceName, SourceName},
    staging::{Digest, HashingWriter, RecordError},
    vault::{Key, checksum::BlockSums},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// Record of a piece on the shelf of compressed pieces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompressedRecord {
    pub compression: Compression,
    pub level: Option<u32>,
    /// Of the tar.
    pub clear: Digest,
    pub made: Digest,
    /// `[offset in the tar, offset in the compressed form]` of each block.
    pub blocks: Vec<[u64; 2]>,
}

/// Record of a piece that is ready for the vault, and of its manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealedRecord {
    pub encryption: Encryption,
    pub made: Digest,
    pub sums: BlockSums,
    pub header_length: u64,
    pub fingerprints: Vec<String>,
    pub key: Key,
    pub manifest_key: Key,
    /// The manifest's file name on the shelf.
    pub manifest_file: String,
    pub manifest: Digest,
    pub manifest_sums: BlockSums,
}

impl SealedRecord {
    /// What the catalog says of it.
    pub fn row(&self, archived_read_back: u64) -> catalog::Sealed {
        catalog::Sealed {
            size: self.made.len,
            sha256: self.made.sha256.clone(),
            crc64: self.sums.whole().0,
            manifest_size: self.manifest.len,
            manifest_crc64: self.manifest_sums.whole().0,
            archived_read_back,
        }
    }
}

impl CompressedRecord {
    pub fn row(&self) -> catalog::Compressed {
        catalog::Compressed { size: self.made.len, sha256: self.made.sha256.clone() }
    }
}

impl Fateful for RecordError {
    fn fate(&self) -> Fate {
        match self {
            RecordError::Missing(_) | RecordError::Damaged { .. } => Fate::Rotten,
            RecordError::Disk(_) => Fate::Retry,
        }
    }

    fn trouble(&self) -> Trouble {
        Trouble::Staging
    }
}

impl Fateful for ListError {
    fn fate(&self) -> Fate {
        match self {
            ListError::NotFound { .. } | ListError::Damaged { .. } => Fate::Rotten,
            ListError::Read { .. } => Fate::Retry,
        }
    }

    fn trouble(&self) -> Trouble {
        Trouble::Staging
    }
}

impl Fateful for ManifestError {
    fn fate(&self) -> Fate {
        Fate::Operator
    }

    fn trouble(&self) -> Trouble {
        Trouble::State
    }
}

impl Fateful for FilterError {
    fn fate(&self) -> Fate {
        Fate::Operator
    }

    fn trouble(&self) -> Trouble {
        Trouble::Source
    }
}

impl Fateful for DurableError {
    fn fate(&self) -> Fate {
        Fate::Retry
    }

    fn trouble(&self) -> Trouble {
        Trouble::Staging
    }
}

/// Where the manifests of a pass stay on this host, below the state directory.
pub fn local_manifests(state: &Path, source: &SourceName, pass: PassId) -> PathBuf {
    state.join("manifests").join(source.as_str()).join(pass.to_string())
}

/// Where the manifest of a piece stays on this host.
pub fn local_manifest(state: &Path, name: &PieceName) -> PathBuf {
    local_manifests(state, &name.source, name.pass).join(format!("{:06}.jsonl.zst", name.seq))
}

/// End of the name of a file that is being written.
const DRAFT: &str = "new";

/// Writes one of the files that stay on this host. Gives its digest.
pub fn keep_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<Digest, Failure> {
    let tmp = path.with_extension(DRAFT);
    let keep = || {
        durable::create_dir(path.parent().expect("a file below the state lies in a directory"))?;
        durable::remove(&tmp)?;
        let file = durable::create(&tmp)?;
        let mut out = HashingWriter::new(BufWriter::new(&file));
        let tally = out.tally();
        write(&mut out)?;
        out.flush().map_err(at("write", &tmp))?;
        drop(out);
        durable::publish(&file, &tmp, path)?;
        Ok(tally.digest())
    };
    keep().map_err(|failure: Failure| {
        // Nobody may come back to it, and on a full disk it takes room.
        let _ = durable::remove(&tmp);
        failure.in_state()
    })
}

/// Removes what a kill left of files that were to stay on this host: of a piece that is made again under another number
/// nobody comes back to it.
pub fn sweep_kept(state: &Path, source: &SourceName, pass: PassId) -> Result<(), Failure> {
    let dir = local_manifests(state, source, pass);
    let in_state = |err: DurableError| Failure::from(err).in_state();
    let entries = match fs::read_dir(&dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at("list", &dir)).map_err(in_state)?,
    };
    for entry in entries {
        let file = entry.map_err(at("list", &dir)).map_err(in_state)?.path();
        if file.extension().is_some_and(|end| end == DRAFT) {
            durable::remove(&file).map_err(in_state)?;
        }
    }
    Ok(())
}

/// A manifest that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("Cannot read the manifest {path:?}")]
pub struct ManifestReadError {
    pub path: PathBuf,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Fateful for ManifestReadError {
    fn fate(&self) -> Fate {
        Fate::Operator
    }

    fn trouble(&self) -> Trouble {
        Trouble::State
    }
}

/// Opens a manifest that stays on this host.
pub fn read_manifest(path: &Path) -> Result<ManifestReader<BufReader<Box<dyn Read + Send>>>, ManifestReadError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| ManifestReadError { path: path.to_owned(), source };
    let file = File::open(path).map_err(|err| fail(err.into()))?;
    let clear = compress::reader(Compression::Zstd, file).map_err(|err| fail(err.into()))?;
    ManifestReader::new(BufReader::new(clear)).map_err(|err| fail(err.into()))
}
