//! Bytes on their way to a vault.
//!
//! They are read from their file while they are sent, so that memory does not grow with the size of a part; they pass
//! when whoever sets the pace lets them; and the last of them is only given out once all of them have the checksum
//! that was recorded when the file was made. What rotted meanwhile is therefore never sent whole, whatever the
//! server makes of checksums.

use super::{Crc64, checksum::Crc64Digest};
use crate::durable;
use async_trait::async_trait;
use bytes::Bytes;
use rustix::{buffer::spare_capacity, io::Errno};
use std::{
    fs::File,
    future::pending,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinHandle;

/// Bytes that are sent at a time, unless the pace asks for less.
const CHUNK_LEN: u64 = 128 << 10;
/// Bytes that are read at a time: so many that waking the thread that reads costs little, and few enough to be in the
/// cache of the processor still when they are sent.
const BLOCK_LEN: u64 = 512 << 10;

/// Says how fast bytes may pass.
#[async_trait]
pub trait Pace: Send + Sync {
    /// Waits until so many bytes may pass. May be dropped and asked again.
    async fn pass(&self, bytes: u64);

    /// Most bytes to ask for at once, at least 1, so that they pass evenly.
    fn step(&self) -> u64 {
        u64::MAX
    }
}

/// Why bytes could not be sent, that lies with themselves and not with the vault.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("Cannot read {path:?}")]
    Read { path: PathBuf, source: Arc<io::Error> },
    #[error("{len} bytes from {offset} do not have the checksum that was recorded of them")]
    Rotten { offset: u64, len: u64 },
}

#[derive(Clone, Debug)]
enum Source {
    Bytes(Bytes),
    File { path: PathBuf, offset: u64 },
}

/// What is sent in one go: a small object, or a part of a large one.
#[derive(Clone)]
pub struct Payload {
    source: Source,
    len: u64,
    crc64: Crc64,
    pace: Option<Arc<dyn Pace>>,
    fault: Fault,
}

/// Tells what was wrong with a payload. A vault may report it as a broken connection.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<Mutex<Option<PayloadError>>>);

impl Fault {
    pub fn take(&self) -> Option<PayloadError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, err: &PayloadError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(err.clone());
    }
}

impl Payload {
    /// `crc64` as it should be of the bytes.
    pub fn of_bytes(bytes: impl Into<Bytes>, crc64: Crc64) -> Payload {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        Payload { source: Source::Bytes(bytes), len, crc64, pace: None, fault: Fault::default() }
    }

    /// `len` bytes from `offset` of a file, with the checksum that was recorded of them.
    pub fn of_file(path: PathBuf, offset: u64, len: u64, crc64: Crc64) -> Payload {
        Payload { source: Source::File { path, offset }, len, crc64, pace: None, fault: Fault::default() }
    }

    #[must_use]
    pub fn paced(self, pace: Arc<dyn Pace>) -> Payload {
        Payload { pace: Some(pace), ..self }
    }

