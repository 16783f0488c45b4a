//! Streaming readers and writers: for proofs, restores, manifests and listings.
//!
//! The readers pass errors of what they read from on unchanged. What they find damaged is
//! [`io::ErrorKind::InvalidData`], a missing end [`io::ErrorKind::UnexpectedEof`].

use super::{plan, zst::WINDOW_LOG};
use crate::name::Compression;
use liblzma::stream::{Action, Check, MtStreamBuilder, Status, Stream};
use std::io::{self, Read, Write};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

const BUFFER_LEN: usize = 256 << 10;
/// Most memory for one decoder of others' making; level 9 needs 65 MiB.
const DECODER_MEMORY: u64 = 1 << 30;
/// Level of small files of ours.
const SMALL_XZ_LEVEL: u32 = 6;
const SMALL_ZSTD_LEVEL: i32 = 9;

/// Decodes a stream to its end; several streams or frames behind each other are one.
pub fn reader(method: Compression, input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Ok(match method {
        Compression::Xz => Box::new(xz_reader(input)?),
        Compression::Zstd => Box::new(zstd_reader(input)?),
        Compression::None => Box::new(input),
    })
}

/// Opens all that stock `xz -d` opens. Blocks that say their sizes, as all of ours do, are decoded side by side.
pub fn xz_reader<R: Read>(input: R) -> io::Result<XzReader<R>> {
    let (threads, memory) = plan::decoding();
    XzReader::parallel(input, threads, memory)
}

/// Opens all that stock `zstd -d` opens, and larger windows.
pub fn zstd_reader<R: Read>(input: R) -> io::Result<ZstdReader<R>> {
    ZstdReader::new(input, 31, false)
}

/// Compresses a small file of ours in this thread.
pub fn xz_writer<W: Write>(out: W) -> io::Result<XzWriter<W>> {
    // `XzEncoder::new` panics where there is no memory.
    let stream = Stream::new_easy_encoder(SMALL_XZ_LEVEL, Check::Crc64).map_err(xz_error)?;
    Ok(XzWriter(liblzma::write::XzEncoder::new_stream(out, stream)))
}

/// Compresses a small file of ours in this thread, with a checksum.
pub fn zstd_writer<W: Write>(out: W) -> io::Result<ZstdWriter<W>> {
    let mut encoder = zstd::stream::write::Encoder::new(out, SMALL_ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(ZstdWriter(encoder))
}

fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "The end is missing")
}

/// What was read and is not yet decoded.
struct Buffered<R> {
    input: R,
    bytes: Vec<u8>,
    at: usize,
    len: usize,
    is_over: bool,
}

impl<R: Read> Buffered<R> {
    fn new(input: R) -> Buffered<R> {
        Buffered { input, bytes: vec![0; BUFFER_LEN], at: 0, len: 0, is_over: false }
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.at..self.len]
    }

    /// Has at least `wanted` bytes, which is far less than the buffer, unless the input is over.
    fn want(&mut self, wanted: usize) -> io::Result<()> {
        if self.at == self.len {
            (self.at, self.len) = (0, 0);
        }
        while self.len - self.at < wanted && !self.is_over {
            if self.bytes.len() - self.at < wanted {
                self.bytes.copy_within(self.at..self.len, 0);
                (self.at, self.len) = (0, self.len - self.at);
            }
            let len = self.input.read(&mut self.bytes[self.len..])?;
            self.len += len;
            self.is_over = len == 0;
        }
        Ok(())
    }
}

/// Decodes `.xz`, blocks side by side: liblzma takes a whole block into memory for each thread, hands on what is decoded
/// in the order of the blocks, and tells of damage only behind all that came before it. With too little memory it uses
/// fewer threads, down to none. Dropping the reader ends the threads.
pub struct XzReader<R> {
    input: Buffered<R>,
    threads: u32,
    /// Bytes that decoding in parallel may take.
    memory: u64,
    /// Nothing may stand between streams, or behind them.
    is_strict: bool,
    /// The decoder of one stream.
    stream: Stream,
    /// Behind the end of a stream.
    is_between: bool,
    /// Zeros that were skipped there.
    padding: usize,
    is_done: bool,
}

impl<R: Read> XzReader<R> {
    fn new(input: R, threads: u32, memory: u64, is_strict: bool) -> io::Result<XzReader<R>> {
        let (input, stream) = (Buffered::new(input), stream_decoder(threads, memory)?);
        Ok(XzReader { input, threads, memory, is_strict, stream, is_between: false, padding: 0, is_done: false })
    }

    pub(super) fn parallel(input: R, threads: u32, memory: u64) -> io::Result<XzReader<R>> {
        XzReader::new(input, threads, memory, false)
    }

    /// Refuses stream padding, which we never write.
    pub(super) fn strict(input: R, threads: u32, memory: u64) -> io::Result<XzReader<R>> {
        XzReader::new(input, threads, memory, true)
    }

    /// Whether another stream begins here.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            self.input.want(1)?;
            match self.input.left() {
                [] if self.padding.is_multiple_of(4) => return Ok(false),
                [0, ..] if !self.is_strict => {
                    self.padding += 1;
                    self.input.at += 1;
                }
                [_, ..] if self.padding.is_multiple_of(4) => break,
                _ => return Err(damaged("What stands behind a stream is not four zeros, or a multiple")),
            }
        }
        self.stream = stream_decoder(self.threads, self.memory)?;
        (self.is_between, self.padding) = (false, 0);
        Ok(true)
    }
}

