//! Names: of passes, of pieces, on shelves and in the vault.
//!
//! ```text
//! on a shelf:    data.20261120T200000Z.000017-photos.2019_to_2021.tar.xz
//! in the vault:  nas1/data/20261120T200000Z/000017-photos.2019_to_2021.tar.xz.gpg
//! ```

use crate::path::SourcePath;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Longest name of a source or a host, bytes.
pub const WORD_LEN_MAX: usize = 40;
/// Longest label, bytes.
pub const LABEL_LEN_MAX: usize = 100;
/// Longest file name of ours, on a shelf and in the vault, bytes.
pub const FILE_NAME_LEN_MAX: usize = 200;

const MANIFEST_SUFFIX: &str = ".manifest.jsonl.zst";
const _: () = assert!(
    WORD_LEN_MAX + 1 + 16 + 1 + 6 + 1 + LABEL_LEN_MAX + MANIFEST_SUFFIX.len() + ".gpg".len() < FILE_NAME_LEN_MAX
);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct NameError {
    text: String,
    what: &'static str,
}

fn no(text: &str, what: &'static str) -> NameError {
    NameError { text: text.to_owned(), what }
}

/// The name of a source: `[a-z0-9-]`, at most [`WORD_LEN_MAX`] bytes, not beginning or ending with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(String);

impl SourceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = !text.is_empty()
            && text.len() <= WORD_LEN_MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(SourceName(text.to_owned()))
        } else {
            Err(no(text, "a source name: 1 to 40 of a-z, 0-9 and inner -"))
        }
    }
}

/// The id of a pass: when it began, `20261120T200000Z`. Text order is time order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PassId(jiff::Timestamp);

impl PassId {
    /// The pass that begins at this second.
    pub fn at(time: jiff::Timestamp) -> PassId {
        PassId(jiff::Timestamp::from_second(time.as_second()).expect("whole seconds of a valid time are valid"))
    }

    pub fn started(self) -> jiff::Timestamp {
        self.0
    }
}

impl fmt::Display for PassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y%m%dT%H%M%SZ"))
    }
}

impl FromStr for PassId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text)
            .ok()
            .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|time| PassId(time.timestamp()))
            .filter(|pass| pass.to_string() == text)
            .ok_or_else(|| no(text, "the id of a pass, like 20261120T200000Z"))
    }
}

/// What part of the tree a piece covers, in as few characters as possible; only `[A-Za-z0-9._-]`.
/// Two pieces may have the same label: the seq tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// From the first and the last path of a piece: what they have in common, then where they part.
    pub fn of(first: &SourcePath, last: &SourcePath) -> Label {
        let shared: Vec<&[u8]> =
            first.components().zip(last.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        let mut words: Vec<String> = shared.iter().map(|name| plain(name)).collect();
        let next = |path: &SourcePath| path.components().nth(shared.len()).map(plain);
        match (next(first), next(last)) {
            (Some(a), Some(b)) if a != b => words.push(format!("{a}_to_{b}")),
            (Some(a), _) => words.push(a),
            (None, Some(b)) if shared.is_empty() => words.push(format!("start_to_{b}")),
            (None, _) => {}
        }
        let mut text = words.join(".");
        text.truncate(LABEL_LEN_MAX);
        // Neither hidden files nor a trailing dot, which S3 advises against.
        let text = text.trim_matches(|c| c == '.' || c == '-');
        Label(if text.is_empty() { "all".to_owned() } else { text.to_owned() })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name in the safe alphabet; of a long one the head.
fn plain(name: &[u8]) -> String {
    const WORD_MAX: usize = 32;
    name.iter()
        .take(WORD_MAX)
        .map(|b| if b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-') { char::from(*b) } else { '_' })
        .collect()
}

impl FromStr for Label {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = !text.is_empty()
            && text.len() <= LABEL_LEN_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits { Ok(Label(text.to_owned())) } else { Err(no(text, "a label: 1 to 100 of A-Z, a-z, 0-9, ., _ and -")) }
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> { text.parse() }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String { name.to_string() }
        }
    )*};
}
as_text!(SourceName, PassId, Label, PieceName);

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How pieces are compressed; decides the suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Xz,
    Zstd,
    None,
}

impl Compression {
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::Xz => ".xz",
            Compression::Zstd => ".zst",
            Compression::None => "",
        }
    }
}

