//! Options made into numbers: what is refused, how many threads, how much memory, where blocks end.

use super::{CompressError, Options, STREAM_SIZE_MAX, block, lzma, probe::Probe, zst};
use crate::name::Compression;
use std::{num::NonZero, thread};

/// More would be a mistake, and is more than zstd can.
pub const THREADS_MAX: u32 = 200;
/// Most bytes of memory for decoding blocks side by side; of level 6, each takes at most 60 MiB.
const DECODING_MEMORY_MAX: u64 = 1 << 30;

/// See [`super::Compressor::check`].
pub fn check(options: &Options) -> Result<(), CompressError> {
    let refuse = |why: String| Err(CompressError::Refused(why));
    let (name, levels) = match options.method {
        Compression::Xz => ("xz", 0..=9),
        Compression::Zstd => ("zstd", 1..=19),
        Compression::None => return Ok(()),
    };
    if !levels.contains(&options.level) {
        return refuse(format!("Level {} of {name} is not {} to {}", options.level, levels.start(), levels.end()));
    }
    if THREADS_MAX < options.threads {
        return refuse(format!("{} threads are more than {THREADS_MAX}", options.threads));
    }
    if !(1..=STREAM_SIZE_MAX).contains(&options.stream_size) {
        return refuse(format!("A stream of {} bytes is not 1 byte to 4 GiB", options.stream_size));
    }
    let asked = options.threads.max(1);
    let needed = memory_of(options, asked);
    if needed <= options.memory {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let instead = match most_threads(options, asked) {
        0 => "a lower level needs less".to_owned(),
        1 => "1 thread fits".to_owned(),
        fit => format!("{fit} threads fit"),
    };
    refuse(format!(
        "Level {} of {name} with {asked} {} needs {}MiB of memory, and {}MiB are allowed; {instead}",
        options.level,
        if asked == 1 { "thread" } else { "threads" },
        mebibytes(needed),
        options.memory >> 20,
    ))
}

/// See [`super::Compressor::memory_needed`].
pub fn memory_needed(options: &Options) -> u64 {
    memory_of(options, threads(options))
}

/// How many threads will be used; at least 1.
pub fn threads(options: &Options) -> u32 {
    match options.threads {
        0 => most_threads(options, cores()).max(1),
        asked => asked,
    }
}

fn cores() -> u32 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(cores).unwrap_or(THREADS_MAX).min(THREADS_MAX)
}

/// Threads that decode, and bytes of memory that they may take together: like stock xz at most a quarter of what the
/// machine has.
pub fn decoding() -> (u32, u64) {
    let system = rustix::system::sysinfo();
    let machine = system.totalram.saturating_mul(system.mem_unit.into());
    (cores(), (machine / 4).min(DECODING_MEMORY_MAX))
}

/// The most threads up to `limit` that fit into the memory allowed; 0 when not even one does.
fn most_threads(options: &Options, limit: u32) -> u32 {
    (1..=limit).rev().find(|threads| memory_of(options, *threads) <= options.memory).unwrap_or(0)
}

pub fn memory_of(options: &Options, threads: u32) -> u64 {
    match options.method {
        Compression::Xz => {
            let len = block_len_max(options.level).min(options.stream_size);
            let slot = len + block::body_bound(len as usize) as u64;
            let encoder = lzma::encoder_memory(options.level).unwrap_or(u64::MAX / 1024);
            let probe = Probe::memory(block::dict_log(options.level));
            slots(threads) as u64 * slot + u64::from(threads) * (encoder + probe)
        }
        Compression::Zstd => zst::memory(options.level, threads),
        Compression::None => super::SLICE_LEN as u64,
    }
}

/// Bytes of memory that a proof in one thread takes at most: the window and buffers.
pub fn proof_memory(options: &Options) -> u64 {
    let window = match options.method {
        Compression::Xz => 1 << block::dict_log(options.level),
        Compression::Zstd => 1 << zst::WINDOW_LOG,
        Compression::None => 0,
    };
    window + (4 << 20)
}

/// Blocks in memory at once: one in each thread, one being read, and some that wait, because a stored block is done
/// in no time while its neighbors take seconds.
pub fn slots(threads: u32) -> usize {
    threads as usize + 1 + threads as usize / 2
}

/// As stock xz has it: three dictionaries, but not below 1 MiB.
fn block_len_max(level: u32) -> u64 {
    (3 << block::dict_log(level)).max(1 << 20)
}