/// Waits for its threads at most so long before it asks for more input, milliseconds.
const DECODER_PATIENCE: u32 = 100;

fn stream_decoder(threads: u32, memory: u64) -> io::Result<Stream> {
    let mut builder = MtStreamBuilder::new();
    builder.threads(threads).memlimit_threading(memory).memlimit_stop(memory.max(DECODER_MEMORY));
    builder.timeout_ms(DECODER_PATIENCE).decoder().map_err(xz_error)
}

impl<R: Read> Read for XzReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.is_done && !out.is_empty() {
            if self.is_between && !self.begin()? {
                self.is_done = true;
                break;
            }
            self.input.want(1)?;
            let action = if self.input.is_over { Action::Finish } else { Action::Run };
            let (ins, outs) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.process(self.input.left(), out, action).map_err(xz_error)?;
            self.input.at += (self.stream.total_in() - ins) as usize;
            let len = (self.stream.total_out() - outs) as usize;
            match status {
                Status::StreamEnd => self.is_between = true,
                // No progress although all input was given and there was room.
                Status::MemNeeded if self.input.is_over && len == 0 => return Err(cut_off()),
                _ => {}
            }
            if 0 < len {
                return Ok(len);
            }
        }
        Ok(0)
    }
}

fn xz_error(err: liblzma::stream::Error) -> io::Error {
    use liblzma::stream::Error;
    match err {
        Error::Data | Error::Format | Error::Options | Error::MemLimit | Error::NoCheck | Error::UnsupportedCheck => {
            damaged(err)
        }
        Error::Mem => io::ErrorKind::OutOfMemory.into(),
        Error::Program => io::Error::other(err),
    }
}

/// Decodes `.zst`.
pub struct ZstdReader<R> {
    input: Buffered<R>,
    context: DCtx<'static>,
    /// Nothing but frames as we write them.
    is_strict: bool,
    /// Before the first byte of a frame.
    is_between: bool,
    /// Whether there was any frame.
    is_begun: bool,
}

/// Magic number and descriptor of a frame.
const FRAME_START_LEN: usize = 5;
const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Of the descriptor: unused bit, reserved bit, checksum flag, size of dictionary id. Decoders ignore the first.
const DESCRIPTOR_MASK: u8 = 0b0001_1111;
const DESCRIPTOR: u8 = 0b0000_0100;

impl<R: Read> ZstdReader<R> {
    fn new(input: R, window_log: u32, is_strict: bool) -> io::Result<ZstdReader<R>> {
        let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        context.set_parameter(DParameter::WindowLogMax(window_log)).map_err(zstd_error)?;
        Ok(ZstdReader { input: Buffered::new(input), context, is_strict, is_between: true, is_begun: false })
    }

    /// Refuses frames without a checksum, skippable frames and windows that stock `zstd -d` refuses.
    pub(super) fn strict(input: R) -> io::Result<ZstdReader<R>> {
        ZstdReader::new(input, WINDOW_LOG, true)
    }

    /// Whether another frame begins here.
    fn begin(&mut self) -> io::Result<bool> {
        self.input.want(FRAME_START_LEN)?;
        let start = self.input.left();
        if start.is_empty() {
            return if self.is_begun { Ok(false) } else { Err(cut_off()) };
        }
        if self.is_strict {
            let Some((magic, [descriptor, ..])) = start.split_first_chunk::<4>() else { return Err(cut_off()) };
            if *magic != FRAME_MAGIC || descriptor & DESCRIPTOR_MASK != DESCRIPTOR {
                return Err(damaged("Not the beginning of a frame"));
            }
        }
        (self.is_between, self.is_begun) = (false, true);
        Ok(true)
    }
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.is_between && !self.begin()? {
                return Ok(0);
            }
            self.input.want(1)?;
            let mut input = InBuffer::around(&self.input.bytes[self.input.at..self.input.len]);
            let mut output = OutBuffer::around(&mut *out);
            let hint = self.context.decompress_stream(&mut output, &mut input).map_err(zstd_error)?;
            let (read, len) = (input.pos(), output.pos());
            self.input.at += read;
            self.is_between = hint == 0;
            if 0 < len {
                return Ok(len);
            }
            if read == 0 && self.input.is_over && !self.is_between {
                return Err(cut_off());
            }
        }
    }
}

fn zstd_error(code: usize) -> io::Error {
    damaged(get_error_name(code))
}

/// Compresses to `.xz`; what is written is not complete before [`finish`](Self::finish).
pub struct XzWriter<W: Write>(liblzma::write::XzEncoder<W>);

impl<W: Write> XzWriter<W> {
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for XzWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Does nothing: what is compressed so far goes out at the end, and a flush halfway would only cost size.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses to `.zst`; what is written is not complete before [`finish`](Self::finish).
pub struct ZstdWriter<W: Write>(zstd::stream::write::Encoder<'static, W>);

impl<W: Write> ZstdWriter<W> {
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for ZstdWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Does nothing: what is compressed so far goes out at the end, and a flush halfway would only cost size.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
