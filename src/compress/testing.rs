//! What the tests of this room share: data, a job runner, stock tools.

use super::*;
use std::process::Command;

/// Numbers that look random and are the same every time (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// Words of a vocabulary in which few are frequent, with numbers between them.
pub fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let words: Vec<String> = (0..5000).map(|n| format!("{:x}", numbers.next() >> (n % 40 + 20))).collect();
    let mut text = Vec::with_capacity(len + 32);
    while text.len() < len {
        let (a, b) = (numbers.below(5000), numbers.below(5000) + 1);
        text.extend_from_slice(words[(a * a / 5000 / b) as usize % 5000].as_bytes());
        text.push(if numbers.below(12) == 0 { b'\n' } else { b' ' });
    }
    text.truncate(len);
    text
}

/// Text, then noise, then text again, in stretches that no block boundary knows of.
pub fn mixed(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seed in 0.. {
        let stretch = 100_000 + Numbers(seed).below(900_000) as usize;
        bytes.extend(if seed % 2 == 0 { text(stretch, seed) } else { noise(stretch, seed) });
        if len <= bytes.len() {
            break;
        }
    }
    bytes.truncate(len);
    bytes
}

/// Gives its bytes in reads of odd sizes.
pub struct Drip<'a> {
    pub bytes: &'a [u8],
    pub numbers: Numbers,
}

impl<'a> Drip<'a> {
    pub fn new(bytes: &'a [u8]) -> Drip<'a> {
        Drip { bytes, numbers: Numbers(bytes.len() as u64) }
    }
}

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (1 + self.numbers.below(300_000) as usize).min(buffer.len()).min(self.bytes.len());
        buffer[..len].copy_from_slice(&self.bytes[..len]);
        self.bytes = &self.bytes[len..];
        Ok(len)
    }
}

pub fn options(method: Compression, level: u32, threads: u32, stream_size: u64) -> Options {
    Options { method, level, threads, memory: 4 << 30, stream_size }
}

#[derive(Debug)]
pub struct Made {
    pub bytes: Vec<u8>,
    pub blocks: Blocks,
    pub marks: Vec<Mark<Blocks>>,
}

pub fn apply(options: &Options, clear: &[u8], from: Option<Mark<Blocks>>) -> Result<Made, CompressError> {
    apply_with(clear, from, |job| Compressor::new(options)?.apply(job))
}

/// What a compressor makes of the rest behind the mark.
pub fn apply_with(
    clear: &[u8],
    from: Option<Mark<Blocks>>,
    compress: impl FnOnce(Job<Blocks>) -> Result<Blocks, CompressError>,
) -> Result<Made, CompressError> {
    let (mut bytes, mut marks) = (Vec::new(), Vec::new());
    let skip = from.as_ref().map_or(0, |mark| mark.input as usize);
    let job = Job {
        input: &mut Drip::new(&clear[skip..]),
        input_len: clear.len() as u64,
        output: &mut bytes,
        from,
        mark: &mut |mark: &Mark<Blocks>| {
            marks.push(mark.clone());
            Ok(())
        },
        stop: &|| false,
    };
    let blocks = compress(job)?;
    Ok(Made { bytes, blocks, marks })
}

pub fn prove(options: &Options, bytes: &[u8]) -> Result<Vec<u8>, CompressError> {
    let mut clear = Vec::new();
    Compressor::new(options)?.prove(&mut Drip::new(bytes), &mut clear, &|| false)?;
    Ok(clear)
}

/// What a stock tool makes of a file with these bytes; it must succeed.
pub fn stock(tool: &[&str], bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::with_suffix(if tool[0] == "xz" { ".xz" } else { ".zst" }).unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let output = Command::new(tool[0]).args(&tool[1..]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{tool:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Whether two long byte strings are equal, without printing them when they are not.
#[track_caller]
pub fn same(a: &[u8], b: &[u8]) {
    let differ = a.iter().zip(b).position(|(a, b)| a != b);
    assert!(a == b, "{} and {} bytes, which differ from {differ:?} on", a.len(), b.len());
}
