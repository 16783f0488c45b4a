//! The log: one line with structured fields for every happening, drawn from the same [`Notice`]s as mail and
//! status. Lines go to stderr, or to the journal with fields of their own when that is where stderr leads: there each
//! kind has an `EVENT` and a `MESSAGE_ID` ([`kinds`]), and `PIECE_ID=` is the life of a piece, whose name gets its label
//! only when it is packed.
//!
//! INFO: nothing to do. WARN: nothing to do yet. ERROR: an operator must act, or data was lost.

mod kinds;
mod limits;

use crate::{
    name::PieceName,
    notice::{Exception, Monitor, Notice, SettingChange, Severity},
    panics::{self, Panicked},
    units::ByteSize,
};
use limits::Limits;
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use tracing::field::display;
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Draws log lines from notices, and no more of a kind than anybody would read.
#[derive(Clone)]
pub struct LogMonitor {
    to: Sink,
    began: Instant,
    limits: Arc<Mutex<Limits>>,
}

#[derive(Clone, Copy)]
enum Sink {
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
    let monitor = LogMonitor { to: begin(level), began: Instant::now(), limits: Arc::default() };
    let sink = monitor.to;
    panics::listen(move |panicked| sink.panicked(panicked));
    monitor
}

fn begin(level: &str) -> Sink {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let _ = FILTER.set(handle);
    // systemd sets it when stderr is a stream to the journal.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    // A second call changes nothing; tests of commands may make it.
    if let Some(journal) = journal {
        let _ = registry.with(journal.with_field_prefix(None)).try_init();
        return Sink::Journal;
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let _ = registry.with(lines).try_init();
    Sink::Lines
}

/// One line, with variables as its fields; behind a semicolon, further ones for the journal alone.
macro_rules! line {
    ($to:expr, $kind:ident, $level:ident, $message:literal, $($name:ident),* $(; $($more:ident),*)?) => {
        match $to {
            Sink::Lines => tracing::$level!($($name,)* $message),
            Sink::Journal => {
                let fields = [$(format!(" {}={:?}", stringify!($name), $name)),*].concat();
                tracing::$level!(
                    EVENT = kinds::$kind.event,
                    MESSAGE_ID = kinds::$kind.id,
                    $($name,)*
                    $($($more,)*)?
                    "{}{fields}",
                    $message
                );
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

impl Sink {
    fn not_clean(self, source: &str, exception: &Exception) {
        let (path, reason, detail) = (exception.path.display(), exception.reason.as_str(), &exception.detail);
        match exception.severity() {
            Severity::Info => line!(self, ENTRY_NOTED, info, "Entry not clean", source, path, reason, detail),
            Severity::Loss => line!(self, ENTRY_LOST, warn, "Entry lost or damaged", source, path, reason, detail),
        }
    }

    fn pass_ended(self, source: &str, pass: &str, numbers: [u64; 4], is_clean: bool) {
        let [pieces, entries, archived, lost] = numbers;
        if is_clean {
            line!(self, PASS_ENDED, info, "Pass ended", source, pass, pieces, entries, archived, lost);
        } else {
            line!(self, PASS_LOSSES, error, "Pass ended with losses", source, pass, pieces, entries, archived, lost);
        }
    }

    fn step_ended(self, stage: &str, piece: &PieceName, [input_bytes, output_bytes]: [u64; 2], took: Duration) {
        let (source, piece_id, bytes) = (piece.source.as_str(), piece.id(), output_bytes);
        let (seconds, rate, piece) = (seconds(took), rate(input_bytes, took), display(piece));
        line!(
            self, STEP_ENDED, info, "Step ended", stage, piece, input_bytes, output_bytes, seconds, rate;
            source, piece_id, bytes
        );
    }

    fn trouble(self, trouble: &str, what: &str, retry_in: Option<f64>) {
        match retry_in {
            Some(retry_in) => line!(self, WILL_RETRY, warn, "Will retry", trouble, what, retry_in),
            None => line!(self, CANNOT_GO_ON, error, "Cannot go on", trouble, what),
        }
    }

    fn settings(self, notice: &Notice) {
        match notice {
            Notice::SettingsTaken { changes, restart } => self.settings_taken(changes, restart),
            Notice::SettingsDiffer { how, remedy } => {
                line!(self, SETTINGS_DIFFER, warn, "Configuration file is not what holds", how, remedy);
            }
            Notice::SettingsAgree => {
                let changed = 0;
                line!(self, SETTINGS_AGREE, info, "Configuration file is what holds again", changed);
            }
            Notice::SettingsRefused { why } => {
                line!(self, SETTINGS_REFUSED, error, "Configuration refused, the one before holds", why);
            }
            _ => {}
        }
    }

    fn settings_taken(self, changes: &[SettingChange], restart: &[String]) {
        for change in changes {
            let key = &change.key;
            let [old, new] = [&change.old, &change.new].map(|value| value.as_deref().unwrap_or("none"));
            if restart.contains(key) {
                line!(self, SETTING_AT_RESTART, warn, "Setting changes at the next start", key, old, new);
            } else {
                line!(self, SETTING_CHANGED, info, "Setting changed", key, old, new);
            }
        }
        let changed = changes.len() - restart.len();
        line!(self, SETTINGS_TAKEN, info, "Configuration taken", changed);
    }

    fn paused(self, parts: &[String]) {
        let what = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
        line!(self, PAUSED, warn, "Paused", what);
    }

    /// What and where, and no backtrace: finding names for one takes memory, and where there is none it may never end.
    fn panicked(self, Panicked { text, place, thread }: &Panicked) {
        line!(self, PANICKED, error, "Panicked", text, place, thread);
    }
}

/// Kinds of which there may be any number, without anybody having asked for it.
fn flood(notice: &Notice) -> Option<&'static str> {
    let kind = match notice {
        Notice::EntryException { exception, .. } => match exception.severity() {
            Severity::Info => kinds::ENTRY_NOTED,
            Severity::Loss => kinds::ENTRY_LOST,
        },
        Notice::Trouble { retry_in: Some(_), .. } => kinds::WILL_RETRY,
        Notice::Trouble { retry_in: None, .. } => kinds::CANNOT_GO_ON,
        Notice::Recovered { .. } => kinds::RECOVERED,
        Notice::PieceRotten { .. } => kinds::PIECE_ROTTEN,
        Notice::WaitingForSpace { .. } => kinds::WAITING_FOR_SPACE,
        Notice::WaitingForWindow { .. } => kinds::WAITING_FOR_WINDOW,
        Notice::StandsStill { .. } => kinds::STANDS_STILL,
        Notice::GoesOn { .. } => kinds::GOES_ON,
        Notice::PassHeld { .. } => kinds::PASS_HELD,
        _ => return None,
    };
    Some(kind.event)
}

impl LogMonitor {
    /// Whether a line of this kind is told.
    fn admits(&self, event: &'static str) -> bool {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).admits(event, self.began.elapsed())
    }

    /// Tells how many were not.
    fn sum_up(&self, is_end: bool) {
        let due = self.limits.lock().unwrap_or_else(PoisonError::into_inner).due(self.began.elapsed(), is_end);
        for (like, count) in due {
            line!(self.to, MORE_LIKE_THIS, warn, "More like this were not told one by one", like, count);
        }
    }
}

impl Monitor for LogMonitor {
    fn notice(&self, notice: &Notice) {
        self.sum_up(matches!(notice, Notice::PassEnded { .. } | Notice::Stopping { .. }));
        if flood(notice).is_none_or(|event| self.admits(event)) {
            self.to.notice(notice);
        }
    }

    fn rests(&self) {
        self.sum_up(false);
    }
}

impl Sink {
    fn notice(self, notice: &Notice) {
        match notice {
            Notice::Started { version } => line!(self, STARTED, info, "Started", version),
            Notice::Stopping { why } => line!(self, STOPPING, info, "Stopping", why),
            Notice::PassStarted { source, pass, resumed } => {
                line!(self, PASS_STARTED, info, "Pass under way", source, pass, resumed);
            }
            Notice::PassHeld { source, why } => line!(self, PASS_HELD, error, "Pass held", source, why),
            Notice::NothingDue { source, last, next } => {
                let next = next.as_deref().unwrap_or("never, as repeat is not set");
                line!(self, NOTHING_DUE, info, "Nothing is due", source, last, next);
            }
            Notice::PassEnded { source, pass, pieces, entries, archived, lost, clean, .. } => {
                self.pass_ended(source, pass, [*pieces, *entries, *archived, *lost], *clean);
            }
            Notice::EntryException { source, exception } => self.not_clean(source, exception),
            Notice::StepStarted { step, piece, len: bytes, resumed_at } => {
                let (stage, source, piece_id) = (step.as_str(), piece.source.as_str(), piece.id());
                let piece = display(piece);
                line!(self, STEP_STARTED, info, "Step started", stage, piece, bytes, resumed_at; source, piece_id);
            }
            Notice::StepEnded { step, piece, input_len, output_len, took } => {
                self.step_ended(step.as_str(), piece, [*input_len, *output_len], *took);
            }
            Notice::PieceRotten { piece, why } => {
                let (source, piece_id, piece) = (piece.source.as_str(), piece.id(), display(piece));
                line!(self, PIECE_ROTTEN, error, "Piece rotten, making it again", piece, why; source, piece_id);
            }
            Notice::WaitingForSpace { step, wanted, free } => {
                let stage = step.as_str();
                line!(self, WAITING_FOR_SPACE, info, "Waiting for room in staging", stage, wanted, free);
            }
            Notice::WaitingForWindow { opens } => {
                line!(self, WAITING_FOR_WINDOW, info, "Waiting for the upload window", opens);
            }
            Notice::StandsStill { source, path, since } => {
                let path = path.display();
                line!(self, STANDS_STILL, warn, "Archiving stands still", source, path, since);
            }
            Notice::Silent { quiet } => {
                let seconds = seconds(*quiet);
                line!(self, SILENT, error, "Nothing moves although work waits", seconds);
            }
            Notice::GoesOn { source, path, took } => {
                let (path, seconds) = (path.display(), seconds(*took));
                line!(self, GOES_ON, warn, "Archiving goes on", source, path, seconds);
            }
            Notice::CatalogBehind { why } => {
                line!(self, CATALOG_BEHIND, error, "The catalog is behind and catches up", why);
            }
            Notice::CatalogCaughtUp { pieces } => {
                line!(self, CATALOG_CAUGHT_UP, warn, "The catalog has caught up", pieces);
            }
            Notice::LeftBehind { what } => line!(self, LEFT_BEHIND, warn, "Does not wait for what does not end", what),
            Notice::Trouble { trouble, what, retry_in } => {
                self.trouble(trouble.as_str(), what, retry_in.map(seconds));
            }
            Notice::Recovered { trouble } => {
                let trouble = trouble.as_str();
                line!(self, RECOVERED, info, "Recovered", trouble);
            }
            Notice::Paused { parts } => self.paused(parts),
            Notice::SettingsTaken { .. }
            | Notice::SettingsDiffer { .. }
            | Notice::SettingsAgree
            | Notice::SettingsRefused { .. } => self.settings(notice),
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

#[cfg(test)]
mod tests;
