//! Makes directories that are missing, as root, for the user that the service runs as.

use crate::{cli::Failed, config::Parts};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid},
    io::Errno,
};
use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

/// `own` is a directory that systemd has given to that user.
pub fn run(parts: &Parts, own: &Path) -> Result<u8, Failed> {
    make_missing(&parts.state, &parts.staging, own).map(|()| 0)
}

/// A directory that is there is left as it is.
pub fn make_missing(state: &Path, staging: &Path, own: &Path) -> Result<(), Failed> {
    let owner = fs::metadata(own)?;
    for (dir, above) in [(state, own), (staging, state)] {
        // What is below its own directories, the service makes itself.
        if !dir.starts_with(own) && !dir.starts_with(above) {
            make(dir, owner.uid(), owner.gid()).map_err(|err| Failed::new(1, format!("Cannot make {dir:?}: {err}")))?;
        }
    }
    Ok(())
}

fn make(dir: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        // The mask of the unit is for what is its own; others must get through here.
        let mask = rustix::process::umask(Mode::from_raw_mode(0o022));
        let made = fs::create_dir_all(above);
        rustix::process::umask(mask);
        made?;
    }
    match rustix::fs::mkdir(dir, Mode::RWXU) {
        Err(Errno::EXIST) => return Ok(()),
        done => done?,
    }
    // Of the directory itself, should its name be exchanged for a symlink meanwhile.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(dir, flags, Mode::empty())?;
    Ok(rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_missing_is_made_and_what_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        fs::create_dir(&own).unwrap();
        let parts = |staging: &str| Parts { state: own.clone(), staging: dir.path().join(staging), ..Parts::default() };
        run(&parts("a/b/staging"), &own).unwrap();
        assert_eq!(fs::metadata(dir.path().join("a/b")).unwrap().mode() & 0o777, 0o755);
        let made = fs::metadata(dir.path().join("a/b/staging")).unwrap();
        assert_eq!((made.mode() & 0o777, made.uid()), (0o700, fs::metadata(&own).unwrap().uid()));
        fs::set_permissions(dir.path().join("a/b/staging"), fs::Permissions::from_mode(0o750)).unwrap();
        run(&parts("a/b/staging"), &own).unwrap();
        assert_eq!(fs::metadata(dir.path().join("a/b/staging")).unwrap().mode() & 0o777, 0o750);
        run(&parts("own/staging"), &own).unwrap();
        assert!(!own.join("staging").exists());
    }
}
