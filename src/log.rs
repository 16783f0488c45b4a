//! The log: one line with structured fields for every happening, drawn from the same [`Notice`]s as mail and
//! status. Lines go to stderr, or to the journal with fields of their own when that is where stderr leads.
//!
//! INFO: nothing to do. WARN: nothing to do yet. ERROR: an operator must act, or data was lost.

use crate::{
    notice::{Exception, Monitor, Notice, SettingChange, Severity},
    panics::{self, Panicked},
    units::ByteSize,
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tracing::field::display;
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Draws log lines from notices.
#[derive(Clone, Copy)]
pub enum LogMonitor {
    /// Fields are seen beside the message.
    Lines,
    /// Fields are kept, but `journalctl` shows the message alone, so that says them as well.
    Journal,
}

/// The level of everything that is not ours: what matters of it comes back to us as an error, and is told by us.
const LIBRARIES: &str = "error";

/// The filter of the process's log, to change it.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn filter(level: &str) -> EnvFilter {
    // What libraries have to say is for whoever looks for a defect; some of them say which keys they found.
    let own = format!("{},{}={level}", LIBRARIES, env!("CARGO_CRATE_NAME"));
    EnvFilter::try_new(own).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Logs at another level from now on.
pub fn set_level(level: &str) {
    if let Some(handle) = FILTER.get() {
        // It fails only when the log is gone.
        let _ = handle.reload(filter(level));
    }
}

/// Begins logging, for the rest of the process, panics included. `level`: `error`, `warn`, `info`, `debug` or `trace`.
pub fn init(level: &str) -> LogMonitor {
    let monitor = begin(level);
    panics::listen(move |panicked| monitor.panicked(panicked));
    monitor
}

fn begin(level: &str) -> LogMonitor {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let _ = FILTER.set(handle);
    // systemd sets it when stderr is a stream to the journal.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    // A second call changes nothing; tests of commands may make it.
    if let Some(journal) = journal {
        let _ = registry.with(journal.with_field_prefix(None)).try_init();
        return LogMonitor::Journal;
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let _ = registry.with(lines).try_init();
    LogMonitor::Lines
}

/// One line, with variables as its fields.
macro_rules! line {
    ($monitor:expr, $level:ident, $message:literal, $($name:ident),*) => {
        match $monitor {
            LogMonitor::Lines => tracing::$level!($($name,)* $message),
            LogMonitor::Journal => {
                let fields = [$(format!(" {}={:?}", stringify!($name), $name)),*].concat();
                tracing::$level!($($name,)* "{}{fields}", $message);
            }
        }
    };
}

fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Bytes per second as text; of nothing measurable, nothing.
fn rate(len: u64, took: Duration) -> String {
    let per_second = len as f64 / took.as_secs_f64().max(0.001);
    format!("{}/s", ByteSize(per_second as u64))
}

impl LogMonitor {
    fn not_clean(self, source: &str, exception: &Exception) {
        let (path, reason, detail) = (exception.path.display(), exception.reason.as_str(), &exception.detail);
        match exception.severity() {
            Severity::Info => line!(&self, info, "Entry not clean", source, path, reason, detail),
            Severity::Loss => line!(&self, warn, "Entry lost or damaged", source, path, reason, detail),
        }
    }

    fn settings_taken(self, changes: &[SettingChange], restart: &[String]) {
        for change in changes {
            let key = &change.key;
            let [old, new] = [&change.old, &change.new].map(|value| value.as_deref().unwrap_or("none"));
            if restart.contains(key) {
                line!(&self, warn, "Setting changes at the next start", key, old, new);
            } else {
                line!(&self, info, "Setting changed", key, old, new);
            }
        }
        let changed = changes.len() - restart.len();
        line!(&self, info, "Configuration taken", changed);
    }

    /// What and where, and no backtrace: finding names for one takes memory, and where there is none it may never end.
    fn panicked(self, Panicked { text, place, thread }: &Panicked) {
        line!(self, error, "Panicked", text, place, thread);
    }
}

impl Monitor for LogMonitor {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Started { version } => line!(self, info, "Started", version),
            Notice::Stopping { why } => line!(self, info, "Stopping", why),
            Notice::PassStarted { source, pass, resumed } => {
                line!(self, info, "Pass under way", source, pass, resumed);
            }
            Notice::PassHeld { source, why } => line!(self, error, "Pass held", source, why),
            Notice::NothingDue { source, last, next } => {
                let next = next.as_deref().unwrap_or("never, as repeat is not set");
                line!(self, info, "Nothing is due", source, last, next);
            }
            Notice::PassEnded { source, pass, pieces, entries, archived, lost, clean, .. } => {
                if *clean {
                    line!(self, info, "Pass ended", source, pass, pieces, entries, archived, lost);
                } else {
                    line!(self, error, "Pass ended with losses", source, pass, pieces, entries, archived, lost);
                }
            }
            Notice::EntryException { source, exception } => self.not_clean(source, exception),
            Notice::StepStarted { step, piece, len: bytes, resumed_at } => {
                let (stage, piece) = (step.as_str(), display(piece));
                line!(self, info, "Step started", stage, piece, bytes, resumed_at);
            }
            Notice::StepEnded { step, piece, input_len: input_bytes, output_len: output_bytes, took } => {
                let (stage, piece) = (step.as_str(), display(piece));
                let (seconds, rate) = (seconds(*took), rate(*input_bytes, *took));
                line!(self, info, "Step ended", stage, piece, input_bytes, output_bytes, seconds, rate);
            }
            Notice::PieceRotten { piece, why } => {
                let piece = display(piece);
                line!(self, error, "Piece rotten, making it again", piece, why);
            }
            Notice::WaitingForSpace { step, wanted, free } => {
                let stage = step.as_str();
                line!(self, info, "Waiting for room in staging", stage, wanted, free);
            }
            Notice::WaitingForWindow { opens } => line!(self, info, "Waiting for the upload window", opens),
            Notice::StandsStill { source, path, since } => {
                let path = path.display();
                line!(self, warn, "Archiving stands still", source, path, since);
            }
            Notice::Silent { quiet } => {
                let seconds = seconds(*quiet);
                line!(self, error, "Nothing moves although work waits", seconds);
            }
            Notice::GoesOn { source, path, took } => {
                let (path, seconds) = (path.display(), seconds(*took));
                line!(self, warn, "Archiving goes on", source, path, seconds);
            }
            Notice::CatalogBehind { why } => line!(self, error, "The catalog is behind and catches up", why),
            Notice::CatalogCaughtUp { pieces } => line!(self, warn, "The catalog has caught up", pieces),
            Notice::LeftBehind { what } => line!(self, warn, "Does not wait for what does not end", what),
            Notice::Trouble { trouble, what, retry_in } => {
                let trouble = trouble.as_str();
                match retry_in.map(seconds) {
                    Some(retry_in) => line!(self, warn, "Will retry", trouble, what, retry_in),
                    None => line!(self, error, "Cannot go on", trouble, what),
                }
            }
            Notice::Recovered { trouble } => {
                let trouble = trouble.as_str();
                line!(self, info, "Recovered", trouble);
            }
            Notice::SettingsTaken { changes, restart } => self.settings_taken(changes, restart),
            Notice::SettingsRefused { why } => {
                line!(self, error, "Configuration refused, the one before holds", why);
            }
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

    fn rests(&self) {
        for monitor in &self.0 {
            monitor.rests();
        }
    }
}
