//! A daemon that waits for what it needs to begin: a catalog on a full disk, a vault whose disk is away. It heeds signals
//! meanwhile, and answers whoever asks.

use super::{
    configured::Configured,
    control::{Asked, Control, Question, next_question},
    running::status,
    signals::{Signals, Told},
    systemd,
};
use crate::{
    fate::{Chain, Fateful},
    notice::{Monitor, Notice},
    report,
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// What is listened to.
pub(super) struct Ears {
    pub signals: Signals,
    pub control: Option<Control>,
}

/// What ends a waiting before its time.
pub(super) enum Woken {
    Told(Told),
    Asked(Asked),
}

impl Ears {
    /// Tells what keeps a run from its beginning, and waits. Gives what ended the waiting.
    pub(super) async fn tell_and_wait(
        &mut self,
        state: &Path,
        monitor: &dyn Monitor,
        err: &impl Fateful,
        wait: Duration,
    ) -> Option<Woken> {
        let what = Chain(err).to_string();
        monitor.notice(&Notice::Trouble { trouble: err.trouble(), what, retry_in: Some(wait) });
        systemd::extend(wait + super::START_WITHIN);
        systemd::alive();
        if self.control.is_none() {
            // Where nobody can be listened to, that is told when the work begins.
            self.control = Control::listen(state).ok();
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => None,
            told = self.signals.next() => Some(Woken::Told(told)),
            asked = next_question(&mut self.control) => Some(Woken::Asked(asked)),
        }
    }
}

/// What can be said before anything is under way.
pub(super) async fn answer(question: Question, configured: &mut Configured, watched: &report::Live) -> Value {
    match question {
        Question::Status => status(configured, watched).await,
        Question::Reload => match reload(configured).await {
            Ok(()) => json!({ "taken": true }),
            Err(why) => json!({ "taken": false, "why": why }),
        },
        Question::Pause(_) | Question::Resume(_) => {
            json!({ "wrong": "Nothing is under way yet: the daemon waits for its catalog or its vault" })
        }
    }
}

/// What is waited for may be what was wrong in the configuration.
pub(super) async fn reload(configured: &mut Configured) -> Result<(), String> {
    match configured.read().await {
        Ok(next) => {
            configured.take(next);
            configured.remember().await;
            Ok(())
        }
        Err(why) => {
            configured.refuse(why.clone());
            Err(why)
        }
    }
}
