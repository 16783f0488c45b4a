//! Durable changes of the disk, and the only renames of the crate.
//!
//! What is published is complete after a power cut: first the bytes, then the name, then the directory that
//! holds the name. A rename without the fsyncs leaves a name with 0 bytes on ext4 and XFS.
//!
//! All of this blocks; it is called from threads of stages and never from async workers.

#![expect(clippy::disallowed_methods, reason = "this is the one place that renames")]

use rustix::{
    fd::OwnedFd,
    fs::{FallocateFlags, fallocate, fstatfs},
    io::Errno,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Seek, Write},
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Files are readable by us alone: they hold what nobody else may read.
pub const FILE_MODE: u32 = 0o600;
pub const DIR_MODE: u32 = 0o700;

/// A change of the disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {attempt} {path:?}")]
pub struct DurableError {
    pub attempt: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// Names the attempt and the path of an I/O error.
pub fn at<'a>(attempt: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DurableError + 'a {
    move |source| DurableError { attempt, path: path.to_owned(), source }
}

/// Whether a failed read says that the disk has lost the bytes, which reading again does not bring back.
pub fn is_lost(err: &io::Error) -> bool {
    use rustix::io::Errno;
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN].map(Errno::raw_os_error);
    err.raw_os_error().is_some_and(|errno| lost.contains(&errno))
}

/// Creates a new, empty file that only we can read, for reading and writing.
pub fn create(path: &Path) -> Result<File, DurableError> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path).map_err(at("create", path))
}

/// What is left of a filesystem for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    pub bytes: u64,
    /// Files that can still be made; `None` where the filesystem makes room for them as it goes.
    pub files: Option<u64>,
}

pub fn free(path: &Path) -> Result<Free, DurableError> {
    let told = rustix::fs::statvfs(path).map_err(|errno| at("examine", path)(errno.into()))?;
    let files = (told.f_files != 0).then_some(told.f_favail);
    Ok(Free { bytes: told.f_bavail.saturating_mul(told.f_frsize), files })
}

/// Creates a directory that only we can enter, with those above it; what exists is left alone.
pub fn create_dir(path: &Path) -> Result<(), DurableError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(at("create", path)(err)),
        _ => sync_parent(path),
    }
}

/// Like [`create_dir`], but only below `base`, which is never made: a disk that is not mounted must not be
/// mistaken for an empty one.
pub fn create_dir_below(base: &Path, path: &Path) -> Result<(), DurableError> {
    if path == base || path.is_dir() {
        return Ok(());
    }
    match path.parent() {
        Some(parent) if parent.starts_with(base) => create_dir_below(base, parent)?,
        _ => return Err(at("create", path)(io::ErrorKind::InvalidInput.into())),
    }
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(at("create", path)(err)),
        // Someone else made it meanwhile, unless it is something else.
        Err(_) if !path.is_dir() => Err(at("create", path)(io::ErrorKind::NotADirectory.into())),
        _ => sync_parent(path),
    }
}

/// Writes bytes at an offset of an open file; they are durable when this returns.
pub fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<(), DurableError> {
    file.write_all_at(bytes, offset).map_err(at("write", path))?;
    file.sync_data().map_err(at("flush", path))
}

/// Bytes of a growing file after which what was written is sent to the disk ...
const STARTED: u64 = 8 << 20;
/// ... and after which that is waited for.
const WAITED_FOR: u64 = 64 << 20;

/// A file that grows by the blocks of what is written to it and no more.
///
/// XFS gives a growing file about as many blocks again ahead of its end as it has, up to 8 GiB, until it is closed
/// (xfs(5), `allocsize`), and whoever counts on what is written is wrong by that. Where blocks were asked for it gives
/// none ahead.
///
/// Nor does it fill the page cache: what was written is on its way to the disk soon, and waited for after a while.
#[derive(Clone, Copy, Debug)]
pub struct Growing<'a>(pub &'a File);

impl Growing<'_> {
    pub fn write_all_at(self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.allocate(offset, bytes.len());
        self.0.write_all_at(bytes, offset)?;
        self.write_out(offset, bytes.len())
    }

    fn write_out(self, offset: u64, len: usize) -> io::Result<()> {
        let has_passed = |step: u64| offset / step != (offset + len as u64) / step;
        if has_passed(WAITED_FOR) {
            self.0.sync_data()?;
        }
        if has_passed(STARTED) {
            // Of pages that are not written yet this starts the writing.
            forget_cached(self.0, 0, 0);
        }
        Ok(())
    }

    /// Whatever fails here, writing tells.
    fn allocate(self, offset: u64, len: usize) {
        const XFS: u32 = 0x5846_5342;
        if fstatfs(self.0).is_ok_and(|facts| facts.f_type as u32 == XFS) {
            let _ = fallocate(self.0, FallocateFlags::KEEP_SIZE, offset, len as u64);
        }
    }
}

impl Write for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let offset = self.0.stream_position()?;
        self.allocate(offset, bytes.len());
        let len = self.0.write(bytes)?;
        self.write_out(offset, len)?;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the content of a file durable.
pub fn sync(file: &File, path: &Path) -> Result<(), DurableError> {
    file.sync_all().map_err(at("flush", path))
}

/// The system keeps pages in lots of up to this many bytes, and forgets a lot as a whole or not at all.
const LOT: u64 = 4 << 20;

