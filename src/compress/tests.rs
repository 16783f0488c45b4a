//! xz: what stock tools make of it, the table of blocks, resuming, stopping.

use super::{testing::*, *};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const MIB: usize = 1 << 20;
/// Level 0 has blocks of 1 MiB, so that a few MiB make several.
const LEVEL: u32 = 0;

fn xz(threads: u32, stream_size: u64) -> Options {
    options(Compression::Xz, LEVEL, threads, stream_size)
}

/// Made by us, it is opened by stock xz and by our own proof.
#[track_caller]
fn check(options: &Options, clear: &[u8]) -> Made {
    let made = apply(options, clear, None).unwrap();
    stock(&["xz", "-t"], &made.bytes);
    same(&stock(&["xz", "-dc"], &made.bytes), clear);
    same(&prove(options, &made.bytes).unwrap(), clear);
    assert_eq!(made.blocks.blocks, listed(&made.bytes));
    made
}

/// The table of blocks as stock xz sees it.
fn listed(bytes: &[u8]) -> Vec<[u64; 2]> {
    let list = String::from_utf8(stock(&["xz", "--list", "-vv", "--robot"], bytes)).unwrap();
    let blocks = list.lines().filter(|line| line.starts_with("block\t"));
    // block, stream, in stream, in file, compressed offset, uncompressed offset, total size, …
    let number = |line: &str, field| line.split('\t').nth(field).unwrap().parse::<u64>().unwrap();
    blocks.map(|line| [number(line, 5), number(line, 4)]).collect()
}

#[test]
fn stock_xz_opens_every_size() {
    for len in [0, 1, 4095, MIB - 1, MIB, MIB + 1, 2 * MIB + 1, 5 * MIB] {
        check(&xz(2, STREAM_SIZE_MAX), &text(len, 1));
    }
    check(&options(Compression::Xz, 6, 2, STREAM_SIZE_MAX), &text(MIB, 1));
}

#[test]
fn stock_xz_opens_every_content() {
    let len = 3 * MIB + 17;
    for clear in [noise(len, 1), mixed(len), vec![0; len], [text(MIB, 1), vec![0; MIB], noise(MIB, 2)].concat()] {
        check(&xz(2, STREAM_SIZE_MAX), &clear);
    }
}

#[test]
fn an_input_larger_than_a_stream_becomes_several() {
    let clear = mixed(3 * MIB);
    for stream_size in [70_000, 700_000, 3 * MIB as u64 - 1, 3 * MIB as u64] {
        let made = check(&xz(2, stream_size), &clear);
        let streams = clear.len().div_ceil(stream_size as usize);
        assert_eq!(made.marks.len(), streams - 1);
        let list = String::from_utf8(stock(&["xz", "--list", "--robot"], &made.bytes)).unwrap();
        assert!(list.lines().any(|line| line.starts_with(&format!("file\t{streams}\t"))), "{list}");
    }
}

#[test]
fn each_block_decodes_alone() {
    let clear = mixed(4 * MIB);
    let made = apply(&xz(2, 2_500_000), &clear, None).unwrap();
    let list = String::from_utf8(stock(&["xz", "--list", "-vv", "--robot"], &made.bytes)).unwrap();
    let rows: Vec<Vec<&str>> =
        list.lines().filter(|line| line.starts_with("block\t")).map(|line| line.split('\t').collect()).collect();
    assert!(3 < rows.len());
    for (row, [at, offset]) in rows.iter().zip(&made.blocks.blocks) {
        let (total, uncompressed): (usize, u64) = (row[6].parse().unwrap(), row[7].parse().unwrap());
        let header: usize = row[11].parse().unwrap();
        let compressed: usize = row[13].parse().unwrap();
        let unpadded = (header + compressed + 8) as u64;
        let block = &made.bytes[*offset as usize..*offset as usize + total];
        let end = container::stream_end(&[container::Record { unpadded, uncompressed }]);
        let alone = [&container::stream_header()[..], block, &end].concat();
        same(&stock(&["xz", "-dc"], &alone), &clear[*at as usize..(*at + uncompressed) as usize]);
    }
}

#[test]
fn what_is_made_depends_on_neither_threads_nor_reads() {
    let clear = mixed(5 * MIB);
    let one = apply(&xz(1, 3_000_000), &clear, None).unwrap();
    for threads in [2, 3, 8] {
        let many = apply(&xz(threads, 3_000_000), &clear, None).unwrap();
        same(&many.bytes, &one.bytes);
        assert_eq!(many.blocks, one.blocks);
    }
}

#[test]
fn resumed_at_any_mark_the_output_is_the_same() {
    let clear = mixed(4 * MIB);
    let options = xz(2, 1_300_000);
    let whole = apply(&options, &clear, None).unwrap();
    assert_eq!(whole.marks.len(), 3);
    for mark in &whole.marks {
        let rest = apply(&options, &clear, Some(mark.clone())).unwrap();
        same(&[&whole.bytes[..mark.output as usize], &rest.bytes].concat(), &whole.bytes);
        assert_eq!(rest.blocks, whole.blocks);
        assert_eq!(
            rest.marks,
            whole.marks.iter().filter(|other| mark.input < other.input).cloned().collect::<Vec<_>>()
        );
    }
    let end = Mark { input: clear.len() as u64, output: whole.bytes.len() as u64, summary: whole.blocks.clone() };
    let rest = apply(&options, &clear, Some(end)).unwrap();
    assert_eq!((rest.bytes.len(), &rest.blocks), (0, &whole.blocks));
    let beyond = Mark { input: clear.len() as u64 + 1, output: 0, summary: Blocks::default() };
    let err = Compressor::new(&options).unwrap().apply(Job {
        input: &mut io::empty(),
        input_len: clear.len() as u64,
        output: &mut io::sink(),
        from: Some(beyond),
        mark: &mut |_| Ok(()),
        stop: &|| false,
    });
    assert_eq!(err.unwrap_err().fate(), Fate::Rotten);
}

