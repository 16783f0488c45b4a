//! The index of a pass, the last object that it puts into the vault: `{"index": {…}}`. Everything that it names is
//! there, so whoever has an index knows what the pass is made of without any catalog.
//!
//! As of a manifest, fields are added to it and never changed; a reader refuses a newer format, and whatever
//! contradicts itself.

use super::manifest::{Counts, FORMAT_VERSION, join};
use crate::{
    name::{PassId, SourceName},
    path::SourcePath,
    vault::Key,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
};

/// Longest index that is read, bytes: of some two million pieces.
const LEN_MAX: u64 = 1 << 30;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Of the format: [`FORMAT_VERSION`].
    pub format: u32,
    /// Of the program that wrote it.
    pub program: String,
    pub host: String,
    pub source: SourceName,
    pub source_id: String,
    pub pass: PassId,
    /// In walk order.
    pub pieces: Vec<IndexPiece>,
    /// Seqs that were begun and stand for nothing.
    pub retired: Vec<u32>,
    pub supersedes: Vec<String>,
    pub counts: Counts,
    /// Of all pieces together.
    pub tar_bytes: u64,
    pub sealed_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexPiece {
    pub key: Key,
    pub manifest_key: Key,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_b64: Option<String>,
    /// Of a file that is larger than a piece: which segment, from 1, of how many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub segment: Option<[u32; 2]>,
    pub members: u64,
    pub tar_size: u64,
    pub tar_sha256: String,
    pub sealed_size: u64,
    pub sealed_sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("Cannot read the index")]
    Read(#[source] io::Error),
    #[error("The index is damaged")]
    Json(#[source] serde_json::Error),
    #[error("The index is damaged: {0}")]
    Damaged(&'static str),
    #[error("The index has format {format}, of a newer version of this program; this one knows {FORMAT_VERSION}")]
    Newer { format: u32 },
}

#[derive(Deserialize)]
struct Whole<T> {
    index: T,
}

impl Index {
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct WholeRef<'a> {
            index: &'a Index,
        }
        serde_json::to_writer(&mut *out, &WholeRef { index: self })?;
        out.flush()
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(from: impl Read) -> Result<Index, IndexError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let mut text = Vec::new();
        from.take(LEN_MAX + 1).read_to_end(&mut text).map_err(IndexError::Read)?;
        if text.len() as u64 > LEN_MAX {
            return Err(IndexError::Damaged("it is longer than any index"));
        }
        // Before anything else: a newer format may not even have the fields that are read below.
        let Whole { index: Format { format } } = serde_json::from_slice(&text).map_err(IndexError::Json)?;
        if format > FORMAT_VERSION {
            return Err(IndexError::Newer { format });
        }
        let Whole { index } = serde_json::from_slice::<Whole<Index>>(&text).map_err(IndexError::Json)?;
        index.check().map_err(IndexError::Damaged)?;
        Ok(index)
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut keys = BTreeSet::new();
        let (mut at, mut tar_bytes, mut sealed_bytes) = (SourcePath::root(), 0_u64, 0_u64);
        for piece in &self.pieces {
            let (first, last) = piece.ends().ok_or("a piece has no first or last path")?;
            if first < at || last < first {
                return Err("its pieces are out of order");
            }
            at = first;
            if piece.segment.is_some_and(|[index, count]| index == 0 || count < index) {
                return Err("it names a segment that cannot be");
            }
            if ![&piece.tar_sha256, &piece.sealed_sha256].into_iter().all(|sum| is_sha256(sum)) {
                return Err("a checksum is none");
            }
            if !keys.insert(&piece.key) || !keys.insert(&piece.manifest_key) {
                return Err("it names a key twice");
            }
            tar_bytes = tar_bytes.saturating_add(piece.tar_size);
            sealed_bytes = sealed_bytes.saturating_add(piece.sealed_size);
        }
        if (tar_bytes, sealed_bytes) != (self.tar_bytes, self.sealed_bytes) {
            return Err("its sums are not those of its pieces");
        }
        Ok(())
    }
}

impl IndexPiece {
    /// First and last path; nothing when one of them is damaged.
    pub fn ends(&self) -> Option<(SourcePath, SourcePath)> {
        let path = |text, b64| SourcePath::parse(&join(text, b64)?).ok();
        Some((path(&self.first, &self.first_b64)?, path(&self.last, &self.last_b64)?))
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 1 has written it.
    const V1: &str = include_str!("../../tests/testdata/v1/index.json");

    fn read(text: &str) -> Result<Index, IndexError> {
        Index::read(text.as_bytes())
    }

    #[test]
    fn version_1_is_read_and_written_as_it_is() {
        let index = read(V1).unwrap();
        let mut again = Vec::new();
        index.write(&mut again).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), V1.trim_end());
        assert_eq!(index.pieces.len(), 3);
        assert_eq!(index.pieces[1].segment, Some([1, 2]));
        assert_eq!(index.pieces[2].ends().unwrap().1.as_bytes(), b"caf\xe9/z");
    }

    #[test]
    fn what_contradicts_itself_is_damaged() {
        let check = |from: &str, to: &str, why: &str| {
            let changed = V1.replacen(from, to, 1);
            assert_ne!(changed, V1, "{from}");
            let err = read(&changed).unwrap_err();
            assert!(crate::fate::Chain(&err).to_string().contains(why), "{from} to {to}: {}", crate::fate::Chain(&err));
        };
        check("\"format\":1", "\"format\":2", "newer version");
        check("\"first\":\"./\"", "\"first\":\"zz\"", "out of order");
        check("\"first\":\"./\",", "", "no first or last path");
        check("\"segment\":[1,2]", "\"segment\":[3,2]", "cannot be");
        check("\"segment\":[1,2]", "\"segment\":[0,2]", "cannot be");
        check("\"tar_bytes\":", "\"tar_bytes\":1", "sums");
        check("000002-big.tar.xz.gpg", "000001-start_to_a.tar.xz.gpg", "twice");
        check("000002-big.tar.xz.gpg", "../x", "key");
        check("\"tar_sha256\":\"a", "\"tar_sha256\":\"A", "checksum");
        check("\"retired\":[", "\"retired\":[-1,", "invalid value");
        check("\"host\":\"nas1\",", "", "missing field `host`");
        check("{\"index\":", "[\"index\",", "expected");
        assert!(read(&V1[..V1.len() - 3]).is_err());
        assert!(read(&format!("{V1}{V1}")).is_err());
    }
}
