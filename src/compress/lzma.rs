//! What we need of liblzma and its safe crate does not offer. The only `unsafe` of the room.

/// CRC32 (IEEE 802.3), as in the headers of `.xz`.
pub fn crc32(bytes: &[u8]) -> u32 {
    // SAFETY: pointer and length are those of a live slice, which is only read; the function keeps nothing.
    unsafe { liblzma_sys::lzma_crc32(bytes.as_ptr(), bytes.len(), 0) }
}

/// CRC64 (ECMA-182), the check of a block in `.xz`.
pub fn crc64(bytes: &[u8]) -> u64 {
    // SAFETY: pointer and length are those of a live slice, which is only read; the function keeps nothing.
    unsafe { liblzma_sys::lzma_crc64(bytes.as_ptr(), bytes.len(), 0) }
}

/// Bytes of memory that one encoder of this level allocates; `None` for a level that does not exist.
pub fn encoder_memory(level: u32) -> Option<u64> {
    // SAFETY: a pure function of an integer.
    let bytes = unsafe { liblzma_sys::lzma_easy_encoder_memusage(level) };
    // A bad level is answered with `UINT32_MAX`, not with the `UINT64_MAX` of the documentation; level 9e takes 674 MiB.
    (bytes < u64::from(u32::MAX)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalog of CRCs for "123456789".
    #[test]
    fn checksums_are_the_standard_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!((crc32(b""), crc64(b"")), (0, 0));
    }

    #[test]
    fn memory_is_known_for_levels_that_exist() {
        assert!((90 << 20..100 << 20).contains(&encoder_memory(6).unwrap()));
        assert_eq!(encoder_memory(10), None);
    }
}
