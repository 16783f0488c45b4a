//! What is to come back.

use super::lines::{LinesError, lines};
use crate::{archive::manifest::Member, path::SourcePath};
use std::path::Path;

/// Paths, and all that is below them: in walk order, none below another.
#[derive(Clone, Debug, Default)]
pub struct Selection(Vec<SourcePath>);

impl Selection {
    pub fn new(mut paths: Vec<SourcePath>) -> Selection {
        paths.sort();
        paths.dedup_by(|path, before| path.is_within(before));
        Selection(paths)
    }

    pub fn paths(&self) -> &[SourcePath] {
        &self.0
    }

    pub fn includes(&self, path: &SourcePath) -> bool {
        // Nothing comes between a path and what is below it but what is below it as well.
        let after = self.0.partition_point(|wanted| wanted <= path);
        after > 0 && path.is_within(&self.0[after - 1])
    }

    /// Whether something at or below this directory is to come back.
    pub fn leads_below(&self, dir: &SourcePath) -> bool {
        let from = self.0.partition_point(|wanted| wanted < dir);
        self.0.get(from).is_some_and(|wanted| wanted.is_within(dir))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SourcePath {
        SourcePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn it_is_what_any_of_its_paths_says() {
        let all = ["/", "a", "a/b", "a/b/c", "a (x)", "a-", "a/b-", "b", "a/b/c/d", "c/d", "c"].map(path);
        // Each set of paths, beside every path compared with every other.
        for set in 0_u32..1 << all.len() {
            let wanted: Vec<_> = (0..all.len()).filter(|n| set >> n & 1 == 1).map(|n| all[n].clone()).collect();
            let selection = Selection::new(wanted.clone());
            for path in &all {
                let includes = wanted.iter().any(|wanted| path.is_within(wanted));
                let leads = wanted.iter().any(|wanted| wanted.is_within(path));
                assert_eq!(selection.includes(path), includes, "{path} of {wanted:?}");
                // What is above of what is included is included itself.
                assert_eq!(selection.leads_below(path) || includes, leads || includes, "{path} above {wanted:?}");
            }
        }
    }
}
