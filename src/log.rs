//! The log: one line with structured fields for every happening, drawn from the same [`Notice`]s as mail and
//! status. Lines go to stderr, or to the journal with fields of their own when that is where stderr leads.
//!
//! INFO: nothing to do. WARN: nothing to do yet. ERROR: an operator must act, or data was lost.

use crate::{
    notice::{Monitor, Notice, Severity},
    units::ByteSize,
};
use std::{sync::Arc, time::Duration};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Begins logging, for the rest of the process. `level`: `error`, `warn`, `info`, `debug` or `trace`.
pub fn init(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    // systemd sets it when stderr is a stream to the journal.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    // A second call changes nothing; tests of commands may make it.
    let _ = match journal {
        Some(journal) => registry.with(journal.with_field_prefix(None)).try_init(),
        None => registry
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false))
            .try_init(),
    };
}

/// Draws log lines from notices.
pub struct LogMonitor;

fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Bytes per second as text; of nothing measurable, nothing.
fn rate(len: u64, took: Duration) -> String {
    let per_second = len as f64 / took.as_secs_f64().max(0.001);
    format!("{}/s", ByteSize(per_second as u64))
}

impl Monitor for LogMonitor {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Started { version } => tracing::info!(version, "Started"),
            Notice::Stopping { why } => tracing::info!(why, "Stopping"),
            Notice::PassStarted { source, pass, resumed } => tracing::info!(source, pass, resumed, "Pass under way"),
            Notice::PassHeld { source, why } => tracing::error!(source, why, "Pass held"),
            Notice::PassEnded { source, pass, pieces, entries, archived, lost, clean } => {
                if *clean {
                    tracing::info!(source, pass, pieces, entries, archived, lost, "Pass ended");
                } else {
                    tracing::error!(source, pass, pieces, entries, archived, lost, "Pass ended with losses");
                }
            }
            Notice::EntryException { source, exception } => {
                let (path, reason, detail) = (exception.path.display(), exception.reason.as_str(), &exception.detail);
                match exception.severity() {
                    Severity::Info => tracing::info!(source, path, reason, detail, "Entry not clean"),
                    Severity::Loss => tracing::warn!(source, path, reason, detail, "Entry lost or damaged"),
                }
            }
            Notice::StepStarted { step, piece, len, resumed_at } => {
                tracing::info!(stage = step.as_str(), piece = %piece, bytes = len, resumed_at, "Step started");
            }
            Notice::StepEnded { step, piece, input_len, output_len, took } => tracing::info!(
                stage = step.as_str(),
                piece = %piece,
                input_bytes = input_len,
                output_bytes = output_len,
                seconds = seconds(*took),
                rate = rate(*input_len, *took),
                "Step ended"
            ),
            Notice::PieceRotten { piece, why } => tracing::error!(piece = %piece, why, "Piece rotten, making it again"),
            Notice::WaitingForSpace { step, wanted, free } => {
                tracing::info!(stage = step.as_str(), wanted, free, "Waiting for room in staging");
            }
            Notice::WaitingForWindow { opens } => tracing::info!(opens, "Waiting for the upload window"),
            Notice::Trouble { trouble, what, retry_in } => match retry_in {
                Some(wait) => tracing::warn!(trouble = trouble.as_str(), what, retry_in = seconds(*wait), "Will retry"),
                None => tracing::error!(trouble = trouble.as_str(), what, "Cannot go on"),
            },
            Notice::Recovered { trouble } => tracing::info!(trouble = trouble.as_str(), "Recovered"),
        }
    }
}

/// Passes everything on to several listeners.
pub struct Fan(pub Vec<Arc<dyn Monitor>>);

impl Monitor for Fan {
    fn notice(&self, notice: &Notice) {
        for monitor in &self.0 {
            monitor.notice(notice);
        }
    }

    fn progress(&self, step: crate::notice::Step, bytes: u64) {
        for monitor in &self.0 {
            monitor.progress(step, bytes);
        }
    }
}
