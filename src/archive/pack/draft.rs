//! A file of ours that grows: hashed as it is written, and able to go back to an earlier point.

use super::PackError;
use crate::durable::{Growing, forget_cached};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufReader, Seek, SeekFrom},
    os::unix::fs::{FileExt, MetadataExt},
};

/// Bytes.
const BUFFER_LEN: usize = 1 << 20;

pub struct Draft {
    file: File,
    /// For errors: "tar" or "member list".
    what: &'static str,
    /// Bytes that are in the file; what follows is in the buffer.
    stored: u64,
    buffer: Vec<u8>,
    hasher: Sha256,
}

/// A place in a draft to which it can go back.
#[derive(Clone)]
pub struct Point {
    len: u64,
    hasher: Sha256,
}

impl Point {
    /// Behind `len` bytes that the hasher has taken.
    pub fn new(len: u64, hasher: Sha256) -> Point {
        Point { len, hasher }
    }

    /// Bytes before it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Has taken all bytes before it.
    pub fn hasher(&self) -> &Sha256 {
        &self.hasher
    }
}

impl Draft {
    /// Starts afresh, whatever the file holds.
    pub fn create(file: File, what: &'static str) -> Result<Draft, PackError> {
        file.set_len(0).map_err(|source| PackError::Write { what, source })?;
        Ok(Draft { file, what, stored: 0, buffer: Vec::with_capacity(BUFFER_LEN), hasher: Sha256::new() })
    }

    /// Goes on after the first `len` bytes, which must have this digest; what follows them is cut off. Every buffer
    /// of them is shown to `look`.
    pub fn resume(
        file: File,
        what: &'static str,
        len: u64,
        sha256: &str,
        look: &mut dyn FnMut(&[u8]) -> Result<(), PackError>,
    ) -> Result<Draft, PackError> {
        let fail = |source| PackError::Write { what, source };
        if file.metadata().map_err(fail)?.size() < len {
            return Err(PackError::Rotten { what, why: "It is shorter than its mark" });
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER_LEN];
        let mut at = 0;
        while at < len {
            let want = (len - at).min(BUFFER_LEN as u64) as usize;
            match file.read_at(&mut buffer[..want], at) {
                Ok(0) => return Err(PackError::Rotten { what, why: "It is shorter than its mark" }),
                Ok(got) => {
                    hasher.update(&buffer[..got]);
                    look(&buffer[..got])?;
                    at += got as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                // The bytes before the mark cannot be had again from here.
                Err(_) => return Err(PackError::Rotten { what, why: "It cannot be read" }),
            }
        }
        if hex(hasher.clone()) != sha256 {
            return Err(PackError::Rotten { what, why: "It is not what its mark says" });
        }
        file.set_len(len).map_err(fail)?;
        buffer.clear();
        Ok(Draft { file, what, stored: len, buffer, hasher })
    }

    /// Bytes written, also those still in memory.
    pub fn len(&self) -> u64 {
        self.stored + self.buffer.len() as u64
    }

    /// SHA-256 of all bytes written.
    pub fn sha256(&self) -> String {
        hex(self.hasher.clone())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.hasher.update(bytes);
        if self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.flush()?;
        }
        if bytes.len() >= BUFFER_LEN {
            self.store(bytes)
        } else {
            self.buffer.extend_from_slice(bytes);
            Ok(())
        }
    }

    pub fn point(&self) -> Point {
        Point { len: self.len(), hasher: self.hasher.clone() }
    }

    /// Forgets what was written after the point.
    pub fn go_back(&mut self, point: Point) -> Result<(), PackError> {
        if point.len >= self.stored {
            self.buffer.truncate((point.len - self.stored) as usize);
        } else {
            self.buffer.clear();
            self.file.set_len(point.len).map_err(|source| PackError::Write { what: self.what, source })?;
            self.stored = point.len;
        }
        self.hasher = point.hasher;
        Ok(())
    }

    /// Reads what is in the file already from `offset` on.
    pub fn reader(&self, offset: u64) -> io::Result<BufReader<&File>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        Ok(BufReader::new(file))
    }

    /// Makes everything written durable, and gives its pages back: the draft is longer than any cache.
    pub fn sync(&mut self) -> Result<(), PackError> {
        self.flush()?;
        self.file.sync_all().map_err(|source| PackError::Write { what: self.what, source })?;
        forget_cached(&self.file, 0, 0);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PackError> {
        let buffer = std::mem::take(&mut self.buffer);
        let done = self.store(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        done
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        let write = Growing(&self.file).write_all_at(bytes, self.stored);
        write.map_err(|source| PackError::Write { what: self.what, source })?;
        self.stored += bytes.len() as u64;
        Ok(())
    }
}

/// The digest in hexadecimal.
pub fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn content(file: &File) -> Vec<u8> {
        let mut file = file.try_clone().unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn going_back_leaves_no_trace() {
        let file = tempfile::tempfile().unwrap();
        let mut draft = Draft::create(file.try_clone().unwrap(), "tar").unwrap();
        let mut wanted = Vec::new();
        // Both what is still in memory and what is already in the file.
        for len in [10, BUFFER_LEN - 5, 3 * BUFFER_LEN, 1] {
            let point = draft.point();
            draft.write(&vec![9; len]).unwrap();
            draft.write(&vec![8; 2 * len]).unwrap();
            draft.go_back(point).unwrap();
            draft.write(&vec![7; len]).unwrap();
            wanted.resize(wanted.len() + len, 7);
            assert_eq!(draft.len(), wanted.len() as u64);
        }
        draft.sync().unwrap();
        assert!(content(&file) == wanted);
        assert_eq!(draft.sha256(), hex(Sha256::new().chain_update(&wanted)));
    }

    #[test]
    fn resuming_cuts_off_what_follows_and_refuses_what_is_not_the_same() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"headtail", 0).unwrap();
        let resume = |len, sha256: &str| {
            let mut seen = Vec::new();
            let file = file.try_clone().unwrap();
            Draft::resume(file, "tar", len, sha256, &mut |bytes| {
                seen.extend_from_slice(bytes);
                Ok(())
            })
            .map(|draft| (draft.len(), draft.sha256(), seen))
        };
        let sha256 = hex(Sha256::new().chain_update(b"head"));
        assert!(matches!(resume(5, &sha256), Err(PackError::Rotten { .. })));
        assert!(matches!(resume(9, &sha256), Err(PackError::Rotten { .. })));
        assert_eq!(content(&file), b"headtail");
        assert_eq!(resume(4, &sha256).unwrap(), (4, sha256, b"head".to_vec()));
        assert_eq!(content(&file), b"head");
    }
}
