//! What a run is told to do, which may change while it runs: every unit of work begins with what holds then, and keeps
//! it to its end.

use super::Options;
use crate::vault::Vault;
use std::sync::{Arc, Mutex, PoisonError};

/// What holds now. Whoever has it can tell a run otherwise.
pub struct Live(Mutex<Orders>);

#[derive(Clone)]
pub(super) struct Orders {
    /// How often it was told otherwise.
    pub version: u64,
    pub options: Arc<Options>,
    pub vault: Arc<dyn Vault>,
}

impl Live {
    pub fn new(options: Options, vault: Arc<dyn Vault>) -> Arc<Live> {
        Arc::new(Live(Mutex::new(Orders { version: 0, options: Arc::new(options), vault })))
    }

    /// Holds for every unit of work that begins from now on. What belongs to the whole run stays as it was when that
    /// began: [`Options::state`], [`Options::staging`], [`Options::once`], [`Options::give_up_after`].
    pub fn set(&self, options: Options, vault: Arc<dyn Vault>) {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = &orders.options;
        let options = Options {
            state: before.state.clone(),
            staging: before.staging.clone(),
            once: before.once,
            give_up_after: before.give_up_after,
            ..options
        };
        *orders = Orders { version: orders.version + 1, options: Arc::new(options), vault };
    }

    pub(super) fn get(&self) -> Orders {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
