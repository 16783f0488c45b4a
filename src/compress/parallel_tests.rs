//! Decoding blocks side by side: what comes, what comes of damage, and what it takes.

use super::{codec::XzReader, testing::*, *};
use liblzma::stream::{CONCATENATED, Stream};
use std::{fs, path::Path, process::Command, thread};

const MEMORY: u64 = 1 << 30;

/// Six blocks in three streams.
fn many() -> (Vec<u8>, Made) {
    let clear = mixed(6_000_000);
    let made = apply(&options(Compression::Xz, 0, 2, 2_000_000), &clear, None).unwrap();
    assert_eq!(made.blocks.blocks.len(), 6, "{:?}", made.blocks);
    (clear, made)
}

/// What comes until the end, or until an error.
fn read(mut reader: impl Read) -> (Vec<u8>, io::Result<()>) {
    let (mut clear, mut buffer) = (Vec::new(), vec![0; 50_000]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (clear, Ok(())),
            Ok(len) => clear.extend_from_slice(&buffer[..len]),
            Err(err) => return (clear, Err(err)),
        }
    }
}

fn parallel(bytes: &[u8], threads: u32, memory: u64) -> (Vec<u8>, io::Result<()>) {
    read(XzReader::parallel(Drip::new(bytes), threads, memory).unwrap())
}

/// By liblzma's decoder of one thread.
fn serial(bytes: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let stream = Stream::new_stream_decoder(MEMORY, CONCATENATED).unwrap();
    read(liblzma::read::XzDecoder::new_stream(Drip::new(bytes), stream))
}

#[test]
fn many_blocks_and_streams_come_back_with_any_number_of_threads_and_any_memory() {
    let (clear, made) = many();
    for threads in [1, 2, 3, 16] {
        for memory in [0, 1 << 20, 8 << 20, MEMORY] {
            let (found, ended) = parallel(&made.bytes, threads, memory);
            ended.unwrap();
            same(&found, &clear);
        }
    }
    let (found, ended) = read(reader(Compression::Xz, io::Cursor::new(made.bytes)).unwrap());
    ended.unwrap();
    same(&found, &clear);
}

