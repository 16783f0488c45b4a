//! zstd in independent frames, each with its content size and a checksum; zstd's own threads work inside a frame.

use super::{Blocks, CompressError, Options, SLICE_LEN, ends};
use crate::stage::Job;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, zstd_sys::ZSTD_EndDirective};

/// Input of one frame, bytes.
const FRAME_LEN_MAX: u64 = 256 << 20;
/// 128 MiB: the largest window that stock `zstd -d` opens without options.
pub const WINDOW_LOG: u32 = 27;
const _: () = assert!(1 << WINDOW_LOG <= FRAME_LEN_MAX);

/// Input of one job of a worker, bytes: small enough that a stop, which waits for the jobs in hand, takes seconds,
/// large enough that its overlap with the job before is a small part of it.
fn job_len(level: u32) -> u64 {
    if level < 16 { 8 << 20 } else { 16 << 20 }
}

/// Bytes of memory at most. zstd estimates no context with workers, so this adds up what `zstdmt_compress.c` of 1.5.7
/// allocates: one round buffer (the window or a job per worker, and three jobs of slack), output buffers, tables of
/// the long-distance matcher, and per worker the tables of `clevels.h` and its sequences. A test holds it against
/// what zstd says it has.
pub fn memory(level: u32, threads: u32) -> u64 {
    let (threads, job) = (u64::from(threads), job_len(level));
    let round = (threads * job).max(1 << WINDOW_LOG) + 3 * job;
    let out = (2 * threads + 3) * (job + job / 128);
    let worker = match level {
        ..=9 => 24 << 20,
        10..=12 => 72 << 20,
        _ => 128 << 20,
    };
    round + out + threads * worker + (32 << 20)
}

pub fn apply(job: Job<'_, Blocks>, options: &Options, threads: u32) -> Result<Blocks, CompressError> {
    frames(job, options, threads, options.stream_size.min(FRAME_LEN_MAX))
}

/// Frames of `frame_len` bytes of input; a mark after the first that makes a stream full.
pub(super) fn frames(
    job: Job<'_, Blocks>,
    options: &Options,
    threads: u32,
    frame_len: u64,
) -> Result<Blocks, CompressError> {
    let (mut source, mut sink, mut blocks) = ends(job);
    let mut context = context(options.level, threads)?;
    let mut clear = vec![0; SLICE_LEN];
    let mut out = Vec::with_capacity(CCtx::out_size());
    let fail = |code| CompressError::zstd("compress a frame", code);
    let mut marked = source.at;
    // An empty input is one empty frame: a file of 0 bytes would not be a `.zst`.
    while 0 < source.left() || sink.at == 0 {
        let len = frame_len.min(source.left());
        blocks.blocks.push([source.at, sink.at]);
        context.reset(ResetDirective::SessionOnly).map_err(fail)?;
        context.set_pledged_src_size(Some(len)).map_err(fail)?;
        let end = source.at + len;
        loop {
            // Always full slices, whatever the reader returns: what zstd makes may depend on how it is fed.
            let most = usize::try_from(end - source.at).unwrap_or(usize::MAX).min(clear.len());
            let filled = source.fill(&mut clear[..most])?;
            let is_last = source.at == end;
            let directive = if is_last { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_continue };
            let mut input = InBuffer::around(&clear[..filled]);
            loop {
                out.clear();
                let left =
                    context.compress_stream2(&mut OutBuffer::around(&mut out), &mut input, directive).map_err(fail)?;
                if (source.stop)() {
                    return Err(CompressError::Stopped);
                }
                sink.write(&out)?;
                if input.pos() == filled && (!is_last || left == 0) {
                    break;
                }
            }
            if is_last {
                break;
            }
        }
        if options.stream_size <= source.at - marked && 0 < source.left() {
            sink.mark(source.at, &blocks)?;
            marked = source.at;
        }
    }
    source.expect_end()?;
    if source.len == 0 {
        blocks.blocks.clear();
    }
    Ok(blocks)
}

fn context(level: u32, threads: u32) -> Result<CCtx<'static>, CompressError> {
    let mut context = CCtx::try_create().ok_or_else(|| CompressError::codec("make a zstd context", "no memory"))?;
    let level_number = i32::try_from(level).expect("at most 19");
    for parameter in [
        CParameter::CompressionLevel(level_number),
        CParameter::WindowLog(WINDOW_LOG),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(true),
        // Never 0: zstd without workers makes other bytes than with one, while any number of them makes the same.
        CParameter::NbWorkers(threads),
        CParameter::JobSize(u32::try_from(job_len(level)).expect("16 MiB")),
    ] {
        context.set_parameter(parameter).map_err(|code| CompressError::zstd("set up a zstd context", code))?;
    }
    Ok(context)
}

#[cfg(test)]
mod memory_tests {
    use super::*;

    /// As zstd itself counts it, after its buffers and tables were really used.
    #[test]
    fn no_context_takes_more_than_was_said() {
        let mut text = Vec::new();
        for number in 0..3_u64 << 20 {
            text.extend_from_slice(format!("{:x} ", number * 7919).as_bytes());
        }
        for (level, threads) in [(1, 1), (9, 1), (9, 3), (10, 1), (12, 2)] {
            let mut context = context(level, threads).unwrap();
            context.set_pledged_src_size(Some(256 << 20)).unwrap();
            let mut out = Vec::with_capacity(1 << 20);
            for slice in text.chunks(SLICE_LEN) {
                let mut input = InBuffer::around(slice);
                while input.pos() < slice.len() {
                    out.clear();
                    let mut out = OutBuffer::around(&mut out);
                    context.compress_stream2(&mut out, &mut input, ZSTD_EndDirective::ZSTD_e_continue).unwrap();
                }
            }
            let (taken, said) = (context.sizeof() as u64, memory(level, threads));
            assert!(taken <= said && said < taken * 3, "level {level}, {threads} threads: {taken} of {said}");
        }
    }
}
