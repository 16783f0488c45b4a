//! The vault that the configuration names.

use super::{
    CannotRun, Run, cannot, systemd,
    waiting::{Ears, Woken},
};
use crate::{
    config::{Settings, VaultUrl},
    fate::{Chain, Fateful},
    notice::Monitor,
    pipeline::{Backoff, Limit},
    staging::Staging,
    upload::chance,
    vault::{
        Vault,
        directory::DirectoryVault,
        s3::{self, S3Vault},
    },
};
use std::{path::Path, sync::Arc, time::Duration};

/// How often a vault that is not there is looked for again.
const VAULT_WAIT: Duration = Duration::from_secs(30);
/// How long a run that goes on waits for the disk of another vault.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How a vault is to be opened.
pub(super) struct Opening<'a> {
    pub run: &'a Run,
    pub monitor: &'a dyn Monitor,
    /// Something was delivered there before.
    pub is_known: bool,
}

/// An open vault, as what serves it must know it.
pub(super) enum Opened {
    Directory(DirectoryVault),
    S3(Box<S3Vault>),
}

impl Opened {
    pub(super) fn vault(&self) -> Arc<dyn Vault> {
        match self {
            Opened::Directory(vault) => Arc::new(vault.clone()),
            Opened::S3(vault) => Arc::new(S3Vault::clone(vault)),
        }
    }

    /// What may have changed outside is asked for anew.
    pub(super) fn reload(&self) {
        if let Opened::S3(vault) = self {
            vault.reload_credentials();
        }
    }
}

/// Opens the vault. A directory that is not there is waited for; of a server nothing is asked yet, so one that is away
/// keeps nobody from working up to it.
pub(super) async fn open(
    settings: &Settings,
    opening: &Opening<'_>,
    ears: &mut Ears,
) -> Result<Result<Opened, Woken>, CannotRun> {
    match (&settings.vault.url, s3_options(settings)) {
        (VaultUrl::Directory(path), _) => open_directory(path, settings, opening, ears).await,
        (VaultUrl::S3 { .. }, options) => {
            let options = options.expect("a URL of S3 has options of S3");
            Ok(Ok(Opened::S3(Box::new(S3Vault::open(options).await))))
        }
    }
}

/// Opens a vault for a run that goes on: a directory that is not there is not waited for.
pub(super) async fn open_now(settings: &Settings, is_known: bool) -> Result<Opened, String> {
    match (&settings.vault.url, s3_options(settings)) {
        (VaultUrl::S3 { .. }, Some(options)) => Ok(Opened::S3(Box::new(S3Vault::open(options).await))),
        (VaultUrl::Directory(path), _) => {
            let path = path.clone();
            let open = if is_known { DirectoryVault::open_existing } else { DirectoryVault::open };
            let opening = tokio::task::spawn_blocking(move || open(&path));
            match tokio::time::timeout(ANSWER_WITHIN, opening).await {
                Ok(Ok(opened)) => opened.map(Opened::Directory).map_err(|err| Chain(&err).to_string()),
                Ok(Err(err)) => Err(err.to_string()),
                Err(_) => Err("its disk gives no answer".to_owned()),
            }
        }
        (VaultUrl::S3 { .. }, None) => unreachable!("a URL of S3 has options of S3"),
    }
}

/// Opens the vault in which everything is already, for whoever brings something back.
pub async fn open_vault(settings: &Settings) -> Result<Arc<dyn Vault>, String> {
    Ok(open_now(settings, true).await?.vault())
}

/// A daemon waits for a directory that is not there, until a signal ends the waiting; a run that somebody waits for
/// only as long as it was told to.
async fn open_directory(
    path: &Path,
    settings: &Settings,
    Opening { run, monitor, is_known }: &Opening<'_>,
    ears: &mut Ears,
) -> Result<Result<Opened, Woken>, CannotRun> {
    let (mut backoff, mut is_staging_good) = (Backoff::default(), false);
    loop {
        let opening = path.to_owned();
        let is_there = DirectoryVault::is_there(path);
        let open = if *is_known { DirectoryVault::open_existing } else { DirectoryVault::open };
        let opened = tokio::task::spawn_blocking(move || open(&opening)).await;
        let err = match opened.map_err(|err| (1, format!("Cannot open the vault: {err}")))? {
            Ok(vault) => {
                if !is_there {
                    tracing::warn!("A new vault is made in {path:?}: make sure that it is on the disk that is meant");
                }
                return Ok(Ok(Opened::Directory(vault)));
            }
            Err(err) => err,
        };
        let wait = match (run.once, run.give_up_after) {
            (false, _) => Some(VAULT_WAIT),
            (true, None) => None,
            (true, Some(time)) => {
                backoff.failed(err.waits(), err.fate(), jiff::Timestamp::now(), Limit::After(time), chance())
            }
        };
        let Some(wait) = wait else { return Err(cannot(&err)) };
        if !is_staging_good {
            probe_staging(settings).await?;
            is_staging_good = true;
        }
        if !run.once {
            // All else is good: it runs, and does not fail for a disk that may be back in a moment.
            systemd::ready();
        }
        if let Some(why) = ears.tell_and_wait(&settings.state, *monitor, &err, wait).await {
            return Ok(Err(why));
        }
    }
}

/// A vault may be waited for: what is wrong with staging is told before. One whose disk hangs is for who works on it.
async fn probe_staging(settings: &Settings) -> Result<(), CannotRun> {
    let (root, cap) = (settings.staging.path.clone(), settings.staging.cap.0);
    let probing = tokio::task::spawn_blocking(move || Staging::open(&root, cap).map(drop));
    match tokio::time::timeout(ANSWER_WITHIN, probing).await {
        Ok(Ok(Err(err))) => Err(cannot(&err)),
        _ => Ok(()),
    }
}

/// `None` where the vault is a directory.
pub fn s3_options(settings: &Settings) -> Option<s3::Options> {
    let VaultUrl::S3 { bucket, prefix } = &settings.vault.url else { return None };
    let vault = &settings.vault;
    let identity = match (&vault.credentials_file, &vault.profile) {
        (Some(path), profile) => s3::Identity::File { path: path.clone(), profile: profile.clone() },
        (None, Some(profile)) => s3::Identity::Profile(profile.clone()),
        (None, None) => s3::Identity::Chain,
    };
    Some(s3::Options {
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        region: vault.region.clone(),
        endpoint_url: vault.endpoint_url.clone(),
        path_style: vault.path_style,
        identity,
        patience: s3::Patience::default(),
    })
}
