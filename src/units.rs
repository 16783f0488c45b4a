//! Amounts as people write and read them: bytes, seconds, bytes per second.
//!
//! Each type has two spellings. `Display` is for people and may round; `exact` is for files and is read back as the
//! same amount.

use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes.
///
/// Read from `"512GiB"`, `"1.5 TiB"`, `"2TB"` or plain bytes. Units are case-sensitive, because `MB` and `MiB` are
/// told apart by letters; a fraction must come out at whole bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Bytes per second, read from `"10MB/s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(pub u64);

/// A length of time in whole seconds, read from `"90d"`, `"1d12h"`. A day has 24 hours: daylight saving is not an
/// affair of lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u64);

/// Why a text is not an amount, with what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {why}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    why: String,
}

impl UnitError {
    /// What is wrong, without the text.
    pub fn why(&self) -> &str {
        &self.why
    }
}

const IEC: [(&str, u64); 7] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

const SI: [(&str, u64); 7] = [
    ("EB", 1_000_000_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const BYTE_UNITS: &str = "B, kB, MB, GB, TB, PB, EB (powers of 1000) or KiB, MiB, GiB, TiB, PiB, EiB (powers of 1024)";

/// From the longest; the order in which they must be written.
const TIME_UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl ByteSize {
    pub const KIB: u64 = 1 << 10;
    pub const MIB: u64 = 1 << 20;
    pub const GIB: u64 = 1 << 30;
    pub const TIB: u64 = 1 << 40;

    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The shortest spelling that is read back as the same number: `512GiB`, `2TB`, `1234`.
    pub fn exact(self) -> String {
        let spell = |units: &[(&str, u64); 7]| match units.iter().find(|(_, unit)| self.0.is_multiple_of(*unit)) {
            Some((name, unit)) if *unit > 1 && self.0 > 0 => format!("{}{name}", self.0 / unit),
            _ => self.0.to_string(),
        };
        let (binary, decimal) = (spell(&IEC), spell(&SI));
        if decimal.len() < binary.len() { decimal } else { binary }
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<ByteSize, UnitError> {
        parse_bytes(text).map(ByteSize).map_err(|why| no(text, "a size", why))
    }
}

/// In binary units with at most two decimals, rounded: `512 GiB`, `1.95 TiB`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&rounded(self.0, &IEC))
    }
}

impl Bandwidth {
    /// The shortest spelling that is read back as the same number: `10MB/s`.
    pub fn exact(self) -> String {
        let size = ByteSize(self.0).exact();
        if size.ends_with('B') { format!("{size}/s") } else { format!("{size}B/s") }
    }
}

impl FromStr for Bandwidth {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Bandwidth, UnitError> {
        let fail = |why: String| no(text, "a bandwidth", why);
        let Some(size) = text.strip_suffix("/s") else {
            return Err(fail("write bytes per second, like \"10MB/s\" or \"500 KiB/s\"".to_owned()));
        };
        if size.ends_with("bit") {
            return Err(fail("write bytes, not bits, per second: \"80Mbit/s\" is \"10MB/s\"".to_owned()));
        }
        parse_bytes(size).map(Bandwidth).map_err(fail)
    }
}

/// In decimal units, as links are sold, with at most two decimals, rounded: `10 MB/s`.
impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", rounded(self.0, &SI)))
    }
}

impl Seconds {
    pub const HOUR: u64 = 3_600;
    pub const DAY: u64 = 86_400;

    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// As it is displayed; nothing is rounded.
    pub fn exact(self) -> String {
        self.to_string()
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Duration {
        seconds.duration()
    }
}

impl FromStr for Seconds {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Seconds, UnitError> {
        parse_seconds(text).map(Seconds).map_err(|why| no(text, "a length of time", why))
    }
}

/// `1d12h`, `45s`, `0s`. Weeks are shown as days: nobody counts quarters of a year in weeks.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut rest = self.0;
        for (name, unit) in &TIME_UNITS[1..] {
            if rest >= *unit {
                text.push_str(&format!("{}{name}", rest / unit));
                rest %= unit;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

macro_rules! as_exact_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.exact())
            }
        }
    )*};
}
as_exact_text!(ByteSize, Bandwidth, Seconds);

