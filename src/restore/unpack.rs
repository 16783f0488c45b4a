//! Unpacks pieces into a [`Target`], each member compared with the line of the manifest that tells of it: a file gets
//! its name only with the content that was archived. What is wrong with one member is told, and costs no other.

use super::{
    content::{ContentError, copy},
    lines::{LinesError, is_of, lines, name_of, original},
    target::{Placed, Target, TargetError, Unnamed, Wrong, has_content},
};
use crate::{
    archive::{
        entry::Kind,
        manifest::{Member, Segment, note},
        reader::{TarError, TarMember, TarReader},
    },
    path::{SourcePath, escape},
};
use rustix::fd::OwnedFd;
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet},
    io::Read,
    path::Path,
};

/// Files that are held open since only another name of them is wanted.
const HELD_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("Tar and manifest disagree about {0}")]
    Disagree(String),
    #[error(transparent)]
    Manifest(#[from] LinesError),
    #[error(transparent)]
    Content(ContentError),
}

/// What is to come back: paths, and all that is below them.
#[derive(Clone, Debug, Default)]
pub struct Selection(pub Vec<SourcePath>);

impl Selection {
    fn includes(&self, path: &SourcePath) -> bool {
        self.0.iter().any(|wanted| path.is_within(wanted))
    }

    /// Whether something below this directory is to come back.
    fn leads_below(&self, dir: &SourcePath) -> bool {
        self.0.iter().any(|wanted| wanted.is_within(dir))
    }
}

/// What came of it so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Entries that are as they were.
    pub came: u64,
    /// Of them those that were there already.
    pub were_there: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Entries that are not.
    pub wrong: u64,
}

/// Is told of each entry that is not as it was.
pub type Tell<'a> = &'a mut dyn FnMut(&SourcePath, &Wrong);

pub struct Unpacker<'a> {
    target: Target,
    selection: &'a Selection,
    overwrite: bool,
    outcome: Outcome,
    tell: Tell<'a>,
    growing: Option<Growing>,
    /// A file larger than a piece that does not come back, and was told.
    spoilt: Option<SourcePath>,
}

/// A file larger than a piece, while its segments come.
struct Growing {
    path: SourcePath,
    file: Unnamed,
    next: u32,
    hasher: Sha256,
}

/// Of one piece.
#[derive(Default)]
struct Links {
    /// Files that are not wanted, but another name of them is.
    needed: HashSet<SourcePath>,
    /// Such files.
    held: HashMap<SourcePath, OwnedFd>,
    /// Files with several names that are in place.
    placed: HashSet<SourcePath>,
}

/// What ends a piece, or only spoils a member.
enum Trouble {
    Entry(Wrong),
    Piece(UnpackError),
}

impl From<Wrong> for Trouble {
    fn from(wrong: Wrong) -> Trouble {
        Trouble::Entry(wrong)
    }
}

