//! What the pipeline is told to do.

use crate::{
    archive::{filter, pack},
    compress, encrypt,
    name::SourceName,
    price::Prices,
    upload,
};
use std::{path::PathBuf, time::Duration};

/// Whether keys in the vault say what is in the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Plain,
    Opaque,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    pub name: SourceName,
    pub path: PathBuf,
    pub filter: filter::Options,
    pub one_file_system: bool,
    pub require_mount: bool,
    /// The next pass begins this long after the last one began; `None`: one pass only.
    pub repeat: Option<Duration>,
    /// A pass is due now, whatever `repeat` says.
    pub pass_now: bool,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub sources: Vec<SourceSpec>,
    /// Catalog and manifests.
    pub state: PathBuf,
    pub staging: PathBuf,
    /// Bytes of allocated blocks in staging.
    pub cap: u64,
    pub pack: pack::Options,
    pub compress: compress::Options,
    /// `None`: pieces are not encrypted.
    pub encrypt: Option<encrypt::Options>,
    pub upload: upload::Options,
    /// Of pieces; what must be readable at once goes to `STANDARD`.
    pub storage_class: String,
    pub names: Names,
    /// Part of every key; kept from the first start on.
    pub host: String,
    /// Directories of ours that are left out of every source: staging, state, a directory vault.
    pub own: Vec<PathBuf>,
    /// It is told when nothing has moved for this long although something waits; `None`: never.
    pub silence: Option<Duration>,
    /// What the vault costs, where that is known.
    pub prices: Option<Prices>,
    /// End when nothing is left to do.
    pub once: bool,
    /// With `once`: try again for so long, whatever fails. `None`: give up soon.
    pub give_up_after: Option<Duration>,
}