/// Bytes in each block but the last of a stream of `len` bytes. Depends on nothing but the arguments, so that the
/// same input makes the same output on any machine; a stream is divided evenly, and a short one into an
/// even number of blocks, because that is how many cores machines have. More blocks than needed cost size (1 % for
/// ten instead of nine), so long streams are not rounded, and no block gets shorter than a dictionary.
pub fn block_len(level: u32, len: u64) -> u64 {
    let (most, dict) = (block_len_max(level), 1 << block::dict_log(level));
    let count = match len.div_ceil(most) {
        0 | 1 if len < 2 * dict.max(1 << 20) => 1,
        0..=2 => 2,
        few @ 3..=8 => few.next_multiple_of(2),
        many => many,
    };
    // Whole units of the probe and of stored chunks; the last block is what is left.
    len.div_ceil(count).next_multiple_of(64 << 10).min(most)
}

/// One block to be: how long, and whether its stream ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub len: u64,
    pub ends_stream: bool,
}

/// The blocks of an input from `at` on, where a stream begins.
pub struct Plan {
    pub level: u32,
    pub stream_size: u64,
    pub at: u64,
    pub end: u64,
    pub stream_end: u64,
    pub block_len: u64,
}

impl Plan {
    pub fn new(options: &Options, at: u64, end: u64) -> Plan {
        Plan { level: options.level, stream_size: options.stream_size, at, end, stream_end: at, block_len: 0 }
    }
}

impl Iterator for Plan {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        if self.at == self.end {
            return None;
        }
        if self.at == self.stream_end {
            let len = self.stream_size.min(self.end - self.at);
            self.stream_end = self.at + len;
            self.block_len = block_len(self.level, len);
        }
        let len = self.block_len.min(self.stream_end - self.at);
        self.at += len;
        Some(Block { len, ends_stream: self.at == self.stream_end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xz(level: u32, threads: u32, memory: u64) -> Options {
        Options { level, threads, memory, ..Options::for_method(Compression::Xz) }
    }

    #[test]
    fn blocks_divide_a_stream_evenly_and_never_fall_below_a_dictionary() {
        let mib = 1 << 20;
        for (len, count) in
            [(1, 1), (15, 1), (16, 2), (24, 2), (25, 2), (48, 2), (49, 4), (97, 6), (200, 9), (4096, 171)]
        {
            let blocks: Vec<Block> = Plan::new(&xz(6, 1, 0), 0, len * mib).collect();
            assert_eq!(blocks.len(), count, "{len} MiB");
            assert_eq!(blocks.iter().map(|block| block.len).sum::<u64>(), len * mib);
            assert!(blocks.iter().all(|block| block.len <= 24 * mib));
            assert!(count == 1 || 8 * mib <= blocks[0].len, "{len} MiB");
            assert_eq!(blocks.iter().filter(|block| block.ends_stream).count(), 1);
        }
    }

    #[test]
    fn streams_end_where_they_must() {
        let options = Options { stream_size: 100, ..xz(0, 1, 0) };
        let ends: Vec<_> = Plan::new(&options, 0, 250).map(|block| (block.len, block.ends_stream)).collect();
        assert_eq!(ends, [(100, true), (100, true), (50, true)]);
        assert_eq!(Plan::new(&options, 0, 0).next(), None);
    }

    #[test]
    fn what_needs_too_much_memory_is_refused_with_what_would_do() {
        assert!(check(&xz(6, 0, 2 << 30)).is_ok());
        let err = check(&xz(9, 16, 2 << 30)).unwrap_err().to_string();
        assert_eq!(
            err,
            "Level 9 of xz with 16 threads needs 21522MiB of memory, and 2048MiB are allowed; 1 thread fits"
        );
        let err = check(&xz(9, 0, 100 << 20)).unwrap_err().to_string();
        assert!(err.ends_with("and 100MiB are allowed; a lower level needs less"), "{err}");
    }

    #[test]
    fn as_many_threads_as_fit_and_no_more() {
        for level in 0..=9 {
            for threads in 1..8 {
                let needed = memory_of(&xz(level, threads, 0), threads);
                assert_eq!(most_threads(&xz(level, 0, needed), 16), threads, "level {level}");
                assert_eq!(most_threads(&xz(level, 0, needed - 1), 16), threads - 1, "level {level}");
            }
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let fine = xz(6, 1, 2 << 30);
        for bad in [
            Options { level: 10, ..fine.clone() },
            Options { threads: THREADS_MAX + 1, ..fine.clone() },
            Options { stream_size: 0, ..fine.clone() },
            Options { stream_size: STREAM_SIZE_MAX + 1, ..fine.clone() },
            Options { method: Compression::Zstd, level: 0, ..fine.clone() },
            Options { method: Compression::Zstd, level: 20, ..fine.clone() },
        ] {
            assert!(matches!(check(&bad), Err(CompressError::Refused(_))), "{bad:?}");
        }
    }
}
