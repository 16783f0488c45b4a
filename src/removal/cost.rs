//! What is saved by a removal, and what it costs: some classes are billed for a shortest time, whoever removes sooner.

use super::work::Targets;
use crate::{
    price::{Prices, Stock},
    vault::policy::billed_days,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// The class of what is readable at once.
const STANDARD: &str = "STANDARD";

/// All that goes of one storage class.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassSum {
    pub class: String,
    pub objects: u64,
    pub bytes: u64,
    /// Objects that are younger than the least time that is billed.
    pub young: u64,
    /// Days until that has passed for all of them.
    pub days_left: u64,
    /// Dollars for that time; `None` where no price is known.
    pub early: Option<f64>,
    /// Dollars that are saved each month from then on.
    pub a_month: Option<f64>,
}

/// By class. `prices` are those of `priced_class` and of [`STANDARD`].
pub fn sums(targets: &[Targets], prices: Option<&Prices>, priced_class: &str, now: Timestamp) -> Vec<ClassSum> {
    let mut sums: BTreeMap<&str, ClassSum> = BTreeMap::new();
    for object in targets.iter().flat_map(Targets::objects) {
        let class = object.class.as_str();
        let sum = sums.entry(class).or_insert_with(|| {
            let is_known = prices.is_some() && (class == priced_class || class == STANDARD);
            let zero = is_known.then_some(0.0);
            ClassSum { class: class.to_owned(), early: zero, a_month: zero, ..ClassSum::default() }
        });
        sum.objects += 1;
        sum.bytes += object.size;
        let minimum = match prices {
            Some(prices) if class == priced_class => u64::from(prices.minimum_days),
            _ => billed_days(class).map_or(0, u64::from),
        };
        let kept_days = object.since.map_or(0.0, |since| now.duration_since(since).as_secs_f64() / 86_400.0);
        let rest = minimum as f64 - kept_days;
        if rest > 0.0 {
            sum.young += 1;
            sum.days_left = sum.days_left.max(rest.ceil() as u64);
        }
        let Some(prices) = prices else { continue };
        let stock = match class {
            _ if class == priced_class => Stock { bytes: object.size, ..Stock::default() },
            _ => Stock { readable_bytes: object.size, ..Stock::default() },
        };
        sum.a_month = sum.a_month.map(|sum| sum + prices.month(&stock));
        if class == priced_class {
            sum.early = sum.early.map(|sum| sum + prices.early(object.size, kept_days));
        }
    }
    sums.into_values().collect()
}
