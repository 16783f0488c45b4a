//! A verified copy of the catalog, while it is in use.

use super::{Catalog, CatalogError, Result, open};
use crate::durable;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};

/// End of its name.
pub const COPY: &str = ".copy";

impl Catalog {
    /// Where the copy of every day is: beside the catalog.
    pub fn copy_file(&self) -> PathBuf {
        open::with_end(&self.inner.file, COPY)
    }

    /// Writes a copy of the catalog as it is now, checks it, and only then puts it in the place of the last one.
    /// The copy is one file, complete without anything beside it.
    ///
    /// From a damaged catalog [`Catalog::open_or_go_back`] goes back to it. By hand: with no process using the catalog,
    /// the file and its `-wal` and `-shm` go away (a log left there would be replayed into the copy), and the copy goes
    /// in its place.
    pub fn backup_to(&self, file: &Path) -> Result<()> {
        const ATTEMPT: &str = "make a copy of";
        let file = open::absolute(file)?;
        if file == self.inner.file {
            let why = "the copy would replace it".to_owned();
            return Err(CatalogError::Refused { attempt: ATTEMPT, path: file, why });
        }
        if let Some(dir) = file.parent() {
            durable::create_dir(dir)?;
        }
        let tmp = draft_of(&file)?;
        // SQLite writes into an empty file that is there; it would create one that everybody can read.
        let draft = durable::create(&tmp)?;
        let name = tmp.to_str().ok_or_else(|| {
            let why = format!("{tmp:?} is not UTF-8");
            CatalogError::Refused { attempt: ATTEMPT, path: self.inner.file.clone(), why }
        })?;
        self.read(ATTEMPT, |conn| conn.execute("VACUUM INTO ?1", [name]))?;
        check(&tmp)?;
        durable::publish(&draft, &tmp, &file)?;
        Ok(())
    }

    /// Removes what a kill left of the copy of a day. Nobody else may be making one.
    pub fn sweep_copies(&self) -> Result<()> {
        draft_of(&self.copy_file()).map(drop)
    }
}

/// Where a copy is made, with nothing there: a journal that was left would be played back into the next one.
fn draft_of(copy: &Path) -> Result<PathBuf> {
    let tmp = open::with_end(copy, ".new");
    durable::remove(&open::with_end(&tmp, "-journal"))?;
    durable::remove(&tmp)?;
    Ok(tmp)
}

fn check(copy: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn =
        Connection::open_with_flags(copy, flags).map_err(|err| CatalogError::of("check the copy of", copy, err))?;
    open::check(&conn, copy)
}
