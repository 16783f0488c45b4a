//! Getting it back: opening what was downloaded from the vault.

mod bring;
mod content;
mod fetch;
mod lines;
mod open;
mod target;
mod unpack;

pub use bring::{BringError, Bringing, News, Wanted};
pub use open::{RestoreError, open_object};
pub use target::{Target, TargetError, Wrong};
pub use unpack::{Outcome, Selection, Unpacker};
