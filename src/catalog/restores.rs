//! Restores under way, as their room wrote them.

use super::{Catalog, Result};
use rusqlite::OptionalExtension;

impl Catalog {
    pub fn save_restore(&self, job: &str, record: &str) -> Result<()> {
        self.write("record a restore in", |tx| {
            tx.prepare_cached("INSERT INTO restore VALUES (?1, ?2) ON CONFLICT DO UPDATE SET record = ?2")?
                .execute((job, record))?;
            Ok(())
        })
    }

    pub fn restore(&self, job: &str) -> Result<Option<String>> {
        self.read("read a restore in", |conn| {
            conn.prepare_cached("SELECT record FROM restore WHERE job = ?1")?
                .query_row([job], |row| row.get(0))
                .optional()
        })
    }

    /// All restores, `(job, record)` in order of their ids, which is that of time.
    pub fn restores(&self) -> Result<Vec<(String, String)>> {
        self.read("read restores in", |conn| {
            conn.prepare_cached("SELECT job, record FROM restore ORDER BY job")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }
}
