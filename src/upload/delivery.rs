//! One delivery. It may be dropped at any await, and the next one goes on.

use super::{
    LedgerError, Parcel, UploadError, Uploader, cause,
    parts::{self, Span},
    sending::{Sending, taken},
};
use crate::vault::{Cause, Key, ObjectSpec, Part, Receipt, UploadId, VaultResult, payload::PayloadError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::{task::JoinError, time::sleep};

/// Completions in a row that conflict with something else before the upload is begun anew.
const CONFLICTS_MAX: u32 = 3;

/// As many times an upload is asked for again that the vault does not know, and lists.
const DENIED_MAX: u32 = 3;

/// The record of an upload in the ledger.
#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Stored {
    #[serde(rename = "1")]
    V1(Begun),
}

/// An upload that was begun. It goes on as it was begun, whatever the options say now.
#[derive(Clone, Serialize, Deserialize)]
struct Begun {
    upload: UploadId,
    spec: ObjectSpec,
    /// How often an upload of this object was there and then was not.
    #[serde(default)]
    vanished: u32,
    /// How often in a row it could not be completed because something else happened to the key.
    #[serde(default)]
    conflicts: u32,
    /// How often the vault did not know it, and listed it all the same.
    #[serde(default)]
    denied: u32,
}

enum Resumed {
    /// With the parts that the vault holds.
    UnderWay(Begun, Vec<Part>),
    There(Receipt),
}

