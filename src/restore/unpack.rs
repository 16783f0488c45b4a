//! Unpacks pieces into a [`Target`], each member compared with the line of the manifest that tells of it: a file gets
//! its name only with the content that was archived. What is wrong with one member is told, and costs no other.

use super::{
    content::{ContentError, copy},
    lines::{LinesError, is_of, lines, name_of, original},
    links::Links,
    segments::Growing,
    selection::Selection,
    target::{Placed, Target, TargetError, Wrong, has_content, is_same_node},
};
use crate::{
    archive::{
        entry::Kind,
        manifest::{Member, note},
        reader::{TarError, TarMember, TarReader},
    },
    path::{SourcePath, escape},
};
use rustix::fd::OwnedFd;
use sha2::{Digest, Sha256};
use std::{io::Read, path::Path};

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
    pub(super) target: Target,
    pub(super) selection: &'a Selection,
    pub(super) overwrite: bool,
    pub(super) outcome: Outcome,
    tell: Tell<'a>,
    pub(super) growing: Option<Growing>,
    /// A file larger than a piece that does not come back, and was told.
    spoilt: Option<SourcePath>,
}

/// What ends a piece, or only spoils a member.
pub(super) enum Trouble {
    Entry(Wrong),
    Piece(UnpackError),
}

impl From<UnpackError> for Trouble {
    fn from(err: UnpackError) -> Trouble {
        Trouble::Piece(err)
    }
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
        let mut links = Links::of(manifest, self.selection)?;
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

    pub(super) fn enter(&mut self, path: &SourcePath) {
        let (outcome, tell) = (&mut self.outcome, &mut self.tell);
        self.target.enter(path, &mut |path, wrong| {
            outcome.wrong += 1;
            tell(path, &wrong);
        });
    }

    fn not_reached(&mut self, line: Option<Member>, err: UnpackError) -> Result<(), UnpackError> {
        if let Some(line) = line {
            self.missing(&line);
        }
        Err(err)
    }

    fn missing(&mut self, line: &Member) {
        if let Some(path) = self.selection.wanted(line) {
            self.spoilt(path, &Wrong::Missing, line);
        }
    }

    pub(super) fn wrong(&mut self, path: &SourcePath, wrong: &Wrong) {
        self.outcome.wrong += 1;
        (self.tell)(path, wrong);
    }

    /// Each entry is told once: not for the header of a directory that another piece holds, nor for each segment.
    fn spoilt(&mut self, path: SourcePath, wrong: &Wrong, line: &Member) {
        if line.has_note(note::ANCESTOR) || self.spoilt.as_ref() == Some(&path) {
            return;
        }
        self.wrong(&path, wrong);
        self.target.spoil(&path);
        self.growing = None;
        self.spoilt = line.segment.map(|_| path);
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
        self.enter(&path);
        if self.growing.as_ref().is_some_and(|growing| growing.path != path) {
            self.end_growing();
        }
        if is_wanted && line.segment.is_none() && found.kind != Kind::Dir {
            self.above(&path, found);
        }
        let done = match line.segment {
            _ if found.kind == Kind::Dir && (is_wanted || self.selection.leads_below(&path)) => {
                self.target.dir(&path, found).map_err(Trouble::from)
            }
            _ if !is_wanted => match links.stand_in(&path) {
                Some(other) => self.stand_in(tar, found, line, (&other, &path, links)),
                None => return Ok(()),
            },
            Some(segment) => self.segment(tar, found, line, (&path, segment)),
            None if found.is_hard_link => self.another_name(line, &path, links),
            None => {
                let placed = self.place(tar, found, line, &path);
                if line.nlink > 1 {
                    links.place(&path, where_placed(&placed, &path));
                }
                placed
            }
        };
        match done {
            Ok(()) if is_wanted && line.is_counted() => self.outcome.came += 1,
            Ok(()) => {}
            Err(Trouble::Entry(wrong)) => self.spoilt(path, &wrong, line),
            Err(Trouble::Piece(err)) => {
                if !matches!(err, UnpackError::Target(_)) && is_wanted {
                    self.spoilt(path, &Wrong::Missing, line);
                }
                return Err(err);
            }
        }
        Ok(())
    }

