//! Finds what will not shrink before LZMA spends its time on it.
//!
//! Media and encrypted files cost LZMA 5 seconds per 24 MiB, to no effect. A fast pass of zstd with long-distance
//! matching costs about a hundredth of that and sees, for every unit of 64 KiB, whether anything in the block before
//! it repeats or its bytes are uneven. Long runs of units that show neither are stored.
//!
//! Behind a stored run LZMA begins with an empty dictionary, so a run is stored only where that costs little: what
//! follows is probed a second time without a history, and the difference is weighed against the run. A block of
//! text with no such run is compressed as if there were no probe.

use super::CompressError;
use std::ops::Range;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, zstd_sys::ZSTD_EndDirective};

/// What is judged at once, bytes: one stored chunk of LZMA2.
pub const UNIT_LEN: usize = 64 << 10;
/// A run shorter than this is not worth a new dictionary, bytes.
const RUN_LEN_MIN: usize = 512 << 10;
/// A run is stored where it is this many times as long as what a new dictionary is estimated to lose.
const LOSS_FACTOR: usize = 64;
/// Most bytes that the second probes of a block may read, in lengths of the block.
const PATIENCE: usize = 3;
/// Units come compressed into one buffer; zstd's bound for 64 KiB is 256 bytes more.
const OUT_LEN: usize = UNIT_LEN + (8 << 10);

/// Told to end at once.
pub type Halt<'a> = &'a (dyn Fn() -> bool + Sync);

/// A part of a block, and whether it is given to LZMA or stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub range: Range<usize>,
    pub shrinks: bool,
}

pub struct Probe {
    context: CCtx<'static>,
    out: Vec<u8>,
    /// Bytes that a match can reach back.
    dict_len: usize,
}

impl Probe {
    pub fn new(dict_log: u32) -> Result<Probe, CompressError> {
        let mut context = CCtx::try_create().ok_or_else(|| CompressError::codec("make a zstd context", "no memory"))?;
        for parameter in [
            CParameter::CompressionLevel(1),
            CParameter::WindowLog(dict_log),
            CParameter::EnableLongDistanceMatching(true),
        ] {
            context.set_parameter(parameter).map_err(|code| CompressError::zstd("set up a zstd context", code))?;
        }
        Ok(Probe { context, out: Vec::with_capacity(OUT_LEN), dict_len: 1 << dict_log })
    }

    /// Bytes of memory that a probe takes at most: the window twice over while it wraps, tables and buffers.
    pub fn memory(dict_log: u32) -> u64 {
        (1 << dict_log) + (8 << 20)
    }

    /// Divides a block into neighboring runs, none of them empty.
    pub fn runs(&mut self, block: &[u8], halt: Halt) -> Result<Vec<Run>, CompressError> {
        if block.len() < RUN_LEN_MIN {
            return Ok(whole(block));
        }
        let sizes = self.sizes(block, halt)?;
        let dead = dead_runs(&sizes, block.len());
        let mut stored: Vec<Range<usize>> = Vec::new();
        let mut patience = block.len() * PATIENCE;
        // From the end, so that what follows a run up to the next stored one is known: it will be one piece for LZMA.
        for run in dead.into_iter().rev() {
            let after = run.end..stored.last().map_or(block.len(), |next| next.start);
            if self.is_worth_it(block, &sizes, &run, after, &mut patience, halt)? {
                stored.push(run);
            }
        }
        stored.reverse();
        Ok(alternate(&stored, block.len()))
    }

    /// Whether storing `run` loses little of `after`, which follows.
    fn is_worth_it(
        &mut self,
        block: &[u8],
        sizes: &[u32],
        run: &Range<usize>,
        after: Range<usize>,
        patience: &mut usize,
        halt: Halt,
    ) -> Result<bool, CompressError> {
        // No match reaches across the run from further back than this.
        let reach = self.dict_len.saturating_sub(run.len()).next_multiple_of(UNIT_LEN);
        let after = after.start..after.end.min(after.start + reach);
        if after.is_empty() {
            return Ok(true);
        }
        let Some(left) = patience.checked_sub(after.len()) else {
            return Ok(false);
        };
        *patience = left;
        let sum = |sizes: &[u32]| sizes.iter().map(|size| *size as usize).sum::<usize>();
        let warm = sum(&sizes[after.start / UNIT_LEN..after.end.div_ceil(UNIT_LEN)]);
        let cold = sum(&self.sizes(&block[after.clone()], halt)?);
        // LZMA makes more of a history than the probe does.
        let gain = after.len().saturating_sub(cold);
        let loss = cold.saturating_sub(warm) + (gain / 16).min(64 << 10);
        Ok(loss * LOSS_FACTOR <= run.len())
    }

    /// The compressed size of each unit, given all that stands before it.
    fn sizes(&mut self, bytes: &[u8], halt: Halt) -> Result<Vec<u32>, CompressError> {
        let fail = |code| CompressError::zstd("probe a block", code);
        self.context.reset(ResetDirective::SessionOnly).map_err(fail)?;
        let mut sizes = Vec::with_capacity(bytes.len().div_ceil(UNIT_LEN));
        for unit in bytes.chunks(UNIT_LEN) {
            if halt() {
                return Err(CompressError::Stopped);
            }
            let mut input = InBuffer::around(unit);
            let mut size = 0;
            loop {
                self.out.clear();
                let mut out = OutBuffer::around(&mut self.out);
                let left = self.context.compress_stream2(&mut out, &mut input, ZSTD_EndDirective::ZSTD_e_flush);
                size += out.pos();
                if left.map_err(fail)? == 0 && input.pos() == unit.len() {
                    break;
                }
            }
            sizes.push(u32::try_from(size).expect("a unit of 64 KiB stays below 4 GiB"));
        }
        Ok(sizes)
    }
}

fn whole(block: &[u8]) -> Vec<Run> {
    if block.is_empty() { Vec::new() } else { vec![Run { range: 0..block.len(), shrinks: true }] }
}

/// Long runs of units that keep more than 98 % of their size, as ranges of bytes.
fn dead_runs(sizes: &[u32], len: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        let unit = number * UNIT_LEN..len.min((number + 1) * UNIT_LEN);
        if unit.len() * 49 <= *size as usize * 50 {
            match runs.last_mut() {
                Some(last) if last.end == unit.start => last.end = unit.end,
                _ => runs.push(unit),
            }
        }
    }
    runs.retain(|run| RUN_LEN_MIN <= run.len());
    runs
}

/// The stored runs and what lies between them.
fn alternate(stored: &[Range<usize>], len: usize) -> Vec<Run> {
    let mut runs = Vec::with_capacity(stored.len() * 2 + 1);
    let mut at = 0;
    for run in stored {
        runs.push(Run { range: at..run.start, shrinks: true });
        runs.push(Run { range: run.clone(), shrinks: false });
        at = run.end;
    }
    runs.push(Run { range: at..len, shrinks: true });
    runs.retain(|run| !run.range.is_empty());
    runs
}
