//! The walk over a source: depth first, a directory before its children, children sorted by the bytes of their
//! names, so that what it yields is strictly increasing in the order of [`SourcePath`].
//!
//! - It goes down by descriptors: what was listed, what was examined and what is entered are one inode, or the
//!   entry is an exception.
//! - Metadata is read once for each entry.
//! - Every name that was listed is told exactly once: as an entry, as left out by a rule, or as skipped with a
//!   reason. A directory whose names cannot be read is skipped *instead of* being an entry, hence its names are
//!   read before it is told.
//! - What is left out by a pattern is not even examined where the listing tells what it is: people leave out
//!   what hangs or fails.

mod frame;
mod listing;
mod resume;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use crate::{
    archive::{
        entry::{Entry, Kind, Meta, Walked},
        filter::{Filter, RULE_OWN, RULE_TAG},
        tree::{self, SourceError, Stat, Tree},
    },
    notice::Reason,
    path::SourcePath,
};
use frame::{Failure, Frame};
use rustix::{
    fd::AsFd,
    fs::{AtFlags, FileType},
    io::Errno,
};
use std::sync::Arc;

/// Most descriptors of directories that a walk holds, however deep it is.
const FDS_MAX: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop at mount points; they themselves are archived, as empty directories. What is mounted over itself is none.
    pub one_file_system: bool,
    /// Device and inode of our own directories (staging, state, a vault in the source), which are left out.
    pub own: Vec<(u64, u64)>,
}

/// Where a walk begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    Start,
    /// With this path, or with what comes next when it is gone.
    At(SourcePath),
    /// Behind this path: after a directory come its children, unless it is left out now.
    After(SourcePath),
}

/// A walk; ends after an error.
pub struct Walk {
    tree: Arc<Tree>,
    filter: Arc<Filter>,
    options: Options,
    /// Where to begin; taken by the first call.
    from: Option<Position>,
    /// The directories that the walk is in, from the root down.
    frames: Vec<Frame>,
    buf: Vec<u8>,
    seen: u64,
    mounts_left_out: Vec<SourcePath>,
}

/// What a name turned out to be.
enum Found {
    Excluded(u16),
    Skipped(Failure),
    /// To be archived, with nothing below it to look at.
    Leaf(Meta),
    /// A mount point that is not entered.
    Mount(Meta),
    /// To be archived, and entered.
    Dir(Meta, Box<Frame>),
}

impl Walk {
    pub fn new(tree: Arc<Tree>, filter: Arc<Filter>, options: Options, from: Position) -> Walk {
        Walk {
            tree,
            filter,
            options,
            from: Some(from),
            frames: Vec::new(),
            buf: Vec::new(),
            seen: 0,
            mounts_left_out: Vec::new(),
        }
    }

    /// How many entries were told so far. Counted where a name is taken from its listing, apart from what is
    /// made of it, so that the law of accounting compares two things.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Mount points that were met and not entered: pseudo filesystems, and with `one_file_system` all.
    pub fn mounts_left_out(&self) -> &[SourcePath] {
        &self.mounts_left_out
    }

    /// The first item, where the walk begins in the middle or the root is told.
    fn begin(&mut self, from: Position) -> Result<Option<Walked>, SourceError> {
        let (path, inclusive) = match from {
            Position::Start => (SourcePath::root(), true),
            Position::At(path) => (path, true),
            Position::After(path) => (path, false),
        };
        self.tree.beat(&path);
        let (meta, root) = Frame::root(&self.tree, &self.filter, &mut self.buf)?;
        self.frames.push(root);
        if !path.is_root() {
            return self.resume(&path, inclusive);
        }
        if !inclusive {
            return Ok(None);
        }
        self.seen += 1;
        Ok(Some(Walked::Entry(Entry { path, meta })))
    }

