//! What `status` says, for people: drawn from what it says for programs.

use crate::units::ByteSize;
use jiff::{SpanRound, Timestamp, Unit, tz::TimeZone};
use serde_json::Value;
use std::fmt::Write;

const BAR_LEN: u64 = 20;

pub fn of(status: &Value) -> String {
    let mut out = String::new();
    let running = if status["running"] == true { "running" } else { "not running" };
    let staging = &status["staging"];
    line(&mut out, format_args!("archiver is {running}; staging holds {}", share(&staging["used"], &staging["cap"])));
    if let Some(why) = status["settings_refused"].as_str() {
        let what = "The configuration that was read last is refused, the one before holds:";
        line(&mut out, format_args!("{what}\n{why}"));
    }
    let paused = texts(&status["paused"]).collect::<Vec<_>>();
    if !paused.is_empty() {
        line(&mut out, format_args!("Paused: {} (archiver resume)", paused.join(", ")));
    }
    if status["drill_due"] == true {
        let what = match status["drill"].as_str() {
            Some(last) => format!("The last drill was on {}", &last[..last.len().min(10)]),
            None => "No drill has shown yet that the secret key opens what is in the vault".to_owned(),
        };
        line(&mut out, format_args!("{what}: it is time for one (archiver drill)"));
    }
    out += &of_daemon(&status["daemon"]);
    for source in status["sources"].as_array().into_iter().flatten() {
        out.push('\n');
        of_source(&mut out, source);
    }
    out
}

/// What only the daemon itself knows.
pub fn of_daemon(daemon: &Value) -> String {
    let (mut out, now) = (String::new(), &daemon["now"]);
    if let Some(wrong) = daemon["file"]["wrong"].as_str() {
        line(&mut out, format_args!("The configuration as it is now would be refused:\n{wrong}"));
    }
    for change in texts(&daemon["file"]["changes"]) {
        line(&mut out, format_args!("Not in force before a reload: {change}"));
    }
    for change in texts(&daemon["file"]["restart"]) {
        line(&mut out, format_args!("Not in force before a restart: {change}"));
    }
    for (stage, told) in now["stages"].as_object().into_iter().flatten() {
        for piece in told["pieces"].as_array().into_iter().flatten() {
            let (name, bar) = (text(&piece["piece"]), share(&piece["done"], &piece["bytes"]));
            line(&mut out, format_args!("  {stage:9} {bar}, {}/s  {name}", bytes(&told["rate"])));
        }
    }
    for (what, key) in [("The slowest step now", "bottleneck"), ("The window opens", "window_opens")] {
        if let Some(told) = now[key].as_str() {
            line(&mut out, format_args!("{what}: {told}"));
        }
    }
    if let Some(what) = now["trouble"]["what"].as_str() {
        line(&mut out, format_args!("Trouble with {}: {what}", text(&now["trouble"]["kind"])));
    }
    for (source, what) in now["sources"].as_object().into_iter().flatten() {
        line(&mut out, format_args!("{source}: {}", text(what)));
    }
    out
}

