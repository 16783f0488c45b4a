//! What is in place already, by its manifest: a piece of which nothing is missing need not be fetched.

use super::{
    lines::{bare, lines, original},
    target::{has_content, is_same_node},
    unpack::{UnpackError, Unpacker},
};
use crate::{
    archive::{
        entry::Kind,
        manifest::{Member, note},
        reader::TarMember,
    },
    path::SourcePath,
};
use std::path::Path;

impl Unpacker<'_> {
    /// Whether all that is wanted of a piece is in place.
    pub fn is_there(&mut self, manifest: &Path) -> Result<bool, UnpackError> {
        if self.overwrite {
            return Ok(false);
        }
        for line in lines(manifest)? {
            let line = line?;
            let Some(path) = line.source_path().filter(|path| self.is_of_interest(path, &line)) else { continue };
            if !bare(&line).is_some_and(|member| self.is_in_place(&path, &line, &member)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is in place counts as what was there, and directories that are not complete are completed as the manifest says.
    pub fn pass_over(&mut self, manifest: &Path) -> Result<(), UnpackError> {
        for line in lines(manifest)? {
            let line = line?;
            let Some(path) = line.source_path().filter(|path| self.is_of_interest(path, &line)) else { continue };
            if line.is_counted() && self.selection.includes(&path) {
                self.outcome.came += 1;
                self.outcome.were_there += 1;
            }
            let Some(member) = bare(&line).filter(|member| member.kind == Kind::Dir) else { continue };
            if !(line.has_note(note::ANCESTOR) && self.target.is_open(&path)) {
                self.enter(&path);
                if let Err(wrong) = self.target.dir(&path, &member) {
                    self.wrong(&path, &wrong);
                }
            }
        }
        Ok(())
    }

    fn is_of_interest(&self, path: &SourcePath, line: &Member) -> bool {
        self.selection.includes(path) || line.r#type == Kind::Dir.as_str() && self.selection.leads_below(path)
    }

    fn is_in_place(&mut self, path: &SourcePath, line: &Member, member: &TarMember) -> bool {
        if member.kind == Kind::Dir {
            // What a directory has of attributes only the piece itself says.
            return self.target.there_at(path).is_some()
                && (line.xattr_sha256.is_none() || self.target.is_complete(path, member.uid));
        }
        let Some(held) = self.target.there_at(path).filter(|_| line.segment.is_none()) else { return false };
        if member.is_hard_link {
            let first = original(line).and_then(|original| self.target.there_at(&original));
            return first.is_some_and(|first| self.target.is_same_inode(&first, path));
        }
        let is_same = match member.kind {
            Kind::File => has_content(&held, line.size, line.sha256.as_deref()),
            _ => is_same_node(&held, member),
        };
        is_same && self.target.dresser().is_dressed(&held, member).is_ok()
    }
}
