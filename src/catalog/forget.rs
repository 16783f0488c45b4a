//! Forgetting what was removed from the vault.

use super::{
    Catalog, Result,
    error::Fail,
    passes,
    row::{PieceRow, PieceState},
};
use crate::name::{PassId, SourceName};
use rusqlite::{OptionalExtension, Transaction};
use std::collections::BTreeSet;

impl Catalog {
    /// Forgets pieces of a pass that has ended, with their exceptions and proofs. When none that was delivered is left,
    /// the retired ones go too, and the pass itself, unless it is the newest of its source. What is not there (any more)
    /// is no error. Refused of a pass that goes on, and of pieces that are on their way.
    pub fn forget_pieces(&self, source: &SourceName, pass: PassId, seqs: &BTreeSet<u32>) -> Result<()> {
        self.write("forget pieces in", |tx| {
            let Some(row) = passes::find(tx, source, pass)? else { return Ok(()) };
            if row.ended.is_none() {
                return Err(Fail::Refused(format!("pass {pass} of source {source} has not ended")));
            }
            for seq in seqs {
                forget(tx, source, pass, *seq)?;
            }
            let id = (source.as_str(), pass.to_string());
            let is_empty: bool = tx
                .prepare_cached(
                    "SELECT NOT EXISTS (SELECT 1 FROM piece WHERE source = ?1 AND pass = ?2 AND state <> 'retired')",
                )?
                .query_row((id.0, &id.1), |row| row.get(0))?;
            if !is_empty {
                return Ok(());
            }
            for table in ["exception", "proof", "piece"] {
                tx.execute(&format!("DELETE FROM {table} WHERE source = ?1 AND pass = ?2"), (id.0, &id.1))?;
            }
            tx.prepare_cached(
                "DELETE FROM pass WHERE source = ?1 AND pass = ?2
                 AND pass < (SELECT max(pass) FROM pass WHERE source = ?1)",
            )?
            .execute((id.0, &id.1))?;
            Ok(())
        })
    }
}

fn forget(tx: &Transaction<'_>, source: &SourceName, pass: PassId, seq: u32) -> std::result::Result<(), Fail> {
    let id = (source.as_str(), pass.to_string(), seq);
    let row = tx
        .prepare_cached("SELECT * FROM piece WHERE source = ?1 AND pass = ?2 AND seq = ?3")?
        .query_row((id.0, &id.1, id.2), PieceRow::of)
        .optional()?;
    match row {
        None => return Ok(()),
        Some(row) if row.state == PieceState::Delivered => {}
        Some(row) => return Err(Fail::Refused(format!("{} is {}", row.name(), row.state.as_str()))),
    }
    for table in ["exception", "proof", "piece"] {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE source = ?1 AND pass = ?2 AND seq = ?3"))?
            .execute((id.0, &id.1, id.2))?;
    }
    Ok(())
}
