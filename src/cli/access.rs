//! The vault and the keys of whoever brings something back, opened when they are first needed: a command that finds all
//! it asks for on this host needs neither.

use super::{Failed, decrypt};
use crate::{
    catalog::PieceRow,
    config::Settings,
    daemon,
    encrypt::Opener,
    fate::Fateful,
    pipeline::local_manifest,
    restore::{BringError, Manifests, RestoreError},
    vault::{KeyError, Vault},
};
use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime::{Builder, Runtime};

pub struct Access {
    pub settings: Settings,
    pub runtime: Runtime,
    vault: OnceCell<Arc<dyn Vault>>,
    opener: OnceCell<Option<Opener>>,
}

impl Access {
    pub fn new(config: &Path) -> Result<Access, Failed> {
        Access::with(daemon::load(config)?)
    }

    /// For a command that mostly needs no more than the settings: what they name is looked at when it is needed.
    pub fn with(mut settings: Settings) -> Result<Access, Failed> {
        // Whoever brings back has rights of their own.
        settings.vault.profile = settings.restore.profile.clone().or(settings.vault.profile);
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Access { settings, runtime, vault: OnceCell::new(), opener: OnceCell::new() })
    }

    pub fn vault(&self) -> Result<&Arc<dyn Vault>, Failed> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = self.runtime.block_on(daemon::open_vault(&self.settings)).map_err(|why| Failed::new(4, why))?;
        Ok(self.vault.get_or_init(|| vault))
    }

    /// What opens what was sealed; `None`: nothing is configured that could.
    pub fn opener(&self) -> Result<Option<&Opener>, Failed> {
        if let Some(opener) = self.opener.get() {
            return Ok(opener.as_ref());
        }
        let unlock = decrypt::configured(&self.settings)?;
        let opener = unlock.map(|unlock| Opener::open(&unlock)).transpose().map_err(|err| Failed::of(&err))?;
        Ok(self.opener.get_or_init(|| opener).as_ref())
    }

    pub fn manifests(&self) -> Result<Manifests<'_>, Failed> {
        let kept = self.settings.restore.path.join("manifests");
        Ok(Manifests {
            vault: self.vault()?.clone(),
            runtime: self.runtime.handle().clone(),
            opener: self.opener()?,
            kept,
        })
    }

    /// Where the manifest of a sealed piece can be read. One that was lost here is fetched from the vault, if it is there.
    pub fn manifest(&self, row: &PieceRow) -> Result<PathBuf, Failed> {
        let local = local_manifest(&self.settings.state, row.name());
        if row.delivered.is_none() || local.is_file() { Ok(local) } else { self.fetched_manifest(row) }
    }

    /// The manifest of a delivered piece, of which that on this host is lost or was found to be damaged.
    pub fn fetched_manifest(&self, row: &PieceRow) -> Result<PathBuf, Failed> {
        let local = local_manifest(&self.settings.state, row.name());
        let Some(delivered) = row.delivered.as_ref() else { return Ok(local) };
        let key = |text: &str| text.parse().map_err(|err: KeyError| Failed::other(&err));
        let (manifest, piece) = (key(&delivered.manifest_key)?, key(&delivered.key)?);
        self.manifests()?.of(&local, &manifest, &piece).map_err(|err| failed(&err))
    }
}

pub fn failed(err: &BringError) -> Failed {
    match err {
        BringError::Fetch(err) => Failed::of(err),
        BringError::Restore(err @ RestoreError::Unpack { .. }) => Failed::other(err),
        BringError::Cancelled => Failed::new(super::HELD, err),
        BringError::Restore(err) => Failed::new(err.trouble().exit_code(), crate::fate::Chain(err)),
    }
}
