//! A file as one member: read again while it changes or fails, then kept as it came.

use super::{
    PackError, Packer, Step,
    copy::{Range, Reading},
    draft::{Point, hex},
    exception,
    member::{describe, is_deep, is_linked, notes},
};
use crate::{
    archive::{
        content::{OpenError, Xattrs},
        entry::{Entry, Kind, Meta, Stamp, Walked},
        header::{Body, padded},
        holes::{self, Extent},
        manifest::{member_name, note},
    },
    notice::{Exception, Reason},
};
use std::{
    fs::File,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

/// A file that was opened, with all that its header needs.
pub struct Opened {
    pub file: File,
    /// From the open file, before the first byte was read.
    pub entry: Entry,
    pub xattrs: Xattrs,
    pub trouble: Option<Exception>,
    pub extents: Vec<Extent>,
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
        if let Some(step) = self.hard_link(entry)? {
            return Ok(step);
        }
        let mut opened = match self.open(entry) {
            Ok(opened) => opened,
            Err(err) => return self.skip_unopened(entry, err),
        };
        let name = member_name(&entry.path);
        let mut tries = 0;
        loop {
            let size = opened.entry.meta.size;
            let body = self.body(&name, &opened.entry, &opened.xattrs, &opened.extents, size);
            let spec = self.spec(&name, &opened.entry, body, &opened.xattrs);
            let (blocks, len) = (spec.build(), spec.header_len() + padded(spec.data_len()));
            if let Some(needs) = self.begin(&entry.path, len, false)? {
                return Ok(Step::Full { item: Walked::Entry(opened.entry), needs });
            }
            let point = self.tar.point();
            self.tar.write(&blocks)?;
            let mut reading = Reading::new(None);
            self.data(&opened, body, &mut reading, tries >= self.options.retries)?;
            let mut verdict = self.judge(&opened, &reading);
            if verdict != Verdict::Clean && tries < self.options.retries {
                // Opened before the first copy is thrown away: of a file that is gone by now it is the last.
                if let Ok(again) = self.open(entry) {
                    self.tar.go_back(point)?;
                    (opened, tries) = (again, tries + 1);
                    continue;
                }
                self.data(&opened, body, &mut reading, true)?;
                verdict = self.judge(&opened, &reading);
            }
            self.keep(&name, opened, body, point, reading, verdict)?;
            return Ok(Step::Done);
        }
    }

    /// The member as it came.
    fn keep(
        &mut self,
        name: &[u8],
        opened: Opened,
        body: Body,
        point: Point,
        reading: Reading,
        verdict: Verdict,
    ) -> Result<(), PackError> {
        self.pad()?;
        let entry = &opened.entry;
        let mut member = describe(&self.spec(name, entry, body, &opened.xattrs), point.len());
        member.sha256 = Some(hex(reading.sha256));
        member.note = notes(|n| {
            verdict.has_note(n) || n == note::LINKED && is_linked(&entry.meta) || n == note::DEEP && is_deep(name)
        });
        let troubles: Vec<Exception> = verdict.exception(entry).into_iter().chain(opened.trouble).collect();
        self.commit(&entry.path, &member, &troubles)
    }

    pub fn open(&self, entry: &Entry) -> Result<Opened, OpenError> {
        let file = self.content.open_file(entry)?;
        let meta = fstat(&file)?;
        if !meta.is_same_inode(&entry.meta) {
            return Err(OpenError::Replaced);
        }
        let entry = Entry { path: entry.path.clone(), meta };
        let (xattrs, trouble) = self.xattrs(&entry)?;
        let extents = holes::extents(&file, 0, entry.meta.size);
        Ok(Opened { file, entry, xattrs, trouble, extents })
    }

    /// Sparse only when that makes a shorter member.
    pub fn body(
        &self,
        name: &[u8],
        entry: &Entry,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        extents: &[Extent],
        len: u64,
    ) -> Body<'static> {
        let dense = Body::File { len };
        if holes::is_dense(extents, len) {
            return dense;
        }
        let stored = holes::map(extents, len).len() as u64 + extents.iter().map(|extent| extent.len).sum::<u64>();
        let sparse = Body::Sparse { stored, real: len };
        let cost = |body| {
            let spec = self.spec(name, entry, body, xattrs);
            spec.header_len() + padded(spec.data_len())
        };
        if cost(sparse) < cost(dense) { sparse } else { dense }
    }

    fn data(&mut self, opened: &Opened, body: Body, reading: &mut Reading, salvage: bool) -> Result<(), PackError> {
        let len = opened.entry.meta.size;
        let all = [Extent { offset: 0, len }];
        let extents = match body {
            Body::Sparse { .. } => opened.extents.as_slice(),
            _ => all.as_slice(),
        };
        if reading.is_fresh() && matches!(body, Body::Sparse { .. }) {
            self.tar.write(&holes::map(extents, len))?;
        }
        self.copy(&Range { file: Some(&opened.file), start: 0, len, extents }, reading, salvage)
    }

    /// Zeros up to the next block.
    pub fn pad(&mut self) -> Result<(), PackError> {
        let len = padded(self.tar.len()) - self.tar.len();
        self.tar.write(&[0; 512][..len as usize])
    }

    fn judge(&self, opened: &Opened, reading: &Reading) -> Verdict {
        let before = &opened.entry.meta;
        judge(before, fstat(&opened.file).ok().as_ref(), reading, before.size)
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
        Some(after) if before.is_unchanged(after) => Verdict::Clean,
        Some(after) if after.size > before.size => {
            let detail = format!("It grew from {} to {} bytes while being read", before.size, after.size);
            Verdict::Changed(Reason::Grew, detail)
        }
        _ => Verdict::Changed(Reason::Changed, "It changed while being read".to_owned()),
    }
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
