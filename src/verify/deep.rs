//! Fetches pieces and proves them as whoever restores would find them, with the manifests that lie beside them: they are
//! thawed ahead, each is fetched when it can be read, proven to its last member, and removed again. Nothing is
//! written but in the directory of restores.

use super::{
    Finding, Verdict,
    prove::{Proof, prove_object},
};
use crate::{
    catalog::PieceRow,
    durable,
    fate::Chain,
    restore::{
        Ahead, BringError, FetchError, Manifests, News, Object, Thawing, Wanted, fetch_proven, occupy, patiently,
    },
    vault::{Cause, Crc64, KeyError, checksum::crc64},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the manifest of the piece lies that is being proven.
const MANIFEST: &str = "verify.manifest";

/// A piece that is to be proven, and what is known of its sealed manifest: a damaged one may look as if it were of another
/// key.
#[derive(Clone, Debug)]
pub struct Target {
    pub wanted: Wanted,
    pub manifest_size: u64,
    pub manifest_crc64: Crc64,
}

impl Target {
    /// `None`: it is not in the vault yet.
    pub fn of(row: &PieceRow, state: &Path) -> Result<Option<Target>, KeyError> {
        let Some((wanted, sealed)) = Wanted::of(row, state)?.zip(row.sealed.as_ref()) else { return Ok(None) };
        let (manifest_size, manifest_crc64) = (sealed.manifest_size, Crc64(sealed.manifest_crc64));
        Ok(Some(Target { wanted, manifest_size, manifest_crc64 }))
    }
}

pub struct Deep<'a> {
    pub manifests: Manifests<'a>,
    /// Where a piece lies between being fetched and being proven.
    pub staging: PathBuf,
    /// What it may hold, bytes.
    pub cap: u64,
    pub thawing: Thawing<'a>,
    pub news: &'a dyn Fn(News<'_>),
}

impl Deep<'_> {
    /// Proves these, one after the other. `proven` is told of each that is whole, as soon as it is. An error ends all:
    /// the vault, the disk or the keys are the trouble, and no object.
    pub fn run(
        &self,
        pieces: &[Target],
        tell: &mut dyn FnMut(&Target, Finding),
        proven: &mut dyn FnMut(&Target, Proof),
    ) -> Result<(), BringError> {
        let _lock = occupy(&self.staging, self.cap, pieces.iter().map(|piece| &piece.wanted.object))?;
        let mut ahead = Ahead::new(pieces.iter().map(|piece| &piece.wanted).collect());
        for piece in pieces {
            self.thawing.go_ahead(&mut ahead)?;
            let mut is_whole = true;
            let mut told = |finding: Finding| {
                is_whole &= finding.verdict <= Verdict::Changed;
                tell(piece, finding);
            };
            let proof = self.piece(piece, &mut told)?;
            ahead.fetched(piece.wanted.object.size, (0, Duration::ZERO));
            if let Some(proof) = proof.filter(|_| is_whole) {
                proven(piece, proof);
            }
        }
        Ok(())
    }

    fn piece(&self, piece: &Target, tell: &mut dyn FnMut(Finding)) -> Result<Option<Proof>, BringError> {
        let file = self.staging.join(piece.wanted.object.key.as_str());
        let manifest = self.staging.join(MANIFEST);
        let done = self.proof(piece, &file, &manifest, tell);
        // What was fetched before an outage is not fetched again.
        if !matches!(done, Err(BringError::Fetch(_))) {
            durable::remove(&file)?;
        }
        durable::remove(&manifest)?;
        durable::remove(&self.manifests.kept.join(piece.wanted.manifest_key.as_str()))?;
        done
    }

    fn proof(
        &self,
        piece: &Target,
        file: &Path,
        manifest: &Path,
        tell: &mut dyn FnMut(Finding),
    ) -> Result<Option<Proof>, BringError> {
        let (object, key) = (&piece.wanted.object, &piece.wanted.object.key);
        // Those of the vault are what is left when this host is not.
        match self.manifest(piece) {
            Ok(bytes) => durable::write(manifest, &bytes)?,
            Err(err) => {
                let Some(verdict) = trouble(&err) else { return Err(err) };
                tell(Finding::object(verdict, &piece.wanted.manifest_key, Chain(&err).to_string()));
                durable::write(manifest, &fs::read(&piece.wanted.local_manifest).unwrap_or_default())?;
            }
        }
        if let Err(err) = self.fetch(object, file) {
            let Some(verdict) = trouble(&err) else { return Err(err) };
            tell(Finding::object(verdict, key, Chain(&err).to_string()));
            durable::remove(file)?;
            return Ok(None);
        }
        (self.news)(News::Unpacking(key));
        let proven = prove_object(file, self.manifests.opener, Some(manifest), tell).map_err(BringError::from);
        let (verdict, why) = match proven {
            Ok(Ok(proof)) => return Ok(Some(proof)),
            Ok(Err(err)) => (Verdict::Damaged, Chain(&err).to_string()),
            Err(err) => match trouble(&err) {
                Some(verdict) => (verdict, Chain(&err).to_string()),
                None => return Err(err),
            },
        };
        tell(Finding::object(verdict, key, why));
        Ok(None)
    }

    /// The manifest as the vault has it, compressed and clear.
    fn manifest(&self, piece: &Target) -> Result<Vec<u8>, BringError> {
        let (key, vault) = (&piece.wanted.manifest_key, &self.manifests.vault);
        if piece.manifest_size == 0 {
            // Of a catalog that was made of an index, which does not tell.
            return self.manifests.open(key);
        }
        // A byte more than there should be shows that it is longer.
        let sealed = patiently(|| vault.get_range(key, 0, piece.manifest_size + 1));
        let sealed = self.manifests.runtime.block_on(sealed)?;
        if sealed.len() as u64 != piece.manifest_size {
            let (size, found) = (piece.manifest_size, sealed.len() as u64);
            return Err(FetchError::Size { key: key.clone(), size, found }.into());
        }
        if crc64(&sealed) != piece.manifest_crc64 {
            return Err(FetchError::Digest(key.clone()).into());
        }
        self.manifests.open(key)
    }

    fn fetch(&self, object: &Object, file: &Path) -> Result<(), BringError> {
        self.thawing.wait(&object.key)?;
        (self.news)(News::Fetching(&object.key));
        let came = |bytes| (self.news)(News::Came(bytes));
        Ok(self.manifests.runtime.block_on(fetch_proven(&self.manifests.vault, object, file, &came))?)
    }
}

/// What that says of the object, if the object is the trouble. What the vault has is what was sealed, by its digest: if
/// no key opens it, it is the keys that are wrong.
pub fn trouble(err: &BringError) -> Option<Verdict> {
    match err {
        BringError::Fetch(FetchError::Vault(err)) => (err.cause == Cause::Gone).then_some(Verdict::Missing),
        BringError::Fetch(err) => err.is_of_object().then_some(Verdict::Damaged),
        BringError::Restore(_) => err.is_of_object().then_some(Verdict::Damaged),
        BringError::Cancelled => None,
    }
}
