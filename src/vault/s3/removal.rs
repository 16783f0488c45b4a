//! Many objects are removed at once, with every version that the bucket keeps of them.
//!
//! In a bucket with versions a deletion without the id of one only hides the object: it is not found any more, and is
//! stored and billed as before. So versions are asked for first, and named; what a retention still holds is refused
//! then, and stays as it is. The answers are not asked for in quiet: only the long ones say that something was hidden,
//! and that nothing was passed over.

use super::{
    Lacks, S3Vault,
    failure::{Call, Failure},
};
use crate::{
    fate::Chain,
    vault::{Cause, Key, VaultError, VaultResult},
};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

/// Most that S3 removes with one request.
const BATCH: usize = 1_000;
/// What stands for the version of an object that was stored while the bucket kept none.
const NO_VERSION: &str = "null";

/// A name in the bucket, and the version of it that is to go.
type Target = (String, Option<String>);

/// What was wrong with a name, if anything was.
type Wrong = BTreeMap<String, (Cause, String)>;

impl S3Vault {
    pub(super) async fn delete_objects(&self, keys: &[Key]) -> Vec<VaultResult<()>> {
        let mut wrong: BTreeMap<&Key, (Cause, String)> = BTreeMap::new();
        // Neighbors are listed together.
        let sorted: Vec<&Key> = keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
        for batch in sorted.chunks(BATCH) {
            let names: BTreeMap<String, &Key> = batch.iter().map(|key| (self.place.name(key.as_str()), *key)).collect();
            let told = match self.delete_batch(&names.keys().cloned().collect()).await {
                Ok(told) => told,
                Err(failure) => {
                    let (cause, what) = (failure.cause(), Chain(&failure).to_string());
                    names.keys().map(|name| (name.clone(), (cause, what.clone()))).collect()
                }
            };
            wrong.extend(told.into_iter().filter_map(|(name, what)| Some((*names.get(&name)?, what))));
        }
        let answer = |key: &Key| match wrong.get(key) {
            Some((cause, what)) => Err(VaultError::new(Call::DELETE.attempt, key, *cause, what.clone())),
            None => Ok(()),
        };
        keys.iter().map(answer).collect()
    }

    /// As many as one request takes.
    async fn delete_batch(&self, names: &BTreeSet<String>) -> Result<Wrong, Failure> {
        // Where versions may not be listed, or a server knows none, the answers tell whether there are any.
        let mut versions = self.versions(names).await;
        let keeps_versions = |found: &[Target]| found.iter().any(|(_, id)| id.as_deref() != Some(NO_VERSION));
        let mut wrong = Wrong::new();
        if !versions.as_ref().is_ok_and(|found| keeps_versions(found)) {
            let plain: Vec<Target> = names.iter().map(|name| (name.clone(), None)).collect();
            let done = self.delete_targets(Call::DELETE_MANY, &plain).await?;
            if done.hidden.is_empty() {
                return Ok(done.wrong);
            }
            wrong = done.wrong;
            versions = self.versions(&done.hidden).await;
        }
        let found = versions?;
        for batch in found.chunks(BATCH) {
            wrong.extend(self.delete_targets(Call::DELETE_VERSIONS, batch).await?.wrong);
        }
        Ok(wrong)
    }

