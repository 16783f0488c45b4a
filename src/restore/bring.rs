//! Brings pieces back, one after the other in walk order: all are thawed at once, each is fetched when it can be
//! read, opened, unpacked, and removed from the disk again. A piece that is lost or damaged costs its own members only.

use super::{
    fetch::{FetchError, Object, fetch, patiently},
    manifests::Manifests,
    open::{RestoreError, form, with_clear},
    unpack::{UnpackError, Unpacker},
};
use crate::{
    catalog::PieceRow,
    durable::{self, DurableError, at},
    encrypt::EncryptError,
    fate::Chain,
    pipeline::local_manifest,
    price::Tier,
    vault::{Cause, Key, KeyError, Thaw, VaultError},
};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often it is asked whether a piece has thawed: soon at first, then as often as makes sense for hours.
const POLL_FIRST: Duration = Duration::from_secs(1);
const POLL_LONGEST: Duration = Duration::from_secs(300);

/// One piece that is to come back.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub object: Object,
    pub manifest_key: Key,
    /// Where its manifest is on this host, if it is.
    pub local_manifest: PathBuf,
}

impl Wanted {
    /// `None`: it is not in the vault yet.
    pub fn of(row: &PieceRow, state: &Path) -> Result<Option<Wanted>, KeyError> {
        let (Some(sealed), Some(delivered)) = (&row.sealed, &row.delivered) else { return Ok(None) };
        Ok(Some(Wanted {
            object: Object { key: delivered.key.parse()?, size: sealed.size, sha256: sealed.sha256.clone() },
            manifest_key: delivered.manifest_key.parse()?,
            local_manifest: local_manifest(state, row.name()),
        }))
    }
}

/// What is going on, for whoever waits.
pub enum News<'a> {
    /// Asked for, and not there yet.
    Thawing(&'a Key),
    Fetching(&'a Key),
    Came(u64),
    Unpacking(&'a Key),
    /// A piece of which nothing, or not all, came.
    Lost {
        key: &'a Key,
        why: String,
    },
}

pub struct Bringing<'a> {
    pub manifests: Manifests<'a>,
    /// Where pieces lie between being fetched and being unpacked.
    pub staging: PathBuf,
    /// What it may hold, bytes.
    pub cap: u64,
    pub tier: Tier,
    pub days: u32,
    pub tell: &'a dyn Fn(News<'_>),
}

/// What ends a restore. Begun again, it goes on.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl BringError {
    /// Whether one object is the trouble, and others may be had.
    fn is_of_object(&self) -> bool {
        match self {
            BringError::Fetch(err) => err.is_of_object(),
            BringError::Restore(RestoreError::Decrypt { source, .. }) => !is_of_key(source),
            BringError::Restore(err) => matches!(err, RestoreError::Damaged { .. }),
        }
    }
}

impl From<VaultError> for BringError {
    fn from(err: VaultError) -> BringError {
        BringError::Fetch(err.into())
    }
}

impl From<DurableError> for BringError {
    fn from(err: DurableError) -> BringError {
        BringError::Fetch(err.into())
    }
}

