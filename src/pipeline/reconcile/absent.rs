//! Pieces that were on their way when the catalog was last told of them, and stand on no shelf. Their manifests on this
//! host say what the vault must hold if they were delivered.

use super::super::{
    context::{Context, Failure},
    greeting, kept,
    naming::Naming,
    records::{local_manifest, read_manifest},
};
use crate::{
    archive::manifest::Head,
    catalog::{Compressed, PieceRow, PieceState, Sealed},
    name::{PassId, SourceName},
    vault::{Crc64, Key, ObjectSpec, Receipt, SHA256_LABEL, checksum::crc64},
};
use std::collections::{BTreeMap, BTreeSet};

/// Looks for them in the vault. Those that are not there are left to `recovery`, which gives them up.
pub fn settle_all(ctx: &Context, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    let rows = ctx.catalog.undelivered()?;
    settle_rows(ctx, rows, shelved)
}

/// The same, of one pass.
pub fn settle(ctx: &Context, source: &SourceName, pass: PassId, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    let mut rows = ctx.catalog.undelivered()?;
    rows.retain(|row| row.name().source == *source && row.name().pass == pass);
    settle_rows(ctx, rows, shelved)
}

fn settle_rows(ctx: &Context, mut rows: Vec<PieceRow>, shelved: &BTreeSet<String>) -> Result<(), Failure> {
    rows.retain(|row| !shelved.contains(&row.name().id()) && kept::has_manifest(&ctx.options.state, row.name()));
    if rows.is_empty() {
        return Ok(());
    }
    // Only the vault to which everything went can say what it does not hold.
    greeting::greet(ctx)?;
    for row in rows {
        look(ctx, &row)?;
    }
    Ok(())
}

fn look(ctx: &Context, row: &PieceRow) -> Result<(), Failure> {
    let name = row.name();
    // One that cannot be read says nothing; then only the listing can tell whether the piece is there.
    let Ok(reader) = read_manifest(&local_manifest(&ctx.options.state, name)) else { return Ok(()) };
    let head = reader.head().clone();
    let (Ok(key), Ok(crc)) = (head.key.parse::<Key>(), Crc64::from_base64(&head.sealed_crc64nvme)) else {
        return Ok(());
    };
    let prefix = Naming::of(ctx, &name.source, name.pass)?.prefix(name.pass);
    let manifest_key: Key = format!("{prefix}{}", name.manifest_file(head.encryption)).parse()?;
    let (Some(piece), Some(manifest)) = (held(ctx, &key)?, held(ctx, &manifest_key)?) else { return Ok(()) };
    if (head.tar_size, &head.tar_sha256) != (row.packed.tar_size, &row.packed.tar_sha256)
        || !piece.proves(&spec(&head, crc))
    {
        return Ok(());
    }
    if row.state == PieceState::Packed {
        let form = Compressed { size: head.compressed_size, sha256: head.compressed_sha256.clone() };
        ctx.catalog.set_compressed(name, &form)?;
    }
    let sealed = Sealed {
        size: head.sealed_size,
        sha256: head.sealed_sha256.clone(),
        crc64: crc.0,
        manifest_size: manifest.size,
        manifest_crc64: crc_of(ctx, &manifest)?.0,
        archived_read_back: row.packed.archived,
    };
    ctx.catalog.set_sealed(name, &sealed)?;
    Ok(ctx.catalog.set_delivered(name, key.as_str(), manifest_key.as_str(), (ctx.clock)())?)
}

fn spec(head: &Head, crc64: Crc64) -> ObjectSpec {
    let metadata = BTreeMap::from([(SHA256_LABEL.to_owned(), head.sealed_sha256.clone())]);
    ObjectSpec { size: head.sealed_size, crc64, part_size: 0, storage_class: String::new(), metadata }
}

fn held(ctx: &Context, key: &Key) -> Result<Option<Receipt>, Failure> {
    ctx.ask(ctx.options.upload.retries.ask(|| ctx.vault.head(key)))
}

/// As the vault says, or of the bytes where it does not say; manifests can be read at once.
fn crc_of(ctx: &Context, receipt: &Receipt) -> Result<Crc64, Failure> {
    if let Some(crc) = receipt.crc64 {
        return Ok(crc);
    }
    let get = || ctx.vault.get_range(&receipt.key, 0, receipt.size);
    Ok(crc64(&ctx.ask(ctx.options.upload.retries.ask(get))?))
}
