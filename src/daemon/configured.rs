//! The configuration of a running daemon: read again and checked as a whole before any of it holds, and told.

use super::{Run, failure, on_disk::Found, options};
use crate::{
    config::Settings,
    encrypt::Encrypter,
    fate::{Chain, Trouble},
    log,
    notice::{Monitor, Notice, SettingChange},
    report::{self, Heartbeat, Mailer, Mailers, Patience, mail},
};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Keys that name what is open for as long as the process lives.
const RESTART: [&str; 2] = ["state", "staging.path"];
/// Longest that reading it may take: the files lie on a disk that may hang.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// What to do with a file that is not what holds.
const RELOAD: &str = "`systemctl reload archiver` takes it";
const MEND: &str = "`archiver check` says what is wrong in it";
const START: &str = "`systemctl restart archiver` takes it";

/// The settings in force, and what hangs on them outside of the pipeline.
pub(super) struct Configured {
    pub settings: Settings,
    run: Run,
    monitor: Arc<dyn Monitor>,
    speakers: Speakers,
    mail: Option<mail::Options>,
    /// What was read last was refused.
    is_refused: bool,
    /// How the file was told to be another.
    differs: Option<String>,
}

/// Who tells people, by settings of their own.
#[derive(Clone)]
pub(super) struct Speakers {
    pub mailers: Arc<Mailers>,
    pub heartbeat: Arc<Heartbeat>,
}

impl Speakers {
    pub(super) fn new() -> Speakers {
        Speakers { mailers: Arc::default(), heartbeat: Arc::new(Heartbeat::new(report::Clock::system())) }
    }

    pub(super) fn monitors(&self) -> [Arc<dyn Monitor>; 2] {
        [self.mailers.clone(), self.heartbeat.clone()]
    }

    /// A thread that hangs would hold them for ever; what they cannot say now is for the next start. `is_complete`:
    /// all that was due is done.
    pub(super) fn fall_silent(&self, is_complete: bool) {
        if is_complete {
            self.heartbeat.complete();
        }
        drop(self.mailers.set(None));
    }
}

/// Settings that are good, and not in force yet.
pub(super) struct Next {
    pub settings: Settings,
    pub changes: Vec<SettingChange>,
    mail: Option<mail::Options>,
}

/// Whether a running daemon cannot take it.
pub(super) fn needs_restart(change: &SettingChange) -> bool {
    RESTART.contains(&change.key.as_str())
}

/// What is to be mailed, by whom; or why not.
fn mailer(settings: &Settings, mail: Option<&mail::Options>) -> Result<Option<Mailer>, String> {
    let (host, clock) = (options::host(settings), report::Clock::system());
    let start = |mail| Mailer::start(mail, &host, Some(&settings.state), clock, Patience::default());
    mail.map(start).transpose().map_err(|err| Chain(&err).to_string())
}

fn remember(settings: &Settings) {
    if let Err(err) = failure::remember(settings) {
        tracing::warn!("Settings of mail are not kept for a failure: {}", Chain(&err));
    }
}

impl Configured {
    /// `monitor` hears of everything, and `speakers`, which begin to speak, are among those that it tells.
    pub(super) fn new(
        settings: &Settings,
        run: &Run,
        monitor: Arc<dyn Monitor>,
        speakers: Speakers,
    ) -> Result<Configured, String> {
        let mail = options::mail(settings)?;
        speakers.mailers.set(mailer(settings, mail.as_ref())?);
        speakers.heartbeat.set(options::heartbeat(settings));
        if !run.once {
            remember(settings);
        }
        let (settings, run) = (settings.clone(), run.clone());
        Ok(Configured { settings, run, monitor, speakers, mail, is_refused: false, differs: None })
    }

