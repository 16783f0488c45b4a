//! A run that goes on, and may be told otherwise.

use super::{
    Run,
    configured::{Configured, Next, needs_restart},
    control::{Asked, Control, Question, next_question},
    metrics::Metrics,
    on_disk::{Found, OnDisk},
    options, systemd,
    vault::{self, Opened},
};
use crate::{
    catalog::{self, Catalog},
    config::Settings,
    fate::Chain,
    notice::{Notice, SettingChange, Step},
    pipeline::{self, Live, Part, Paused, WindowGate},
    report,
    staging::Stop,
    upload::Retries,
    window::Window,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// Setting of the catalog: why the configuration that was read last is not in force; empty when it is.
pub const SETTINGS_REFUSED: &str = "settings-refused";

/// How long the catalog may take: its disk may hang, and signals are served here.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Running {
    pub configured: Configured,
    pub run: Run,
    pub vault: Opened,
    pub catalog: Catalog,
    pub live: Arc<Live>,
    pub gate: Arc<WindowGate>,
    /// What goes on, for whoever asks.
    pub watched: Arc<report::Live>,
    pub metrics: Metrics,
    pub stop: Stop,
    pub on_disk: Option<OnDisk>,
    /// The working directory is ours, and the keys are good.
    pub is_ready: bool,
}

/// The hours of upload as they are configured, and asked for.
pub(super) fn window(settings: &Settings, run: &Run) -> Window {
    if run.ignore_window { Window::always() } else { settings.upload.window.clone() }
}

impl Running {
    /// Answers and reloads, one after the other, for as long as it is asked to. `ready`: nothing stands in the way of the
    /// work any more, and the settings of this process are those in force; before it there may be another one.
    pub(super) async fn serve(mut self, mut control: Option<Control>, reload: Arc<Notify>, ready: Arc<Notify>) {
        // Nobody tells a run that ends by itself to take another.
        self.on_disk = (!self.run.once).then(|| OnDisk::watch(self.configured.settings.file().to_owned()));
        loop {
            tokio::select! {
                () = ready.notified() => {
                    systemd::ready();
                    self.is_ready = true;
                    self.remember("").await;
                }
                () = reload.notified() => drop(self.reload().await),
                found = next_found(&mut self.on_disk) => self.configured.compare(found),
                Asked { question, answer } = next_question(&mut control) => {
                    // Who asked may have gone.
                    let _ = answer.send(self.answer(question).await);
                }
            }
        }
    }

    async fn answer(&mut self, question: Question) -> Value {
        match question {
            Question::Status => status(&mut self.configured, &self.watched).await,
            Question::Pause(part) => {
                if let Part::Source(source) = &part
                    && !self.configured.settings.sources.iter().any(|known| known.name == *source)
                {
                    return json!({ "wrong": format!("There is no source {:?} in the configuration", source.as_str()) });
                }
                self.pause(Paused::clone(&self.live.paused()).with(part)).await
            }
            Question::Resume(part) => self.pause(Paused::clone(&self.live.paused()).without(&part)).await,
            Question::Reload => match self.reload().await {
                Ok(()) => json!({ "taken": true }),
                Err(why) => json!({ "taken": false, "why": why }),
            },
        }
    }

    /// Lets rest what is to, and nothing else.
    pub(super) fn rest(&self, paused: Paused) {
        self.gate.pause(paused.stage_rests(Step::Upload));
        let (parts, is_other) = (paused.texts(), *self.live.paused() != paused);
        self.live.pause(paused);
        if is_other {
            self.configured.tell(&Notice::Paused { parts });
        }
    }

    /// Kept first: after a restart it must not go on by itself.
    async fn pause(&self, paused: Paused) -> Value {
        let kept = paused.clone();
        if let Err(why) = self.ask_catalog(move |catalog| kept.keep(catalog)).await {
            return json!({ "wrong": why });
        }
        let parts = paused.texts();
        self.rest(paused);
        json!({ "paused": parts, "now": self.watched.snapshot() })
    }

