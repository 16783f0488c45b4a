//! The items that were looked at and are in no plan yet, and how large each directory among them is.
//!
//! Every item is pushed and popped once, and a directory is closed once: constant work per item whatever the
//! depth, apart from comparing its path with the one before. Sizes of directories are differences of running
//! sums, so nothing is added up level by level.

use super::Limits;
use crate::{
    archive::{
        entry::{Entry, Kind, Walked},
        items::Items,
    },
    path::SourcePath,
};
use std::collections::VecDeque;

/// Slots for which there is always room.
const SLOTS_MIN: usize = 4096;

pub(super) struct Ahead {
    limits: Limits,
    items: Items,
    /// One for each item.
    slots: VecDeque<Slot>,
    /// Running number of the slot in front, from 1.
    head: u64,
    /// The directories that the last item pushed lies in, from the top down; whether their slots are still here
    /// or not.
    open: Vec<Open>,
    /// Path of the last item pushed. Every open directory is a prefix of it.
    last: Vec<u8>,
    /// Sums over all entries ever pushed. A million sizes of 2^64 fit.
    size: u128,
    members: u64,
}

struct Slot {
    /// Bytes of the headers of its ancestors.
    above: u64,
    /// Bytes of the member itself.
    own: u64,
    /// Bytes and members with all that is in it, once that is known; before, `members` is 0.
    size: u64,
    members: u64,
}

struct Open {
    /// Bytes of its path.
    len: usize,
    /// Running number of its slot. One that never came, because the walk began inside of it, has that of the
    /// directory above it, or 0.
    at: u64,
    came: bool,
    /// The sums before it.
    size: u128,
    members: u64,
    /// Bytes of the headers of all ancestors of what is in it.
    below: u64,
}

/// What is known of the entry in front with all that is in it.
pub(super) struct Tree {
    pub above: u64,
    pub own: u64,
    /// Bytes and members as far as looked at.
    pub size: u64,
    pub members: u64,
    /// Whether that is all of it.
    pub is_whole: bool,
}

impl Ahead {
    pub fn new(limits: Limits) -> Ahead {
        Ahead {
            limits,
            items: Items::default(),
            slots: VecDeque::new(),
            head: 1,
            open: Vec::new(),
            last: Vec::new(),
            size: 0,
            members: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn front(&self) -> Option<&Walked> {
        self.items.first()
    }

    /// The entry in front with the bytes above it and its own; `None` for a left-out item.
    pub fn front_entry(&self) -> Option<(&Entry, u64, u64)> {
        match (self.items.first()?, self.slots.front()?) {
            (Walked::Entry(entry), slot) => Some((entry, slot.above, slot.own)),
            _ => None,
        }
    }

    /// To be asked only while there is an entry in front.
    pub fn front_tree(&self) -> Tree {
        let slot = self.slots.front().expect("asked for only while there is an item");
        let (above, own) = (slot.above, slot.own);
        if slot.members > 0 {
            return Tree { above, own, size: slot.size, members: slot.members, is_whole: true };
        }
        // Below it on the stack are only directories that were popped.
        let open = &self.open[self.open.partition_point(|open| open.at < self.head)];
        let (size, members) = self.since(open);
        Tree { above, own, size, members, is_whole: false }
    }

    pub fn push(&mut self, item: Walked) {
        self.leave_for(&item);
        self.last.clear();
        self.last.extend_from_slice(item.path().as_bytes());
        let slot = match &item {
            Walked::Entry(entry) => {
                let above = self.enter(&entry.path);
                let own = (self.limits.estimate)(entry);
                let is_dir = entry.meta.kind == Kind::Dir;
                if is_dir {
                    let below = above.saturating_add((self.limits.ancestor)(&entry.path));
                    self.open(entry.path.as_bytes().len(), Some(self.head + self.slots.len() as u64), below);
                }
                self.size += u128::from(own);
                self.members += 1;
                Slot { above, own, size: own, members: u64::from(!is_dir) }
            }
            _ => Slot { above: 0, own: 0, size: 0, members: 0 },
        };
        self.items.push(item);
        self.slots.push_back(slot);
    }

    /// The walk has ended: every directory is all here.
    pub fn end(&mut self) {
        while self.close() {}
    }

    pub fn pop(&mut self) -> Option<Walked> {
        let item = self.items.pop()?;
        self.slots.pop_front();
        self.head += 1;
        if self.slots.is_empty() {
            self.slots.shrink_to(SLOTS_MIN);
        }
        Some(item)
    }

    /// Puts everything in front of `again`, in order, and forgets it.
    pub fn put_back(&mut self, again: &mut VecDeque<Items>) {
        let Ahead { items, .. } = std::mem::replace(self, Ahead::new(self.limits));
        again.push_front(items);
    }

    /// Closes the directories that `item` lies not in.
    fn leave_for(&mut self, item: &Walked) {
        let path = item.path().as_bytes();
        let is_entry = matches!(item, Walked::Entry(_));
        let same = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        while let Some(top) = self.open.last() {
            let len = top.len;
            let within = match path.get(len) {
                _ if len > same => false,
                // A left-out item may tell of the directory itself, which could not be listed to its end.
                None => !is_entry,
                Some(next) => len == 0 || *next == b'/',
            };
            if within {
                break;
            }
            self.close();
        }
    }

    /// Bytes of the headers above `path`. Directories above it that never came stand in the stack from now on:
    /// the walk began inside of them.
    fn enter(&mut self, path: &SourcePath) -> u64 {
        let Some(slash) = path.as_bytes().iter().rposition(|b| *b == b'/').or((!path.is_root()).then_some(0)) else {
            return 0;
        };
        if self.open.last().is_none_or(|top| top.len < slash) {
            for dir in path.ancestors() {
                if self.open.last().is_none_or(|top| top.len < dir.as_bytes().len()) {
                    let above = self.open.last().map_or(0, |top| top.below);
                    self.open(dir.as_bytes().len(), None, above.saturating_add((self.limits.ancestor)(&dir)));
                }
            }
        }
        self.open.last().map_or(0, |top| top.below)
    }

    fn open(&mut self, len: usize, slot: Option<u64>, below: u64) {
        let at = slot.or(self.open.last().map(|above| above.at)).unwrap_or(0);
        self.open.push(Open { len, at, came: slot.is_some(), size: self.size, members: self.members, below });
    }

    /// Closes the innermost directory; `false` when none is open.
    fn close(&mut self) -> bool {
        let Some(open) = self.open.pop() else { return false };
        let (size, members) = self.since(&open);
        if open.came
            && let Some(at) = open.at.checked_sub(self.head)
            && let Some(slot) = self.slots.get_mut(at as usize)
        {
            (slot.size, slot.members) = (size, members);
        }
        true
    }

    fn since(&self, open: &Open) -> (u64, u64) {
        (u64::try_from(self.size - open.size).unwrap_or(u64::MAX), self.members - open.members)
    }
}
