//! How far the last pass of each source is, as the catalog knows it: what `status` shows, and metrics count.

use crate::{
    catalog::{self, Catalog, PassRow, PieceRow, PieceState, Totals},
    name::SourceName,
    path::SourcePath,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is delivered lately is what was in so long: a day has all hours of a window.
const LATELY: SignedDuration = SignedDuration::from_hours(24);

/// How often a drill is due.
const DRILL_EVERY: SignedDuration = SignedDuration::from_hours(365 * 24);

#[derive(Debug, Serialize)]
pub struct Standing {
    pub source: String,
    pub path: PathBuf,
    /// `waiting` (no pass yet), `walking`, `delivering` or `ended`.
    pub state: &'static str,
    #[serde(flatten)]
    pub pass: Option<Pass>,
}

#[derive(Debug, Serialize)]
pub struct Pass {
    pub pass: String,
    /// Everything before it in the walk is packed.
    pub position: Option<String>,
    pub pieces: Pieces,
    pub seen: u64,
    pub archived: u64,
    pub lost: u64,
    pub tar_bytes: u64,
    pub sealed_bytes: u64,
    /// As tar, of what is delivered.
    pub delivered_bytes: u64,
    /// The piece that waits longest for the vault.
    pub oldest: Option<Oldest>,
    pub ended: Option<Timestamp>,
    /// When all may be delivered, if there is anything to tell it from.
    pub eta: Option<Eta>,
}

#[derive(Debug, Default, Serialize)]
pub struct Pieces {
    pub packed: u64,
    pub compressed: u64,
    pub sealed: u64,
    pub delivered: u64,
    pub retired: u64,
}

#[derive(Debug, Serialize)]
pub struct Oldest {
    pub piece: String,
    pub packed_at: Timestamp,
}

/// Between the rate of the whole pass and that of the last day, waits and windows in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Eta {
    pub earliest: Timestamp,
    pub latest: Timestamp,
    /// It is a guess how much is still to come: as much as in the pass before.
    pub is_guess: bool,
}

/// Whether it is time to show again that the secret key opens what is in the vault, which the backup host cannot see.
pub fn is_drill_due(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_none_or(|last| now.duration_since(last) > DRILL_EVERY)
}

impl Standing {
    /// Of a source that is configured. Without a catalog nothing has begun.
    pub fn of(
        catalog: Option<&Catalog>,
        source: &SourceName,
        path: &Path,
        now: Timestamp,
    ) -> catalog::Result<Standing> {
        let passes = match catalog {
            Some(catalog) => catalog.passes(Some(source))?,
            None => Vec::new(),
        };
        let mut standing = Standing { source: source.to_string(), path: path.to_owned(), state: "waiting", pass: None };
        if let Some((catalog, row)) = catalog.zip(passes.first()) {
            let pieces = catalog.pieces(source, row.pass)?;
            let before = match passes.iter().skip(1).find(|before| before.ended.is_some()) {
                Some(before) if row.seen.is_none() => Some(catalog.totals(source, before.pass)?.tar_bytes),
                _ => None,
            };
            standing.state = match (row.ended, row.seen) {
                (Some(_), _) => "ended",
                (None, Some(_)) => "delivering",
                (None, None) => "walking",
            };
            let totals = catalog.totals(source, row.pass)?;
            standing.pass = Some(pass(row, &pieces, &totals, before, now));
        }
        Ok(standing)
    }
}