#[test]
fn noise_is_stored_and_costs_next_to_nothing() {
    let clear = noise(8 * MIB, 1);
    let made = check(&options(Compression::Xz, 6, 2, STREAM_SIZE_MAX), &clear);
    assert!(made.bytes.len() < clear.len() + clear.len() / 10_000, "{}", made.bytes.len());
}

/// Almost a dictionary away and across the boundaries of units: only a long-distance search finds it.
#[test]
fn noise_that_repeats_is_not_stored_twice() {
    let (once, other) = (noise(300_001, 1), noise(7 * MIB, 2));
    let made = check(&options(Compression::Xz, 6, 2, STREAM_SIZE_MAX), &[&once[..], &other, &once].concat());
    assert!(made.bytes.len() < other.len() + once.len() * 5 / 4, "{}", made.bytes.len());
}

/// The probe must never cost size where there is something to win.
#[test]
fn text_is_as_small_as_from_stock_xz() {
    let clear = text(6 * MIB, 1);
    let made = check(&options(Compression::Xz, 6, 2, STREAM_SIZE_MAX), &clear);
    let stock = stock(&["xz", "-6c", "-T1"], &clear);
    assert!(made.bytes.len() * 1000 <= stock.len() * 1005, "{} and {}", made.bytes.len(), stock.len());
}

/// All input is read when the stop comes, so that no reader can tell of it; only threads of the pool see it.
#[test]
fn a_stop_is_heard_while_all_threads_work() {
    let clear = text(4 * MIB, 1);
    let (stopped, heard) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut bytes = Vec::new();
    let job = Job {
        input: &mut Signal { inner: Drip::new(&clear), stopped: &stopped },
        input_len: clear.len() as u64,
        output: &mut bytes,
        from: None,
        mark: &mut |_| Ok(()),
        stop: &|| {
            let in_pool = std::thread::current().name().is_some_and(|name| name.starts_with("compress-"));
            let stop = in_pool && stopped.load(Ordering::SeqCst);
            heard.fetch_add(usize::from(stop), Ordering::SeqCst);
            stop
        },
    };
    let err = Compressor::new(&xz(3, STREAM_SIZE_MAX)).unwrap().apply(job).unwrap_err();
    assert_eq!(err.fate(), Fate::Stopped, "{err}");
    // Once per block that was not done: each ends at once.
    assert!((1..=4).contains(&heard.into_inner()));
    assert!(bytes.len() < apply(&xz(3, STREAM_SIZE_MAX), &clear, None).unwrap().bytes.len());
}

#[test]
fn a_stop_is_heard_between_reads() {
    for method in [Compression::Xz, Compression::Zstd, Compression::None] {
        let clear = text(3 * MIB, 1);
        let stopped = AtomicBool::new(false);
        let job = Job {
            input: &mut Signal { inner: Drip::new(&clear), stopped: &stopped },
            // More than there is: the stop comes first.
            input_len: clear.len() as u64 + 1,
            output: &mut io::sink(),
            from: None,
            mark: &mut |_| Ok(()),
            stop: &|| stopped.load(Ordering::SeqCst),
        };
        let err = Compressor::new(&options(method, 1, 3, STREAM_SIZE_MAX)).unwrap().apply(job).unwrap_err();
        assert_eq!(err.fate(), Fate::Stopped, "{err}");
    }
}

/// Raises the flag with its last byte.
struct Signal<'a> {
    inner: Drip<'a>,
    stopped: &'a AtomicBool,
}

impl Read for Signal<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.stopped.store(self.inner.bytes.is_empty(), Ordering::SeqCst);
        Ok(len)
    }
}

#[test]
fn readers_and_writers_open_each_other_and_stock() {
    let clear = mixed(MIB);
    let mut writer = xz_writer(Vec::new()).unwrap();
    writer.write_all(&clear).unwrap();
    let xz = writer.finish().unwrap();
    let mut writer = zstd_writer(Vec::new()).unwrap();
    writer.write_all(&clear).unwrap();
    let zst = writer.finish().unwrap();
    same(&stock(&["xz", "-dc"], &xz), &clear);
    same(&stock(&["zstd", "-dc"], &zst), &clear);
    // Others may concatenate, and pad.
    let padded = [&xz[..], &[0; 8], &xz].concat();
    for (method, bytes, times) in [
        (Compression::Xz, padded, 2),
        (Compression::Zstd, [&zst[..], &zst].concat(), 2),
        (Compression::None, clear.clone(), 1),
    ] {
        let mut read = Vec::new();
        reader(method, io::Cursor::new(bytes)).unwrap().read_to_end(&mut read).unwrap();
        same(&read, &clear.repeat(times));
    }
    for (method, bytes) in [(Compression::Xz, xz), (Compression::Zstd, zst)] {
        for len in [0, 5, bytes.len() - 1] {
            let cut = io::Cursor::new(bytes[..len].to_vec());
            let err = reader(method, cut).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof, "{method:?} {len}");
        }
    }
}

#[test]
fn method_none_copies() {
    let clear = noise(3_000_000, 1);
    let options = options(Compression::None, 0, 0, STREAM_SIZE_MAX);
    let made = apply(&options, &clear, None).unwrap();
    same(&made.bytes, &clear);
    same(&prove(&options, &clear).unwrap(), &clear);
}
