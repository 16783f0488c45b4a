//! The mailer of a process, whatever becomes of it while others tell it what happens.

use super::{
    mail::Options,
    mailer::{Mailer, StartError},
};
use crate::notice::{Monitor, Notice};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The mailer of a daemon, which may become another one, or none, while others tell it what happens.
#[derive(Default)]
pub struct Mailers(Mutex<Option<Mailer>>);

impl Mailers {
    fn lock(&self) -> MutexGuard<'_, Option<Mailer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back the one before, whose end may take as long as its farewell.
    pub fn set(&self, mailer: Option<Mailer>) -> Option<Mailer> {
        std::mem::replace(&mut self.lock(), mailer)
    }

    /// Other settings for the one that there is, with all that it knows; false where there is none.
    pub fn change(&self, options: &Options, host: &str) -> Result<bool, StartError> {
        match &*self.lock() {
            Some(mailer) => mailer.change(options, host).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Monitor for Mailers {
    fn notice(&self, notice: &Notice) {
        if let Some(mailer) = &*self.lock() {
            mailer.notice(notice);
        }
    }
}
