//! The working directory: the durable queue between the stages.
//!
//! ```text
//! tmp/    drafts, and the marks from which long ones go on
//! tar/    packed pieces            list/  what is known of each piece: member lists and records
//! xz/     compressed pieces
//! gpg/    encrypted pieces and their manifests, ready for the vault
//! lock    flock; a second daemon refuses to start
//! ```
//!
//! A file on a shelf is complete and never written again. Its record in `list/` is durable before it gets its
//! name on the shelf, so that whoever finds it there also knows what it must be. On start drafts that cannot go
//! on are swept, and of a piece that stands on two shelves the less finished twin goes: the farther one was
//! proven before it got its name.

mod budget;
mod piece;
mod probe;
mod record;
mod source;
mod stop;

pub use budget::{Budget, Reservation};
pub use piece::{Compressed, Draft, Encrypted, Packed, Piece, Shelf};
pub use probe::{is_in_use, probe, used_below};
pub use record::{RecordError, read_record, write_record};
pub use source::{Digest, HashingWriter, Source, Tally, drop_pages};
pub use stop::{Excuse, Heeding, Stop};

use crate::{
    durable::{self, DurableError, at},
    fate::{Fate, Fateful, Trouble},
    name::PieceName,
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const TMP: &str = "tmp";
const LIST: &str = "list";
const DIRS: [&str; 5] = [TMP, Packed::DIR, Compressed::DIR, Encrypted::DIR, LIST];
/// Suffix of the file from which a draft goes on after a restart.
const MARK: &str = ".mark";
/// What directories and the lock may take, beside what files take.
const BASE_BYTES: u64 = 128 << 10;

#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    #[error("Staging {0:?} is in use by another archiver")]
    Locked(PathBuf),
    #[error(transparent)]
    Disk(#[from] DurableError),
}

impl Fateful for StagingError {
    fn fate(&self) -> Fate {
        match self {
            StagingError::Locked(_) => Fate::Operator,
            StagingError::Disk(_) => Fate::Retry,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            StagingError::Locked(_) => Trouble::State,
            StagingError::Disk(_) => Trouble::Staging,
        }
    }
}

#[derive(Debug)]
pub struct Staging {
    root: PathBuf,
    budget: Budget,
    /// Held as long as this lives; the kernel drops it with the process, however that ends.
    lock: File,
}

/// What a start found on the shelves, each piece on the farthest one, in order of names.
#[derive(Debug, Default)]
pub struct Backlog {
    pub packed: Vec<Piece<Packed>>,
    pub compressed: Vec<Piece<Compressed>>,
    pub encrypted: Vec<Piece<Encrypted>>,
    /// Listings and indexes of passes on their way to the vault, on the last shelf.
    pub pass_objects: Vec<String>,
    /// Names that are not ours; left alone, but they count against the cap.
    pub foreign: Vec<PathBuf>,
}

impl Staging {
    /// Takes the lock, makes the directories, sweeps what cannot go on, and tells what is there.
    /// `cap` is in bytes of allocated blocks.
    pub fn open(root: &Path, cap: u64) -> Result<(Staging, Backlog), StagingError> {
        durable::create_dir(root)?;
        let lock_path = root.join("lock");
        let lock = match durable::create(&lock_path) {
            Ok(file) => file,
            Err(err) if err.source.kind() == io::ErrorKind::AlreadyExists => {
                File::open(&lock_path).map_err(at("open", &lock_path))?
            }
            Err(err) => return Err(err.into()),
        };
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StagingError::Locked(root.to_owned()));
        }
        for dir in DIRS {
            durable::create_dir(&root.join(dir))?;
        }
        let staging = Staging { root: root.to_owned(), budget: Budget::new(cap), lock };
        let backlog = staging.sweep()?;
        staging.budget.set_base(BASE_BYTES + allocated(&backlog.foreign));
        Ok((staging, backlog))
    }

    /// Gives the lock back, of a process that ends: the kernel keeps its files open for as long as one of its threads
    /// waits for an answer that does not come.
    pub fn unlock(&self) {
        let _ = rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::Unlock);
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Allocated bytes of everything in the working directory, as `du` counts them.
    pub fn used(&self) -> Result<u64, StagingError> {
        let mut files = Vec::new();
        for dir in DIRS {
            files.extend(self.names(dir)?.into_iter().map(|name| self.root.join(dir).join(name)));
        }
        Ok(BASE_BYTES + allocated(&files))
    }

    /// A path in `list/`.
    pub fn list_file(&self, name: &PieceName, suffix: &str) -> PathBuf {
        self.root.join(LIST).join(format!("{name}{suffix}"))
    }

    /// A path in `tmp/`.
    pub fn tmp_file(&self, file_name: &str) -> PathBuf {
        self.root.join(TMP).join(file_name)
    }

    /// The mark from which the draft of this file name goes on.
    pub fn mark_file(&self, file_name: &str) -> PathBuf {
        self.root.join(TMP).join(format!("{file_name}{MARK}"))
    }

    /// The piece's file on a shelf, whether it is there or not.
    pub fn shelf_file<S: Shelf>(&self, file_name: &str) -> PathBuf {
        self.root.join(S::DIR).join(file_name)
    }

    /// Names of all marks in `tmp/`.
    pub fn marks(&self) -> Result<Vec<String>, StagingError> {
        Ok(self.names(TMP)?.into_iter().filter(|name| name.ends_with(MARK)).collect())
    }

    /// Begins a draft, in place of an older one of that name, whose mark goes first: it is none of the new one.
    pub fn draft<S: Shelf>(&self, file_name: &str) -> Result<Draft<S>, StagingError> {
        let tmp = self.tmp_file(file_name);
        durable::remove(&self.mark_file(file_name))?;
        durable::remove(&tmp)?;
        Ok(Draft::new(durable::create(&tmp)?, tmp, self.mark_file(file_name)))
    }

    /// Opens a draft that goes on.
    pub fn reopen_draft<S: Shelf>(&self, file_name: &str) -> Result<Draft<S>, StagingError> {
        let tmp = self.tmp_file(file_name);
        let file = File::options().read(true).write(true).open(&tmp).map_err(at("open", &tmp))?;
        Ok(Draft::new(file, tmp, self.mark_file(file_name)))
    }

    /// Gives a complete, proven draft its place on the shelf. Its record is durable already.
    pub fn publish<S: Shelf>(&self, draft: Draft<S>, name: &PieceName, suffix: &str) -> Result<Piece<S>, StagingError> {
        let dest = self.shelf_file::<S>(&format!("{name}{suffix}"));
        draft.publish(&dest)?;
        Ok(Piece::at(name.clone(), &dest).map_err(at("examine", &dest))?)
    }

    /// Where a piece stands that was moved to the next shelf as it is.
    pub fn forwarded<A: Shelf, B: Shelf>(&self, piece: &Piece<A>) -> PathBuf {
        self.root.join(B::DIR).join(piece.path().file_name().expect("a file on a shelf has a name"))
    }

    /// Moves a piece to the next shelf as it is, for methods `none`. May be repeated.
    pub fn forward<A: Shelf, B: Shelf>(&self, piece: &Piece<A>) -> Result<Piece<B>, StagingError> {
        let dest = self.forwarded::<A, B>(piece);
        if piece.path().exists() || !dest.exists() {
            durable::rename(piece.path(), &dest)?;
        }
        Ok(Piece::at(piece.name().clone(), &dest).map_err(at("examine", &dest))?)
    }

    /// Removes everything that is known and held of a piece: after its delivery, or when it is lost.
    /// The shelves go first, so that a crash in between never leaves a piece without its records.
    pub fn forget(&self, name: &PieceName) -> Result<(), StagingError> {
        let id = name.id();
        for dir in [TMP, Packed::DIR, Compressed::DIR, Encrypted::DIR, LIST] {
            for file_name in self.names(dir)? {
                if belongs_to(&file_name, &id) {
                    durable::remove(&self.root.join(dir).join(file_name))?;
                }
            }
        }
        self.budget.release(&id);
        Ok(())
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, StagingError> {
        let dir = self.root.join(dir);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at("list", &dir))? {
            // A name that is not UTF-8 is not ours; lossy text never parses as ours either.
            names.push(entry.map_err(at("list", &dir))?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn sweep(&self) -> Result<Backlog, StagingError> {
        let mut backlog = Backlog::default();
        self.sweep_drafts(&mut backlog)?;
        let mut far = BTreeSet::new();
        self.shelf::<Encrypted>(&mut far, &mut backlog.encrypted, &mut backlog.foreign)?;
        self.shelf::<Compressed>(&mut far, &mut backlog.compressed, &mut backlog.foreign)?;
        self.shelf::<Packed>(&mut far, &mut backlog.packed, &mut backlog.foreign)?;
        self.sweep_gpg_and_list(&far, &mut backlog)?;
        Ok(backlog)
    }

    /// Keeps drafts with a mark; everything else in `tmp/` that is ours goes.
    fn sweep_drafts(&self, backlog: &mut Backlog) -> Result<(), StagingError> {
        let names = self.names(TMP)?;
        for name in &names {
            let path = self.root.join(TMP).join(name);
            let base = name.strip_suffix(MARK).unwrap_or(name);
            let has_mark = names.binary_search(&format!("{}{MARK}", draft_of(base))).is_ok();
            if !is_ours(name) {
                backlog.foreign.push(path);
            } else if name.ends_with(MARK) && names.binary_search(&base.to_owned()).is_err() || !has_mark {
                durable::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Collects what stands on one shelf; a twin that stands farther makes it stale.
    fn shelf<S: Shelf>(
        &self,
        far: &mut BTreeSet<String>,
        pieces: &mut Vec<Piece<S>>,
        foreign: &mut Vec<PathBuf>,
    ) -> Result<(), StagingError> {
        for file_name in self.names(S::DIR)? {
            let path = self.root.join(S::DIR).join(&file_name);
            let Some((name, _)) = piece::split(&file_name) else {
                if S::DIR != Encrypted::DIR || !is_manifest(&file_name) && !piece::is_pass_object(&file_name) {
                    foreign.push(path);
                }
                continue;
            };
            let known = self.list_file(&name, S::RECORD).exists();
            if far.contains(&name.id()) || !known {
                durable::remove(&path)?;
                continue;
            }
            far.insert(name.id());
            pieces.push(Piece::at(name, &path).map_err(at("examine", &path))?);
        }
        Ok(())
    }

    /// Manifests and records without a piece are what a crash left before the piece got its name. A member
    /// list alone is kept for the caller to judge only when the piece is on a shelf.
    fn sweep_gpg_and_list(&self, far: &BTreeSet<String>, backlog: &mut Backlog) -> Result<(), StagingError> {
        let sealed: Vec<String> = backlog.encrypted.iter().map(|piece| piece.name().id()).collect();
        for name in self.names(Encrypted::DIR)? {
            let id = id_of(&name);
            if is_manifest(&name) && !id.is_some_and(|id| sealed.contains(&id)) {
                durable::remove(&self.root.join(Encrypted::DIR).join(&name))?;
            } else if piece::is_pass_object(&name) {
                backlog.pass_objects.push(name);
            }
        }
        for name in self.names(LIST)? {
            let path = self.root.join(LIST).join(&name);
            match id_of(&name) {
                None => backlog.foreign.push(path),
                Some(id) if far.contains(&id) && !name.ends_with(".new") => {}
                Some(_) => durable::remove(&path)?,
            }
        }
        Ok(())
    }
}

/// The draft that a file in `tmp/` belongs to: a member list goes with its tar.
fn draft_of(name: &str) -> String {
    match name.strip_suffix(".jsonl") {
        Some(stem) => format!("{stem}.tar"),
        None => name.to_owned(),
    }
}

/// The id of the piece that a file of ours belongs to: `data.20261120T200000Z.000017`.
fn id_of(file_name: &str) -> Option<String> {
    let mut words = file_name.splitn(3, '.');
    let (source, pass, rest) = (words.next()?, words.next()?, words.next()?);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (seq, rest) = rest.split_at(digits);
    let ours = digits >= 6
        && (rest.starts_with('.') || rest.starts_with('-'))
        && source.parse::<crate::name::SourceName>().is_ok()
        && pass.parse::<crate::name::PassId>().is_ok();
    ours.then(|| format!("{source}.{pass}.{seq}"))
}

fn is_ours(file_name: &str) -> bool {
    id_of(file_name).is_some() || piece::is_pass_object(file_name)
}

fn belongs_to(file_name: &str, id: &str) -> bool {
    id_of(file_name).is_some_and(|of| of == id)
}

fn is_manifest(file_name: &str) -> bool {
    id_of(file_name).is_some() && file_name.contains(".manifest.jsonl.zst")
}

fn allocated(files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|file| fs::symlink_metadata(file).ok()).map(|meta| meta.blocks() * 512).sum()
}

#[cfg(test)]
mod tests;
