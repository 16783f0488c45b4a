//! The end of a pass: when all of its pieces are delivered, the listing of the tree and, last of all, the index
//! go to the vault, and the pass is closed. An index in the vault says that everything it names is there.

use super::{
    context::{Context, Failure},
    delivery::{STANDARD, abort_uploads, deliver, parcel},
    greeting::greet,
    labels,
    naming::Naming,
    records::{keep_file, local_manifest, local_manifests, read_manifest, sweep_kept},
    retry::{Outcome, Patience, Tried, attempt, persist},
    sealing::Seal,
    summary,
};
use crate::{
    archive::{
        index::{Index, IndexPiece},
        listing::Listing,
        manifest::{Counts, FORMAT_VERSION, member_name, split},
    },
    catalog::{PassRow, PieceRow, PieceState},
    compress,
    durable::{self, at},
    fate::{Fate, Stopped, Trouble},
    name::{Encryption, PassId, SourceName},
    notice::Notice,
    panics,
    staging::{Digest, Encrypted, Heeding, RecordError, Reservation, read_record, write_record},
    vault::{Key, Receipt, checksum::BlockSums},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the catalog is copied when no pass ends.
const COPY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Passes by source whose end panicked, and when it is to be tried again.
type Aside = BTreeMap<SourceName, (Patience, Duration)>;

pub fn run(ctx: &Context) {
    let mut aside = Aside::new();
    while !ctx.is_stopping() {
        let rings = ctx.bell.rings();
        if !look_around(ctx, &mut aside) {
            return;
        }
        ctx.bell.wait(rings, LOOK_EVERY);
    }
}

/// Whether to look around again.
fn look_around(ctx: &Context, aside: &mut Aside) -> bool {
    let ready = match persist(ctx, ready) {
        Outcome::Done(ready) => ready,
        Outcome::Rotten(_) => return true,
        Outcome::Stopped => return false,
    };
    for pass in ready.iter().filter(|pass| !ctx.is_abandoned(&pass.source)) {
        let (mut patience, until) = aside.remove(&pass.source).unwrap_or_default();
        if ctx.elapsed() < until {
            aside.insert(pass.source.clone(), (patience, until));
            continue;
        }
        let ended = attempt(ctx, &mut patience, |ctx| {
            // Whatever is wrong after its end, it does not end twice.
            if ctx.catalog.open_pass(&pass.source)?.is_some_and(|open| open.pass == pass.pass) {
                end_pass(ctx, pass)?;
            }
            copy(ctx)
        });
        match ended {
            Tried::Settled(Outcome::Done(()) | Outcome::Rotten(_)) => {}
            Tried::Settled(Outcome::Stopped) => return false,
            Tried::Later(wait) => drop(aside.insert(pass.source.clone(), (patience, ctx.elapsed() + wait))),
            Tried::GivenUp(failure) => ctx.abandon_source(&pass.source, &failure),
        }
    }
    !matches!(persist(ctx, |ctx| if is_copy_old(ctx) { copy(ctx) } else { Ok(()) }), Outcome::Stopped)
}

fn copy(ctx: &Context) -> Result<(), Failure> {
    Ok(ctx.catalog.backup_to(&ctx.catalog.copy_file())?)
}

/// Whether there is no copy of the catalog from the last day. One from the future tells nothing of its age.
fn is_copy_old(ctx: &Context) -> bool {
    let made = std::fs::metadata(ctx.catalog.copy_file()).and_then(|meta| meta.modified());
    let now = SystemTime::from((ctx.clock)());
    made.map_or(true, |made| now.duration_since(made).map_or(true, |age| age >= COPY_EVERY))
}

/// Passes that are walked to their end and whose every piece is in the vault.
fn ready(ctx: &Context) -> Result<Vec<PassRow>, Failure> {
    let mut ready = Vec::new();
    for spec in &ctx.options.sources {
        let Some(pass) = ctx.catalog.open_pass(&spec.name)? else { continue };
        let pieces = ctx.catalog.pieces(&spec.name, pass.pass)?;
        let open = |row: &PieceRow| !matches!(row.state, PieceState::Delivered | PieceState::Retired);
        let lost = ctx.catalog.to_repack()?.iter().any(|row| row.packed.name.source == spec.name);
        if pass.seen.is_some() && !lost && !pieces.iter().any(open) {
            ready.push(pass);
        }
    }
    Ok(ready)
}

/// At a start: what a kill left of passes that have ended, and of drafts in the state, goes; the rest keeps its room.
pub fn recover(ctx: &Context, objects: &[String]) -> Result<(), Failure> {
    ctx.catalog.sweep_copies()?;
    for pass in ctx.catalog.passes(None)?.iter().filter(|pass| pass.ended.is_none()) {
        sweep_kept(&ctx.options.state, &pass.source, pass.pass)?;
    }
    for file_name in objects {
        let path = ctx.staging.shelf_file::<Encrypted>(file_name);
        let mut words = file_name.splitn(3, '.');
        let open = match (words.next().map(str::parse::<SourceName>), words.next().map(str::parse::<PassId>)) {
            (Some(Ok(source)), Some(Ok(pass))) => ctx.catalog.pass(&source, pass)?.filter(|row| row.ended.is_none()),
            _ => None,
        };
        if open.is_none() {
            durable::remove(&path)?;
            continue;
        }
        let len = std::fs::metadata(&path).map_err(at("examine", &path))?.len();
        let id = file_name.strip_suffix(Encryption::OpenPgp.suffix()).unwrap_or(file_name);
        ctx.staging.budget().adopt(id, Reservation::draft(len, 0));
    }
    Ok(())
}

fn end_pass(ctx: &Context, pass: &PassRow) -> Result<(), Failure> {
    // Its pieces may be of an earlier run, and the last of them may have taken days.
    greet(ctx)?;
    let mut pieces = ctx.catalog.pieces(&pass.source, pass.pass)?;
    let retired: Vec<u32> =
        pieces.iter().filter(|row| row.state == PieceState::Retired).map(|row| row.packed.name.seq).collect();
    pieces.retain(|row| row.state == PieceState::Delivered);
    let mut counts = Counts::default();
    for row in &pieces {
        counts.add(&serde_json::from_str(&row.packed.counts).unwrap_or_default());
    }
    let prefix = Naming::of(ctx, &pass.source, pass.pass)?.prefix(pass.pass);
    let all = labels::all_of(&pieces);
    let tree = PassObject { name: "tree.txt.xz", ctx, pass, prefix: &prefix, pieces: &all };
    tree.deliver(|out| write_tree(&ctx.options.state, &pieces, out))?;
    let index = PassObject { name: "index.json.zst", ctx, pass, prefix: &prefix, pieces: &all };
    index.deliver(|out| write_index(ctx, pass, &pieces, &retired, &counts, out))?;

    // Nothing of the pass is on its way any more.
    abort_uploads(ctx, &prefix)?;

    let lost: u64 = pieces.iter().map(|row| row.packed.lost).sum();
    let report = summary::report(ctx, pass, &pieces, &counts)?;
    // What the walk counted is held against what its pieces say they consumed.
    let walked = ctx.catalog.totals(&pass.source, pass.pass)?.walked;
    let adds_up = counts.adds_up() && pass.seen == Some(walked);
    if !adds_up {
        // Before it has ended: a run that waits for just that must not take it for complete.
        ctx.ends_in(Trouble::Internal);
    }
    ctx.catalog.end_pass(&pass.source, pass.pass, (ctx.clock)())?;
    // At once: a pass that has ended does not come here again, whatever fails from now on.
    ctx.count_lost(lost);
    ctx.tell(Notice::PassEnded {
        source: pass.source.to_string(),
        pass: pass.pass.to_string(),
        pieces: pieces.len() as u64,
        entries: counts.seen,
        archived: counts.clean + counts.changed,
        lost,
        clean: lost == 0 && adds_up,
        report,
    });
    if !adds_up {
        // Nothing that is tried again: what has been counted stays as it is.
        let (id, source, seen) = (pass.pass, &pass.source, pass.seen.unwrap_or(0));
        let what = format!(
            "The pass {id} of {source} does not add up: the walk has seen {seen} entries, its pieces {walked}; {counts:?}"
        );
        ctx.tell(Notice::Trouble { trouble: Trouble::Internal, what, retry_in: None });
    }
    let forget = |_: &Context| tree.forget().and_then(|()| index.forget());
    if !matches!(panics::caught(|| forget(ctx)), Ok(Ok(()))) {
        // If this is not to be any more, the next start sweeps them.
        let _ = persist(ctx, forget);
    }
    ctx.bell.ring();
    Ok(())
}

/// The whole tree of a pass as text, in walk order, from the manifests on this host.
pub fn write_tree(state: &Path, pieces: &[PieceRow], out: &mut dyn Write) -> Result<(), Failure> {
    let mut listing = Listing::new(out);
    for row in pieces {
        let path = local_manifest(state, row.name());
        for member in read_manifest(&path)? {
            listing.add(&member?).map_err(at("list", &path))?;
        }
    }
    Ok(())
}

fn index_piece(row: &PieceRow) -> Result<Option<IndexPiece>, Failure> {
    let (Some(sealed), Some(delivered)) = (row.sealed.clone(), row.delivered.clone()) else { return Ok(None) };
    let (first, first_b64) = split(&member_name(&row.packed.first));
    let (last, last_b64) = split(&member_name(&row.packed.last));
    Ok(Some(IndexPiece {
        key: delivered.key.parse()?,
        manifest_key: delivered.manifest_key.parse()?,
        first,
        first_b64,
        last,
        last_b64,
        segment: row.packed.segment.map(|segment| [segment.index, segment.count]),
        members: row.packed.members,
        tar_size: row.packed.tar_size,
        tar_sha256: row.packed.tar_sha256.clone(),
        sealed_size: sealed.size,
        sealed_sha256: sealed.sha256,
    }))
}

fn write_index(
    ctx: &Context,
    pass: &PassRow,
    pieces: &[PieceRow],
    retired: &[u32],
    counts: &Counts,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let named: Result<Vec<_>, Failure> = pieces.iter().filter_map(|row| index_piece(row).transpose()).collect();
    let pieces = named?;
    let index = Index {
        format: FORMAT_VERSION,
        program: concat!("archiver ", env!("CARGO_PKG_VERSION")).to_owned(),
        host: ctx.host.clone(),
        source: pass.source.clone(),
        source_id: pass.source_id.clone(),
        pass: pass.pass,
        tar_bytes: pieces.iter().map(|piece| piece.tar_size).sum(),
        sealed_bytes: pieces.iter().map(|piece| piece.sealed_size).sum(),
        pieces,
        retired: retired.to_vec(),
        supersedes: Vec::new(),
        counts: counts.clone(),
    };
    index.write(out).map_err(|err| Failure::from(at("write", Path::new("index.json"))(err)))
}

/// What is known of a pass object in staging that is on its way.
#[derive(Serialize, Deserialize)]
struct ObjectRecord {
    made: Digest,
    sums: BlockSums,
}

/// The listing or the index of a pass. It is sealed once and kept until the pass has ended, so that whatever
/// interrupts its delivery, the same bytes go on.
struct PassObject<'a> {
    name: &'static str,
    ctx: &'a Context,
    pass: &'a PassRow,
    prefix: &'a str,
    /// The label of the pieces that it is of.
    pieces: &'a str,
}

