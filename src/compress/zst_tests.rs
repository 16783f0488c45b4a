//! zstd: what stock tools make of it, the table of frames, resuming.

use super::{testing::*, *};

fn zstd(threads: u32, stream_size: u64) -> Options {
    options(Compression::Zstd, 9, threads, stream_size)
}

#[track_caller]
fn check(options: &Options, clear: &[u8]) -> Made {
    let made = apply(options, clear, None).unwrap();
    stock(&["zstd", "-tq"], &made.bytes);
    same(&stock(&["zstd", "-dc"], &made.bytes), clear);
    same(&prove(options, &made.bytes).unwrap(), clear);
    made
}

#[test]
fn stock_zstd_opens_every_size_and_content() {
    let mib = 1 << 20;
    for len in [0, 1, mib - 1, mib, mib + 1, 3 * mib] {
        let made = check(&zstd(2, STREAM_SIZE_MAX), &text(len, 1));
        assert_eq!(made.blocks.blocks.len(), usize::from(0 < len));
    }
    for clear in [noise(3 * mib, 1), mixed(10 * mib), vec![0; 3 * mib]] {
        check(&zstd(2, STREAM_SIZE_MAX), &clear);
    }
}

#[test]
fn each_frame_decodes_alone() {
    let clear = mixed(3 << 20);
    let made = check(&zstd(2, 700_000), &clear);
    let mut ends: Vec<[u64; 2]> = made.blocks.blocks[1..].to_vec();
    ends.push([clear.len() as u64, made.bytes.len() as u64]);
    assert_eq!(ends.len(), 5);
    for ([at, offset], [at_end, offset_end]) in made.blocks.blocks.iter().zip(&ends) {
        let frame = &made.bytes[*offset as usize..*offset_end as usize];
        same(&stock(&["zstd", "-dc"], frame), &clear[*at as usize..*at_end as usize]);
        // The size is told in front, so that a reader knows what it will get.
        let size = ::zstd::zstd_safe::get_frame_content_size(frame).unwrap();
        assert_eq!(size, Some(at_end - at));
    }
}

#[test]
fn what_is_made_depends_on_neither_threads_nor_reads() {
    let clear = mixed(20 << 20);
    let one = apply(&zstd(1, 18_000_000), &clear, None).unwrap();
    for threads in [2, 5] {
        let many = apply(&zstd(threads, 18_000_000), &clear, None).unwrap();
        same(&many.bytes, &one.bytes);
        assert_eq!(many.blocks, one.blocks);
    }
}

#[test]
fn resumed_at_any_mark_the_output_is_the_same() {
    let clear = mixed(4 << 20);
    let options = zstd(2, 1_300_000);
    let whole = apply(&options, &clear, None).unwrap();
    assert_eq!(whole.marks.len(), 3);
    for mark in &whole.marks {
        let rest = apply(&options, &clear, Some(mark.clone())).unwrap();
        same(&[&whole.bytes[..mark.output as usize], &rest.bytes].concat(), &whole.bytes);
        assert_eq!(rest.blocks, whole.blocks);
    }
}

/// Marks make the output durable, which is slow: one per stream, not one per frame.
#[test]
fn marks_are_a_stream_apart_however_short_the_frames() {
    let clear = text(1_000_000, 1);
    let frames = |from: Option<Mark<Blocks>>| {
        let Made { bytes, blocks, marks } =
            apply_with(&clear, from, |job| zst::frames(job, &zstd(2, 250_000), 2, 100_000)).unwrap();
        (bytes, blocks, marks)
    };
    let (whole, blocks, marks) = frames(None);
    same(&stock(&["zstd", "-dc"], &whole), &clear);
    assert_eq!(blocks.blocks.len(), 10);
    assert_eq!(marks.iter().map(|mark| mark.input).collect::<Vec<_>>(), [300_000, 600_000, 900_000]);
    let (rest, again, later) = frames(Some(marks[0].clone()));
    same(&[&whole[..marks[0].output as usize], &rest].concat(), &whole);
    assert_eq!((again, &later[..]), (blocks, &marks[1..]));
}
