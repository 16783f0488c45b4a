//! Objects and what is known of them.

use super::{
    GivenUp,
    failure::Failure,
    place::{Lock, Place, examine},
};
use crate::{
    durable::{self, at},
    vault::{
        Crc64, Key, ObjectSpec, Receipt,
        checksum::{Crc64Digest, crc64},
    },
};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Bytes read at a time.
const BUFFER_LEN: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Stored {
    #[serde(rename = "1")]
    V1(Record),
}

/// What is known of an object besides its bytes.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    key: Key,
    size: u64,
    /// Seconds and nanoseconds since 1970 of the file whose bytes were read back.
    modified: (i64, i64),
    /// Of the bytes that were read back.
    crc64: Crc64,
    storage_class: String,
    metadata: BTreeMap<String, String>,
}

impl Record {
    /// Of a file that was read back and has the checksum of its spec.
    pub(super) fn new(key: &Key, spec: &ObjectSpec, file: &Metadata) -> Record {
        Record {
            key: key.clone(),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            crc64: spec.crc64,
            storage_class: spec.storage_class.clone(),
            metadata: spec.metadata.clone(),
        }
    }

    fn is_of(&self, key: &Key, file: &Metadata) -> bool {
        self.key == *key && self.size == file.len() && self.modified == (file.mtime(), file.mtime_nsec())
    }

    /// A record that cannot be read says as much as none: the object is there, and its checksum can be computed.
    fn load(place: &Place, key: &Key) -> Option<Record> {
        let Stored::V1(record) = serde_json::from_slice(&fs::read(place.record(key)).ok()?).ok()?;
        Some(record)
    }
}

pub(super) fn put(
    place: &Place,
    key: &Key,
    spec: &ObjectSpec,
    bytes: &[u8],
    given_up: &GivenUp,
) -> Result<(), Failure> {
    if bytes.len() as u64 != spec.size || crc64(bytes) != spec.crc64 {
        return Err(Failure::Mismatch("The bytes are not those of the object".into()));
    }
    let lock = place.lock()?;
    let dest = place.object(key)?;
    vacant(&dest)?;
    let (_, dir) = place.new_draft(&lock)?;
    let put = (|| {
        let data = dir.join("data");
        let file = durable::create(&data)?;
        durable::write_at(&file, &data, bytes, 0)?;
        if read_back(&file, &data, given_up)? != spec.crc64 {
            return Err(Failure::Mismatch("The disk gave back other bytes than were written".into()));
        }
        publish(place, &lock, key, spec, &file, &data)
    })();
    // If this fails, the next start does it.
    let _ = durable::remove_tree(&dir);
    put
}

/// Makes a file that was read back the object, which never replaces anything.
pub(super) fn publish(
    place: &Place,
    _: &Lock,
    key: &Key,
    spec: &ObjectSpec,
    file: &File,
    data: &Path,
) -> Result<(), Failure> {
    let (dest, record) = (place.object(key)?, place.record(key));
    vacant(&dest)?;
    place.make_dir_of(&dest)?;
    place.make_dir_of(&record)?;
    // The record goes first. Without an object it says nothing; an object without it would have lost its metadata.
    // The lock keeps the record of one that came second from replacing that of the first.
    let stored = Stored::V1(Record::new(key, spec, &file.metadata().map_err(at("examine", data))?));
    let draft = data.with_file_name("record.json");
    durable::write(&draft, &serde_json::to_vec(&stored).expect("a record is plain data"))?;
    durable::rename(&draft, &record)?;
    durable::publish_new(file, data, &dest).map_err(|err| match err.source.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::Exists,
        _ => err.into(),
    })
}

/// That nothing is at the place of an object that is to be made.
pub(super) fn vacant(dest: &Path) -> Result<(), Failure> {
    match examine(dest)? {
        None => Ok(()),
        Some(meta) if meta.is_file() => Err(Failure::Exists),
        Some(_) => Err(Failure::InTheWay { path: dest.to_owned(), why: "is not a plain file" }),
    }
}