    /// A segment of which no manifest tells has no directory of its own in any tar.
    fn above(&mut self, path: &SourcePath, found: &TarMember) {
        let Some(dir) = path.parent().filter(|dir| !dir.is_root() && !self.target.is_open(dir)) else { return };
        let mode = found.mode & 0o777;
        let member =
            TarMember { kind: Kind::Dir, mode: mode | (mode & 0o444) >> 2, xattrs: Vec::new(), ..found.clone() };
        if self.target.there(&dir).is_none() {
            // What is in the way of it is told of each member.
            let _ = self.target.dir(&dir, &member);
        }
    }

    /// What is not to come back under its own name, under the first other one that is. What is wrong is told with that.
    fn stand_in(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        line: &Member,
        (other, path, links): (&SourcePath, &SourcePath, &mut Links),
    ) -> Result<(), Trouble> {
        let placed = match self.target.make_above(other) {
            Ok(()) => self.place(tar, found, line, other),
            Err(wrong) => Err(wrong.into()),
        };
        links.place(path, where_placed(&placed, other));
        match placed {
            Err(Trouble::Piece(err)) => Err(err.into()),
            _ => Ok(()),
        }
    }

    fn place(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        line: &Member,
        path: &SourcePath,
    ) -> Result<(), Trouble> {
        if let Some(held) = self.target.there(path).filter(|_| !self.overwrite) {
            let is_same = match found.kind {
                Kind::File => has_content(&held, found.size(), line.sha256.as_deref()),
                _ => is_same_node(&held, found),
            };
            if is_same && found.kind != Kind::File && self.target.is_making_in(path) {
                // A kill may have come between its name and its metadata; those of a file are there before its name.
                self.target.dresser().dress(&held, found)?;
            }
            return Ok(self.is_as_it_was(is_same, &held, found)?);
        }
        if found.kind != Kind::File {
            return Ok(self.target.node(path, found)?);
        }
        let file = self.target.unnamed(path)?;
        let copied = copy(tar, found, (file.file(), 0), &mut Sha256::new());
        if line.sha256 != Some(self.copied(copied)?) {
            return Err(Wrong::Damaged.into());
        }
        Ok(self.target.name(&file, path, found)?)
    }

    /// Of what is there already.
    pub(super) fn is_as_it_was(&mut self, is_same: bool, held: &OwnedFd, found: &TarMember) -> Placed {
        if !is_same {
            return Err(Wrong::Exists);
        }
        self.target.dresser().is_dressed(held, found)?;
        self.outcome.were_there += 1;
        Ok(())
    }

    /// Another name of a member of this piece.
    fn another_name(&mut self, line: &Member, path: &SourcePath, links: &Links) -> Result<(), Trouble> {
        let original = original(line).ok_or(Wrong::NoOriginal)?;
        let at = links.placed(&original)?;
        if at == path {
            return Ok(());
        }
        let held = self.target.there_at(at).ok_or(Wrong::NoOriginal)?;
        match self.target.link(&held, path) {
            Err(Wrong::Exists) if self.target.is_same_inode(&held, path) => {
                self.outcome.were_there += 1;
                Ok(())
            }
            linked => Ok(linked?),
        }
    }

    pub(super) fn copied(&mut self, copied: Result<(String, u64), ContentError>) -> Result<String, Trouble> {
        let copied = copied.map_err(|err| match err {
            ContentError::Write(source) => self.target.failed(source).into(),
            err => UnpackError::Content(err),
        });
        let (sha256, written) = copied.map_err(Trouble::Piece)?;
        self.outcome.bytes += written;
        Ok(sha256)
    }
}

/// What cannot be dressed is in place all the same.
fn where_placed(placed: &Result<(), Trouble>, path: &SourcePath) -> Result<SourcePath, Wrong> {
    match placed {
        Ok(()) | Err(Trouble::Entry(Wrong::Metadata(_))) => Ok(path.clone()),
        Err(Trouble::Entry(wrong)) => Err(wrong.clone()),
        Err(Trouble::Piece(_)) => Err(Wrong::Missing),
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
