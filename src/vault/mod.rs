//! Where sealed pieces end. A small trait, with one conformance suite that runs over every implementation.
//!
//! Keys are unique and immutable: nothing is ever overwritten. Large objects are uploaded in parts and can go
//! on after any interruption. A [`Receipt`] is read back from the vault, never taken from an answer to an upload.

pub mod checksum;
#[doc(hidden)]
pub mod conformance;
pub mod directory;
pub mod payload;
pub mod policy;
pub mod s3;

pub use crate::price::Tier;

use crate::fate::{Fate, Fateful, Trouble, Waits};
use async_trait::async_trait;
use payload::Payload;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name in its metadata under which an object carries the SHA-256 of its bytes, in hexadecimal.
pub const SHA256_LABEL: &str = "sha256";

/// Longest key, bytes; S3's own limit.
pub const KEY_LEN_MAX: usize = 1024;

/// The name of an object below the vault's prefix: `nas1/data/20261120T200000Z/000017-x.tar.xz.gpg`.
/// Components of `[A-Za-z0-9._-]`, none of them `.` or `..`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key: components of A-Z, a-z, 0-9, ., _ and -, none beginning with a dot, joined by /")]
pub struct KeyError(String);

impl Key {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Key, KeyError> {
        let plain = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if text.len() <= KEY_LEN_MAX && text.split('/').all(plain) {
            Ok(Key(text.to_owned()))
        } else {
            Err(KeyError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Key, KeyError> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// CRC64NVME of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Crc64(pub u64);

/// What an object is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSpec {
    /// Bytes of the whole object.
    pub size: u64,
    /// Of the whole object.
    pub crc64: Crc64,
    /// Bytes of every part but the last.
    pub part_size: u64,
    /// A directory vault keeps it, and does nothing with it.
    pub storage_class: String,
    /// Names and values in US-ASCII, at most 2 KB together.
    pub metadata: BTreeMap<String, String>,
}

/// An upload under way, as the vault names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadId(pub String);

/// A part that the vault holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From 1.
    pub number: u32,
    pub size: u64,
    /// `None` where the server keeps none.
    pub crc64: Option<Crc64>,
    /// What completion must name it by.
    pub etag: String,
}

/// Proof, read back from the vault, that it holds an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub key: Key,
    pub size: u64,
    /// As the vault computed it of what it holds; `None` where it does not.
    pub crc64: Option<Crc64>,
    pub storage_class: String,
    pub metadata: BTreeMap<String, String>,
}

impl Receipt {
    /// Whether the object is the one that was to be stored, as far as the vault can tell. Where it keeps no checksum,
    /// the one that went along says at least that nothing else of the same size was stored.
    pub fn proves(&self, spec: &ObjectSpec) -> bool {
        let labels = spec.metadata.get(SHA256_LABEL).zip(self.metadata.get(SHA256_LABEL));
        let same = labels.is_none_or(|(wanted, held)| wanted == held);
        self.size == spec.size && self.crc64.is_none_or(|crc| crc == spec.crc64) && same
    }
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: Key,
    pub size: u64,
    /// Empty where a listing does not tell it.
    pub storage_class: String,
    pub thaw: Thaw,
}

/// Whether the bytes of an object can be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thaw {
    /// They can.
    Ready,
    /// Asked for, and under way.
    Ongoing,
    /// In a class that must be thawed first, and nobody asked.
    Frozen,
}

/// What went wrong, by what must be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Not reached, cut off, timed out.
    Network,
    /// Asked to go slower.
    Throttle,
    /// Keys are missing, wrong or expired.
    Credentials,
    /// The clocks differ too much.
    Clock,
    /// Not allowed.
    Permission,
    /// What arrived is not what was sent.
    Integrity,
    /// The upload or object is not there.
    Gone,
    /// The key exists already.
    Exists,
    /// Something else happens to the key at this moment.
    Conflict,
    /// The configuration names a bucket, a region or a class that is not there.
    Setup,
    /// No room, or the disk fails.
    Storage,
    /// Anything else.
    Other,
}

