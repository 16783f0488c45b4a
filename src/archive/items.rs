//! Items of a walk in a queue, as small as they can be kept: a piece may hold millions of them. An entry takes a few
//! dozen bytes, because neighbors have much in common: it is told as its difference from the entry before.

#[cfg(test)]
#[path = "items_tests.rs"]
mod tests;

use super::entry::{Entry, Kind, Meta, Stamp, Walked};
use crate::path::SourcePath;
use std::{
    collections::{VecDeque, vec_deque},
    fmt,
};

/// Bytes that were read stay in front of the others until there are this many, and as many as are left.
const SPENT_LEN_MAX: usize = 64 * 1024;
/// Of [`Items::bytes`], in front of an item that stands in [`Items::others`].
const OTHER: u8 = 255;

const KINDS: [Kind; 7] =
    [Kind::Dir, Kind::File, Kind::Symlink, Kind::Fifo, Kind::CharDevice, Kind::BlockDevice, Kind::Socket];

#[derive(Clone, Default)]
pub struct Items {
    /// The first one, so that it can be looked at.
    front: Option<Walked>,
    /// Entries behind it, each as its difference from the one before.
    bytes: Vec<u8>,
    /// How many of the bytes were read.
    spent: usize,
    /// Items behind the first that are no entries; they are few.
    others: VecDeque<Walked>,
    len: usize,
    /// The entry from which the next one that is read differs.
    read: Known,
    /// The entry from which the next one that is written differs.
    written: Known,
    /// Whether the item at the end is an entry; meaningless up to one item.
    ends_in_entry: bool,
}

impl Items {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn first(&self) -> Option<&Walked> {
        self.front.as_ref()
    }

    pub fn last(&self) -> Option<Walked> {
        match self.len {
            0 | 1 => self.front.clone(),
            _ if self.ends_in_entry => Some(Walked::Entry(self.written.entry())),
            _ => self.others.back().cloned(),
        }
    }

    pub fn push(&mut self, item: Walked) {
        self.len += 1;
        self.ends_in_entry = matches!(item, Walked::Entry(_));
        match item {
            item if self.front.is_none() => self.front = Some(item),
            Walked::Entry(entry) => self.written.write(&entry, &mut self.bytes),
            other => {
                self.bytes.push(OTHER);
                self.others.push_back(other);
            }
        }
    }

    pub fn pop(&mut self) -> Option<Walked> {
        let front = self.front.take()?;
        self.len -= 1;
        if self.len == 0 {
            self.bytes.clear();
            self.bytes.shrink_to(SPENT_LEN_MAX);
            self.spent = 0;
        } else {
            let mut rest = &self.bytes[self.spent..];
            let is_other = rest[0] == OTHER;
            self.front = if is_other {
                rest = &rest[1..];
                self.others.pop_front()
            } else {
                self.read.read(&mut rest);
                Some(Walked::Entry(self.read.entry()))
            };
            self.spent = self.bytes.len() - rest.len();
            if self.spent >= SPENT_LEN_MAX && self.spent >= self.bytes.len() / 2 {
                self.bytes.drain(..self.spent);
                self.spent = 0;
            }
        }
        Some(front)
    }

    /// What is there now in place of the first item.
    pub fn replace_first(&mut self, item: Walked) {
        debug_assert!(self.front.is_some(), "there is an item to be replaced");
        self.front = Some(item);
    }

    /// Takes the items behind the first `at` ones.
    pub fn split_off(&mut self, at: usize) -> Items {
        let mut first = Items::default();
        for _ in 0..at {
            first.extend(self.pop());
        }
        std::mem::replace(self, first)
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter {
            front: self.front.as_ref(),
            rest: &self.bytes[self.spent..],
            others: self.others.iter(),
            read: self.read.clone(),
        }
    }

    pub fn to_vec(&self) -> Vec<Walked> {
        self.iter().collect()
    }
}

pub struct Iter<'a> {
    front: Option<&'a Walked>,
    rest: &'a [u8],
    others: vec_deque::Iter<'a, Walked>,
    read: Known,
}

