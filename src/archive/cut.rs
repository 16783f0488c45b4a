//! From the walk to plans of pieces. Pure and streaming: no I/O, no clock, one look at every item.
//!
//! What it promises, as long as nothing is handed back:
//!
//! 1. The concatenation of all plans is the walk: nothing missing, twice, or out of order.
//! 2. By estimate, no plan is larger than `max_size` or has more than `max_members` members.
//! 3. A directory that fits into one piece is never split.
//! 4. One that does not is entered: its own header is a unit, then its children by the same rules.
//! 5. Greedy: the unit that opens a piece would not have fitted into the one before it (segments excepted).
//! 6. It looks no further ahead than one piece's worth of entries and one item, and what it looked at is used.
//!
//! The state after a plan is that of a new cut over the rest of the walk. So a pass resumes at any end of a
//! plan, and handing back is nothing but putting items in front of that rest.
//!
//! Excluded and skipped items cost nothing and ride with the piece of the entry before them; those before any
//! entry ride with the first piece. A file that is larger than a piece becomes segments, in pieces of their own.

mod ahead;
mod plan;
mod segments;
#[cfg(test)]
mod tests;

use crate::{
    archive::{
        entry::{Entry, Kind, Walked},
        items::Items,
    },
    path::SourcePath,
};
use ahead::Ahead;
pub use plan::{Plan, SegmentPlan};
use segments::Segments;
use std::collections::VecDeque;

/// Bytes of the two zero blocks that end a tar.
pub const TAR_END: u64 = 1024;

/// How large pieces may be, and how large an entry will be in a tar by what `stat` alone tells; given by the
/// caller so that the cut stays pure.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a tar with everything in it.
    pub max_size: u64,
    /// Members of a piece, ancestors not counted; 0 is taken as 1.
    pub max_members: u64,
    /// Bytes of this entry as a member: header blocks and padded data.
    pub estimate: fn(&Entry) -> u64,
    /// Bytes of the header of this directory where it is an ancestor.
    pub ancestor: fn(&SourcePath) -> u64,
}

impl Limits {
    fn fits(&self, size: u64, members: u64) -> bool {
        size <= self.max_size && members <= self.max_members.max(1)
    }

    /// Bytes of the headers of all directories above `path`.
    fn above(&self, path: &SourcePath) -> u64 {
        path.ancestors().iter().fold(0, |sum: u64, dir| sum.saturating_add((self.ancestor)(dir)))
    }
}

/// The plan that is being filled; kept here while an error of the walk interrupts it.
#[derive(Debug, Default)]
struct Filling {
    items: Items,
    /// As [`Plan::tar_size`]; meaningless before the first entry.
    size: u64,
    members: u64,
}

/// The next thing that is not parted: an entry, or a directory with all that is in it.
struct Unit {
    size: u64,
    members: u64,
    /// Whether it fits into an empty piece.
    fits_alone: bool,
}

/// Cuts a walk into plans. `W` yields items in walk order, every directory before what is in it. An error is
/// passed on and nothing read so far is lost: asking again goes on. `None` of the walk is the end of the source.
pub struct Cut<W> {
    walk: W,
    limits: Limits,
    /// The walk has yielded `None`, or an item after `end`.
    ended: bool,
    end: Option<SourcePath>,
    /// Its item stands in the walk still and is not to be used: the segments of this file stand for it.
    spent: Option<SourcePath>,
    /// Files that are packed in segments and were not there any more when the walk came to them.
    missed: u64,
    /// Read before and put back, in several lots; in front of the walk.
    again: VecDeque<Items>,
    ahead: Ahead,
    filling: Filling,
    /// The next plan goes up to here and no further.
    draft: Option<SourcePath>,
    segments: Option<Segments>,
    /// This file did not fit into a piece, although by its estimate it does.
    forced: Option<SourcePath>,
    /// The segment that the last plan was.
    last_segment: Option<Segments>,
}

