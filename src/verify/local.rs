//! The source against the manifests: both are in walk order, so they are gone through side by side, each once. What is
//! opened is what the walk saw; nothing is written.
//!
//! Whoever changes a file changes its size or times as well. A file whose metadata are those that were archived and whose
//! content is another has rotted, or was changed by somebody who hid it.

use super::{Finding, Verdict};
use crate::{
    archive::{
        entry::{Entry, Kind, Meta, Walked},
        filter::Filter,
        holes,
        manifest::{self, Member, join, note, parse_rfc3339},
        pack::{hex, xattr_sha256},
        tree::{OpenError, SourceError, Tree, Xattrs},
        walk::{Options, Position, Walk},
    },
    path::SourcePath,
    restore::hash_zeros,
};
use rustix::{
    fs::{Advice, fadvise},
    io::Errno,
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs::File,
    io,
    iter::Peekable,
    os::unix::fs::{FileExt, MetadataExt},
    sync::Arc,
};

const READ_LEN: usize = 1 << 20;
/// Inodes of several names whose content is remembered; then it is read again.
const LINKS_MAX: usize = 100_000;
/// Attributes that only some may see: those who archive and those who look may have other rights.
const TRUSTED: &[u8] = b"trusted.";

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Entries that were archived.
    pub entries: u64,
    /// Of content, that were read.
    pub bytes: u64,
    /// Entries that no manifest knows.
    pub new: u64,
}

pub struct Local<'a> {
    tree: Arc<Tree>,
    walk: Peekable<Walk>,
    looked: Looked,
    /// The file of which segments come, and whether it was told of already.
    segmented: Option<(SourcePath, Found, bool)>,
    /// By device and inode, as it is now.
    links: HashMap<(u64, u64), String>,
    tell: &'a mut dyn FnMut(Finding),
    /// Is told of bytes as they are read.
    came: &'a dyn Fn(u64),
}

/// What is at a path now, or what is wrong with looking there.
type Found = Result<Meta, (Verdict, String)>;