fn pass(row: &PassRow, pieces: &[PieceRow], totals: &Totals, before: Option<u64>, now: Timestamp) -> Pass {
    let mut count = Pieces::default();
    for piece in pieces {
        *match piece.state {
            PieceState::Packed => &mut count.packed,
            PieceState::Compressed => &mut count.compressed,
            PieceState::Sealed => &mut count.sealed,
            PieceState::Delivered => &mut count.delivered,
            PieceState::Retired => &mut count.retired,
        } += 1;
    }
    let waiting = pieces.iter().filter(|row| row.state < PieceState::Delivered);
    let oldest = waiting.min_by_key(|row| row.packed.packed_at);
    let tar_bytes = totals.tar_bytes;
    let delivered = pieces.iter().filter(|row| row.state == PieceState::Delivered);
    let standing = pieces.iter().filter(|row| row.state != PieceState::Retired);
    let all = match (row.ended, row.seen, before) {
        (Some(_), ..) => None,
        (None, Some(_), _) => Some((tar_bytes, false)),
        (None, None, before) => before.map(|before| (before.max(tar_bytes), true)),
    };
    Pass {
        pass: row.pass.to_string(),
        position: standing.map(|row| &row.packed.position).max().map(SourcePath::display),
        seen: totals.seen,
        archived: totals.archived,
        lost: totals.lost,
        sealed_bytes: totals.sealed_bytes,
        delivered_bytes: delivered.map(|row| row.packed.tar_size).sum(),
        oldest: oldest.map(|row| Oldest { piece: row.name().to_string(), packed_at: row.packed.packed_at }),
        pieces: count,
        tar_bytes,
        ended: row.ended,
        eta: all.and_then(|(all, is_guess)| {
            let deliveries = pieces.iter().filter_map(|row| Some((row.delivered.as_ref()?.at, row.packed.tar_size)));
            eta(row.pass.started(), &deliveries.collect::<Vec<_>>(), all, is_guess, now)
        }),
    }
}

/// From what was delivered when, of a whole of so many bytes.
fn eta(begun: Timestamp, deliveries: &[(Timestamp, u64)], all: u64, is_guess: bool, now: Timestamp) -> Option<Eta> {
    let delivered: u64 = deliveries.iter().map(|(_, len)| len).sum();
    let left = all.saturating_sub(delivered) as f64;
    // Bytes in a second since then, as long as anything came.
    let rate = |since: Timestamp| {
        let since = since.max(begun);
        let len: u64 = deliveries.iter().filter(|(at, _)| since <= *at).map(|(_, len)| len).sum();
        let seconds = now.duration_since(since).as_secs_f64();
        (len > 0 && seconds > 0.0).then(|| len as f64 / seconds)
    };
    let rates = [rate(begun), now.checked_sub(LATELY).ok().and_then(rate)].into_iter().flatten();
    let ends = rates.filter_map(|rate| {
        let left = SignedDuration::try_from_secs_f64((left / rate).ceil()).ok()?;
        now.checked_add(left).ok()
    });
    let ends = ends.collect::<Vec<_>>();
    Some(Eta { earliest: *ends.iter().min()?, latest: *ends.iter().max()?, is_guess })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    #[test]
    fn a_drill_is_due_after_a_year() {
        assert!(is_drill_due(None, hour(0)));
        assert!(!is_drill_due(Some(hour(0)), hour(365 * 24)));
        assert!(is_drill_due(Some(hour(0)), hour(365 * 24 + 1)));
    }

    #[test]
    fn the_end_is_between_that_of_the_whole_rate_and_that_of_the_last_day() {
        assert_eq!(eta(hour(0), &[], 1000, false, hour(5)), None, "Nothing is delivered yet");
        // 10 an hour for 100 hours, then 5.
        let deliveries: Vec<_> = (1..=100).map(|n| (hour(n), 10)).chain((101..=148).map(|n| (hour(n), 5))).collect();
        let now = hour(148);
        let told = eta(hour(0), &deliveries, 1240 + 240, false, now).unwrap();
        let hours = |at: Timestamp| at.duration_since(now).as_secs_f64() / 3600.0;
        assert!((28.0..29.0).contains(&hours(told.earliest)), "{told:?}");
        assert!((45.0..49.0).contains(&hours(told.latest)), "{told:?}");
        // Nothing came for longer than a day: only the whole tells anything.
        let told = eta(hour(0), &deliveries, 2480, true, hour(248)).unwrap();
        assert_eq!((told.earliest, told.is_guess), (told.latest, true));
        assert_eq!(eta(hour(0), &deliveries, 1240, false, now).unwrap().latest, now, "Nothing is left");
    }
}
