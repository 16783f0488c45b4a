//! One `.xz` block, encoded in slices so that a stop is heard within one.
//!
//! The block's LZMA2 data are a sequence of runs, each beginning with a reset of the dictionary: some encoded by
//! liblzma, some stored as they are. The format allows a reset at any chunk (7-Zip's parallel encoder makes many in
//! one block), so every decoder reads on as if nothing had happened.

use super::{
    CompressError,
    container::{self, CHECK_LEN, Record},
    lzma::crc64,
    probe::{Halt, Probe},
};
use liblzma::stream::{Action, Filters, LzmaOptions, Status, Stream};

/// Input between two looks at the stop, bytes; about 100 ms at level 9.
const SLICE_LEN: usize = 256 << 10;
/// Most bytes in one stored chunk of LZMA2, which has 3 bytes before them.
const CHUNK_LEN: usize = 64 << 10;
const CHUNK_HEADER_LEN: usize = 3;
const STORED_RESET: u8 = 1;
const STORED: u8 = 2;
const END: u8 = 0;

/// Dictionaries of the presets 0 to 9, as powers of two of bytes (`xz --help`: 256 KiB to 64 MiB).
const DICT_LOGS: [u32; 10] = [18, 20, 21, 22, 22, 23, 23, 24, 25, 26];

/// The dictionary of a level, power of two of bytes. Levels were checked when the options were.
pub fn dict_log(level: u32) -> u32 {
    DICT_LOGS[level as usize]
}

/// A block on its way into the stream.
pub struct Encoded {
    pub header: Vec<u8>,
    /// LZMA2 data, padding and check.
    pub body: Vec<u8>,
    pub record: Record,
}

/// Most bytes that a body of this many clear bytes can have.
pub fn body_bound(len: usize) -> usize {
    stored_len(len) + 1 + 3 + CHECK_LEN as usize
}

fn stored_len(len: usize) -> usize {
    len + len.div_ceil(CHUNK_LEN) * CHUNK_HEADER_LEN
}

pub struct Encoder {
    level: u32,
    probe: Probe,
}

impl Encoder {
    pub fn new(level: u32) -> Result<Encoder, CompressError> {
        Ok(Encoder { level, probe: Probe::new(dict_log(level))? })
    }

    /// The same bytes make the same block, whoever encodes it.
    pub fn encode(&mut self, clear: &[u8], halt: Halt) -> Result<Encoded, CompressError> {
        // A small block asks no reader for a large dictionary, and no encoder for large tables.
        let log = dict_log(self.level).min(clear.len().next_power_of_two().trailing_zeros().max(12));
        let mut body = Vec::with_capacity(body_bound(clear.len()));
        for run in self.probe.runs(clear, halt)? {
            let part = &clear[run.range];
            if !run.shrinks || !squeeze(part, self.level, log, &mut body, halt)? {
                store(part, &mut body);
            }
        }
        body.push(END);
        let compressed = body.len() as u64;
        let header = container::block_header(log, compressed, clear.len() as u64);
        let unpadded = header.len() as u64 + compressed + CHECK_LEN;
        container::pad(&mut body);
        body.extend(crc64(clear).to_le_bytes());
        assert!(body.len() <= body_bound(clear.len()));
        Ok(Encoded { header, body, record: Record { unpadded, uncompressed: clear.len() as u64 } })
    }
}

/// Appends `part` as LZMA2 without an end; `false`, and nothing appended, when it does not get shorter by that.
fn squeeze(part: &[u8], level: u32, dict_log: u32, body: &mut Vec<u8>, halt: Halt) -> Result<bool, CompressError> {
    let fail = |err| CompressError::codec("encode a block", err);
    let mut options = LzmaOptions::new_preset(level).map_err(fail)?;
    options.dict_size(1 << dict_log);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut stream = Stream::new_raw_encoder(&filters).map_err(fail)?;
    let start = body.len();
    let mut at = 0;
    loop {
        if halt() {
            return Err(CompressError::Stopped);
        }
        let end = part.len().min(at + SLICE_LEN);
        let action = if end == part.len() { Action::Finish } else { Action::Run };
        loop {
            let status = stream.process_vec(&part[at..end], body, action).map_err(fail)?;
            at = usize::try_from(stream.total_in()).expect("no more than the part");
            // The body has room for all runs stored, so this is true before it is full.
            if stored_len(part.len()) <= body.len() - start {
                body.truncate(start);
                return Ok(false);
            }
            match (status, action) {
                (Status::StreamEnd, Action::Finish) => {
                    assert_eq!(body.pop(), Some(END), "LZMA2 ends with an end marker");
                    return Ok(true);
                }
                (Status::Ok, Action::Run) if at == end => break,
                (Status::Ok, _) => {}
                (status, _) => return Err(CompressError::codec("encode a block", format!("{status:?}"))),
            }
        }
    }
}

