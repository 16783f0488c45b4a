//! Manifests as they lie on this host, compressed and clear. One that is lost or damaged here is fetched again from the
//! vault, where it can be read at once, and kept for whoever asks next.

use super::{
    bring::BringError,
    fetch::patiently,
    open::{Form, RestoreError, form, with_clear},
};
use crate::{
    durable::{self, DurableError},
    encrypt::Opener,
    name::Compression,
    pipeline::read_manifest,
    vault::{Cause, Key, Vault, VaultError},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime::Handle;

/// Longest manifest, index or listing that is fetched into memory, bytes.
const LEN_MAX: u64 = 2 << 30;

pub struct Manifests<'a> {
    pub vault: Arc<dyn Vault>,
    pub runtime: Handle,
    pub opener: Option<&'a Opener>,
    /// Where those are kept that were fetched.
    pub kept: PathBuf,
}

impl Manifests<'_> {
    /// Where the manifest `key` of the piece `of` can be read: `local`, if it is whole, or a copy of the one in the vault.
    pub fn of(&self, local: &Path, key: &Key, of: &Key) -> Result<PathBuf, BringError> {
        if let Some(manifest) = self.at_hand(local, key, of) {
            return Ok(manifest);
        }
        let kept = self.keep(key, &self.open(key)?)?;
        if is_whole(&kept, of) {
            return Ok(kept);
        }
        durable::remove(&kept)?;
        let damaged = io::Error::new(io::ErrorKind::InvalidData, format!("it is not the manifest of {of}"));
        Err(RestoreError::Damaged { path: kept, source: damaged }.into())
    }

    /// The same, of one that need not be fetched.
    pub fn at_hand(&self, local: &Path, key: &Key, of: &Key) -> Option<PathBuf> {
        [local.to_owned(), self.place(key)].into_iter().find(|manifest| is_whole(manifest, of))
    }

    /// Keeps a manifest that was opened. Gives where.
    pub fn keep(&self, key: &Key, bytes: &[u8]) -> Result<PathBuf, DurableError> {
        let kept = self.place(key);
        durable::create_dir(kept.parent().expect("a key has a directory"))?;
        durable::write(&kept, bytes)?;
        Ok(kept)
    }

    pub(super) fn place(&self, key: &Key) -> PathBuf {
        self.kept.join(key.as_str()).with_extension("clear")
    }

    /// A small object as it would lie on this host: opened, but compressed as it is.
    pub fn open(&self, key: &Key) -> Result<Vec<u8>, BringError> {
        let held = self.runtime.block_on(patiently(|| self.vault.head(key)))?;
        let gone = || VaultError::new("find", key, Cause::Gone, "there is no such object");
        let size = held.ok_or_else(gone)?.size.min(LEN_MAX);
        let bytes = self.runtime.block_on(patiently(|| self.vault.get_range(key, 0, size)))?;
        let sealed = self.kept.join(key.as_str());
        durable::create_dir(sealed.parent().expect("a key has a directory"))?;
        durable::write(&sealed, &bytes)?;
        let (_, Form { is_sealed, .. }) = form(&sealed)?;
        let plain = Form { is_sealed, compression: Compression::None };
        let mut clear = Vec::new();
        with_clear(&sealed, plain, self.opener, |bytes| {
            bytes.read_to_end(&mut clear).map_err(|source| RestoreError::Damaged { path: sealed.clone(), source })?;
            Ok(())
        })?;
        durable::remove(&sealed)?;
        Ok(clear)
    }
}

/// Whether the manifest of this piece lies there, and can be read to its end.
fn is_whole(manifest: &Path, of: &Key) -> bool {
    read_manifest(manifest).is_ok_and(|mut lines| lines.head().key == of.as_str() && lines.all(|line| line.is_ok()))
}