impl Iterator for Iter<'_> {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        if let Some(front) = self.front.take() {
            return Some(front.clone());
        }
        match self.rest.split_first()? {
            (&OTHER, rest) => {
                self.rest = rest;
                self.others.next().cloned()
            }
            _ => {
                self.read.read(&mut self.rest);
                Some(Walked::Entry(self.read.entry()))
            }
        }
    }
}

impl Extend<Walked> for Items {
    fn extend<I: IntoIterator<Item = Walked>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl FromIterator<Walked> for Items {
    fn from_iter<I: IntoIterator<Item = Walked>>(items: I) -> Items {
        let mut all = Items::default();
        all.extend(items);
        all
    }
}

impl From<Vec<Walked>> for Items {
    fn from(items: Vec<Walked>) -> Items {
        items.into_iter().collect()
    }
}

impl IntoIterator for Items {
    type Item = Walked;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(self)
    }
}

pub struct IntoIter(Items);

impl Iterator for IntoIter {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        self.0.pop()
    }
}

impl PartialEq for Items {
    fn eq(&self, other: &Items) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Items {}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// An entry that was written or read, to tell the next one from it.
#[derive(Clone, Default)]
struct Known {
    path: Vec<u8>,
    /// Kind, mode, owner, group, size, the two stamps, device, inode, links and device number.
    fields: [u64; FIELDS],
}

const FIELDS: usize = 13;

impl Known {
    fn entry(&self) -> Entry {
        let [kind, mode, uid, gid, size, mtime, mtime_ns, ctime, ctime_ns, dev, ino, nlink, rdev] = self.fields;
        let stamp = |sec: u64, nsec: u64| Stamp { sec: sec.cast_signed(), nsec: nsec as u32 };
        let meta = Meta {
            kind: KINDS[kind as usize],
            mode: mode as u32,
            uid: uid as u32,
            gid: gid as u32,
            size,
            mtime: stamp(mtime, mtime_ns),
            ctime: stamp(ctime, ctime_ns),
            dev,
            ino,
            nlink,
            rdev,
        };
        Entry { path: SourcePath::from_joined(&self.path), meta }
    }

    fn write(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        let (path, meta) = (entry.path.as_bytes(), &entry.meta);
        let same = self.path.iter().zip(path).take_while(|(a, b)| a == b).count();
        let kind = KINDS.iter().position(|kind| *kind == meta.kind).unwrap_or_default();
        let fields = [
            kind as u64,
            meta.mode.into(),
            meta.uid.into(),
            meta.gid.into(),
            meta.size,
            meta.mtime.sec.cast_unsigned(),
            meta.mtime.nsec.into(),
            meta.ctime.sec.cast_unsigned(),
            meta.ctime.nsec.into(),
            meta.dev,
            meta.ino,
            meta.nlink,
            meta.rdev,
        ];
        // How many fields are told comes first, which is never OTHER.
        let told = (0..FIELDS).filter(|at| fields[*at] != self.fields[*at]);
        out.push(told.clone().count() as u8);
        for at in told {
            out.push(at as u8);
            write_number(out, zigzag(fields[at].wrapping_sub(self.fields[at]).cast_signed()));
        }
        write_number(out, same as u64);
        write_number(out, (path.len() - same) as u64);
        out.extend_from_slice(&path[same..]);
        self.path.truncate(same);
        self.path.extend_from_slice(&path[same..]);
        self.fields = fields;
    }

    fn read(&mut self, from: &mut &[u8]) {
        for _ in 0..take(from, 1)[0] {
            let at = usize::from(take(from, 1)[0]);
            self.fields[at] = self.fields[at].wrapping_add(unzigzag(read_number(from)).cast_unsigned());
        }
        let same = read_number(from) as usize;
        let len = read_number(from) as usize;
        self.path.truncate(same);
        self.path.extend_from_slice(take(from, len));
    }
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = from.split_at(len);
    *from = rest;
    taken
}

/// Small differences in either direction as small numbers.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Seven bits in a byte, the lowest first; all but the last have the eighth set.
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(from: &mut &[u8]) -> u64 {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let byte = take(from, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
}