#[test]
fn what_stock_xz_makes_is_read_and_what_it_refuses_is_refused() {
    let clear = text(3_000_000, 1);
    let made = |arguments: &[&str]| stock(&[&["xz", "-k", "-c", "-1"], arguments].concat(), &clear);
    let (sized, plain) = (made(&["-T2", "--block-size=500000"]), made(&["-T1"]));
    for (one, other) in [(&sized, &plain), (&plain, &sized), (&sized, &sized)] {
        for between in [0, 4, 8, 300_000] {
            for behind in [0, 4, 1024] {
                let bytes = [&one[..], &vec![0; between], other, &vec![0; behind]].concat();
                let (found, ended) = parallel(&bytes, 2, MEMORY);
                ended.unwrap();
                same(&found, &clear.repeat(2));
            }
        }
        for (between, behind) in [(&[0][..], &[][..]), (&[], &[0; 3]), (&[1; 12], &[]), (&[], &[0, 0, 0, 0, 1])] {
            let bytes = [one, between, other, behind].concat();
            assert!(serial(&bytes).1.is_err());
            let err = parallel(&bytes, 2, MEMORY).1.unwrap_err();
            assert!([io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof].contains(&err.kind()), "{err:?}");
        }
    }
    assert_eq!(parallel(&[], 2, MEMORY).1.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn of_a_damaged_block_comes_no_more_than_one_thread_would_give_and_nothing_behind_it() {
    let (clear, made) = many();
    let blocks = &made.blocks.blocks;
    let mut numbers = Numbers(11);
    for (number, [start, at]) in blocks.iter().enumerate() {
        let [end, at_end] = *blocks.get(number + 1).unwrap_or(&[clear.len() as u64, made.bytes.len() as u64]);
        let some: Vec<_> = (0..4).map(|_| (at + numbers.below(at_end - at), numbers.below(8))).collect();
        for (place, bit) in [(*at, 0), (at + 1, 7), (at + 3, 3), (at_end - 1, 1)].into_iter().chain(some) {
            let mut bytes = made.bytes.clone();
            bytes[place as usize] ^= 1 << bit;
            let (expected, refused) = serial(&bytes);
            assert!(refused.is_err());
            for threads in [1, 4] {
                let (found, ended) = parallel(&bytes, threads, MEMORY);
                let err = ended.unwrap_err();
                assert_eq!(err.kind(), io::ErrorKind::InvalidData, "byte {place}: {err}");
                let (first, len) = (*start as usize, found.len());
                assert!(
                    first.saturating_sub(50_000) <= len && len as u64 <= end,
                    "byte {place}, block {number}: {len}"
                );
                let good = first.min(len);
                same(&found[..good], &clear[..good]);
                // Where they stop within the block depends on how it is read.
                let both = len.min(expected.len());
                same(&found[..both], &expected[..both]);
            }
        }
    }
}

#[test]
fn a_cut_anywhere_is_told_as_a_missing_end() {
    let (clear, made) = many();
    let mut numbers = Numbers(5);
    let len = made.bytes.len();
    let cuts = (0..16).chain(len - 16..len).chain((0..60).map(|_| numbers.below(len as u64) as usize));
    // Where one stream ends and the next begins nobody can see that more was there; its digest tells.
    for cut in cuts.filter(|cut| serial(&made.bytes[..*cut]).1.is_err()) {
        let (found, ended) = parallel(&made.bytes[..cut], 3, MEMORY);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{cut} of {len}");
        same(&found, &clear[..found.len()]);
    }
}

/// Threads of this name; those of liblzma have that of the thread that began them.
fn named(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

/// Runs in a thread of this name.
fn in_thread(name: &'static str, run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(run).unwrap().join().unwrap();
}

#[test]
fn dropping_it_in_the_middle_ends_its_threads() {
    in_thread("xz-dropped", || {
        let (_, made) = many();
        for len in [1, 300_000, 2_000_000] {
            let mut reader = XzReader::parallel(Drip::new(&made.bytes), 3, MEMORY).unwrap();
            reader.by_ref().take(len).read_to_end(&mut Vec::new()).unwrap();
            assert!(named("xz-dropped") > 1, "nothing was done side by side");
            drop(reader);
            // The kernel shows a thread for a moment after it was waited for.
            let mut looks = 0;
            while named("xz-dropped") > 1 {
                looks += 1;
                assert!(looks < 100_000, "threads are left");
                thread::yield_now();
            }
        }
    });
}

const CHILD: &str = "ARCHIVER_DECODER_MEMORY";
/// With it two of eight threads can work.
const LIMIT: u64 = 32 << 20;
/// What malloc keeps of what was freed: the buffers of a block.
const SLACK: u64 = 12 << 20;

/// In a process of its own, since others' memory would count as well.
#[test]
fn memory_stays_below_the_limit() {
    if let Some(file) = std::env::var_os(CHILD) {
        return decode_within_the_limit(Path::new(&file));
    }
    let clear = noise(64 << 20, 1);
    let made = apply(&options(Compression::Xz, 2, 2, STREAM_SIZE_MAX), &clear, None).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &made.bytes).unwrap();
    let test = "compress::parallel_tests::memory_stays_below_the_limit";
    let child = Command::new(std::env::current_exe().unwrap()).args(["--exact", test]).env(CHILD, file.path()).output();
    let child = child.unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
}

fn kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn decode_within_the_limit(file: &Path) {
    let before = kib("VmRSS:");
    let mut reader = XzReader::parallel(fs::File::open(file).unwrap(), 8, LIMIT).unwrap();
    let (mut buffer, mut len, mut most) = (vec![0; 100_000], 0, 0);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            read => len += read,
        }
        let tasks = fs::read_dir("/proc/self/task").unwrap().count();
        most = most.max(tasks);
    }
    assert_eq!(len, 64 << 20);
    let taken = (kib("VmHWM:") - before) << 10;
    // Two of the test itself.
    assert!(most > 3, "only {} threads worked", most - 2);
    assert!(taken < LIMIT + SLACK, "{} MiB", taken >> 20);
}
