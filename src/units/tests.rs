use super::*;
use proptest::prelude::*;

fn size(text: &str) -> Result<u64, UnitError> {
    text.parse::<ByteSize>().map(|size| size.0)
}

fn seconds(text: &str) -> Result<u64, UnitError> {
    text.parse::<Seconds>().map(|seconds| seconds.0)
}

fn bandwidth(text: &str) -> Result<u64, UnitError> {
    text.parse::<Bandwidth>().map(|bandwidth| bandwidth.0)
}

#[test]
fn sizes_are_read_in_binary_and_decimal_units() {
    for (text, bytes) in [
        ("0", 0),
        ("1", 1),
        ("12345", 12_345),
        ("7B", 7),
        ("7 B", 7),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("1KiB", 1_024),
        ("64MiB", 64 << 20),
        ("64MB", 64_000_000),
        ("512GiB", 512 << 30),
        ("10 GiB", 10 << 30),
        ("2TB", 2_000_000_000_000),
        ("2TiB", 2 << 40),
        ("1PB", 1_000_000_000_000_000),
        ("15EiB", 15 << 60),
        ("18EB", 18_000_000_000_000_000_000),
        ("1.5TiB", 3 << 39),
        ("1.50 kB", 1_500),
        ("0.001MB", 1_000),
        ("1.0", 1),
        ("1.000000000000000000000000", 1),
        ("18446744073709551615", u64::MAX),
        ("15.999999999999999999EB", 15_999_999_999_999_999_999),
        ("007", 7),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn what_is_no_size_is_refused_with_what_would_be_right() {
    for (text, why) in [
        ("", "like \"512GiB\""),
        ("GiB", "like \"512GiB\""),
        (".5GiB", "like \"512GiB\""),
        ("5.GiB", "like \"512GiB\""),
        ("1.2.3GiB", "like \"512GiB\""),
        ("+5", "like \"512GiB\""),
        (" 5", "like \"512GiB\""),
        ("-5GiB", "negative"),
        ("-1", "negative"),
        ("5gb", "powers of 1000"),
        ("5Gb", "powers of 1000"),
        ("5GIB", "powers of 1024"),
        ("5G", "TiB"),
        ("5  GiB", "unknown unit"),
        ("5GiB ", "unknown unit"),
        ("1_000", "unknown unit"),
        ("1e9", "unknown unit"),
        ("٣GiB", "like \"512GiB\""),
        ("18446744073709551616", "more than 18446744073709551615 bytes"),
        ("16EiB", "more than"),
        ("19EB", "more than"),
        ("18.5EB", "more than"),
        ("15.9999999999999999999999EiB", "whole bytes"),
        ("99999999999999999999999999999999999999999999GiB", "more than"),
        ("1.5", "whole bytes"),
        ("0.3KiB", "whole bytes"),
        ("0.0001kB", "whole bytes"),
    ] {
        let err = size(text).expect_err(text).to_string();
        assert!(err.contains(why), "{text}: {err}");
        assert!(err.contains("is not a size"), "{text}: {err}");
    }
}

#[test]
fn sizes_are_shown_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (1, "1 B"),
        (1_023, "1023 B"),
        (1_024, "1 KiB"),
        (1_536, "1.5 KiB"),
        (1_034, "1.01 KiB"),
        (512 << 30, "512 GiB"),
        (2_144_000_000_000, "1.95 TiB"),
        ((1 << 30) - 1, "1 GiB"),
        (1_023 << 20, "1023 MiB"),
        (u64::MAX, "16 EiB"),
    ] {
        assert_eq!(ByteSize(bytes).to_string(), text);
    }
    assert_eq!(format!("{:>10}|", ByteSize(1)), "       1 B|");
}

#[test]
fn sizes_are_written_short_and_exactly() {
    for (bytes, text) in [
        (0, "0"),
        (1, "1"),
        (1_000, "1kB"),
        (1_024, "1KiB"),
        (512 << 30, "512GiB"),
        (2_000_000_000_000, "2TB"),
        (1_234, "1234"),
        (1_024_000, "1024kB"),
    ] {
        assert_eq!(ByteSize(bytes).exact(), text);
    }
}

