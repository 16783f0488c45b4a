//! Rows of what is in the vault, made again from what the vault says of it.

use super::{
    Catalog, CatalogError, Result,
    pieces::{insert, insert_exceptions},
    row::{PassRow, PieceRow, PieceState},
};
use crate::notice::Exception;
use rusqlite::Transaction;
use std::collections::BTreeSet;

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

impl Catalog {
    /// Takes what another catalog knows and no vault tells: uploads and restores under way, and when pieces were proven
    /// that this one knows as well.
    pub fn carry_over(&self, from: &Catalog) -> Result<()> {
        let (uploads, restores) = (from.uploads()?, from.restores()?);
        let mut proofs = Vec::new();
        for pass in self.passes(None)? {
            let known: BTreeSet<u32> =
                self.pieces(&pass.source, pass.pass)?.iter().map(|row| row.packed.name.seq).collect();
            let of_pass = from.proofs(&pass.source, pass.pass)?.into_iter();
            proofs.extend(of_pass.filter(|proof| known.contains(&proof.seq)).map(|proof| (pass.clone(), proof)));
        }
        self.write("carry over what is under way to", |tx| {
            for (key, record) in uploads {
                tx.prepare_cached("INSERT OR IGNORE INTO upload VALUES (?1, ?2)")?.execute((key, record))?;
            }
            for (job, record) in restores {
                tx.prepare_cached("INSERT OR IGNORE INTO restore VALUES (?1, ?2)")?.execute((job, record))?;
            }
            for (pass, proof) in proofs {
                tx.prepare_cached("INSERT OR IGNORE INTO proof VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
                    pass.source.as_str(),
                    pass.pass.to_string(),
                    proof.seq,
                    proof.how,
                    proof.at.to_string(),
                ))?;
            }
            Ok(())
        })
    }

    /// Brings all of it into the one file, and closes it.
    pub fn close(self) -> Result<()> {
        let busy = self.read("bring together", |conn| {
            conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        })?;
        match busy {
            0 => Ok(()),
            _ => {
                let why = "another process reads it".to_owned();
                Err(CatalogError::Refused { attempt: "close", path: self.file().to_owned(), why })
            }
        }
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
