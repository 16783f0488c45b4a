//! The hours in which uploading is allowed.
//!
//! A window is a set of minutes of the week, as a clock on the wall shows them: minutes since Monday 00:00, compared
//! as integers. It is a predicate on local time and nothing else, which is why daylight saving cannot break it: an
//! hour that a wall clock skips is never open, one that it shows twice is open twice.
//!
//! ```text
//! "20:00-07:00"             every day; a span that crosses midnight belongs to the day on which it begins
//! "Sat-Sun 00:00-24:00"     half-open: the minute of the end is outside
//! "Mon,Wed-Fri 08:00-12:00"
//! ```

use jiff::{SignedDuration, Span, Timestamp, civil::Weekday, tz::TimeZone};
use serde::{Serialize, Serializer};
use std::{fmt, time::Duration};

const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;
/// Most spans in a window.
const SPANS_MAX: usize = 100;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Some minutes of the week, at least one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// As it was written; empty for always.
    spans: Vec<String>,
    /// `[begin, end)` in minutes since Monday 00:00; sorted, apart from each other, none beyond the week.
    open: Vec<(u16, u16)>,
}

/// Why a text is not a span of a window, with what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a window: {why}")]
pub struct WindowError {
    text: String,
    why: String,
    /// Which of the spans, from 0.
    pub index: usize,
}

impl Window {
    pub fn always() -> Window {
        Window { spans: Vec::new(), open: vec![(0, WEEK_MINUTES)] }
    }

    /// A window is open where any of its spans is; without spans it is always open.
    pub fn parse(spans: &[String]) -> Result<Window, WindowError> {
        if spans.is_empty() {
            return Ok(Window::always());
        }
        let mut open = Vec::new();
        for (index, text) in spans.iter().enumerate() {
            let fail = |why| WindowError { text: text.chars().take(80).collect(), why, index };
            if index == SPANS_MAX {
                return Err(fail(format!("there are more than {SPANS_MAX} spans")));
            }
            open.extend(parse_span(text).map_err(fail)?);
        }
        Ok(Window { spans: spans.to_vec(), open: merged(open) })
    }

    /// Whether every minute of the week is open.
    pub fn is_always(&self) -> bool {
        self.open == [(0, WEEK_MINUTES)]
    }

    /// How many minutes of the week are open.
    pub fn open_minutes(&self) -> u32 {
        self.open.iter().map(|(begin, end)| u32::from(end - begin)).sum()
    }

    /// The longest time in a row, in minutes, in which a week has it closed.
    pub fn longest_closed_minutes(&self) -> u32 {
        let following = self.open.iter().skip(1).map(|(begin, _)| *begin);
        // After the last one comes the first one of the next week.
        let following = following.chain(self.open.first().map(|(begin, _)| begin + WEEK_MINUTES));
        let closed = self.open.iter().zip(following).map(|((_, end), begin)| u32::from(begin - end));
        closed.max().unwrap_or(0)
    }

    /// The longest time in a row, in minutes, in which a week has it open; `None` of one that never closes.
    pub fn longest_open_minutes(&self) -> Option<u32> {
        let spans = || self.open.iter().map(|(begin, end)| u32::from(end - begin));
        // One that goes on from Sunday into Monday was cut there.
        let over_the_end = match (self.open.first(), self.open.last()) {
            (Some((0, end)), Some((begin, WEEK_MINUTES))) => u32::from(end + WEEK_MINUTES - begin),
            _ => 0,
        };
        spans().max().map(|longest| longest.max(over_the_end)).filter(|_| !self.is_always())
    }

    /// Whether the window is open while a clock on the wall shows this. `hour` is 0 to 23, `minute` 0 to 59.
    pub fn is_open(&self, weekday: Weekday, hour: u8, minute: u8) -> bool {
        debug_assert!(hour < 24 && minute < 60);
        let day = u16::from(weekday.to_monday_zero_offset().unsigned_abs());
        let at = day * DAY_MINUTES + u16::from(hour) * 60 + u16::from(minute);
        self.open.iter().any(|(begin, end)| *begin <= at && at < *end)
    }

    /// Whether the window is open at this instant in this zone.
    pub fn is_open_at(&self, instant: Timestamp, zone: &TimeZone) -> bool {
        let local = zone.to_datetime(instant);
        self.is_open(local.weekday(), local.hour().unsigned_abs(), local.minute().unsigned_abs())
    }

