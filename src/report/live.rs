//! What is going on right now, for whoever asks a running daemon: drawn from the same notices as log and mails.

use crate::{
    fate::Trouble,
    notice::{Monitor, Notice, Step},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(super) const STEPS: [Step; 4] = [Step::Pack, Step::Compress, Step::Encrypt, Step::Upload];
/// Rates are over about so long.
const RATE_OVER: Duration = Duration::from_secs(60);
/// No more samples than this are kept; one is taken when somebody asks, and when something is told.
const SAMPLES_MAX: usize = 64;
/// Characters of a line that a terminal may have to show.
const HEADLINE_MAX: usize = 300;
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Listens, and remembers what holds now. Memory is bounded by pieces in hand and sources.
pub struct Live {
    began: Instant,
    /// Bytes of input that each step has worked through, ever.
    moved: [AtomicU64; STEPS.len()],
    /// When that was, in milliseconds after `began`.
    moved_at: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    in_hand: BTreeMap<(Step, String), InHand>,
    /// What keeps a source: held, standing still.
    kept: BTreeMap<String, String>,
    /// When the window opens, and what uploads had moved when it was waited for.
    opens: Option<(String, u64)>,
    waits_for_room: bool,
    troubles: BTreeMap<Trouble, String>,
    paused: Vec<String>,
    /// Why the configuration was refused that was read last.
    refused: Option<String>,
    /// How the configuration file is another than what holds, and what to do.
    differs: Option<String>,
    samples: VecDeque<(Duration, [u64; STEPS.len()])>,
}

struct InHand {
    piece: String,
    len: u64,
    /// What its step had moved when it began, less what was behind it already.
    moved: u64,
}

/// Trouble that is not over.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    pub(super) kind: &'static str,
    what: String,
}

/// As [`Live::snapshot`] tells it; the answer to `status` on the control socket.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    pub(super) stages: BTreeMap<&'static str, Stage>,
    /// The step that the others wait for, if any is at work.
    pub(super) bottleneck: Option<&'static str>,
    pub(super) sources: BTreeMap<String, String>,
    pub(super) window_opens: Option<String>,
    pub(super) waits_for_room: bool,
    /// One of those, if any.
    pub(super) trouble: Option<Told>,
    pub(super) troubles: Vec<Told>,
    /// What an operator told to rest.
    pub(super) paused: Vec<String>,
    /// Why the configuration was refused that was read last.
    pub(super) refused: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Stage {
    /// Bytes of input per second over the last minute.
    pub(super) rate: u64,
    pub(super) pieces: Vec<InStage>,
}

#[derive(Debug, Serialize)]
pub(super) struct InStage {
    pub(super) piece: String,
    pub(super) bytes: u64,
    pub(super) done: u64,
}

fn index(step: Step) -> usize {
    STEPS.iter().position(|other| *other == step).expect("every step is in the list")
}

impl Default for Live {
    fn default() -> Live {
        Live { began: Instant::now(), moved: Default::default(), moved_at: AtomicU64::new(0), now: Mutex::default() }
    }
}

impl Live {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn moved(&self) -> [u64; STEPS.len()] {
        std::array::from_fn(|n| self.moved[n].load(Ordering::Relaxed))
    }