/// The checksum of what is on the disk, as far as the system lets us read that and not its cache.
fn read_back(file: &File, path: &Path, given_up: &GivenUp) -> Result<Crc64, Failure> {
    durable::forget_cached(file, 0, 0);
    let len = file.metadata().map_err(at("examine", path))?.len();
    read_through(file, path, 0, len, given_up, |_| {})
}

/// The checksum of a range, also shown to `tap` piece by piece. Gives the cache back behind itself.
pub(super) fn read_through(
    file: &File,
    path: &Path,
    offset: u64,
    len: u64,
    given_up: &GivenUp,
    mut tap: impl FnMut(&[u8]),
) -> Result<Crc64, Failure> {
    let mut digest = Crc64Digest::new();
    let mut buffer = vec![0; BUFFER_LEN.min(len as usize)];
    let end = offset + len;
    let mut at_byte = offset;
    while at_byte < end {
        given_up.check()?;
        let piece = &mut buffer[..(end - at_byte).min(BUFFER_LEN as u64) as usize];
        file.read_exact_at(piece, at_byte).map_err(at("read", path))?;
        digest.update(piece);
        tap(piece);
        durable::forget_cached(file, at_byte, piece.len() as u64);
        at_byte += piece.len() as u64;
    }
    Ok(digest.value())
}

/// The file of an object; `None` where there is none.
pub(super) fn open(place: &Place, key: &Key) -> Result<Option<(File, Metadata)>, Failure> {
    let path = place.object(key)?;
    match examine(&path)? {
        Some(meta) if meta.is_file() => {}
        // A directory of other keys.
        Some(meta) if meta.is_dir() => return Ok(None),
        Some(_) => return Err(Failure::InTheWay { path, why: "is not a plain file" }),
        None => return Ok(None),
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Err(err) if super::failure::absent(&err) => return Ok(None),
        file => file.map_err(at("open", &path))?,
    };
    let meta = file.metadata().map_err(at("examine", &path))?;
    Ok(Some((file, meta)))
}

pub(super) fn head(place: &Place, key: &Key, given_up: &GivenUp) -> Result<Option<Receipt>, Failure> {
    let Some((file, meta)) = open(place, key)? else { return Ok(None) };
    let record = Record::load(place, key).filter(|record| record.key == *key && record.size == meta.len());
    let crc64 = match &record {
        Some(record) if record.is_of(key, &meta) => record.crc64,
        // Copied to another disk, or touched: only reading it tells whether it is still the same.
        _ => read_through(&file, &place.object(key)?, 0, meta.len(), given_up, |_| {})?,
    };
    let (storage_class, metadata) = match record.filter(|record| record.crc64 == crc64) {
        Some(record) => (record.storage_class, record.metadata),
        None => Default::default(),
    };
    Ok(Some(Receipt { key: key.clone(), size: meta.len(), crc64: Some(crc64), storage_class, metadata }))
}

pub(super) fn get_range(place: &Place, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, Failure> {
    let (file, meta) = open(place, key)?.ok_or(Failure::Gone)?;
    let path = place.object(key)?;
    let mut bytes = vec![0; meta.len().saturating_sub(offset).min(len) as usize];
    file.read_exact_at(&mut bytes, offset).map_err(at("read", &path))?;
    durable::forget_cached(&file, offset, len);
    Ok(bytes)
}

pub(super) fn delete(place: &Place, key: &Key) -> Result<(), Failure> {
    let _lock = place.lock()?;
    let path = place.object(key)?;
    match examine(&path)? {
        Some(meta) if meta.is_file() => {
            durable::remove(&path)?;
            remove_empty(&path, place.root());
        }
        Some(meta) if !meta.is_dir() => return Err(Failure::InTheWay { path, why: "is not a plain file" }),
        _ => {}
    }
    let record = place.record(key);
    match examine(&record)? {
        Some(meta) if meta.is_file() => {
            durable::remove(&record)?;
            remove_empty(&record, place.root());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Removes the directories above what is gone, as far as nothing else is in them. Only while the vault is locked: nobody
/// may have just made one to put something into it.
fn remove_empty(gone: &Path, root: &Path) {
    for dir in gone.ancestors().skip(1).take_while(|dir| *dir != root && dir.starts_with(root)) {
        if fs::remove_dir(dir).is_err() {
            return;
        }
    }
}
