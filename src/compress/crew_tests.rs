//! Compressors side by side: what each makes, and what they share.

use super::{testing::*, *};
use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

const MIB: usize = 1 << 20;

fn apply_with(compressor: &mut Compressor, clear: &[u8], input: &mut (dyn Read + Send)) -> Result<Made, CompressError> {
    let mut bytes = Vec::new();
    let job = Job {
        input,
        input_len: clear.len() as u64,
        output: &mut bytes,
        from: None,
        mark: &mut |_| Ok(()),
        stop: &|| false,
    };
    let blocks = compressor.apply(job)?;
    Ok(Made { bytes, blocks, marks: Vec::new() })
}

#[test]
fn twins_make_what_each_would_make_alone() {
    for method in [Compression::Xz, Compression::Zstd] {
        let options = options(method, if method == Compression::Xz { 0 } else { 9 }, 3, STREAM_SIZE_MAX);
        let first = Compressor::new(&options).unwrap();
        let inputs: Vec<Vec<u8>> = (0..4).map(|n| [mixed(n * MIB + 5), text(2 * MIB, n as u64)].concat()).collect();
        thread::scope(|scope| {
            for clear in &inputs {
                let (mut twin, options) = (first.twin(), &options);
                scope.spawn(move || {
                    let made = apply_with(&mut twin, clear, &mut Drip::new(clear)).unwrap();
                    let mut back = Vec::new();
                    twin.prove(&mut Drip::new(&made.bytes), &mut back, &|| false).unwrap();
                    same(&back, clear);
                    let alone = super::testing::apply(options, clear, None).unwrap();
                    same(&made.bytes, &alone.bytes);
                    assert_eq!(made.blocks, alone.blocks);
                });
            }
        });
    }
}

#[test]
fn twins_together_hold_no_more_blocks_than_one() {
    let options = options(Compression::Xz, 0, 2, STREAM_SIZE_MAX);
    let first = Compressor::new(&options).unwrap();
    let slots = plan::slots(2);
    let (mut old, mut young) = (first.crew.begin(), first.crew.begin());
    let mut held: Vec<_> = (0..slots).map(|_| young.take().unwrap()).collect();
    assert!(young.take().is_none() && old.take().is_none());
    // The one that began earlier goes first.
    young.give(held.pop().unwrap());
    assert!(young.take().is_none());
    assert!(old.take().is_some());
    assert!(old.take().is_none());
    // Whoever is gone holds nothing and waits for nothing.
    drop(old);
    assert!(young.take().is_some());
}

#[test]
fn a_twin_that_fails_takes_nothing_with_it() {
    let options = options(Compression::Xz, 0, 2, STREAM_SIZE_MAX);
    let first = Compressor::new(&options).unwrap();
    let clear = text(6 * MIB, 1);
    // It ends too early, with blocks still with the pool.
    let err = apply_with(&mut first.twin(), &clear, &mut Drip::new(&clear[..5 * MIB])).unwrap_err();
    assert!(matches!(err, CompressError::Length { .. }), "{err}");
    let mut turn = first.crew.begin();
    assert!((0..plan::slots(2)).all(|_| turn.take().is_some()));
    drop(turn);
    let made = apply_with(&mut first.twin(), &clear, &mut Drip::new(&clear)).unwrap();
    same(&prove(&options, &made.bytes).unwrap(), &clear);
}

#[test]
fn no_more_threads_encode_than_were_asked_for() {
    let first = Compressor::new(&options(Compression::Xz, 0, 2, STREAM_SIZE_MAX)).unwrap();
    let (encoding, most, all) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(6));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                all.wait();
                for _ in 0..20 {
                    let seat = first.crew.seat(&|| false).unwrap();
                    most.fetch_max(encoding.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    encoding.fetch_sub(1, Ordering::SeqCst);
                    drop(seat);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 2);
    let seats = [first.crew.seat(&|| false).unwrap(), first.crew.seat(&|| false).unwrap()];
    assert!(matches!(first.crew.seat(&|| true).map(drop), Err(CompressError::Stopped)));
    drop(seats);
    first.crew.seat(&|| true).unwrap();
}

#[test]
fn side_by_side_only_where_threads_and_memory_allow() {
    let lanes = |method, level, threads, memory| {
        Compressor::new(&Options { memory, ..options(method, level, threads, STREAM_SIZE_MAX) }).unwrap().lanes()
    };
    let enough = |level| Compressor::memory_needed(&options(Compression::Xz, level, 4, STREAM_SIZE_MAX));
    assert_eq!(lanes(Compression::Xz, 6, 4, 2 << 30), 3);
    assert_eq!(lanes(Compression::Zstd, 9, 4, 2 << 30), 2);
    assert_eq!(lanes(Compression::Xz, 6, 1, 2 << 30), 1);
    // What one takes is all there is.
    assert_eq!(lanes(Compression::Xz, 6, 4, enough(6)), 1);
    assert_eq!(lanes(Compression::Xz, 6, 4, enough(6) + (12 << 20)), 3);
}
