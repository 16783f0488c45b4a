//! A file as one member: read again while it changes or fails, then kept as it came.

use super::{
    PackError, Packer, Step,
    copy::Reading,
    draft::hex,
    exception,
    member::{is_deep, is_linked, notes},
    under_way::UnderWay,
};
use crate::{
    archive::{
        content::{OpenError, Xattrs},
        entry::{Entry, Kind, Meta, Stamp, Walked},
        header::{Body, END_LEN, padded},
        holes::{self, Extent},
        manifest::{member_name, note},
    },
    notice::{Exception, Reason},
};
use std::{
    fs::File,
    ops::ControlFlow,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

/// What the header of a file says.
pub struct Shape {
    pub entry: Entry,
    pub xattrs: Xattrs,
    /// What was wrong with its metadata.
    pub troubles: Vec<Exception>,
    /// Regions with data.
    pub extents: Vec<Extent>,
}

/// A file that was opened; the metadata are those of the open file, from before its first byte was read.
struct Opened {
    file: File,
    shape: Shape,
}

/// How well a file was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    /// Read whole, but it did not hold still.
    Changed(Reason, String),
    /// Part of it is zeros now; with the system's error.
    Damaged(Option<i32>, String),
}

impl Verdict {
    pub fn exception(&self, entry: &Entry) -> Option<Exception> {
        match self {
            Verdict::Clean => None,
            Verdict::Changed(reason, detail) => Some(exception(&entry.path, *reason, None, detail)),
            Verdict::Damaged(errno, detail) => Some(exception(&entry.path, Reason::Damaged, *errno, detail)),
        }
    }

    pub fn has_note(&self, name: &str) -> bool {
        match self {
            Verdict::Clean => false,
            Verdict::Changed(..) => name == note::CHANGED,
            Verdict::Damaged(..) => name == note::DAMAGED,
        }
    }
}

impl Packer<'_> {
    pub fn file(&mut self, entry: &Entry) -> Result<Step, PackError> {
        let mut tries = self.resumed.as_ref().map_or(0, |mark| mark.tries);
        let resumed = self.resume_member(entry)?;
        if resumed.is_none()
            && let Some(step) = self.hard_link(entry)?
        {
            return Ok(step);
        }
        let mut opened = match self.open(entry) {
            Ok(opened) => opened,
            Err(err) => return self.skip_file(entry, err, resumed),
        };
        let going_on = match resumed {
            Some((under_way, reading))
                if self.is_as_before(&under_way, &opened) && self.has_room(&under_way, &reading) =>
            {
                Some((under_way, reading))
            }
            Some((under_way, _)) => {
                tries = (tries + 1).min(self.options.retries);
                self.take_back(under_way, tries)?;
                None
            }
            None => None,
        };
        let mut copying = match going_on {
            Some(copying) => ControlFlow::Continue(copying),
            None => self.start_file(&opened.shape, tries)?,
        };
        loop {
            let (under_way, mut reading) = match copying {
                ControlFlow::Continue(copying) => copying,
                ControlFlow::Break(step) => return Ok(step),
            };
            let is_last_try = under_way.tries >= self.options.retries;
            self.copy(Some(&opened.file), &under_way, &mut reading, is_last_try)?;
            let mut verdict = opened.judge(&under_way, &reading);
            if verdict != Verdict::Clean && !is_last_try {
                // Opened before the first copy is thrown away: of a file that is gone by now it is the last.
                match self.open(entry) {
                    Ok(again) => {
                        tries = under_way.tries + 1;
                        self.take_back(under_way, tries)?;
                        opened = again;
                        copying = self.start_file(&opened.shape, tries)?;
                        continue;
                    }
                    Err(err) if err.is_exhausted() => return Err(PackError::Exhausted(err)),
                    Err(_) => {}
                }
                self.copy(Some(&opened.file), &under_way, &mut reading, true)?;
                verdict = opened.judge(&under_way, &reading);
            }
            self.keep(under_way, reading, &verdict)?;
            return Ok(Step::Done);
        }
    }

    /// Writes the header, or hands the file back because it does not fit.
    fn start_file(&mut self, shape: &Shape, tries: u32) -> Result<ControlFlow<Step, (UnderWay, Reading)>, PackError> {
        let (entry, name) = (&shape.entry, member_name(&shape.entry.path));
        let body = self.body(&name, shape, entry.meta.size);
        if let Some(needs) = self.begin(&entry.path, self.member_len(&name, shape, body), false)? {
            return Ok(ControlFlow::Break(Step::Full { item: Walked::Entry(entry.clone()), needs }));
        }
        let under_way = self.start_member(&name, shape, body, None, tries)?;
        Ok(ControlFlow::Continue((under_way, Reading::new(None))))
    }

    /// Accounts for a file that cannot be opened any more, or never could.
    fn skip_file(
        &mut self,
        entry: &Entry,
        err: OpenError,
        resumed: Option<(UnderWay, Reading)>,
    ) -> Result<Step, PackError> {
        if let Some((under_way, _)) = resumed
            && !err.is_exhausted()
        {
            self.take_back(under_way, 0)?;
        }
        self.skip_unopened(entry, err)
    }

    /// Whether what a run before has copied of the file is to be gone on with. One that never holds still would be
    /// begun again after every restart, and never be done: in the end it is taken as it comes.
    fn is_as_before(&self, under_way: &UnderWay, opened: &Opened) -> bool {
        let (before, now) = (&under_way.file.meta, &opened.shape.entry.meta);
        before.is_unchanged(now) || under_way.tries >= self.options.retries && before.is_same_inode(now)
    }

    /// Whether the rest of what was begun by another run fits: since then less room may have been given to a piece.
    fn has_room(&self, under_way: &UnderWay, reading: &Reading) -> bool {
        padded(self.tar.len() + reading.left(under_way)) + END_LEN <= self.options.max_size
    }

    /// The member as it came.
    fn keep(&mut self, under_way: UnderWay, reading: Reading, verdict: &Verdict) -> Result<(), PackError> {
        self.pad()?;
        let UnderWay { mut member, file, troubles, .. } = under_way;
        let is_deep = is_deep(&member_name(&file.path));
        member.sha256 = Some(hex(reading.sha256));
        member.note =
            notes(|n| verdict.has_note(n) || n == note::LINKED && is_linked(&file.meta) || n == note::DEEP && is_deep);
        let troubles: Vec<Exception> = verdict.exception(&file).into_iter().chain(troubles).collect();
        self.commit(&file.path, &member, &troubles)
    }

    fn open(&self, entry: &Entry) -> Result<Opened, OpenError> {
        let file = self.content.open_file(entry)?;
        let meta = fstat(&file)?;
        if !meta.is_same_inode(&entry.meta) {
            return Err(OpenError::Replaced);
        }
        let entry = Entry { path: entry.path.clone(), meta };
        let (xattrs, trouble) = self.xattrs(&entry)?;
        let extents = holes::extents(&file, 0, entry.meta.size);
        Ok(Opened { file, shape: Shape { entry, xattrs, troubles: trouble.into_iter().collect(), extents } })
    }

    /// Sparse only when that makes a shorter member.
    pub fn body(&self, name: &[u8], shape: &Shape, len: u64) -> Body<'static> {
        let (dense, extents) = (Body::File { len }, &shape.extents);
        if holes::is_dense(extents, len) {
            return dense;
        }
        let stored = holes::map(extents, len).len() as u64 + extents.iter().map(|extent| extent.len).sum::<u64>();
        let sparse = Body::Sparse { stored, real: len };
        let cost = |body| {
            let spec = self.spec(name, &shape.entry, body, &shape.xattrs);
            spec.header_len() + padded(spec.data_len())
        };
        if cost(sparse) < cost(dense) { sparse } else { dense }
    }

    /// Zeros up to the next block.
    pub fn pad(&mut self) -> Result<(), PackError> {
        let len = padded(self.tar.len()) - self.tar.len();
        self.tar.write(&[0; 512][..len as usize])
    }
}

