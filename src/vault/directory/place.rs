//! Where things are in the directory, and the locks on them.

use super::failure::{Failure, absent};
use crate::{
    durable::{self, FILE_MODE, at},
    vault::{Key, UploadId},
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Longest name of a file on Linux, bytes.
const NAME_LEN_MAX: usize = 255;
/// What is in the making, and what is being thrown away. No id of an upload begins with a dot.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Mark {
    #[serde(rename = "1")]
    V1,
}

#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    /// `.archiver` in it.
    ours: PathBuf,
}

/// Held while something of the vault is made or removed; dropping it lets go.
pub(super) struct Lock {
    _file: File,
}

impl Place {
    pub(super) fn make(root: &Path) -> Result<Place, Failure> {
        let place = Place::at(root)?;
        match place.root.parent() {
            Some(above) if !above.is_dir() => return Err(Failure::NotReached(place.root)),
            Some(above) => durable::create_dir_below(above, &place.root)?,
            None => {}
        }
        if examine(&place.mark())?.is_none() {
            let mark = serde_json::to_vec(&Mark::V1).expect("a mark is plain data");
            durable::create_dir_below(&place.root, &place.ours)?;
            durable::write(&place.mark(), &mark)?;
        }
        Place::find(root)
    }

    pub(super) fn find(root: &Path) -> Result<Place, Failure> {
        let place = Place::at(root)?;
        place.check()?;
        let mark = place.mark();
        let text = fs::read(&mark).map_err(at("read", &mark))?;
        let Mark::V1 = serde_json::from_slice(&text).map_err(|_| Failure::Mark(mark))?;
        // Only tidying: a vault on a disk that is mounted read-only can still be read.
        let _ = place.sweep();
        Ok(place)
    }

    fn at(root: &Path) -> Result<Place, Failure> {
        let root = std::path::absolute(root).map_err(at("find", root))?;
        Ok(Place { ours: root.join(".archiver"), root })
    }

    fn mark(&self) -> PathBuf {
        self.ours.join("vault.json")
    }

    /// That the vault is there at all.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let mark = self.mark();
        match fs::symlink_metadata(&mark) {
            Ok(_) => Ok(()),
            Err(err) if absent(&err) => Err(Failure::NotReached(self.root.clone())),
            Err(err) => Err(at("examine", &mark)(err).into()),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object is or is to be. No directory on the way is a symbolic link: it could lead out.
    pub(super) fn object(&self, key: &Key) -> Result<PathBuf, Failure> {
        let mut path = self.root.clone();
        for name in key.as_str().split('/') {
            if name.len() > NAME_LEN_MAX {
                return Err(Failure::TooLong);
            }
            path.push(name);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => {
                    return Err(Failure::InTheWay { path, why: "is a symbolic link, which is not followed" });
                }
                Err(err) if !absent(&err) => return Err(at("examine", &path)(err).into()),
                _ => {}
            }
        }
        Ok(path)
    }

    /// What is known of an object. Named exactly like the object, so that names cannot collide that do not
    /// collide there.
    pub(super) fn record(&self, key: &Key) -> PathBuf {
        self.ours.join("objects").join(key.as_str())
    }

    /// Makes the directory that is to hold `path`, which is below the root.
    pub(super) fn make_dir_of(&self, path: &Path) -> Result<(), Failure> {
        let dir = path.parent().expect("it is below the root");
        durable::create_dir_below(&self.root, dir).map_err(|err| match err.source.kind() {
            ErrorKind::NotADirectory => Failure::InTheWay { path: dir.to_owned(), why: "leads through a file" },
            _ => err.into(),
        })
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.ours.join("uploads")
    }

    /// The directory of an upload; `None` where the id cannot be one of ours.
    pub(super) fn upload(&self, id: &UploadId) -> Option<PathBuf> {
        let ours = id.0.len() == 32 && id.0.bytes().all(|b| b.is_ascii_hexdigit());
        ours.then(|| self.uploads().join(&id.0))
    }

    /// A directory to make something in, that nothing else looks at. Only while the vault is locked.
    pub(super) fn new_draft(&self, _: &Lock) -> Result<(UploadId, PathBuf), Failure> {
        let mut bytes = [0; 16];
        // Up to 256 bytes are always given whole.
        getrandom(&mut bytes, GetRandomFlags::empty())
            .map_err(|errno| at("name a draft in", &self.ours)(errno.into()))?;
        let id = format!("{:032x}", u128::from_ne_bytes(bytes));
        let dir = self.uploads().join(format!("{NEW}{id}"));
        // Made even when the vault holds no upload yet, but never on a bare mount point.
        durable::create_dir_below(&self.ours, &dir)?;
        Ok((UploadId(id), dir))
    }

    /// Throws an upload away at once; a crash leaves something that nothing mistakes for an upload.
    pub(super) fn discard(&self, dir: &Path) -> Result<(), Failure> {
        let name = dir.file_name().expect("an upload has a name").to_string_lossy();
        let gone = self.uploads().join(format!("{GONE}{name}"));
        durable::rename(dir, &gone)?;
        Ok(durable::remove_tree(&gone)?)
    }

    /// Waits until nobody else makes or removes anything.
    pub(super) fn lock(&self) -> Result<Lock, Failure> {
        lock(&self.ours.join("lock"))
    }

    /// Removes what a crash left half made or half removed. Everything half made is made under the lock.
    fn sweep(&self) -> Result<(), Failure> {
        let path = self.ours.join("lock");
        let file = open_lock(&path).map_err(at("open", &path))?;
        if file.try_lock().is_err() {
            return Ok(());
        }
        let uploads = self.uploads();
        for entry in fs::read_dir(&uploads).map_err(at("list", &uploads))? {
            let name = entry.map_err(at("list", &uploads))?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(NEW) || name.starts_with(GONE)) {
                durable::remove_tree(&uploads.join(name))?;
            }
        }
        Ok(())
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

/// Waits for a lock file, which is made when absent; the directory that holds it must exist.
pub(super) fn lock(path: &Path) -> Result<Lock, Failure> {
    let file = open_lock(path).map_err(at("open", path))?;
    loop {
        match file.lock() {
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            // Some network filesystems have no locks. Keys are unique, so nobody else is at work on the same.
            Err(err) if err.kind() != ErrorKind::Unsupported => return Err(at("lock", path)(err).into()),
            _ => return Ok(Lock { _file: file }),
        }
    }
}

/// What a path names, without following a link; `None` when nothing.
pub(super) fn examine(path: &Path) -> Result<Option<Metadata>, Failure> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(err) if absent(&err) => Ok(None),
        Err(err) => Err(at("examine", path)(err).into()),
    }
}
