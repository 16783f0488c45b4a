//! Opens again what was made, as strictly as the format allows.

use super::{
    CompressError, SLICE_LEN,
    codec::{XzReader, ZstdReader},
};
use crate::name::Compression;
use std::{
    error::Error,
    io::{self, Read, Write},
};

/// Decodes `output` to `clear`. Damage, a missing end and anything behind the end are errors.
pub fn prove(
    output: &mut (dyn Read + Send),
    clear: &mut (dyn Write + Send),
    method: Compression,
    threads: u32,
    memory: u64,
) -> Result<(), CompressError> {
    let mut output = Tagged(output);
    match method {
        // liblzma decodes blocks in parallel since each block header says both its sizes; with less memory in fewer
        // threads, down to none.
        Compression::Xz => pump(&mut XzReader::strict(&mut output, threads, memory).map_err(sort)?, clear),
        Compression::Zstd => pump(&mut ZstdReader::strict(&mut output).map_err(sort)?, clear),
        Compression::None => pump(&mut output, clear),
    }
}

fn pump(from: &mut dyn Read, clear: &mut dyn Write) -> Result<(), CompressError> {
    let mut buffer = vec![0; SLICE_LEN];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => clear.write_all(&buffer[..len]).map_err(CompressError::io(CompressError::Clear))?,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(sort(err)),
        }
    }
}

/// A failure to read is one thing, what was read another.
fn sort(err: io::Error) -> CompressError {
    if err.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Unread>) {
        let inner = err.into_inner().and_then(|inner| inner.downcast::<Unread>().ok());
        let source = inner.map_or_else(|| io::Error::other("lost"), |unread| unread.0);
        return CompressError::io(CompressError::ReadBack)(source);
    }
    match err.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => CompressError::Damaged(err),
        _ => CompressError::codec("decode the compressed form", err),
    }
}

/// Marks errors of the inner reader as such.
struct Tagged<'a>(&'a mut (dyn Read + Send));

#[derive(Debug, thiserror::Error)]
#[error("Cannot read")]
struct Unread(#[source] io::Error);

impl Read for Tagged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|err| match err.kind() {
            io::ErrorKind::Interrupted => err,
            _ => io::Error::other(Unread(err)),
        })
    }
}
