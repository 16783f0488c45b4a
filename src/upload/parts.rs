//! The layout of an object in parts. Pure.

use crate::vault::{
    Crc64, Part,
    checksum::{BlockSums, CHECK_SIZE},
};

/// S3's limits: at most 10,000 parts, each of at most 5 GiB, which makes objects of 48.8 TiB.
pub const PART_COUNT_MAX: u64 = 10_000;
pub const PART_SIZE_MAX: u64 = 5 << 30;
/// The largest power of two below.
const PART_POWER_MAX: u64 = 4 << 30;

// The checksum of every part must follow from those of its blocks, and S3 takes no smaller parts than 5 MiB.
const _: () =
    assert!(PART_SIZE_MAX.is_multiple_of(CHECK_SIZE) && CHECK_SIZE.is_power_of_two() && CHECK_SIZE >= 5 << 20);

/// One part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From 1.
    pub number: u32,
    pub offset: u64,
    pub len: u64,
    pub crc64: Crc64,
}

/// Bytes of every part but the last: a power of two, at least `wanted` unless that is too much, that keeps the
/// object within [`PART_COUNT_MAX`] parts; for the very largest objects [`PART_SIZE_MAX`]. `None` when none does: no
/// vault takes such an object.
pub fn part_size(size: u64, wanted: u64) -> Option<u64> {
    let needed = size.div_ceil(PART_COUNT_MAX);
    if needed <= PART_POWER_MAX {
        return Some(needed.max(CHECK_SIZE).max(wanted.min(PART_POWER_MAX)).next_power_of_two());
    }
    (needed <= PART_SIZE_MAX).then_some(PART_SIZE_MAX)
}

/// Whether an upload with such parts can go on.
pub fn is_layout(size: u64, part_size: u64) -> bool {
    part_size > 0
        && part_size.is_multiple_of(CHECK_SIZE)
        && part_size <= PART_SIZE_MAX
        && size.div_ceil(part_size) <= PART_COUNT_MAX
}

/// All parts of an object of which the checksums are known.
pub fn spans(sums: &BlockSums, part_size: u64) -> impl Iterator<Item = Span> {
    (0..sums.len().div_ceil(part_size)).map(move |index| {
        let offset = index * part_size;
        let len = part_size.min(sums.len() - offset);
        Span { number: index as u32 + 1, offset, len, crc64: sums.range(offset, len) }
    })
}

/// Parts that the vault holds as they should be, and those that must be sent. A part of which the vault knows no
/// checksum is judged by its size: the vault could not tell more if it were sent again.
pub fn sort(sums: &BlockSums, part_size: u64, held: Vec<Part>) -> (Vec<Part>, Vec<Span>) {
    let right = |part: &Part, span: &Span| {
        part.number == span.number && part.size == span.len && part.crc64.is_none_or(|crc| crc == span.crc64)
    };
    let (mut good, mut missing) = (Vec::new(), Vec::new());
    let mut held = held;
    held.sort_by_key(|part| part.number);
    let mut held = held.into_iter().peekable();
    for span in spans(sums, part_size) {
        while held.next_if(|part| part.number < span.number).is_some() {}
        match held.next_if(|part| right(part, &span)) {
            Some(part) => good.push(part),
            None => missing.push(span),
        }
    }
    (good, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn parts_are_a_power_of_two_that_suffices() {
        let check = |size, wanted, expected| {
            assert_eq!(part_size(size, wanted), expected, "{size} by {wanted}");
            assert!(expected.is_none_or(|part_size| is_layout(size, part_size)));
        };
        check(0, 0, Some(8 * MIB));
        check(1, 64 * MIB, Some(64 * MIB));
        check(1, 65 * MIB, Some(128 * MIB));
        check(80_000 * MIB, 0, Some(8 * MIB));
        check(80_000 * MIB + 1, 0, Some(16 * MIB));
        check(512 * GIB, 64 * MIB, Some(64 * MIB));
        check(512 * GIB, 8 * MIB, Some(64 * MIB));
        check(40_000 * GIB, 0, Some(4 * GIB));
        check(40_000 * GIB + 1, 0, Some(5 * GIB));
        check(50_000 * GIB, 0, Some(5 * GIB));
        check(50_000 * GIB + 1, 0, None);
        check(u64::MAX, 0, None);
        check(1, u64::MAX, Some(4 * GIB));
    }

    #[test]
    fn spans_cover_the_object() {
        for len in [0, 1, 8 * MIB, 8 * MIB + 1, 24 * MIB, 33 * MIB] {
            let bytes = vec![7; len as usize];
            let sums = BlockSums::of(&bytes);
            for part_size in [8 * MIB, 16 * MIB] {
                let mut end = 0;
                for (index, span) in spans(&sums, part_size).enumerate() {
                    assert_eq!((span.number, span.offset), (index as u32 + 1, end));
                    assert!(span.len == part_size || span.offset + span.len == len);
                    assert_eq!(span.crc64, crate::vault::checksum::crc64(&bytes[..span.len as usize]));
                    end += span.len;
                }
                assert_eq!(end, len);
            }
        }
    }

    #[test]
    fn only_right_parts_need_not_be_sent() {
        let sums = BlockSums::of(&vec![7; 33 * MIB as usize]);
        let all: Vec<Span> = spans(&sums, 8 * MIB).collect();
        let part =
            |span: &Span| Part { number: span.number, size: span.len, crc64: Some(span.crc64), etag: String::new() };
        let numbers = |held: Vec<Part>| -> Vec<u32> {
            let (good, missing) = sort(&sums, 8 * MIB, held);
            assert_eq!(good.len() + missing.len(), 5);
            missing.into_iter().map(|span| span.number).collect()
        };
        assert_eq!(numbers(vec![]), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(all.iter().map(part).collect()), [0; 0]);
        assert_eq!(numbers(all.iter().rev().map(part).collect()), [0; 0]);
        assert_eq!(numbers(vec![part(&all[4]), part(&all[1])]), [1, 3, 4]);
        assert_eq!(numbers(vec![Part { crc64: Some(Crc64(1)), ..part(&all[0]) }, part(&all[1])]), [1, 3, 4, 5]);
        assert_eq!(numbers(vec![Part { crc64: None, ..part(&all[0]) }]), [2, 3, 4, 5]);
        assert_eq!(numbers(vec![Part { size: 1, ..part(&all[0]) }]), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(vec![Part { number: 9, ..part(&all[0]) }, Part { number: 0, ..part(&all[0]) }]).len(), 5);
    }
}
