//! What is inside a piece, as it stands in the vault beside it: JSON Lines, first [`Head`], then one [`Member`]
//! per member in the order of the tar, last [`RangeEnd`].
//!
//! The format is frozen by the files in `tests/testdata/v1`, which nobody edits: fields are added, never changed.

use crate::{
    archive::entry::{Kind, Stamp},
    name::{Compression, Encryption, PassId, SourceName},
    notice::{Exception, Reason, Severity},
    path::SourcePath,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of manifests and indexes; a reader refuses what is newer.
pub const FORMAT_VERSION: u32 = 1;

/// Splits bytes into the pair of fields `x` and `x_b64`, of which exactly one is there.
pub fn split(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

/// Joins the pair of fields again; `None` when neither is there or the base64 is damaged.
pub fn join(text: &Option<String>, b64: &Option<String>) -> Option<Vec<u8>> {
    match (text, b64) {
        (Some(text), None) => Some(text.clone().into_bytes()),
        (None, Some(b64)) => BASE64.decode(b64).ok(),
        _ => None,
    }
}

/// The name of a path in a tar and a manifest: the root is `./`, all others stand without a leading `./`.
/// (In the tar, directories have a trailing `/`; in the manifest `type` says it.)
pub fn member_name(path: &SourcePath) -> Vec<u8> {
    if path.is_root() { b"./".to_vec() } else { path.as_bytes().to_vec() }
}

/// The first line: `{"piece": {…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Of the format: [`FORMAT_VERSION`].
    pub format: u32,
    /// Of the program that wrote it.
    pub program: String,
    pub host: String,
    pub source: SourceName,
    /// The source's id in keys: its name, or a random id with opaque names.
    pub source_id: String,
    pub pass: PassId,
    pub seq: u32,
    /// The full key of the piece in the vault.
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_b64: Option<String>,
    /// Keys of pieces that this one stands for from now on.
    #[serde(default)]
    pub supersedes: Vec<String>,
    pub compression: Compression,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compression_level: Option<u32>,
    pub encryption: Encryption,
    /// Of the certificates it is encrypted to; empty with a passphrase.
    #[serde(default)]
    pub fingerprints: Vec<String>,
    /// SHA-256 of the rules by which entries were left out.
    pub filter_sha256: String,
    pub members: u64,
    pub tar_size: u64,
    pub tar_sha256: String,
    pub compressed_size: u64,
    pub compressed_sha256: String,
    pub sealed_size: u64,
    pub sealed_sha256: String,
    /// CRC64NVME of the sealed form, base64 of the 8 bytes big-endian, as S3 shows it.
    pub sealed_crc64nvme: String,
    /// Where each independently compressed block begins: `[offset in the tar, offset in the compressed form]`.
    pub blocks: Vec<[u64; 2]>,
    /// Bytes of the sealed form before the encrypted data begin.
    pub header_length: u64,
}

/// Which part of a file that is larger than a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// From 1.
    pub index: u32,
    pub count: u32,
    /// Of the segment's first byte in the file.
    pub offset: u64,
    /// Of the whole file.
    pub file_size: u64,
}

/// Notes on a member.
pub mod note {
    /// The header of a directory above the range, so that the piece unpacks alone; not counted.
    pub const ANCESTOR: &str = "ancestor";
    pub const CHANGED: &str = "changed";
    pub const DAMAGED: &str = "damaged";
    /// A link to an earlier member of this piece, named by `link`.
    pub const HARDLINK: &str = "hardlink";
    /// A full copy: other names of the same inode may be in other pieces.
    pub const LINKED: &str = "linked";
    /// Longer than PATH_MAX: GNU tar cannot unpack it.
    pub const DEEP: &str = "deep";
}

/// One line per member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_b64: Option<String>,
    /// [`Kind::as_str`].
    pub r#type: String,
    /// Of the data in this member before padding: of a segment its own length, of a sparse file its full size.
    pub size: u64,
    pub mtime: String,
    pub ctime: String,
    /// Four octal digits: `0644`.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    /// Target of a symlink, or path of the earlier member that a hard link stands for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_b64: Option<String>,
    /// Device number of a device node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rdev: Option<u64>,
    /// Of the content, holes read as zeros; of a segment its own, and with the last that of the file in `file_sha256`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file_sha256: Option<String>,
    /// Of all xattrs, ACLs among them: sorted `name NUL length-as-decimal NUL value`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xattr_sha256: Option<String>,
    /// Of the member's first header block in the tar.
    pub offset: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub segment: Option<Segment>,
    /// From [`note`], in that order, joined by `,`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

impl Member {
    pub fn has_note(&self, note: &str) -> bool {
        self.note.as_deref().is_some_and(|notes| notes.split(',').any(|n| n == note))
    }

