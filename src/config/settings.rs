//! What the configuration says, with every default filled in and every value known to be good.

use super::{
    address::{SmtpUrl, VaultUrl},
    document,
    heartbeat::HeartbeatUrl,
    problem::{ConfigError, FileRef, Places, Problem},
};
use crate::{
    name::{Compression, Encryption, SourceName},
    price::Prices,
    units::{Bandwidth, ByteSize, Seconds},
    window::Window,
};
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// As read from a file; each field is a key of the same name, each struct a section.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Where catalog and manifests are.
    pub state: PathBuf,
    /// Of times of day. A system's zone may have no name; then it is not shown.
    #[serde(skip_serializing_if = "Zone::is_nameless")]
    pub time_zone: Zone,
    pub staging: Staging,
    /// At least one; names and paths are unique.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    pub pack: Pack,
    pub compress: Compress,
    pub encrypt: Encrypt,
    pub vault: Vault,
    pub upload: Upload,
    pub restore: Restore,
    /// Absent where the built-in ones do not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    #[serde(skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    pub log: Log,
    #[serde(skip)]
    pub(super) origin: Origin,
}

/// Where the settings come from, so that what is found later can be told with its line.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub file: PathBuf,
    pub lines: Places,
    pub files: Vec<FileRef>,
}

/// Where metrics are told; nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Written every minute; its name ends as the collector wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub textfile: Option<PathBuf>,
    /// Of this machine alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Metrics {
    fn is_empty(&self) -> bool {
        *self == Metrics::default()
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Staging {
    pub path: PathBuf,
    /// Allocated blocks of everything in it never exceed this; at least 3 × `max_size` + 1 %.
    pub cap: ByteSize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Source {
    pub name: SourceName,
    pub path: PathBuf,
    /// In gitignore syntax, relative to `path`; not compiled yet.
    pub exclude: Vec<String>,
    pub include: Vec<String>,
    /// A directory that holds a file of this name is archived empty of all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_tag: Option<String>,
    pub one_file_system: bool,
    pub require_mount: bool,
    /// The next pass starts this long after the last one began; absent: one pass only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Seconds>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Pack {
    pub max_size: ByteSize,
    pub max_members: u64,
    /// Of a file that changed or failed while being read.
    pub retries: u32,
    /// How much of a long draft may be lost: it is made durable after this many bytes …
    pub checkpoint: ByteSize,
    /// … or this long, whichever comes first.
    pub checkpoint_every: Seconds,
}

#[derive(Clone, Debug, Serialize)]
pub struct Compress {
    pub method: Compression,
    /// 0 to 9 for xz, 1 to 19 for zstd.
    pub level: u32,
    /// 0: as many as cores and `memory` allow.
    pub threads: u32,
    pub memory: ByteSize,
    /// Input after which a new independent stream begins, where an interrupted compression goes on.
    pub stream: ByteSize,
}

/// With method `openpgp` there is either a passphrase or at least one recipient, with `none` neither.
#[derive(Clone, Debug, Serialize)]
pub struct Encrypt {
    pub method: Encryption,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<PathBuf>,
    pub prove: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Vault {
    pub url: VaultUrl,
    /// Of pieces.
    pub storage_class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    pub path_style: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// 5 MiB to 5 GiB.
    pub part_size: ByteSize,
    pub concurrency: u32,
    pub names: Names,
    /// Absent: the host name at the first start, which is then kept in the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    Plain,
    /// No path, host or source in any key.
    Opaque,
}

#[derive(Clone, Debug, Serialize)]
pub struct Upload {
    pub window: Window,
    /// Absent: as fast as it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Restore {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_file: Option<PathBuf>,
    /// Absent: as the vault's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    pub path: PathBuf,
    pub cap: ByteSize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Mail {
    pub smtp: SmtpUrl,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
    pub digest: Seconds,
    pub silence: Seconds,
}

#[derive(Clone, Debug, Serialize)]
pub struct Heartbeat {
    pub url: HeartbeatUrl,
    /// Between two requests.
    pub every: Seconds,
}

#[derive(Clone, Debug, Serialize)]
pub struct Log {
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub const ALL: [LogLevel; 5] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// A time zone: the system's, or one of a name that was known when the configuration was read.
#[derive(Clone, Debug)]
pub struct Zone(pub(super) Option<(String, TimeZone)>);

impl Zone {
    /// The name in the configuration.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|(name, _)| name.as_str())
    }

    fn is_nameless(&self) -> bool {
        self.now().iana_name().is_none()
    }

    /// As the system knows it now: over months, zone files are replaced. A zone that has vanished meanwhile stays
    /// what it was.
    pub fn now(&self) -> TimeZone {
        match &self.0 {
            Some((name, zone)) => TimeZone::get(name).unwrap_or_else(|_| zone.clone()),
            None => TimeZone::system(),
        }
    }
}

/// The name that is in force: of the system's zone where none is configured.
impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.now().iana_name().serialize(serializer)
    }
}

impl Settings {
    /// The settings as a TOML document with every default filled in. It names files that hold secrets, but no secret,
    /// and is itself a configuration with the same meaning, but for the path of `heartbeat.url`, which is one.
    pub fn effective(&self) -> String {
        document::to_toml(self)
    }

    /// The section of mail as a TOML document of its own.
    pub fn mail_section(&self) -> Option<String> {
        let mail = self.mail.as_ref()?;
        Some(document::to_toml(&BTreeMap::from([("mail", mail)])))
    }

    /// The catalog in the state directory.
    pub fn catalog_file(&self) -> PathBuf {
        self.state.join("catalog.sqlite")
    }

    /// The file that they were read from.
    pub fn file(&self) -> &Path {
        &self.origin.file
    }

    /// A problem with a key outside the sources, found by whoever uses it: `encrypt.recipients`.
    pub fn problem(&self, key: &str, what: impl Into<String>) -> Problem {
        Problem { line: self.origin.lines.line(key), key: key.to_owned(), what: what.into() }
    }

    /// A problem with a key of the source at `index` in `sources`: `exclude`.
    pub fn source_problem(&self, index: usize, key: &str, what: impl Into<String>) -> Problem {
        let place = |key| self.origin.lines.line(&format!("source[{index}].{key}"));
        Problem { line: place(key).or(place("name")), key: format!("source.{key}"), what: what.into() }
    }

    /// The settings, if also the files that they name can be used.
    pub fn checked(self) -> Result<Settings, ConfigError> {
        let problems = self.check_files();
        if problems.is_empty() { Ok(self) } else { Err(ConfigError::invalid(self.file(), problems)) }
    }
}