    /// Every version of these names, marks of deletion too.
    async fn versions(&self, names: &BTreeSet<String>) -> Result<Vec<Target>, Failure> {
        let (Some(first), Some(last)) = (names.first(), names.last()) else { return Ok(Vec::new()) };
        let shared = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        // What comes before `first` in the order of names; nobody else is listed in vain.
        let mut after = Some(first[..first.len() - 1].to_owned());
        let mut after_version: Option<String> = None;
        let mut found = Vec::new();
        loop {
            let page = async || {
                let request = self
                    .client
                    .list_object_versions()
                    .bucket(&self.place.bucket)
                    .prefix(&first[..shared])
                    .set_key_marker(after.clone())
                    .set_version_id_marker(after_version.clone());
                self.answer(Call::VERSIONS, self.patience.silence, request.send()).await
            };
            let answer = self.page_of(found.is_empty(), page).await?;
            let objects = answer.versions().iter().map(|version| (version.key(), version.version_id()));
            let marks = answer.delete_markers().iter().map(|mark| (mark.key(), mark.version_id()));
            for (name, id) in objects.chain(marks) {
                if let Some(name) = name.filter(|name| names.contains(*name)) {
                    found.push((name.to_owned(), Some(id.unwrap_or(NO_VERSION).to_owned())));
                }
            }
            let next = answer.next_key_marker().filter(|_| answer.is_truncated() == Some(true));
            match next {
                Some(next) if next <= last.as_str() => {
                    after = Some(next.to_owned());
                    after_version = answer.next_version_id_marker().map(str::to_owned);
                }
                _ => return Ok(found),
            }
        }
    }

    /// At most [`BATCH`] of them, with one request, or where a server does not know that, with one for each.
    async fn delete_targets(&self, call: Call, targets: &[Target]) -> Result<Done, Failure> {
        if !self.lacks.deleting_many.load(Ordering::Relaxed) {
            match self.delete_at_once(call, targets).await {
                Err(failure) if self.place.is_foreign && failure.is_unknown_call() => {
                    Lacks::tell(&self.lacks.deleting_many, || {
                        tracing::warn!("The server cannot delete many objects at once; each is a request of its own");
                    });
                }
                done => return done,
            }
        }
        let mut done = Done::default();
        for (name, version) in targets {
            let request =
                self.client.delete_object().bucket(&self.place.bucket).key(name).set_version_id(version.clone());
            match self.answer(call, self.patience.silence, request.send()).await {
                Ok(answer) if version.is_none() && answer.delete_marker() == Some(true) => {
                    done.hidden.insert(name.clone());
                }
                Ok(_) => {}
                Err(failure) if failure.cause() == Cause::Gone => {}
                Err(failure) => {
                    done.wrong.insert(name.clone(), (failure.cause(), Chain(&failure).to_string()));
                }
            }
        }
        Ok(done)
    }

    async fn delete_at_once(&self, call: Call, targets: &[Target]) -> Result<Done, Failure> {
        let unfit = |err: aws_sdk_s3::error::BuildError| Failure::Mismatch(err.to_string());
        let object = |(name, version): &Target| {
            ObjectIdentifier::builder().key(name).set_version_id(version.clone()).build().map_err(unfit)
        };
        let objects = targets.iter().map(object).collect::<Result<Vec<_>, _>>()?;
        let delete = Delete::builder().set_objects(Some(objects)).build().map_err(unfit)?;
        let request = self.client.delete_objects().bucket(&self.place.bucket).delete(delete);
        let answer = self.answer(call, self.patience.silence, request.send()).await?;
        let mut done = Done::default();
        for error in answer.errors() {
            let (Some(name), code) = (error.key(), error.code().unwrap_or_default()) else { continue };
            let told = Failure::of_one(call, &self.place, code, error.message().unwrap_or_default());
            if told.cause() != Cause::Gone {
                done.wrong.insert(name.to_owned(), (told.cause(), told.to_string()));
            }
        }
        let mut answered: BTreeSet<&str> = done.wrong.keys().map(String::as_str).collect();
        answered.extend(answer.errors().iter().filter_map(|error| error.key()));
        for deleted in answer.deleted() {
            answered.extend(deleted.key());
            if deleted.delete_marker() == Some(true) && deleted.version_id().is_none() {
                done.hidden.extend(deleted.key().map(str::to_owned));
            }
        }
        let passed_over: Vec<String> =
            targets.iter().map(|(name, _)| name).filter(|name| !answered.contains(name.as_str())).cloned().collect();
        for name in passed_over {
            done.wrong.insert(name, (Cause::Other, format!("{}: the server's answer does not mention it", call.name)));
        }
        Ok(done)
    }
}

#[derive(Default)]
struct Done {
    wrong: Wrong,
    /// Still stored, below a mark that it was deleted.
    hidden: BTreeSet<String>,
}
