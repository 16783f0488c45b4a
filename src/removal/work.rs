//! The work: wave after wave out of the vault, then out of the records of this host and the catalog.

use super::{
    choice::Chosen,
    hindrance::{pass_keys, prefix},
};
use crate::{
    catalog::{Catalog, CatalogError, Delivered, PieceRow},
    durable::DurableError,
    fate::{Fate, Fateful, Trouble},
    pipeline::forget_records,
    upload::{Retries, chance},
    vault::{Key, Vault, VaultError},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Keys that are listed or removed with one request.
const BATCH: usize = 1_000;
/// Rows that are forgotten within one transaction, which takes a tenth of a second.
const ROWS: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("Cannot forget what this host keeps of it")]
    Records(#[from] DurableError),
}

impl Fateful for RemovalError {
    fn fate(&self) -> Fate {
        match self {
            RemovalError::Catalog(err) => err.fate(),
            RemovalError::Vault(err) => err.fate(),
            RemovalError::Records(_) => Fate::Operator,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            RemovalError::Vault(_) => Trouble::Vault,
            RemovalError::Catalog(err) => err.trouble(),
            RemovalError::Records(_) => Trouble::State,
        }
    }
}

/// When an object goes; each wave waits for the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wave {
    Index,
    Tree,
    /// And whatever else lies there.
    Piece,
    Manifest,
}

const WAVES: [Wave; 4] = [Wave::Index, Wave::Tree, Wave::Piece, Wave::Manifest];

/// An object that is to go.
#[derive(Clone, Debug)]
pub struct Target {
    wave: Wave,
    pub size: u64,
    /// Empty in a vault without classes.
    pub class: String,
    /// Since when the vault holds it, where the catalog knows.
    pub since: Option<Timestamp>,
}

impl Target {
    /// As far as is known.
    fn is_there(&self) -> bool {
        self.size > 0
    }
}

/// All that is to go of one pass.
#[derive(Clone, Debug)]
pub struct Targets {
    chosen: Chosen,
    objects: BTreeMap<Key, Target>,
}

impl Targets {
    /// What the vault is known to hold of it.
    pub fn objects(&self) -> impl Iterator<Item = &Target> {
        self.objects.values().filter(|target| target.is_there())
    }

    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }
}

/// What is to go of a pass, as the catalog knows it and the vault lists it: of a whole pass also what nobody knows of.
pub async fn targets(vault: &dyn Vault, chosen: Chosen) -> Result<Targets, RemovalError> {
    let mut objects = BTreeMap::new();
    let unknown = |wave| Target { wave, size: 0, class: String::new(), since: None };
    let mut since = BTreeMap::new();
    for row in &chosen.pieces {
        let Some(delivered) = &row.delivered else { continue };
        for (key, wave) in [(&delivered.key, Wave::Piece), (&delivered.manifest_key, Wave::Manifest)] {
            let Ok(key) = key.parse::<Key>() else { continue };
            since.insert(key.clone(), delivered.at);
            objects.insert(key, unknown(wave));
        }
    }
    if chosen.is_whole {
        for (name, wave) in [("index.json.zst", Wave::Index), ("tree.txt.xz", Wave::Tree)] {
            objects.extend(pass_keys(&chosen.pieces, name).into_iter().map(|key| (key, unknown(wave))));
        }
    }
    if let Some(prefix) = prefix(&chosen.pieces) {
        for listed in list(vault, prefix).await? {
            if !chosen.is_whole && !objects.contains_key(&listed.key) {
                continue;
            }
            let wave = objects.get(&listed.key).map_or_else(|| wave_of(&listed.key), |target| target.wave);
            let since = since.get(&listed.key).copied().or(chosen.pass.ended);
            objects.insert(listed.key, Target { wave, size: listed.size, class: listed.storage_class, since });
        }
    }
    Ok(Targets { chosen, objects })
}

fn wave_of(key: &Key) -> Wave {
    if key.as_str().contains(".manifest.jsonl") { Wave::Manifest } else { Wave::Piece }
}