    /// Reads the configuration again, and takes all of it or nothing; then tells why.
    async fn reload(&mut self) -> Result<(), String> {
        if self.is_ready {
            systemd::reloading();
        }
        let read = match self.configured.read().await {
            Ok(next) => self.open_vault(&next).await.map(|vault| (next, vault)),
            Err(why) => Err(why),
        };
        let done = match read {
            Ok((next, vault)) => {
                self.take(next, vault).await;
                self.remember("").await;
                Ok(())
            }
            Err(why) => {
                self.remember(&why).await;
                self.configured.refuse(why.clone());
                Err(why)
            }
        };
        if self.is_ready {
            systemd::ready();
        }
        done
    }

    /// The vault of the next settings, if it is another one.
    async fn open_vault(&self, next: &Next) -> Result<Option<Opened>, String> {
        let same =
            |a: &Settings, b: &Settings| a.vault.url == b.vault.url && vault::s3_options(a) == vault::s3_options(b);
        if same(&self.configured.settings, &next.settings) {
            return Ok(None);
        }
        // Where nothing went yet, a vault may be made.
        let state = self.configured.settings.state.clone();
        let known =
            move |catalog: &Catalog| Ok((pipeline::is_vault_known(catalog, &state)?, pipeline::vault_name(catalog)?));
        let (is_known, name) = self.ask_catalog(known).await?;
        let wrong = |what: String| format!("vault.url: {what}");
        let opened = vault::open_now(&next.settings, is_known).await.map_err(wrong)?;
        // One that is away is no reason to refuse: then it is greeted when it is back.
        if let Some(name) = name {
            let vault = opened.vault();
            let asking = pipeline::is_stranger(vault.as_ref(), &name, Retries::default());
            if let Ok(Some(what)) = tokio::time::timeout(ANSWER_WITHIN, asking).await {
                return Err(wrong(what));
            }
        }
        Ok(Some(opened))
    }

    async fn take(&mut self, next: Next, vault: Option<Opened>) {
        match vault {
            Some(vault) => self.vault = vault,
            // Its credentials may be others, in the same file.
            None => self.vault.reload(),
        }
        let settings = &next.settings;
        self.gate.set(window(settings, &self.run), settings.time_zone.now());
        self.live.set(options::pipeline(settings, &self.run), self.vault.vault());
        self.metrics.renew(settings).await;
        self.configured.take(next);
        self.configured.remember().await;
        // What only the next start takes is another still.
        self.on_disk.iter().for_each(OnDisk::again);
        // Whoever waits to try again may succeed now.
        self.stop.nudge();
    }

    /// Keeps why the configuration was refused, for whoever asks in another process.
    async fn remember(&self, why: &str) {
        if !self.is_ready {
            return;
        }
        let why = why.to_owned();
        let keep = move |catalog: &Catalog| match catalog.setting(SETTINGS_REFUSED)?.unwrap_or_default() == why {
            true => Ok(()),
            false => catalog.set_setting(SETTINGS_REFUSED, &why),
        };
        if let Err(err) = self.ask_catalog(keep).await {
            tracing::warn!("Cannot keep for `archiver status` how reloading went: {err}");
        }
    }

    /// Asks on a thread that may hang.
    async fn ask_catalog<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Catalog) -> catalog::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let catalog = self.catalog.clone();
        let asking = tokio::task::spawn_blocking(move || question(&catalog));
        match tokio::time::timeout(ANSWER_WITHIN, asking).await {
            Ok(Ok(answer)) => answer.map_err(|err| Chain(&err).to_string()),
            Ok(Err(_)) | Err(_) => Err("The catalog gives no answer".to_owned()),
        }
    }
}

async fn next_found(on_disk: &mut Option<OnDisk>) -> Found {
    match on_disk {
        Some(on_disk) => on_disk.next().await,
        None => std::future::pending().await,
    }
}

/// How a daemon is, for `archiver status`.
pub(super) async fn status(configured: &mut Configured, watched: &report::Live) -> Value {
    let file = match configured.read().await {
        Ok(next) => {
            let texts = |of: &[SettingChange]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
            let (restart, changes): (Vec<_>, Vec<_>) = next.changes.into_iter().partition(needs_restart);
            json!({ "changes": texts(&changes), "restart": texts(&restart) })
        }
        Err(why) => json!({ "wrong": why }),
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "state": configured.settings.state,
        // How the configuration would be another if it were read again now.
        "file": file,
        "now": watched.snapshot(),
    })
}