impl PassObject<'_> {
    fn file_name(&self, suffix: &str) -> String {
        format!("{}.{}.{}{suffix}", self.pass.source, self.pass.pass, self.name)
    }

    fn record(&self) -> PathBuf {
        local_manifests(&self.ctx.options.state, &self.pass.source, self.pass.pass)
            .join(format!("{}.sealed", self.name))
    }

    fn deliver(&self, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
        let ctx = self.ctx;
        let mut seal = Seal::open(ctx)?;
        let suffix = seal.method().suffix();
        let key: Key = format!("{}{}{suffix}", self.prefix, self.name).parse()?;
        let sealed = ctx.staging.shelf_file::<Encrypted>(&self.file_name(suffix));
        let record = match read_record::<ObjectRecord>(&self.record()) {
            Ok(record) if sealed.exists() => record,
            Ok(_) | Err(RecordError::Missing(_) | RecordError::Damaged { .. }) => {
                if let Some(receipt) = ctx.ask(ctx.options.upload.retries.ask(|| ctx.vault.head(&key)))? {
                    return self.recognize(&receipt);
                }
                let made = self.seal(&mut seal, &sealed, write)?;
                write_record(&self.record(), &made).map_err(|err| Failure::from(err).in_state())?;
                made
            }
            Err(err) => return Err(err.into()),
        };
        let mut labels = labels::of_pass(ctx, &self.pass.source, self.pass.pass, &record.made.sha256)?;
        labels.insert(labels::PIECES.into(), self.pieces.to_owned());
        match deliver(ctx, &parcel(&key, sealed, &record.sums, STANDARD, labels)) {
            Err(failure) if failure.fate == Fate::Rotten => {
                // It is made again from what it was made of.
                self.forget()?;
                Err(Failure { fate: Fate::Retry, ..failure })
            }
            delivered => delivered,
        }
    }

    /// Its record is gone, and the vault holds something at its key. Delivered by a run that ended before it could say
    /// so, if it is of the same pieces; if not, the catalog has forgotten some, or remembers others.
    fn recognize(&self, receipt: &Receipt) -> Result<(), Failure> {
        if receipt.metadata.get(labels::PIECES).is_some_and(|pieces| pieces == self.pieces) {
            return Ok(());
        }
        let what = format!(
            "The vault holds {} of other pieces than the catalog knows of this pass: write back the latest catalog, or \
             remove that object from the vault, and it is made again of the pieces that the catalog knows",
            receipt.key
        );
        Err(Failure::new(Fate::Operator, Trouble::State, what))
    }

    fn seal(
        &self,
        seal: &mut Seal,
        sealed: &Path,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
    ) -> Result<ObjectRecord, Failure> {
        let ctx = self.ctx;
        // Both forms of a listing are small beside a piece; it waits its turn for room all the same.
        let clear_path = local_manifests(&ctx.options.state, &self.pass.source, self.pass.pass).join(self.name);
        let clear = keep_file(&clear_path, |out| {
            let out = &mut Heeding { inner: out, stop: &ctx.stop };
            if self.name.ends_with(".xz") {
                let mut xz = compress::xz_writer(out).map_err(at("write", &clear_path))?;
                write(&mut xz)?;
                xz.finish().map(drop).map_err(at("write", &clear_path))?;
            } else {
                let mut zstd = compress::zstd_writer(out).map_err(at("write", &clear_path))?;
                write(&mut zstd)?;
                zstd.finish().map(drop).map_err(at("write", &clear_path))?;
            }
            Ok(())
        })
        .map_err(|failure| if Stopped::caused(failure.error.as_ref()) { Stopped.into() } else { failure })?;
        let id = self.file_name("");
        let need = Reservation(clear.len + clear.len / 100 + (128 << 10));
        ctx.staging.budget().reserve(&id, need, &|| ctx.is_stopping())?;
        let input = File::open(&clear_path).map_err(at("open", &clear_path))?;
        let file_name = sealed.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let made = seal.object(ctx, &input, &clear, file_name)?;
        Ok(ObjectRecord { made: made.digest, sums: made.sums })
    }

    fn forget(&self) -> Result<(), Failure> {
        // The record first: what is left on the shelf of a pass that has ended goes at the next start.
        durable::remove(&self.record()).map_err(|err| Failure::from(err).in_state())?;
        for encryption in [Encryption::OpenPgp, Encryption::None] {
            durable::remove(&self.ctx.staging.shelf_file::<Encrypted>(&self.file_name(encryption.suffix())))?;
        }
        self.ctx.staging.budget().release(&self.file_name(""));
        Ok(())
    }
}
