//! The compressor: xz in streams of blocks, or zstd in frames, on all cores that memory allows.
//!
//! # Invariants
//!
//! - Stock tools open what is written here: `xz -d`, `zstd -d`, without options.
//! - The same input and the same options make the same bytes, whatever the number of threads and however often the
//!   work was stopped and resumed; so nothing here depends on time, threads or the sizes of reads.
//! - Every block (xz) or frame (zstd) can be decoded alone; [`Blocks`] says where each begins.
//! - Memory stays below [`Options::memory`]; a setting that needs more is refused, not silently weakened.
//! - A stop is heard within one slice of input, about 100 ms, also while all threads work.
//!
//! This room is the only door to liblzma and zstd.

mod block;
mod codec;
mod container;
mod crew;
// The only room of calls into C.
#[allow(unsafe_code)]
mod lzma;
mod plan;
mod pool;
mod probe;
mod prove;
mod xz;
mod zst;

#[cfg(test)]
mod crew_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod parallel_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zst_tests;

pub use codec::{XzReader, XzWriter, ZstdReader, ZstdWriter, reader, xz_reader, xz_writer, zstd_reader, zstd_writer};

use crate::{
    durable,
    fate::{Fate, Fateful, Stopped, Trouble},
    name::Compression,
    notice::Step,
    stage::{Job, Mark, Transform},
};
use crew::Crew;
use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    io::{self, Read, Write},
    sync::Arc,
};

/// Input of one xz stream, bytes: the default and the maximum.
pub const STREAM_SIZE_MAX: u64 = 4 << 30;

/// Most input that is read, and output that is written, between two looks at the stop, bytes.
const SLICE_LEN: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub method: Compression,
    /// 0 to 9 for xz, 1 to 19 for zstd.
    pub level: u32,
    /// 0: as many as cores and memory allow.
    pub threads: u32,
    /// Most bytes of memory that compressing and proving may take.
    pub memory: u64,
    /// Bytes of input in one xz stream, and between two marks; a zstd frame has at most 256 MiB of it.
    pub stream_size: u64,
}

impl Options {
    /// What a method is used with unless something else is asked for.
    pub fn for_method(method: Compression) -> Options {
        let level = match method {
            Compression::Xz => 6,
            Compression::Zstd => 9,
            Compression::None => 0,
        };
        Options { method, level, threads: 0, memory: 2 << 30, stream_size: STREAM_SIZE_MAX }
    }
}

/// Where each independently decodable part begins: `[offset in the tar, offset in the compressed form]`. For xz that
/// is the block, whose header follows there; for zstd the frame.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
pub struct Blocks {
    pub blocks: Vec<[u64; 2]>,
}

