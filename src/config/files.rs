//! What must be true of the files that the configuration names. The only part that asks the file system.

use super::{
    problem::{FileKind, FileRef, Found, Problem},
    rules::{self, Dirs},
    settings::Settings,
};
use crate::path::escape;
use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

impl Settings {
    /// What is wrong with the files that are named: secrets and certificates that are not there, secrets that others
    /// may read, and directories that are the same behind symlinks. Whether a key can be used is not looked at; nor
    /// whether a source is there: it may be mounted later.
    pub fn check_files(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.origin.files.iter().filter_map(problem_of).collect();
        problems.extend(self.real_directories());
        problems.sort_by_key(|problem| (problem.line.is_none(), problem.line));
        problems
    }

    /// The rules about directories, once more with symlinks resolved.
    fn real_directories(&self) -> Vec<Problem> {
        let sources = self.sources.iter().enumerate();
        let dirs = Dirs {
            state: real(&self.state),
            staging: real(&self.staging.path),
            restore: real(&self.restore.path),
            vault: rules::vault_dir(&self.vault.url).map(|path| real(&path)),
            sources: sources.map(|(index, source)| (index, real(&source.path))).collect(),
        };
        let mut found = Found { lines: self.origin.lines.clone(), ..Found::default() };
        rules::directories(&mut found, &dirs);
        found.problems
    }
}

/// What is wrong with one file, if anything.
pub(super) fn problem_of(file: &FileRef) -> Option<Problem> {
    let path = &file.path;
    let what = match fs::metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => format!("there is no file {path:?}"),
        Err(err) => format!("cannot look at {path:?}: {err}"),
        Ok(meta) if meta.is_dir() => format!("must name a file; {path:?} is a directory"),
        Ok(meta) if !meta.is_file() => format!("must name a regular file; {path:?} is none"),
        Ok(meta) if file.kind == FileKind::Secret && meta.permissions().mode() & 0o066 != 0 => {
            let mode = meta.permissions().mode() & 0o7777;
            format!(
                "{path:?} is open to group or others (mode {mode:04o}); run: chmod 600 {}",
                escape(path.as_os_str().as_bytes())
            )
        }
        Ok(_) => return None,
    };
    Some(Problem { line: file.line, key: file.key.clone(), what })
}

/// The path without symlinks, as far down as it is there.
fn real(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            // Joining nothing would add a slash.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}
