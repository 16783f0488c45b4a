//! Going back to the last good copy of a catalog that is damaged.
//!
//! First the new, then away with the old: the copy is copied, checked and marked under another name; then the damaged
//! file and what SQLite keeps beside it get names that tell what they are; then the checked one gets its place. A
//! crash in between leaves either the damaged catalog or none beside its copy, and both come here again. The copy
//! itself is never moved.

use super::{
    BEHIND, Catalog, CatalogError, Result,
    backup::COPY,
    error::Remedy,
    open::{self, with_end},
    schema::{self, VERSION},
};
use crate::{durable, fate::Chain};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// In the names of what was put aside, before the time.
const ASIDE: &str = ".damaged-";
/// The same of one that was good, and gave way to another.
const REPLACED: &str = ".replaced-";
/// How many damaged catalogs are kept for whoever wants to know what happened to them.
const ASIDE_MAX: usize = 3;
/// What SQLite keeps beside a catalog. The catalog itself goes first: one without its log could be taken for whole.
const WITH_IT: [&str; 4] = ["", "-wal", "-shm", "-journal"];

impl Catalog {
    /// Opens the catalog as [`Catalog::open`] does; from a damaged one it goes back to its copy, if that is whole. What
    /// it does not know then must be found out, which [`Catalog::behind`] says until it is done. A catalog that
    /// another process has open is left alone.
    pub fn open_or_go_back(file: &Path, now: Timestamp) -> Result<Catalog> {
        let damage = match Catalog::open(file) {
            Err(CatalogError::Damaged { path, why, source, .. }) => (path, why, source),
            opened => return opened,
        };
        let (file, why, source) = damage;
        if !with_end(&file, COPY).is_file() || file.is_dir() {
            return Err(CatalogError::damaged(&file, why, source));
        }
        let dir = File::open(open::dir_of(&file)).map_err(durable::at("open the directory of", &file))?;
        if flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            let why = format!("{why}; another process has it open, which must end first");
            return Err(CatalogError::damaged(&file, why, source));
        }
        // Whoever held the lock until now may have gone back already.
        match open::open(&file) {
            Err(CatalogError::Damaged { why, source, .. }) => go_back(&file, &why, source, now)?,
            opened => drop(opened?),
        }
        drop(dir);
        Catalog::open(&file)
    }

    /// Why the catalog may know less than happened; nothing when it knows all.
    pub fn behind(&self) -> Result<Option<String>> {
        self.setting(BEHIND)
    }

    pub fn set_behind(&self, why: &str) -> Result<()> {
        self.set_setting(BEHIND, why)
    }

    /// What was missing is found.
    pub fn caught_up(&self) -> Result<()> {
        self.write("record a setting in", |tx| {
            tx.prepare_cached("DELETE FROM setting WHERE name = ?1")?.execute([BEHIND])?;
            Ok(())
        })
    }
}

/// That no other process uses a catalog, or begins to, while this is held.
pub struct Alone {
    file: PathBuf,
    _dir: File,
}

impl Alone {
    /// Refused while another process uses it.
    pub fn with(file: &Path) -> Result<Alone> {
        let dir = File::open(open::dir_of(file)).map_err(durable::at("open the directory of", file))?;
        if flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            let why = "another process has it open, which must end first".to_owned();
            return Err(CatalogError::Refused { attempt: "replace", path: file.to_owned(), why });
        }
        Ok(Alone { file: file.to_owned(), _dir: dir })
    }
}

/// Puts a catalog that was made under another name in its place. What was there is kept beside it; gives under which
/// name.
pub fn put_in_place(draft: &Path, alone: &Alone, now: Timestamp) -> Result<Option<PathBuf>> {
    let file = &alone.file;
    let aside = with_end(file, &format!("{REPLACED}{}", now.strftime("%Y%m%dT%H%M%SZ")));
    let mut was_there = false;
    let mut put_aside = |end: &str| {
        let (from, to) = (with_end(file, end), with_end(&aside, end));
        if fs::symlink_metadata(&from).is_ok() {
            durable::rename(&from, &to)?;
            was_there = true;
        }
        Ok::<_, CatalogError>(())
    };
    for end in WITH_IT {
        put_aside(end)?;
    }
    durable::rename(draft, file)?;
    // The copy of the one that went must not be taken for that of the one that came; until then it says that there was one.
    put_aside(COPY)?;
    Ok(was_there.then_some(aside))
}

