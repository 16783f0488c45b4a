//! What stands in the way: what nothing supersedes goes only by force, and what is on its way not at all.

use super::{choice::Chosen, work::RemovalError};
use crate::{
    catalog::{Catalog, PassRow, PieceRow, PieceState},
    name::{Encryption, SourceName},
    vault::{Key, Vault},
};
use std::fmt;

/// Why something is not simply removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    pub what: String,
    /// Whether somebody may want it all the same.
    pub may_be_forced: bool,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Everything that stands in the way, pass by pass.
pub async fn hindrances(
    catalog: &Catalog,
    vault: &dyn Vault,
    source: &SourceName,
    chosen: &[Chosen],
) -> Result<Vec<Hindrance>, RemovalError> {
    let mut found = Vec::new();
    let mut later = Later::default();
    for part in chosen {
        let pass = part.pass.pass;
        if part.pass.ended.is_none() {
            let what = format!("the pass {pass} has not ended; pieces of it are removed when it has");
            found.push(Hindrance { what, may_be_forced: false });
        } else if let Some(row) = part.pieces.iter().find(|row| row.state != PieceState::Delivered) {
            let what = format!("{} is {}, and not delivered", row.name(), row.state.as_str());
            found.push(Hindrance { what, may_be_forced: false });
        } else if !part.pieces.is_empty()
            && let Some(what) = later.why_not(catalog, vault, source, chosen, &part.pass).await?
        {
            found.push(Hindrance { what: format!("nothing supersedes the pass {pass}: {what}"), may_be_forced: true });
        }
    }
    Ok(found)
}

/// What is known of passes that may supersede others.
#[derive(Default)]
struct Later {
    /// Whether the index of a pass is in the vault.
    indexed: Vec<(PassRow, bool)>,
}

impl Later {
    /// `None`: a later pass has ended, is whole, lost nothing more, and stays.
    async fn why_not(
        &mut self,
        catalog: &Catalog,
        vault: &dyn Vault,
        source: &SourceName,
        chosen: &[Chosen],
        of: &PassRow,
    ) -> Result<Option<String>, RemovalError> {
        let lost = catalog.totals(source, of.pass)?.lost;
        let mut why = "no later pass of its source has ended, and stays".to_owned();
        for row in catalog.passes(Some(source))?.into_iter().filter(|row| row.pass > of.pass && row.ended.is_some()) {
            if chosen.iter().any(|part| part.pass.pass == row.pass) {
                continue;
            }
            let totals = catalog.totals(source, row.pass)?;
            // What was forgotten of a pass is missing in what its pieces have seen.
            if row.seen != Some(totals.walked) || totals.pieces == 0 {
                why = format!("of {} pieces were removed", row.pass);
            } else if totals.lost > lost {
                why = format!("{} lost {} entries, and it lost {lost}", row.pass, totals.lost);
            } else if !self.has_index(catalog, vault, &row).await? {
                why = format!("the index of {} is not in the vault", row.pass);
            } else {
                return Ok(None);
            }
        }
        Ok(Some(why))
    }

    async fn has_index(&mut self, catalog: &Catalog, vault: &dyn Vault, row: &PassRow) -> Result<bool, RemovalError> {
        if let Some((_, is_there)) = self.indexed.iter().find(|(known, _)| known == row) {
            return Ok(*is_there);
        }
        let pieces = catalog.pieces(&row.source, row.pass)?;
        let mut is_there = false;
        for key in pass_keys(&pieces, "index.json.zst") {
            is_there |= vault.head(&key).await?.is_some();
        }
        self.indexed.push((row.clone(), is_there));
        Ok(is_there)
    }
}

/// The directory of a pass in the vault, with the trailing `/`; `None` where nothing of it is delivered.
pub(super) fn prefix(pieces: &[PieceRow]) -> Option<&str> {
    let key = &pieces.iter().find_map(|row| row.delivered.as_ref())?.key;
    Some(&key[..=key.rfind('/')?])
}

/// The keys that an object of a pass may have.
pub(super) fn pass_keys(pieces: &[PieceRow], name: &str) -> Vec<Key> {
    let Some(prefix) = prefix(pieces) else { return Vec::new() };
    let key = |encryption: Encryption| format!("{prefix}{name}{}", encryption.suffix()).parse().ok();
    [Encryption::OpenPgp, Encryption::None].into_iter().filter_map(key).collect()
}
