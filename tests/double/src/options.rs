//! How a server is set up, and what lesser servers cannot do.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// The access key that is valid unless the options say otherwise.
pub const ACCESS_KEY: &str = "AKIDOUBLE00000000001";
/// Its secret.
pub const SECRET_KEY: &str = "double-secret-key-0000000000000000000001";
/// The region to sign for. Any other is accepted too.
pub const REGION: &str = "us-east-1";

const MIB: u64 = 1024 * 1024;

/// A pair of keys that may sign requests.
#[derive(Clone, Debug)]
pub struct Key {
    /// The access key.
    pub access: String,
    /// Its secret.
    pub secret: String,
    /// The session token that must come along, of temporary credentials.
    pub token: Option<String>,
}

impl Key {
    /// A key for long.
    pub fn new(access: &str, secret: &str) -> Key {
        Key { access: access.into(), secret: secret.into(), token: None }
    }

    /// A temporary one.
    pub fn with_token(access: &str, secret: &str, token: &str) -> Key {
        Key { token: Some(token.into()), ..Key::new(access, secret) }
    }
}

/// How a server is set up. Start from `Options::default()`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen: an address and a port, 0 for any that is free.
    pub listen: String,
    /// Buckets that exist from the start.
    pub buckets: Vec<String>,
    /// Keys that may sign.
    pub keys: Vec<Key>,
    /// Every part but the last must have this size; 0 lets tests use small parts.
    pub min_part_size: u64,
    /// What stays in memory; anything larger goes to a file.
    pub memory_max: usize,
    /// Where the files go; none for a temporary directory.
    pub directory: Option<PathBuf>,
    /// Whether what is stored outlives the server: the next one with the same directory finds it again. Written down
    /// before a request is answered, so that even a killed server has kept all that it told.
    pub persist: bool,
    /// How long a thaw takes by the server's clock.
    pub thaw: Thaw,
    /// What this server lacks.
    pub persona: Persona,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: "127.0.0.1:0".into(),
            buckets: vec!["bucket".into()],
            keys: vec![Key::new(ACCESS_KEY, SECRET_KEY)],
            min_part_size: 5 * MIB,
            memory_max: MIB as usize,
            directory: None,
            persist: false,
            thaw: Thaw::default(),
            persona: Persona::default(),
        }
    }
}

impl Options {
    /// With these buckets instead of `bucket`.
    pub fn buckets(mut self, names: &[&str]) -> Options {
        self.buckets = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// With one more key that may sign.
    pub fn key(mut self, key: Key) -> Options {
        self.keys.push(key);
        self
    }

    /// Without a lower limit on the size of parts.
    pub fn small_parts(mut self) -> Options {
        self.min_part_size = 0;
        self
    }

    /// With thaws that take this long, whatever the tier.
    pub fn thaw(mut self, takes: Duration) -> Options {
        self.thaw = Thaw { standard: takes, bulk: takes };
        self
    }

    /// As this lesser server.
    pub fn persona(mut self, persona: Persona) -> Options {
        self.persona = persona;
        self
    }
}

/// How long a thaw takes.
#[derive(Clone, Copy, Debug)]
pub struct Thaw {
    /// In the tier Standard: 12 hours at most.
    pub standard: Duration,
    /// In the tier Bulk: 48 hours at most.
    pub bulk: Duration,
}

impl Default for Thaw {
    fn default() -> Thaw {
        Thaw { standard: Duration::from_secs(12 * 3600), bulk: Duration::from_secs(48 * 3600) }
    }
}

/// What a Complete answers when the upload has been completed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompletedAgain {
    /// The same answer as the first time: what Amazon documents.
    #[default]
    SameAnswer,
    /// 404 NoSuchUpload, as some other servers do.
    NoSuchUpload,
    /// 412 if the request carries `If-None-Match: *`, since the key exists by now; the same answer otherwise.
    PreconditionFailed,
}

/// What a server lacks or refuses. The default lacks nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Persona {
    /// Ignores every checksum that is sent and tells none, as Ceph 16 does.
    pub no_checksums: bool,
    /// Refuses bodies whose checksum comes in a trailer, as Ceph 16 and (over plain HTTP) Garage do.
    pub no_trailers: bool,
    /// Ignores `If-None-Match` and `If-Match` on PutObject, as Garage does.
    pub no_conditions_on_put: bool,
    /// Ignores them on CompleteMultipartUpload, as Garage and Ceph 16 do.
    pub no_conditions_on_complete: bool,
    /// Answers NotImplemented to `If-None-Match`, as servers do that know no conditions on writing.
    pub rejects_conditions: bool,
    /// Accepts every storage class and keeps all as STANDARD, as Garage does.
    pub no_storage_classes: bool,
    /// Answers InvalidStorageClass for these, as MinIO does for DEEP_ARCHIVE.
    pub rejects_storage_class: Vec<String>,
    /// Tells no ETag in the answer to CompleteMultipartUpload, as Ceph 16 looked to the Rust SDK.
    pub no_etag_on_complete: bool,
    /// What a second Complete of the same upload gets.
    pub completed_again: CompletedAgain,
    /// Operations that nobody is allowed, by name.
    pub denied: BTreeSet<String>,
}

impl Persona {
    /// Ceph 16 in what matters to uploads.
    pub fn ceph16() -> Persona {
        Persona {
            no_checksums: true,
            no_trailers: true,
            no_conditions_on_complete: true,
            no_etag_on_complete: true,
            ..Persona::default()
        }
    }

    /// Garage in what matters to uploads.
    pub fn garage() -> Persona {
        Persona {
            no_trailers: true,
            no_conditions_on_put: true,
            no_conditions_on_complete: true,
            no_storage_classes: true,
            ..Persona::default()
        }
    }
}
