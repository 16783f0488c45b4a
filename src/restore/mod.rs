//! Getting it back: thaw, fetch, open, and unpack below a directory, each member held against the manifest.

mod bring;
mod content;
mod derive;
mod dress;
mod fetch;
mod job;
mod lines;
mod links;
mod manifests;
mod open;
mod segments;
mod selection;
mod target;
mod thawing;
mod there;
mod unpack;

pub use bring::{BringError, Bringing, News, Wanted};
pub use content::{ContentError, hash_content, hash_zeros};
pub use fetch::{FetchError, Object, fetch_proven, occupy, patiently};
pub use job::{Job, JobError, JobState};
pub use lines::is_of;
pub use manifests::Manifests;
pub use open::{Form, RestoreError, clear_name, form, open_object, with_clear};
pub use selection::{Selection, is_in};
pub use target::{Target, TargetError, Wrong};
pub use thawing::{Ahead, Thawing};
pub use unpack::{Outcome, Unpacker};