fn of_source(out: &mut String, source: &Value) {
    let name = text(&source["source"]);
    if source["pass"].is_null() {
        return line(out, format_args!("{name}: no pass yet"));
    }
    let (pass, state, position) = (text(&source["pass"]), text(&source["state"]), text(&source["position"]));
    line(out, format_args!("{name}: pass {pass} {state}, at {position}"));
    let of = |key: &str| &source["pieces"][key];
    line(
        out,
        format_args!(
            "  pieces     {} packed, {} compressed, {} sealed, {} delivered, {} made again",
            of("packed"),
            of("compressed"),
            of("sealed"),
            of("delivered"),
            of("retired")
        ),
    );
    let (seen, archived, lost) = (&source["seen"], &source["archived"], &source["lost"]);
    line(out, format_args!("  entries    {seen} seen, {archived} archived, {lost} lost or damaged"));
    let (tar, sealed) = (bytes(&source["tar_bytes"]), bytes(&source["sealed_bytes"]));
    line(out, format_args!("  size       {tar} as tar, {sealed} sealed"));
    if source["state"] != "ended" {
        line(out, format_args!("  delivered  {}", share(&source["delivered_bytes"], &source["tar_bytes"])));
    }
    if let Some(at) = time(&source["oldest"]["packed_at"]) {
        let (piece, age) = (text(&source["oldest"]["piece"]), age(at, Timestamp::now()));
        line(out, format_args!("  waiting    {age} for the vault, the longest: {piece}"));
    }
    if let (Some(earliest), Some(latest)) = (time(&source["eta"]["earliest"]), time(&source["eta"]["latest"])) {
        let zone = TimeZone::system();
        let local = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%a %F %H:%M").to_string();
        let guess = if source["eta"]["is_guess"] == true { ", if it is as much as the pass before" } else { "" };
        line(out, format_args!("  done       between {} and {}{guess}", local(earliest), local(latest)));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Memory takes everything.
    let _ = writeln!(out, "{text}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn bytes(value: &Value) -> String {
    ByteSize(value.as_u64().unwrap_or(0)).to_string()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// As a bar, in percent and in bytes.
fn share(done: &Value, all: &Value) -> String {
    let [done_len, all_len] = [done, all].map(|value| value.as_u64().unwrap_or(0));
    let of = |whole: u64| (u128::from(done_len) * u128::from(whole) / u128::from(all_len.max(1))).min(whole.into());
    let (filled, percent) = (of(BAR_LEN) as usize, of(100));
    let bar = "=".repeat(filled) + &" ".repeat(BAR_LEN as usize - filled);
    format!("[{bar}] {percent:3} % of {}", bytes(all))
}

/// In words, with the two largest units.
fn age(then: Timestamp, now: Timestamp) -> String {
    let unit = if now.duration_since(then).as_hours() < 48 { Unit::Minute } else { Unit::Hour };
    let span = now
        .since(then)
        .and_then(|span| span.round(SpanRound::new().smallest(unit).largest(Unit::Day).days_are_24_hours()));
    span.map_or_else(|_| "some time".to_owned(), |span| format!("{span:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_share_is_a_bar() {
        assert_eq!(share(&json!(1), &json!(4)), format!("[{}{}]  25 % of 4 B", "=".repeat(5), " ".repeat(15)));
        assert_eq!(share(&json!(9), &json!(4)), format!("[{}] 100 % of 4 B", "=".repeat(20)));
        assert_eq!(share(&json!(0), &json!(0)), format!("[{}]   0 % of 0 B", " ".repeat(20)));
    }

    #[test]
    fn an_age_has_the_units_that_matter() {
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_mins(minutes);
        assert_eq!(age(at(0), at(125)), "2h 5m");
        assert_eq!(age(at(0), at(3 * 24 * 60 + 61)), "3d 1h");
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let status = json!({
            "running": true,
            "staging": { "used": 1, "cap": 2 },
            "settings_refused": "line 3",
            "paused": ["stage upload"],
            "daemon": {
                "file": { "changes": ["a"], "restart": ["b"] },
                "now": { "trouble": { "kind": "vault", "what": "No route" }, "sources": { "data": "held: gone" } },
            },
            "sources": [{
                "source": "data", "pass": "20261120T200000Z", "state": "walking", "position": "a/b",
                "pieces": { "packed": 1 }, "tar_bytes": 4, "delivered_bytes": 1,
                "oldest": { "piece": "data.1", "packed_at": "2026-01-01T00:00:00Z" },
                "eta": { "earliest": "2026-01-02T00:00:00Z", "latest": "2026-01-03T00:00:00Z", "is_guess": true },
            }],
        });
        let said = of(&status);
        for told in [
            "is running",
            " 50 % of 2 B",
            "line 3",
            "Paused: stage upload",
            "reload: a",
            "restart: b",
            "Trouble with vault: No route",
            "data: held: gone",
            "walking, at a/b",
            "1 packed",
            " 25 % of 4 B",
            "the longest: data.1",
            "2026-01-0",
            "if it is as much as the pass before",
        ] {
            assert!(said.contains(told), "{told}: {said}");
        }
    }
}
