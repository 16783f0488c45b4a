//! Proves one object: decrypted, decompressed, read to its end as a tar, and every member held against the line of the
//! manifest that tells of it. Nothing is written.

use super::{Finding, Verdict};
use crate::{
    archive::{
        entry::Kind,
        manifest::{Member, note},
        manifest_io::ManifestError,
        pack::{hex, xattr_sha256},
        reader::{TarError, TarMember, TarReader},
    },
    encrypt::Opener,
    path::{SourcePath, escape},
    pipeline::{ManifestReadError, read_manifest},
    restore::{ContentError, RestoreError, form, hash_content, is_of, with_clear},
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    io::{self, Read},
    path::Path,
};

#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("Tar and manifest disagree about {0}")]
    Disagree(String),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("The tar is not the one that was packed: its digest is another one")]
    Digest,
    #[error(transparent)]
    Manifest(#[from] ManifestReadError),
    #[error(transparent)]
    Line(#[from] ManifestError),
}

/// What was found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    pub members: u64,
    /// Of their content.
    pub bytes: u64,
}

/// Reads `file`, whose name says how it was made, to its end. Without a manifest only the form is proven: keys, detection
/// codes, checksums of blocks, headers of members.
pub fn prove_object(
    file: &Path,
    opener: Option<&Opener>,
    manifest: Option<&Path>,
    tell: &mut dyn FnMut(Finding),
) -> Result<Result<Proof, ProveError>, RestoreError> {
    let (_, form) = form(file)?;
    with_clear(file, form, opener, |clear| {
        let proven = match manifest {
            Some(manifest) => prove(&mut *clear, manifest, tell),
            None => read_through(&mut *clear),
        };
        // Only the end tells whether all of it was as it had been sealed.
        let _ = io::copy(clear, &mut io::sink());
        Ok(proven)
    })
}

/// Each member that is not as its line says is told; the number of those is not in the proof.
fn prove(clear: &mut dyn Read, manifest: &Path, tell: &mut dyn FnMut(Finding)) -> Result<Proof, ProveError> {
    let mut lines = read_manifest(manifest)?;
    let due = lines.head().tar_sha256.clone();
    let mut input = Hashing { inner: clear, hasher: Sha256::new() };
    let mut tar = TarReader::new(&mut input);
    let (mut proof, mut originals) = (Proof::default(), HashSet::new());
    loop {
        let found = tar.next_member()?;
        let line = lines.next().transpose()?;
        match (found, line) {
            (None, None) => break,
            (Some(found), Some(line)) if is_of(&found, &line) => {
                proof.members += u64::from(!line.has_note(note::ANCESTOR));
                if found.is_hard_link && !originals.contains(&found.link) {
                    let path = line.source_path().unwrap_or_else(SourcePath::root);
                    tell(Finding::entry(Verdict::Damaged, &path, "it is another name of nothing that is in its piece"));
                }
                member(&mut tar, &found, &line, &mut proof, tell)?;
                if line.nlink > 1 && found.kind != Kind::Dir && !found.is_hard_link {
                    originals.insert(found.name);
                }
            }
            (found, line) => {
                let name =
                    found.map(|found| found.name).or_else(|| line?.source_path().map(|path| path.as_bytes().into()));
                return Err(ProveError::Disagree(escape(&name.unwrap_or_default())));
            }
        }
    }
    if hex(input.hasher) == due { Ok(proof) } else { Err(ProveError::Digest) }
}

fn member(
    tar: &mut TarReader<impl Read>,
    found: &TarMember,
    line: &Member,
    proof: &mut Proof,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), ProveError> {
    let path = line.source_path().unwrap_or_else(SourcePath::root);
    let mut wrong = |what: &str| tell(Finding::entry(Verdict::Damaged, &path, what));
    if found.kind == Kind::File && !found.is_hard_link {
        let sha256 = hash_content(tar, found)?;
        proof.bytes += found.size();
        if line.sha256.as_ref() != Some(&sha256) {
            wrong("its content is not what was archived");
        }
    }
    // Another name carries none; ancestors have only what unpacking them needs.
    let has_xattrs = !found.is_hard_link && !line.has_note(note::ANCESTOR);
    if has_xattrs && line.xattr_sha256 != xattr_sha256(&found.xattrs) {
        wrong("its extended attributes are not those that were archived");
    }
    Ok(())
}

fn read_through(clear: &mut dyn Read) -> Result<Proof, ProveError> {
    let mut tar = TarReader::new(clear);
    let mut proof = Proof::default();
    while let Some(found) = tar.next_member()? {
        if found.kind == Kind::File && !found.is_hard_link {
            hash_content(&mut tar, &found)?;
            proof.bytes += found.size();
        }
        proof.members += 1;
    }
    Ok(proof)
}

struct Hashing<'a> {
    inner: &'a mut dyn Read,
    hasher: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.hasher.update(&buf[..len]);
        Ok(len)
    }
}