    /// How long nothing has moved.
    pub(super) fn still_for(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.moved_at.load(Ordering::Relaxed)))
    }

    pub fn snapshot(&self) -> Snapshot {
        let (moved, elapsed) = (self.moved(), self.began.elapsed());
        let mut now = self.now();
        now.sample(elapsed, moved);
        let rates = now.rates();
        let stages = STEPS.iter().enumerate().map(|(n, step)| {
            let in_hand = now.in_hand.iter().filter(|((of, _), _)| of == step);
            let pieces = in_hand.map(|(_, hand)| {
                // Where several are worked on side by side, each is told as far as all of them are.
                let done = moved[n].saturating_sub(hand.moved).min(hand.len);
                InStage { piece: hand.piece.clone(), bytes: hand.len, done }
            });
            (step.as_str(), Stage { rate: rates[n], pieces: pieces.collect() })
        });
        Snapshot {
            stages: stages.collect(),
            bottleneck: now.bottleneck(&moved),
            sources: now.kept.clone(),
            window_opens: now.opens(&moved),
            waits_for_room: now.waits_for_room,
            trouble: now.troubles().next(),
            troubles: now.troubles().collect(),
            paused: now.paused.clone(),
            refused: now.refused.clone(),
        }
    }

    /// All that matters in one line, the worst first.
    pub fn headline(&self) -> String {
        let moved = self.moved();
        let now = self.now();
        let mut parts = Vec::new();
        parts.extend(now.refused.as_ref().map(|why| format!("Configuration refused, the one before holds: {why}")));
        parts.extend(now.troubles().map(|told| format!("Degraded: {}: {}", told.kind, told.what)));
        parts.extend(now.differs.clone());
        parts.extend(now.kept.iter().map(|(source, why)| format!("{source}: {why}")));
        if !now.paused.is_empty() {
            parts.push(format!("Paused: {}", now.paused.join(", ")));
        }
        for step in STEPS {
            let mut pieces = now.in_hand.iter().filter(|((of, _), _)| *of == step).map(|(_, hand)| hand.piece.as_str());
            if let Some(first) = pieces.next() {
                let more = pieces.count();
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                parts.push(format!("{} {first}{more}", step.as_str()));
            }
        }
        parts.extend(now.opens(&moved).map(|opens| format!("the window opens {opens}")));
        let line = if parts.is_empty() { "Idle".to_owned() } else { parts.join("; ") };
        let line = line.replace('\n', "; ");
        match line.char_indices().nth(HEADLINE_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

impl Now {
    fn troubles(&self) -> impl Iterator<Item = Told> {
        self.troubles.iter().map(|(trouble, what)| Told { kind: trouble.as_str(), what: what.clone() })
    }

    fn sample(&mut self, at: Duration, moved: [u64; STEPS.len()]) {
        if self.samples.back().is_none_or(|(last, _)| SAMPLE_EVERY <= at.saturating_sub(*last)) {
            self.samples.push_back((at, moved));
        }
        while self.samples.len() > SAMPLES_MAX
            || self.samples.len() > 2 && RATE_OVER < at.saturating_sub(self.samples[1].0)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes per second of each step, from the first sample that is kept to the last.
    fn rates(&self) -> [u64; STEPS.len()] {
        let (Some((from, before)), Some((to, after))) = (self.samples.front(), self.samples.back()) else {
            return Default::default();
        };
        let seconds = to.saturating_sub(*from).as_secs_f64();
        std::array::from_fn(|n| if seconds > 0.0 { ((after[n] - before[n]) as f64 / seconds) as u64 } else { 0 })
    }

    /// When the window opens, if nothing was sent since it was waited for.
    fn opens(&self, moved: &[u64; STEPS.len()]) -> Option<String> {
        self.opens.as_ref().filter(|(_, before)| *before == moved[index(Step::Upload)]).map(|(opens, _)| opens.clone())
    }

    /// The farthest step at work: what is before it waits for it as soon as staging is full.
    fn bottleneck(&self, moved: &[u64; STEPS.len()]) -> Option<&'static str> {
        if self.waits_for_room && self.opens(moved).is_some() {
            return Some("window");
        }
        let at_work = |step: &&Step| self.in_hand.keys().any(|(of, _)| of == *step);
        STEPS.iter().rev().find(at_work).map(|step| step.as_str())
    }
}

impl Monitor for Live {
    fn notice(&self, notice: &Notice) {
        let (moved, elapsed) = (self.moved(), self.began.elapsed());
        let mut now = self.now();
        now.sample(elapsed, moved);
        match notice {
            Notice::StepStarted { step, piece, len, resumed_at } => {
                let moved = moved[index(*step)].saturating_sub(*resumed_at);
                let hand = InHand { piece: piece.to_string(), len: *len, moved };
                now.in_hand.insert((*step, piece.id()), hand);
                now.waits_for_room &= *step != Step::Pack;
            }
            Notice::StepEnded { step, piece, .. } => drop(now.in_hand.remove(&(*step, piece.id()))),
            Notice::PieceRotten { piece, .. } => now.in_hand.retain(|(_, id), _| *id != piece.id()),
            Notice::PassHeld { source, why } => drop(now.kept.insert(source.clone(), format!("held: {why}"))),
            Notice::StandsStill { source, path, since } => {
                let what = format!("{} gives no answer since {since}", path.display());
                now.kept.insert(source.clone(), what);
            }
            Notice::GoesOn { source, .. }
            | Notice::PassStarted { source, .. }
            | Notice::PassEnded { source, .. }
            | Notice::NothingDue { source, .. } => drop(now.kept.remove(source)),
            Notice::WaitingForSpace { .. } => now.waits_for_room = true,
            Notice::WaitingForWindow { opens } => {
                now.opens = Some((opens.clone(), moved[index(Step::Upload)]));
            }
            Notice::Trouble { trouble, what, .. } => {
                now.troubles.insert(*trouble, what.clone());
            }
            Notice::Recovered { trouble } => {
                now.troubles.remove(trouble);
            }
            Notice::Paused { parts } => now.paused.clone_from(parts),
            Notice::SettingsDiffer { how, remedy } => {
                now.differs = Some(format!("The configuration file is not what holds: {remedy} ({how})"));
            }
            Notice::SettingsAgree => now.differs = None,
            Notice::SettingsRefused { why } => (now.refused, now.differs) = (Some(why.clone()), None),
            Notice::SettingsTaken { .. } => (now.refused, now.differs) = (None, None),
            Notice::Started { .. }
            | Notice::Stopping { .. }
            | Notice::EntryException { .. }
            | Notice::LeftBehind { .. }
            | Notice::Silent { .. }
            | Notice::CatalogBehind { .. }
            | Notice::CatalogCaughtUp { .. } => {}
        }
    }

    fn progress(&self, step: Step, bytes: u64) {
        self.moved[index(step)].fetch_add(bytes, Ordering::Relaxed);
        self.moved_at.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(live: &Live) -> serde_json::Value {
        serde_json::to_value(live.snapshot()).unwrap()
    }

    #[test]
    fn it_tells_what_is_in_hand_what_is_waited_for_and_what_is_wrong() {
        let live = Live::default();
        let piece: crate::name::PieceName = "data.20261120T200000Z.000017-x".parse().unwrap();
        live.progress(Step::Upload, 500);
        live.notice(&Notice::StepStarted { step: Step::Upload, piece: piece.clone(), len: 1000, resumed_at: 100 });
        live.progress(Step::Upload, 50);
        let now = told(&live);
        assert_eq!(
            now["stages"]["upload"]["pieces"],
            json!([{ "piece": piece.to_string(), "bytes": 1000, "done": 150 }])
        );
        assert_eq!((&now["bottleneck"], &now["trouble"]), (&json!("upload"), &json!(null)));

        live.notice(&Notice::WaitingForSpace { step: Step::Pack, wanted: 2, free: 1 });
        live.notice(&Notice::WaitingForWindow { opens: "Fri 20:00".into() });
        live.notice(&Notice::PassHeld { source: "data".into(), why: "not mounted".into() });
        live.notice(&Notice::Trouble { trouble: Trouble::Vault, what: "No route".into(), retry_in: None });
        live.notice(&Notice::Recovered { trouble: Trouble::Keys });
        let now = told(&live);
        assert_eq!((&now["bottleneck"], &now["window_opens"]), (&json!("window"), &json!("Fri 20:00")));
        assert_eq!(now["sources"], json!({ "data": "held: not mounted" }));
        assert_eq!(now["trouble"], json!({ "kind": "vault", "what": "No route" }));

        live.progress(Step::Upload, 1);
        live.notice(&Notice::StepEnded {
            step: Step::Upload,
            piece,
            input_len: 1000,
            output_len: 1000,
            took: Duration::ZERO,
        });
        live.notice(&Notice::Recovered { trouble: Trouble::Vault });
        live.notice(&Notice::PassStarted { source: "data".into(), pass: String::new(), resumed: true });
        let now = told(&live);
        assert_eq!(now["stages"]["upload"]["pieces"], json!([]));
        for none in ["bottleneck", "window_opens", "trouble"] {
            assert_eq!(now[none], json!(null), "{none}");
        }
        assert_eq!(now["sources"], json!({}));
    }

    #[test]
    fn the_headline_says_what_matters_first() {
        let live = Live::default();
        assert_eq!(live.headline(), "Idle");
        let piece: crate::name::PieceName = "data.20261120T200000Z.000017-x".parse().unwrap();
        live.notice(&Notice::StepStarted { step: Step::Upload, piece: piece.clone(), len: 1000, resumed_at: 0 });
        assert_eq!(live.headline(), format!("upload {piece}"));
        live.notice(&Notice::Paused { parts: vec!["stage pack".into()] });
        live.notice(&Notice::Trouble { trouble: Trouble::Vault, what: "No route".into(), retry_in: None });
        live.notice(&Notice::SettingsRefused { why: "line 3\nline 4".into() });
        let refused = "Configuration refused, the one before holds: line 3; line 4; ";
        let rest = format!("Degraded: vault: No route; Paused: stage pack; upload {piece}");
        assert_eq!(live.headline(), format!("{refused}{rest}"));
        live.notice(&Notice::SettingsTaken { changes: Vec::new(), restart: Vec::new() });
        assert_eq!(live.headline(), rest);
        live.notice(&Notice::SettingsDiffer { how: "upload.window".into(), remedy: "mend it" });
        let differs = "; The configuration file is not what holds: mend it (upload.window); Paused: ";
        assert!(live.headline().contains(differs), "{}", live.headline());
        live.notice(&Notice::SettingsAgree);
        assert_eq!(live.headline(), rest);
        live.notice(&Notice::SettingsRefused { why: "ä".repeat(1000) });
        assert_eq!(live.headline().chars().count(), HEADLINE_MAX + 1);
    }

    #[test]
    fn rates_are_over_the_last_minute() {
        let mut now = Now::default();
        for second in 0..500 {
            now.sample(Duration::from_secs(second), [second.min(400) * 1000, second * 7, 0, 0]);
        }
        assert_eq!(now.rates()[1..], [7, 0, 0]);
        assert!(now.samples.len() <= SAMPLES_MAX);
        assert_eq!(now.rates()[0], 0, "Nothing has moved for longer than that");
    }
}
