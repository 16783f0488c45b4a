//! The uploader and the vault in S3 without anything around them.

use crate::tools::{BUCKET, Random, dir};
use archiver::{
    upload::{Gate, Ledger, LedgerError, Options, Parcel, Retries, Uploader},
    vault::{
        Key, ObjectSpec, Vault,
        checksum::BlockSums,
        s3::{self, Identity, Patience, S3Vault},
    },
};
use archiver_s3_double::{self as double, Double};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

pub const KEY: &str = "nas1/data/000001.tar";
/// As the bucket knows it.
pub const NAME: &str = "lab/nas1/data/000001.tar";

/// Remembers while the test lasts.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<Key, String>>);

impl Ledger for Memory {
    fn load(&self, key: &Key) -> Result<Option<String>, LedgerError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn save(&self, key: &Key, record: &str) -> Result<(), LedgerError> {
        self.0.lock().unwrap().insert(key.clone(), record.to_owned());
        Ok(())
    }

    fn forget(&self, key: &Key) -> Result<(), LedgerError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
}

/// A server, a file to be delivered, and who delivers it.
pub struct Bench {
    pub double: Double,
    pub dir: TempDir,
    pub ledger: Arc<Memory>,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = dir();
        let objects = dir.path().join("objects");
        fs::create_dir(&objects).unwrap();
        let options = double::Options { directory: Some(objects), ..double::Options::default() };
        let keys = dir.path().join("credentials");
        write_keys(&keys, double::ACCESS_KEY, double::SECRET_KEY);
        Bench { double: Double::spawn(options.buckets(&[BUCKET])), dir, ledger: Arc::default() }
    }

    pub fn options(&self, endpoint: &str) -> s3::Options {
        s3::Options {
            bucket: BUCKET.to_owned(),
            prefix: "lab".to_owned(),
            region: None,
            endpoint_url: Some(endpoint.to_owned()),
            path_style: true,
            identity: Identity::File { path: self.dir.path().join("credentials"), profile: None },
            patience: Patience::default(),
        }
    }

    pub async fn vault(&self, endpoint: &str) -> Arc<dyn Vault> {
        Arc::new(S3Vault::open(self.options(endpoint)).await)
    }

    pub fn uploader(&self, vault: Arc<dyn Vault>, gate: Arc<dyn Gate>, options: Options) -> Uploader {
        Uploader::new(vault, self.ledger.clone(), gate, options)
    }

    /// A file with these bytes, to be delivered under [`KEY`].
    pub fn parcel(&self, bytes: &[u8]) -> Parcel {
        let file = self.dir.path().join("piece");
        fs::write(&file, bytes).unwrap();
        let sums = BlockSums::of(bytes);
        let spec = ObjectSpec {
            size: bytes.len() as u64,
            crc64: sums.whole(),
            part_size: 0,
            storage_class: "DEEP_ARCHIVE".to_owned(),
            metadata: BTreeMap::new(),
        };
        Parcel { key: KEY.parse().unwrap(), file, spec, sums }
    }

    /// The object is there, byte for byte, and nothing else is left anywhere.
    pub fn is_delivered(&self, bytes: &[u8]) -> Result<(), String> {
        if self.double.object_bytes(BUCKET, NAME).as_deref() != Some(bytes) {
            return Err("the object is not what was sent".to_owned());
        }
        let (uploads, known) = (self.double.uploads(BUCKET).len(), self.ledger.0.lock().unwrap().len());
        if uploads > 0 || known > 0 {
            return Err(format!("{uploads} uploads and {known} records are left"));
        }
        Ok(())
    }
}

pub fn write_keys(file: &Path, access: &str, secret: &str) {
    let text = format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n");
    // A reader must never see half of it.
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&new, private).unwrap();
    fs::rename(&new, file).unwrap();
}

pub fn options(concurrency: usize) -> Options {
    Options { part_size: 0, concurrency, retries: Retries::default(), bandwidth: None }
}

/// Bytes that do not repeat.
pub fn noise(len: u64) -> Vec<u8> {
    Random::new(len).bytes(len)
}