pub(super) async fn list(vault: &dyn Vault, prefix: &str) -> Result<Vec<crate::vault::Listed>, VaultError> {
    let mut all: Vec<crate::vault::Listed> = Vec::new();
    loop {
        let after = all.last().map(|last| last.key.clone());
        let page = Retries::default().ask(|| vault.list(prefix, after.as_ref(), BATCH)).await?;
        let is_last = page.len() < BATCH;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct Removal {
    pub objects: u64,
    pub pieces: u64,
    pub wrong: Vec<(Key, VaultError)>,
}

impl Removal {
    /// Removes all of one pass, or some pieces of it. What is refused stays, with its manifest and its row.
    pub async fn remove(
        &mut self,
        vault: &dyn Vault,
        catalog: &Catalog,
        state: &Path,
        targets: &Targets,
        came: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RemovalError> {
        let Targets { chosen, objects } = targets;
        let mut stays: BTreeSet<String> = BTreeSet::new();
        for wave in WAVES {
            let of_wave = objects.iter().filter(|(key, target)| target.wave == wave && !stays.contains(key.as_str()));
            let keys: Vec<Key> = of_wave.map(|(key, _)| key.clone()).collect();
            let left = self.remove_keys(vault, &keys, &|key| objects[key].is_there(), came).await;
            if wave < Wave::Piece && !left.is_empty() {
                return Ok(());
            }
            for Delivered { key, manifest_key, .. } in chosen.pieces.iter().filter_map(|row| row.delivered.as_ref()) {
                if left.contains(key) {
                    stays.insert(manifest_key.clone());
                }
            }
            stays.extend(left);
        }
        let is_gone = |row: &&PieceRow| {
            let delivered = row.delivered.as_ref();
            delivered.is_some_and(|at| !stays.contains(&at.key) && !stays.contains(&at.manifest_key))
        };
        let mut gone: BTreeSet<u32> = chosen.pieces.iter().filter(is_gone).map(|row| row.name().seq).collect();
        let is_all_gone = chosen.is_whole && stays.is_empty();
        if chosen.is_whole && !is_all_gone && gone.len() == chosen.pieces.len() {
            // Without any piece nobody would know any more where the rest lies.
            gone.pop_last();
        }
        let (source, pass) = (&chosen.pass.source, chosen.pass.pass);
        forget_records(state, source, pass, (!is_all_gone).then_some(&gone))?;
        // Some at a time, for whoever else writes there; the pass itself with the last of them.
        let seqs: Vec<u32> = gone.into_iter().collect();
        for some in seqs.chunks(ROWS).chain([&[][..]]) {
            catalog.forget_pieces(source, pass, &some.iter().copied().collect())?;
        }
        self.pieces += seqs.len() as u64;
        Ok(())
    }

    /// Gives what stays. When the vault does not answer any more, the rest is not tried.
    async fn remove_keys(
        &mut self,
        vault: &dyn Vault,
        keys: &[Key],
        was_there: &(dyn Fn(&Key) -> bool + Sync),
        came: &(dyn Fn(u64) + Sync),
    ) -> Vec<String> {
        let mut stays = Vec::new();
        let mut batches = keys.chunks(BATCH);
        for batch in &mut batches {
            let left = persistently(vault, batch.to_vec()).await;
            let is_left = |key: &Key| left.iter().any(|(left, _)| left == key);
            let gone = batch.iter().filter(|key| was_there(key) && !is_left(key)).count() as u64;
            self.objects += gone;
            came(gone);
            let is_in_vain = left.iter().any(|(_, err)| err.fate() == Fate::Retry);
            stays.extend(left.iter().map(|(key, _)| key.to_string()));
            self.wrong.extend(left);
            if is_in_vain {
                break;
            }
        }
        stays.extend(batches.flatten().map(Key::to_string));
        stays
    }
}

/// What is refused for now is asked for again a few times. Gives what could not be removed.
async fn persistently(vault: &dyn Vault, mut keys: Vec<Key>) -> Vec<(Key, VaultError)> {
    let Retries { max, waits } = Retries::default();
    let mut wrong = Vec::new();
    for failures in 1.. {
        let answers = vault.delete_many(&keys).await;
        let failed = keys.into_iter().zip(answers).filter_map(|(key, answer)| Some((key, answer.err()?)));
        let (again, never): (Vec<_>, Vec<_>) = failed.partition(|(_, err)| err.fate() == Fate::Retry);
        wrong.extend(never);
        if again.is_empty() || failures >= max {
            wrong.extend(again);
            break;
        }
        keys = again.into_iter().map(|(key, _)| key).collect();
        tokio::time::sleep(waits.after(failures, chance())).await;
    }
    wrong
}
