//! The uploader: takes sealed pieces to the vault, the manifest before the piece, and lets go of them only
//! when the receipts of both are in the catalog.

use super::{
    context::{Context, Failure},
    greeting::greet,
    inbox::{Inbox, lose},
    labels::{self, Labels},
    naming::Naming,
    records::SealedRecord,
    retry::{Outcome, Tried, attempt},
};
use crate::{
    catalog::PieceState,
    fate::{Fate, Trouble},
    notice::{Monitor, Step},
    panics,
    staging::{Encrypted, Piece, Shelf, read_record},
    upload::{Parcel, abort_orphans},
    vault::{Key, ObjectSpec, Vault, checksum::BlockSums},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
};

/// The class of what must be readable at once.
pub(super) const STANDARD: &str = "STANDARD";

pub fn run(ctx: &Context, backlog: Vec<Piece<Encrypted>>, news: Receiver<Piece<Encrypted>>) {
    let mut greeted: Option<Arc<dyn Vault>> = None;
    Inbox::new(Step::Upload, backlog, news).each(ctx, |piece, patience| {
        let mut delivered = attempt(ctx, patience, |ctx| {
            if !greeted.as_ref().is_some_and(|greeted| Arc::ptr_eq(greeted, &ctx.vault)) {
                greet(ctx)?;
                greeted = Some(ctx.vault.clone());
                let _ = abort_lost(ctx);
            }
            deliver_piece(ctx, piece)
        });
        if let Tried::Settled(Outcome::Rotten(why)) = &delivered {
            let lost = lose(ctx, piece.name(), why);
            if matches!(lost, Outcome::Done(())) {
                let _ = panics::caught(|| abort_lost(&ctx.renewed()));
            }
            delivered = Tried::Settled(lost);
        }
        ctx.bell.ring();
        delivered
    });
}

/// Throws away what was begun in the vault for pieces that were lost before they were there: a pass may go on for
/// months, and all the while it would cost money. No work depends on it: the end of the pass does what fails here.
fn abort_lost(ctx: &Context) -> Result<(), Failure> {
    let under_way = ctx.catalog.uploads()?;
    if under_way.is_empty() {
        return Ok(());
    }
    for spec in &ctx.options.sources {
        let Some(pass) = ctx.catalog.open_pass(&spec.name)? else { continue };
        let prefix = Naming::of(ctx, &spec.name, pass.pass)?.prefix(pass.pass);
        let pieces = ctx.catalog.pieces(&spec.name, pass.pass)?;
        for row in pieces.iter().filter(|row| row.state == PieceState::Retired) {
            // Of the piece and of its manifest; the record that knows their keys may be what was lost.
            let keys = format!("{prefix}{}.", row.name().short());
            if under_way.iter().any(|(key, _)| key.starts_with(&keys)) {
                abort_uploads(ctx, &keys)?;
            }
        }
    }
    Ok(())
}

/// Throws away every upload below a prefix, and what the catalog knows of it.
pub(super) fn abort_uploads(ctx: &Context, prefix: &str) -> Result<(), Failure> {
    ctx.ask(abort_orphans(ctx.vault.as_ref(), prefix, &|_, _| false))?;
    for (key, _) in ctx.catalog.uploads()? {
        if key.starts_with(prefix) {
            ctx.catalog.forget_upload(&key)?;
        }
    }
    Ok(())
}

pub(super) fn spec(size: u64, crc64: crate::vault::Crc64, class: &str) -> ObjectSpec {
    ObjectSpec { size, crc64, part_size: 0, storage_class: class.to_owned(), metadata: BTreeMap::new() }
}

fn deliver_piece(ctx: &Context, piece: &Piece<Encrypted>) -> Result<(), Failure> {
    let name = piece.name();
    // Something was wrong after its delivery, and only its files are still to go.
    let row = ctx.catalog.piece(&name.source, name.pass, name.seq)?;
    if row.is_some_and(|row| row.state == PieceState::Delivered) {
        return Ok(ctx.staging.forget(name)?);
    }
    let record: SealedRecord = read_record(&ctx.staging.list_file(name, Encrypted::RECORD))?;
    ctx.timed(Step::Upload, name, piece.len(), 0, || {
        let manifest = ctx.staging.shelf_file::<Encrypted>(&record.manifest_file);
        let labels = labels::of_piece(ctx, name, &record.manifest.sha256)?;
        deliver(ctx, &parcel(&record.manifest_key, manifest, &record.manifest_sums, STANDARD, labels))?;
        let (file, labels) = (piece.path().to_owned(), labels::of_piece(ctx, name, &record.made.sha256)?);
        deliver(ctx, &parcel(&record.key, file, &record.sums, &ctx.options.storage_class, labels))?;
        ctx.catalog.set_delivered(name, record.key.as_str(), record.manifest_key.as_str(), (ctx.clock)())?;
        ctx.staging.forget(name)?;
        Ok(((), record.made.len + record.manifest.len))
    })
}

/// A file that is to go to the vault, of such a class.
pub(super) fn parcel(key: &Key, file: PathBuf, sums: &BlockSums, class: &str, labels: Labels) -> Parcel {
    let spec = ObjectSpec { metadata: labels, ..spec(sums.len(), sums.whole(), class) };
    Parcel { key: key.clone(), file, spec, sums: sums.clone() }
}

/// Takes one file to the vault. Returns when a receipt proves that it is there.
pub(super) fn deliver(ctx: &Context, parcel: &Parcel) -> Result<(), Failure> {
    let held = AtomicU64::new(0);
    let progress = |bytes| {
        held.fetch_add(bytes, Ordering::Relaxed);
        ctx.monitor.progress(Step::Upload, bytes);
    };
    match ctx.block_on(ctx.uploader.deliver(parcel, &ctx.cancel, &progress)) {
        Ok(_) => Ok(()),
        Err(err) => Err(Failure { progressed: reached(ctx, &parcel.key, held.into_inner()), ..err.into() }),
    }
}

/// Whether the vault holds more of an object than ever. A large one takes days, on which short failures are no long
/// one; but one that begins anew again and again gets nowhere.
fn reached(ctx: &Context, key: &Key, held: u64) -> bool {
    let mut reached = ctx.reached.lock().unwrap_or_else(PoisonError::into_inner);
    if reached.0 != key.as_str() {
        *reached = (key.to_string(), 0);
    }
    let further = held > reached.1;
    reached.1 = reached.1.max(held);
    further
}

impl crate::fate::Fateful for crate::vault::KeyError {
    fn fate(&self) -> Fate {
        Fate::Operator
    }

    fn trouble(&self) -> Trouble {
        Trouble::Internal
    }
}