#[test]
fn lengths_of_time_are_read() {
    for (text, expected) in [
        ("0s", 0),
        ("45s", 45),
        ("30m", 1_800),
        ("12h", 43_200),
        ("90d", 90 * 86_400),
        ("2w", 14 * 86_400),
        ("1d12h", 129_600),
        ("1d 12h", 129_600),
        ("1w2d3h4m5s", 604_800 + 2 * 86_400 + 3 * 3_600 + 4 * 60 + 5),
        ("90m", 5_400),
    ] {
        assert_eq!(seconds(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_length_of_time_is_refused() {
    for (text, why) in [
        ("", "like \"90d\""),
        ("90", "a unit is missing"),
        ("1d12", "a unit is missing"),
        ("d", "like \"90d\""),
        ("1.5h", "like \"90d\""),
        ("1y", "w, d, h, m or s"),
        ("1D", "w, d, h, m or s"),
        ("12h1d", "from the longest"),
        ("1h1h", "from the longest"),
        ("1d  2h", "like \"90d\""),
        ("1d ", "like \"90d\""),
        (" 1d", "like \"90d\""),
        ("1é", "like \"90d\""),
        ("-1d", "negative"),
        ("18446744073709551616s", "more than"),
        ("30500568904944w", "more than"),
        ("30500568904943w18446744073709551615s", "more than"),
    ] {
        let err = seconds(text).expect_err(text).to_string();
        assert!(err.contains(why), "{text}: {err}");
    }
}

#[test]
fn bandwidths_are_bytes_per_second() {
    for (text, expected) in [("10MB/s", 10_000_000), ("500 KiB/s", 512_000), ("1000/s", 1_000), ("0B/s", 0)] {
        assert_eq!(bandwidth(text), Ok(expected), "{text}");
    }
    for (text, why) in [
        ("10MB", "like \"10MB/s\""),
        ("10MBps", "like \"10MB/s\""),
        ("80Mbit/s", "not bits"),
        ("10mB/s", "unknown unit"),
        ("-1MB/s", "negative"),
        ("/s", "a number"),
    ] {
        let err = bandwidth(text).expect_err(text).to_string();
        assert!(err.contains(why), "{text}: {err}");
    }
    assert_eq!(Bandwidth(10_000_000).to_string(), "10 MB/s");
    assert_eq!(Bandwidth(11_234_567).to_string(), "11.23 MB/s");
    assert_eq!(Bandwidth(10_000_000).exact(), "10MB/s");
    assert_eq!(Bandwidth(1_234).exact(), "1234B/s");
}

proptest! {
    #[test]
    fn what_is_written_exactly_is_read_back(n: u64, shift in 0_u32..64) {
        for n in [n, n >> shift, (n >> shift) << (shift / 2), (n >> shift).saturating_mul(1_000_000)] {
            prop_assert_eq!(size(&ByteSize(n).exact()), Ok(n));
            prop_assert_eq!(bandwidth(&Bandwidth(n).exact()), Ok(n));
            prop_assert_eq!(seconds(&Seconds(n).exact()), Ok(n));
        }
    }

    #[test]
    fn what_is_shown_is_off_by_half_a_hundredth_at_most(n: u64, shift in 0_u32..64) {
        let n = n >> shift;
        let text = ByteSize(n).to_string();
        let (number, unit) = text.split_once(' ').unwrap();
        let unit = IEC.iter().find(|(name, _)| *name == unit).unwrap().1 as f64;
        let shown = number.parse::<f64>().unwrap() * unit;
        prop_assert!((shown - n as f64).abs() <= unit * 0.005_000_1, "{n} is shown as {text}");
        prop_assert!(number.parse::<f64>().unwrap() < 1024.0);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "[-+0-9.]{0,24}[ _]?[a-zA-Z/é]{0,5}[0-9]{0,3}") {
        let _ = (size(&text), seconds(&text), bandwidth(&text));
    }
}
