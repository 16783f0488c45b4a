//! What a run is told to do, which may change while it runs: every unit of work begins with what holds then, and keeps
//! it to its end.

use super::{Options, Paused};
use crate::vault::Vault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What holds now. Whoever has it can tell a run otherwise.
pub struct Live(Mutex<Orders>);

#[derive(Clone)]
pub(super) struct Orders {
    /// How often it was told otherwise.
    pub version: u64,
    pub options: Arc<Options>,
    pub vault: Arc<dyn Vault>,
    pub paused: Arc<Paused>,
}

impl Live {
    pub fn new(options: Options, vault: Arc<dyn Vault>) -> Arc<Live> {
        Arc::new(Live(Mutex::new(Orders { version: 0, options: Arc::new(options), vault, paused: Arc::default() })))
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds for every unit of work that begins from now on. What belongs to the whole run stays as it was when that
    /// began: [`Options::state`], [`Options::staging`], [`Options::once`], [`Options::give_up_after`].
    pub fn set(&self, options: Options, vault: Arc<dyn Vault>) {
        let mut orders = self.orders();
        let before = &orders.options;
        let options = Options {
            state: before.state.clone(),
            staging: before.staging.clone(),
            once: before.once,
            give_up_after: before.give_up_after,
            ..options
        };
        orders.version += 1;
        (orders.options, orders.vault) = (Arc::new(options), vault);
    }

    /// What rests from now on.
    pub fn pause(&self, paused: Paused) {
        self.orders().paused = Arc::new(paused);
    }

    pub fn paused(&self) -> Arc<Paused> {
        self.orders().paused.clone()
    }

    pub(super) fn get(&self) -> Orders {
        self.orders().clone()
    }
}
