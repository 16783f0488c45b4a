//! What becomes of damage, of failing readers and writers, and of inputs that are not as announced.

use super::{testing::*, *};

fn both() -> [Options; 2] {
    [options(Compression::Xz, 0, 2, 1_300_000), options(Compression::Zstd, 9, 2, 1_300_000)]
}

#[test]
fn every_flipped_bit_is_found() {
    for options in both() {
        // Two streams, stored and encoded runs in them.
        let clear = [text(60_000, 1), noise(600_000, 2), text(700_000, 3)].concat();
        let made = apply(&options, &clear, None).unwrap();
        let mut numbers = Numbers(7);
        let len = made.bytes.len() as u64;
        // Everything near an end of the file, where headers, index and footer stand, and 300 places between.
        let ends = (0..64).chain(len - 64..len).flat_map(|at| (0..8).map(move |bit| (at, bit)));
        let places: Vec<_> = ends.chain((0..300).map(|_| (numbers.below(len), numbers.below(8)))).collect();
        for (at, bit) in places {
            let mut bytes = made.bytes.clone();
            bytes[at as usize] ^= 1 << bit;
            match prove(&options, &bytes) {
                Err(err) => assert_eq!((err.fate(), err.trouble()), (Fate::Rotten, Trouble::Staging), "{err}"),
                Ok(_) => panic!("{:?}: bit {bit} of byte {at} of {len} was not missed", options.method),
            }
        }
    }
}

#[test]
fn every_cut_and_every_tail_is_found() {
    for options in both() {
        let made = apply(&options, &mixed(1_500_000), None).unwrap();
        let (whole, len) = (&made.bytes[..], made.bytes.len());
        let mut numbers = Numbers(3);
        let cuts = (0..40).chain(len - 40..len).chain((0..40).map(|_| numbers.below(len as u64) as usize));
        let mut bad: Vec<Vec<u8>> = cuts.map(|cut| whole[..cut].to_vec()).collect();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        for tail in [&[0][..], &[0; 4], &[0; 64], &[1; 100], &skippable, &whole[..100]] {
            bad.push([whole, tail].concat());
        }
        for bytes in bad {
            let err = prove(&options, &bytes).unwrap_err();
            assert_eq!(err.fate(), Fate::Rotten, "{:?}, {} of {len}: {err}", options.method, bytes.len());
        }
        // A second whole stream is no damage that a decoder could see; the digest of the output tells it.
        assert_eq!(prove(&options, &whole.repeat(2)).unwrap().len(), 3_000_000);
    }
}

/// Fails after so many bytes.
struct Failing<'a>(Drip<'a>, fn() -> io::Error);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.bytes.is_empty() { Err(self.1()) } else { self.0.read(buffer) }
    }
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn outcome(options: &Options, input: &mut (dyn Read + Send), output: &mut (dyn Write + Send)) -> CompressError {
    let job = Job { input, input_len: 2_000_000, output, from: None, mark: &mut |_| Ok(()), stop: &|| false };
    Compressor::new(options).unwrap().apply(job).unwrap_err()
}

#[test]
fn failures_of_input_and_output_have_their_fates() {
    for options in both() {
        let clear = text(2_000_001, 1);
        let half = || Drip::new(&clear[..1_500_000]);
        let mut sink = io::sink();
        let err = outcome(&options, &mut Failing(half(), || Stopped.into_io()), &mut sink);
        assert_eq!(err.fate(), Fate::Stopped);
        // A disk that cannot read it any more will not read it later either; want of memory passes.
        let err = outcome(&options, &mut Failing(half(), || io::Error::from_raw_os_error(5)), &mut sink);
        assert_eq!((err.fate(), err.trouble()), (Fate::Rotten, Trouble::Staging));
        let err = outcome(&options, &mut Failing(half(), || io::Error::from_raw_os_error(12)), &mut sink);
        assert_eq!((err.fate(), err.trouble()), (Fate::Retry, Trouble::Staging));
        let err = outcome(&options, &mut Failing(half(), || io::ErrorKind::InvalidData.into()), &mut sink);
        assert_eq!(err.fate(), Fate::Rotten);
        let err = outcome(&options, &mut half(), &mut sink);
        assert_eq!(err.to_string(), "Cannot compress 2000000 bytes: the input has 1500000");
        assert_eq!(err.fate(), Fate::Rotten);
        let err = outcome(&options, &mut Drip::new(&clear), &mut sink);
        assert_eq!(err.to_string(), "Cannot compress 2000000 bytes: the input has at least 2000001");
        let err = outcome(&options, &mut Drip::new(&clear[1..]), &mut Full(1000));
        assert!(matches!(err, CompressError::Write(_)), "{err:?}");
        assert_eq!((err.fate(), err.trouble()), (Fate::Retry, Trouble::Staging));
    }
}

#[test]
fn a_mark_that_fails_ends_the_work() {
    for options in both() {
        let clear = text(2_000_000, 1);
        let job = Job {
            input: &mut Drip::new(&clear),
            input_len: 2_000_000,
            output: &mut io::sink(),
            from: None,
            mark: &mut |_| Err(io::ErrorKind::StorageFull.into()),
            stop: &|| false,
        };
        let err = Compressor::new(&options).unwrap().apply(job).unwrap_err();
        assert!(matches!(err, CompressError::Write(_)), "{err:?}");
    }
}

#[test]
fn a_proof_tells_reading_from_what_was_read() {
    for options in both() {
        let made = apply(&options, &text(2_000_000, 1), None).unwrap();
        let half = || Drip::new(&made.bytes[..made.bytes.len() / 2]);
        let mut compressor = Compressor::new(&options).unwrap();
        let mut prove = |input: &mut (dyn Read + Send), clear: &mut (dyn Write + Send)| {
            compressor.prove(input, clear, &|| false).unwrap_err()
        };
        let err = prove(&mut Failing(half(), || Stopped.into_io()), &mut io::sink());
        assert_eq!(err.fate(), Fate::Stopped);
        let err = prove(&mut Failing(half(), || io::Error::from_raw_os_error(5)), &mut io::sink());
        assert!(matches!(&err, CompressError::ReadBack(source) if source.raw_os_error() == Some(5)), "{err:?}");
        assert_eq!(err.fate(), Fate::Retry);
        let err = prove(&mut half(), &mut io::sink());
        assert_eq!(err.fate(), Fate::Rotten);
        let err = prove(&mut Drip::new(&made.bytes), &mut Full(1000));
        assert!(matches!(err, CompressError::Clear(_)), "{err:?}");
    }
}
