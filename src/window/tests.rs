use super::*;
use Weekday::*;
use proptest::prelude::*;
use std::{
    io::Write,
    process::{Command, Stdio},
};

const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC", "Pacific/Apia"];

/// Spans of a window are joined by `;` here.
fn window(text: &str) -> Window {
    parse(text).unwrap_or_else(|err| panic!("{err}"))
}

fn parse(text: &str) -> Result<Window, WindowError> {
    let spans: Vec<String> = text.split(';').filter(|span| !span.is_empty()).map(str::to_owned).collect();
    Window::parse(&spans)
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

#[test]
fn a_window_is_half_open_and_may_cross_midnight_and_the_week() {
    for (text, day, time, open) in [
        ("", Monday, (0, 0), true),
        ("08:00-12:00", Monday, (7, 59), false),
        ("08:00-12:00", Monday, (8, 0), true),
        ("08:00-12:00", Sunday, (11, 59), true),
        ("08:00-12:00", Sunday, (12, 0), false),
        ("20:00-07:00", Wednesday, (19, 59), false),
        ("20:00-07:00", Wednesday, (20, 0), true),
        ("20:00-07:00", Wednesday, (0, 0), true),
        ("20:00-07:00", Monday, (6, 59), true),
        ("20:00-07:00", Monday, (7, 0), false),
        ("20:00-00:00", Monday, (23, 59), true),
        ("20:00-00:00", Tuesday, (0, 0), false),
        ("20:00-24:00", Monday, (23, 59), true),
        ("20:00-24:00", Tuesday, (0, 0), false),
        ("Sat-Sun 00:00-24:00", Friday, (23, 59), false),
        ("Sat-Sun 00:00-24:00", Saturday, (0, 0), true),
        ("Sat-Sun 00:00-24:00", Sunday, (23, 59), true),
        ("Sat-Sun 00:00-24:00", Monday, (0, 0), false),
        // It belongs to the day on which it begins.
        ("Sun 22:00-06:00", Sunday, (5, 0), false),
        ("Sun 22:00-06:00", Sunday, (22, 0), true),
        ("Sun 22:00-06:00", Monday, (5, 59), true),
        ("Sun 22:00-06:00", Monday, (6, 0), false),
        ("Fri-Mon 10:00-11:00", Sunday, (10, 30), true),
        ("Fri-Mon 10:00-11:00", Monday, (10, 30), true),
        ("Fri-Mon 10:00-11:00", Tuesday, (10, 30), false),
        ("Mon,Wed 08:00-12:00", Monday, (9, 0), true),
        ("Mon,Wed 08:00-12:00", Tuesday, (9, 0), false),
        ("mon,WED-fri 08:00-12:00", Thursday, (9, 0), true),
        ("20:00-07:00;Sat-Sun 00:00-24:00", Saturday, (12, 0), true),
        ("20:00-07:00;Sat-Sun 00:00-24:00", Friday, (12, 0), false),
    ] {
        assert_eq!(window(text).is_open(day, time.0, time.1), open, "{text} on {day:?} at {time:?}");
    }
}

#[test]
fn what_is_no_window_is_refused_with_what_would_be_right() {
    for (text, why) in [
        ("always", "like \"20:00-07:00\""),
        ("20:00", "like \"20:00-07:00\""),
        ("25:00-07:00", "like 07:30"),
        ("20:60-07:00", "like 07:30"),
        ("24:01-07:00", "like 07:30"),
        ("20-07", "like 07:30"),
        ("8:00-12:00", "like 07:30"),
        ("+8:00-12:00", "like 07:30"),
        ("08:00 - 12:00", "is no day"),
        ("08:00-12:00 ", "is no day"),
        ("20:00-20:00", "no length"),
        ("00:00-00:00", "no length"),
        ("24:00-24:00", "no length"),
        ("24:00-07:00", "only an end"),
        ("Sam 08:00-12:00", "\"Sam\" is no day"),
        ("Mon, Tue 08:00-12:00", "is no day"),
        ("Mon- 08:00-12:00", "is no day"),
        ("Mon-Tue-Wed 08:00-12:00", "is no day"),
    ] {
        let err = parse(text).expect_err(text);
        assert!(err.to_string().contains(why), "{text}: {err}");
        assert_eq!(parse(&format!("08:00-12:00;{text}")).expect_err(text).index, 1, "the span is named");
    }
    assert!(Window::parse(&[String::new()]).is_err());
    assert!(Window::parse(&vec!["08:00-09:00".to_owned(); SPANS_MAX + 1]).is_err());
}

#[test]
fn a_window_without_a_gap_is_always_open() {
    for text in ["", "00:00-24:00", "07:00-20:00;20:00-07:00", "Mon-Sun 00:00-24:00", "Fri-Thu 12:00-00:00;00:00-12:00"]
    {
        assert!(window(text).is_always(), "{text}");
        assert_eq!(window(text).next_change(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }
    assert!(!window("00:00-23:59").is_always());
    for (text, minutes) in [("", 10_080), ("20:00-07:00", 7 * 660), ("Sat-Sun 00:00-24:00;Sun 23:00-01:00", 2_940)] {
        assert_eq!(window(text).open_minutes(), minutes, "{text}");
    }
    for (text, minutes) in [
        ("", 0),
        ("00:00-23:59", 1),
        ("20:00-07:00", 780),
        ("Sat-Sun 00:00-24:00", 5 * 1_440),
        ("Mon 00:00-01:00", 7 * 1_440 - 60),
        ("Mon 12:00-13:00;Wed 12:00-13:00", 5 * 1_440 - 60),
        ("Sun 23:00-01:00;Thu 00:00-12:00", 3 * 1_440 + 660),
    ] {
        assert_eq!(window(text).longest_closed_minutes(), minutes, "{text}");
    }
    for (text, minutes) in [
        ("", None),
        ("00:00-23:59", Some(1_439)),
        ("20:00-07:00", Some(660)),
        ("Sat 08:00-09:00;12:00-12:30", Some(60)),
        ("Sun 23:00-01:00;Thu 10:00-11:00", Some(120)),
    ] {
        assert_eq!(window(text).longest_open_minutes(), minutes, "{text}");
    }
    assert_eq!(Window::always().to_string(), "always");
    assert_eq!(window("20:00-07:00;Sat 08:00-09:00").to_string(), "20:00-07:00, Sat 08:00-09:00");
}

#[test]
fn the_next_change_is_told_across_daylight_saving() {
    for (text, name, from, to) in [
        ("20:00-07:00", "UTC", "2026-01-05T12:00:00Z", Some("2026-01-05T20:00:00Z")),
        ("20:00-07:00", "UTC", "2026-01-05T20:00:00Z", Some("2026-01-06T07:00:00Z")),
        ("20:00-07:00", "UTC", "2026-01-05T19:59:59.999Z", Some("2026-01-05T20:00:00Z")),
        ("20:00-07:00", "UTC", "1969-12-31T19:59:59.999Z", Some("1969-12-31T20:00:00Z")),
        ("Sat 10:00-11:00", "UTC", "2026-01-03T11:00:00Z", Some("2026-01-10T10:00:00Z")),
        // The night of March 29 has no 02:00 to 03:00 in Berlin, so this window is left out for a day.
        ("02:10-02:50", "Europe/Berlin", "2026-03-28T12:00:00Z", Some("2026-03-30T00:10:00Z")),
        // Open from 01:30; the clock jumps from 02:00 to 03:00, which is outside.
        ("01:30-02:30", "Europe/Berlin", "2026-03-29T00:45:00Z", Some("2026-03-29T01:00:00Z")),
        // In October 02:00 to 03:00 comes twice: closed at 02:30, open again when it is 02:00 once more.
        ("02:00-02:30", "Europe/Berlin", "2026-10-25T00:15:00Z", Some("2026-10-25T00:30:00Z")),
        ("02:00-02:30", "Europe/Berlin", "2026-10-25T00:30:00Z", Some("2026-10-25T01:00:00Z")),
        // Lord Howe changes by half an hour.
        ("02:00-02:30", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", Some("2026-10-04T15:00:00Z")),
        // Samoa had no Friday, 30 December 2011.
        ("Fri 10:00-11:00", "Pacific/Apia", "2011-12-29T00:00:00Z", Some("2012-01-05T20:00:00Z")),
        // Moscow put its clocks back by 31 minutes and 19 seconds, in the middle of a minute.
        ("04:00-04:10", "Europe/Moscow", "1919-06-30T23:59:50Z", Some("1919-07-01T00:00:00Z")),
        // At the end of time nothing is found, and nothing breaks.
        ("Sat 10:00-11:00", "UTC", "9999-12-30T20:00:00Z", None),
    ] {
        let change = window(text).next_change(from.parse().unwrap(), &zone(name));
        assert_eq!(change, to.map(|to| to.parse().unwrap()), "{text} in {name} from {from}");
    }
}

/// Pseudorandom, and the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Knows neither jiff nor minutes of the week: asks today's spans and, of those that cross midnight, yesterday's.
const ORACLE: &str = r#"
import sys, datetime, zoneinfo
NAMES = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
def clock(text):
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)
def days(text):
    found = set()
    for part in text.split(","):
        ends = [NAMES.index(name) for name in part.split("-")]
        day = ends[0]
        found.add(day)
        while day != ends[-1]:
            day = (day + 1) % 7
            found.add(day)
    return found
def is_open(text, local):
    at, today = local.hour * 60 + local.minute, local.weekday()
    for span in text.split(";"):
        words = span.split(" ")
        on = days(words[0]) if len(words) == 2 else set(range(7))
        begin, end = (clock(part) for part in words[-1].split("-"))
        if begin < end:
            if today in on and begin <= at < end: return True
        elif (today in on and begin <= at) or ((today - 1) % 7 in on and at < end): return True
    return False
for line in sys.stdin:
    second, zone, text = line.rstrip("\n").split("|")
    utc = datetime.datetime.fromtimestamp(int(second), datetime.timezone.utc)
    local = utc.astimezone(zoneinfo.ZoneInfo(zone))
    print(local.strftime("%a %H:%M"), int(is_open(text, local)))
"#;

fn ask_oracle(questions: &str) -> Vec<String> {
    let mut python = Command::new("python3")
        .args(["-c", ORACLE])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut input = python.stdin.take().unwrap();
    let questions = questions.to_owned();
    let writer = std::thread::spawn(move || input.write_all(questions.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "the oracle fails");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

const RANDOM_INSTANTS: usize = 2_000;

/// Random instants of 1970 to 2069, and some around the transitions of each zone, in both directions.
fn instants(dice: &mut Dice) -> Vec<(i64, &'static str)> {
    const CENTURY: u64 = 100 * 365 * 86_400;
    let mut instants = Vec::new();
    for _ in 0..RANDOM_INSTANTS {
        instants.push((dice.below(CENTURY) as i64, ZONES[dice.below(6) as usize]));
    }
    for name in ZONES {
        let zone = zone(name);
        let from = Timestamp::from_second(0).unwrap();
        for transition in zone.following(from).map(|t| t.timestamp().as_second()).take(120) {
            let wide = transition + dice.below(172_800) as i64 - 86_400;
            instants.extend([transition - 1, transition, transition + 1_799, wide].map(|second| (second, name)));
        }
    }
    let offset = |second, name| zone(name).to_offset(Timestamp::from_second(second).unwrap()).seconds();
    for direction in [-1, 1] {
        let changes = instants.windows(2).filter(|pair| pair[0].1 == pair[1].1 && pair[0].0 + 1 == pair[1].0);
        let such =
            changes.filter(|pair| (offset(pair[1].0, pair[1].1) - offset(pair[0].0, pair[0].1)).signum() == direction);
        assert!(100 < such.count(), "clocks are put forward, and back");
    }
    instants
}

#[test]
fn thousands_of_instants_in_six_zones_are_judged_as_by_python() {
    const WINDOWS: [&str; 8] = [
        "20:00-07:00",
        "Sat-Sun 00:00-24:00",
        "01:30-02:30",
        "02:00-03:00;Sun 02:59-03:01",
        "Fri-Mon 23:30-00:30",
        "Sun 22:00-06:00;Mon,Wed-Thu 08:15-12:45",
        "00:00-00:01;12:00-24:00",
        "Sun 01:45-01:44",
    ];
    let mut dice = Dice(20_261_120);
    let questions: Vec<_> =
        instants(&mut dice).into_iter().map(|(at, zone)| (at, zone, WINDOWS[dice.below(8) as usize])).collect();
    let text: String = questions.iter().map(|(at, zone, window)| format!("{at}|{zone}|{window}\n")).collect();
    let answers = ask_oracle(&text);
    assert_eq!(answers.len(), questions.len());
    let (mut open_count, mut mismatches) = (0, Vec::new());
    for ((at, name, text), answer) in questions.iter().zip(&answers) {
        let (instant, zone) = (Timestamp::from_second(*at).unwrap(), zone(name));
        let open = window(text).is_open_at(instant, &zone);
        let local = zone.to_datetime(instant).strftime("%a %H:%M").to_string();
        let own = format!("{local} {}", i32::from(open));
        if own != *answer {
            mismatches.push(format!("{text} in {name} at {instant}: {own}, by Python {answer}"));
        }
        open_count += usize::from(open);
    }
    println!("{} instants, {open_count} of them open, {} mismatches", questions.len(), mismatches.len());
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
    assert!(RANDOM_INSTANTS + 1_000 < questions.len(), "{} instants", questions.len());
    assert!(questions.len() / 5 < open_count && open_count < questions.len() * 4 / 5, "{open_count} are open");
}

fn span() -> impl Strategy<Value = String> {
    let days = prop_oneof![
        Just(String::new()),
        (0_usize..7, 0_usize..7).prop_map(|(a, b)| format!("{}-{} ", DAYS[a], DAYS[b])),
        (0_usize..7, 0_usize..7).prop_map(|(a, b)| format!("{},{} ", DAYS[a], DAYS[b])),
    ];
    (days, 0_u16..1_440, 1_u16..1_440).prop_map(|(days, begin, length)| {
        let end = (begin + length) % 1_440;
        format!("{days}{:02}:{:02}-{:02}:{:02}", begin / 60, begin % 60, end / 60, end % 60)
    })
}

proptest! {
    #[test]
    fn many_spans_are_open_where_any_of_them_is(spans in proptest::collection::vec(span(), 1..5), minute in 0_i16..10_080) {
        let whole = Window::parse(&spans).unwrap();
        let day = Weekday::from_monday_zero_offset((minute / 1_440) as i8).unwrap();
        let (hour, minute) = ((minute % 1_440 / 60) as u8, (minute % 60) as u8);
        let any = spans.iter().any(|span| window(span).is_open(day, hour, minute));
        prop_assert_eq!(whole.is_open(day, hour, minute), any);
        // Neighbours were merged: between two spans there is a closed minute.
        prop_assert!(whole.open.iter().all(|(begin, end)| begin < end && *end <= WEEK_MINUTES));
        prop_assert!(whole.open.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn nothing_changes_before_the_next_change(span in span(), second in 0_i64..3_000_000_000, at in 0_usize..6, part in 0_i64..1_000) {
        let (window, zone) = (window(&span), zone(ZONES[at]));
        let from = Timestamp::from_second(second).unwrap();
        let change = window.next_change(from, &zone).unwrap();
        let open = window.is_open_at(from, &zone);
        prop_assert!(from < change);
        prop_assert_ne!(window.is_open_at(change, &zone), open);
        let within = second + (change.as_second() - second - 1) * part / 999;
        prop_assert_eq!(window.is_open_at(Timestamp::from_second(within).unwrap(), &zone), open);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[MonSatu,-]{0,8} ?[0-9:-]{0,12}é?") {
        let _ = Window::parse(&[text]);
    }
}

#[test]
fn an_end_is_where_so_many_seconds_have_been_open() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    // 2026-11-23 is a Monday.
    for (text, open, begin, end) in [
        ("", 5, "2026-11-23T12:00Z", "2026-11-23T17:00Z"),
        ("", 24 * 365, "2026-11-23T12:00Z", "2027-11-23T12:00Z"),
        ("20:00-07:00", 1, "2026-11-23T12:00Z", "2026-11-23T21:00Z"),
        ("20:00-07:00", 11, "2026-11-23T12:00Z", "2026-11-24T07:00Z"),
        ("20:00-07:00", 12, "2026-11-23T12:00Z", "2026-11-24T21:00Z"),
        ("20:00-07:00", 3, "2026-11-23T06:00Z", "2026-11-23T22:00Z"),
        ("20:00-07:00", 77, "2026-11-23T12:00Z", "2026-11-30T07:00Z"),
        ("20:00-07:00", 770, "2026-11-23T12:00Z", "2027-02-01T07:00Z"),
        ("Sat-Sun 00:00-24:00", 49, "2026-11-23T12:00Z", "2026-12-05T01:00Z"),
        ("20:00-07:00", 0, "2026-11-23T12:00Z", "2026-11-23T20:00Z"),
    ] {
        let reached = window(text).end_of(hours(open), begin.parse().unwrap(), &TimeZone::UTC);
        assert_eq!(reached, Some(end.parse().unwrap()), "{text} {open} h from {begin}");
    }
    assert_eq!(window("Mon 00:00-00:01").end_of(Duration::MAX, Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
}