impl<'a> Unpacker<'a> {
    pub fn new(target: Target, selection: &'a Selection, overwrite: bool, tell: Tell<'a>) -> Unpacker<'a> {
        Unpacker { target, selection, overwrite, outcome: Outcome::default(), tell, growing: None, spoilt: None }
    }

    /// Unpacks what is wanted of one piece. Pieces come in walk order. After an error what was not reached is told as
    /// missing, and the next piece can come; after one of the target nothing can.
    pub fn piece(&mut self, tar: impl Read, manifest: &Path) -> Result<(), UnpackError> {
        let mut links = Links { needed: self.needed(manifest)?, ..Links::default() };
        let mut lines = lines(manifest)?;
        let mut tar = TarReader::new(tar);
        let ended = loop {
            let (found, line) = match (tar.next_member(), lines.next().transpose()) {
                (Err(err), line) => break self.not_reached(line?, err.into()),
                (Ok(found), Ok(line)) => (found, line),
                (Ok(_), Err(err)) => break Err(err.into()),
            };
            let (found, line) = match (found, line) {
                (None, None) => break Ok(()),
                (Some(found), Some(line)) if is_of(&found, &line) => (found, line),
                (found, line) => {
                    let name = found.map(|found| found.name).or_else(|| line.as_ref().and_then(name_of));
                    let name = escape(&name.unwrap_or_default());
                    break self.not_reached(line, UnpackError::Disagree(name));
                }
            };
            if let Err(err) = self.member(&mut tar, &found, &line, &mut links) {
                break self.not_reached(None, err);
            }
        };
        if !matches!(ended, Err(UnpackError::Target(_))) {
            for line in lines.map_while(Result::ok) {
                self.missing(&line);
            }
        }
        ended
    }

    /// All pieces have come.
    pub fn finish(mut self) -> Result<Outcome, TargetError> {
        self.end_growing();
        let (outcome, tell) = (&mut self.outcome, self.tell);
        self.target.finish(&mut |path, wrong| {
            outcome.wrong += 1;
            tell(path, &wrong);
        })?;
        Ok(self.outcome)
    }

    /// A piece that did not come at all.
    pub fn lost(&mut self, manifest: &Path) -> Result<(), UnpackError> {
        for line in lines(manifest)? {
            self.missing(&line?);
        }
        Ok(())
    }

    fn not_reached(&mut self, line: Option<Member>, err: UnpackError) -> Result<(), UnpackError> {
        if let Some(line) = line {
            self.missing(&line);
        }
        Err(err)
    }

    fn missing(&mut self, line: &Member) {
        if let Some(path) = line.source_path().filter(|path| self.selection.includes(path)) {
            self.spoilt(path, &Wrong::Missing, line);
        }
    }

    fn wrong(&mut self, path: &SourcePath, wrong: &Wrong) {
        self.outcome.wrong += 1;
        (self.tell)(path, wrong);
    }

    /// Each entry is told once: not for the header of a directory that another piece holds, nor for each segment.
    fn spoilt(&mut self, path: SourcePath, wrong: &Wrong, line: &Member) {
        if line.has_note(note::ANCESTOR) || self.spoilt.as_ref() == Some(&path) {
            return;
        }
        self.wrong(&path, wrong);
        self.growing = None;
        self.spoilt = line.segment.map(|_| path);
    }

    /// Files of a piece of which another name is wanted, but not they.
    fn needed(&self, manifest: &Path) -> Result<HashSet<SourcePath>, UnpackError> {
        let mut needed = HashSet::new();
        for line in lines(manifest)? {
            let line = line?;
            let is_wanted = || line.source_path().is_some_and(|path| self.selection.includes(&path));
            if line.has_note(note::HARDLINK)
                && is_wanted()
                && let Some(original) = original(&line).filter(|original| !self.selection.includes(original))
            {
                needed.insert(original);
            }
        }
        Ok(needed)
    }

    fn member(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        line: &Member,
        links: &mut Links,
    ) -> Result<(), UnpackError> {
        let disagree = || UnpackError::Disagree(escape(&found.name));
        let path = line.source_path().ok_or_else(disagree)?;
        if line.has_note(note::ANCESTOR) && self.target.is_open(&path) {
            return Ok(());
        }
        let is_wanted = self.selection.includes(&path);
        let (outcome, tell) = (&mut self.outcome, &mut self.tell);
        self.target.enter(&path, &mut |path, wrong| {
            outcome.wrong += 1;
            tell(path, &wrong);
        });
        if self.growing.as_ref().is_some_and(|growing| growing.path != path) {
            self.end_growing();
        }
        let done = match (found.kind, line.segment) {
            (Kind::Dir, _) if is_wanted || self.selection.leads_below(&path) => {
                self.target.dir(&path, found).map_err(Trouble::from)
            }
            (Kind::File, _) if !is_wanted && links.needed.contains(&path) => self.hold(tar, found, &path, links),
            _ if !is_wanted => return Ok(()),
            (_, Some(segment)) => self.segment(tar, found, line, (&path, segment)),
            (Kind::File, None) if found.is_hard_link => self.another_name(line, &path, links),
            (Kind::File, None) => self.file(tar, found, line, (&path, links)),
            _ => self.node(found, &path).map_err(Trouble::from),
        };
        match done {
            Ok(()) if is_wanted && line.is_counted() => self.outcome.came += 1,
            Ok(()) => {}
            Err(Trouble::Entry(wrong)) => self.spoilt(path, &wrong, line),
            Err(Trouble::Piece(err)) => {
                self.spoilt(path, &Wrong::Missing, line);
                return Err(err);
            }
        }
        Ok(())
    }

    fn node(&mut self, found: &TarMember, path: &SourcePath) -> Placed {
        match self.target.node(path, found) {
            Err(Wrong::Exists) if self.target.is_same_node(path, found) => {
                self.outcome.were_there += 1;
                Ok(())
            }
            placed => placed,
        }
    }

    fn file(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        line: &Member,
        (path, links): (&SourcePath, &mut Links),
    ) -> Result<(), Trouble> {
        let is_there = match self.target.there(path) {
            Some(held) if !self.overwrite => {
                if !has_content(&held, found.size(), line.sha256.as_deref()) {
                    return Err(Wrong::Exists.into());
                }
                true
            }
            _ => false,
        };
        if is_there {
            self.outcome.were_there += 1;
        } else {
            let file = self.target.unnamed(path)?;
            let sha256 = self.copy(tar, found, (&file, 0), &mut Sha256::new())?;
            if line.sha256.as_ref() != Some(&sha256) {
                return Err(Wrong::Damaged.into());
            }
            self.target.name(&file, path, found)?;
        }
        if line.nlink > 1 {
            links.placed.insert(path.clone());
        }
        Ok(())
    }

    /// Another name of a file of this piece.
    fn another_name(&mut self, line: &Member, path: &SourcePath, links: &Links) -> Result<(), Trouble> {
        let original = original(line).ok_or(Wrong::NoOriginal)?;
        let placed = match links.held.get(&original) {
            Some(held) => self.target.link(held, path),
            None if links.placed.contains(&original) => {
                let held = self.target.there_at(&original).ok_or(Wrong::NoOriginal)?;
                match self.target.link(&held, path) {
                    Err(Wrong::Exists) if self.target.is_same_inode(&held, path) => {
                        self.outcome.were_there += 1;
                        Ok(())
                    }
                    linked => linked,
                }
            }
            None => Err(Wrong::NoOriginal),
        };
        Ok(placed?)
    }

    fn hold(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        path: &SourcePath,
        links: &mut Links,
    ) -> Result<(), Trouble> {
        if links.held.len() >= HELD_MAX {
            return Ok(());
        }
        let file = self.target.unnamed(&SourcePath::root().join(b"x"))?;
        self.copy(tar, found, (&file, 0), &mut Sha256::new())?;
        links.held.insert(path.clone(), self.target.dressed(&file, found)?);
        Ok(())
    }

    fn segment(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        line: &Member,
        (path, segment): (&SourcePath, Segment),
    ) -> Result<(), Trouble> {
        if segment.index == 1 {
            if !self.overwrite && self.target.there(path).is_some() {
                return Err(Wrong::Exists.into());
            }
            let file = self.target.unnamed(path)?;
            self.growing = Some(Growing { path: path.clone(), file, next: 1, hasher: Sha256::new() });
        }
        let Some(mut growing) = self.growing.take_if(|growing| growing.next == segment.index) else {
            return Err(Wrong::Missing.into());
        };
        let at = (&growing.file, segment.offset);
        let sha256 = self.copy(tar, found, at, &mut growing.hasher)?;
        growing.next += 1;
        if segment.index < segment.count {
            self.growing = Some(growing);
            return Ok(());
        }
        if line.file_sha256.as_ref() != Some(&sha256) {
            return Err(Wrong::Damaged.into());
        }
        Ok(self.target.name(&growing.file, path, found)?)
    }

    /// A file whose last segments did not come.
    fn end_growing(&mut self) {
        if let Some(growing) = self.growing.take() {
            self.wrong(&growing.path, &Wrong::Missing);
        }
    }

    fn copy(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        (file, start): (&Unnamed, u64),
        hasher: &mut Sha256,
    ) -> Result<String, Trouble> {
        let copied = copy(tar, found, (file.file(), start), hasher).map_err(|err| match err {
            ContentError::Write(source) => self.target.failed(source).into(),
            err => UnpackError::Content(err),
        });
        let (sha256, written) = copied.map_err(Trouble::Piece)?;
        self.outcome.bytes += written;
        Ok(sha256)
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
