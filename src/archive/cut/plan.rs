//! What a cut yields.

use crate::{
    archive::{
        entry::{Entry, Walked},
        items::Items,
    },
    path::SourcePath,
};

/// Which part of a large file a plan is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPlan {
    /// From 1.
    pub index: u32,
    pub count: u32,
    /// Of its first byte in the file.
    pub offset: u64,
    /// Bytes of the file in this segment.
    pub len: u64,
    /// As fixed at the first segment.
    pub file: Entry,
}

/// What one piece is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In walk order. Of a segment exactly one entry, the whole file; the first segment may have left-out items
    /// before it, and the last one those that follow the file.
    pub items: Items,
    /// Estimate of the whole tar: ancestors of the first entry, all entries, and [`TAR_END`](super::TAR_END). More than
    /// `max_size` only where a single unit is and cannot be parted, and in a resumed draft.
    pub tar_size: u64,
    /// Entries, without ancestors; 0 only in a resumed draft, and when nothing but left-out items is left.
    pub members: u64,
    pub segment: Option<SegmentPlan>,
}

impl Plan {
    /// The entry whose ancestors the piece needs.
    pub fn first_entry(&self) -> Option<Entry> {
        self.items.iter().find_map(|item| match item {
            Walked::Entry(entry) => Some(entry),
            _ => None,
        })
    }

    /// The last path that was seen for this piece: the next one begins after it.
    pub fn last(&self) -> Option<SourcePath> {
        self.items.last().map(|item| item.path().clone())
    }
}
