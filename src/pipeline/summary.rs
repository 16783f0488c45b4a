//! What a pass came to, for those who are told of its end.

use super::context::{Context, Failure};
use crate::{
    archive::manifest::Counts,
    catalog::{PassRow, PieceRow},
    notice::{Exception, PassReport},
    price::Stock,
};

/// Losses that are named.
const LOSSES_MAX: usize = 20;

/// `pieces`: those that were delivered; `counts`: their sums.
pub fn report(ctx: &Context, pass: &PassRow, pieces: &[PieceRow], counts: &Counts) -> Result<PassReport, Failure> {
    let sealed = || pieces.iter().filter_map(|row| row.sealed.as_ref());
    let stock = Stock {
        pieces: pieces.len() as u64,
        bytes: sealed().map(|sealed| sealed.size).sum(),
        readable: pieces.len() as u64,
        readable_bytes: sealed().map(|sealed| sealed.manifest_size).sum(),
        ..Stock::default()
    };
    let took = (ctx.clock)().duration_since(pass.pass.started());
    let loss = |exception: Exception| format!("{}: {}", exception.path.display(), exception.reason);
    Ok(PassReport {
        changed: counts.changed,
        excluded: counts.excluded.values().sum(),
        skipped: counts.skipped.values().sum(),
        tar_bytes: pieces.iter().map(|row| row.packed.tar_size).sum(),
        sealed_bytes: stock.bytes,
        took: took.try_into().unwrap_or_default(),
        a_month: ctx.options.prices.as_ref().map(|prices| prices.month(&stock)),
        losses: ctx.catalog.losses(&pass.source, pass.pass, LOSSES_MAX)?.into_iter().map(loss).collect(),
    })
}
