//! What keeping data costs, and getting it back: a table of prices, and sums over it. Pure.
//!
//! Sums are estimates for people, in dollars; nothing is decided by them but questions.

use crate::units::ByteSize;
use jiff::civil::Date;
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A gigabyte as it is billed.
const GB: f64 = ByteSize::GIB as f64;
const MONTH_DAYS: f64 = 365.0 / 12.0;

/// Prices of a storage class, of what is readable at once beside it, and of the way out. In dollars; each per GB of
/// 2^30 bytes, per 1,000 requests, or per GB and month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// When they held.
    pub date: Date,
    /// Where they hold.
    pub region: String,
    /// Pieces, GB and month.
    pub storage: f64,
    /// What is readable at once: manifests, indexes, thawed copies. GB and month.
    pub storage_standard: f64,
    /// Whoever removes a piece sooner pays for so many days all the same.
    pub minimum_days: u32,
    /// Requests that complete an object of the class.
    pub requests: f64,
    /// Requests for parts, and for objects that are readable at once.
    pub requests_standard: f64,
    /// Thawing within 48 hours, GB.
    pub thaw_bulk: f64,
    pub thaw_bulk_requests: f64,
    /// Thawing within 12 hours, GB.
    pub thaw_standard: f64,
    pub thaw_standard_requests: f64,
    /// Out of the region, GB; in steps of a month's sum.
    pub egress: Vec<Step>,
}

/// A price for what lies below a monthly sum; without one for all the rest. Read from `"0.09 up to 10TiB"`, `"0.05"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub price: f64,
    pub up_to: Option<ByteSize>,
}

impl FromStr for Step {
    type Err = String;
    fn from_str(text: &str) -> Result<Step, String> {
        let (price, up_to) = match text.split_once(" up to ") {
            Some((price, size)) => (price, Some(ByteSize::from_str(size).map_err(|err| err.to_string())?)),
            None => (text, None),
        };
        let price = price.parse().ok().filter(|price| is_price(*price));
        let price = price.ok_or("write a price per GB, and up to where, like \"0.09 up to 10TiB\" or \"0.05\"")?;
        Ok(Step { price, up_to })
    }
}

/// Dearer is a slip of the pen.
pub const PRICE_MAX: f64 = 1000.0;

pub fn is_price(price: f64) -> bool {
    price.is_sign_positive() && price <= PRICE_MAX
}

/// Why these are no steps, if they are not: each goes further than the one before, and the last has no end.
pub fn check_steps(steps: &[Step]) -> Result<(), &'static str> {
    let ends: Vec<Option<u64>> = steps.iter().map(|step| step.up_to.map(|size| size.0)).collect();
    match ends.split_last() {
        Some((None, before)) if before.is_sorted_by(|a, b| a < b) && !before.contains(&None) => Ok(()),
        _ => Err("must be steps that go up, the last without an end, like [\"0 up to 100GiB\", \"0.09\"]"),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.up_to {
            Some(size) => write!(f, "{} up to {}", self.price, size.exact()),
            None => write!(f, "{}", self.price),
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// S3 Glacier Deep Archive in us-east-1, as of June 2026: <https://aws.amazon.com/s3/pricing/>.
impl Default for Prices {
    fn default() -> Prices {
        let step = |price, up_to: Option<u64>| Step { price, up_to: up_to.map(ByteSize) };
        Prices {
            date: jiff::civil::date(2026, 6, 1),
            region: "us-east-1".to_owned(),
            storage: 0.00099,
            storage_standard: 0.023,
            minimum_days: 180,
            requests: 0.05,
            requests_standard: 0.005,
            thaw_bulk: 0.0025,
            thaw_bulk_requests: 0.025,
            thaw_standard: 0.02,
            thaw_standard_requests: 0.10,
            egress: vec![
                step(0.0, Some(100 * ByteSize::GIB)),
                step(0.09, Some(10 * ByteSize::TIB)),
                step(0.085, Some(50 * ByteSize::TIB)),
                step(0.07, Some(150 * ByteSize::TIB)),
                step(0.05, None),
            ],
        }
    }
}

/// What lies in a vault, as far as its price depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Pieces, and their bytes.
    pub pieces: u64,
    pub bytes: u64,
    /// Requests beside the one that completes a piece: beginnings and parts of uploads.
    pub parts: u64,
    /// Objects that are readable at once, and their bytes.
    pub readable: u64,
    pub readable_bytes: u64,
}

/// How soon a thaw is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    Bulk,
    Standard,
}

/// What bringing back costs, in dollars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Return {
    /// Thawing, with its requests.
    pub thaw: f64,
    /// The thawed copies for as long as they are kept.
    pub copies: f64,
    /// Out of the region, in one month.
    pub egress: f64,
}

impl Return {
    pub fn total(&self) -> f64 {
        self.thaw + self.copies + self.egress
    }
}

impl Prices {
    /// Keeping it, each month. The 40 KiB that S3 adds to an object in an archive class are left out: pieces are large.
    pub fn month(&self, stock: &Stock) -> f64 {
        (stock.bytes as f64 * self.storage + stock.readable_bytes as f64 * self.storage_standard) / GB
    }

    /// Bringing it there, once.
    pub fn delivery(&self, stock: &Stock) -> f64 {
        thousand(stock.pieces) * self.requests + thousand(stock.parts + stock.readable) * self.requests_standard
    }

