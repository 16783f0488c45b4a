//! Where a file has data and where it has holes, and how a tar says so (GNU sparse format 1.0).
//!
//! Holes are what `SEEK_DATA` and `SEEK_HOLE` call so, never what `st_blocks` suggests: some filesystems report no
//! blocks for files with data.

use super::header::{BLOCK, padded};
use rustix::fs::{SeekFrom, seek};
use std::{
    fs::File,
    io::{self, BufRead},
};

/// Past this many regions the rest of a file counts as data: the memory for the map stays bounded.
const EXTENTS_MAX: usize = 1_000_000;

/// A region with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the beginning of the range that was asked for.
    pub offset: u64,
    pub len: u64,
}

impl Extent {
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// Regions with data within `len` bytes from `start`, in order; what lies between reads as zeros. One region when
/// there are no holes, or when the filesystem cannot tell. Moves the position of `file`.
pub fn extents(file: &File, start: u64, len: u64) -> Vec<Extent> {
    let mut found: Vec<Extent> = Vec::new();
    let mut at = 0;
    while at < len {
        let data = match seek(file, SeekFrom::Data(start + at)) {
            Ok(data) => data.saturating_sub(start),
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => at,
        };
        if data >= len {
            break;
        }
        let hole = match seek(file, SeekFrom::Hole(start + data)) {
            Ok(hole) if hole > start + data && found.len() + 1 < EXTENTS_MAX => (hole - start).min(len),
            _ => len,
        };
        add(&mut found, data, hole, len);
        at = hole;
    }
    // What lies beyond the end of the file is no hole but lost, which only reading it finds out.
    let size = file.metadata().map_or(0, |meta| meta.len());
    if size < start + len {
        add(&mut found, size.saturating_sub(start), len, len);
    }
    found
}

/// GNU tar begins every region on a block of its own and bsdtar does not: with whole blocks both agree.
fn add(found: &mut Vec<Extent>, from: u64, to: u64, len: u64) {
    let (from, to) = (from / BLOCK * BLOCK, padded(to).min(len));
    match found.last_mut() {
        Some(last) if from <= last.end() => last.len = last.len.max(to - last.offset),
        _ => found.push(Extent { offset: from, len: to - from }),
    }
}

/// Whether these regions leave anything out.
pub fn is_dense(extents: &[Extent], len: u64) -> bool {
    len == extents.iter().map(|extent| extent.len).sum::<u64>()
}

/// The map at the head of the data: decimal lines, then zeros to the end of the block. It ends with an empty region
/// where a hole ends the file.
pub fn map(extents: &[Extent], len: u64) -> Vec<u8> {
    let end = (extents.last().is_none_or(|last| last.end() < len)).then_some(Extent { offset: len, len: 0 });
    let mut text = format!("{}\n", extents.len() + usize::from(end.is_some()));
    for extent in extents.iter().chain(&end) {
        text.push_str(&format!("{}\n{}\n", extent.offset, extent.len));
    }
    let mut map = text.into_bytes();
    map.resize(padded(map.len() as u64) as usize, 0);
    map
}

/// The regions of a map that was written by [`map`], with the empty one at the end.
pub fn read_map(text: impl BufRead) -> io::Result<Vec<Extent>> {
    let mut lines = text.lines();
    let mut number = || -> io::Result<u64> {
        let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        line.parse().map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
    };
    let count = number()?;
    (0..count).map(|_| Ok(Extent { offset: number()?, len: number()? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn sparse() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"x", 4096 * 3 + 7).unwrap();
        file.write_all_at(b"y", 4096 * 100).unwrap();
        file
    }

    fn list(file: &File, start: u64, len: u64) -> Vec<(u64, u64)> {
        extents(file, start, len).iter().map(|extent| (extent.offset, extent.len)).collect()
    }

    #[test]
    fn regions_are_relative_to_the_range_and_made_of_whole_blocks() {
        let file = sparse();
        assert_eq!(list(&file, 0, 1 << 20), [(12_288, 4096), (409_600, 4096)]);
        assert_eq!(list(&file, 12_300, 8192), [(0, 4096)]);
        assert_eq!(list(&file, 300, 13_000), [(11_776, 1224)]);
        assert_eq!(list(&file, 500_000, 1000), []);
        assert_eq!(list(&file, 0, 0), []);
    }

    #[test]
    fn beyond_the_end_is_no_hole() {
        let file = sparse();
        assert_eq!(list(&file, 1 << 20, 1000), [(0, 1000)]);
        assert_eq!(list(&file, 2 << 20, 1000), [(0, 1000)]);
        assert_eq!(list(&file, (1 << 20) - 600, 1000), [(512, 488)]);
    }

    #[test]
    fn a_file_that_cannot_tell_is_all_data() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(list(&file, 0, 1000), [(0, 1000)]);
        assert!(is_dense(&extents(&file, 0, 1000), 1000));
    }

    #[test]
    fn the_map_says_where_the_file_ends() {
        let said = |extents: &[Extent], len| {
            let map = map(extents, len);
            assert_eq!(map.len() as u64 % BLOCK, 0);
            String::from_utf8(map).unwrap().trim_end_matches('\0').replace('\n', " ")
        };
        let extent = |offset, len| Extent { offset, len };
        assert_eq!(said(&[extent(499_712, 4096)], 1_048_576), "2 499712 4096 1048576 0 ");
        assert_eq!(said(&[extent(512, 88)], 600), "1 512 88 ");
        assert_eq!(said(&[], 1 << 40), "1 1099511627776 0 ");
    }
}