#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    #[error("Compressing was told to stop")]
    Stopped,
    #[error("{0}")]
    Refused(String),
    #[error("Cannot read what is to be compressed")]
    Read(#[source] io::Error),
    #[error("Cannot compress {expected} bytes: the input has {}{found}", if .expected < .found { "at least " } else { "" })]
    Length { expected: u64, found: u64 },
    #[error("Cannot go on at byte {input} of an input of {input_len} bytes")]
    Mark { input: u64, input_len: u64 },
    #[error("Cannot write the compressed form")]
    Write(#[source] io::Error),
    #[error("Cannot read the compressed form back")]
    ReadBack(#[source] io::Error),
    #[error("Cannot hand on the decoded bytes")]
    Clear(#[source] io::Error),
    #[error("The compressed form is damaged")]
    Damaged(#[source] io::Error),
    #[error("Cannot {attempt}")]
    Codec { attempt: &'static str, source: Box<dyn Error + Send + Sync> },
}

impl CompressError {
    fn codec(attempt: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> CompressError {
        CompressError::Codec { attempt, source: source.into() }
    }

    fn zstd(attempt: &'static str, code: usize) -> CompressError {
        CompressError::codec(attempt, zstd::zstd_safe::get_error_name(code))
    }

    /// Makes an error of a failed read or write, unless it was a stop.
    fn io(make: fn(io::Error) -> CompressError) -> impl Fn(io::Error) -> CompressError {
        move |err| if Stopped::caused(&err) { CompressError::Stopped } else { make(err) }
    }
}

impl Fateful for CompressError {
    fn fate(&self) -> Fate {
        match self {
            CompressError::Stopped => Fate::Stopped,
            CompressError::Refused(_) => Fate::Operator,
            CompressError::Length { .. } | CompressError::Mark { .. } | CompressError::Damaged(_) => Fate::Rotten,
            // Who hands us bytes, or takes them, says by `InvalidData` that they are not what they should be.
            CompressError::Read(err) | CompressError::ReadBack(err) | CompressError::Clear(err)
                if err.kind() == io::ErrorKind::InvalidData =>
            {
                Fate::Rotten
            }
            CompressError::Read(err) if durable::is_lost(err) => Fate::Rotten,
            _ => Fate::Retry,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            CompressError::Stopped | CompressError::Refused(_) | CompressError::Codec { .. } => Trouble::Internal,
            _ => Trouble::Staging,
        }
    }
}

/// The compressor of one configuration; used for one piece after the other. Several may work side by side, see
/// [`twin`](Self::twin).
#[derive(Debug)]
pub struct Compressor {
    crew: Arc<Crew>,
}

impl Compressor {
    /// Fails with [`CompressError::Refused`] when the options are impossible or need more memory than they allow.
    pub fn new(options: &Options) -> Result<Compressor, CompressError> {
        plan::check(options)?;
        Ok(Compressor { crew: Arc::new(Crew::new(options)) })
    }

    /// Another one, for another piece at the same time. All twins together take no more threads and memory than one,
    /// if there are no more of them than [`lanes`](Self::lanes).
    pub fn twin(&self) -> Compressor {
        Compressor { crew: self.crew.clone() }
    }

    /// How many twins, this one counted, may work side by side; at least 1.
    pub fn lanes(&self) -> usize {
        self.crew.lanes()
    }

    /// How many it uses.
    pub fn threads(&self) -> u32 {
        self.crew.threads
    }

    /// Bytes of memory that these options take at most: with as many threads as will be used, or with one if not
    /// even that is allowed. The figure counts buffers and tables, not the program itself.
    pub fn memory_needed(options: &Options) -> u64 {
        plan::memory_needed(options)
    }

    /// Tells what [`new`](Self::new) would refuse.
    ///
    /// # Errors
    /// [`CompressError::Refused`]: a value is out of range, or more memory is needed than allowed; the message names
    /// the figures that would do.
    pub fn check(options: &Options) -> Result<(), CompressError> {
        plan::check(options)
    }
}

impl Transform for Compressor {
    const STEP: Step = Step::Compress;
    type Summary = Blocks;
    type Error = CompressError;

    fn apply(&mut self, job: Job<'_, Blocks>) -> Result<Blocks, CompressError> {
        let start = job.from.as_ref().map_or(0, |mark| mark.input);
        if job.input_len < start {
            return Err(CompressError::Mark { input: start, input_len: job.input_len });
        }
        let options = &self.crew.options;
        match options.method {
            Compression::Xz => xz::apply(job, &self.crew),
            Compression::Zstd => {
                // Its threads are zstd's own, so one piece has them all until its end.
                let _floor = self.crew.floor(job.stop)?;
                zst::apply(job, options, self.crew.threads)
            }
            Compression::None => copy(job),
        }
    }

    fn prove(
        &mut self,
        output: &mut (dyn Read + Send),
        clear: &mut (dyn Write + Send),
        stop: probe::Halt<'_>,
    ) -> Result<(), CompressError> {
        let _proof = self.crew.proof(stop)?;
        let memory = if self.lanes() > 1 { self.crew.proof_memory() } else { self.crew.options.memory };
        prove::prove(output, clear, self.crew.options.method, self.crew.threads, memory)
    }
}

/// Method `none`: the pipeline renames instead, but the contract holds here too.
fn copy(job: Job<'_, Blocks>) -> Result<Blocks, CompressError> {
    let (mut source, mut sink, blocks) = ends(job);
    let mut buffer = vec![0; SLICE_LEN];
    while 0 < source.left() {
        let len = source.fill(&mut buffer)?;
        sink.write(&buffer[..len])?;
    }
    source.expect_end()?;
    Ok(blocks)
}

/// The two ends of a job, with the stop looked at between slices, and the summary so far.
fn ends<'a>(job: Job<'a, Blocks>) -> (Source<'a>, Sink<'a>, Blocks) {
    let Mark { input, output, summary } = job.from.unwrap_or(Mark { input: 0, output: 0, summary: Blocks::default() });
    let source = Source { read: job.input, at: input, len: job.input_len, stop: job.stop };
    let sink = Sink { write: job.output, mark: job.mark, at: output, stop: job.stop };
    (source, sink, summary)
}

/// The input: exactly as long as was said, or an error.
struct Source<'a> {
    read: &'a mut (dyn Read + Send),
    at: u64,
    len: u64,
    stop: probe::Halt<'a>,
}

impl Source<'_> {
    fn left(&self) -> u64 {
        self.len - self.at
    }

    /// One read of at least one byte into `room`, which is not empty, and not beyond the end.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, CompressError> {
        let most = usize::try_from(self.left()).unwrap_or(usize::MAX).min(room.len()).min(SLICE_LEN);
        loop {
            if (self.stop)() {
                return Err(CompressError::Stopped);
            }
            match self.read.read(&mut room[..most]) {
                Ok(0) => return Err(CompressError::Length { expected: self.len, found: self.at }),
                Ok(len) => {
                    self.at += len as u64;
                    return Ok(len);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(CompressError::io(CompressError::Read)(err)),
            }
        }
    }

    /// Fills `room`, or as much of it as there is left.
    fn fill(&mut self, room: &mut [u8]) -> Result<usize, CompressError> {
        let mut filled = 0;
        while filled < room.len() && 0 < self.left() {
            filled += self.read(&mut room[filled..])?;
        }
        Ok(filled)
    }

    /// That nothing follows: a file that has grown is not the one that was announced.
    fn expect_end(&mut self) -> Result<(), CompressError> {
        self.len += 1;
        let more = self.read(&mut [0]);
        self.len -= 1;
        match more {
            Ok(_) => Err(CompressError::Length { expected: self.len, found: self.at }),
            Err(CompressError::Length { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }
}

/// The output, and how far it has come.
struct Sink<'a> {
    write: &'a mut (dyn Write + Send),
    mark: &'a mut (dyn FnMut(&Mark<Blocks>) -> io::Result<()> + Send),
    at: u64,
    stop: probe::Halt<'a>,
}

impl Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CompressError> {
        for slice in bytes.chunks(SLICE_LEN) {
            if (self.stop)() {
                return Err(CompressError::Stopped);
            }
            self.write.write_all(slice).map_err(CompressError::io(CompressError::Write))?;
            self.at += slice.len() as u64;
        }
        Ok(())
    }

    /// Says that the work can go on from here.
    fn mark(&mut self, input: u64, blocks: &Blocks) -> Result<(), CompressError> {
        let mark = Mark { input, output: self.at, summary: blocks.clone() };
        (self.mark)(&mark).map_err(CompressError::io(CompressError::Write))
    }
}