    /// When the window next opens or closes; `None` when it never does. To be shown, not to be slept on: a zone or a
    /// clock may change meanwhile, so whoever waits asks [`is_open_at`](Self::is_open_at) again and again.
    ///
    /// What is open changes only when the minute on the wall does, or at a transition of the zone; the predicate
    /// is asked at each of those instants.
    pub fn next_change(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        /// A change may fall into an hour, or as in Samoa 2011 a day, that is skipped: then it comes a week later.
        const SEARCH_HOURS: i64 = 22 * 24;
        if self.is_always() {
            return None;
        }
        let now = self.is_open_at(instant, zone);
        let end = instant.checked_add(SignedDuration::from_hours(SEARCH_HOURS)).unwrap_or(Timestamp::MAX);
        let mut transitions = zone.following(instant).map(|transition| transition.timestamp()).peekable();
        let mut at = instant;
        loop {
            let local = zone.to_datetime(at);
            let past = SignedDuration::new(local.second().into(), local.subsec_nanosecond());
            let minute = at.checked_add(SignedDuration::from_secs(60) - past).ok()?;
            at = match transitions.next_if(|transition| *transition <= minute) {
                Some(transition) => transition,
                None => minute,
            };
            if end < at {
                return None;
            }
            if self.is_open_at(at, zone) != now {
                return Some(at);
            }
        }
    }

    /// When the window will have been open for so long, from this instant on; `None` beyond the end of time. An
    /// estimate to be shown: in a week in which clocks are changed, a window may be open for longer or shorter.
    pub fn end_of(&self, open: Duration, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let week = Duration::from_secs(60 * u64::from(self.open_minutes()));
        // Of the last week all minutes are looked at, for it ends where the window closes.
        let weeks = u32::try_from(open.as_secs().saturating_sub(1) / week.as_secs()).ok()?;
        let weeks_on = Span::new().try_weeks(weeks).ok()?;
        let mut at = instant.to_zoned(zone.clone()).checked_add(weeks_on).ok()?.timestamp();
        let mut left = SignedDuration::try_from(open - week * weeks).ok()?;
        loop {
            let change = self.next_change(at, zone);
            if self.is_open_at(at, zone) {
                match change {
                    Some(change) if change.duration_since(at) < left => left -= change.duration_since(at),
                    _ => return at.checked_add(left).ok(),
                }
            }
            at = change?;
        }
    }
}

/// As it was written; `always` without spans.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.spans.is_empty() { "always".to_owned() } else { self.spans.join(", ") })
    }
}

/// As the list that [`Window::parse`] takes.
impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.spans.serialize(serializer)
    }
}

/// One span on each of its days, in minutes of the week; what crosses the end of the week is split in two.
fn parse_span(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let (days, times) = match text.split_once(' ') {
        Some((days, times)) => (parse_days(days)?, times),
        None => ([true; 7], text),
    };
    let (begin, end) =
        times.split_once('-').ok_or("write a begin and an end, like \"20:00-07:00\" or \"Sat-Sun 00:00-24:00\"")?;
    let (begin, end) = (parse_time(begin)?, parse_time(end)?);
    if begin == end {
        return Err("it has no length; the whole day is \"00:00-24:00\"".to_owned());
    }
    if begin == DAY_MINUTES {
        return Err("24:00 is only an end; a span that begins at midnight begins at 00:00".to_owned());
    }
    let length = if begin < end { end - begin } else { end + DAY_MINUTES - begin };
    let mut spans = Vec::new();
    for day in (0..7).filter(|day| days[usize::from(*day)]) {
        let begin = day * DAY_MINUTES + begin;
        let end = begin + length;
        spans.push((begin, end.min(WEEK_MINUTES)));
        if WEEK_MINUTES < end {
            spans.push((0, end - WEEK_MINUTES));
        }
    }
    Ok(spans)
}

/// `Mon,Wed-Fri`; a range may run over the end of the week: `Fri-Mon`.
fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let day = |name: &str| {
        DAYS.iter().position(|day| day.eq_ignore_ascii_case(name)).ok_or_else(|| {
            format!("{name:?} is no day; write Mon, Tue, Wed, Thu, Fri, Sat or Sun, like \"Mon,Wed-Fri\"")
        })
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let mut at = first;
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Ok(days)
}

/// Minutes since midnight of `HH:MM`, 00:00 to 24:00.
fn parse_time(text: &str) -> Result<u16, String> {
    let fail = || format!("{text:?} is no time of day; write it like 07:30, from 00:00 to 24:00");
    let (hour, minute) = text.split_once(':').ok_or_else(fail)?;
    let number = |digits: &str| {
        let fits = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        if fits { digits.parse::<u16>().map_err(|_| fail()) } else { Err(fail()) }
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    if minute < 60 && hour * 60 + minute <= DAY_MINUTES { Ok(hour * 60 + minute) } else { Err(fail()) }
}

fn merged(mut spans: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    spans.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(spans.len());
    for (begin, end) in spans {
        match merged.last_mut() {
            Some((_, last)) if begin <= *last => *last = end.max(*last),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
