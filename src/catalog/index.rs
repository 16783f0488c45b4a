//! Room for the index of the log, which every process that uses the catalog has mapped into its memory (`-shm`).
//!
//! SQLite makes that file longer by writing one byte to each 4 KiB of it. Where the blocks of a filesystem are smaller,
//! the rest has none, and whoever touches it on a full disk is ended by SIGBUS: a full disk would not be an error that
//! is told and waited for, but a crash. So room is asked for before SQLite needs it, and no room is an error.
//!
//! Closing a descriptor of that file drops all locks that this process holds on it (fcntl(2)), and SQLite's own are
//! among them. So the descriptor lives longer than every connection of this process to the catalog.

use super::open::with_end;
use crate::durable::{self, DurableError};
use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Bytes of the index that SQLite maps at once, and frames of the log that they stand for (sqlite.org/walformat.html).
const REGION: u64 = 32 << 10;
const FRAMES: u64 = 4062;
/// Bytes of a frame.
const FRAME: u64 = 24 + 4096;
/// Room that is kept for the log to grow within one transaction: 16,000 pages. A reader that takes long lets the log grow
/// over many, and each of them looks again.
const REGIONS_AHEAD: u64 = 4;
/// Blocks that are as large as pages of memory have room for all that the byte in them stands for.
const PAGE: u64 = 4096;

/// The index of the log of an open catalog.
#[derive(Debug)]
pub struct LogIndex {
    shared: Arc<Shared>,
    wal: PathBuf,
}

#[derive(Debug)]
struct Shared {
    file: File,
    path: PathBuf,
    /// Regions that have room.
    regions: Mutex<u64>,
}

/// Those of this process, by path.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Shared>>> = Mutex::new(BTreeMap::new());

/// Before SQLite opens a catalog: whether there is room for the first region, which it touches at once.
pub fn look_for_room(catalog: &Path) -> Result<(), DurableError> {
    let shm = with_end(catalog, "-shm");
    let dir = catalog.parent().unwrap_or(Path::new("/"));
    let told = statvfs(dir).map_err(|errno| durable::at("examine", dir)(errno.into()))?;
    if told.f_frsize >= PAGE {
        return Ok(());
    }
    // What it has is kept, or comes back when SQLite makes it anew.
    let has = fs::metadata(&shm).map_or(0, |meta| meta.blocks() * 512);
    // A few blocks say where the others are.
    let wanted = (REGION + 8 * told.f_frsize).saturating_sub(has);
    let free = told.f_bavail.saturating_mul(told.f_frsize);
    if has >= REGION || free >= wanted {
        return Ok(());
    }
    Err(durable::at("make room for", &shm)(Errno::NOSPC.into()))
}

impl LogIndex {
    /// Of a catalog whose log SQLite has opened.
    pub fn open(catalog: &Path) -> Result<LogIndex, DurableError> {
        let path = with_end(catalog, "-shm");
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, shared| shared.strong_count() > 0);
        let shared = match open.get(&path).and_then(Weak::upgrade) {
            Some(shared) => shared,
            None => {
                let file = File::options().read(true).write(true).open(&path).map_err(durable::at("open", &path))?;
                let shared = Arc::new(Shared { file, path: path.clone(), regions: Mutex::new(0) });
                open.insert(path, Arc::downgrade(&shared));
                shared
            }
        };
        drop(open);
        let index = LogIndex { shared, wal: with_end(catalog, "-wal") };
        index.make_room()?;
        Ok(index)
    }

    /// Before anything is written to the log: room for what it may need.
    pub fn make_room(&self) -> Result<(), DurableError> {
        let log = match fs::metadata(&self.wal) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => 0,
            meta => meta.map_err(durable::at("examine", &self.wal))?.len(),
        };
        let wanted = log / FRAME / FRAMES + REGIONS_AHEAD;
        let mut regions = self.shared.regions.lock().unwrap_or_else(PoisonError::into_inner);
        if *regions >= wanted {
            return Ok(());
        }
        match fallocate(&self.shared.file, FallocateFlags::empty(), 0, wanted * REGION) {
            // Where a filesystem cannot, SQLite's way is all there is.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(durable::at("make room for", &self.shared.path)(errno.into())),
        }
        *regions = wanted;
        Ok(())
    }
}