impl Bringing<'_> {
    /// Gives how many pieces were lost or damaged.
    pub fn run(&self, pieces: &[Wanted], unpacker: &mut Unpacker<'_>) -> Result<u64, BringError> {
        if let Some(Object { key, size, .. }) =
            pieces.iter().map(|piece| &piece.object).find(|object| object.size > self.cap)
        {
            return Err(FetchError::Cap { key: key.clone(), size: *size, cap: self.cap }.into());
        }
        durable::create_dir(&self.staging)?;
        let lock = File::open(&self.staging).map_err(at("open", &self.staging))?;
        lock.try_lock().map_err(|_| FetchError::InUse(self.staging.clone()))?;
        let mut are_there = Vec::new();
        for piece in pieces {
            // Of one that cannot be read to its end nobody knows.
            let is_there = unpacker.is_there(&piece.local_manifest).is_ok_and(|is| is);
            are_there.push(is_there);
            if is_there {
                continue;
            }
            match self.thaw(&piece.object.key) {
                Err(err) if err.cause != Cause::Gone => return Err(err.into()),
                _ => {}
            }
        }
        let mut lost = 0;
        for (piece, is_there) in pieces.iter().zip(are_there) {
            if let Err(why) = self.piece(piece, is_there, unpacker)? {
                lost += 1;
                (self.tell)(News::Lost { key: &piece.object.key, why });
            }
        }
        Ok(lost)
    }

    fn piece(
        &self,
        piece: &Wanted,
        is_there: bool,
        unpacker: &mut Unpacker<'_>,
    ) -> Result<Result<(), String>, BringError> {
        if is_there {
            let passed = unpacker.pass_over(&piece.local_manifest);
            passed.map_err(|source| RestoreError::Unpack { path: piece.local_manifest.clone(), source })?;
            return Ok(Ok(()));
        }
        match self.manifests.of(&piece.local_manifest, &piece.manifest_key) {
            Ok(manifest) => self.bring(piece, &manifest, unpacker),
            Err(err) if err.is_of_object() => Ok(Err(format!("Its manifest: {}", Chain(&err)))),
            Err(err) => Err(err),
        }
    }

    /// `Err(why)`: this piece is lost, or damaged; what did not come of it was told.
    fn bring(
        &self,
        piece: &Wanted,
        manifest: &Path,
        unpacker: &mut Unpacker<'_>,
    ) -> Result<Result<(), String>, BringError> {
        let key = &piece.object.key;
        let file = self.staging.join(key.as_str());
        let mut fetched = self.fetch(&piece.object, &file);
        if matches!(fetched, Err(FetchError::Digest(_))) {
            // What came before an interruption may have been the part that is wrong.
            fetched = self.fetch(&piece.object, &file);
        }
        match fetched {
            Err(err) if err.is_of_object() => {
                durable::remove(&file)?;
                let lost = unpacker.lost(manifest);
                lost.map_err(|source| RestoreError::Unpack { path: manifest.to_owned(), source })?;
                return Ok(Err(Chain(&err).to_string()));
            }
            fetched => fetched?,
        }
        (self.tell)(News::Unpacking(key));
        let (_, form) = form(&file)?;
        let unpacked = with_clear(&file, form, self.manifests.opener, |clear| {
            let unpacked = unpacker.piece(&mut *clear, manifest);
            if !matches!(unpacked, Err(UnpackError::Target(_))) {
                // Only the end tells whether all of it was as it had been sealed.
                let _ = io::copy(clear, &mut io::sink());
            }
            unpacked.map_err(|source| RestoreError::Unpack { path: file.clone(), source })
        });
        match unpacked {
            Err(err @ RestoreError::Unpack { source: UnpackError::Target(_), .. }) => Err(err.into()),
            Err(err @ (RestoreError::NoKey { .. } | RestoreError::Disk(_))) => Err(err.into()),
            Err(RestoreError::Decrypt { path, source }) if is_of_key(&source) => {
                Err(RestoreError::Decrypt { path, source }.into())
            }
            unpacked => {
                durable::remove(&file)?;
                Ok(unpacked.map_err(|err| Chain(&err).to_string()))
            }
        }
    }

    fn thaw(&self, key: &Key) -> Result<Thaw, VaultError> {
        self.manifests.runtime.block_on(patiently(|| self.manifests.vault.thaw(key, self.days, self.tier)))
    }

    fn fetch(&self, object: &Object, file: &Path) -> Result<(), FetchError> {
        let mut wait = POLL_FIRST;
        while self.thaw(&object.key)? != Thaw::Ready {
            (self.tell)(News::Thawing(&object.key));
            self.manifests.runtime.block_on(async { tokio::time::sleep(wait).await });
            wait = (wait * 2).min(POLL_LONGEST);
        }
        (self.tell)(News::Fetching(&object.key));
        let came = |bytes| (self.tell)(News::Came(bytes));
        self.manifests.runtime.block_on(fetch(&self.manifests.vault, object, file, &came))
    }
}

/// What the vault has is what was sealed, by its digest: then it is the key that is wrong.
fn is_of_key(err: &EncryptError) -> bool {
    matches!(err, EncryptError::Key(_) | EncryptError::NoKey { .. })
}