/// Appends `part` as it is.
fn store(part: &[u8], body: &mut Vec<u8>) {
    for (number, chunk) in part.chunks(CHUNK_LEN).enumerate() {
        let len = u16::try_from(chunk.len() - 1).expect("a chunk has at most 64 KiB");
        body.push(if number == 0 { STORED_RESET } else { STORED });
        body.extend(len.to_be_bytes());
        body.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How often a block is interrupted by a look at the stop, and what comes of a stop at look `number`.
    fn encode(clear: &[u8], number: usize) -> (usize, Result<Encoded, CompressError>) {
        let looks = AtomicUsize::new(0);
        let outcome = Encoder::new(6).unwrap().encode(clear, &|| looks.fetch_add(1, Ordering::Relaxed) + 1 == number);
        (looks.into_inner(), outcome)
    }

    #[test]
    fn a_stop_is_heard_in_every_slice_and_ends_the_block_at_once() {
        let clear = text(2 << 20, 1);
        let (looks, outcome) = encode(&clear, 0);
        assert!(outcome.is_ok());
        let units = clear.len() / super::super::probe::UNIT_LEN;
        assert_eq!(looks, units + clear.len() / SLICE_LEN);
        for number in [1, units, units + 1, looks] {
            let (heard, outcome) = encode(&clear, number);
            assert!(matches!(outcome, Err(CompressError::Stopped)));
            assert_eq!(heard, number);
        }
    }

    #[test]
    fn noise_between_text_is_stored_and_text_between_noise_is_not() {
        let clear = [text(600 << 10, 1), noise(4 << 20, 2), text(600 << 10, 3)].concat();
        let runs = Probe::new(23).unwrap().runs(&clear, &|| false).unwrap();
        assert_eq!(runs.iter().map(|run| run.shrinks).collect::<Vec<_>>(), [true, false, true]);
        assert!((4 << 20) - (128 << 10) <= runs[1].range.len(), "{runs:?}");
        // One after the other, without a gap.
        assert!(runs.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
        assert_eq!((runs[0].range.start, runs[2].range.end), (0, clear.len()));
    }

    /// Seven bits of eight: all that can be won is an eighth, and it is.
    #[test]
    fn what_shrinks_a_little_is_not_stored() {
        let clear: Vec<u8> = noise(1 << 20, 1).iter().map(|byte| byte & 0x7f).collect();
        let encoded = Encoder::new(6).unwrap().encode(&clear, &|| false).unwrap();
        assert!(encoded.body.len() * 10 < clear.len() * 9, "{}", encoded.body.len());
    }

    #[test]
    fn a_short_run_of_noise_does_not_cost_text_its_history() {
        let clear = [text(600 << 10, 1), noise(600 << 10, 2), text(600 << 10, 1)].concat();
        let runs = Probe::new(23).unwrap().runs(&clear, &|| false).unwrap();
        assert_eq!(runs.len(), 1, "{runs:?}");
    }

    #[test]
    fn what_only_looked_as_if_it_shrank_is_stored() {
        let clear = noise(300 << 10, 1);
        let mut body = Vec::with_capacity(body_bound(clear.len()));
        assert!(!squeeze(&clear, 6, 20, &mut body, &|| false).unwrap() && body.is_empty());
        let encoded = Encoder::new(6).unwrap().encode(&clear, &|| false).unwrap();
        assert!(encoded.body.len() <= body_bound(clear.len()));
    }
}
