//! Taking pieces away: from the vault, from this host's records, and from the catalog, in this order.
//!
//! Of a whole pass its index goes first, so that no index ever claims what is not there, then the listing, the pieces,
//! their manifests, what this host keeps of it, and at last the rows of the catalog: begun again after any interruption,
//! it goes on. Of single pieces the index stays as it is, as everything in a vault does, and names what is gone.
//!
//! The rows go last also because records without a row would be taken for those of a pass that the catalog has
//! forgotten, and a daemon would look for its pieces.

mod choice;
mod cost;
mod hindrance;
mod work;

pub use choice::{ChoiceError, Chosen, What, choose};
pub use cost::{ClassSum, sums};
pub use hindrance::{Hindrance, hindrances};
pub use work::{Removal, RemovalError, Targets, targets};
