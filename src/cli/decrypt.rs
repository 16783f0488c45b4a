//! `archiver decrypt`: downloaded objects into plain tars, as many at a time as there are cores. One that is damaged
//! keeps no other from being opened.

use super::{Failed, INCOMPLETE, json_line, progress};
use crate::{
    config::Settings,
    encrypt::{Opener, Secret, Unlock},
    fate::{Chain, Fateful},
    restore::{RestoreError, clear_name, open_object},
    units::ByteSize,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, DirEntry},
    io::{self, Write, stderr, stdout},
    num::NonZeroUsize,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, available_parallelism},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Objects as they are in the vault, or directories of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the plain files go; those of a directory with the directories between. Nothing that is there is replaced
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The passphrase, when there is no configuration
    #[arg(long, value_name = "FILE", conflicts_with = "secret_key_file")]
    pub passphrase_file: Option<PathBuf>,
    /// The secret key, when there is no configuration
    #[arg(long, value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
    /// One JSON object per line: the file, and what was made of it, or what is wrong with it
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, decrypt: &Args) -> Result<u8, Failed> {
    let given = (decrypt.passphrase_file.as_deref(), decrypt.secret_key_file.as_deref());
    // People who have only the bucket and the key have no configuration.
    let settings = if given == (None, None) && args.config.exists() { Some(args.settings()?) } else { None };
    let unlock = unlock(given, settings.as_ref())?;
    let opener = unlock.map(|unlock| Opener::open(&unlock)).transpose().map_err(|err| Failed::of(&err))?;
    let jobs = jobs(&decrypt.files, &std::path::absolute(&decrypt.to)?)?;
    let bar = progress::count(
        args.quiet || decrypt.json,
        jobs.len() as u64,
        "[{bar:30}] {pos}/{len} files, {msg}, {elapsed}",
    );
    let (all, next, bytes) = (jobs.len(), AtomicUsize::new(0), AtomicU64::new(0));
    let told = Mutex::new(Told::default());
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 0..cores.min(all) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(at) else { break };
                    let done = job.done(opener.as_ref(), &|came| {
                        let sum = bytes.fetch_add(came, Ordering::Relaxed) + came;
                        bar.set_message(ByteSize(sum).to_string());
                    });
                    bar.inc(1);
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    told.waiting.insert(at, done);
                    bar.suspend(|| told.tell(&jobs, decrypt.json));
                }
            });
        }
    });
    bar.finish_and_clear();
    let Told { codes, .. } = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(match codes.first() {
        None => 0,
        Some(code) if codes.len() == all => *code,
        Some(_) => INCOMPLETE,
    })
}

/// A file, and what is to be made of it.
struct Job {
    file: PathBuf,
    /// Or why it is none of ours.
    dest: Result<PathBuf, RestoreError>,
}

/// What came of it.
enum Done<'a> {
    Made {
        dest: &'a Path,
        bytes: u64,
    },
    /// Something was there. Nobody knows whether it is of this object.
    Kept(&'a Path),
    Failed {
        code: u8,
        why: String,
    },
}

/// What is told in the order in which the files were named, whatever came first.
#[derive(Default)]
struct Told<'a> {
    /// How many are told.
    count: usize,
    waiting: BTreeMap<usize, Done<'a>>,
    /// Exit codes of those that are not as they should be.
    codes: Vec<u8>,
}

impl Told<'_> {
    fn tell(&mut self, jobs: &[Job], as_json: bool) {
        while let Some(done) = self.waiting.remove(&self.count) {
            jobs[self.count].tell(&done, as_json);
            self.codes.extend(done.code());
            self.count += 1;
        }
    }
}

impl Done<'_> {
    /// The exit code, if it is not as it should be.
    fn code(&self) -> Option<u8> {
        match self {
            Done::Made { .. } => None,
            Done::Kept(_) => Some(INCOMPLETE),
            Done::Failed { code, .. } => Some(*code),
        }
    }
}