fn go_back(file: &Path, why: &str, source: Option<rusqlite::Error>, now: Timestamp) -> Result<()> {
    let copy = with_end(file, COPY);
    let aside = with_end(file, &format!("{ASIDE}{}", now.strftime("%Y%m%dT%H%M%SZ")));
    let made =
        fs::metadata(&copy).and_then(|meta| meta.modified()).ok().and_then(|made| Timestamp::try_from(made).ok());
    let made = made.map_or_else(|| "unknown time".to_owned(), |made| made.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let cause = source.as_ref().map_or_else(String::new, |err| format!(": {}", Chain(err)));
    let behind = format!(
        "The catalog {file:?} was damaged ({why}{cause}), and its copy of {made} is in its place; the damaged one is \
         kept as {aside:?}"
    );
    let draft = draft_of(&copy, file, &behind).inspect_err(|_| {
        // On a full disk it takes room.
        let _ = durable::remove(&draft_path(file));
    });
    let draft = match draft {
        Err(err @ CatalogError::Damaged { .. }) => {
            let why = format!("{why}; and its copy is no better: {}", Chain(&err));
            return Err(CatalogError::Damaged { path: file.to_owned(), why, remedy: Remedy::Rebuild, source });
        }
        draft => draft?,
    };
    for end in WITH_IT {
        let (from, to) = (with_end(file, end), with_end(&aside, end));
        if fs::symlink_metadata(&from).is_ok() {
            durable::rename(&from, &to)?;
        }
    }
    durable::publish_new(&draft, &draft_path(file), file)?;
    forget_old(file)
}

fn draft_path(file: &Path) -> PathBuf {
    with_end(file, ".new")
}

/// A whole catalog under another name, of this version, which says that it is behind.
fn draft_of(copy: &Path, file: &Path, behind: &str) -> Result<File> {
    let tmp = draft_path(file);
    durable::remove(&tmp)?;
    let mut draft = durable::create(&tmp)?;
    let mut from = File::open(copy).map_err(durable::at("open", copy))?;
    io::copy(&mut from, &mut draft).map_err(durable::at("write", &tmp))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let fail = |err| CatalogError::of("check the copy of", copy, err);
    let mut conn = Connection::open_with_flags(&tmp, flags).map_err(fail)?;
    open::configure(&conn).map_err(|err| open::unreadable(copy, err))?;
    let version = open::version(&conn, copy)?;
    // A draft needs no journal; what a crash leaves of it is removed.
    conn.pragma_update(None, "journal_mode", "off").map_err(fail)?;
    if version < VERSION {
        open::integrity(&conn, copy)?;
        schema::migrate(&mut conn, version).map_err(fail)?;
    }
    open::check(&conn, copy)?;
    conn.execute("INSERT INTO setting VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2", (BEHIND, behind))
        .map_err(fail)?;
    conn.close().map_err(|(_, err)| fail(err))?;
    Ok(draft)
}

/// Removes the oldest of what was put aside. Their names tell the time, so the order of names is that of time.
fn forget_old(file: &Path) -> Result<()> {
    let dir = open::dir_of(file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let ours = format!("{name}{ASIDE}");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(durable::at("list", dir))? {
        let name = entry.map_err(durable::at("list", dir))?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&ours) {
            found.push(name);
        }
    }
    found.sort();
    let time = |name: &String| name[ours.len()..].split('-').next().unwrap_or_default().to_owned();
    let mut times: Vec<String> = found.iter().map(time).collect();
    times.dedup();
    let old = &times[..times.len().saturating_sub(ASIDE_MAX)];
    for name in found.iter().filter(|name| old.contains(&time(name))) {
        durable::remove(&dir.join(name))?;
    }
    Ok(())
}
