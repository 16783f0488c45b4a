//! The only writer of tars: packs the items of a plan into one tar that unpacks alone, and lists its members.
//!
//! The tree is alive while it is read. So after each header follow exactly as many bytes as it announced, whatever
//! becomes of the file: padded with zeros when it comes short, cut when it grows. A file that changed or failed
//! while being read is read again: the tar is truncated back to the member's header, a few times; then the member
//! stays, marked, with an exception. What spoils one entry never ends the piece.
//!
//! A piece is a pure function of the tree and the plan: no time, process id or such is in it.
//!
//! - `draft`: the two files that grow, with their digests, and back.
//! - `node`, `file`, `segment`: one member of each sort.
//! - `copy`: the bytes of a file, come what may.
//! - `under_way`: a member while its data are being copied, and marks inside it.
//! - `packed`: what is recorded of it all.

mod ancestors;
mod cache;
mod copy;
mod draft;
mod error;
mod file;
mod links;
mod member;
mod node;
mod packed;
mod segment;
#[cfg(test)]
mod tests;
mod under_way;

pub use draft::hex;
pub use error::PackError;
pub use member::xattr_sha256;
pub use packed::{Mark, MemberMark, Packed, PathField, RECORD_VERSION, Range, SegmentChain};

use super::{
    content::Content,
    cut::Plan,
    entry::{Entry, Kind, Walked},
    header::END_LEN,
    items::Items,
    manifest::{ExceptionLine, Segment},
    names::Names,
};
use crate::{
    notice::{Exception, Reason},
    path::SourcePath,
};
use draft::{Draft, Point};
use links::Links;
use std::{fs::File, io, time::Duration};

#[derive(Clone, Debug)]
pub struct Options {
    /// How often a file that changed or failed while being read is read again.
    pub retries: u32,
    /// Of a tar, bytes.
    pub max_size: u64,
    /// Of a tar, without ancestors.
    pub max_members: u64,
    /// A mark is due after this many bytes of tar …
    pub mark_bytes: u64,
    /// … or after this time.
    pub mark_every: Duration,
}

/// One piece to be packed.
pub struct PackJob<'a> {
    pub content: &'a dyn Content,
    /// When going on: what follows the mark.
    pub plan: Plan,
    pub options: &'a Options,
    /// Both open for reading and writing; what they hold beyond `from` is cut off.
    pub tar: File,
    pub list: File,
    pub from: Option<Mark>,
    /// From the record of the segment before this one, if it is known.
    pub chain: Option<SegmentChain>,
    /// Called after tar and list were made durable up to the mark.
    pub mark: &'a mut dyn FnMut(&Mark) -> io::Result<()>,
    /// The text of an exclusion rule.
    pub rule: &'a dyn Fn(u16) -> String,
    /// Asked between buffers; `true` ends the packing with [`PackError::Stopped`].
    pub stop: &'a dyn Fn() -> bool,
    /// Told the length of the tar so far, bytes, between buffers; less than before after a retry. A sign of life as well.
    pub progress: &'a dyn Fn(u64),
    /// A clock that only goes forward.
    pub now: &'a dyn Fn() -> Duration,
    pub names: &'a Names,
}

#[derive(Debug)]
pub struct Outcome {
    pub packed: Packed,
    /// Items that did not fit any more, the first with its metadata of now.
    pub handed_back: Items,
}

/// Packs one piece. Afterwards tar and list are complete and durable; their names are the caller's business.
pub fn pack(job: PackJob<'_>) -> Result<Outcome, PackError> {
    pack_reading(job, &|file, buffer, offset| std::os::unix::fs::FileExt::read_at(file, buffer, offset))
}

/// Reads from a file at an offset: comes in by the parameter list, so that every failure can be tested.
type ReadAt<'a> = &'a dyn Fn(&File, &mut [u8], u64) -> io::Result<usize>;

fn pack_reading<'a>(mut job: PackJob<'a>, read_at: ReadAt<'a>) -> Result<Outcome, PackError> {
    let plan =
        std::mem::replace(&mut job.plan, Plan { items: Items::default(), tar_size: 0, members: 0, segment: None });
    Packer::new(job, &plan, read_at)?.run(plan)
}

