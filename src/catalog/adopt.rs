//! Rows of what is in the vault, made again from what the vault says of it.

use super::{
    Catalog, Result,
    pieces::{insert, insert_exceptions},
    row::{PassRow, PieceRow, PieceState},
};
use crate::notice::Exception;
use rusqlite::Transaction;

/// A piece that is delivered, or retired, with what was not archived clean in its range.
#[derive(Clone, Debug)]
pub struct Adopted {
    pub row: PieceRow,
    pub exceptions: Vec<Exception>,
}

impl Catalog {
    /// Records a pass as a whole, in one transaction. Refused when the catalog knows it already.
    ///
    /// `last_seq`: no piece of this pass that was ever begun has a higher number.
    pub fn adopt_pass(&self, pass: &PassRow, last_seq: u32, pieces: &[Adopted]) -> Result<()> {
        self.write("record a pass of the vault in", |tx| {
            tx.prepare_cached(
                "INSERT INTO pass (source, pass, host, source_id, filter_sha256, last_seq, seen, ended)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((
                pass.source.as_str(),
                pass.pass.to_string(),
                &pass.host,
                &pass.source_id,
                &pass.filter_sha256,
                last_seq,
                pass.seen,
                pass.ended.map(|ended| ended.to_string()),
            ))?;
            for Adopted { row, exceptions } in pieces {
                insert(tx, &row.packed)?;
                insert_exceptions(tx, row.name(), exceptions)?;
                complete(tx, row)?;
            }
            Ok(())
        })
    }
}

/// What a row has beyond what was known when it was packed.
fn complete(tx: &Transaction<'_>, row: &PieceRow) -> std::result::Result<(), rusqlite::Error> {
    let (source, pass, seq) = (row.name().source.as_str(), row.name().pass.to_string(), row.name().seq);
    if let Some(form) = &row.compressed {
        tx.prepare_cached(
            "UPDATE piece SET compressed_size = ?4, compressed_sha256 = ?5 WHERE source = ?1 AND pass = ?2 AND seq = ?3",
        )?
        .execute((source, &pass, seq, form.size, &form.sha256))?;
    }
    if let Some(form) = &row.sealed {
        tx.prepare_cached(
            "UPDATE piece SET sealed_size = ?4, sealed_sha256 = ?5, sealed_crc64 = ?6, manifest_size = ?7,
                manifest_crc64 = ?8, archived_read_back = ?9 WHERE source = ?1 AND pass = ?2 AND seq = ?3",
        )?
        .execute((
            source,
            &pass,
            seq,
            form.size,
            &form.sha256,
            form.crc64.cast_signed(),
            form.manifest_size,
            form.manifest_crc64.cast_signed(),
            form.archived_read_back,
        ))?;
    }
    if let Some(delivered) = &row.delivered {
        tx.prepare_cached(
            "UPDATE piece SET key = ?4, manifest_key = ?5, delivered_at = ?6 WHERE source = ?1 AND pass = ?2 AND seq = ?3",
        )?
        .execute((source, &pass, seq, &delivered.key, &delivered.manifest_key, delivered.at.to_string()))?;
    }
    let state: PieceState = row.state;
    tx.prepare_cached(
        "UPDATE piece SET state = ?4, retired_why = ?5, replaced_done = ?6 WHERE source = ?1 AND pass = ?2 AND seq = ?3",
    )?
    .execute((source, &pass, seq, state, &row.retired, row.replaced_done))?;
    Ok(())
}
