//! Metrics in the OpenMetrics text format, for whoever watches many machines. Names and units follow its conventions:
//! bytes and seconds, counters end in `_total`.

use super::{
    live::{Live, STEPS},
    standing::{Pass, Standing},
};
use crate::fate::Trouble;
use jiff::Timestamp;
use std::fmt::{Display, Write};

/// What they are drawn from.
pub struct Facts<'a> {
    pub live: &'a Live,
    pub standings: &'a [Standing],
    pub staging_used: u64,
    pub staging_cap: u64,
    pub now: Timestamp,
}

/// The whole text, with its end mark.
pub fn render(facts: &Facts<'_>) -> String {
    let mut text = Text::default();
    text.family("archiver_build", "info", "The version that runs.");
    text.sample("archiver_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let snapshot = facts.live.snapshot();
    text.family("archiver_stage_bytes", "counter", "Bytes of input that a stage has worked through since the start.");
    for (step, moved) in STEPS.iter().zip(facts.live.moved()) {
        text.sample("archiver_stage_bytes_total", &[("stage", step.as_str())], moved);
    }
    text.family("archiver_stage_pieces", "gauge", "Pieces that a stage works on.");
    for (stage, told) in &snapshot.stages {
        text.sample("archiver_stage_pieces", &[("stage", stage)], told.pieces.len());
    }
    text.gauge("archiver_staging_bytes", "Allocated blocks of everything in staging.", facts.staging_used);
    text.gauge("archiver_staging_cap_bytes", "What they never exceed.", facts.staging_cap);
    let last = facts.now.as_second() - i64::try_from(facts.live.still_for().as_secs()).unwrap_or(0);
    text.gauge("archiver_last_progress_timestamp_seconds", "When anything moved last, or the start.", last);
    text.family("archiver_trouble", "gauge", "1 while there is trouble of that kind.");
    for kind in Trouble::ALL.map(Trouble::as_str) {
        let is_there = snapshot.troubles.iter().any(|told| told.kind == kind);
        text.sample("archiver_trouble", &[("kind", kind)], u8::from(is_there));
    }
    let refused = u8::from(snapshot.refused.is_some());
    text.gauge("archiver_configuration_refused", "1 while the configuration on disk was refused.", refused);
    text.gauge("archiver_paused", "How much an operator has paused.", snapshot.paused.len());
    let waits = u8::from(snapshot.window_opens.is_some());
    text.gauge("archiver_waits_for_window", "1 while uploads wait for their hours.", waits);
    text.family("archiver_source_held", "gauge", "1 while a source is held or gives no answer.");
    for standing in facts.standings {
        let held = u8::from(snapshot.sources.contains_key(&standing.source));
        text.sample("archiver_source_held", &[("source", &standing.source)], held);
    }
    passes(&mut text, facts.standings);
    text.0 += "# EOF\n";
    text.0
}

/// A figure of a pass.
type Get = fn(&Pass) -> u64;

fn passes(text: &mut Text, standings: &[Standing]) {
    let all: Vec<(&str, &Pass)> =
        standings.iter().filter_map(|standing| Some((standing.source.as_str(), standing.pass.as_ref()?))).collect();
    let of = |text: &mut Text, name: &str, label: &str, kinds: &[(&str, Get)]| {
        for (source, pass) in &all {
            for (kind, get) in kinds {
                text.sample(name, &[("source", source), (label, kind)], get(pass));
            }
        }
    };
    text.family("archiver_pieces", "gauge", "Pieces of the last pass by the shelf on which they are.");
    of(
        text,
        "archiver_pieces",
        "state",
        &[
            ("packed", |pass| pass.pieces.packed),
            ("compressed", |pass| pass.pieces.compressed),
            ("sealed", |pass| pass.pieces.sealed),
            ("delivered", |pass| pass.pieces.delivered),
            ("retired", |pass| pass.pieces.retired),
        ],
    );
    text.family("archiver_entries", "gauge", "Entries of the last pass.");
    of(
        text,
        "archiver_entries",
        "what",
        &[("seen", |pass| pass.seen), ("archived", |pass| pass.archived), ("lost", |pass| pass.lost)],
    );
    text.family(
        "archiver_pass_bytes",
        "gauge",
        "Bytes of the last pass: as tar, sealed, and as tar of what is delivered.",
    );
    of(
        text,
        "archiver_pass_bytes",
        "form",
        &[
            ("tar", |pass| pass.tar_bytes),
            ("sealed", |pass| pass.sealed_bytes),
            ("delivered", |pass| pass.delivered_bytes),
        ],
    );
    let mut times = |name: &str, help: &str, get: fn(&Pass) -> Option<Timestamp>| {
        text.family(name, "gauge", help);
        for (source, pass) in &all {
            if let Some(at) = get(pass) {
                text.sample(name, &[("source", source)], at.as_second());
            }
        }
    };
    let help = "When the piece was packed that waits longest for the vault.";
    times("archiver_oldest_undelivered_timestamp_seconds", help, |pass| Some(pass.oldest.as_ref()?.packed_at));
    times("archiver_pass_ended_timestamp_seconds", "When the last pass ended, if it has.", |pass| pass.ended);
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Memory takes everything, here and below.
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::{Monitor, Notice, Step};

    #[test]
    fn a_text_has_all_families_once_and_an_end() {
        let live = Live::default();
        live.progress(Step::Upload, 500);
        live.notice(&Notice::Trouble { trouble: Trouble::Vault, what: "No route".into(), retry_in: None });
        live.notice(&Notice::PassHeld { source: "data".into(), why: "gone".into() });
        let standing =
            |source: &str| Standing { source: source.into(), path: "/".into(), state: "waiting", pass: None };
        let standings = [standing("data"), standing("other")];
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1000);
        let text = render(&Facts { live: &live, standings: &standings, staging_used: 5, staging_cap: 9, now });
        for line in [
            "archiver_stage_bytes_total{stage=\"upload\"} 500",
            "archiver_staging_bytes 5",
            "archiver_trouble{kind=\"vault\"} 1",
            "archiver_trouble{kind=\"keys\"} 0",
            "archiver_source_held{source=\"data\"} 1",
            "archiver_source_held{source=\"other\"} 0",
            "archiver_last_progress_timestamp_seconds 1000",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}: {text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        let mut families: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.sample("a", &[("b", "c\\d\"e\nf")], 1);
        assert_eq!(text.0, "a{b=\"c\\\\d\\\"e\\nf\"} 1\n");
    }
}