impl Job {
    fn done(&self, opener: Option<&Opener>, came: &dyn Fn(u64)) -> Done<'_> {
        let failed = |err: &RestoreError| Done::Failed { code: err.trouble().exit_code(), why: Chain(err).to_string() };
        let dest = match &self.dest {
            Ok(dest) => dest,
            Err(err) => return failed(err),
        };
        // Before the work of hours, and not after it.
        if fs::symlink_metadata(dest).is_ok() {
            return Done::Kept(dest);
        }
        match open_object(&self.file, opener, dest, came) {
            Ok(bytes) => Done::Made { dest, bytes },
            Err(err) => failed(&err),
        }
    }

    /// Who reads us may have gone; what is opened is not for them alone.
    fn tell(&self, done: &Done<'_>, as_json: bool) {
        let file = self.file.display().to_string();
        let _ = match done {
            Done::Made { dest, bytes } if as_json => {
                json_line(&mut stdout(), &json!({ "file": file, "made": dest.display().to_string(), "bytes": bytes }))
            }
            Done::Kept(dest) if as_json => {
                json_line(&mut stdout(), &json!({ "file": file, "kept": dest.display().to_string() }))
            }
            Done::Failed { why, .. } if as_json => json_line(&mut stdout(), &json!({ "file": file, "error": why })),
            Done::Made { dest, .. } => writeln!(stdout(), "{}", dest.display()).map_err(Failed::from),
            Done::Kept(dest) => {
                writeln!(stderr(), "archiver: {file}: {dest:?} is there, and is kept").map_err(Failed::from)
            }
            Done::Failed { why, .. } => writeln!(stderr(), "archiver: {file}: {why}").map_err(Failed::from),
        };
    }
}

/// What is to be made of files, and of the objects below directories; of these with the directories between. An error
/// when two would become one.
fn jobs(files: &[PathBuf], to: &Path) -> Result<Vec<Job>, Failed> {
    let mut jobs = Vec::new();
    for file in files {
        if file.is_dir() {
            let mut found = Vec::new();
            walk(file, &mut found)?;
            if found.is_empty() {
                return Err(Failed::usage(format!("There are no objects of ours in {file:?}")));
            }
            for object in found {
                let below = object.strip_prefix(file).ok().and_then(Path::parent).unwrap_or(Path::new(""));
                jobs.push(Job { dest: clear_name(&object).map(|name| to.join(below).join(name)), file: object });
            }
        } else {
            jobs.push(Job { dest: clear_name(file).map(|name| to.join(name)), file: file.clone() });
        }
    }
    let mut made: BTreeMap<&Path, &Path> = BTreeMap::new();
    for Job { file, dest } in &jobs {
        if let Ok(dest) = dest
            && let Some(other) = made.insert(dest, file)
        {
            let what = format!("{other:?} and {file:?} would both become {dest:?}; open them into two directories");
            return Err(Failed::usage(what));
        }
    }
    Ok(jobs)
}

/// Objects below a directory, in order of names. Links are not followed, and what is hidden is not of a vault.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failed> {
    let list = || fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>();
    let mut entries = list().map_err(|err| Failed::new(1, format!("Cannot list {dir:?}: {err}")))?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if entry.file_name().as_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            walk(&path, found)?;
        } else if kind.is_file() && is_object(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// By its name: `000017-photos.tar.xz.gpg`, its manifest, a listing or an index.
fn is_object(path: &Path) -> bool {
    let Ok(name) = clear_name(path) else { return false };
    let is_numbered = name.len() > 6 && name.as_bytes()[..6].iter().all(u8::is_ascii_digit);
    matches!(name, "index.json" | "tree.txt") || is_numbered && (name.ends_with(".tar") || name.ends_with(".jsonl"))
}

/// What was given to open with, the passphrase or the secret key; else what is configured.
pub fn unlock(given: (Option<&Path>, Option<&Path>), settings: Option<&Settings>) -> Result<Option<Unlock>, Failed> {
    match (given, settings) {
        ((Some(file), _), _) => Ok(Some(passphrase(file)?)),
        ((None, Some(file)), _) => Ok(Some(Unlock::SecretKey { file: file.to_owned(), password: None })),
        ((None, None), Some(settings)) => configured(settings),
        ((None, None), None) => Ok(Some(Unlock::Agent)),
    }
}

fn passphrase(file: &Path) -> Result<Unlock, Failed> {
    Ok(Unlock::Passphrase(Secret::from_file(file).map_err(|err| Failed::of(&err))?))
}

/// What the configuration says that opens what was sealed.
pub fn configured(settings: &Settings) -> Result<Option<Unlock>, Failed> {
    if let Some(file) = settings.restore.secret_key_file.clone() {
        return Ok(Some(Unlock::SecretKey { file, password: None }));
    }
    if !settings.encrypt.recipients.is_empty() {
        return Ok(Some(Unlock::Agent));
    }
    settings.encrypt.passphrase_file.as_deref().map(passphrase).transpose()
}