    /// The path in the source; of a segment the path of the whole file. `None` when the line is damaged.
    pub fn source_path(&self) -> Option<SourcePath> {
        let path = SourcePath::parse(&join(&self.path, &self.path_b64)?).ok()?;
        if self.segment.is_some() { path.parent() } else { Some(path) }
    }

    /// Whether it counts as an archived entry: neither an ancestor nor a segment before the last.
    pub fn is_counted(&self) -> bool {
        !self.has_note(note::ANCESTOR) && self.segment.is_none_or(|segment| segment.index == segment.count)
    }
}

/// What was seen in a range of the walk, and what became of it. The law of accounting:
/// `seen = clean + changed + excluded + skipped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By the walk; everything but what lies below an excluded directory. A segmented file counts with its last segment.
    pub seen: u64,
    /// Archived without a change or damage.
    pub clean: u64,
    /// Archived, but changed or damaged.
    pub changed: u64,
    /// By rule.
    #[serde(default)]
    pub excluded: BTreeMap<String, u64>,
    /// By reason.
    #[serde(default)]
    pub skipped: BTreeMap<Reason, u64>,
}

impl Counts {
    pub fn accounted(&self) -> u64 {
        // A manifest may come from elsewhere and say anything.
        let left_out = self.excluded.values().chain(self.skipped.values());
        left_out.fold(self.clean.saturating_add(self.changed), |sum, count| sum.saturating_add(*count))
    }

    pub fn adds_up(&self) -> bool {
        self.seen == self.accounted()
    }

    pub fn add(&mut self, other: &Counts) {
        fn add(sum: &mut u64, count: u64) {
            *sum = sum.saturating_add(count);
        }
        add(&mut self.seen, other.seen);
        add(&mut self.clean, other.clean);
        add(&mut self.changed, other.changed);
        for (rule, count) in &other.excluded {
            add(self.excluded.entry(rule.clone()).or_default(), *count);
        }
        for (reason, count) in &other.skipped {
            add(self.skipped.entry(*reason).or_default(), *count);
        }
    }
}

/// An [`Exception`] as a manifest holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionLine {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_b64: Option<String>,
    pub reason: Reason,
    pub severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errno: Option<i32>,
    pub detail: String,
}

impl From<&Exception> for ExceptionLine {
    fn from(exception: &Exception) -> ExceptionLine {
        let (path, path_b64) = split(&member_name(&exception.path));
        ExceptionLine {
            path,
            path_b64,
            reason: exception.reason,
            severity: exception.severity(),
            errno: exception.errno,
            detail: exception.detail.clone(),
        }
    }
}

impl ExceptionLine {
    /// `None` when the line is damaged.
    pub fn exception(&self) -> Option<Exception> {
        let path = SourcePath::parse(&join(&self.path, &self.path_b64)?).ok()?;
        Some(Exception { path, reason: self.reason, errno: self.errno, detail: self.detail.clone() })
    }
}

/// The last line: `{"range": {…}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeEnd {
    pub counts: Counts,
    pub exceptions: Vec<ExceptionLine>,
}

/// RFC 3339 with nanoseconds in UTC; `@seconds.nanoseconds` beyond the years that RFC 3339 can say.
pub fn rfc3339(stamp: Stamp) -> String {
    match jiff::Timestamp::new(stamp.sec, 0) {
        Ok(time) if (-62_135_596_800..=253_402_300_799).contains(&stamp.sec) => {
            format!("{}.{:09}Z", time.strftime("%Y-%m-%dT%H:%M:%S"), stamp.nsec)
        }
        _ => format!("@{}.{:09}", stamp.sec, stamp.nsec),
    }
}

/// Reads what [`rfc3339`] writes.
pub fn parse_rfc3339(text: &str) -> Option<Stamp> {
    let nsec = |frac: &str| {
        let is_plain = frac.len() == 9 && frac.bytes().all(|byte| byte.is_ascii_digit());
        if is_plain { frac.parse().ok() } else { None }
    };
    if let Some(rest) = text.strip_prefix('@') {
        let (sec, frac) = rest.split_once('.')?;
        return Some(Stamp { sec: sec.parse().ok()?, nsec: nsec(frac)? });
    }
    let (whole, frac) = text.strip_suffix('Z')?.split_once('.')?;
    let time: jiff::Timestamp = format!("{whole}Z").parse().ok()?;
    Some(Stamp { sec: time.as_second(), nsec: nsec(frac)? })
}

/// The kind that [`Member::type`] names.
pub fn kind(text: &str) -> Option<Kind> {
    [Kind::Dir, Kind::File, Kind::Symlink, Kind::Fifo, Kind::CharDevice, Kind::BlockDevice, Kind::Socket]
        .into_iter()
        .find(|kind| kind.as_str() == text)
}
