//! Where the bytes of a sealed form stand.
//!
//! Everything is fed to the library in writes of [`CHUNK_LEN`], so it cuts both the encrypted packet and the
//! literal packet within into chunks of exactly that length; the sizes and offsets below follow from that, and
//! a test pins them. With them, and with the session key, a range of the clear bytes can be fetched alone: in
//! CFB a block of 16 bytes is opened with the ciphertext of the block before it.
//!
//! ```text
//! PKESK or SKESK packets          header_length bytes
//! tag of the encrypted packet     1
//!   length of chunk               1, of the last chunk 1, 2 or 5; before every CHUNK_LEN bytes of what follows:
//!   version                       1, in clear; from here on encrypted:
//!   random prefix                 18
//!   tag of the literal packet     1
//!     length of chunk             1, of the last chunk 1, 2 or 5; before every CHUNK_LEN bytes of what follows:
//!     literal header              6
//!     clear bytes                 clear_length
//!   modification detection code   22
//! ```

use serde::{Deserialize, Serialize};

/// Length of every chunk but the last, bytes. It is where sequoia's partial body filter begins to emit chunks, and
/// writes of this length pass through it without being copied to its buffer.
pub const CHUNK_LEN: usize = 4 << 20;
const CHUNK: u64 = CHUNK_LEN as u64;
const _: () = assert!(CHUNK_LEN.is_power_of_two() && CHUNK_LEN >= 64 << 10);

const TAG_LEN: u64 = 1;
const VERSION_LEN: u64 = 1;
const PREFIX_LEN: u64 = 18;
const LITERAL_HEADER_LEN: u64 = 6;
const MDC_LEN: u64 = 22;

/// What a manifest must know of a sealed form to find bytes in it.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Bytes before the encrypted packet: one PKESK per recipient, or one SKESK.
    pub header_length: u64,
    /// Bytes that were sealed.
    pub clear_length: u64,
    /// Of the certificates it is sealed to, in the order of the configuration; empty with a passphrase.
    pub fingerprints: Vec<String>,
}

impl Sealed {
    /// Bytes of the whole sealed form.
    pub fn length(&self) -> u64 {
        self.header_length + TAG_LEN + chunked(self.encrypted_length())
    }

    /// Where in the sealed form the clear byte at `offset` stands, encrypted.
    pub fn position(&self, offset: u64) -> u64 {
        let literal = TAG_LEN + place(LITERAL_HEADER_LEN + offset, self.literal_length());
        let encrypted = place(VERSION_LEN + PREFIX_LEN + literal, self.encrypted_length());
        self.header_length + TAG_LEN + encrypted
    }

    fn literal_length(&self) -> u64 {
        LITERAL_HEADER_LEN + self.clear_length
    }

    fn encrypted_length(&self) -> u64 {
        VERSION_LEN + PREFIX_LEN + TAG_LEN + chunked(self.literal_length()) + MDC_LEN
    }
}

/// Chunks before the last one. The last is never empty: a body that fills its chunks exactly ends with a whole one.
fn partial_chunks(body: u64) -> u64 {
    body.saturating_sub(1) / CHUNK
}

/// Bytes of the length before the last chunk (RFC 4880, section 4.2.2).
fn last_length_len(body: u64) -> u64 {
    match body - partial_chunks(body) * CHUNK {
        0..192 => 1,
        192..8384 => 2,
        _ => 5,
    }
}

/// Bytes of a body with the lengths of its chunks.
fn chunked(body: u64) -> u64 {
    partial_chunks(body) + last_length_len(body) + body
}

/// Where the byte at `offset` of a body stands when the lengths of chunks are counted.
fn place(offset: u64, body: u64) -> u64 {
    let chunk = offset / CHUNK;
    let before = if chunk < partial_chunks(body) { chunk + 1 } else { partial_chunks(body) + last_length_len(body) };
    before + offset
}
