//! What the daemon remembers: passes, pieces, exceptions, proofs, settings, and uploads under way, in one SQLite file.
//! This room is the only door to `rusqlite`.
//!
//! A piece is a run of neighbors in walk order, so the catalog needs only its first and last path; paths are
//! stored as [`SourcePath::order_key`](crate::path::SourcePath::order_key), whose byte order is walk order, and
//! path → piece is one range query on an index. Manifests hold the members.
//!
//! Invariants:
//!
//! - Damage is not absence: only a file that is not there is created. What is empty, truncated, foreign or
//!   fails a check on opening is an error, or is put aside for the last good copy, which then says that it is behind.
//! - Every change is one transaction and durable when its function returns (WAL, `synchronous=FULL`).
//! - A piece only moves forward: packed, compressed, sealed, delivered; or retired, before it was delivered.
//! - A seq is never given twice. Rows of pieces go only by [`Catalog::forget_pieces`], for pieces of a pass that has ended
//!   and that somebody has removed from the vault; a pass goes with the last of them, unless it is the newest of its
//!   source: from that one it is known when the next is due, and that nothing older is new.
//! - Every number is as the caller told it; nothing here reads a clock.
//!
//! All of this blocks; it is called from threads of stages, or in short calls.

mod adopt;
mod backup;
mod error;
mod forget;
mod go_back;
mod index;
mod open;
mod passes;
mod pieces;
mod proofs;
mod restores;
mod row;
mod schema;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod forget_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;

pub use adopt::Adopted;
pub use error::{CatalogError, Remedy};
pub use go_back::{Alone, put_in_place};
pub use proofs::{Proof, Proven};
pub use row::{Compressed, Delivered, NewPass, PackedRow, PassRow, PieceRow, PieceState, Sealed, SegmentRow, Totals};

use error::Fail;
use index::LogIndex;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub type Result<T> = std::result::Result<T, CatalogError>;

/// An open catalog. Clones share one connection; calls wait for one another.
#[derive(Clone, Debug)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    conn: Mutex<Connection>,
    /// Of a catalog that may be written. Dropped after the connection, as all fields are in their order.
    index: Option<LogIndex>,
    /// Shared by all who may write; whoever puts a damaged catalog aside must be alone.
    _in_use: Option<File>,
}

/// Setting: why the catalog may know less than happened.
const BEHIND: &str = "behind";

impl Catalog {
    /// Opens the catalog for writing, after checking all of it, and creates it where there is none, with the
    /// directories above it. A file of an older version is brought up to date.
    pub fn open(file: &Path) -> Result<Catalog> {
        let in_use = open::in_use(file)?;
        let (file, conn) = open::open(file)?;
        let index = LogIndex::open(&file)?;
        Ok(Catalog { inner: Arc::new(Inner { file, conn: Mutex::new(conn), index: Some(index), _in_use: in_use }) })
    }

    /// Opens the catalog for reading, after checking all of it, also while another process writes. Never creates one:
    /// [`CatalogError::Missing`].
    pub fn open_read_only(file: &Path) -> Result<Catalog> {
        let (file, conn) = open::open_read_only(file)?;
        Ok(Catalog { inner: Arc::new(Inner { file, conn: Mutex::new(conn), index: None, _in_use: None }) })
    }

    /// Where the catalog is.
    pub fn file(&self) -> &Path {
        &self.inner.file
    }

    /// Reads and checks the whole file, as opening does. Takes as long as reading it.
    pub fn check(&self) -> Result<()> {
        open::check(&self.conn(), &self.inner.file)
    }

    /// A setting that was kept: the host, the id of the vault, ids that stand for names in opaque keys.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.read("read a setting in", |conn| setting(conn, name))
    }

    pub fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        self.write("record a setting in", |tx| {
            tx.prepare_cached("INSERT INTO setting VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?
                .execute((name, value))?;
            Ok(())
        })
    }

    /// The setting; where there is none, `make` makes it, and it is kept from then on.
    pub fn setting_or(&self, name: &str, make: impl FnOnce() -> String) -> Result<String> {
        self.write("record a setting in", |tx| {
            if let Some(value) = setting(tx, name)? {
                return Ok(value);
            }
            let value = make();
            tx.prepare_cached("INSERT INTO setting VALUES (?1, ?2)")?.execute((name, &value))?;
            Ok(value)
        })
    }

    /// The record of an upload under way, as its room wrote it.
    pub fn upload(&self, key: &str) -> Result<Option<String>> {
        self.read("read an upload in", |conn| {
            conn.prepare_cached("SELECT record FROM upload WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// All uploads under way, `(key, record)` in order of keys.
    pub fn uploads(&self) -> Result<Vec<(String, String)>> {
        self.read("read uploads in", |conn| {
            conn.prepare_cached("SELECT key, record FROM upload ORDER BY key")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    pub fn save_upload(&self, key: &str, record: &str) -> Result<()> {
        self.write("record an upload in", |tx| {
            tx.prepare_cached("INSERT INTO upload VALUES (?1, ?2) ON CONFLICT DO UPDATE SET record = ?2")?
                .execute((key, record))?;
            Ok(())
        })
    }

    /// Forgets an upload; one that is not there is no error.
    pub fn forget_upload(&self, key: &str) -> Result<()> {
        self.write("forget an upload in", |tx| {
            tx.prepare_cached("DELETE FROM upload WHERE key = ?1")?.execute([key])?;
            Ok(())
        })
    }

    fn conn(&self) -> MutexGuard<'_, Connection> {
        // A thread that panicked in here has rolled its transaction back while unwinding.
        self.inner.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        attempt: &'static str,
        work: impl FnOnce(&Connection) -> std::result::Result<T, rusqlite::Error>,
    ) -> Result<T> {
        work(&self.conn()).map_err(|err| CatalogError::of(attempt, &self.inner.file, err))
    }

    /// Runs `work` as one transaction: all of it is durable when this returns, or none of it happened.
    fn write<T>(
        &self,
        attempt: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, Fail>,
    ) -> Result<T> {
        let mut conn = self.conn();
        if let Some(index) = &self.inner.index {
            index.make_room()?;
        }
        let done = conn
            // Immediate: a transaction that begins by reading could not wait for another process's lock later.
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Fail::from)
            .and_then(|tx| {
                let value = work(&tx)?;
                tx.commit()?;
                Ok(value)
            });
        done.map_err(|fail| match fail {
            Fail::Sql(err) => CatalogError::of(attempt, &self.inner.file, err),
            Fail::Refused(why) => CatalogError::Refused { attempt, path: self.inner.file.clone(), why },
        })
    }
}

fn setting(conn: &Connection, name: &str) -> std::result::Result<Option<String>, rusqlite::Error> {
    conn.prepare_cached("SELECT value FROM setting WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}
