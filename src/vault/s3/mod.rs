//! A vault in S3, or on a server that speaks as S3 does: the only door to the SDK.
//!
//! - Every object and every part goes out with the CRC64NVME that was recorded when it was made, so the server refuses
//!   what is not that; and what is refused here is found here ([`crate::vault::payload`]).
//! - Nothing is overwritten: `If-None-Match: *` guards every object where it becomes one.
//! - Nothing is retried here but the further pages of a listing. Every failure has its [`Cause`], and whoever calls
//!   knows what it means for the whole.
//! - An attempt may take as long as its bytes take at the slowest rate that is worth waiting for, and no longer.
//!
//! Servers differ. What one lacks (checksums, storage classes, conditions) is told once in the log, and the rest goes
//! on.

mod body;
mod client;
mod credentials;
mod failure;
mod objects;
mod probe;
mod removal;
mod roots;
mod uploads;

#[cfg(test)]
mod tests;

use super::{
    Cause, Key, Listed, ObjectSpec, Part, Receipt, Thaw, Tier, UploadId, Vault, VaultResult, payload::Payload,
};
use crate::fate::Waits;
use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    types::StorageClass,
};
use body::LineRate;
pub use credentials::Identity;
use credentials::Reloading;
use failure::{Call, Failure};
pub use objects::is_frozen;
pub use probe::Plan;
use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// For a further page of a listing.
const PAGE_TRIES: u32 = 10;
const PAGE_WAITS: Waits = Waits { first: Duration::from_millis(250), longest: Duration::from_secs(8) };

/// How long to wait for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection: name, TCP and TLS.
    pub connect: Duration,
    /// For an answer, or for the line to take the next bytes.
    pub silence: Duration,
    /// Bytes per second of one part, below which waiting is not worth it.
    pub slowest: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { connect: Duration::from_secs(10), silence: Duration::from_secs(60), slowest: 1_000 }
    }
}

impl Patience {
    /// How long so many bytes may take.
    fn at_slowest(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.slowest.max(1) as f64)
    }

    /// S3 takes minutes to make a large object of its parts.
    fn completion(&self) -> Duration {
        self.silence * 10
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// `None`: as the environment says, or any where `endpoint_url` is given.
    pub region: Option<String>,
    pub endpoint_url: Option<String>,
    pub path_style: bool,
    pub identity: Identity,
    pub patience: Patience,
}

/// See the module. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct S3Vault {
    client: Client,
    credentials: Reloading,
    place: Arc<Place>,
    patience: Patience,
    lacks: Arc<Lacks>,
    line: LineRate,
}

/// The part of a bucket that is ours.
#[derive(Debug)]
struct Place {
    bucket: String,
    prefix: String,
    /// Not Amazon's own.
    is_foreign: bool,
}