fn no(text: &str, what: &'static str, why: String) -> UnitError {
    // An error message is no place for a megabyte of somebody's file.
    UnitError { text: text.chars().take(80).collect(), what, why }
}

/// Bytes of `1.5 TiB`; the error says what would be right.
fn parse_bytes(text: &str) -> Result<u64, String> {
    if text.starts_with('-') {
        return Err("it cannot be negative".to_owned());
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err("write a number and a unit, like \"512GiB\" or \"2TB\"".to_owned());
    }
    let unit = match unit {
        "" => 1,
        // Old habit for kB; `K` cannot mean anything else before a `B`.
        "KB" => 1_000,
        _ => IEC.iter().chain(&SI).find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes).ok_or_else(|| {
            format!("unknown unit {:?}; write {BYTE_UNITS}", unit.chars().take(20).collect::<String>())
        })?,
    };
    let too_large = || format!("it is more than {} bytes", u64::MAX);
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let whole = whole.checked_mul(unit).ok_or_else(too_large)?;
    whole.checked_add(fraction_bytes(fraction, unit)?).ok_or_else(too_large)
}

/// Bytes of the digits behind the point; they must come out even, so that no limit is other than it looks.
fn fraction_bytes(digits: &str, unit: u64) -> Result<u64, String> {
    const DIGITS_MAX: usize = 18;
    let uneven = || "it does not come out at whole bytes".to_owned();
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    if digits.len() > DIGITS_MAX {
        return Err(uneven());
    }
    // Below 10^18 times at most 2^60: fits into 128 bits.
    let scaled = digits.parse::<u128>().map_err(|_| uneven())? * u128::from(unit);
    let scale = 10_u128.pow(digits.len() as u32);
    if scaled.is_multiple_of(scale) { u64::try_from(scaled / scale).map_err(|_| uneven()) } else { Err(uneven()) }
}

fn parse_seconds(text: &str) -> Result<u64, String> {
    const RIGHT: &str =
        "write numbers with w, d, h, m or s from the longest to the shortest, like \"90d\" or \"1d12h\"";
    if text.starts_with('-') {
        return Err("it cannot be negative".to_owned());
    }
    let mut total = 0_u64;
    let mut units = TIME_UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| format!("a unit is missing; {RIGHT}"))?;
        let (digits, tail) = rest.split_at(end);
        let name = tail.chars().next().ok_or_else(|| RIGHT.to_owned())?;
        // The iterator moves on, so that no unit comes twice or after a shorter one.
        let (_, unit) = units.find(|(unit, _)| *unit == name).ok_or_else(|| RIGHT.to_owned())?;
        let too_long = || format!("it is more than {} seconds", u64::MAX);
        if digits.is_empty() {
            return Err(RIGHT.to_owned());
        }
        let number: u64 = digits.parse().map_err(|_| too_long())?;
        total = number.checked_mul(*unit).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
        rest = &tail[name.len_utf8()..];
        rest = rest.strip_prefix(' ').filter(|rest| !rest.is_empty()).unwrap_or(rest);
    }
    if text.is_empty() { Err(RIGHT.to_owned()) } else { Ok(total) }
}

/// In the largest unit of which there is at least one, to two decimals without trailing zeros.
fn rounded(bytes: u64, units: &[(&str, u64); 7]) -> String {
    let hundredths = |unit: u64| (u128::from(bytes) * 100 + u128::from(unit) / 2) / u128::from(unit);
    let mut at = units.iter().position(|(_, unit)| bytes >= *unit).unwrap_or(units.len() - 1);
    // 1023.999 MiB would be rounded to 1024 MiB.
    if at > 0 && hundredths(units[at].1) * u128::from(units[at].1) >= u128::from(units[at - 1].1) * 100 {
        at -= 1;
    }
    let (name, unit) = units[at];
    let (whole, part) = (hundredths(unit) / 100, hundredths(unit) % 100);
    match part {
        0 => format!("{whole} {name}"),
        part if part % 10 == 0 => format!("{whole}.{} {name}", part / 10),
        part => format!("{whole}.{part:02} {name}"),
    }
}

#[cfg(test)]
mod tests;