/// What became of an item.
enum Step {
    Done,
    /// It does not fit any more: handed back, with the length that the tar would have had.
    Full {
        item: Walked,
        needs: u64,
    },
}

struct Packer<'a> {
    content: &'a dyn Content,
    options: &'a Options,
    mark: &'a mut dyn FnMut(&Mark) -> io::Result<()>,
    rule: &'a dyn Fn(u16) -> String,
    stop: &'a dyn Fn() -> bool,
    progress: &'a dyn Fn(u64),
    now: &'a dyn Fn() -> Duration,
    names: &'a Names,
    read_at: ReadAt<'a>,
    tar: Draft,
    list: Draft,
    range: Range,
    links: Links,
    /// The member in which the mark stands with which packing goes on.
    resumed: Option<MemberMark>,
    /// Whether the headers of the directories above the first member are still to be written.
    ancestors_due: bool,
    plan_last: Option<PathField>,
    chain: Option<SegmentChain>,
    buffer: Vec<u8>,
    started: Duration,
    took_before: Duration,
    marked_len: u64,
    marked_at: Duration,
}

impl<'a> Packer<'a> {
    fn new(job: PackJob<'a>, plan: &Plan, read_at: ReadAt<'a>) -> Result<Packer<'a>, PackError> {
        let started = (job.now)();
        let mut links = Links::default();
        let (tar, list, range, resumed, took_before) = match job.from {
            None => {
                (Draft::create(job.tar, TAR)?, Draft::create(job.list, LIST)?, Range::default(), None, Duration::ZERO)
            }
            Some(mark) => {
                if mark.version != RECORD_VERSION {
                    return Err(PackError::Rotten { what: TAR, why: "Its mark is of another version" });
                }
                let mut read = 0;
                let tar = Draft::resume(job.tar, TAR, mark.tar_len, &mark.tar_sha256, &mut |bytes| {
                    read += bytes.len() as u64;
                    (job.progress)(read);
                    if (job.stop)() { Err(PackError::Stopped) } else { Ok(()) }
                })?;
                let list = links.resume(job.list, &mark, job.stop)?;
                (tar, list, mark.range, mark.member, Duration::from_millis(mark.took_ms))
            }
        };
        Ok(Packer {
            content: job.content,
            options: job.options,
            mark: job.mark,
            rule: job.rule,
            stop: job.stop,
            progress: job.progress,
            now: job.now,
            names: job.names,
            read_at,
            ancestors_due: tar.len() == 0,
            marked_len: tar.len(),
            tar,
            list,
            range,
            links,
            resumed,
            plan_last: plan.items.last().map(|item| item.path().into()),
            chain: job.chain,
            buffer: vec![0; copy::BUFFER_LEN],
            started,
            took_before,
            marked_at: started,
        })
    }

    fn run(mut self, mut plan: Plan) -> Result<Outcome, PackError> {
        let segment = plan.segment.take();
        let file = segment.as_ref().map(|segment| &segment.file.path);
        // The plan of a segment may name its file among the items, or not.
        if let Some(segment) = &segment
            && !plan.items.iter().any(|item| is_entry(&item, file))
        {
            self.segment(segment)?;
        }
        for (at, item) in plan.items.iter().enumerate() {
            self.heed()?;
            self.content.beat(item.path());
            self.drop_unless(Some(&item))?;
            let step = match &segment {
                Some(segment) if is_entry(&item, file) => self.segment(segment)?,
                _ => self.item(&item)?,
            };
            if let Step::Full { item, needs } = step {
                let mut handed_back = plan.items.split_off(at);
                handed_back.replace_first(item);
                if self.range.members == 0 {
                    plan.items.extend(handed_back);
                    return Err(PackError::TooLarge { handed_back: plan.items.into(), needs });
                }
                return Ok(Outcome { packed: self.finish(None)?, handed_back });
            }
            self.range.position = Some(item.path().into());
            if at + 1 < plan.items.len() && segment.is_none() {
                self.mark_if_due()?;
            }
        }
        let segment = segment.map(|segment| Segment {
            index: segment.index,
            count: segment.count,
            offset: segment.offset,
            file_size: segment.file.meta.size,
        });
        Ok(Outcome { packed: self.finish(segment)?, handed_back: Items::default() })
    }

    fn item(&mut self, item: &Walked) -> Result<Step, PackError> {
        match item {
            Walked::Entry(entry) => return self.entry(entry),
            Walked::Excluded { rule, .. } => {
                *self.range.counts.excluded.entry((self.rule)(*rule)).or_default() += item.seen();
                self.range.counts.seen += item.seen();
            }
            Walked::Skipped(exception) => self.skip(exception),
        }
        Ok(Step::Done)
    }

    fn entry(&mut self, entry: &Entry) -> Result<Step, PackError> {
        if self.range.members > 0 && self.range.members >= self.options.max_members {
            return Ok(Step::Full { item: Walked::Entry(entry.clone()), needs: self.tar.len() });
        }
        match entry.meta.kind {
            Kind::Socket => {
                self.skip(&exception(&entry.path, Reason::Socket, None, "Sockets are made again by their owner"));
                Ok(Step::Done)
            }
            Kind::File => self.file(entry),
            _ => self.node(entry),
        }
    }

    /// Accounts for an entry that is not archived.
    fn skip(&mut self, exception: &Exception) {
        self.range.counts.seen += 1;
        *self.range.counts.skipped.entry(exception.reason).or_default() += 1;
        self.range.exceptions.push(ExceptionLine::from(exception));
    }

    fn is_mark_due(&self) -> bool {
        self.tar.len().saturating_sub(self.marked_len) >= self.options.mark_bytes
            || (self.now)().saturating_sub(self.marked_at) >= self.options.mark_every
    }

    /// To be asked between members.
    fn mark_if_due(&mut self) -> Result<(), PackError> {
        if self.range.members > 0 && self.is_mark_due() { self.write_mark(self.tar.point(), None) } else { Ok(()) }
    }

    /// Marks a place at which the tar is, or to which it is about to go back, in front of `member` or in it.
    fn write_mark(&mut self, at: Point, member: Option<MemberMark>) -> Result<(), PackError> {
        self.tar.sync()?;
        self.list.sync()?;
        let last = self.plan_last.clone().or_else(|| member.as_ref().map(|member| (&member.file.path).into()));
        let mark = Mark {
            version: RECORD_VERSION,
            tar_len: at.len(),
            tar_sha256: hex(at.hasher().clone()),
            list_len: self.list.len(),
            list_sha256: self.list.sha256(),
            range: self.range.clone(),
            plan_last: last.unwrap_or_default(),
            member,
            took_ms: self.took_ms(),
        };
        (self.mark)(&mark).map_err(PackError::mark)?;
        (self.marked_len, self.marked_at) = (mark.tar_len, (self.now)());
        Ok(())
    }

    fn finish(mut self, segment: Option<Segment>) -> Result<Packed, PackError> {
        self.drop_unless(None)?;
        self.tar.write(&[0; END_LEN as usize])?;
        let packed = Packed {
            version: RECORD_VERSION,
            tar_size: self.tar.len(),
            tar_sha256: self.tar.sha256(),
            list_sha256: self.list.sha256(),
            took_ms: self.took_ms(),
            range: self.range,
            segment,
            chain: self.chain,
        };
        self.list.write(&super::list::last_line(&packed))?;
        self.tar.sync()?;
        self.list.sync()?;
        Ok(packed)
    }

    fn took_ms(&self) -> u64 {
        let took = self.took_before + (self.now)().saturating_sub(self.started);
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }
}

const TAR: &str = "tar";
const LIST: &str = "member list";

fn is_entry(item: &Walked, path: Option<&SourcePath>) -> bool {
    matches!(item, Walked::Entry(entry) if Some(&entry.path) == path)
}

fn exception(path: &SourcePath, reason: Reason, errno: Option<i32>, detail: impl Into<String>) -> Exception {
    Exception { path: path.clone(), reason, errno, detail: detail.into() }
}