    /// Bytes.
    // One of 0 bytes is nothing special here.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn crc64(&self) -> Crc64 {
        self.crc64
    }

    pub fn fault(&self) -> Fault {
        self.fault.clone()
    }

    pub fn reader(self) -> PayloadReader {
        let block = if let Source::Bytes(bytes) = &self.source { bytes.clone() } else { Bytes::new() };
        PayloadReader { payload: self, file: None, sent: 0, digest: Crc64Digest::new(), block, ahead: None }
    }

    /// All of it, for who must have it in memory.
    pub async fn bytes(self) -> Result<Vec<u8>, PayloadError> {
        let mut bytes = Vec::with_capacity(self.len as usize);
        let mut reader = self.reader();
        while let Some(chunk) = reader.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// Gives a payload out piece by piece.
pub struct PayloadReader {
    payload: Payload,
    file: Option<Arc<File>>,
    /// Bytes that were given out.
    sent: u64,
    digest: Crc64Digest,
    /// What was read and not given out yet.
    block: Bytes,
    /// The next block is read while this one is sent.
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

impl PayloadReader {
    /// The next bytes, none of them empty; `None` at the end. An error is also told to the [`Fault`]. Bytes that
    /// were read are lost when this is dropped midway: then the payload is to be read again from its beginning.
    pub async fn next(&mut self) -> Result<Option<Bytes>, PayloadError> {
        let next = self.read_next().await;
        if let Err(err) = &next {
            self.payload.fault.set(err);
        }
        next
    }

    async fn read_next(&mut self) -> Result<Option<Bytes>, PayloadError> {
        let bytes = self.chunk().await.map_err(|source| self.unreadable(source))?;
        self.digest.update(&bytes);
        let is_last = self.sent + bytes.len() as u64 == self.payload.len;
        if is_last && self.digest.value() != self.payload.crc64 {
            let offset = if let Source::File { offset, .. } = self.payload.source { offset } else { 0 };
            return Err(PayloadError::Rotten { offset, len: self.payload.len });
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        if let Some(pace) = &self.payload.pace {
            pace.pass(bytes.len() as u64).await;
        }
        self.sent += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The next bytes to be given out; none at the end.
    async fn chunk(&mut self) -> io::Result<Bytes> {
        if self.block.is_empty() && self.sent < self.payload.len {
            self.block = self.read_block().await?;
        }
        let step = self.payload.pace.as_ref().map_or(u64::MAX, |pace| pace.step().max(1));
        let len = (self.block.len() as u64).min(CHUNK_LEN).min(step);
        Ok(self.block.split_to(len as usize))
    }

    async fn read_block(&mut self) -> io::Result<Bytes> {
        let Source::File { path, offset } = &self.payload.source else { return Ok(Bytes::new()) };
        let (begin, end) = (offset + self.sent, offset + self.payload.len);
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let path = path.clone();
                self.file.insert(Arc::new(blocking(move || File::open(path)).await?)).clone()
            }
        };
        let block = match self.ahead.take() {
            Some(ahead) => ahead.await.unwrap_or_else(|join| std::panic::resume_unwind(join.into_panic()))?,
            None => blocking(reading(file.clone(), begin, end)).await?,
        };
        let next = begin + block.len() as u64;
        if next < end {
            self.ahead = Some(tokio::task::spawn_blocking(reading(file, next, end)));
        }
        Ok(block)
    }

    fn unreadable(&self, source: io::Error) -> PayloadError {
        let path = if let Source::File { path, .. } = &self.payload.source { path.clone() } else { PathBuf::new() };
        PayloadError::Read { path, source: Arc::new(source) }
    }
}

/// The block at `offset`, or what of it comes before `end`. Read once and sent: nobody needs it in memory, and others
/// need the memory.
fn reading(file: Arc<File>, offset: u64, end: u64) -> impl FnOnce() -> io::Result<Bytes> {
    move || {
        let len = (end - offset).min(BLOCK_LEN) as usize;
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            // Into room that was not zeroed before: that costs more than half of what reading does.
            match rustix::io::pread(&file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
        durable::forget_cached(&file, offset, len as u64);
        // A file may have grown, and a vector may have more room than was asked for.
        bytes.truncate(len);
        Ok(bytes.into())
    }
}

/// Reads of staging block, and must not on the threads that serve everything.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and nobody waits for the answer any more.
            Err(_) => pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::checksum::crc64;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("piece");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn a_range_of_a_file_comes_whole_and_in_chunks() {
        let all = noise(3 * CHUNK_LEN as usize + 1_000);
        let (_dir, path) = file_of(&all);
        for (offset, len) in [(0, all.len()), (7, 2 * CHUNK_LEN as usize), (100, 1), (5, 0)] {
            let bytes = &all[offset..offset + len];
            let payload = Payload::of_file(path.clone(), offset as u64, len as u64, crc64(bytes));
            assert!(payload.clone().bytes().await.unwrap() == bytes);
            let mut reader = payload.reader();
            while let Some(chunk) = reader.next().await.unwrap() {
                assert!(!chunk.is_empty() && chunk.len() as u64 <= CHUNK_LEN);
            }
        }
    }

    #[tokio::test]
    async fn the_last_bytes_of_what_rotted_are_never_given_out() {
        let mut all = noise(CHUNK_LEN as usize + 10);
        let crc = crc64(&all);
        all[3] ^= 1;
        let (_dir, path) = file_of(&all);
        for payload in [Payload::of_file(path, 0, all.len() as u64, crc), Payload::of_bytes(all, crc)] {
            let (fault, mut reader) = (payload.fault(), payload.reader());
            assert_eq!(reader.next().await.unwrap().unwrap().len() as u64, CHUNK_LEN);
            assert!(matches!(reader.next().await, Err(PayloadError::Rotten { offset: 0, .. })));
            assert!(matches!(fault.take(), Some(PayloadError::Rotten { .. })));
            assert!(fault.take().is_none(), "told once");
        }
        assert!(Payload::of_bytes(&b""[..], Crc64(1)).bytes().await.is_err(), "nothing has a checksum too");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_or_short_is_told() {
        let (_dir, path) = file_of(b"short");
        let short = Payload::of_file(path.clone(), 0, 6, Crc64(0));
        let fault = short.fault();
        short.bytes().await.unwrap_err();
        assert!(
            matches!(fault.take(), Some(PayloadError::Read { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof)
        );
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Payload::of_file(path, 0, 5, Crc64(0)).bytes().await, Err(PayloadError::Read { .. })));
    }

    #[tokio::test]
    async fn the_pace_is_asked_for_every_byte() {
        struct Counting(AtomicU64);
        #[async_trait]
        impl Pace for Counting {
            async fn pass(&self, bytes: u64) {
                assert!(bytes <= 1_000);
                self.0.fetch_add(bytes, Ordering::Relaxed);
            }
            fn step(&self) -> u64 {
                1_000
            }
        }
        let all = noise(10_500);
        let pace = Arc::new(Counting(AtomicU64::new(0)));
        let crc = crc64(&all);
        assert_eq!(Payload::of_bytes(all.clone(), crc).paced(pace.clone()).bytes().await.unwrap(), all);
        assert_eq!(pace.0.load(Ordering::Relaxed), 10_500);
    }
}
