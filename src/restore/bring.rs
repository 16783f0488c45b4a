//! Brings pieces back, one after the other in walk order: they are thawed ahead, each is fetched when it can be
//! read, opened, unpacked, and removed from the disk again. A piece that is lost or damaged costs its own members only.

use super::{
    derive::derive,
    fetch::{FetchError, Object, fetch_proven, occupy},
    manifests::Manifests,
    open::{RestoreError, form, with_clear},
    thawing::{Ahead, Thawing},
    unpack::{UnpackError, Unpacker},
};
use crate::{
    catalog::{PieceRow, SegmentRow},
    durable::{self, DurableError},
    fate::Chain,
    name::PieceName,
    path::SourcePath,
    pipeline::local_manifest,
    vault::{Key, KeyError, VaultError},
};
use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

/// One piece that is to come back.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: PieceName,
    /// Where its range begins.
    pub first: SourcePath,
    /// Of a file that is larger than a piece, where that is known.
    pub segment: Option<SegmentRow>,
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
            name: row.name().clone(),
            first: row.packed.first.clone(),
            segment: row.packed.segment,
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
    /// All that there is of it came, or is in place.
    Done(&'a Key),
    /// Its manifest is gone or damaged: the piece tells itself what is in it.
    Derived {
        key: &'a Key,
        why: String,
    },
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
    pub thawing: Thawing<'a>,
    pub tell: &'a dyn Fn(News<'_>),
}

/// What ends a restore. Begun again, it goes on.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("It was cancelled")]
    Cancelled,
}

impl BringError {
    /// Whether one object is the trouble, and others may be had.
    pub fn is_of_object(&self) -> bool {
        match self {
            BringError::Cancelled => false,
            BringError::Fetch(err) => err.is_of_object(),
            BringError::Restore(err) => {
                matches!(err, RestoreError::Damaged { .. } | RestoreError::Decrypt { .. }) && !err.is_of_all()
            }
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
        let _lock = occupy(&self.staging, self.cap, pieces.iter().map(|piece| &piece.object))?;
        let mut are_there = Vec::new();
        for piece in pieces {
            // Of one that cannot be read to its end nobody knows.
            let manifest = self.manifests.at_hand(&piece.local_manifest, &piece.manifest_key, &piece.object.key);
            are_there.push(manifest.filter(|manifest| unpacker.is_there(manifest).is_ok_and(|is| is)));
        }
        let missing = pieces.iter().zip(&are_there).filter(|(_, there)| there.is_none()).map(|(piece, _)| piece);
        let mut ahead = Ahead::new(missing.collect());
        let mut lost = 0;
        for (piece, there) in pieces.iter().zip(&are_there) {
            self.thawing.go_ahead(&mut ahead)?;
            if let Err(why) = self.piece(piece, there.as_deref(), &mut ahead, unpacker)? {
                lost += 1;
                (self.tell)(News::Lost { key: &piece.object.key, why });
            }
            (self.tell)(News::Done(&piece.object.key));
        }
        Ok(lost)
    }

    /// `Err(why)`: this piece is lost, or damaged; what did not come of it was told. `there`: the manifest of one of which
    /// nothing is missing.
    fn piece(
        &self,
        piece: &Wanted,
        there: Option<&Path>,
        ahead: &mut Ahead<'_>,
        unpacker: &mut Unpacker<'_>,
    ) -> Result<Result<(), String>, BringError> {
        if let Some(manifest) = there {
            let passed = unpacker.pass_over(manifest);
            passed.map_err(|source| RestoreError::Unpack { path: manifest.to_owned(), source })?;
            return Ok(Ok(()));
        }
        let manifest = match self.manifests.of(&piece.local_manifest, &piece.manifest_key, &piece.object.key) {
            Err(err) if err.is_of_object() => Err(Chain(&err).to_string()),
            manifest => Ok(manifest?),
        };
        let (key, file) = (&piece.object.key, self.staging.join(piece.object.key.as_str()));
        // What is gone, or refused, is told when it is fetched.
        match self.thawing.wait(key) {
            Err(err) if ahead.is_of_object(&err) => {}
            ready => ready?,
        }
        let (began, had) = (Instant::now(), std::fs::metadata(&file).map_or(0, |meta| meta.len()));
        let fetched = self.fetch(&piece.object, &file);
        let came = if fetched.is_ok() { piece.object.size.saturating_sub(had) } else { 0 };
        ahead.fetched(piece.object.size, (came, began.elapsed()));
        match fetched {
            Err(err) if ahead.is_of_object(&err) => {
                durable::remove(&file)?;
                if let Ok(manifest) = &manifest {
                    let lost = unpacker.lost(manifest);
                    lost.map_err(|source| RestoreError::Unpack { path: manifest.clone(), source })?;
                }
                return Ok(Err(Chain(&err).to_string()));
            }
            fetched => fetched?,
        }
        let unpacked = match manifest {
            Ok(manifest) => self.unpack(key, &file, &manifest, unpacker),
            Err(why) => self.derive(piece, &file, why).and_then(|made| self.unpack(key, &file, &made, unpacker)),
        };
        match unpacked {
            Err(err) if err.is_of_all() => Err(err.into()),
            unpacked => {
                durable::remove(&file)?;
                Ok(unpacked.map_err(|err| Chain(&err).to_string()))
            }
        }
    }

    fn unpack(&self, key: &Key, file: &Path, manifest: &Path, unpacker: &mut Unpacker<'_>) -> Result<(), RestoreError> {
        (self.tell)(News::Unpacking(key));
        let (_, form) = form(file)?;
        with_clear(file, form, self.manifests.opener, |clear| {
            let unpacked = unpacker.piece(&mut *clear, manifest);
            if !matches!(unpacked, Err(UnpackError::Target(_))) {
                // Only the end tells whether all of it was as it had been sealed.
                let _ = io::copy(clear, &mut io::sink());
            }
            unpacked.map_err(|source| RestoreError::Unpack { path: file.to_owned(), source })
        })
    }

    fn derive(&self, piece: &Wanted, file: &Path, why: String) -> Result<PathBuf, RestoreError> {
        (self.tell)(News::Derived { key: &piece.object.key, why });
        let made = self.manifests.place(&piece.manifest_key);
        derive(file, piece, self.manifests.opener, &made)?;
        Ok(made)
    }

    /// A restore that is cancelled meanwhile keeps what came so far.
    fn fetch(&self, object: &Object, file: &Path) -> Result<(), BringError> {
        (self.tell)(News::Fetching(&object.key));
        let came = |bytes| (self.tell)(News::Came(bytes));
        self.manifests.runtime.block_on(async {
            tokio::select! {
                fetched = fetch_proven(&self.manifests.vault, object, file, &came) => Ok(fetched?),
                cancelled = self.thawing.cancelled() => Err(cancelled),
            }
        })
    }
}
