//! The names in one directory, whole and sorted by their bytes, as small as they can be kept: a directory may
//! hold millions.

use rustix::{
    fd::BorrowedFd,
    fs::{FileType, RawDir, SeekFrom, seek},
    io::Errno,
};
use std::{cmp::Ordering, ffi::CStr};

/// Bytes that the kernel may fill with names at once.
pub const BUF_LEN: usize = 256 * 1024;
/// Most bytes of names in one directory: a filesystem whose list never ends must not take all memory.
const ARENA_LEN_MAX: usize = 16 << 30;
/// How often a directory is listed when reading its names fails halfway.
const TRIES: usize = 3;

/// Bytes in front of each name in the arena: its length.
const LEN_LEN: usize = size_of::<u16>();
/// Bits of [`Name::at`] that hold the type that the listing told.
const TYPE_BITS: u32 = 8;

/// 16 bytes for each name, in order; the names themselves lie in one arena, each with its length in front and a
/// NUL behind, which the kernel wants.
#[derive(Debug, Default)]
pub struct Listing {
    arena: Vec<u8>,
    names: Vec<Name>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    /// The first 8 bytes, big-endian, so that most comparisons while sorting stay out of the arena.
    head: u64,
    /// Where it begins in the arena, shifted, and its type.
    at: u64,
}

impl Listing {
    /// All names in `dir` but `.` and `..`. `buf` is room for the kernel's answers, kept between directories.
    pub fn read(dir: BorrowedFd<'_>, buf: &mut Vec<u8>) -> Result<Listing, Errno> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match Listing::read_once(dir, buf) {
                // What failed halfway may pass, on a network at least; half a listing is none.
                Err(errno) if 0 < tries && !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::OVERFLOW) => {
                    seek(dir, SeekFrom::Start(0))?;
                }
                done => return done,
            }
        }
    }

    fn read_once(dir: BorrowedFd<'_>, buf: &mut Vec<u8>) -> Result<Listing, Errno> {
        buf.clear();
        buf.reserve(BUF_LEN);
        let mut listing = Listing::default();
        let mut found = RawDir::new(dir, buf.spare_capacity_mut());
        while let Some(entry) = found.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                // Not a name: such a filesystem is damaged, or hostile.
                name if name.is_empty() || name.contains(&b'/') => return Err(Errno::IO),
                name => listing.push(name, entry.file_type())?,
            }
        }
        listing.sort();
        Ok(listing)
    }

    fn push(&mut self, name: &[u8], file_type: FileType) -> Result<(), Errno> {
        let len = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        if ARENA_LEN_MAX < self.arena.len() {
            return Err(Errno::OVERFLOW);
        }
        self.names.push(Name { head: head(name), at: (self.arena.len() as u64) << TYPE_BITS | code(file_type) });
        self.arena.extend_from_slice(&len.to_ne_bytes());
        self.arena.extend_from_slice(name);
        self.arena.push(0);
        Ok(())
    }

    fn sort(&mut self) {
        let Listing { arena, names } = self;
        // Growing has left up to half of both empty, and a listing lives as long as the walk is below it.
        arena.shrink_to_fit();
        let order = |one: &Name, other: &Name| match one.head.cmp(&other.head) {
            Ordering::Equal => name_at(arena, one.at).cmp(name_at(arena, other.at)),
            order => order,
        };
        names.sort_unstable_by(order);
        // Some filesystems tell a name twice when the directory changes while it is read.
        names.dedup_by(|later, first| order(later, first).is_eq());
        names.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn name(&self, index: usize) -> &[u8] {
        name_at(&self.arena, self.names[index].at)
    }

    pub fn c_name(&self, index: usize) -> &CStr {
        let begin = (self.names[index].at >> TYPE_BITS) as usize + LEN_LEN;
        let end = begin + self.name(index).len();
        CStr::from_bytes_with_nul(&self.arena[begin..=end]).expect("a name was pushed with one NUL, behind it")
    }

    /// As the listing told it; many filesystems tell nothing.
    pub fn file_type(&self, index: usize) -> FileType {
        type_of(self.names[index].at as u8)
    }

    /// Index of the first name that is not before `name`.
    pub fn lower_bound(&self, name: &[u8]) -> usize {
        self.names.partition_point(|other| name_at(&self.arena, other.at) < name)
    }

    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let index = self.lower_bound(name);
        (index < self.len() && self.name(index) == name).then_some(index)
    }
}

fn name_at(arena: &[u8], at: u64) -> &[u8] {
    let begin = (at >> TYPE_BITS) as usize;
    let len = u16::from_ne_bytes([arena[begin], arena[begin + 1]]);
    &arena[begin + LEN_LEN..][..usize::from(len)]
}

/// Shorter names are filled up with zeros, which no name holds, so equal heads of different names can only be
/// those of names that are both longer.
fn head(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = name.len().min(bytes.len());
    bytes[..len].copy_from_slice(&name[..len]);
    u64::from_be_bytes(bytes)
}

fn code(file_type: FileType) -> u64 {
    match file_type {
        FileType::Directory => 1,
        FileType::RegularFile => 2,
        FileType::Unknown => 0,
        _ => 3,
    }
}

/// What is neither a directory nor a regular file is all the same here.
fn type_of(code: u8) -> FileType {
    match code {
        1 => FileType::Directory,
        2 => FileType::RegularFile,
        3 => FileType::Symlink,
        _ => FileType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn listing(names: &[Vec<u8>]) -> Listing {
        let mut listing = Listing::default();
        for name in names {
            listing.push(name, FileType::RegularFile).unwrap();
        }
        listing.sort();
        listing
    }

    proptest! {
        #[test]
        fn names_come_once_and_in_the_order_of_their_bytes(
            names in prop::collection::vec(prop::collection::vec(prop_oneof![Just(1u8), Just(b'a'), Just(255)], 1..12), 0..40)
        ) {
            let listing = listing(&names);
            let expected: BTreeSet<_> = names.iter().cloned().collect();
            let told: Vec<_> = (0..listing.len()).map(|index| listing.name(index).to_vec()).collect();
            prop_assert_eq!(&told, &expected.into_iter().collect::<Vec<_>>());
            for (index, name) in told.iter().enumerate() {
                prop_assert_eq!(listing.find(name), Some(index));
                prop_assert_eq!(listing.c_name(index).to_bytes(), &name[..]);
            }
            prop_assert_eq!(listing.find(b"b"), None);
        }
    }

    #[test]
    fn a_million_names_cost_less_than_40_bytes_each_beyond_themselves() {
        let mut listing = Listing::default();
        let mut own_len = 0;
        for number in 0..1_000_000 {
            let name = format!("IMG_{number:08}.jpeg");
            own_len += name.len();
            listing.push(name.as_bytes(), FileType::RegularFile).unwrap();
        }
        // While it is read, vectors have grown to up to twice what they hold, and keep it until it is sorted.
        let growing = listing.arena.capacity() + listing.names.capacity() * size_of::<Name>();
        listing.sort();
        let kept = listing.arena.capacity() + listing.names.capacity() * size_of::<Name>();
        assert!(kept - own_len < 20 * 1_000_000, "{kept} for {own_len}");
        assert!(growing - own_len < 40 * 1_000_000, "{growing} for {own_len}");
    }
}
