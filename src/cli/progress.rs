//! Progress on a terminal: one bar for each stage that has pieces in hand, or one for what a command reads.

use crate::notice::{Monitor, Notice, Step};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::{BTreeSet, HashMap},
    io::{IsTerminal, stderr},
    sync::{Mutex, PoisonError},
};

/// One bar over so many bytes, on a terminal; without an end where nobody knows it.
pub fn bytes(is_hidden: bool, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "[{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {msg}",
        None => "{spinner} {bytes:>10} {bytes_per_sec:>12} {msg}",
    };
    drawn(is_hidden, total, template)
}

/// One bar over so many things, on a terminal.
pub fn count(is_hidden: bool, total: u64, template: &str) -> ProgressBar {
    drawn(is_hidden, Some(total), template)
}

fn drawn(is_hidden: bool, total: Option<u64>, template: &str) -> ProgressBar {
    if is_hidden || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(style.progress_chars("=> "))
}

pub struct Bars {
    all: MultiProgress,
    steps: Mutex<HashMap<Step, InHand>>,
}

/// What a stage is at: several pieces where it works on them side by side, and then the bar is about all of them.
struct InHand {
    bar: ProgressBar,
    pieces: BTreeSet<String>,
}

impl Bars {
    pub fn new() -> Bars {
        Bars { all: MultiProgress::new(), steps: Mutex::default() }
    }

    fn bar(step: Step, piece: &str, len: u64) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "{prefix:>8} [{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(len)
            .with_style(style.progress_chars("=> "))
            .with_prefix(step.as_str())
            .with_message(piece.to_owned())
    }
}

impl Default for Bars {
    fn default() -> Bars {
        Bars::new()
    }
}

impl Monitor for Bars {
    fn notice(&self, notice: &Notice) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Notice::StepStarted { step, piece, len, resumed_at } => {
                let id = piece.id();
                match steps.get_mut(step) {
                    // Also the one that failed and begins again, when it is not the only one.
                    Some(hand) if hand.pieces.iter().any(|other| *other != id) => {
                        if hand.pieces.insert(id) {
                            hand.bar.inc_length(*len);
                            hand.bar.inc(*resumed_at);
                        }
                        hand.bar.set_message(piece.to_string());
                    }
                    _ => {
                        let bar = self.all.add(Bars::bar(*step, &piece.to_string(), *len));
                        bar.set_position(*resumed_at);
                        if let Some(old) = steps.insert(*step, InHand { bar, pieces: BTreeSet::from([id]) }) {
                            old.bar.finish_and_clear();
                        }
                    }
                }
            }
            Notice::StepEnded { step, piece, .. } => {
                if let Some(hand) = steps.get_mut(step) {
                    hand.pieces.remove(&piece.id());
                    if hand.pieces.is_empty() {
                        hand.bar.finish_and_clear();
                        steps.remove(step);
                    }
                }
            }
            _ => {}
        }
    }

    fn progress(&self, step: Step, bytes: u64) {
        if let Some(hand) = self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(&step) {
            hand.bar.inc(bytes);
        }
    }
}
