//! Progress on a terminal: one bar for each stage that has a piece in hand.

use crate::notice::{Monitor, Notice, Step};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

pub struct Bars {
    all: MultiProgress,
    steps: Mutex<HashMap<Step, ProgressBar>>,
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
                let bar = self.all.add(Bars::bar(*step, &piece.to_string(), *len));
                bar.set_position(*resumed_at);
                if let Some(old) = steps.insert(*step, bar) {
                    old.finish_and_clear();
                }
            }
            Notice::StepEnded { step, .. } => {
                if let Some(bar) = steps.remove(step) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    fn progress(&self, step: Step, bytes: u64) {
        if let Some(bar) = self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(&step) {
            bar.inc(bytes);
        }
    }
}
