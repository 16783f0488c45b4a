//! The content of files: out of a tar onto the disk, with its digest.

use crate::archive::{
    header::{BLOCK, padded},
    holes::{self, Extent},
    pack::hex,
    reader::{TarError, TarMember, TarReader},
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

const COPY_LEN: usize = 1 << 20;
/// Longest map of a sparse file, bytes: as many regions as are ever written.
const MAP_LEN_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("Cannot read what came back")]
    Read(#[source] io::Error),
    #[error("Cannot write what came back")]
    Write(#[source] io::Error),
}

/// Writes the content of a member from `start` on, holes as holes. The digest, in hexadecimal, of all that the hasher
/// has seen, and how many bytes were written.
pub fn copy(
    tar: &mut TarReader<impl Read>,
    found: &TarMember,
    (file, start): (&File, u64),
    hasher: &mut Sha256,
) -> Result<(String, u64), ContentError> {
    let copied = read(tar, found, hasher, |bytes, at| file.write_all_at(bytes, start + at))?;
    if found.sparse.is_some() {
        // It may end with a hole.
        file.set_len(start + found.size()).map_err(ContentError::Write)?;
    }
    Ok(copied)
}

/// The digest of the content of a member, in hexadecimal.
pub fn hash_content(tar: &mut TarReader<impl Read>, found: &TarMember) -> Result<String, ContentError> {
    Ok(read(tar, found, &mut Sha256::new(), |_, _| Ok(()))?.0)
}

/// Hands over what is no hole, with where it is in the member, and hashes all of it.
fn read(
    tar: &mut TarReader<impl Read>,
    found: &TarMember,
    hasher: &mut Sha256,
    mut take: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> Result<(String, u64), ContentError> {
    let size = found.size();
    let extents = match found.sparse {
        Some(_) => map(tar, found)?,
        None => vec![Extent { offset: 0, len: size }],
    };
    let (mut at, mut taken) = (0, 0);
    let mut buffer = vec![0; COPY_LEN.min(size as usize)];
    for extent in &extents {
        hash_zeros(hasher, extent.offset - at);
        at = extent.end();
        let (mut offset, mut left) = (extent.offset, extent.len);
        while left > 0 {
            let most = left.min(COPY_LEN as u64) as usize;
            let len = tar.read(&mut buffer[..most]).map_err(ContentError::Read)?;
            if len == 0 {
                return Err(ContentError::Read(io::ErrorKind::UnexpectedEof.into()));
            }
            hasher.update(&buffer[..len]);
            take(&buffer[..len], offset).map_err(ContentError::Write)?;
            (offset, left) = (offset + len as u64, left - len as u64);
            taken += len as u64;
        }
    }
    hash_zeros(hasher, size - at);
    Ok((hex(hasher.clone()), taken))
}

/// The regions with data of a sparse member, from the map at the head of its data.
fn map(tar: &mut TarReader<impl Read>, found: &TarMember) -> Result<Vec<Extent>, ContentError> {
    let damaged = || TarError::Foreign { at: found.offset, why: "the map of a sparse file is damaged" };
    let (mut text, mut ends, mut due) = (Vec::new(), 0, None);
    while due.is_none_or(|due| ends < due) {
        if text.len() > MAP_LEN_MAX {
            return Err(damaged().into());
        }
        let mut block = [0; BLOCK as usize];
        tar.read_exact(&mut block).map_err(ContentError::Read)?;
        text.extend_from_slice(&block);
        ends += block.iter().filter(|byte| **byte == b'\n').count();
        if due.is_none() && ends > 0 {
            let first = text.split(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
            let count: usize = first.and_then(|line| line.parse().ok()).ok_or_else(damaged)?;
            due = Some(count.checked_mul(2).and_then(|lines| lines.checked_add(1)).ok_or_else(damaged)?);
        }
    }
    let extents = holes::read_map(text.as_slice()).map_err(|_| damaged())?;
    let mut at = 0;
    for extent in &extents {
        let end = extent.offset.checked_add(extent.len).ok_or_else(damaged)?;
        if extent.offset < at || end > found.size() {
            return Err(damaged().into());
        }
        at = end;
    }
    let stored: u64 = extents.iter().map(|extent| extent.len).sum();
    if found.stored.checked_sub(text.len() as u64).is_none_or(|len| len != stored && len != padded(stored)) {
        return Err(damaged().into());
    }
    Ok(extents)
}

pub fn hash_zeros(hasher: &mut Sha256, mut len: u64) {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while len > 0 {
        let part = len.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..part as usize]);
        len -= part;
    }
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256(file: &File) -> io::Result<String> {
    let (mut hasher, mut buffer, mut at) = (Sha256::new(), vec![0; COPY_LEN], 0);
    loop {
        let len = file.read_at(&mut buffer, at)?;
        if len == 0 {
            return Ok(hex(hasher));
        }
        hasher.update(&buffer[..len]);
        at += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{
        entry::{Kind, Meta},
        header::{Body, Spec, plain_dir},
    };
    use std::cell::Cell;

    struct Counted<'a, R>(R, &'a Cell<u64>);

    impl<R: Read> Read for Counted<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.read(buffer)?;
            self.1.set(self.1.get() + len as u64);
            Ok(len)
        }
    }

    #[test]
    fn a_map_of_a_billion_regions_is_refused_before_it_takes_the_memory() {
        let meta = Meta { kind: Kind::File, ..plain_dir() };
        let body = Body::Sparse { stored: 1 << 40, real: 1 << 40 };
        let header = Spec { name: b"f", meta: &meta, body, user: "", group: "", xattrs: &[] }.build();
        let read = Cell::new(0);
        let lies = b"1000000000\n".chain(io::repeat(b'\n'));
        let mut tar = TarReader::new(Counted(header.as_slice().chain(lies), &read));
        let found = tar.next_member().unwrap().unwrap();
        let err = hash_content(&mut tar, &found).unwrap_err();
        assert!(err.to_string().contains("the map of a sparse file is damaged"), "{err}");
        assert!(read.get() <= MAP_LEN_MAX as u64 + (1 << 20), "{} bytes were read", read.get());
    }
}
