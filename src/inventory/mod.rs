//! What the vault holds, told by the vault alone: for whoever has no catalog, or one that is not to be trusted.
//!
//! What a pass is made of stands in its index; what a piece is, in its manifest, in the index, in the metadata of the
//! object, or in its name. Each is taken where all before it are gone, and [`Derived`] says which it was. A piece of
//! which nothing tells its range is taken for one that may hold anything: then it is opened when something is wanted.

mod finding;
mod listing;
mod open_pass;
mod pass;
mod row;
mod sync;

pub use finding::Finding;
pub use listing::{Contents, FoundPass, Objects, contents};
pub use pass::{Depth, Derived, Reading, Told};
pub use sync::{Difference, Known, compare};
