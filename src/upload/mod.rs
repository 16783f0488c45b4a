//! Delivers sealed files to the vault: whole, once, and going on where it was interrupted.
//!
//! What is true, the vault says: before anything is sent, and after everything was, it is asked what it holds
//! ([`Vault::head`]), and only that makes a [`Receipt`]. Answers to uploads get lost, and say no to what was done
//! and yes to what was not.
//!
//! - The upload is in the ledger before its first part is sent, so no part is sent twice for a restart.
//! - Every part is compared with the checksum that was recorded when the file was made.
//! - Stopping drops what is under way; everything that the vault holds stays, and is not sent again.
//! - A part that fails for a reason that may pass is sent again a few times; beyond that, whoever calls
//!   [`Uploader::deliver`] again goes on.

mod allowance;
mod bandwidth;
mod delivery;
mod error;
mod parts;
mod sending;

#[cfg(test)]
mod tests;

use crate::{
    fate::Waits,
    vault::{Cause, Key, ObjectSpec, Receipt, UploadId, Vault, VaultError, VaultResult, checksum::BlockSums},
};
use allowance::Allowance;
use async_trait::async_trait;
use bandwidth::Bandwidth;
use delivery::Delivery;
pub use error::{LedgerError, UploadError};
pub use parts::{PART_COUNT_MAX, PART_SIZE_MAX, part_size};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often what is left is aborted again before it is told.
const ABORT_ROUNDS: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a part; grows to a power of two of at least 8 MiB, and for large objects. What fits into one part
    /// is sent in one go. Parts are read while they are sent, so this is no memory.
    pub part_size: u64,
    /// Parts under way at once, of one object; fewer while the vault asks to go slower.
    pub concurrency: usize,
    pub retries: Retries,
    /// Bytes per second, over all parts of all objects together.
    pub bandwidth: Option<u64>,
}

/// What a delivery tries again by itself. Beyond that trouble is told, and whoever called waits longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Failures in a row after which a delivery ends for now.
    pub max: u32,
    pub waits: Waits,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { max: 6, waits: Waits { first: Duration::from_millis(500), longest: Duration::from_secs(30) } }
    }
}

impl Retries {
    /// How long to wait after so many failures in a row; nothing when they are too many.
    fn after(self, failures: u32) -> Option<Duration> {
        (failures < self.max).then(|| self.waits.after(failures, chance()))
    }

    /// As [`after`](Self::after), when the last refusal was of such a cause; nothing too when it may not pass, or was none.
    fn after_refusal(self, failures: u32, cause: Option<Cause>) -> Option<Duration> {
        cause.filter(|cause| may_pass(*cause, failures)).and_then(|_| self.after(failures))
    }

    /// A question that is refused for now is asked again a few times: a server in a storm refuses most of what it is
    /// asked, and whoever began at the beginning for each refusal would never come to the end.
    pub async fn ask<T, A: Future<Output = VaultResult<T>>>(self, question: impl Fn() -> A) -> VaultResult<T> {
        let mut failures = 0;
        loop {
            let answer = question().await;
            failures += 1;
            match self.after_refusal(failures, cause(&answer)) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return answer,
            }
        }
    }
}

/// Refused for now, and answered: nothing was done, and nothing hangs. What was signed wrong is signed anew once, with
/// keys that are asked for again, and by the server's clock.
fn may_pass(cause: Cause, failures: u32) -> bool {
    match cause {
        Cause::Throttle | Cause::Other => true,
        Cause::Credentials | Cause::Clock => failures == 1,
        _ => false,
    }
}

/// Any number. A system without random numbers waits as long as it may.
pub fn chance() -> u32 {
    let mut bytes = [0u8; 4];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if filled == Ok(bytes.len()) { u32::from_ne_bytes(bytes) } else { u32::MAX }
}

/// A file that is to be delivered.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub key: Key,
    pub file: PathBuf,
    /// `part_size` is filled in here.
    pub spec: ObjectSpec,
    /// Of the file, recorded when it was made.
    pub sums: BlockSums,
}

/// Remembers uploads under way, one record for each key. The calls block, and what was saved is durable when they
/// return.
pub trait Ledger: Send + Sync {
    fn load(&self, key: &Key) -> Result<Option<String>, LedgerError>;
    fn save(&self, key: &Key, record: &str) -> Result<(), LedgerError>;
    /// What is not there is no error.
    fn forget(&self, key: &Key) -> Result<(), LedgerError>;
}

