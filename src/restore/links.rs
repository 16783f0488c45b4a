//! Names of one inode within a piece. The first is a member with content, the others only name it; where the first is
//! not to come back, its content gets the first name that is.

use super::{
    lines::{LinesError, lines, original},
    selection::Selection,
    target::Wrong,
};
use crate::{archive::manifest::note, path::SourcePath};
use std::{collections::HashMap, path::Path};

#[derive(Default)]
pub struct Links {
    /// By the first name of an inode of which only others are to come back: the first of those.
    stand_ins: HashMap<SourcePath, SourcePath>,
    /// By the first name: where the inode is now, or why it is not.
    placed: HashMap<SourcePath, Result<SourcePath, Wrong>>,
}

impl Links {
    pub fn of(manifest: &Path, selection: &Selection) -> Result<Links, LinesError> {
        let mut links = Links::default();
        for line in lines(manifest)? {
            let line = line?;
            if line.has_note(note::HARDLINK)
                && let Some(path) = selection.wanted(&line)
                && let Some(original) = original(&line).filter(|original| !selection.includes(original))
            {
                links.stand_ins.entry(original).or_insert(path);
            }
        }
        Ok(links)
    }

    /// Where a member goes that is not to come back itself.
    pub fn stand_in(&self, original: &SourcePath) -> Option<SourcePath> {
        self.stand_ins.get(original).cloned()
    }

    pub fn place(&mut self, original: &SourcePath, at: Result<SourcePath, Wrong>) {
        self.placed.insert(original.clone(), at);
    }

    pub fn placed(&self, original: &SourcePath) -> Result<&SourcePath, Wrong> {
        self.placed.get(original).ok_or(Wrong::NoOriginal)?.as_ref().map_err(Clone::clone)
    }
}