/// Asks the system to forget what it has cached of a file, so that the next read comes from the disk. `len` 0
/// is to the end. It is a hint: pages not yet written stay, and some filesystems do nothing. Pages a little before
/// `offset` go, too: those that the last such call could not part.
pub fn forget_cached(file: &File, offset: u64, len: u64) {
    let from = offset.saturating_sub(LOT);
    let len = if len == 0 { 0 } else { offset - from + len };
    let _ = rustix::fs::fadvise(file, from, NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
}

/// Makes a written draft the file at `dest`, replacing what is there. After this returns, a power cut leaves
/// `dest` whole; before, it leaves what was there before.
pub fn publish(draft: &File, tmp: &Path, dest: &Path) -> Result<(), DurableError> {
    draft.sync_all().map_err(at("flush", tmp))?;
    rename(tmp, dest)
}

/// Moves a complete file to another name on the same filesystem.
pub fn rename(from: &Path, to: &Path) -> Result<(), DurableError> {
    fs::rename(from, to).map_err(at("publish", to))?;
    sync_parent(to)?;
    if from.parent() != to.parent() {
        sync_parent(from)?;
    }
    Ok(())
}

/// Gives what is complete its name in the same directory, and replaces what has it. A crash may leave the one or the other.
pub fn replace_in(dir: &OwnedFd, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    rustix::fs::renameat(dir, from, dir, to)
}

/// Like [`publish`], but fails with [`io::ErrorKind::AlreadyExists`] instead of replacing anything, also when
/// two do it at once.
pub fn publish_new(draft: &File, tmp: &Path, dest: &Path) -> Result<(), DurableError> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    draft.sync_all().map_err(at("flush", tmp))?;
    match renameat_with(CWD, tmp, CWD, dest, RenameFlags::NOREPLACE) {
        // NFS and some FUSE filesystems cannot: a hard link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(tmp, dest).map_err(at("publish", dest))?;
            fs::remove_file(tmp).map_err(at("remove", tmp))?;
        }
        done => done.map_err(|errno| at("publish", dest)(errno.into()))?,
    }
    sync_parent(dest)
}

/// Writes a small file whole: after a power cut there is either the old one or the new one.
pub fn write(dest: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    write_with(dest, bytes, FILE_MODE)
}

/// As [`write`], for other users to read.
pub fn write_for_all(dest: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    write_with(dest, bytes, 0o644)
}

fn write_with(dest: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let mut name = dest.file_name().expect("a file of ours has a name").to_owned();
    name.push(".new");
    let tmp = dest.with_file_name(name);
    match fs::remove_file(&tmp) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(at("remove", &tmp)(err)),
        _ => {}
    }
    let mut file = create(&tmp)?;
    if mode != FILE_MODE {
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(at("open to others", &tmp))?;
    }
    file.write_all(bytes).map_err(at("write", &tmp))?;
    publish(&file, &tmp, dest)
}

/// Removes a file; one that is not there is no error.
pub fn remove(path: &Path) -> Result<(), DurableError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(at("remove", path)(err)),
    }
}

/// Removes a directory with everything below it; one that is not there is no error. Not whole at a power cut,
/// so what could be mistaken for something complete is renamed first.
pub fn remove_tree(path: &Path) -> Result<(), DurableError> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_parent(path),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(at("remove", path)(err)),
    }
}

/// Makes names in the directory of `path` durable.
pub fn sync_parent(path: &Path) -> Result<(), DurableError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at("flush the directory of", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn publish_new_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let (tmp, dest) = (dir.path().join("tmp"), dir.path().join("dest"));
        fs::write(&dest, "old").unwrap();
        let file = create(&tmp).unwrap();
        let err = publish_new(&file, &tmp, &dest).unwrap_err();
        assert_eq!(err.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&dest).unwrap(), b"old");
    }

    #[test]
    fn a_written_file_is_whole_and_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("record");
        write(&dest, b"one").unwrap();
        write(&dest, b"two").unwrap();
        assert_eq!(fs::read(&dest).unwrap(), b"two");
        assert_eq!(fs::metadata(&dest).unwrap().permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&dest).unwrap();
        remove(&dest).unwrap();
    }

    #[test]
    fn a_missing_base_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("disk");
        let err = create_dir_below(&base, &base.join("a/b")).unwrap_err();
        assert_eq!(err.source.kind(), io::ErrorKind::NotFound);
        assert!(create_dir_below(&base, &dir.path().join("other")).is_err());
        fs::create_dir(&base).unwrap();
        create_dir_below(&base, &base.join("a/b")).unwrap();
        create_dir_below(&base, &base.join("a/b")).unwrap();
        assert_eq!(fs::metadata(base.join("a/b")).unwrap().permissions().mode() & 0o777, DIR_MODE);
    }

    #[test]
    fn a_growing_file_takes_the_blocks_of_what_is_written_and_no_more() {
        if !rustix::process::geteuid().is_root() {
            println!("Only root can mount a disk: not tested");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let sh = |script: &str| {
            let out = std::process::Command::new("sh").args(["-euc", script]).current_dir(dir.path()).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        };
        sh("truncate -s 400M disk; mkfs.xfs -q disk; mkdir mnt; mount -o loop disk mnt");
        let megabyte = vec![1; 1 << 20];
        let most = |name: &str, write: &dyn Fn(&File, &[u8])| -> u64 {
            let file = create(&dir.path().join("mnt").join(name)).unwrap();
            let ahead = (0..20).map(|_| {
                write(&file, &megabyte);
                let meta = file.metadata().unwrap();
                (512 * meta.blocks()).saturating_sub(meta.len())
            });
            ahead.max().unwrap()
        };
        let plain = most("plain", &|mut file, bytes| file.write_all(bytes).unwrap());
        let growing = most("growing", &|file, bytes| Growing(file).write_all(bytes).unwrap());
        let growing_at = most("growing-at", &|file, bytes| {
            Growing(file).write_all_at(bytes, file.metadata().unwrap().len()).unwrap();
        });
        sh("umount mnt");
        assert_eq!((growing, growing_at), (0, 0));
        assert!(plain > 1 << 20, "XFS gives no blocks ahead any more: {plain}");
    }
}