impl<'a> Local<'a> {
    pub fn new(
        tree: Arc<Tree>,
        (filter, options): (Arc<Filter>, Options),
        tell: &'a mut dyn FnMut(Finding),
        came: &'a dyn Fn(u64),
    ) -> Local<'a> {
        let walk = Walk::new(tree.clone(), filter, options, Position::Start).peekable();
        Local { tree, walk, looked: Looked::default(), segmented: None, links: HashMap::new(), tell, came }
    }

    /// The next line of the manifests of all pieces, in walk order.
    pub fn member(&mut self, line: &Member) -> Result<(), SourceError> {
        let Some(path) = line.source_path().filter(|_| !line.has_note(note::ANCESTOR)) else { return Ok(()) };
        self.looked.entries += u64::from(line.is_counted());
        if line.segment.is_some() {
            return self.segment(line, path);
        }
        let told = match self.find(&path)? {
            Ok(meta) => self.compare(line, &Entry { path: path.clone(), meta })?,
            Err(told) => Some(told),
        };
        if let Some((verdict, why)) = told {
            (self.tell)(Finding::entry(verdict, &path, why));
        }
        Ok(())
    }

    /// All manifests were read: whatever is left in the source is new.
    pub fn finish(mut self) -> Result<Looked, SourceError> {
        while let Some(walked) = self.walk.next().transpose()? {
            self.looked.new += u64::from(matches!(walked, Walked::Entry(_)));
        }
        Ok(self.looked)
    }

    /// Each segment has a digest of its own, of the part of the file that it holds; all together are the file.
    fn segment(&mut self, line: &Member, path: SourcePath) -> Result<(), SourceError> {
        if self.segmented.as_ref().is_none_or(|(known, ..)| *known != path) {
            let found = self.find(&path)?;
            self.segmented = Some((path.clone(), found, false));
        }
        let Some((_, found, false)) = &self.segmented else { return Ok(()) };
        let told = match found.clone() {
            Ok(meta) => self.compare(line, &Entry { path: path.clone(), meta })?,
            Err(told) => Some(told),
        };
        if let Some((verdict, why)) = told {
            (self.tell)(Finding::entry(verdict, &path, why));
            self.segmented.as_mut().expect("as above").2 = true;
        }
        Ok(())
    }

    /// What the walk meets at this path. What it leaves out by a rule of today is looked for by its name.
    fn find(&mut self, path: &SourcePath) -> Result<Found, SourceError> {
        loop {
            match self.walk.peek() {
                Some(Ok(walked)) if walked.path() < path => {
                    self.looked.new += u64::from(matches!(walked, Walked::Entry(_)));
                    self.walk.next();
                }
                Some(Ok(walked)) if walked.path() == path => match self.walk.next() {
                    Some(Ok(Walked::Entry(entry))) => return Ok(Ok(entry.meta)),
                    Some(Ok(Walked::Skipped(why))) => return Ok(Err((Verdict::Unproven, why.detail))),
                    _ => break,
                },
                Some(Err(_)) => return Err(self.walk.next().and_then(Result::err).expect("it was peeked at")),
                _ => break,
            }
        }
        Ok(self.tree.stat(path).map_err(|err| match Errno::from_io_error(&err) {
            Some(Errno::NOENT | Errno::NOTDIR) => gone(),
            Some(Errno::LOOP | Errno::XDEV) => replaced(),
            _ => (Verdict::Unproven, format!("it cannot be examined: {err}")),
        }))
    }

    /// What is wrong with an entry, if anything is.
    fn compare(&mut self, line: &Member, entry: &Entry) -> Result<Option<(Verdict, String)>, SourceError> {
        if let Some(what) = changed(line, &entry.meta) {
            return Ok(Some((Verdict::Changed, format!("its {what} is another one"))));
        }
        match self.content(line, entry) {
            Err(err) if err.is_exhausted() => {
                let source = io::Error::from_raw_os_error(err.errno().unwrap_or_default());
                Err(SourceError::Exhausted { path: self.tree.root().to_owned(), source })
            }
            Err(err) => {
                // While the whole source is gone, an entry that is gone says nothing.
                self.tree.check()?;
                Ok(Some(match err {
                    OpenError::Vanished => gone(),
                    OpenError::Replaced => replaced(),
                    OpenError::Denied(_) => (Verdict::Unproven, err.to_string()),
                    OpenError::Unreadable(_) => (Verdict::Damaged, err.to_string()),
                }))
            }
            Ok(None) => Ok(None),
            Ok(Some(_)) if line.has_note(note::CHANGED) || line.has_note(note::DAMAGED) => {
                Ok(Some((Verdict::Changed, "it was archived changed or damaged, as `exceptions` says".to_owned())))
            }
            Ok(Some(told)) => Ok(Some(told)),
        }
    }

    fn content(&mut self, line: &Member, entry: &Entry) -> Result<Option<(Verdict, String)>, OpenError> {
        let damaged = |what: &str| Some((Verdict::Damaged, format!("its {what} is not what was archived")));
        match entry.meta.kind {
            Kind::File => {
                let range = line.segment.map_or((0, entry.meta.size), |segment| (segment.offset, line.size));
                match self.digest(entry, range)? {
                    None => return Ok(Some((Verdict::Changed, "it changed while it was read".to_owned()))),
                    Some(found) if line.sha256.as_ref() != Some(&found) => return Ok(damaged("content")),
                    Some(_) => {}
                }
            }
            Kind::Symlink
                if !line.has_note(note::HARDLINK)
                    && join(&line.link, &line.link_b64) != Some(self.tree.read_link(entry)?) =>
            {
                return Ok(damaged("target"));
            }
            _ => {}
        }
        // Of a file in segments only those count that were archived with the last one.
        if line.segment.is_none() && !self.has_xattrs(line, entry)? {
            return Ok(Some((Verdict::Damaged, "its extended attributes are not what was archived".to_owned())));
        }
        Ok(None)
    }

    fn has_xattrs(&self, line: &Member, entry: &Entry) -> Result<bool, OpenError> {
        let found = match self.tree.xattrs(entry) {
            // They were archived without, and that was told.
            Err(OpenError::Denied(_) | OpenError::Unreadable(_)) if line.xattr_sha256.is_none() => return Ok(true),
            found => found?,
        };
        let untrusted: Xattrs = found.iter().filter(|(name, _)| !name.starts_with(TRUSTED)).cloned().collect();
        Ok([found, untrusted].iter().any(|xattrs| xattr_sha256(xattrs) == line.xattr_sha256))
    }

    /// SHA-256 of a part of a file, holes read as zeros; `None`: it changed meanwhile.
    fn digest(&mut self, entry: &Entry, (start, len): (u64, u64)) -> Result<Option<String>, OpenError> {
        let inode = (entry.meta.dev, entry.meta.ino);
        if entry.meta.nlink > 1
            && let Some(known) = self.links.get(&inode)
        {
            return Ok(Some(known.clone()));
        }
        self.tree.beat(&entry.path);
        let file = self.tree.open_file(entry)?;
        let digest = hash(&file, start, len, self.came)?;
        self.looked.bytes += len;
        let now = file.metadata()?;
        let meta = &entry.meta;
        let times = (meta.mtime.sec, i64::from(meta.mtime.nsec), meta.ctime.sec, i64::from(meta.ctime.nsec));
        if (now.mtime(), now.mtime_nsec(), now.ctime(), now.ctime_nsec()) != times || now.size() != meta.size {
            return Ok(None);
        }
        if meta.nlink > 1 && (start, len) == (0, meta.size) {
            if self.links.len() >= LINKS_MAX {
                self.links.clear();
            }
            self.links.insert(inode, digest.clone());
        }
        Ok(Some(digest))
    }
}

