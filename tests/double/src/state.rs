//! What the server knows: buckets, objects with their versions, and uploads that are under way.

use crate::{
    clock::Clock,
    content::{Blob, Content, Place},
    keys::Keys,
    log::Log,
    options::{Options, Persona, Thaw},
    script::Script,
    sums::{Algorithm, Sums},
};
use s3s::{S3Result, dto, s3_error};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

/// The file in which everything is written down.
const STATE: &str = "state.json";
const DAY: u64 = 24 * 3600;

/// A lock whose poison does not matter: a test that panicked has failed already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// All that the parts of one server share.
pub(crate) struct Shared {
    pub buckets: Mutex<BTreeMap<String, Bucket>>,
    pub clock: Clock,
    pub keys: Arc<Mutex<Keys>>,
    pub log: Log,
    pub persona: Mutex<Persona>,
    pub script: Mutex<Script>,
    pub thaw: Mutex<Thaw>,
    pub min_part_size: AtomicU64,
    pub place: Place,
    saving: Mutex<()>,
    pub next_id: AtomicU64,
    /// Goes last, with all files in it.
    pub _temporary: Option<tempfile::TempDir>,
}

impl Shared {
    pub fn new(options: &Options) -> io::Result<Shared> {
        let temporary = match options.directory {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("s3-double-").tempdir()?),
        };
        let directory =
            options.directory.clone().or_else(|| Some(temporary.as_ref()?.path().to_owned())).unwrap_or_default();
        let mut buckets = if options.persist { load(&directory)? } else { BTreeMap::new() };
        for name in &options.buckets {
            buckets.entry(name.clone()).or_default();
        }
        Ok(Shared {
            buckets: Mutex::new(buckets),
            clock: Clock::default(),
            keys: Arc::new(Mutex::new(Keys::new(&options.keys))),
            log: Log::default(),
            persona: Mutex::new(options.persona.clone()),
            script: Mutex::new(Script::default()),
            thaw: Mutex::new(options.thaw),
            min_part_size: AtomicU64::new(options.min_part_size),
            place: Place { directory, memory_max: options.memory_max, outlives: options.persist },
            saving: Mutex::default(),
            next_id: AtomicU64::new(1),
            _temporary: temporary,
        })
    }

    /// Writes everything down for a later server, if there is to be one.
    pub fn save(&self) -> io::Result<()> {
        if !self.place.outlives {
            return Ok(());
        }
        let _one_at_a_time = lock(&self.saving);
        let written = serde_json::to_vec(&*lock(&self.buckets))?;
        let new = self.place.directory.join(format!("{STATE}.new"));
        fs::write(&new, written)?;
        #[allow(clippy::disallowed_methods, reason = "a double may lose its state in a power cut")]
        fs::rename(new, self.place.directory.join(STATE))
    }

    pub fn persona(&self) -> Persona {
        lock(&self.persona).clone()
    }

    /// Works on a bucket; nothing else changes meanwhile.
    pub fn bucket<T>(&self, name: &str, work: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        let mut buckets = lock(&self.buckets);
        let bucket = buckets.get_mut(name);
        let bucket = bucket.ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))?;
        bucket.abort_old_uploads(self.clock.now());
        work(bucket)
    }

    /// Works on an object that exists.
    pub fn object<T>(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        work: impl FnOnce(&mut Object) -> S3Result<T>,
    ) -> S3Result<T> {
        self.bucket(bucket, |bucket| work(bucket.object_mut(key, version)?))
    }
}

