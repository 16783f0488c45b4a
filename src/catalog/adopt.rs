//! Rows of what is in the vault, made again from what the vault says of it.

use super::{
    Catalog, CatalogError, Result,
    pieces::{insert, insert_exceptions, put_compressed, put_delivered, put_sealed},
    row::{PassRow, PieceRow},
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
                complete(tx, row)?;
                insert_exceptions(tx, row.name(), exceptions)?;
            }
            Ok(())
        })
    }

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

/// What a row has beyond what was known when it was packed, into the one that was inserted last.
fn complete(tx: &Transaction<'_>, row: &PieceRow) -> std::result::Result<(), rusqlite::Error> {
    let id = tx.last_insert_rowid();
    if let Some(form) = &row.compressed {
        put_compressed(tx, id, form)?;
    }
    if let Some(form) = &row.sealed {
        put_sealed(tx, id, form)?;
    }
    if let Some(delivered) = &row.delivered {
        put_delivered(tx, id, &delivered.key, &delivered.manifest_key, delivered.at)?;
    }
    tx.prepare_cached("UPDATE piece SET state = ?2, retired_why = ?3, replaced_done = ?4 WHERE rowid = ?1")?
        .execute((id, row.state, &row.retired, row.replaced_done))?;
    Ok(())
}
