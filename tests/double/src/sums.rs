//! The checksums of S3: five algorithms, their values in base64, and how those of parts become one of the whole.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use crc_fast::CrcAlgorithm;
use s3s::{
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Md5},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// CRC-32 as zlib and Ethernet know it.
    Crc32,
    /// CRC-32 with Castagnoli's polynomial.
    Crc32c,
    /// CRC-64 of the NVM Express specification, S3's own default.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

    /// The name that requests use.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The header or trailer that carries a value.
    pub fn header(self) -> String {
        format!("x-amz-checksum-{}", self.name().to_ascii_lowercase())
    }

    /// Only the CRCs of neighbours can be joined without reading the bytes again.
    fn joins(self) -> Option<(CrcAlgorithm, usize)> {
        match self {
            Algorithm::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
            Algorithm::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
            Algorithm::Crc64Nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }
}

/// Checksums of the same bytes, in base64.
pub type Sums = BTreeMap<Algorithm, String>;

/// The checksum of the whole from those of its parts, each with its length. None for an algorithm that cannot.
pub fn join(algorithm: Algorithm, parts: &[(String, u64)]) -> Option<String> {
    let (crc, width) = algorithm.joins()?;
    let mut whole = crc_fast::checksum(crc, b"");
    for (sum, length) in parts {
        whole = crc_fast::checksum_combine(crc, whole, number(sum)?, *length);
    }
    Some(BASE64.encode(&whole.to_be_bytes()[8 - width..]))
}

/// The checksum of the parts' checksums, with their number at the end.
pub fn composite(algorithm: Algorithm, parts: &[(String, u64)]) -> Option<String> {
    let mut hasher = Hasher::new([algorithm]);
    for (sum, _) in parts {
        hasher.update(&BASE64.decode(sum).ok()?);
    }
    Some(format!("{}-{}", hasher.finish().sums.get(&algorithm)?, parts.len()))
}

fn number(sum: &str) -> Option<u64> {
    let bytes = BASE64.decode(sum).ok()?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// What a [`Hasher`] found.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    /// The MD5, of which the ETag is made.
    pub md5: [u8; 16],
    /// CRC64NVME always, others as asked for.
    pub sums: Sums,
}

/// Reads bytes once for MD5, CRC64NVME and whatever else is wanted.
pub struct Hasher {
    md5: Md5,
    sums: ChecksumHasher,
}

impl Hasher {
    /// Starts with the algorithms that are wanted beyond MD5 and CRC64NVME.
    pub fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Hasher {
        let mut sums = ChecksumHasher { crc64nvme: Some(Default::default()), ..Default::default() };
        for algorithm in algorithms {
            match algorithm {
                Algorithm::Crc32 => sums.crc32 = Some(Default::default()),
                Algorithm::Crc32c => sums.crc32c = Some(Default::default()),
                Algorithm::Crc64Nvme => (),
                Algorithm::Sha1 => sums.sha1 = Some(Default::default()),
                Algorithm::Sha256 => sums.sha256 = Some(Default::default()),
            }
        }
        Hasher { md5: Md5::default(), sums }
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sums.update(bytes);
    }

    /// Ends.
    pub fn finish(self) -> Digests {
        let found = self.sums.finalize();
        Digests { md5: self.md5.finalize(), sums: sums_of!(found) }
    }
}

/// The MD5 of these bytes.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::checksum(bytes)
}

/// CRC64NVME of these bytes as S3 writes it.
pub fn crc64(bytes: &[u8]) -> String {
    BASE64.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
