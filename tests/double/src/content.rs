//! Where bytes are kept: small ones in memory, large ones in files, so that a test may upload more than fits in memory.

use bytes::Bytes;
use futures::stream;
use s3s::dto::StreamingBlob;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// How much is read or sent at once.
const STEP: u64 = 256 * 1024;

/// Bytes that no longer change. Its file, if it has one, goes with the last copy of this, unless a later server is to
/// find it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Record", from = "Record")]
pub struct Blob(Arc<Kept>);

#[derive(Debug)]
enum Kept {
    Memory(Bytes),
    File { path: PathBuf, len: u64, outlives: bool },
}

/// A blob as it is written down.
#[derive(Serialize, Deserialize)]
enum Record {
    Bytes(Vec<u8>),
    File { path: PathBuf, len: u64 },
}

impl From<Blob> for Record {
    fn from(blob: Blob) -> Record {
        match &*blob.0 {
            Kept::Memory(bytes) => Record::Bytes(bytes.to_vec()),
            Kept::File { path, len, .. } => Record::File { path: path.clone(), len: *len },
        }
    }
}

impl From<Record> for Blob {
    fn from(record: Record) -> Blob {
        Blob(Arc::new(match record {
            Record::Bytes(bytes) => Kept::Memory(bytes.into()),
            Record::File { path, len } => Kept::File { path, len, outlives: true },
        }))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Kept::File { path, outlives: false, .. } = self {
            // The whole directory goes when the server stops, which may be sooner.
            let _ = fs::remove_file(path);
        }
    }
}

impl Blob {
    /// Its length.
    pub fn len(&self) -> u64 {
        match &*self.0 {
            Kept::Memory(bytes) => bytes.len() as u64,
            Kept::File { len, .. } => *len,
        }
    }

    /// Whether it is in a file.
    pub fn is_in_file(&self) -> bool {
        matches!(&*self.0, Kept::File { .. })
    }

    /// The bytes of a range within it.
    pub fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        match &*self.0 {
            Kept::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Kept::File { path, .. } => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                File::open(path)?.read_exact_at(&mut bytes, range.start)?;
                Ok(bytes.into())
            }
        }
    }
}

/// Where blobs go.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory of the files.
    pub directory: PathBuf,
    /// What stays in memory; anything larger goes to a file.
    pub memory_max: usize,
    /// Whether a later server is to find them again.
    pub outlives: bool,
}

/// Takes bytes as they come and moves to a file once they are too many.
pub struct BlobWriter {
    place: Place,
    memory: Vec<u8>,
    file: Option<(File, PathBuf, u64)>,
}

impl BlobWriter {
    /// Starts.
    pub fn new(place: &Place) -> BlobWriter {
        BlobWriter { place: place.clone(), memory: Vec::new(), file: None }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > self.place.memory_max.max(1) {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let path = self.place.directory.join(file_name());
            self.file = Some((File::options().read(true).write(true).create_new(true).open(&path)?, path, 0));
        }
        let (file, _, len) = self.file.as_mut().expect("just opened");
        file.write_all(&self.memory)?;
        *len += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    /// Ends, with one byte flipped if asked for.
    pub fn finish(mut self, flip: Option<u64>) -> io::Result<Blob> {
        if self.file.is_some() {
            self.spill()?;
        }
        if let Some(at) = flip {
            self.flip(at)?;
        }
        Ok(Blob(Arc::new(match self.file.take() {
            Some((_, path, len)) => Kept::File { path, len, outlives: self.place.outlives },
            None => Kept::Memory(std::mem::take(&mut self.memory).into()),
        })))
    }

    /// A place beyond the end is the last byte; nothing can be flipped in nothing.
    fn flip(&mut self, at: u64) -> io::Result<()> {
        match &self.file {
            Some((file, _, len)) => {
                let at = at.min(len - 1);
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[!byte[0]], at)
            }
            None => {
                let at = (at as usize).min(self.memory.len().saturating_sub(1));
                if let Some(byte) = self.memory.get_mut(at) {
                    *byte = !*byte;
                }
                Ok(())
            }
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some((_, path, _)) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

/// Another name each time, in any process.
fn file_name() -> String {
    static START: LazyLock<u128> =
        LazyLock::new(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("blob-{}-{}", *START, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Blobs one after the other: an object, each part one blob.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Content(Vec<Blob>);

impl Content {
    /// Of these blobs.
    pub fn new(blobs: Vec<Blob>) -> Content {
        Content(blobs)
    }

    /// Their length together.
    pub fn len(&self) -> u64 {
        self.0.iter().map(Blob::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What of `range` can be read in one step.
    fn step(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mut start = 0;
        for blob in &self.0 {
            let end = start + blob.len();
            if range.start < end {
                let from = range.start - start;
                return blob.read(from..(range.end.min(end) - start).min(from + STEP));
            }
            start = end;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// All of it.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::with_capacity(self.len() as usize);
        while (all.len() as u64) < self.len() {
            all.extend_from_slice(&self.step(all.len() as u64..self.len())?);
        }
        Ok(all)
    }

    /// A range of it, to be sent.
    pub fn stream(self, range: Range<u64>) -> StreamingBlob {
        StreamingBlob::wrap(stream::try_unfold((self, range), |(content, range)| async move {
            if range.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let (wanted, of) = (range.clone(), content.clone());
            let bytes = tokio::task::spawn_blocking(move || of.step(wanted)).await.map_err(io::Error::other)??;
            let rest = range.start + bytes.len() as u64..range.end;
            Ok(Some((bytes, (content, rest))))
        }))
    }
}