pub(super) struct Delivery<'a> {
    uploader: &'a Uploader,
    parcel: &'a Parcel,
    key: &'a Key,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Delivery<'a> {
    pub(super) fn new(uploader: &'a Uploader, parcel: &'a Parcel, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        Delivery { uploader, parcel, key: &parcel.key, progress }
    }

    pub(super) async fn run(&self) -> Result<Receipt, UploadError> {
        let spec = &self.parcel.spec;
        if self.parcel.sums.len() != spec.size || self.parcel.sums.whole() != spec.crc64 {
            return Err(self.rotten("its checksums do not make that of the whole"));
        }
        if let Some(receipt) = self.held().await? {
            return self.done(receipt).await;
        }
        self.check_file().await?;
        let too_large = || UploadError::TooLarge { key: self.key.clone(), size: spec.size };
        let part_size = parts::part_size(spec.size, self.uploader.options.part_size).ok_or_else(too_large)?;
        let spec = ObjectSpec { part_size, ..spec.clone() };
        if spec.size <= part_size { self.put(&spec).await } else { self.in_parts(&spec).await }
    }

    async fn put(&self, spec: &ObjectSpec) -> Result<Receipt, UploadError> {
        let span = Span { number: 1, offset: 0, len: spec.size, crc64: spec.crc64 };
        let mut failures = 0;
        let receipt = loop {
            self.uploader.gate.opened().await;
            let payload = self.uploader.payload(&self.parcel.file, span);
            let answer = tokio::select! {
                answer = self.uploader.vault.put(self.key, spec, payload.clone()) => match taken(answer, &payload) {
                    Err(UploadError::Vault(err)) => Err(err),
                    answer => Ok(answer?),
                },
                () = self.uploader.gate.overdue() => continue,
            };
            let (refused, settled) = (cause(&answer), self.settle(answer).await);
            failures += 1;
            match self.uploader.options.retries.after_refusal(failures, refused.filter(|_| settled.is_err())) {
                Some(wait) => sleep(wait).await,
                None => break settled?,
            }
        };
        // One may have been begun when parts were smaller.
        self.done(receipt).await
    }

    /// All of it is there, and nothing that was begun for it is left.
    async fn done(&self, receipt: Receipt) -> Result<Receipt, UploadError> {
        self.clear().await?;
        (self.progress)(self.parcel.spec.size);
        Ok(receipt)
    }

    async fn in_parts(&self, spec: &ObjectSpec) -> Result<Receipt, UploadError> {
        let (begun, held) = match self.resume_or_begin(spec).await? {
            Resumed::UnderWay(begun, held) => (begun, held),
            Resumed::There(receipt) => return Ok(receipt),
        };
        let (mut parts, missing) = parts::sort(&self.parcel.sums, begun.spec.part_size, held);
        (self.progress)(parts.iter().map(|part| part.size).sum());
        let sending = Sending::new(self.uploader, self.key, &self.parcel.file, &begun.upload, missing);
        sending
            .run(|part| {
                (self.progress)(part.size);
                parts.push(part);
            })
            .await?;
        parts.sort_by_key(|part| part.number);
        let (completed, refused, settled) = self.complete(&begun, &parts).await;
        match settled {
            // After a yes there is nothing left to abort.
            Ok(receipt) if completed => self.forget().await.map(|()| receipt),
            Ok(receipt) => self.clear().await.map(|()| receipt),
            Err(err) => {
                match refused {
                    Some(Cause::Integrity) => self.give_up_unless_it_can_go_on(&begun).await?,
                    Some(Cause::Conflict) => self.give_up_after_conflicts(begun).await?,
                    _ => {}
                }
                Err(err)
            }
        }
    }

    /// Whether the vault said yes, or why not, and what it holds.
    async fn complete(&self, begun: &Begun, parts: &[Part]) -> (bool, Option<Cause>, Result<Receipt, UploadError>) {
        let mut failures = 0;
        loop {
            let answer = self.uploader.vault.complete(self.key, &begun.upload, &begun.spec, parts).await;
            let (completed, refused) = (answer.is_ok(), cause(&answer));
            let settled = self.settle(answer).await;
            failures += 1;
            match self.uploader.options.retries.after_refusal(failures, refused.filter(|_| settled.is_err())) {
                Some(wait) => sleep(wait).await,
                None => return (completed, refused, settled),
            }
        }
    }

    async fn ask<T, A: Future<Output = VaultResult<T>>>(&self, question: impl Fn() -> A) -> VaultResult<T> {
        self.uploader.options.retries.ask(question).await
    }

    /// Whatever the vault answered, what it holds now decides.
    async fn settle(&self, answer: VaultResult<()>) -> Result<Receipt, UploadError> {
        let key = || self.key.clone();
        match (self.ask(|| self.uploader.vault.head(self.key)).await, answer) {
            (Ok(Some(receipt)), _) if receipt.proves(&self.parcel.spec) => {
                Ok(self.uploader.look_at_class(&self.parcel.spec, receipt))
            }
            (Ok(Some(_)), Err(err)) if err.cause == Cause::Exists => Err(UploadError::Exists { key: key() }),
            (Ok(_), Ok(())) | (Ok(Some(_)), Err(_)) => Err(UploadError::Integrity { key: key() }),
            // What the vault said first says more than that it could not be asked again.
            (_, Err(err)) | (Err(err), Ok(())) => Err(err.into()),
        }
    }

    /// The vault refused to make the object of its parts. Where it has thrown away the bad ones, they are sent
    /// again; otherwise nothing would ever change, and only a new upload helps.
    async fn give_up_unless_it_can_go_on(&self, begun: &Begun) -> Result<(), UploadError> {
        let held = self.uploader.vault.parts(self.key, &begun.upload).await?;
        if parts::sort(&self.parcel.sums, begun.spec.part_size, held).1.is_empty() {
            self.abort(&begun.upload).await?;
            self.forget().await?;
        }
        Ok(())
    }

    /// A completion of ours whose answer was lost may still be under way, and then the next look finds the object. One
    /// that goes on conflicting can only be begun anew, as S3 says.
    async fn give_up_after_conflicts(&self, begun: Begun) -> Result<(), UploadError> {
        if begun.conflicts + 1 < CONFLICTS_MAX {
            let begun = Begun { conflicts: begun.conflicts + 1, ..begun };
            return Ok(self.save(begun).await?);
        }
        self.abort(&begun.upload).await?;
        self.forget().await
    }

    /// What the vault holds of the object, if it holds it; an error where it holds another.
    async fn held(&self) -> Result<Option<Receipt>, UploadError> {
        match self.ask(|| self.uploader.vault.head(self.key)).await? {
            Some(receipt) if !receipt.proves(&self.parcel.spec) => Err(UploadError::Exists { key: self.key.clone() }),
            held => Ok(held.map(|receipt| self.uploader.look_at_class(&self.parcel.spec, receipt))),
        }
    }

    /// The upload under way, with the parts that the vault holds; or the object, if its completion came through late.
    async fn resume_or_begin(&self, spec: &ObjectSpec) -> Result<Resumed, UploadError> {
        let vault = &self.uploader.vault;
        let (mut vanished, mut gone) = (0, None);
        if let Some(begun) = self.load().await? {
            let same = (begun.spec.size, begun.spec.crc64) == (spec.size, spec.crc64);
            if !same || !parts::is_layout(spec.size, begun.spec.part_size) {
                self.abort(&begun.upload).await?;
            } else {
                match self.ask(|| vault.parts(self.key, &begun.upload)).await {
                    Err(err) if err.cause == Cause::Gone => {
                        vanished = begun.vanished + 1;
                        gone = Some(begun.upload.clone());
                        // It is thrown away in a moment and sent again in weeks, so a vault that contradicts itself is asked again.
                        if begun.denied < DENIED_MAX && self.listed().await?.contains(&begun.upload) {
                            self.save(Begun { denied: begun.denied + 1, ..begun }).await?;
                            return Err(err.into());
                        }
                    }
                    held => return Ok(Resumed::UnderWay(begun, held?)),
                }
            }
        }
        if let Some((begun, held)) = self.found(spec, vanished, gone).await? {
            self.save(begun.clone()).await?;
            return Ok(Resumed::UnderWay(begun, held));
        }
        self.uploader.gate.opened().await;
        if vanished > 0
            && let Some(receipt) = self.held().await?
        {
            return Ok(Resumed::There(self.done(receipt).await?));
        }
        let upload = self.ask(|| vault.begin(self.key, spec)).await?;
        let begun = Begun { upload, spec: spec.clone(), vanished, conflicts: 0, denied: 0 };
        self.save(begun.clone()).await?;
        // Once is bad luck; whoever does it again has to be told, since it will never end.
        match vanished {
            0 | 1 => Ok(Resumed::UnderWay(begun, Vec::new())),
            _ => Err(UploadError::Vanishing { key: self.key.clone() }),
        }
    }

    /// Uploads of this object that were begun by us and are not known any more: a crash came before one was recorded, or
    /// the ledger was lost. The one of which the vault holds most goes on, the others go away.
    /// One that the vault said was `gone` is not tried again.
    async fn found(
        &self,
        spec: &ObjectSpec,
        vanished: u32,
        gone: Option<UploadId>,
    ) -> Result<Option<(Begun, Vec<Part>)>, UploadError> {
        let mut best: Option<(u64, UploadId, Vec<Part>)> = None;
        for id in self.listed().await? {
            let held = match self.ask(|| self.uploader.vault.parts(self.key, &id)).await {
                _ if gone.as_ref() == Some(&id) => Vec::new(),
                Err(err) if err.cause == Cause::Gone => Vec::new(),
                held => held?,
            };
            let good = parts::sort(&self.parcel.sums, spec.part_size, held.clone()).0;
            let bytes = good.iter().map(|part| part.size).sum();
            let before = best.as_ref().map_or(0, |(bytes, ..)| *bytes);
            match bytes > before {
                true => {
                    if let Some((_, worse, _)) = best.replace((bytes, id, held)) {
                        self.abort(&worse).await?;
                    }
                }
                false => self.abort(&id).await?,
            }
        }
        let begun = |upload| Begun { upload, spec: spec.clone(), vanished, conflicts: 0, denied: 0 };
        Ok(best.map(|(_, id, held)| (begun(id), held)))
    }

    /// Uploads of this object that the vault lists; none where we may not ask.
    async fn listed(&self) -> VaultResult<Vec<UploadId>> {
        let listed = self.ask(|| self.uploader.vault.uploads(self.key.as_str())).await;
        if cause(&listed) == Some(Cause::Permission) {
            return Ok(Vec::new());
        }
        Ok(listed?.into_iter().filter(|(key, _)| key == self.key).map(|(_, id)| id).collect())
    }

    /// That the file is as long as it should be, before anything is begun for it.
    async fn check_file(&self) -> Result<(), UploadError> {
        let path = self.parcel.file.clone();
        let len = blocking(move || match std::fs::metadata(&path) {
            Ok(meta) => Ok(meta.len()),
            Err(source) => Err(UploadError::Payload(PayloadError::Read { path, source: Arc::new(source) })),
        })
        .await?;
        match len == self.parcel.spec.size {
            true => Ok(()),
            false => Err(self.rotten(&format!("it has {len} bytes, and should have {}", self.parcel.spec.size))),
        }
    }

    fn rotten(&self, why: &str) -> UploadError {
        UploadError::Rotten { path: self.parcel.file.clone(), why: why.to_owned() }
    }

    /// The object is there: what is left of its upload goes, and is forgotten only then.
    async fn clear(&self) -> Result<(), UploadError> {
        if let Some(begun) = self.load().await? {
            self.abort(&begun.upload).await?;
        }
        self.forget().await
    }

    /// Where we may not abort, a rule of the vault's owner has to, and deliveries go on.
    async fn abort(&self, id: &UploadId) -> Result<(), UploadError> {
        let answer = self.uploader.vault.abort(self.key, id).await;
        if cause(&answer) == Some(Cause::Permission) { Ok(()) } else { Ok(answer?) }
    }

    /// A record that cannot be read is that of a lost ledger: parts are sent again, and nothing else depends on it.
    async fn load(&self) -> Result<Option<Begun>, UploadError> {
        let (ledger, key) = (self.uploader.ledger.clone(), self.key.clone());
        let text = blocking(move || ledger.load(&key)).await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).map(|Stored::V1(begun)| begun))
    }

    async fn save(&self, begun: Begun) -> Result<(), LedgerError> {
        let (ledger, key) = (self.uploader.ledger.clone(), self.key.clone());
        let text = serde_json::to_string(&Stored::V1(begun)).expect("a record is plain data");
        blocking(move || ledger.save(&key, &text)).await
    }

    async fn forget(&self) -> Result<(), UploadError> {
        let (ledger, key) = (self.uploader.ledger.clone(), self.key.clone());
        Ok(blocking(move || ledger.forget(&key)).await?)
    }
}

/// Reads of staging and records of the catalog block, and must not on the threads that serve everything.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(bug)
}

/// Nobody aborts these tasks while they are waited for, so they panicked.
fn bug<T>(join: JoinError) -> T {
    std::panic::resume_unwind(join.into_panic())
}
