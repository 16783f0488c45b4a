//! What stands in the way: what nothing supersedes goes only by force, and what is on its way not at all.

use super::{
    choice::Chosen,
    work::{RemovalError, list},
};
use crate::{
    catalog::{Catalog, PassRow, PieceRow, PieceState},
    name::{Encryption, SourceName},
    notice::{Exception, Reason, Severity},
    path::SourcePath,
    pipeline::{PIECES, all_of},
    restore::{Job, JobState},
    vault::{Key, Vault},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

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
    let jobs = catalog.restores()?;
    for job in jobs.iter().filter_map(|(id, record)| Job::of(id, record).ok()) {
        let is_of = |part: &Chosen| part.pass.source == job.source && part.pass.pass == job.pass;
        if job.state == JobState::Open && chosen.iter().any(is_of) {
            let what = format!("the restore {} from the pass {} is not done", job.id, job.pass);
            found.push(Hindrance { what, may_be_forced: true });
        }
    }
    Ok(found)
}

/// What is known of passes that may supersede others: what there is against each.
#[derive(Default)]
struct Later(Vec<(PassRow, Option<String>)>);

impl Later {
    /// `None`: a later pass has ended, holds all that it should, was made by the same rules, lost nothing more, and stays.
    async fn why_not(
        &mut self,
        catalog: &Catalog,
        vault: &dyn Vault,
        source: &SourceName,
        chosen: &[Chosen],
        of: &PassRow,
    ) -> Result<Option<String>, RemovalError> {
        let mut why = "no later pass of its source has ended, and stays".to_owned();
        for row in catalog.passes(Some(source))?.into_iter().filter(|row| row.pass > of.pass && row.ended.is_some()) {
            if chosen.iter().any(|part| part.pass.pass == row.pass) {
                continue;
            }
            let known = self.0.iter().find(|(known, _)| *known == row).map(|(_, flaw)| flaw.clone());
            let flaw = match known {
                Some(flaw) => flaw,
                None => {
                    let flaw = flaw(catalog, vault, &row).await?;
                    self.0.push((row.clone(), flaw.clone()));
                    flaw
                }
            };
            match flaw.or(holds_less(catalog, &row, of)?) {
                Some(flaw) => why = flaw,
                None => return Ok(None),
            }
        }
        Ok(Some(why))
    }
}

/// What a pass lacks of itself. The vault says what is there, and the index which pieces it was of.
async fn flaw(catalog: &Catalog, vault: &dyn Vault, row: &PassRow) -> Result<Option<String>, RemovalError> {
    let pass = row.pass;
    let mut pieces = catalog.pieces(&row.source, pass)?;
    pieces.retain(|row| row.state == PieceState::Delivered);
    let Some(prefix) = prefix(&pieces) else { return Ok(Some(format!("{pass} has no pieces"))) };
    let mut index = None;
    for key in pass_keys(&pieces, "index.json.zst") {
        index = index.or(vault.head(&key).await?);
    }
    let Some(index) = index else { return Ok(Some(format!("the index of {pass} is not in the vault"))) };
    if index.metadata.get(PIECES) != Some(&all_of(&pieces)) {
        return Ok(Some(format!("of {pass} pieces were removed, or the catalog does not know all of them")));
    }
    let held: BTreeMap<String, u64> =
        list(vault, prefix).await?.into_iter().map(|listed| (listed.key.to_string(), listed.size)).collect();
    let is_held = |key: &str, size: u64| held.get(key).is_some_and(|held| size == 0 || *held == size);
    let is_whole = |row: &&PieceRow| match (&row.sealed, &row.delivered) {
        (Some(sealed), Some(at)) => is_held(&at.key, sealed.size) && is_held(&at.manifest_key, sealed.manifest_size),
        _ => false,
    };
    let missing = pieces.len() - pieces.iter().filter(is_whole).count();
    Ok((missing > 0).then(|| format!("{missing} pieces of {pass} are not in the vault as they were delivered")))
}

/// What a later pass may lack that an earlier one has.
fn holds_less(catalog: &Catalog, later: &PassRow, of: &PassRow) -> Result<Option<String>, RemovalError> {
    let pass = later.pass;
    if later.filter_sha256 != of.filter_sha256 || later.filter_sha256.is_empty() {
        return Ok(Some(format!("{pass} was made by other rules of what is left out, or nobody knows by which")));
    }
    let left_out = |row: &PassRow| -> Result<BTreeSet<SourcePath>, RemovalError> {
        let all = catalog.exceptions(&row.source, row.pass)?.into_iter().map(|(_, exception)| exception);
        let is_lack =
            |exception: &Exception| exception.severity() == Severity::Loss || exception.reason == Reason::Mount;
        Ok(all.filter(is_lack).map(|exception| exception.path).collect())
    };
    let (had, lacks) = (left_out(of)?, left_out(later)?);
    let more = lacks.difference(&had).next();
    Ok(more.map(|path| format!("{pass} lacks {}, which was archived before", path.display())))
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
