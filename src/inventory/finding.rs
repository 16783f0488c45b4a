//! What is not as it should be in a vault.

use super::Derived;
use crate::{name::PassId, vault::Key};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A pass that has no index in the vault, or one of no use.
    NoIndex { prefix: String, why: String },
    /// A manifest is gone or of no use, and this told what its piece is.
    NoManifest { key: Key, why: String, by: Derived },
    /// Said to be there by its index or by its manifest.
    NoPiece { key: Key },
    /// A number of an open pass that nobody knows: between pieces that are there, ranges are to be walked again.
    Gap { pass: PassId, seq: u32, ranges: usize },
    /// The pass is there already, of another directory of the vault.
    Twice { prefix: String },
    /// A file of which some segments are not there.
    Segments { key: Key },
    /// Nothing of ours.
    Stranger { key: Key },
}

impl Finding {
    /// Whether something of what was archived is not there.
    pub fn is_loss(&self) -> bool {
        matches!(self, Finding::NoPiece { .. })
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Finding::NoIndex { .. } => "no-index",
            Finding::NoManifest { .. } => "no-manifest",
            Finding::NoPiece { .. } => "no-piece",
            Finding::Gap { .. } => "gap",
            Finding::Twice { .. } => "twice",
            Finding::Segments { .. } => "segments",
            Finding::Stranger { .. } => "stranger",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::NoIndex { prefix, why } => {
                write!(f, "{prefix}: no index ({why}): what the pass is made of is taken from what lies there")
            }
            Finding::NoManifest { key, why, by } => {
                write!(f, "{key}: no manifest ({why}): what it holds is taken from {by}")
            }
            Finding::NoPiece { key } => write!(f, "{key}: is not in the vault"),
            Finding::Gap { pass, seq, ranges } => write!(
                f,
                "Piece {seq:06} of {pass} is not in the vault, nor perhaps others behind it: what lies between those that \
                 are there is walked again, in {ranges} places"
            ),
            Finding::Twice { prefix } => {
                write!(f, "{prefix}: a pass that lies elsewhere as well, and is taken from there")
            }
            Finding::Segments { key } => {
                write!(f, "{key}: other segments of its file are not in the vault: it is to be packed again")
            }
            Finding::Stranger { key } => write!(f, "{key}: nothing of ours"),
        }
    }
}
