use super::*;
use crate::vault::conformance::Subject;

/// Tests write small files by the thousands, each flushed; a disk that forgets is as good and much faster.
fn scratch() -> tempfile::TempDir {
    match Path::new("/dev/shm") {
        shm if shm.is_dir() => tempfile::tempdir_in(shm).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    }
}

fn subject() -> Subject {
    let dir = scratch();
    let root = dir.path().join("vault");
    DirectoryVault::open(&root).unwrap();
    Subject {
        open: Box::new(move || Arc::new(DirectoryVault::open_existing(&root).unwrap())),
        part_size: 64 << 10,
        keeps_class: true,
        guard: Box::new(dir),
    }
}

mod conforms {
    crate::vault_conformance!(super::subject());
}
