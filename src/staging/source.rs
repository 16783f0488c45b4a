//! What a stage reads from and writes to: a reader that fails once told to stop, and digests of what passes.

use super::{record::hex, stop::Stop};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// Length and SHA-256 of some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Digest {
    pub len: u64,
    /// Lowercase hex.
    pub sha256: String,
}

/// A running digest that can be asked from outside while a stage holds the reader or writer.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<(Sha256, u64)>>);

impl Tally {
    fn add(&self, bytes: &[u8]) -> u64 {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tally.0.update(bytes);
        tally.1 += bytes.len() as u64;
        tally.1
    }

    /// Of everything that passed so far.
    pub fn digest(&self) -> Digest {
        let tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Digest { len: tally.1, sha256: hex(&tally.0.clone().finalize()) }
    }
}

/// Reads a file of ours, hashing what is read, and gives its pages back to the system: months of staging must
/// not push everything else out of the cache. Fails with [`Stopped`] once told to stop.
pub struct Source<'a> {
    file: &'a File,
    tally: Tally,
    stop: &'a Stop,
    progress: &'a (dyn Fn(u64) + Sync),
}

const DROP_EVERY: u64 = 8 << 20;

impl<'a> Source<'a> {
    /// From where `file` is positioned.
    pub fn new(file: &'a File, stop: &'a Stop, progress: &'a (dyn Fn(u64) + Sync)) -> Source<'a> {
        Source { file, tally: Tally::default(), stop, progress }
    }

    /// Goes on behind bytes that were tallied elsewhere.
    pub fn after(file: &'a File, stop: &'a Stop, progress: &'a (dyn Fn(u64) + Sync), tally: Tally) -> Source<'a> {
        Source { file, tally, stop, progress }
    }

    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Reads `len` bytes for their digest alone, before a stage goes on behind them.
    pub fn skip(&mut self, len: u64) -> io::Result<()> {
        let mut buf = vec![0; 1 << 20];
        let mut left = len;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            match self.read(&mut buf[..want])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => left -= got as u64,
            }
        }
        Ok(())
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stop.heed()?;
        let len = self.file.read(buf)?;
        let after = self.tally.add(&buf[..len]);
        if (after - len as u64) / DROP_EVERY != after / DROP_EVERY {
            drop_pages(self.file);
        }
        (self.progress)(len as u64);
        Ok(len)
    }
}

/// Gives the clean pages of a file back; what is dirty stays. Advice only, so a refusal changes nothing.
pub fn drop_pages(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Hashes what is written through it.
pub struct HashingWriter<W> {
    inner: W,
    tally: Tally,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> HashingWriter<W> {
        HashingWriter { inner, tally: Tally::default() }
    }

    /// Goes on behind bytes that were tallied elsewhere.
    pub fn after(inner: W, tally: Tally) -> HashingWriter<W> {
        HashingWriter { inner, tally }
    }

    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(buf)?;
        self.tally.add(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