/// Says when something may be sent: a window, a pause.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Returns when sending is allowed. Asked before every part; may be dropped and asked again at any time.
    async fn opened(&self);

    /// Whether sending is allowed now.
    fn is_open(&self) -> bool {
        true
    }

    /// Returns when what is under way must end, because sending has not been allowed for some time. May be dropped
    /// and asked again at any time.
    async fn overdue(&self) {
        std::future::pending::<()>().await;
    }
}

pub struct Uploader {
    vault: Arc<dyn Vault>,
    ledger: Arc<dyn Ledger>,
    gate: Arc<dyn Gate>,
    options: Options,
    bandwidth: Arc<Bandwidth>,
    allowance: Mutex<Allowance>,
    told_class: AtomicBool,
}

impl Uploader {
    pub fn new(vault: Arc<dyn Vault>, ledger: Arc<dyn Ledger>, gate: Arc<dyn Gate>, options: Options) -> Uploader {
        let bandwidth = Arc::new(Bandwidth::new(options.bandwidth));
        let allowance = Mutex::new(Allowance::new(options.concurrency));
        Uploader { vault, ledger, gate, options, bandwidth, allowance, told_class: AtomicBool::new(false) }
    }

    /// One for what is delivered from now on. The bandwidth is shared: it holds at once for what is under way, too.
    pub fn with(&self, vault: Arc<dyn Vault>, options: Options) -> Uploader {
        self.bandwidth.set(options.bandwidth);
        let allowance = Mutex::new(Allowance::new(options.concurrency));
        let (ledger, gate, bandwidth) = (self.ledger.clone(), self.gate.clone(), self.bandwidth.clone());
        Uploader { vault, ledger, gate, options, bandwidth, allowance, told_class: AtomicBool::new(false) }
    }

    /// Whether anything may be sent now.
    pub fn may_send(&self) -> bool {
        self.gate.is_open()
    }

    /// Tells once where the vault keeps objects in another class than was asked for: that is a matter of money.
    fn look_at_class(&self, spec: &ObjectSpec, receipt: Receipt) -> Receipt {
        let (asked, kept) = (&spec.storage_class, &receipt.storage_class);
        if asked != kept && !kept.is_empty() && !self.told_class.swap(true, Ordering::Relaxed) {
            tracing::warn!(key = %receipt.key, %asked, %kept, "The vault keeps an object in another class");
        }
        receipt
    }

    /// Makes the vault hold a file, and returns the proof. Bytes that the vault holds are told to `progress` as
    /// they become more; together they are the size of the object. Waiting and sending end at once when `stop` is
    /// canceled, and go on with the next call.
    pub async fn deliver(
        &self,
        parcel: &Parcel,
        stop: &CancellationToken,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Receipt, UploadError> {
        let delivery = Delivery::new(self, parcel, progress);
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(UploadError::Stopped),
            delivered = delivery.run() => delivered,
        }
    }
}

/// Throws away every upload below a prefix of which `keep` does not know: what a lost ledger left, which costs
/// money and is seen in no listing. What was under way while it was aborted may stay, so they are listed again until
/// none is left. Returns the keys. Where we may not, a rule of the vault's owner has to.
pub async fn abort_orphans(
    vault: &dyn Vault,
    prefix: &str,
    keep: &(dyn Fn(&Key, &UploadId) -> bool + Sync),
) -> VaultResult<Vec<Key>> {
    let mut aborted = Vec::new();
    for _ in 0..ABORT_ROUNDS {
        let listed = vault.uploads(prefix).await;
        if cause(&listed) == Some(Cause::Permission) {
            return Ok(aborted);
        }
        let orphans: Vec<_> = listed?.into_iter().filter(|(key, id)| !keep(key, id)).collect();
        if orphans.is_empty() {
            return Ok(aborted);
        }
        for (key, id) in orphans {
            let answer = vault.abort(&key, &id).await;
            if cause(&answer) == Some(Cause::Permission) {
                return Ok(aborted);
            }
            answer?;
            aborted.push(key);
        }
    }
    Err(VaultError::new(
        "abort the uploads below",
        prefix,
        Cause::Other,
        "they are listed however often they are aborted",
    ))
}

/// The cause of a refusal by the vault.
fn cause<T>(result: &VaultResult<T>) -> Option<Cause> {
    result.as_ref().err().map(|err| err.cause)
}

fn cause_of(err: &UploadError) -> Option<Cause> {
    if let UploadError::Vault(err) = err { Some(err.cause) } else { None }
}
