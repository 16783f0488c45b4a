//! Uploads in parts: one file that is filled in any order, and a record of every part that is on the disk.

use super::{
    GivenUp,
    failure::Failure,
    object::{publish, read_through, vacant},
    place::{Lock, Place, examine, lock},
};
use crate::{
    durable::{self, at},
    vault::{Crc64, Key, ObjectSpec, Part, UploadId, checksum::Crc64Digest},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum StoredUpload {
    #[serde(rename = "1")]
    V1 { key: Key, spec: ObjectSpec },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum StoredPart {
    #[serde(rename = "1")]
    V1(Part),
}

/// An upload under way.
struct Upload {
    dir: PathBuf,
    spec: ObjectSpec,
}

impl Upload {
    /// A record that is damaged is that of an upload that cannot be completed: whoever asks begins anew.
    fn load(place: &Place, key: &Key, id: &UploadId) -> Result<Upload, Failure> {
        let dir = place.upload(id).ok_or(Failure::Gone)?;
        match load(&dir.join("spec.json"))? {
            Some(StoredUpload::V1 { key: of, spec }) if of == *key => Ok(Upload { dir, spec }),
            _ => Err(Failure::Gone),
        }
    }

    /// One at a time writes to an upload. What is still being written for someone who gave up comes to nothing once
    /// the object is made, and before that what it spoils is found when the object is read back.
    fn load_locked(place: &Place, key: &Key, id: &UploadId) -> Result<(Upload, Lock), Failure> {
        let dir = place.upload(id).ok_or(Failure::Gone)?;
        let locked = lock(&dir.join("lock")).map_err(|failure| match failure.is_absence() {
            true => Failure::Gone,
            false => failure,
        })?;
        // Only now: it may have been completed or thrown away while we waited.
        Ok((Upload::load(place, key, id)?, locked))
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn part(&self, number: u32) -> PathBuf {
        self.dir.join("parts").join(format!("{number:06}.json"))
    }

    /// How many bytes part `number` has; `None` when the object has no such part.
    fn part_len(&self, number: u32) -> Option<u64> {
        let before = u64::from(number).checked_sub(1)?.checked_mul(self.spec.part_size)?;
        let first_of_nothing = number == 1 && self.spec.size == 0;
        (before < self.spec.size || first_of_nothing).then(|| (self.spec.size - before).min(self.spec.part_size))
    }

    fn offset(&self, part: &Part) -> u64 {
        u64::from(part.number - 1) * self.spec.part_size
    }

    /// Every part that is on the disk, by number.
    fn parts(&self) -> Result<Vec<Part>, Failure> {
        let dir = self.dir.join("parts");
        let mut parts = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at("list", &dir))? {
            let path = entry.map_err(at("list", &dir))?.path();
            // A record that is damaged is no record: the part is sent again.
            if let Some(StoredPart::V1(part)) = load(&path)?
                && path == self.part(part.number)
                && self.part_len(part.number) == Some(part.size)
            {
                parts.push(part);
            }
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }
}

/// A small record; `None` where there is none or it is damaged.
fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    match fs::read(path).map_err(at("read", path)).map_err(Failure::from) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(failure) if failure.is_absence() => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn store(path: &Path, record: &impl Serialize) -> Result<(), Failure> {
    Ok(durable::write(path, &serde_json::to_vec(record).expect("a record is plain data"))?)
}

pub(super) fn begin(place: &Place, key: &Key, spec: &ObjectSpec) -> Result<UploadId, Failure> {
    if spec.part_size == 0 {
        return Err(Failure::Mismatch("Parts of 0 bytes do not make an object".into()));
    }
    // A key that cannot be one here is told before anything is sent.
    place.object(key)?;
    let (id, dir) = place.new_draft(&place.lock()?)?;
    durable::create(&dir.join("data"))?;
    durable::create_dir_below(&dir, &dir.join("parts"))?;
    store(&dir.join("spec.json"), &StoredUpload::V1 { key: key.clone(), spec: spec.clone() })?;
    durable::rename(&dir, &place.uploads().join(&id.0))?;
    Ok(id)
}

/// A part that is being written.
pub(super) struct PartDraft {
    upload: Upload,
    key: Key,
    id: UploadId,
    part: Part,
    file: File,
    written: u64,
}

/// Takes the place of part `number` of `len` bytes, which is neither the old nor the new one until it is finished.
pub(super) fn open_part(
    place: &Place,
    key: &Key,
    id: &UploadId,
    number: u32,
    len: u64,
    crc: Crc64,
) -> Result<PartDraft, Failure> {
    let (upload, _lock) = Upload::load_locked(place, key, id)?;
    if upload.part_len(number) != Some(len) {
        return Err(Failure::Mismatch(format!("The object has no part {number} of {len} bytes")));
    }
    let data = upload.data();
    let file = OpenOptions::new().write(true).open(&data).map_err(at("open", &data)).map_err(Failure::from);
    let file = file.map_err(|failure| if failure.is_absence() { Failure::Gone } else { failure })?;
    durable::remove(&upload.part(number))?;
    let part = Part { number, size: len, crc64: Some(crc), etag: crc.to_string() };
    Ok(PartDraft { upload, key: key.clone(), id: id.clone(), part, file, written: 0 })
}

impl PartDraft {
    /// The lock is not held in between: what is sent slowly keeps no other part waiting.
    pub(super) fn write(mut self, place: &Place, bytes: &[u8]) -> Result<PartDraft, Failure> {
        let _still_there = Upload::load_locked(place, &self.key, &self.id)?;
        let offset = self.upload.offset(&self.part) + self.written;
        self.file.write_all_at(bytes, offset).map_err(at("write", &self.upload.data()))?;
        self.written += bytes.len() as u64;
        Ok(self)
    }

    pub(super) fn finish(self, place: &Place) -> Result<Part, Failure> {
        let _still_there = Upload::load_locked(place, &self.key, &self.id)?;
        durable::sync(&self.file, &self.upload.data())?;
        durable::forget_cached(&self.file, self.upload.offset(&self.part), self.part.size);
        store(&self.upload.part(self.part.number), &StoredPart::V1(self.part.clone()))?;
        Ok(self.part)
    }
}

pub(super) fn parts(place: &Place, key: &Key, id: &UploadId) -> Result<Vec<Part>, Failure> {
    let upload = Upload::load(place, key, id)?;
    // Without its data it was published, and the crash came before it was thrown away.
    examine(&upload.data())?.ok_or(Failure::Gone)?;
    upload.parts().map_err(|failure| if failure.is_absence() { Failure::Gone } else { failure })
}

pub(super) fn complete(
    place: &Place,
    key: &Key,
    id: &UploadId,
    spec: &ObjectSpec,
    parts: &[Part],
    given_up: &GivenUp,
) -> Result<(), Failure> {
    let (upload, _lock) = Upload::load_locked(place, key, id)?;
    let (data, dest) = (upload.data(), place.object(key)?);
    match (examine(&data)?, examine(&dest)?) {
        (None, None) => {
            place.discard(&upload.dir)?;
            return Err(Failure::Gone);
        }
        // A crash came between publishing and here; what was published, was read back before.
        (None, Some(_)) => return place.discard(&upload.dir),
        (Some(ours), Some(object)) if (ours.dev(), ours.ino()) == (object.dev(), object.ino()) => {
            return place.discard(&upload.dir);
        }
        _ => vacant(&dest)?,
    }
    if *spec != upload.spec {
        return Err(Failure::Mismatch("The upload was begun for another object".into()));
    }
    check_parts(&upload, parts)?;
    let file = File::open(&data).map_err(at("open", &data))?;
    durable::sync(&file, &data)?;
    prove(&upload, &file, parts, given_up)?;
    publish(place, &place.lock()?, key, spec, &file, &data)?;
    place.discard(&upload.dir)
}

/// That the parts named are those on the disk, and make the whole object.
fn check_parts(upload: &Upload, named: &[Part]) -> Result<(), Failure> {
    let held = upload.parts()?;
    let count = upload.spec.size.div_ceil(upload.spec.part_size).max(1);
    if named.len() as u64 != count || held.len() as u64 != count {
        let told = format!("The object has {count} parts, but {} are named and {} held", named.len(), held.len());
        return Err(Failure::Mismatch(told));
    }
    // Numbers held are distinct and parts of the object, so as many as the object has are all of them.
    match held.iter().zip(named).find(|(held, named)| held != named) {
        Some((held, _)) => Err(Failure::Mismatch(format!("Part {} is not the one that is held", held.number))),
        None => Ok(()),
    }
}

/// Reads the object back from the disk. Parts that rotted there are forgotten, and so sent again.
fn prove(upload: &Upload, file: &File, parts: &[Part], given_up: &GivenUp) -> Result<(), Failure> {
    let data = upload.data();
    let len = file.metadata().map_err(at("examine", &data))?.len();
    if len != upload.spec.size {
        return Err(Failure::Mismatch(format!("There are {len} bytes on the disk, not {}", upload.spec.size)));
    }
    durable::forget_cached(file, 0, 0);
    let mut whole = Crc64Digest::new();
    let mut rotten = Vec::new();
    for part in parts {
        let crc = read_through(file, &data, upload.offset(part), part.size, given_up, |bytes| whole.update(bytes))?;
        if part.crc64 != Some(crc) {
            durable::remove(&upload.part(part.number))?;
            rotten.push(part.number);
        }
    }
    if !rotten.is_empty() {
        Err(Failure::Mismatch(format!("The disk gave back other bytes than were written in parts {rotten:?}")))
    } else if whole.value() != upload.spec.crc64 {
        Err(Failure::Mismatch("The parts do not make an object with its checksum".into()))
    } else {
        Ok(())
    }
}

pub(super) fn abort(place: &Place, key: &Key, id: &UploadId) -> Result<(), Failure> {
    match Upload::load_locked(place, key, id) {
        Ok((upload, _lock)) => place.discard(&upload.dir),
        Err(Failure::Gone) => Ok(()),
        Err(failure) => Err(failure),
    }
}

pub(super) fn uploads(place: &Place, prefix: &str) -> Result<Vec<(Key, UploadId)>, Failure> {
    let dir = place.uploads();
    let entries = match fs::read_dir(&dir).map_err(at("list", &dir)).map_err(Failure::from) {
        Err(failure) if failure.is_absence() => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut uploads = Vec::new();
    for entry in entries {
        let name = entry.map_err(at("list", &dir))?.file_name();
        let id = UploadId(name.to_string_lossy().into_owned());
        if let Some(dir) = place.upload(&id)
            && let Some(StoredUpload::V1 { key, .. }) = load(&dir.join("spec.json"))?
            && key.as_str().starts_with(prefix)
        {
            uploads.push((key, id));
        }
    }
    uploads.sort_by(|(a, x), (b, y)| (a, &x.0).cmp(&(b, &y.0)));
    Ok(uploads)
}
