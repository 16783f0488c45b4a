//! What a run that has ended leaves behind: nothing but what its state is made of, and nothing for others to read.

use crate::world::World;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What is left in staging and state, or open to others.
pub fn leaks(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut dirs = vec![PathBuf::from("staging"), PathBuf::from("state")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(world.path(dir.to_str().unwrap())).into_iter().flatten() {
            let entry = entry.unwrap();
            let (path, meta) = (dir.join(entry.file_name()), entry.metadata().unwrap());
            let expected = if meta.is_dir() { 0o700 } else { 0o600 };
            let mode = meta.permissions().mode() & 0o7777;
            if mode != expected {
                wrong.push(format!("{path:?} has the mode {mode:o}"));
            }
            match meta.is_dir() {
                true => dirs.push(path),
                false if is_kept(&path) => {}
                false => wrong.push(format!("{path:?} is left")),
            }
        }
    }
    wrong
}

fn is_kept(file: &Path) -> bool {
    // Whoever only reads the catalog cannot remove the log that it opened.
    const KEPT: [&str; 4] = ["", "-wal", "-shm", ".copy"];
    let is_draft = file.extension().is_some_and(|end| end == "new");
    let of_catalog = file.to_str().and_then(|file| file.strip_prefix("state/catalog.sqlite"));
    file == Path::new("staging/lock")
        || of_catalog.is_some_and(|end| KEPT.contains(&end) || end.starts_with(".damaged-"))
        || file.starts_with("state/manifests") && !is_draft
}