    /// Reads the file again. Nothing is changed by it.
    pub(super) async fn read(&self) -> Result<Next, String> {
        let file = self.settings.file().to_owned();
        let reading = tokio::task::spawn_blocking(move || read(&file));
        let (mut settings, mail) = match tokio::time::timeout(READ_WITHIN, reading).await {
            Err(_) => Err(format!("{:?}, or what it names, gives no answer", self.settings.file())),
            Ok(Err(err)) => Err(format!("Reading the configuration failed: {err}")),
            Ok(Ok(read)) => read,
        }?;
        let changes = self.settings.changes_to(&settings);
        // What cannot change now stays as it is, so that it is told again as long as it differs.
        settings.state.clone_from(&self.settings.state);
        settings.staging.path.clone_from(&self.settings.staging.path);
        Ok(Next { settings, changes, mail })
    }

    /// Makes settings hold: those of mail and log, and for whoever looks here.
    pub(super) fn take(&mut self, next: Next) {
        let Next { settings, changes, mail } = next;
        match self.take_mail(&settings, mail.as_ref()) {
            Ok(()) => self.mail = mail,
            Err(what) => self.monitor.notice(&Notice::Trouble {
                trouble: Trouble::Internal,
                what: format!("Mails go on as before: {what}"),
                retry_in: None,
            }),
        }
        self.speakers.heartbeat.set(options::heartbeat(&settings));
        if !self.run.log_level_is_given {
            log::set_level(settings.log.level.as_str());
        }
        (self.settings, self.differs) = (settings, None);
        let restart = changes.iter().filter(|change| needs_restart(change)).map(|change| change.key.clone()).collect();
        self.monitor.notice(&Notice::SettingsTaken { changes, restart });
        if std::mem::take(&mut self.is_refused) {
            self.monitor.notice(&Notice::Recovered { trouble: Trouble::Settings });
        }
    }

    /// For the unit that mails when this one has failed.
    pub(super) async fn remember(&self) {
        let settings = self.settings.clone();
        let keeping = tokio::task::spawn_blocking(move || remember(&settings));
        if tokio::time::timeout(READ_WITHIN, keeping).await.is_err() {
            tracing::warn!("The disk of the state gives no answer, to keep settings of mail for a failure");
        }
    }

    pub(super) fn tell(&self, notice: &Notice) {
        self.monitor.notice(notice);
    }

    /// What waits for a server goes to the next one, and what was told is not told again.
    fn take_mail(&self, settings: &Settings, mail: Option<&mail::Options>) -> Result<(), String> {
        if mail == self.mail.as_ref() {
            return Ok(());
        }
        if let Some(mail) = mail
            && self.speakers.mailers.change(mail, &options::host(settings)).map_err(|err| Chain(&err).to_string())?
        {
            return Ok(());
        }
        let before = self.speakers.mailers.set(mailer(settings, mail)?);
        // What it still has to send may take a while.
        drop(tokio::task::spawn_blocking(move || drop(before)));
        Ok(())
    }

    /// Tells, once, that the file says something else than what holds, and once that it does not any more.
    pub(super) fn compare(&mut self, found: Found) {
        // That is told already, and holds until it is read again.
        if self.is_refused {
            return;
        }
        let (how, remedy) = match found.map(|found| self.settings.changes_to(&found)) {
            Ok(changes) if changes.is_empty() => (None, ""),
            Ok(changes) => {
                let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
                (Some(keys.join(", ")), if changes.iter().any(needs_restart) { START } else { RELOAD })
            }
            Err(why) => (Some(why), MEND),
        };
        if self.differs != how {
            self.differs.clone_from(&how);
            self.monitor.notice(&how.map_or(Notice::SettingsAgree, |how| Notice::SettingsDiffer { how, remedy }));
        }
    }

    /// Tells that what was read is wrong.
    pub(super) fn refuse(&mut self, why: String) {
        (self.is_refused, self.differs) = (true, None);
        self.monitor.notice(&Notice::SettingsRefused { why });
    }
}

fn read(file: &Path) -> Result<(Settings, Option<mail::Options>), String> {
    let settings = options::load(file).map_err(|err| Chain(&err).to_string())?;
    if let Some(keys) = options::encrypt(&settings) {
        Encrypter::open(&keys, Arc::new(SystemTime::now)).map_err(|err| Chain(&err).to_string())?;
    }
    let mail = options::mail(&settings)?;
    Ok((settings, mail))
}
