//! The vault that the configuration names.

use crate::{
    catalog::Catalog,
    config::{Names, Settings, VaultUrl},
    daemon::{options, s3_options},
    fate::Chain,
    finding::Findings,
    pipeline,
    units::ByteSize,
    upload::part_size,
    vault::{
        directory::DirectoryVault,
        policy,
        s3::{self, S3Vault},
    },
};
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::time::timeout;

/// Shorter than a daemon's: somebody waits.
const PATIENCE: s3::Patience =
    s3::Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(10), slowest: 1_000 };
/// A disk that takes longer hangs.
const DISK: Duration = Duration::from_secs(60);
/// The place of a host in the cloud is asked of its neighborhood.
const OPENING: Duration = Duration::from_secs(15);

pub(super) async fn probe(settings: &Settings, nonce: String, out: &mut Findings<'_>) {
    let own = settings.clone();
    let known = tokio::task::spawn_blocking(move || Known::of(&own));
    let known = timeout(DISK, known).await.ok().and_then(Result::ok).unwrap_or_default();
    match (&settings.vault.url, s3_options(settings)) {
        (VaultUrl::Directory(path), _) => directory(settings, path, &known, &nonce, out).await,
        (VaultUrl::S3 { .. }, Some(options)) => {
            parts(settings, out);
            let options = s3::Options { patience: PATIENCE, ..options };
            let Ok(vault) = timeout(OPENING, S3Vault::open(options)).await else {
                return out.problem("vault", "nobody tells the region", "Write vault.region");
            };
            vault.probe(&plan(settings, known, nonce), out).await;
        }
        (VaultUrl::S3 { .. }, None) => {}
    }
}

/// A part that does not fit into any window begins anew in each.
fn parts(settings: &Settings, out: &mut Findings<'_>) {
    let part = part_size(settings.pack.max_size.0, settings.vault.part_size.0);
    let (Some(minutes), Some(bandwidth), Some(part)) =
        (settings.upload.window.longest_open_minutes(), settings.upload.bandwidth, part)
    else {
        return;
    };
    let open = u64::from(minutes) * 60 + pipeline::GRACE.unsigned_abs().as_secs();
    let fits = open.saturating_mul(bandwidth.0);
    let shown = format!("a part of {} takes {} minutes", ByteSize(part), (part / bandwidth.0.max(1)).div_ceil(60));
    if part <= fits {
        return out.ok("window", format!("{shown}, and the window is open for {minutes} in a row"));
    }
    let what = format!("{shown}, and the window is open for {minutes} in a row: no part would ever be through");
    out.problem("window", what, "Raise upload.bandwidth, widen upload.window, or write a smaller vault.part_size");
}

/// What the catalog says, as far as there is one.
#[derive(Default)]
struct Known {
    host: Option<String>,
    uploads: BTreeMap<String, String>,
    is_delivered_to: bool,
}

impl Known {
    fn of(settings: &Settings) -> Known {
        // What is wrong with it is told elsewhere.
        let catalog = Catalog::open_read_only(&settings.catalog_file()).ok();
        let setting = |name: &str| catalog.as_ref().and_then(|catalog| catalog.setting(name).ok().flatten());
        Known {
            host: match settings.vault.names {
                Names::Plain => Some(setting("host").unwrap_or_else(|| options::host(settings))),
                Names::Opaque => setting("host-id"),
            },
            uploads: catalog.as_ref().and_then(|catalog| catalog.uploads().ok()).into_iter().flatten().collect(),
            is_delivered_to: catalog
                .as_ref()
                .is_some_and(|catalog| pipeline::is_vault_known(catalog, &settings.state).unwrap_or(false)),
        }
    }
}

fn plan(settings: &Settings, known: Known, nonce: String) -> s3::Plan {
    let (piece, window) = (settings.pack.max_size.0, &settings.upload.window);
    let bandwidth = settings.upload.bandwidth.map(|bandwidth| bandwidth.0);
    let (open, closed) = (window.open_minutes(), window.longest_closed_minutes());
    s3::Plan {
        host: known.host,
        nonce,
        storage_class: settings.vault.storage_class.clone(),
        known: known.uploads,
        abort_days_least: policy::abort_days_least(piece, bandwidth, open, closed),
        abort_days: policy::abort_days(piece, bandwidth, open),
    }
}

/// A vault is never made here: it could be on the bare mount point of its disk.
async fn directory(settings: &Settings, path: &Path, known: &Known, nonce: &str, out: &mut Findings<'_>) {
    let place = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        DirectoryVault::is_there(&place).then(|| DirectoryVault::open_existing(&place))
    });
    let vault = match timeout(DISK, opened).await {
        Ok(Ok(Some(Ok(vault)))) => vault,
        Ok(Ok(Some(Err(err)))) => return out.problem("vault", Chain(&err).to_string(), "Look at the rights of it"),
        Ok(Ok(None)) if known.is_delivered_to => {
            return out.problem("vault", format!("{path:?} is not there, and was before"), "Mount its disk");
        }
        Ok(Ok(None)) if path.parent().is_some_and(Path::is_dir) => {
            let what = format!("{path:?} is no vault yet: the first run makes it on whatever is mounted there");
            return out.warning("vault", what, "Mount its disk before, and run this again after");
        }
        Ok(Ok(None)) => {
            let what = format!("{path:?} is not there, nor is the directory that it is to be in");
            return out.problem("vault", what, "Mount its disk, or correct vault.url");
        }
        Ok(Err(err)) => return out.problem("vault", format!("the check failed: {err}"), ""),
        Err(_) => return out.problem("vault", "its disk does not answer", HANGS),
    };
    if timeout(DISK, vault.probe(nonce, settings.pack.max_size.0, out)).await.is_err() {
        out.problem("objects", "the disk does not answer", HANGS);
    }
}

const HANGS: &str = "Look at `dmesg` for a disk or a server that hangs";
