//! What is to come back.

use super::lines::{LinesError, lines};
use crate::{archive::manifest::Member, path::SourcePath};
use std::path::Path;

/// Paths, and all that is below them.
#[derive(Clone, Debug, Default)]
pub struct Selection(pub Vec<SourcePath>);

impl Selection {
    pub fn includes(&self, path: &SourcePath) -> bool {
        self.0.iter().any(|wanted| path.is_within(wanted))
    }

    /// Whether something below this directory is to come back.
    pub fn leads_below(&self, dir: &SourcePath) -> bool {
        self.0.iter().any(|wanted| wanted.is_within(dir))
    }

    /// Whether a line is about something that is to come back, and where that was.
    pub fn wanted(&self, line: &Member) -> Option<SourcePath> {
        line.source_path().filter(|path| self.includes(path))
    }
}

/// Whether something at or below this path is in a piece, by its manifest.
pub fn is_in(path: &SourcePath, manifest: &Path) -> Result<bool, LinesError> {
    for line in lines(manifest)? {
        if line?.source_path().is_some_and(|found| found.is_within(path)) {
            return Ok(true);
        }
    }
    Ok(false)
}
