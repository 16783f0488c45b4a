//! A vault that fails as it is told, a ledger in memory, gates.

use super::super::{Gate, Ledger, LedgerError};
use crate::{
    fate::Fate,
    vault::{
        Cause, Crc64, Key, Listed, ObjectSpec, Part, Receipt, Thaw, Tier, UploadId, Vault, VaultError, VaultResult,
        directory::DirectoryVault, payload::Payload,
    },
};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;

/// What befalls one call.
pub enum Fault {
    /// Refused, and nothing is done.
    Refuse(Cause),
    /// Done, but the answer says otherwise.
    LoseAnswer(Cause),
    /// Not done, but the answer says it is.
    Pretend,
    /// Done, and then this happens, and the answer never comes.
    Then(Box<dyn FnOnce() + Send>),
    /// This happens, and then it is neither done nor answered.
    Stall(Box<dyn FnOnce() + Send>),
    /// This happens, and then it is done.
    First(Box<dyn FnOnce() + Send>),
}

/// Counts the calls, and lets through to a real vault what it is not told to spoil.
pub struct Faulty {
    pub inner: DirectoryVault,
    calls: Mutex<Vec<String>>,
    faults: Mutex<BTreeMap<String, Vec<Fault>>>,
    /// How many parts must be under way before one goes on.
    pub together: Option<tokio::sync::Barrier>,
    under_way: AtomicUsize,
    pub most_under_way: AtomicUsize,
    /// What `head` says instead of the checksum.
    pub lie: Mutex<Option<Crc64>>,
}

impl Faulty {
    pub fn new(inner: DirectoryVault) -> Faulty {
        Faulty {
            inner,
            calls: Mutex::default(),
            faults: Mutex::default(),
            together: None,
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            lie: Mutex::default(),
        }
    }

    /// Spoils the next call of this name; several of one name are taken in the order told.
    pub fn spoil(&self, call: &str, fault: Fault) {
        self.faults.lock().unwrap().entry(call.to_owned()).or_default().push(fault);
    }

    /// The calls since this was last asked, but for `head`, `parts` and `uploads`, which change nothing.
    pub fn calls(&self) -> Vec<String> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.retain(|call| !["head", "parts", "uploads"].contains(&call.as_str()));
        calls
    }

    async fn call<T>(&self, name: String, key: &Key, work: impl Future<Output = VaultResult<T>>) -> VaultResult<T> {
        self.calls.lock().unwrap().push(name.clone());
        let refuse = |cause| Err(VaultError::new("do as told with", key, cause, "scripted"));
        let fault = self.faults.lock().unwrap().get_mut(&name).filter(|all| !all.is_empty()).map(|all| all.remove(0));
        match fault {
            None => work.await,
            Some(Fault::Refuse(cause)) => refuse(cause),
            Some(Fault::LoseAnswer(cause)) => {
                work.await?;
                refuse(cause)
            }
            Some(Fault::Then(happens)) => {
                work.await?;
                happens();
                std::future::pending().await
            }
            Some(Fault::Stall(happens)) => {
                happens();
                std::future::pending().await
            }
            Some(Fault::First(happens)) => {
                happens();
                work.await
            }
            Some(Fault::Pretend) => panic!("only calls that answer nothing can pretend"),
        }
    }

    fn pretends(&self, name: &str) -> bool {
        let mut faults = self.faults.lock().unwrap();
        let Some(all) = faults.get_mut(name).filter(|all| matches!(all.first(), Some(Fault::Pretend))) else {
            return false;
        };
        all.remove(0);
        true
    }
}

/// Counts down however a call ends.
struct Ends<'a>(&'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Vault for Faulty {
    async fn put(&self, key: &Key, spec: &ObjectSpec, payload: Payload) -> VaultResult<()> {
        self.call("put".into(), key, self.inner.put(key, spec, payload)).await
    }

    async fn begin(&self, key: &Key, spec: &ObjectSpec) -> VaultResult<UploadId> {
        self.call("begin".into(), key, self.inner.begin(key, spec)).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, number: u32, payload: Payload) -> VaultResult<Part> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        if let Some(together) = &self.together {
            together.wait().await;
        }
        let work = self.inner.put_part(key, upload, number, payload);
        let _under_way = Ends(&self.under_way);
        self.call(format!("part {number}"), key, work).await
    }

    async fn parts(&self, key: &Key, upload: &UploadId) -> VaultResult<Vec<Part>> {
        self.call("parts".into(), key, self.inner.parts(key, upload)).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, spec: &ObjectSpec, parts: &[Part]) -> VaultResult<()> {
        if self.pretends("complete") {
            return Ok(());
        }
        self.call("complete".into(), key, self.inner.complete(key, upload, spec, parts)).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> VaultResult<()> {
        self.call("abort".into(), key, self.inner.abort(key, upload)).await
    }

    async fn uploads(&self, prefix: &str) -> VaultResult<Vec<(Key, UploadId)>> {
        self.call("uploads".into(), &"any".parse().unwrap(), self.inner.uploads(prefix)).await
    }

    async fn head(&self, key: &Key) -> VaultResult<Option<Receipt>> {
        if self.pretends("head") {
            return Ok(None);
        }
        let receipt = self.call("head".into(), key, self.inner.head(key)).await?;
        let lie = *self.lie.lock().unwrap();
        Ok(receipt.map(|receipt| Receipt { crc64: lie.or(receipt.crc64), ..receipt }))
    }

    async fn get_range(&self, key: &Key, offset: u64, len: u64) -> VaultResult<Vec<u8>> {
        self.inner.get_range(key, offset, len).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> VaultResult<Vec<Listed>> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> VaultResult<()> {
        self.inner.delete(key).await
    }

    async fn thaw(&self, key: &Key, days: u32, tier: Tier) -> VaultResult<Thaw> {
        self.inner.thaw(key, days, tier).await
    }
}

/// Remembers, and fails when told.
#[derive(Default)]
pub struct Memory {
    pub records: Mutex<BTreeMap<Key, String>>,
    pub full: Mutex<bool>,
}

impl Ledger for Memory {
    fn load(&self, key: &Key) -> Result<Option<String>, LedgerError> {
        Ok(self.records.lock().unwrap().get(key).cloned())
    }

    fn save(&self, key: &Key, record: &str) -> Result<(), LedgerError> {
        if *self.full.lock().unwrap() {
            let source = "disk full".into();
            return Err(LedgerError { attempt: "save", key: key.clone(), fate: Fate::Retry, source });
        }
        self.records.lock().unwrap().insert(key.clone(), record.to_owned());
        Ok(())
    }

    fn forget(&self, key: &Key) -> Result<(), LedgerError> {
        self.records.lock().unwrap().remove(key);
        Ok(())
    }
}

/// Always open.
pub struct Open;

#[async_trait]
impl Gate for Open {
    async fn opened(&self) {}
}

/// Opens so many times.
pub struct Times(pub Arc<Semaphore>);

#[async_trait]
impl Gate for Times {
    async fn opened(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}