/// How pieces are encrypted; decides the suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    #[serde(rename = "openpgp")]
    OpenPgp,
    None,
}

impl Encryption {
    pub fn suffix(self) -> &'static str {
        match self {
            Encryption::OpenPgp => ".gpg",
            Encryption::None => "",
        }
    }
}

/// Which piece: of which source and pass, the how manyth begun, and what it covers. The same piece keeps
/// its name on every shelf and in the vault; only the suffix grows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PieceName {
    pub source: SourceName,
    pub pass: PassId,
    /// Unique within the pass, from 1; the order of pieces is that of their first paths, not of this.
    pub seq: u32,
    /// Absent with opaque names.
    pub label: Option<Label>,
}

impl PieceName {
    /// `000017-photos.2019_to_2021`, or `000017` without a label.
    pub fn short(&self) -> String {
        match &self.label {
            Some(label) => format!("{:06}-{label}", self.seq),
            None => format!("{:06}", self.seq),
        }
    }

    /// Which piece, whatever its label: `data.20261120T200000Z.000017`.
    pub fn id(&self) -> String {
        format!("{}.{}.{:06}", self.source, self.pass, self.seq)
    }

    /// The manifest's name beside the piece, in the vault.
    pub fn manifest_file(&self, encryption: Encryption) -> String {
        format!("{}{MANIFEST_SUFFIX}{}", self.short(), encryption.suffix())
    }
}

/// `data.20261120T200000Z.000017-photos.2019_to_2021`: the stem of all files of the piece in staging.
impl fmt::Display for PieceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.source, self.pass, self.short())
    }
}

impl FromStr for PieceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = || no(text, "the name of a piece, like data.20261120T200000Z.000017-photos");
        let mut words = text.splitn(3, '.');
        let (source, pass, short) = (words.next(), words.next(), words.next());
        let (Some(source), Some(pass), Some(short)) = (source, pass, short) else {
            return Err(fail());
        };
        let (seq, label) = match short.split_once('-') {
            Some((seq, label)) => (seq, Some(label.parse()?)),
            None => (short, None),
        };
        if seq.len() < 6 || !seq.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail());
        }
        let seq = seq.parse().map_err(|_| fail())?;
        let name = PieceName { source: source.parse()?, pass: pass.parse()?, seq, label };
        // One spelling per name: no second file can stand for the same piece.
        if name.to_string() == text { Ok(name) } else { Err(fail()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(first: &str, last: &str) -> String {
        let path = |text: &str| SourcePath::parse(text.as_bytes()).unwrap();
        Label::of(&path(first), &path(last)).to_string()
    }

    #[test]
    fn labels_say_what_is_covered() {
        assert_eq!(label("photos/2019/a", "photos/2021/b"), "photos.2019_to_2021");
        assert_eq!(label("photos", "photos/2021/b"), "photos");
        assert_eq!(label("/", "photos/x"), "start_to_photos");
        assert_eq!(label("/", "/"), "all");
        assert_eq!(label("a b/\u{e9}", "a b/z"), "a_b.___to_z");
        assert_eq!(label("..x", "..x"), "x");
        assert!(label(&"x".repeat(255), &format!("{}/y", "z".repeat(255))).len() <= LABEL_LEN_MAX);
    }

    #[test]
    fn a_name_is_read_back_as_written() {
        for text in ["data.20261120T200000Z.000017-photos.2019_to_2021", "d-1.20261120T200000Z.1000000"] {
            assert_eq!(text.parse::<PieceName>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "data",
            "data.20261120T200000Z.17",
            "data.20261320T200000Z.000017",
            "Data.20261120T200000Z.000017",
            "data.20261120T200000Z.000017-",
            "data.20261120T200000Z.0000017",
            "data.20261120T200000Z.000017-a/b",
        ] {
            assert!(text.parse::<PieceName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_dot_in_a_name_and_a_directory_make_different_names() {
        let name = |seq, path: &str| {
            let path = SourcePath::parse(path.as_bytes()).unwrap();
            PieceName {
                source: "d".parse().unwrap(),
                pass: "20261120T200000Z".parse().unwrap(),
                seq,
                label: Some(Label::of(&path, &path)),
            }
        };
        assert_ne!(name(1, "a/b.c").to_string(), name(2, "a/b/c").to_string());
    }
}