#[derive(Debug, thiserror::Error)]
#[error("Cannot {attempt} {key:?} in the vault")]
pub struct VaultError {
    pub attempt: &'static str,
    pub key: String,
    pub cause: Cause,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl VaultError {
    pub fn new(
        attempt: &'static str,
        key: impl std::fmt::Display,
        cause: Cause,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> VaultError {
        VaultError { attempt, key: key.to_string(), cause, source: source.into() }
    }
}

impl Fateful for VaultError {
    fn fate(&self) -> Fate {
        match self.cause {
            Cause::Credentials | Cause::Permission | Cause::Clock | Cause::Exists | Cause::Setup => Fate::Operator,
            _ => Fate::Retry,
        }
    }

    fn trouble(&self) -> Trouble {
        Trouble::Vault
    }

    /// Never longer than five minutes, so that the end of any trouble is found within them.
    fn waits(&self) -> Waits {
        match self.cause {
            Cause::Network | Cause::Storage | Cause::Other => Waits::secs(1, 300),
            Cause::Throttle => Waits::secs(5, 120),
            // Often the next answer is another: the upload is begun anew, the object looked at.
            Cause::Gone | Cause::Conflict => Waits::secs(1, 60),
            Cause::Integrity => Waits::secs(5, 300),
            Cause::Credentials => Waits::secs(15, 120),
            Cause::Clock | Cause::Permission | Cause::Setup | Cause::Exists => Waits::secs(60, 300),
        }
    }
}

pub type VaultResult<T> = Result<T, VaultError>;

#[async_trait]
pub trait Vault: Send + Sync {
    /// Stores a small object in one go. A key that exists is left alone: [`Cause::Exists`].
    async fn put(&self, key: &Key, spec: &ObjectSpec, payload: Payload) -> VaultResult<()>;

    /// Begins an upload in parts.
    async fn begin(&self, key: &Key, spec: &ObjectSpec) -> VaultResult<UploadId>;

    /// Stores part `number` (from 1), durably when this returns. Bytes that do not have their checksum are refused:
    /// [`Cause::Integrity`]. A part may be sent again; the last one counts.
    async fn put_part(&self, key: &Key, upload: &UploadId, number: u32, payload: Payload) -> VaultResult<Part>;

    /// The parts that the vault holds of an upload, by number; [`Cause::Gone`] when there is no such upload.
    async fn parts(&self, key: &Key, upload: &UploadId) -> VaultResult<Vec<Part>>;

    /// Makes the object of its parts. A key that exists is left alone: [`Cause::Exists`]. Parts that do not
    /// make the object of the spec are refused: [`Cause::Integrity`].
    async fn complete(&self, key: &Key, upload: &UploadId, spec: &ObjectSpec, parts: &[Part]) -> VaultResult<()>;

    /// Throws an upload away; one that is not there is no error.
    async fn abort(&self, key: &Key, upload: &UploadId) -> VaultResult<()>;

    /// Every upload under way below a prefix.
    async fn uploads(&self, prefix: &str) -> VaultResult<Vec<(Key, UploadId)>>;

    /// What the vault holds under a key; `None` when nothing.
    async fn head(&self, key: &Key) -> VaultResult<Option<Receipt>>;

    /// `len` bytes from `offset`; shorter only at the end of the object.
    async fn get_range(&self, key: &Key, offset: u64, len: u64) -> VaultResult<Vec<u8>>;

    /// Up to `limit` objects whose keys begin with `prefix` and come after `after`, in order of keys (bytes).
    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> VaultResult<Vec<Listed>>;

    /// Removes an object; one that is not there is no error.
    async fn delete(&self, key: &Key) -> VaultResult<()>;

    /// Removes many objects, with every version of them that is kept: what is told as removed is not stored any more.
    /// One answer for each key, in their order; one that is not there is no error.
    async fn delete_many(&self, keys: &[Key]) -> Vec<VaultResult<()>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.delete(key).await);
        }
        answers
    }

    /// Asks for an object to be made readable for `days`, or how far that is.
    async fn thaw(&self, key: &Key, days: u32, tier: Tier) -> VaultResult<Thaw>;

    /// The same, of an object that may be thawing more slowly: then it is made faster. `days` as they were asked for.
    async fn hurry(&self, key: &Key, days: u32, tier: Tier) -> VaultResult<Thaw> {
        self.thaw(key, days, tier).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_proves_no_more_than_it_says() {
        let labels = |sha256: &str| BTreeMap::from([(SHA256_LABEL.to_owned(), sha256.to_owned())]);
        let spec = |metadata| ObjectSpec {
            size: 3,
            crc64: Crc64(7),
            part_size: 0,
            storage_class: "DEEP_ARCHIVE".to_owned(),
            metadata,
        };
        let receipt = |size, crc64, metadata| Receipt {
            key: "a".parse().unwrap(),
            size,
            crc64,
            storage_class: "STANDARD".to_owned(),
            metadata,
        };
        let spec = spec(labels("aa"));
        for (held, expected) in [
            (receipt(3, Some(Crc64(7)), labels("aa")), true),
            (receipt(3, None, labels("aa")), true),
            (receipt(3, None, BTreeMap::new()), true),
            (receipt(3, None, labels("bb")), false),
            (receipt(3, Some(Crc64(8)), labels("aa")), false),
            (receipt(4, Some(Crc64(7)), labels("aa")), false),
        ] {
            assert_eq!(held.proves(&spec), expected, "{held:?}");
        }
    }
}