    /// Keeping pieces for the least time that is billed.
    pub fn minimum(&self, stock: &Stock) -> f64 {
        stock.bytes as f64 * self.storage / GB * f64::from(self.minimum_days) / MONTH_DAYS
    }

    /// The rest of the least time that is billed, of bytes of the class that were kept for so many days.
    pub fn early(&self, bytes: u64, kept_days: f64) -> f64 {
        let rest = (f64::from(self.minimum_days) - kept_days.max(0.0)).max(0.0);
        bytes as f64 * self.storage / GB * rest / MONTH_DAYS
    }

    /// Bringing all of it back within a month, the thawed copies kept for so many days.
    pub fn restore(&self, stock: &Stock, tier: Tier, days: u32) -> Return {
        let (per_gb, per_request) = match tier {
            Tier::Bulk => (self.thaw_bulk, self.thaw_bulk_requests),
            Tier::Standard => (self.thaw_standard, self.thaw_standard_requests),
        };
        let gb = stock.bytes as f64 / GB;
        Return {
            thaw: gb * per_gb + thousand(stock.pieces) * per_request,
            copies: gb * self.storage_standard * f64::from(days) / MONTH_DAYS,
            egress: self.egress(stock.bytes),
        }
    }

    fn egress(&self, bytes: u64) -> f64 {
        let (mut sum, mut below) = (0.0, 0);
        for step in &self.egress {
            let end = step.up_to.map_or(bytes, |size| size.0.min(bytes));
            sum += (end - below) as f64 / GB * step.price;
            below = end;
        }
        sum
    }
}

fn thousand(count: u64) -> f64 {
    count as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= expected.abs() * 1e-9, "{value} is not {expected}");
    }

    #[test]
    fn a_hundred_tebibytes_cost_what_a_calculator_says() {
        let prices = Prices::default();
        let stock = Stock { pieces: 200, bytes: 100 * ByteSize::TIB, parts: 200 * 8193, ..Stock::default() };
        // Worked by hand from the price list: 102,400 GB.
        near(prices.month(&stock), 102_400.0 * 0.00099);
        near(prices.minimum(&stock), 102_400.0 * 0.00099 * 180.0 * 12.0 / 365.0);
        near(prices.delivery(&stock), 0.2 * 0.05 + 1638.6 * 0.005);
        let bulk = prices.restore(&stock, Tier::Bulk, 7);
        near(bulk.thaw, 256.0 + 0.2 * 0.025);
        near(bulk.copies, 102_400.0 * 0.023 * 7.0 * 12.0 / 365.0);
        near(bulk.egress, 10_140.0 * 0.09 + 40_960.0 * 0.085 + 51_200.0 * 0.07);
        near(prices.restore(&stock, Tier::Standard, 7).thaw, 2048.0 + 0.2 * 0.10);
    }

    #[test]
    fn who_leaves_early_pays_the_rest_of_the_least_time_and_nothing_after_it() {
        let prices = Prices::default();
        near(prices.early(ByteSize::TIB, 0.0), prices.minimum(&Stock { bytes: ByteSize::TIB, ..Stock::default() }));
        near(prices.early(ByteSize::TIB, 135.0), 1024.0 * 0.00099 * 45.0 * 12.0 / 365.0);
        near(prices.early(ByteSize::TIB, 180.0), 0.0);
        near(prices.early(ByteSize::TIB, 1e6), 0.0);
        // A clock that was set back makes nothing dearer.
        near(prices.early(ByteSize::TIB, -5.0), prices.early(ByteSize::TIB, 0.0));
    }

    #[test]
    fn egress_goes_up_the_steps_and_the_last_one_has_no_end() {
        let with = |steps: &[&str]| Prices {
            egress: steps.iter().map(|step| step.parse().unwrap()).collect(),
            ..Prices::default()
        };
        let gb = ByteSize::GIB;
        near(with(&["0.5"]).egress(3 * gb), 1.5);
        near(with(&["0 up to 1GiB", "0.5 up to 2GiB", "0.25"]).egress(4 * gb), 0.5 + 0.5);
        near(with(&["0 up to 1GiB", "0.5 up to 2GiB", "0.25"]).egress(gb / 2), 0.0);
    }

    #[test]
    fn steps_go_up_and_the_last_has_no_end() {
        let check =
            |steps: &[&str]| check_steps(&steps.iter().map(|step| step.parse().unwrap()).collect::<Vec<_>>()).is_ok();
        assert!(check(&["0.09"]) && check(&["0 up to 1GiB", "0.5 up to 2GiB", "0.25"]));
        assert!(check_steps(&Prices::default().egress).is_ok());
        for steps in [
            &[][..],
            &["0.09 up to 1GiB"],
            &["0.09", "0.05"],
            &["0.09", "0.05 up to 1GiB"],
            &["0 up to 2GiB", "0.5 up to 1GiB", "0.25"],
            &["0 up to 1GiB", "0.5 up to 1GiB", "0.25"],
        ] {
            assert!(!check(steps), "{steps:?}");
        }
    }

    #[test]
    fn a_step_is_read_as_it_is_written() {
        for text in ["0.09 up to 10TiB", "0.05", "0 up to 100GiB"] {
            assert_eq!(text.parse::<Step>().unwrap().to_string(), text);
        }
        for text in ["", "free", "-1", "-0", "1001", "0.1 up to", "NaN", "0.1 up to ten"] {
            let read = text.parse::<Step>();
            assert!(read.is_err(), "{text}: {read:?}");
        }
    }
}