    fn step(&mut self) -> Result<Option<Walked>, SourceError> {
        if let Some(from) = self.from.take()
            && let Some(first) = self.begin(from)?
        {
            return Ok(Some(first));
        }
        while self.frames.pop_if(|frame| frame.is_done()).is_some() {}
        let Some(frame) = self.frames.last() else {
            return Ok(None);
        };
        let path = frame.child();
        let found = self.examine(&path)?;
        self.take_name();
        Ok(Some(match found {
            Found::Excluded(rule) => self.exclude(rule, path),
            Found::Skipped(failure) => Walked::Skipped(Box::new(failure.exception(path))),
            Found::Leaf(meta) => Walked::Entry(Entry { path, meta }),
            Found::Mount(meta) => {
                self.tree.leave_out(&path);
                self.mounts_left_out.push(path.clone());
                Walked::Entry(Entry { path, meta })
            }
            Found::Dir(meta, frame) => {
                self.enter(*frame);
                Walked::Entry(Entry { path, meta })
            }
        }))
    }

    fn take_name(&mut self) {
        self.frames.last_mut().expect("a name is taken from a directory").next += 1;
        self.seen += 1;
    }

    /// Goes into a directory, and lets go of the descriptor farthest above when there are too many.
    fn enter(&mut self, frame: Frame) {
        self.frames.push(frame);
        if let Some(above) = self.frames.len().checked_sub(FDS_MAX + 1) {
            self.frames[above].close();
        }
    }

    /// One item for `path` and for the siblings behind it that the same rule leaves out.
    fn exclude(&mut self, rule: u16, path: SourcePath) -> Walked {
        let (mut count, mut last) = (1, path);
        while let Some(frame) = self.frames.last().filter(|frame| !frame.is_done()) {
            let path = frame.child();
            if self.rule_by_name(frame, &path) != ByName::Excluded(rule) {
                break;
            }
            self.take_name();
            count += 1;
            last = path;
        }
        Walked::Excluded { rule, count, last }
    }

    /// What the next name of the innermost directory is; `path` is its path.
    fn examine(&mut self, path: &SourcePath) -> Result<Found, SourceError> {
        self.tree.beat(path);
        let frame = self.frames.last().expect("a name is examined in a directory");
        let by_name = self.rule_by_name(frame, path);
        if let ByName::Excluded(rule) = by_name {
            return Ok(Found::Excluded(rule));
        }
        let frame = self.frames.last_mut().expect("as above");
        if let Err(failure) = frame.reopen(&self.tree) {
            return self.skipped(failure);
        }
        let stat = match stat_child(frame, self.options.one_file_system) {
            Ok(stat) => stat,
            Err(_) if self.options.one_file_system && frame.is_mount() => return Ok(Found::Skipped(Failure::mount())),
            Err(errno) => return self.skipped(Failure::of("It cannot be examined", errno)),
        };
        if by_name == ByName::DependsOnKind
            && let Some(rule) = self.filter.excluded(path, stat.meta.kind == Kind::Dir)
        {
            return Ok(Found::Excluded(rule));
        }
        match stat.meta.kind {
            Kind::Dir => self.examine_dir(path, stat),
            Kind::Socket => Ok(Found::Skipped(Failure::new(Reason::Socket, "A socket cannot be archived"))),
            _ if is_boundary(&frame.stat, &stat) => self.examine_mounted_file(stat),
            _ => Ok(Found::Leaf(stat.meta)),
        }
    }

