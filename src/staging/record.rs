//! Records: small files in which a stage says what it made, before that gets its place on a shelf.
//!
//! One line of JSON, then its SHA-256 in hex: a record is read months later by a process that knows nothing
//! else, so a flipped bit must be seen. Damage is not absence.

use crate::durable::{self, DurableError, at};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A record and the version of its form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version", content = "record")]
enum Record<T> {
    #[serde(rename = "1")]
    V1(T),
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("There is no record {0:?}")]
    Missing(PathBuf),
    #[error("The record {path:?} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Disk(#[from] DurableError),
}

pub fn write_record<T: Serialize>(path: &Path, value: &T) -> Result<(), DurableError> {
    let mut text = serde_json::to_string(&Record::V1(value)).map_err(|err| at("write", path)(io::Error::other(err)))?;
    let digest = hex(&Sha256::digest(text.as_bytes()));
    text.push('\n');
    text.push_str(&digest);
    text.push('\n');
    durable::write(path, text.as_bytes())
}

pub fn read_record<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let bytes = match fs::read(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(RecordError::Missing(path.to_owned())),
        read => read.map_err(at("read", path))?,
    };
    let damaged = |why: &str| RecordError::Damaged { path: path.to_owned(), why: why.to_owned() };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("it is not text"))?;
    let (line, digest) = text.split_once('\n').ok_or_else(|| damaged("it has no second line"))?;
    if digest != format!("{}\n", hex(&Sha256::digest(line.as_bytes()))) {
        return Err(damaged("its SHA-256 differs"));
    }
    let Record::V1(value) = serde_json::from_str(line).map_err(|err| damaged(&err.to_string()))?;
    Ok(value)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_record_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        write_record(&path, &("x", 7)).unwrap();
        let good = fs::read(&path).unwrap();
        assert_eq!(read_record::<(String, u32)>(&path).unwrap(), ("x".to_owned(), 7));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(matches!(read_record::<(String, u32)>(&path), Err(RecordError::Damaged { .. })), "bit {bit}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(read_record::<(String, u32)>(&path), Err(RecordError::Missing(_))));
    }
}
