//! Tries everything that a vault in S3 takes, for real, on objects of its own: what is allowed, what the server keeps
//! its word about, and how the bucket is set. For `archiver doctor`.
//!
//! Probes are some 50 bytes each and stay, since a backup host may not delete. They are below
//! `<host>/_doctor/<nonce>/`, which no source can be named. One that is wanted in the class of pieces is billed like
//! an object of 40 KB, in Deep Archive for 180 days: a thousandth of a cent.

mod hints;
mod lifecycle;
mod objects;
mod settings;
mod uploads;

use super::{
    S3Vault,
    failure::{Call, Failure},
};
use crate::{
    fate::Chain,
    finding::{Findings, State},
    vault::{Cause, Key, KeyError, ObjectSpec, checksum::crc64, payload::Payload},
};
use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef},
    error::BoxError,
};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What all of it may take. A line on which it takes longer is no line for a backup.
const LONGEST: Duration = Duration::from_secs(100);
/// How far the clocks may be apart before it is told, and before S3 refuses what we sign.
const SKEW_WARNING_SECONDS: u64 = 60;
const SKEW_PROBLEM_SECONDS: u64 = 15 * 60;

const BYTES: &[u8] = b"A probe of archiver doctor. Nobody needs it.\n";

/// What is tried, and what it is held against.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first component of the keys of this host, where one is known.
    pub host: Option<String>,
    /// No other probe has it.
    pub nonce: String,
    /// Of pieces.
    pub storage_class: String,
    /// The records of uploads under way that are known here, by key. Each names its upload.
    pub known: BTreeMap<String, String>,
    /// Uploads must be left alone for so many days …
    pub abort_days_least: u32,
    /// … and better for so many.
    pub abort_days: u32,
}

/// Everything to come would fail in the same way.
struct Ended;

struct Probe<'a, 'b> {
    vault: &'a S3Vault,
    plan: &'a Plan,
    out: &'a mut Findings<'b>,
}

impl S3Vault {
    /// Tells what it finds, as it finds it; ends within two minutes.
    pub async fn probe(&self, plan: &Plan, out: &mut Findings<'_>) {
        let took_too_long = {
            let mut probe = Probe { vault: self, plan, out };
            tokio::time::timeout(LONGEST, probe.all()).await.is_err()
        };
        if took_too_long {
            let what = format!("the calls took more than {} s together; the rest was not tried", LONGEST.as_secs());
            out.problem("vault", what, hints::NETWORK);
        }
    }
}

impl Probe<'_, '_> {
    /// Ends early where nothing more can be found out; why, was told.
    async fn all(&mut self) {
        let _: Result<(), Ended> = async {
            self.reach().await?;
            self.small_objects().await?;
            self.large_object().await?;
            self.aborted_upload().await?;
            self.deletion().await?;
            self.settings().await
        }
        .await;
    }

    /// The first call shows whether there is a way at all: name, TLS, keys, bucket, region, clock.
    async fn reach(&mut self) -> Result<(), Ended> {
        let heard = Heard::default();
        let request = self
            .vault
            .client
            .list_objects_v2()
            .bucket(&self.vault.place.bucket)
            .prefix(self.vault.place.name(""))
            .max_keys(1)
            .customize()
            .interceptor(heard.clone());
        let answer = self.vault.answer(Call::LIST, self.vault.patience.silence, request.send()).await;
        let skew = heard.get();
        let (check, is_reached) = match answer.as_ref().map_err(Failure::cause) {
            // Who is told no has been heard.
            Ok(_) | Err(Cause::Permission) => ("list", true),
            Err(Cause::Clock) => ("clock", false),
            Err(_) => ("vault", false),
        };
        if is_reached {
            let region = self.vault.client.config().region().map_or("?", |region| region.as_ref());
            self.out.ok("vault", format!("the bucket {:?} answers, in {region}", self.vault.place.bucket));
        }
        if is_reached || check == "vault" && skew.is_some() {
            self.clock(skew);
        }
        if self.told(check, Call::LIST, answer)?.is_some() {
            self.out.ok("list", "objects are listed");
        }
        if is_reached { Ok(()) } else { Err(Ended) }
    }

    /// Seconds by which our clock is ahead.
    fn clock(&mut self, skew: Option<i64>) {
        let Some(skew) = skew else {
            return self.out.warning("clock", "the server tells no time", "");
        };
        let by = skew.unsigned_abs();
        let what = match skew {
            0 => "shows the server's time".to_owned(),
            1.. => format!("is {by} s ahead of the server's"),
            _ => format!("is {by} s behind the server's"),
        };
        match by {
            _ if by <= SKEW_WARNING_SECONDS => self.out.ok("clock", what),
            _ if by <= SKEW_PROBLEM_SECONDS => self.out.warning("clock", what, hints::CLOCK),
            _ => self.out.problem("clock", what, hints::CLOCK),
        }
    }

    /// What came of a call; `None` after telling why nothing did.
    fn told<T>(&mut self, check: &'static str, call: Call, answer: Result<T, Failure>) -> Result<Option<T>, Ended> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) => {
                self.refused(check, call, &failure);
                match failure.cause() {
                    Cause::Network | Cause::Credentials | Cause::Clock | Cause::Setup | Cause::Throttle => Err(Ended),
                    _ => Ok(None),
                }
            }
        }
    }

    fn refused(&mut self, check: &'static str, call: Call, failure: &Failure) {
        let is_forbidden = failure.cause() == Cause::Permission;
        let permission = is_forbidden.then(|| hints::permission(call, &failure.to_string()));
        self.out.tell(check, State::Problem, Chain(failure).to_string(), hints::after(failure.cause()), permission);
    }

    /// The key of a probe.
    fn key(&self, name: &str) -> Result<Key, Ended> {
        let own = self.plan.host.as_ref().map(|host| format!("{host}/")).unwrap_or_default();
        let key: Result<Key, KeyError> = format!("{own}_doctor/{}/{name}", self.plan.nonce).parse();
        key.map_err(|_| Ended)
    }
}

fn spec(storage_class: &str) -> ObjectSpec {
    ObjectSpec {
        size: BYTES.len() as u64,
        crc64: crc64(BYTES),
        part_size: BYTES.len() as u64,
        storage_class: storage_class.to_owned(),
        metadata: BTreeMap::new(),
    }
}

fn payload() -> Payload {
    Payload::of_bytes(BYTES, crc64(BYTES))
}

/// Listens for the time that the server tells with its answer: by how many seconds ours is ahead.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Option<i64>>>);

impl Heard {
    fn get(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Heard {
    fn name(&self) -> &'static str {
        "Heard"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let ahead = date.map(|date| Timestamp::now().as_second() - date.timestamp().as_second());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ahead;
        Ok(())
    }
}