/// What an earlier server wrote down.
fn load(directory: &Path) -> io::Result<BTreeMap<String, Bucket>> {
    match fs::read(directory.join(STATE)) {
        Ok(written) => Ok(serde_json::from_slice(&written)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// A bucket.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Bucket {
    /// `Enabled` or `Suspended`, once it was ever set.
    pub versioning: Option<String>,
    pub object_lock: Option<dto::ObjectLockConfiguration>,
    pub lifecycle: Option<dto::LifecycleRules>,
    pub encryption: Option<dto::ServerSideEncryptionConfiguration>,
    /// The versions of each key, the current one last.
    pub objects: BTreeMap<String, Vec<Object>>,
    /// By upload id.
    pub uploads: BTreeMap<String, Upload>,
    /// What Complete answered, by upload id, for those who ask again.
    pub completed: HashMap<String, Completed>,
}

impl Bucket {
    pub fn is_versioned(&self) -> bool {
        self.versioning.as_deref() == Some("Enabled")
    }

    /// The current version, unless the key is deleted.
    pub fn current(&self, key: &str) -> Option<&Object> {
        self.objects.get(key)?.last().filter(|object| !object.is_marker)
    }

    pub fn object(&self, key: &str, version: Option<&str>) -> S3Result<&Object> {
        let missing = || s3_error!(NoSuchKey, "The specified key does not exist.");
        let Some(version) = version else { return self.current(key).ok_or_else(missing) };
        let versions = self.objects.get(key).ok_or_else(missing)?;
        let found = versions.iter().find(|object| object.version_name() == version);
        let found = found.ok_or_else(|| s3_error!(NoSuchVersion, "The specified version does not exist."))?;
        if found.is_marker { Err(s3_error!(MethodNotAllowed)) } else { Ok(found) }
    }

    fn object_mut(&mut self, key: &str, version: Option<&str>) -> S3Result<&mut Object> {
        let wanted = self.object(key, version)?.version.clone();
        let versions = self.objects.get_mut(key).into_iter().flatten();
        versions.rev().find(|object| object.version == wanted).ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// Stores an object under a key; returns the id of the version if the bucket keeps versions.
    pub fn store(&mut self, key: &str, mut object: Object, version: String) -> Option<String> {
        let versioned = self.is_versioned();
        object.version = versioned.then_some(version);
        if object.about.retention.is_none() {
            object.about.retention = self.default_retention(object.modified);
        }
        let id = object.version.clone();
        let versions = self.objects.entry(key.to_owned()).or_default();
        if !versioned {
            versions.retain(|other| other.version.is_some());
        }
        versions.push(object);
        id
    }

    fn default_retention(&self, from: SystemTime) -> Option<Retention> {
        let rule = self.object_lock.as_ref()?.rule.as_ref()?.default_retention.as_ref()?;
        let days = rule.days.unwrap_or(0) + 365 * rule.years.unwrap_or(0);
        let until = from + Duration::from_secs(DAY * u64::try_from(days).ok()?);
        Some(Retention { mode: rule.mode.as_ref()?.as_str().to_owned(), until: until.into() })
    }

    /// What the lifecycle rule `AbortIncompleteMultipartUpload` does. Of rules only this one is acted upon.
    fn abort_old_uploads(&mut self, now: SystemTime) {
        for rule in self.lifecycle.iter().flatten().filter(|rule| rule.status.as_str() == "Enabled") {
            let days = rule.abort_incomplete_multipart_upload.as_ref().and_then(|rule| rule.days_after_initiation);
            let Some(days) = days.and_then(|days| u64::try_from(days).ok()) else { continue };
            let filter = rule.filter.as_ref().and_then(|filter| filter.prefix.as_deref());
            let prefix = filter.or(rule.prefix.as_deref()).unwrap_or_default();
            let old = |upload: &Upload| upload.at + Duration::from_secs(DAY * days) <= now;
            self.uploads.retain(|_, upload| !(upload.key.starts_with(prefix) && old(upload)));
        }
    }

    pub fn upload(&self, id: &str, key: &str) -> S3Result<&Upload> {
        self.uploads.get(id).filter(|upload| upload.key == key).ok_or_else(no_such_upload)
    }
}

pub(crate) fn no_such_upload() -> s3s::S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}

/// What is said about an object when its upload begins.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct About {
    pub class: String,
    pub metadata: HashMap<String, String>,
    pub content_type: Option<String>,
    pub tags: Vec<dto::Tag>,
    pub retention: Option<Retention>,
}

/// Until when a version may not be deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Retention {
    pub mode: String,
    pub until: dto::Timestamp,
}

/// A version of an object, or the mark that it was deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    pub version: Option<String>,
    pub is_marker: bool,
    pub content: Content,
    pub etag: String,
    pub about: About,
    pub modified: SystemTime,
    /// What the server claims.
    pub sums: Sums,
    pub sum_type: Option<String>,
    /// What the bytes have.
    pub crc64: String,
    /// None for an object that was put in one piece.
    pub parts: Vec<PartShape>,
    pub thawed: Option<Thawed>,
}

impl Object {
    /// The mark of a deletion.
    pub fn marker(modified: SystemTime) -> Object {
        Object {
            version: None,
            is_marker: true,
            content: Content::default(),
            etag: String::new(),
            about: About::default(),
            modified,
            sums: Sums::new(),
            sum_type: None,
            crc64: String::new(),
            parts: Vec::new(),
            thawed: None,
        }
    }

    pub fn version_name(&self) -> &str {
        self.version.as_deref().unwrap_or("null")
    }

    pub fn is_archived(&self) -> bool {
        matches!(self.about.class.as_str(), "DEEP_ARCHIVE" | "GLACIER")
    }

    pub fn reading(&self, now: SystemTime) -> Reading {
        match &self.thawed {
            _ if !self.is_archived() => Reading::Always,
            Some(thawed) if now < thawed.ready => Reading::Thawing,
            Some(thawed) if now < thawed.expires() => Reading::Until(thawed.expires()),
            _ => Reading::Frozen,
        }
    }
}

/// Whether an object can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Always,
    Frozen,
    Thawing,
    Until(SystemTime),
}

/// A thaw that was asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Thawed {
    pub ready: SystemTime,
    pub days: i32,
}

impl Thawed {
    pub fn expires(&self) -> SystemTime {
        self.ready + Duration::from_secs(DAY * u64::try_from(self.days).unwrap_or(0))
    }
}

/// What remains known of a part once its object is complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartShape {
    pub number: i32,
    pub size: u64,
    pub sums: Sums,
}

/// A part of an upload that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub blob: Blob,
    pub md5: [u8; 16],
    pub etag: String,
    pub sums: Sums,
    pub crc64: String,
    pub at: SystemTime,
}

/// An upload that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub key: String,
    pub about: About,
    pub algorithm: Option<Algorithm>,
    pub sum_type: Option<String>,
    pub parts: BTreeMap<i32, Part>,
    pub at: SystemTime,
}

/// What Complete answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Completed {
    pub key: String,
    pub etag: String,
    pub sums: Sums,
    pub sum_type: Option<String>,
    pub version: Option<String>,
}
