//! The member list of a packed piece, kept in staging until its manifest is in the vault: one line per member,
//! last the record of the piece.
//!
//! The last line holds the digest of all lines before it, and one of itself, so that any damage is found.

use super::{
    manifest::Member,
    pack::{Packed, RECORD_VERSION, hex},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

const HEAD: &[u8] = b"{\"packed\":";
const SEAL: &[u8] = b",\"sha256\":\"";
const TAIL: &[u8] = b"\"}\n";
/// Hexadecimal digits of a SHA-256.
const HEX_LEN: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Not damage: the piece has none (any more).
    #[error("There is no member list {path:?}")]
    NotFound { path: PathBuf },
    #[error("The member list {path:?} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("Cannot read the member list {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A member list that was found whole.
#[derive(Debug)]
pub struct MemberList;

impl MemberList {
    /// Reads the list to its end and checks every byte, then gives the record, and a reader of the member lines. That
    /// reader checks them again and fails at their end if they are not what they were.
    pub fn open(path: &Path) -> Result<(Packed, BufReader<Members>), ListError> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ListError::NotFound { path: path.to_owned() },
            _ => ListError::Read { path: path.to_owned(), source },
        };
        let damaged = |why: &str| ListError::Damaged { path: path.to_owned(), why: why.to_owned() };
        let file = File::open(path).map_err(fail)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut hasher = Sha256::new();
        let (mut len, mut last, mut line) = (0, Vec::new(), Vec::new());
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(fail)? == 0 {
                break;
            }
            hasher.update(&last);
            len += last.len() as u64;
            std::mem::swap(&mut last, &mut line);
        }
        let packed = parse(&last).map_err(damaged)?;
        let sha256 = hex(hasher);
        if sha256 != packed.list_sha256 {
            return Err(damaged("the lines are not what the last one says"));
        }
        let mut file = reader.into_inner();
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        Ok((packed, BufReader::new(Members { file: file.take(len), hasher: Some(Sha256::new()), sha256 })))
    }
}

/// The member lines of a list.
#[derive(Debug)]
pub struct Members {
    file: io::Take<File>,
    hasher: Option<Sha256>,
    sha256: String,
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher
            && !buffer.is_empty()
        {
            hasher.update(&buffer[..got]);
            if got == 0 && self.hasher.take().map(hex).as_ref() != Some(&self.sha256) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "The member list is not what it was"));
            }
        }
        Ok(got)
    }
}

/// The members of a list or of a manifest's member lines.
pub fn members(lines: impl BufRead) -> impl Iterator<Item = io::Result<Member>> {
    lines.split(b'\n').map(|line| serde_json::from_slice(&line?).map_err(io::Error::from))
}

/// `{"packed":{…},"sha256":"…"}`, the digest being that of the inner object.
pub(super) fn last_line(packed: &Packed) -> Vec<u8> {
    let record = serde_json::to_vec(packed).expect("a record has only plain fields");
    let seal = hex(Sha256::new().chain_update(&record));
    [HEAD, &record, SEAL, seal.as_bytes(), TAIL].concat()
}

fn parse(line: &[u8]) -> Result<Packed, &'static str> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let rest = line.strip_prefix(HEAD).ok_or("its last line is missing")?;
    let rest = rest.strip_suffix(TAIL).ok_or("its last line is cut off")?;
    let (rest, seal) = rest.split_at_checked(rest.len().wrapping_sub(HEX_LEN)).ok_or("its last line is cut off")?;
    let record = rest.strip_suffix(SEAL).ok_or("its last line has no digest")?;
    if hex(Sha256::new().chain_update(record)).as_bytes() != seal {
        return Err("its last line is not what its digest says");
    }
    match serde_json::from_slice::<Version>(record) {
        Ok(Version { version: RECORD_VERSION }) => {}
        Ok(_) => return Err("it is of another version"),
        Err(_) => return Err("its last line is no record"),
    }
    serde_json::from_slice(record).map_err(|_| "its last line is no record")
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