impl Opened {
    fn judge(&self, under_way: &UnderWay, reading: &Reading) -> Verdict {
        judge(&under_way.file.meta, fstat(&self.file).ok().as_ref(), reading, under_way.len)
    }
}

/// What became of a range of `len` bytes of a file that was `before` and is `after`.
pub fn judge(before: &Meta, after: Option<&Meta>, reading: &Reading, len: u64) -> Verdict {
    if let Some((at, errno)) = reading.trouble {
        let lost = reading.lost;
        let why = if errno.is_some() { "could not be read" } else { "were not there any more" };
        return Verdict::Damaged(errno, format!("{lost} of {len} bytes {why}, the first at {at}; they are zeros now"));
    }
    match after {
        _ if reading.is_broken => Verdict::Damaged(None, "It could not be read to its end".to_owned()),
        Some(after) if before.is_unchanged(after) || is_only_unlinked(before, after) => Verdict::Clean,
        Some(after) if after.size > before.size => {
            let detail = format!("It grew from {} to {} bytes while being read", before.size, after.size);
            Verdict::Changed(Reason::Grew, detail)
        }
        _ => Verdict::Changed(Reason::Changed, "It changed while being read".to_owned()),
    }
}

/// Whether nothing became of the file but that it lost its last name: it was read whole, and is gone now. Of one that has
/// a name still, its ctime may as well tell of a change whose mtime was put back; it is read again.
fn is_only_unlinked(before: &Meta, after: &Meta) -> bool {
    after.nlink == 0 && before.is_same_inode(after) && (before.size, before.mtime) == (after.size, after.mtime)
}

/// Metadata of an open file.
pub fn fstat(file: &File) -> Result<Meta, OpenError> {
    let stat = file.metadata()?;
    let kind = match stat.file_type() {
        t if t.is_file() => Kind::File,
        t if t.is_dir() => Kind::Dir,
        t if t.is_symlink() => Kind::Symlink,
        t if t.is_fifo() => Kind::Fifo,
        t if t.is_char_device() => Kind::CharDevice,
        t if t.is_block_device() => Kind::BlockDevice,
        _ => Kind::Socket,
    };
    Ok(Meta {
        kind,
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        size: stat.size(),
        mtime: Stamp { sec: stat.mtime(), nsec: stat.mtime_nsec() as u32 },
        ctime: Stamp { sec: stat.ctime(), nsec: stat.ctime_nsec() as u32 },
        dev: stat.dev(),
        ino: stat.ino(),
        nlink: stat.nlink(),
        rdev: stat.rdev(),
    })
}
