//! The frame of an `.xz` stream around its blocks: header, block headers, index and footer, as in
//! "The .xz File Format" 1.2. Only the form that we write: CRC64, one LZMA2 filter, both sizes in each block header,
//! which is what lets stock `xz -T0` decode blocks in parallel.

use super::lzma::crc32;

/// The check of each block, bytes: CRC64.
pub const CHECK_LEN: u64 = 8;

const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const FOOTER_MAGIC: [u8; 2] = *b"YZ";
/// Stream flags: a reserved byte and the type of check, CRC64.
const FLAGS: [u8; 2] = [0, 4];
/// Block flags: compressed and uncompressed size are there, one filter.
const BLOCK_FLAGS: u8 = 0xc0;
const FILTER_LZMA2: u8 = 0x21;

/// What the index knows of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Bytes of header, compressed data and check, without padding.
    pub unpadded: u64,
    /// Bytes of clear data.
    pub uncompressed: u64,
}

pub fn stream_header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(FLAGS);
    header.extend(crc32(&FLAGS).to_le_bytes());
    header
}

/// The header of a block whose LZMA2 data need a dictionary of `1 << dict_log` bytes.
pub fn block_header(dict_log: u32, compressed: u64, uncompressed: u64) -> Vec<u8> {
    assert!((12..=30).contains(&dict_log));
    let mut header = vec![0, BLOCK_FLAGS];
    vli(compressed, &mut header);
    vli(uncompressed, &mut header);
    // Dictionary sizes are 2^n and 2^n + 2^(n-1), counted from 4 KiB; ours are powers of two.
    let dict = u8::try_from((dict_log - 12) * 2).expect("at most 36");
    header.extend([FILTER_LZMA2, 1, dict]);
    pad(&mut header);
    // The real size is size / 4 - 1, and the size includes the CRC32 that follows.
    header[0] = u8::try_from(header.len() / 4).expect("at most 32 bytes");
    header.extend(crc32(&header).to_le_bytes());
    header
}

/// Index and footer: the end of a stream.
pub fn stream_end(records: &[Record]) -> Vec<u8> {
    let mut end = vec![0];
    vli(records.len() as u64, &mut end);
    for record in records {
        vli(record.unpadded, &mut end);
        vli(record.uncompressed, &mut end);
    }
    pad(&mut end);
    end.extend(crc32(&end).to_le_bytes());
    let backward = u32::try_from(end.len() / 4 - 1).expect("a stream of 4 GiB has an index far below 16 GiB");
    let mut footer = backward.to_le_bytes().to_vec();
    footer.extend(FLAGS);
    end.extend(crc32(&footer).to_le_bytes());
    end.extend(footer);
    end.extend(FOOTER_MAGIC);
    end
}

/// Zeros up to a multiple of four.
pub fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// An integer in seven bits per byte, lowest first, the highest bit set in all but the last.
fn vli(mut value: u64, bytes: &mut Vec<u8>) {
    assert!(value >> 63 == 0, "beyond what the format can say");
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that `xz -6 </dev/null` of XZ Utils 5.4.1 writes.
    #[test]
    fn an_empty_stream_is_that_of_stock_xz() {
        let mut stream = stream_header();
        stream.extend(stream_end(&[]));
        let stock = [
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x00, 0x00, 0x00, 0x00, 0x1c, 0xdf,
            0x44, 0x21, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
        ];
        assert_eq!(stream, stock);
    }

    #[test]
    fn integers_take_as_few_bytes_as_they_need() {
        let coded = |value| {
            let mut bytes = Vec::new();
            vli(value, &mut bytes);
            bytes
        };
        assert_eq!(coded(0), [0]);
        assert_eq!(coded(127), [127]);
        assert_eq!(coded(128), [0x80, 1]);
        assert_eq!(coded(u64::MAX >> 1).len(), 9);
    }

    #[test]
    fn block_headers_are_padded_to_four_bytes() {
        for size in [1, 127, 128, 1 << 20, 1 << 40, u64::MAX >> 1] {
            let header = block_header(26, size, size);
            assert_eq!((header.len() % 4, header.len()), (0, (usize::from(header[0]) + 1) * 4));
        }
    }
}
