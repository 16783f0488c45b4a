//! Passes: one open pass per source, which ends when everything in it is delivered.

use super::{
    Catalog, Result,
    error::Fail,
    row::{NewPass, PassRow, Totals},
};
use crate::name::{PassId, SourceName};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

impl Catalog {
    /// Records that a pass begins. The same pass may begin again until it ends, as after a crash; another one
    /// of the same source is refused while it is open.
    pub fn begin_pass(&self, pass: &NewPass) -> Result<()> {
        self.write("record a pass in", |tx| {
            let NewPass { source, pass: id, host, source_id, filter_sha256 } = pass;
            if let Some(open) = find_open(tx, source)? {
                let begun = NewPass {
                    source: open.source,
                    pass: open.pass,
                    host: open.host,
                    source_id: open.source_id,
                    filter_sha256: open.filter_sha256,
                };
                if begun == *pass {
                    return Ok(());
                }
                return Err(Fail::Refused(format!("pass {} of source {source} has not ended", begun.pass)));
            }
            if find(tx, source, *id)?.is_some() {
                return Err(Fail::Refused(format!("pass {id} of source {source} is there already, and has ended")));
            }
            tx.prepare_cached(
                "INSERT INTO pass (source, pass, host, source_id, filter_sha256) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((source.as_str(), id.to_string(), host, source_id, filter_sha256))?;
            Ok(())
        })
    }

    pub fn pass(&self, source: &SourceName, pass: PassId) -> Result<Option<PassRow>> {
        self.read("read a pass in", |conn| find(conn, source, pass))
    }

    /// The pass of a source that has not ended.
    pub fn open_pass(&self, source: &SourceName) -> Result<Option<PassRow>> {
        self.read("read a pass in", |conn| find_open(conn, source))
    }

    /// All passes, or those of one source, newest first.
    pub fn passes(&self, source: Option<&SourceName>) -> Result<Vec<PassRow>> {
        self.read("read passes in", |conn| {
            let columns = PassRow::COLUMNS;
            conn.prepare_cached(&format!(
                "SELECT {columns} FROM pass WHERE ?1 IS NULL OR source = ?1 ORDER BY pass DESC, source"
            ))?
            .query_map([source.map(SourceName::as_str)], PassRow::of)?
            .collect()
        })
    }

    /// Records that the walk has come to its end, and how many entries it has seen in all.
    pub fn walk_ended(&self, source: &SourceName, pass: PassId, seen: u64) -> Result<()> {
        self.write("record the end of a walk in", |tx| {
            let row = must_find(tx, source, pass)?;
            match row.seen {
                Some(before) if before == seen => return Ok(()),
                Some(before) => {
                    return Err(Fail::Refused(format!(
                        "the walk of pass {pass} of source {source} has ended before, with {before} entries seen and \
                         not {seen}"
                    )));
                }
                None => {}
            }
            tx.prepare_cached("UPDATE pass SET seen = ?3 WHERE source = ?1 AND pass = ?2")?.execute((
                source.as_str(),
                pass.to_string(),
                seen,
            ))?;
            Ok(())
        })
    }

    /// Records that everything in a pass is delivered. Refused while its walk goes on, while a piece is not
    /// delivered, and while the range of a retired one is not packed again. A pass that has ended stays as it is.
    pub fn end_pass(&self, source: &SourceName, pass: PassId, at: Timestamp) -> Result<()> {
        self.write("record the end of a pass in", |tx| {
            let row = must_find(tx, source, pass)?;
            if row.ended.is_some() {
                return Ok(());
            }
            let totals = totals(tx, source, pass)?;
            let why = if row.seen.is_none() {
                Some("its walk has not ended".to_owned())
            } else if totals.delivered < totals.pieces {
                Some(format!("{} of its {} pieces are delivered", totals.delivered, totals.pieces))
            } else if totals.to_repack > 0 {
                Some(format!("{} of its pieces must be packed again", totals.to_repack))
            } else {
                None
            };
            if let Some(why) = why {
                return Err(Fail::Refused(format!("pass {pass} of source {source} goes on: {why}")));
            }
            tx.prepare_cached("UPDATE pass SET ended = ?3 WHERE source = ?1 AND pass = ?2")?.execute((
                source.as_str(),
                pass.to_string(),
                at.to_string(),
            ))?;
            Ok(())
        })
    }

    /// Sums over the pieces of a pass; all zero where there are none.
    pub fn totals(&self, source: &SourceName, pass: PassId) -> Result<Totals> {
        self.read("read pieces in", |conn| totals(conn, source, pass))
    }
}

fn totals(conn: &Connection, source: &SourceName, pass: PassId) -> std::result::Result<Totals, rusqlite::Error> {
    conn.prepare_cached(Totals::SQL)?.query_row((source.as_str(), pass.to_string()), Totals::of)
}

pub(super) fn find(
    conn: &Connection,
    source: &SourceName,
    pass: PassId,
) -> std::result::Result<Option<PassRow>, rusqlite::Error> {
    let columns = PassRow::COLUMNS;
    conn.prepare_cached(&format!("SELECT {columns} FROM pass WHERE source = ?1 AND pass = ?2"))?
        .query_row((source.as_str(), pass.to_string()), PassRow::of)
        .optional()
}

fn find_open(conn: &Connection, source: &SourceName) -> std::result::Result<Option<PassRow>, rusqlite::Error> {
    let columns = PassRow::COLUMNS;
    conn.prepare_cached(&format!("SELECT {columns} FROM pass WHERE source = ?1 AND ended IS NULL"))?
        .query_row([source.as_str()], PassRow::of)
        .optional()
}

pub(super) fn must_find(conn: &Connection, source: &SourceName, pass: PassId) -> std::result::Result<PassRow, Fail> {
    find(conn, source, pass)?.ok_or_else(|| Fail::Refused(format!("it knows no pass {pass} of source {source}")))
}