impl Place {
    /// The name in the bucket of a key, or of the beginning of keys.
    fn name(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    /// The key of a name in the bucket; `None` of what is not ours.
    fn key(&self, name: &str) -> Option<Key> {
        let name = match self.prefix.as_str() {
            "" => name,
            prefix => name.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        name.parse().ok()
    }

    fn arn(&self, of_bucket: bool) -> String {
        let objects = if of_bucket { String::new() } else { format!("/{}", self.name("*")) };
        format!("arn:aws:s3:::{}{objects}", self.bucket)
    }
}

/// What the server was seen not to have.
#[derive(Debug, Default)]
struct Lacks {
    checksums: AtomicBool,
    classes: AtomicBool,
    conditions: AtomicBool,
    /// A call that deletes many objects.
    deleting_many: AtomicBool,
}

impl Lacks {
    /// Tells it the first time.
    fn tell(what: &AtomicBool, tell: impl FnOnce()) {
        if !what.swap(true, Ordering::Relaxed) {
            tell();
        }
    }
}

impl S3Vault {
    /// Nothing is asked of the server yet.
    pub async fn open(options: Options) -> S3Vault {
        let (client, credentials) = client::client(&options).await;
        let place =
            Place { bucket: options.bucket, prefix: options.prefix, is_foreign: options.endpoint_url.is_some() };
        S3Vault {
            client,
            credentials,
            place: Arc::new(place),
            patience: options.patience,
            lacks: Arc::default(),
            line: LineRate::default(),
        }
    }

    /// The next request asks for the credentials anew; uploads under way go on with them.
    pub fn reload_credentials(&self) {
        self.credentials.forget();
    }

    /// Waits for the answer of a call, as long as is worth it. A call of the SDK is large, so it is boxed.
    fn answer<T, E>(
        &self,
        call: Call,
        at_most: Duration,
        sent: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Pin<Box<impl Future<Output = Result<T, Failure>>>>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        Box::pin(async move {
            match tokio::time::timeout(at_most, sent).await {
                Ok(answer) => answer.map_err(|err| self.failure(call, err)),
                Err(_) => Err(Failure::Stalled { call: call.name, what: "the server does not answer" }),
            }
        })
    }

    /// As [`answer`](Self::answer), of a call that sends something.
    fn answer_to<T, E>(
        &self,
        call: Call,
        flow: body::Flow,
        sent: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Pin<Box<impl Future<Output = Result<T, Failure>>>>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        Box::pin(async move {
            tokio::select! {
                answer = sent => match answer {
                    Ok(answer) => {
                        flow.answered();
                        Ok(answer)
                    }
                    Err(err) => Err(self.failure(call, err)),
                },
                what = flow.stalled(&self.patience) => Err(Failure::Stalled { call: call.name, what }),
            }
        })
    }

    fn failure<E>(&self, call: Call, err: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let failure = Failure::new(call, &self.place, err);
        if failure.cause() == Cause::Credentials {
            self.credentials.forget();
        }
        failure
    }

    /// Calls with all that is wanted of the server, and where it does not know some of that, with less. What it does
    /// without is told once, and never asked for again.
    async fn conceding<T, A>(&self, mut all: Wanted, call: impl Fn(Wanted) -> A) -> Result<T, Failure>
    where
        A: Future<Output = Result<T, Failure>>,
    {
        let lacks = |what: &AtomicBool| self.place.is_foreign && what.load(Ordering::Relaxed);
        all.class = all.class.filter(|_| !lacks(&self.lacks.classes));
        all.condition &= !lacks(&self.lacks.conditions);
        let failure = match call(all.clone()).await {
            Err(failure) if self.place.is_foreign && failure.is_of_the_unknown() => failure,
            done => return done,
        };
        for (no_class, no_condition) in [(true, false), (false, true), (true, true)] {
            if no_class && all.class.is_none() || no_condition && !all.condition {
                continue;
            }
            let class = all.class.clone().filter(|_| !no_class);
            let wanted = Wanted { class, condition: all.condition && !no_condition };
            match call(wanted).await {
                Err(failure) if failure.is_of_the_unknown() => {}
                Err(failure) => return Err(failure),
                Ok(done) => {
                    self.tell_lacks(all.class.filter(|_| no_class), no_condition);
                    return Ok(done);
                }
            }
        }
        Err(failure)
    }

    fn tell_lacks(&self, class: Option<StorageClass>, condition: bool) {
        if let Some(class) = class {
            Lacks::tell(&self.lacks.classes, || {
                tracing::warn!(class = class.as_str(), "The server has no such storage class; it keeps all in its own");
            });
        }
        if condition {
            Lacks::tell(&self.lacks.conditions, || {
                tracing::warn!("The server knows no If-None-Match: whether a key is free is only looked at before");
            });
        }
    }

    /// A further page of a listing that is refused for now is asked for again: of many pages, one is always refused by
    /// a server that refuses some of what it is asked, and whoever began anew for it would never come to the end.
    async fn page_of<T, A>(&self, is_first: bool, ask: impl Fn() -> A) -> Result<T, Failure>
    where
        A: Future<Output = Result<T, Failure>>,
    {
        for failures in 1..PAGE_TRIES {
            match ask().await {
                Err(failure) if !is_first && matches!(failure.cause(), Cause::Throttle | Cause::Other) => {
                    tokio::time::sleep(PAGE_WAITS.after(failures, u32::MAX)).await;
                }
                page => return page,
            }
        }
        ask().await
    }
}

/// What a call asks of the server that not every server knows.
#[derive(Clone, Debug)]
struct Wanted {
    class: Option<StorageClass>,
    /// That nothing is replaced.
    condition: bool,
}

impl Wanted {
    /// No class is asked for where it is the usual one, which every server has.
    fn new(class: &str, condition: bool) -> Wanted {
        Wanted { class: (class != objects::STANDARD).then(|| class.into()), condition }
    }

    fn if_none_match(&self) -> Option<String> {
        self.condition.then(|| "*".to_owned())
    }
}

#[async_trait]
impl Vault for S3Vault {
    async fn put(&self, key: &Key, spec: &ObjectSpec, payload: Payload) -> VaultResult<()> {
        let put = self.put_object(key, spec, payload).await;
        put.map_err(|failure| failure.of(Call::PUT.attempt, key))
    }

    async fn begin(&self, key: &Key, spec: &ObjectSpec) -> VaultResult<UploadId> {
        self.create(key, spec).await.map_err(|failure| failure.of(Call::CREATE.attempt, key))
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, number: u32, payload: Payload) -> VaultResult<Part> {
        let part = self.upload_part(key, upload, number, payload).await;
        part.map_err(|failure| failure.of(Call::PART.attempt, key))
    }

    async fn parts(&self, key: &Key, upload: &UploadId) -> VaultResult<Vec<Part>> {
        self.list_parts(key, upload).await.map_err(|failure| failure.of(Call::PARTS.attempt, key))
    }

    async fn complete(&self, key: &Key, upload: &UploadId, spec: &ObjectSpec, parts: &[Part]) -> VaultResult<()> {
        let completed = self.complete_upload(key, upload, spec, parts).await;
        completed.map_err(|failure| failure.of(Call::COMPLETE.attempt, key))
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> VaultResult<()> {
        match self.abort_upload(key, upload).await {
            Err(failure) if failure.cause() == Cause::Gone => Ok(()),
            aborted => aborted.map_err(|failure| failure.of(Call::ABORT.attempt, key)),
        }
    }

    async fn uploads(&self, prefix: &str) -> VaultResult<Vec<(Key, UploadId)>> {
        self.list_uploads(prefix).await.map_err(|failure| failure.of(Call::UPLOADS.attempt, prefix))
    }

    async fn head(&self, key: &Key) -> VaultResult<Option<Receipt>> {
        match self.head_object(key).await {
            Err(failure) if failure.cause() == Cause::Gone => Ok(None),
            found => found.map(Some).map_err(|failure| failure.of(Call::HEAD.attempt, key)),
        }
    }

    async fn get_range(&self, key: &Key, offset: u64, len: u64) -> VaultResult<Vec<u8>> {
        self.get(key, offset, len).await.map_err(|failure| failure.of(Call::GET.attempt, key))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> VaultResult<Vec<Listed>> {
        self.list_objects(prefix, after, limit).await.map_err(|failure| failure.of(Call::LIST.attempt, prefix))
    }

    async fn delete(&self, key: &Key) -> VaultResult<()> {
        match self.delete_object(key).await {
            Err(failure) if failure.cause() == Cause::Gone => Ok(()),
            deleted => deleted.map_err(|failure| failure.of(Call::DELETE.attempt, key)),
        }
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<VaultResult<()>> {
        self.delete_objects(keys).await
    }

    async fn thaw(&self, key: &Key, days: u32, tier: Tier) -> VaultResult<Thaw> {
        self.restore_object(key, days, tier, &[Thaw::Frozen])
            .await
            .map_err(|failure| failure.of(Call::THAW.attempt, key))
    }

    async fn hurry(&self, key: &Key, days: u32, tier: Tier) -> VaultResult<Thaw> {
        self.restore_object(key, days, tier, &[Thaw::Frozen, Thaw::Ongoing])
            .await
            .map_err(|failure| failure.of(Call::THAW.attempt, key))
    }
}
