//! Pieces on shelves and drafts on their way there. How far a piece has come is its type.

use crate::{
    durable::{self, DurableError},
    name::{Compression, Encryption, PieceName},
};
use std::{
    fs::{self, File},
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
    thread,
};

/// A state in which complete pieces stand on a shelf of their own.
pub trait Shelf: Send + Sync + 'static {
    /// The directory below staging.
    const DIR: &'static str;
    /// Suffix of the record in `list/` that must be durable before a piece may stand here.
    const RECORD: &'static str;
}

/// A plain tar.
#[derive(Debug)]
pub enum Packed {}
/// Compressed, and proven to open again.
#[derive(Debug)]
pub enum Compressed {}
/// Encrypted, proven to open again, with its manifest beside it.
#[derive(Debug)]
pub enum Encrypted {}

impl Shelf for Packed {
    const DIR: &'static str = "tar";
    const RECORD: &'static str = ".tar.jsonl";
}

impl Shelf for Compressed {
    const DIR: &'static str = "xz";
    const RECORD: &'static str = ".xz.json";
}

impl Shelf for Encrypted {
    const DIR: &'static str = "gpg";
    const RECORD: &'static str = ".gpg.json";
}

/// A complete piece on the shelf of its state.
#[derive(Debug)]
pub struct Piece<S> {
    name: PieceName,
    path: PathBuf,
    len: u64,
    state: PhantomData<S>,
}

impl<S: Shelf> Piece<S> {
    /// The piece whose file is at `path`.
    pub(super) fn at(name: PieceName, path: &Path) -> io::Result<Piece<S>> {
        Ok(Piece { name, path: path.to_owned(), len: fs::symlink_metadata(path)?.len(), state: PhantomData })
    }

    pub fn name(&self) -> &PieceName {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `.tar.xz.gpg` and the like, as the file's name says it.
    pub fn suffix(&self) -> String {
        let file_name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        file_name.strip_prefix(&self.name.to_string()).unwrap_or_default().to_owned()
    }

    /// How the file's name says it is compressed and encrypted.
    pub fn methods(&self) -> (Compression, Encryption) {
        methods(&self.suffix()).unwrap_or((Compression::None, Encryption::None))
    }

    /// Removes the file: its successor is safe. May be repeated.
    pub fn discard(&self) -> Result<(), DurableError> {
        durable::remove(&self.path)
    }
}

/// Splits the name of a file on a shelf into the piece's name and the suffix from `.tar` on.
pub(super) fn split(file_name: &str) -> Option<(PieceName, &str)> {
    let at = file_name.rfind(".tar")?;
    let (stem, suffix) = file_name.split_at(at);
    methods(suffix)?;
    Some((stem.parse().ok()?, suffix))
}

fn methods(suffix: &str) -> Option<(Compression, Encryption)> {
    let rest = suffix.strip_prefix(".tar")?;
    for compression in [Compression::Xz, Compression::Zstd, Compression::None] {
        for encryption in [Encryption::OpenPgp, Encryption::None] {
            if rest == format!("{}{}", compression.suffix(), encryption.suffix()) {
                return Some((compression, encryption));
            }
        }
    }
    None
}

/// Whether this is the tree listing or the index of a pass on its way: `data.20261120T200000Z.index…`.
pub(super) fn is_pass_object(file_name: &str) -> bool {
    let mut words = file_name.splitn(3, '.');
    let (Some(source), Some(pass), Some(rest)) = (words.next(), words.next(), words.next()) else { return false };
    source.parse::<crate::name::SourceName>().is_ok()
        && pass.parse::<crate::name::PassId>().is_ok()
        && (rest.starts_with("index.") || rest.starts_with("tree."))
}

/// A piece being written. Dropping it removes it, so a failure needs no cleaning up; one that can go on after
/// a restart is kept instead. A panic leaves of it what a crash would: all if it has a mark, else nothing.
#[derive(Debug)]
pub struct Draft<S> {
    file: File,
    tmp: PathBuf,
    mark: PathBuf,
    keep: bool,
    state: PhantomData<S>,
}

impl<S: Shelf> Draft<S> {
    pub(super) fn new(file: File, tmp: PathBuf, mark: PathBuf) -> Draft<S> {
        Draft { file, tmp, mark, keep: false, state: PhantomData }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.tmp
    }

    pub fn mark_path(&self) -> &Path {
        &self.mark
    }

    /// Leaves the draft where it is if a mark says where it goes on; else it is removed. Tells which.
    pub fn keep_if_marked(mut self) -> bool {
        self.keep = self.mark.exists();
        self.keep
    }

    /// Publishes something that is not a piece (a manifest, a listing) under its own name.
    pub fn publish_as(self, dest: &Path) -> Result<(), DurableError> {
        self.publish(dest)
    }

    pub(super) fn publish(mut self, dest: &Path) -> Result<(), DurableError> {
        durable::publish(&self.file, &self.tmp, dest)?;
        self.keep = true;
        durable::remove(&self.mark)
    }
}

impl<S> Drop for Draft<S> {
    fn drop(&mut self) {
        let stays = self.keep || thread::panicking() && self.mark.exists();
        if !stays {
            // The mark first: without it the rest is swept at the next start. Nothing hangs on this
            // succeeding now.
            let _ = fs::remove_file(&self.mark);
            let _ = fs::remove_file(&self.tmp);
        }
    }
}
