//! Getting it back: opening what was downloaded from the vault.

mod open;

pub use open::{RestoreError, open_object};