    fn examine_dir(&mut self, path: &SourcePath, stat: Stat) -> Result<Found, SourceError> {
        if self.options.own.contains(&(stat.meta.dev, stat.meta.ino)) {
            return Ok(Found::Excluded(RULE_OWN));
        }
        let above = self.frames.last().expect("a directory is found in a directory");
        let is_mount = is_boundary(&above.stat, &stat);
        if self.options.one_file_system && (is_mount || stat.automount) {
            return Ok(Found::Mount(stat.meta));
        }
        let fd = match tree::list_in(above.fd(), above.name()) {
            Ok(fd) => fd,
            Err(errno) => return self.skipped(Failure::of_dir("It cannot be opened", errno)),
        };
        match tree::stat_fd(fd.as_fd()) {
            Ok(opened) if opened.meta.is_same_inode(&stat.meta) => {}
            Ok(_) => return self.skipped(Failure::replaced()),
            Err(errno) => return self.skipped(Failure::of_dir("It cannot be examined", errno)),
        }
        if is_mount {
            match tree::is_pseudo_at(fd.as_fd()) {
                Ok(true) => return Ok(Found::Mount(stat.meta)),
                Ok(false) => {}
                Err(errno) => return self.skipped(Failure::of_dir("Its filesystem cannot be examined", errno)),
            }
        }
        let meta = stat.meta.clone();
        match Frame::new(path.clone(), fd, stat, &self.filter, &mut self.buf) {
            Ok(frame) => Ok(Found::Dir(meta, Box::new(frame))),
            Err(errno) => self.skipped(Failure::of_dir("It cannot be listed", errno)),
        }
    }

    /// A file can be a mount point too, and then has no inside that could be left out but itself.
    fn examine_mounted_file(&mut self, stat: Stat) -> Result<Found, SourceError> {
        let frame = self.frames.last().expect("a file is found in a directory");
        let left_out =
            if self.options.one_file_system { Ok(true) } else { tree::is_pseudo_in(frame.fd(), frame.name()) };
        match left_out {
            Ok(true) => Ok(Found::Skipped(Failure::mount())),
            Ok(false) => Ok(Found::Leaf(stat.meta)),
            Err(errno) => self.skipped(Failure::of("Its filesystem cannot be examined", errno)),
        }
    }

    /// What is told as skipped must be the entry's own trouble: neither ours, nor that of the whole source.
    fn skipped(&self, failure: Failure) -> Result<Found, SourceError> {
        if let Some(errno) = failure.errno.map(Errno::from_raw_os_error)
            && tree::is_exhausted(errno)
        {
            return Err(SourceError::Exhausted { path: self.tree.root().to_owned(), source: errno.into() });
        }
        if failure.reason != Reason::Denied {
            self.tree.check()?;
        }
        Ok(Found::Skipped(failure))
    }

    /// What the rules say of a child before it is examined.
    fn rule_by_name(&self, frame: &Frame, path: &SourcePath) -> ByName {
        if frame.is_tagged && self.filter.tag() != Some(path.name()) {
            return ByName::Excluded(RULE_TAG);
        }
        let rule = |is_dir| self.filter.excluded(path, is_dir).map_or(ByName::Kept, ByName::Excluded);
        match frame.listing.file_type(frame.next) {
            FileType::Directory => rule(true),
            FileType::Unknown if rule(true) != rule(false) => ByName::DependsOnKind,
            _ => rule(false),
        }
    }
}

/// What the next name is. `one_file_system`: of a mount it is enough what is known without asking its server, which may
/// be gone.
fn stat_child(frame: &Frame, one_file_system: bool) -> Result<Stat, Errno> {
    let (fd, name) = (frame.fd(), frame.listing.c_name(frame.next));
    if !one_file_system {
        return tree::stat_at(fd, name, AtFlags::empty());
    }
    let known = tree::stat_at(fd, name, AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC)?;
    if is_boundary(&frame.stat, &known) { Ok(known) } else { tree::stat_at(fd, name, AtFlags::NO_AUTOMOUNT) }
}

/// Whether another filesystem, or another part of it, begins at an entry of a directory.
fn is_boundary(dir: &Stat, entry: &Stat) -> bool {
    dir.is_other_mount(entry) && !tree::shows_the_same(dir, entry)
}

/// Whether a name is left out, as far as it and its listing tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByName {
    Kept,
    Excluded(u16),
    /// A pattern that matches only directories, on a filesystem whose listings do not tell what is one.
    DependsOnKind,
}

impl Iterator for Walk {
    type Item = Result<Walked, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if let Some(Err(_)) = item {
            self.from = None;
            self.frames.clear();
        }
        item
    }
}