impl<W, E> Cut<W>
where
    W: Iterator<Item = Result<Walked, E>>,
{
    pub fn new(walk: W, limits: Limits) -> Self {
        Cut {
            walk,
            limits,
            ended: false,
            end: None,
            spent: None,
            missed: 0,
            again: VecDeque::new(),
            ahead: Ahead::new(limits),
            filling: Filling::default(),
            draft: None,
            segments: None,
            forced: None,
            last_segment: None,
        }
    }

    /// A draft that goes on after a restart: the next plan takes every item up to and including `last`, whatever
    /// the estimates say, and none after it; the packer holds the limits by handing back. That plan always
    /// comes, also when nothing is left to take, so that the draft can be finished.
    pub fn resume_draft(&mut self, last: SourcePath) {
        self.draft = Some(last);
    }

    /// Segments of a large file go on at `next_index`, in the layout that the first one fixed. The walk must be
    /// positioned at the file itself: its item is dropped, and missed by nobody when it is not there any more.
    pub fn resume_segments(&mut self, file: Entry, count: u32, segment_len: u64, next_index: u32) {
        self.spent = Some(file.path.clone());
        self.segments = Some(Segments::resume(file, count, segment_len, next_index, &self.limits));
    }

    /// Ends the cut after the last item at or before `end`, as for a range that is packed again. To be called
    /// before the first plan; the item that lies after `end` is gone from the walk.
    pub fn stop_after(&mut self, end: SourcePath) {
        self.end = Some(end);
    }

    /// The next piece; `None` at the end of the walk.
    pub fn next_plan(&mut self) -> Result<Option<Plan>, E> {
        if self.draft.is_some() {
            return self.draft_plan().map(Some);
        }
        if self.segments.is_some() {
            return self.segment_plan().map(Some);
        }
        while self.look()? {
            let Some((entry, above, own)) = self.ahead.front_entry() else {
                self.take(0);
                continue;
            };
            let is_file = entry.meta.kind == Kind::File;
            // The least that will be taken is the entry itself, so a full piece is closed without a look into
            // the directory that comes next.
            if self.filling.members > 0 && !self.has_room(own, 1) {
                break;
            }
            let unit = self.unit()?;
            let forced = self.forced.is_some() && self.forced.as_ref() == self.ahead.front().map(Walked::path);
            if is_file
                && (!unit.fits_alone || forced)
                && let Some(segments) = self.layout()
            {
                if self.filling.members > 0 {
                    break;
                }
                self.ahead.pop();
                self.segments = Some(segments);
                return self.segment_plan().map(Some);
            }
            if self.filling.members > 0 && !self.has_room(unit.size, unit.members) {
                break;
            }
            if self.filling.members == 0 {
                self.filling.size = above.saturating_add(TAR_END);
            }
            self.filling.size = self.filling.size.saturating_add(unit.size);
            self.take(unit.members);
        }
        Ok(if self.filling.items.is_empty() { None } else { Some(self.close()) })
    }

    /// Puts the last items of the last plan back to the front of the walk, in order. They are used, not read
    /// again, and decided on afresh, so their metadata may be newer than it was.
    ///
    /// The first entry of a plan must not come back unchanged, or the same plan is made again and again. Of a
    /// segment, the first one may come back and the file is then laid out anew; a later one is only made again,
    /// since its layout stands in the pieces before it.
    pub fn hand_back(&mut self, mut items: Items) {
        if let Some(segments) = self.last_segment.clone()
            && items.iter().any(|item| is_entry_at(&item, &segments.file.path))
        {
            if segments.next > 1 {
                items = items.into_iter().filter(|item| !is_entry_at(item, &segments.file.path)).collect();
                self.segments = Some(segments);
            } else {
                self.segments = None;
            }
        }
        self.ahead.put_back(&mut self.again);
        self.again.push_front(std::mem::take(&mut self.filling).items);
        self.again.push_front(items);
    }

    /// The file that was handed back first does not fit into a piece, because of metadata that `stat` does not tell:
    /// it becomes segments, whatever its estimate says.
    pub fn force_segments(&mut self, file: SourcePath) {
        self.forced = Some(file);
    }

    /// Items that were read and are in no plan yet.
    pub fn looked_ahead(&self) -> usize {
        self.again.iter().map(Items::len).sum::<usize>() + self.ahead.len() + self.filling.items.len()
    }

    /// The walk itself, which is as far as [`looked_ahead`](Self::looked_ahead) says.
    pub fn walk(&self) -> &W {
        &self.walk
    }

    /// Entries that stand in pieces although the walk has not met them again: large files that are gone between two
    /// of their segments.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    fn draft_plan(&mut self) -> Result<Plan, E> {
        while self.look()? {
            let in_draft = |item: &Walked| self.draft.as_ref().is_some_and(|last| item.path() <= last);
            if !self.ahead.front().is_some_and(in_draft) {
                break;
            }
            let Some((_, above, own)) = self.ahead.front_entry() else {
                self.take(0);
                continue;
            };
            if self.filling.members == 0 {
                self.filling.size = above.saturating_add(TAR_END);
            }
            self.filling.size = self.filling.size.saturating_add(own);
            self.take(1);
        }
        self.draft = None;
        Ok(self.close())
    }

    /// The next segment. Only the last one reads on, for the left-out items that ride with it.
    fn segment_plan(&mut self) -> Result<Plan, E> {
        while self.segments.as_ref().is_some_and(Segments::is_last)
            && self.look()?
            && self.ahead.front_entry().is_none()
        {
            self.take(0);
        }
        let mut segments = self.segments.take().expect("asked for only while there are segments");
        let mut items = std::mem::take(&mut self.filling.items);
        let file = Walked::Entry(segments.file.clone());
        // Before the first segment there are left-out items in front of the file, after it only behind.
        let at = if segments.is_last() { 0 } else { items.len() };
        let behind = items.split_off(at);
        items.push(file);
        items.extend(behind);
        let plan = Plan { items, tar_size: segments.tar_size(), members: 1, segment: Some(segments.plan()) };
        self.filling = Filling::default();
        self.last_segment = Some(segments.clone());
        if segments.advance() {
            self.segments = Some(segments);
        }
        Ok(plan)
    }

    /// How the file in front is parted; `None` when not even its headers leave room for data.
    fn layout(&self) -> Option<Segments> {
        let (entry, above, _) = self.ahead.front_entry()?;
        Segments::layout(entry, above, &self.limits, self.forced.as_ref() == Some(&entry.path))
    }

    /// Looks ahead until it is clear whether the directory in front fits into one piece alone.
    fn unit(&mut self) -> Result<Unit, E> {
        loop {
            let tree = self.ahead.front_tree();
            let fits_alone =
                self.limits.fits(tree.above.saturating_add(TAR_END).saturating_add(tree.size), tree.members);
            if !fits_alone {
                return Ok(Unit { size: tree.own, members: 1, fits_alone });
            }
            if tree.is_whole {
                return Ok(Unit { size: tree.size, members: tree.members, fits_alone });
            }
            match self.pull()? {
                Some(item) => self.ahead.push(item),
                None => self.ahead.end(),
            }
        }
    }

    fn has_room(&self, size: u64, members: u64) -> bool {
        self.limits.fits(self.filling.size.saturating_add(size), self.filling.members.saturating_add(members))
    }

    /// Moves items into the piece until `entries` entries are taken, and one left-out item if that is 0.
    fn take(&mut self, entries: u64) {
        let mut left = entries;
        while let Some(item) = self.ahead.pop() {
            left = left.saturating_sub(u64::from(matches!(item, Walked::Entry(_))));
            self.filling.items.push(item);
            if left == 0 {
                break;
            }
        }
        self.filling.members = self.filling.members.saturating_add(entries);
    }

    fn close(&mut self) -> Plan {
        self.last_segment = None;
        let Filling { items, mut size, members } = std::mem::take(&mut self.filling);
        if members == 0 {
            // The root stands in every piece.
            size = (self.limits.ancestor)(&SourcePath::root()).saturating_add(TAR_END);
        }
        Plan { items, tar_size: size, members, segment: None }
    }

    /// Whether there is another item; reads one if none was looked at yet.
    fn look(&mut self) -> Result<bool, E> {
        if self.ahead.front().is_none()
            && let Some(item) = self.pull()?
        {
            self.ahead.push(item);
        }
        Ok(self.ahead.front().is_some())
    }

    /// The next item that was put back or stands in the walk.
    fn pull(&mut self) -> Result<Option<Walked>, E> {
        while let Some(lot) = self.again.front_mut() {
            match lot.pop() {
                Some(item) => return Ok(Some(item)),
                None => self.again.pop_front(),
            };
        }
        while !self.ended {
            let Some(item) = self.walk.next().transpose()? else {
                self.missed += u64::from(self.spent.take().is_some());
                self.ended = true;
                break;
            };
            if let Some(spent) = self.spent.take() {
                if *item.path() == spent && item.seen() == 1 {
                    continue;
                }
                self.missed += 1;
            }
            if self.end.as_ref().is_some_and(|end| item.path() > end) {
                self.ended = true;
                break;
            }
            return Ok(Some(item));
        }
        Ok(None)
    }
}

fn is_entry_at(item: &Walked, path: &SourcePath) -> bool {
    matches!(item, Walked::Entry(entry) if entry.path == *path)
}
