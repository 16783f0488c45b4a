//! How a file that is larger than a piece is parted.

use super::{Limits, SegmentPlan, TAR_END};
use crate::archive::entry::Entry;

const BLOCK: u64 = 512;
/// Segments are multiples of this, where the cap leaves room for one.
const GRAIN: u64 = 64 << 10;
/// Bytes kept free in each segment's piece for metadata that `stat` does not tell, such as large xattrs; of a
/// small cap a sixteenth.
const METADATA_MAX: u64 = 1 << 20;

/// The segments of one file that are still to be made.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    /// As fixed at the first one.
    pub file: Entry,
    count: u32,
    /// Bytes of every segment but the last.
    len: u64,
    /// From 1.
    pub next: u32,
    /// Bytes of each tar that are not data.
    overhead: u64,
}

impl Segments {
    /// `None` when headers leave no room for a block of data, or one segment would do: then the file has to
    /// stay in one piece, however large. `forced`: it did not fit, whatever the estimate says, so it is halved.
    pub fn layout(file: &Entry, above: u64, limits: &Limits, forced: bool) -> Option<Segments> {
        let overhead = overhead(file, above, limits);
        let spare = (limits.max_size / 16).min(METADATA_MAX);
        let room = limits.max_size.checked_sub(overhead)?.checked_sub(spare)?;
        let len = round_down(room, if room >= GRAIN { GRAIN } else { BLOCK });
        let len = if forced { len.min(padded(file.meta.size.div_ceil(2))) } else { len };
        if len == 0 || file.meta.size <= len {
            return None;
        }
        // Only a file of holes can be so large that its segments could not be numbered.
        let len = len.max(file.meta.size.div_ceil(u64::from(u32::MAX)).next_multiple_of(BLOCK));
        let count = u32::try_from(file.meta.size.div_ceil(len)).expect("the length makes the count fit");
        Some(Segments { file: file.clone(), count, len, next: 1, overhead })
    }

    /// As another run laid it out.
    pub fn resume(file: Entry, count: u32, len: u64, next: u32, limits: &Limits) -> Segments {
        let overhead = overhead(&file, limits.above(&file.path), limits);
        Segments { file, count, len, next, overhead }
    }

    pub fn is_last(&self) -> bool {
        self.next >= self.count
    }

    /// On to the next one; `false` when there is none.
    pub fn advance(&mut self) -> bool {
        let more = !self.is_last();
        self.next = self.next.saturating_add(1);
        more
    }

    pub fn plan(&self) -> SegmentPlan {
        let offset = u64::from(self.next.saturating_sub(1)).saturating_mul(self.len);
        let rest = self.file.meta.size.saturating_sub(offset);
        let len = if self.is_last() { rest } else { rest.min(self.len) };
        SegmentPlan { index: self.next, count: self.count, offset, len, file: self.file.clone() }
    }

    pub fn tar_size(&self) -> u64 {
        self.overhead.saturating_add(padded(self.plan().len))
    }
}

/// Bytes of a segment's tar that are not data. Its name is longer than that of the file, and it may be as large.
fn overhead(file: &Entry, above: u64, limits: &Limits) -> u64 {
    let member = Entry { path: file.path.join(b"000001"), meta: file.meta.clone() };
    let header = (limits.estimate)(&member).saturating_sub(padded(file.meta.size));
    header.saturating_add(above).saturating_add(TAR_END)
}

fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

fn round_down(size: u64, grain: u64) -> u64 {
    size - size % grain
}
