//! Makes directories that are missing, as root, for the user that the service runs as.

use crate::{cli::Failed, config::Parts};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{CWD, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
    path::Arg,
};
use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

/// As many symlinks as the kernel follows.
const LINKS_MAX: usize = 40;

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

/// Name by name from the root, each in the directory that was looked at: whoever owns a directory above may put a symlink
/// there, or exchange what it holds at any moment, and would have root make and give away what is not theirs.
fn make(dir: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    // The mask of the unit is for what is its own; others must get through what is above.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o022));
    let made = make_below_root(dir);
    rustix::process::umask(mask);
    match made? {
        Some(made) => Ok(rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?),
        None => Ok(()),
    }
}

/// The directory, if it was missing.
fn make_below_root(dir: &Path) -> io::Result<Option<OwnedFd>> {
    let mut here = open(CWD, "/", OFlags::DIRECTORY)?;
    let mut walked = PathBuf::from("/");
    let mut ahead = names(dir);
    let (mut links, mut made) = (0, false);
    while let Some(name) = ahead.pop() {
        walked.push(&name);
        if name == ".." && !is_ours(&here)? {
            return Err(foreign(&walked));
        }
        let next = match open(&here, &name, OFlags::empty()) {
            Err(Errno::NOENT) => {
                let mode = if ahead.is_empty() { Mode::RWXU } else { Mode::from_raw_mode(0o755) };
                rustix::fs::mkdirat(&here, &name, mode)?;
                made = ahead.is_empty();
                open(&here, &name, OFlags::DIRECTORY)?
            }
            next => next?,
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) {
            FileType::Directory => here = next,
            FileType::Symlink if !is_ours(&here)? || !is_ours(&next)? => return Err(foreign(&walked)),
            FileType::Symlink if links < LINKS_MAX => {
                links += 1;
                let target = rustix::fs::readlinkat(&next, "", Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                walked.pop();
                if target.is_absolute() {
                    here = open(CWD, "/", OFlags::DIRECTORY)?;
                    walked = PathBuf::from("/");
                }
                ahead.extend(names(target));
            }
            FileType::Symlink => return Err(Errno::LOOP.into()),
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    // Whoever owns the directory above may have put another one in its place.
    if made && !is_ours(&here)? {
        return Err(foreign(&walked));
    }
    let own = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    made.then(|| rustix::fs::openat(&here, ".", own, Mode::empty())).transpose().map_err(io::Error::from)
}

/// The next one last.
fn names(path: &Path) -> Vec<OsString> {
    let is_name = |component: &Component<'_>| matches!(component, Component::Normal(_) | Component::ParentDir);
    let mut names: Vec<_> = path.components().filter(is_name).map(|name| name.as_os_str().to_owned()).collect();
    names.reverse();
    names
}

/// Of what has this name, a symlink itself.
fn open(dir: impl AsFd, name: impl Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags, Mode::empty())
}

fn is_ours(fd: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::fstat(fd)?.st_uid == rustix::process::geteuid().as_raw())
}

fn foreign(path: &Path) -> io::Error {
    let what = "may be exchanged by another user, and root follows it nowhere; make the directory by hand, for the user of \
                the service, or name a path without such symlinks";
    io::Error::other(format!("{path:?} {what}"))
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

    /// Of another user, root makes and gives away nothing elsewhere.
    #[test]
    fn symlinks_of_others_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            println!("Only root can give things away: not tested");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let theirs = |name: &str| std::os::unix::fs::lchown(path(name), Some(1234), Some(1234)).unwrap();
        for name in ["own", "secret", "home", "home/real"] {
            fs::create_dir(path(name)).unwrap();
        }
        ["own", "home", "home/real"].into_iter().for_each(theirs);
        let (secret, near) = (path("secret"), Path::new("secret"));
        for (link, to) in
            [("home/there", Path::new("../secret")), ("there", near), ("home/roots", &*secret), ("good", near)]
        {
            std::os::unix::fs::symlink(to, path(link)).unwrap();
        }
        ["home/there", "there"].into_iter().for_each(theirs);
        let run = |staging: &str| {
            let parts = Parts { state: path("own"), staging: path(staging), ..Parts::default() };
            run(&parts, &path("own")).map_err(|err| format!("{err:?}"))
        };
        for name in ["home/there", "there", "home/roots", "home/real/.."] {
            for staging in [format!("{name}/staging"), format!("{name}/a/b")] {
                let told = run(&staging).unwrap_err();
                assert!(told.contains("may be exchanged by another user"), "{staging}: {told}");
            }
        }
        assert_eq!(fs::read_dir(path("secret")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(path("home")).unwrap().count(), 3);
        // What is real is made wherever it is, and what root has linked is followed.
        for staging in ["home/real/a/staging", "good/a/staging", "good/../staging"] {
            run(staging).unwrap();
            assert_eq!(fs::metadata(path(staging)).unwrap().uid(), 1234, "{staging}");
        }
        assert_eq!(fs::metadata(path("secret/a")).unwrap().uid(), 0);
        // Where nothing is to be made, nobody minds.
        fs::create_dir(path("secret/staging")).unwrap();
        run("home/there/staging").unwrap();
        assert_eq!(fs::metadata(path("secret/staging")).unwrap().uid(), 0);
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        assert!(run("loop/staging").unwrap_err().contains("symbolic links"));
    }
}