fn gone() -> (Verdict, String) {
    (Verdict::Missing, "it is no longer there".to_owned())
}

fn replaced() -> (Verdict, String) {
    (Verdict::Changed, "something else took its place".to_owned())
}

/// What an entry says of itself that is not as it was archived.
fn changed(line: &Member, now: &Meta) -> Option<&'static str> {
    let has_size = now.kind == Kind::File && !line.has_note(note::HARDLINK);
    let size = line.segment.map_or(line.size, |segment| segment.file_size);
    match () {
        () if manifest::kind(&line.r#type) != Some(now.kind) => Some("kind"),
        () if has_size && size != now.size => Some("size"),
        () if parse_rfc3339(&line.mtime) != Some(now.mtime) => Some("mtime"),
        () if parse_rfc3339(&line.ctime) != Some(now.ctime) => Some("ctime"),
        () if line.rdev.is_some_and(|rdev| rdev != now.rdev) => Some("device number"),
        () => None,
    }
}

fn hash(file: &File, start: u64, len: u64, came: &dyn Fn(u64)) -> io::Result<String> {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    let mut buffer = vec![0; READ_LEN.min(len as usize)];
    let _ = fadvise(file, start, None, Advice::Sequential);
    for extent in holes::extents(file, start, len) {
        hash_zeros(&mut hasher, extent.offset - at);
        at = extent.offset;
        while at < extent.end() {
            let most = (extent.end() - at).min(READ_LEN as u64) as usize;
            match file.read_at(&mut buffer[..most], start + at) {
                // It is shorter by now; its size says so.
                Ok(0) => return Ok(String::new()),
                Ok(got) => {
                    hasher.update(&buffer[..got]);
                    at += got as u64;
                    came(got as u64);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }
    hash_zeros(&mut hasher, len - at);
    // Nobody needs the pages again, and months of reading must not push everything else out.
    let _ = fadvise(file, start, std::num::NonZeroU64::new(len), Advice::DontNeed);
    Ok(hex(hasher))
}
