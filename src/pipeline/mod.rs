//! Runs the stages: one thread each, joined by bounded channels that carry only news of pieces.
//!
//! ```text
//! archiving ──► compressing ──► sealing ──► delivery      ending (of passes)
//! ```
//!
//! Waiting, retrying, stopping and committing happen here, once. The order in which a piece is committed is the
//! same everywhere: its record is durable in `list/`, then it gets its name on the shelf (this is the commit),
//! then its row in the catalog says so, then its predecessor goes. [`recovery`] brings the catalog up to the
//! shelves at every start, so a crash, a restart and a normal day are one code path.

mod archiving;
mod backoff;
mod bell;
mod compressing;
mod context;
mod delivery;
mod described;
mod drafts;
mod ending;
mod finish;
mod forecast;
mod gate;
mod greeting;
mod inbox;
mod kept;
mod labels;
mod lane;
mod ledger;
mod live;
mod middle;
mod naming;
mod packing;
mod paused;
mod reconcile;
mod records;
mod recovery;
mod retry;
mod sealing;
mod silence;
mod spec;
mod stages;
mod summary;
mod turns;

pub use backoff::{Backoff, Limit};
pub use context::{Clock, Failure, Wait, is_random_id, random_id};
pub use described::{Described, described, name_in};
pub use finish::{Ended, Finish};
pub use forecast::{Forecast, Forecaster, Keep};
pub use gate::{AlwaysOpen, GRACE, WindowGate};
pub use greeting::{VAULT_FILE, VAULT_GREETED, is_stranger, is_vault_known, vault_name};
pub use kept::{forget as forget_records, is_kept};
pub use labels::{PIECES, all_of, path_of};
pub use lane::NotNow;
pub use live::Live;
pub use naming::{HOST_ID, source_id};
pub use paused::{Part, Paused};
pub use records::{ManifestReadError, local_manifest, read_manifest};
pub use spec::{Names, Options, SourceSpec};

use crate::{
    catalog::Catalog,
    fate::{Chain, Fate, Fateful},
    notice::Monitor,
    staging::{Staging, Stop},
    upload::Gate,
};
use context::Context;
use stages::Stages;
use std::sync::{Arc, mpsc::sync_channel};
use tokio_util::sync::CancellationToken;

/// News that may wait between two stages. Pieces themselves wait on the shelves.
const NEWS_MAX: usize = 16;

/// What a run is made of. All of it comes in from outside, so every part can be another in a test.
pub struct Parts {
    /// Options and vault, which may become others while it runs.
    pub live: Arc<Live>,
    pub catalog: Catalog,
    pub monitor: Arc<dyn Monitor>,
    pub clock: Clock,
    pub wait: Wait,
    pub stop: Stop,
    /// Told together with `stop`, to what runs on the async workers.
    pub cancel: CancellationToken,
    /// When uploading is allowed.
    pub gate: Arc<dyn Gate>,
    /// Where uploads run.
    pub runtime: tokio::runtime::Handle,
    /// Called when nothing stands in the way of the work any more: the working directory is ours, and the keys are good.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// Runs until it is told to stop, or, with [`Options::once`], until nothing is left to do. Blocks.
pub fn run(mut parts: Parts) -> Finish {
    parts.stop = parts.stop.watched("pipeline", None);
    let ready = std::mem::replace(&mut parts.ready, Box::new(|| ()));
    let options = parts.live.get().options;
    let (staging, backlog) = match Staging::open(&options.staging, options.cap) {
        Ok(opened) => opened,
        Err(err) => return Finish::failed(parts.monitor.as_ref(), err.trouble(), Chain(&err).to_string()),
    };
    let monitor = parts.monitor.clone();
    let ctx = match Context::new(parts, staging) {
        Ok(ctx) => ctx,
        Err(failure) => return Finish::failed(monitor.as_ref(), failure.trouble, failure.chain()),
    };
    ready();
    let backlog = match recovery::recover(&ctx, backlog) {
        Ok(backlog) => backlog,
        // Told to, or given up after trouble that was told.
        Err(failure) if failure.fate == Fate::Stopped => return ctx.finish(),
        Err(failure) => return ctx.finish_with(&failure),
    };
    let (packed_out, packed_in) = sync_channel(NEWS_MAX);
    let (compressed_out, compressed_in) = sync_channel(NEWS_MAX);
    let (sealed_out, sealed_in) = sync_channel(NEWS_MAX);
    let mut stages = Stages::new(ctx.clone());
    stages.start(stages::ARCHIVER, move |ctx| turns::run(ctx, packed_out));
    stages.start("compressors", move |ctx| compressing::run(ctx, backlog.packed, packed_in, compressed_out));
    stages.start("encrypter", move |ctx| sealing::run(ctx, backlog.compressed, compressed_in, sealed_out));
    stages.start("uploader", move |ctx| delivery::run(ctx, backlog.encrypted, sealed_in));
    stages.start("ender", ending::run);
    stages.wait();
    ctx.finish()
}
