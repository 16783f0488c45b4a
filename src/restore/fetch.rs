//! Brings an object from the vault to the disk: ranges side by side, written in order, and whole only with the size
//! and the digest that were recorded when it was sealed. What was fetched before an interruption is not fetched again.

use crate::{
    archive::pack::hex,
    durable::{self, DurableError, at},
    fate::{Fate, Fateful, Trouble},
    pipeline::{Backoff, Limit},
    upload::chance,
    vault::{Cause, Key, Vault, VaultError},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::JoinSet;

/// Bytes that are asked for at once.
const RANGE_LEN: u64 = 8 << 20;
/// Ranges under way.
const RANGES: u64 = 8;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Disk(#[from] DurableError),
    #[error("{key} is {found} bytes long in the vault, and was {size} when it was sealed")]
    Size { key: Key, size: u64, found: u64 },
    #[error("{0} is not what was sealed: its digest is another one")]
    Digest(Key),
    #[error("There is room for {free} bytes in {path:?}, and {key} has {size}; `restore.path` can name another disk")]
    NoRoom { key: Key, size: u64, free: u64, path: PathBuf },
    #[error("{key} has {size} bytes, and `restore.cap` allows {cap}")]
    Cap { key: Key, size: u64, cap: u64 },
    #[error("Another restore works in {0:?}; `restore.path` can name another directory")]
    InUse(PathBuf),
}

impl FetchError {
    /// Whether the object is the trouble, and others may be had.
    pub fn is_of_object(&self) -> bool {
        match self {
            FetchError::Vault(err) => err.cause == Cause::Gone,
            FetchError::Size { .. } | FetchError::Digest(_) => true,
            _ => false,
        }
    }
}

impl Fateful for FetchError {
    fn fate(&self) -> Fate {
        match self {
            FetchError::Vault(err) => err.fate(),
            _ => Fate::Operator,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            FetchError::Vault(_) | FetchError::Size { .. } | FetchError::Digest(_) => Trouble::Vault,
            _ => Trouble::Staging,
        }
    }
}

/// What is to be fetched.
#[derive(Clone, Debug)]
pub struct Object {
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// In hexadecimal; empty where nobody knows it.
    pub sha256: String,
}

/// Asks again and again while that may help: what somebody waits days for must not end for an outage.
pub async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, VaultError>
where
    F: Future<Output = Result<T, VaultError>>,
{
    let mut backoff = Backoff::default();
    loop {
        let err = match ask().await {
            Err(err) if err.fate() == Fate::Retry && err.cause != Cause::Gone => err,
            answer => return answer,
        };
        let wait = backoff.failed(err.waits(), err.fate(), jiff::Timestamp::now(), Limit::Never, chance());
        let wait = wait.expect("whoever never gives up waits");
        tracing::warn!("Will try again in {} s: {}", wait.as_secs(), crate::fate::Chain(&err));
        tokio::time::sleep(wait).await;
    }
}

/// Makes the directory of restores ours while what is given lives. None of these objects may be larger than `cap`.
pub fn occupy<'a>(staging: &Path, cap: u64, objects: impl IntoIterator<Item = &'a Object>) -> Result<File, FetchError> {
    if let Some(Object { key, size, .. }) = objects.into_iter().find(|object| object.size > cap) {
        return Err(FetchError::Cap { key: key.clone(), size: *size, cap });
    }
    durable::create_dir(staging)?;
    let lock = File::open(staging).map_err(at("open", staging))?;
    lock.try_lock().map_err(|_| FetchError::InUse(staging.to_owned()))?;
    Ok(lock)
}

/// As [`fetch`], and once more where the digest is wrong: what came before an interruption may have been the part that is.
pub async fn fetch_proven(
    vault: &Arc<dyn Vault>,
    object: &Object,
    dest: &Path,
    came: &dyn Fn(u64),
) -> Result<(), FetchError> {
    match fetch(vault, object, dest, came).await {
        Err(FetchError::Digest(_)) => fetch(vault, object, dest, came).await,
        fetched => fetched,
    }
}

/// Fetches `object` to `dest`. `came` is told of bytes as they come.
async fn fetch(vault: &Arc<dyn Vault>, object: &Object, dest: &Path, came: &dyn Fn(u64)) -> Result<(), FetchError> {
    let dir = dest.parent().expect("a file of ours lies in a directory");
    durable::create_dir(dir)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dest);
    let file = file.map_err(at("create", dest))?;
    let (mut hasher, mut have) = known(&file, object.size).map_err(at("read", dest))?;
    came(have);
    let free = durable::free(dir)?.bytes;
    if object.size - have > free {
        return Err(FetchError::NoRoom { key: object.key.clone(), size: object.size, free, path: dir.to_owned() });
    }
    let (mut asked, mut waiting, mut under_way) = (have, BTreeMap::new(), JoinSet::new());
    while have < object.size {
        while asked < object.size && asked - have < RANGES * RANGE_LEN {
            let (vault, key, offset) = (vault.clone(), object.key.clone(), asked);
            let len = RANGE_LEN.min(object.size - offset);
            under_way.spawn(async move { (offset, len, patiently(|| vault.get_range(&key, offset, len)).await) });
            asked += len;
        }
        let Some(done) = under_way.join_next().await else { break };
        let (offset, len, bytes) = done.map_err(io::Error::other).map_err(at("fetch", dest))?;
        let bytes = bytes?;
        if bytes.len() as u64 != len {
            return Err(FetchError::Size {
                key: object.key.clone(),
                size: object.size,
                found: offset + bytes.len() as u64,
            });
        }
        waiting.insert(offset, bytes);
        while let Some(bytes) = waiting.remove(&have) {
            hasher.update(&bytes);
            file.write_all_at(&bytes, have).map_err(at("write", dest))?;
            have += bytes.len() as u64;
            came(bytes.len() as u64);
        }
    }
    if !object.sha256.is_empty() && hex(hasher) != object.sha256 {
        durable::remove(dest)?;
        return Err(FetchError::Digest(object.key.clone()));
    }
    Ok(())
}

/// What was fetched before. More than there is to be fetched is not ours.
fn known(file: &File, size: u64) -> io::Result<(Sha256, u64)> {
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let (mut hasher, mut buffer, mut have) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        match (&*file).read(&mut buffer)? {
            0 => return Ok((hasher, have)),
            len => {
                hasher.update(&buffer[..len]);
                have += len as u64;
            }
        }
    }
}
