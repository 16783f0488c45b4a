//! A vault in a directory: on a USB disk, on a NAS, or for a rehearsal.
//!
//! An object is a plain file at its key, readable without anything of ours. What is ours is below `.archiver/`:
//!
//! ```text
//! <root>/<key>                             an object
//! <root>/.archiver/vault.json              marks the root; without it the disk is taken for not mounted
//! <root>/.archiver/lock                    held while objects come and go
//! <root>/.archiver/objects/<key>           what is known of an object: checksum, class, metadata
//! <root>/.archiver/uploads/<id>/           spec.json, data, parts/000001.json, lock
//! ```
//!
//! Invariants:
//!
//! - The root and `.archiver` are only made by [`DirectoryVault::open`]. Everything is first written below
//!   `.archiver` and then renamed, so no byte ever lands on the bare mount point of a disk that is away.
//! - An object is published once, complete, and only after its bytes were read back from the disk.
//! - A record that does not fit its object is not believed: the checksum is then computed of the object.
//! - Whatever a crash leaves is either whole or not listed, and the next [`DirectoryVault::open_existing`] or the
//!   next attempt sweeps it up.
//!
//! Not everything that S3 can do: a key cannot also be the directory of another (`a` and `a/b`), and a component
//! of a key has at most 255 bytes.

mod failure;
mod list;
mod object;
mod place;
mod probe;
mod upload;

#[cfg(test)]
mod tests;

use super::{
    Cause, Key, Listed, ObjectSpec, Part, Receipt, Thaw, Tier, UploadId, Vault, VaultError, VaultResult,
    payload::Payload,
};
use async_trait::async_trait;
use failure::Failure;
use place::Place;
use std::{
    fmt::Display,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// See the module. Cloning is cheap, and several instances may work on one directory.
#[derive(Clone, Debug)]
pub struct DirectoryVault {
    place: Arc<Place>,
}

impl DirectoryVault {
    /// Opens the vault for the first time, and makes it where it is absent; the directory above must exist.
    /// Blocks.
    pub fn open(path: &Path) -> VaultResult<DirectoryVault> {
        Self::at(path, Place::make)
    }

    /// Whether a vault was ever opened there. Blocks.
    pub fn is_there(path: &Path) -> bool {
        Place::find(path).is_ok()
    }

    /// Opens a vault that was opened before. One that is not there is not reached: its disk is not mounted, and a
    /// new vault on the bare mount point would fill another disk. Blocks.
    pub fn open_existing(path: &Path) -> VaultResult<DirectoryVault> {
        Self::at(path, Place::find)
    }

    fn at(path: &Path, how: impl FnOnce(&Path) -> Result<Place, Failure>) -> VaultResult<DirectoryVault> {
        let place = how(path).map_err(|failure| failure.of("open", path.display()))?;
        Ok(DirectoryVault { place: Arc::new(place) })
    }

    /// Works on a thread that may block. A disk that went away meanwhile is the reason for whatever was found, or
    /// not found, so the mark is looked at before and after.
    async fn run<T: Send + 'static>(
        &self,
        attempt: &'static str,
        key: impl Display,
        work: impl FnOnce(&Place, &GivenUp) -> Result<T, Failure> + Send + 'static,
    ) -> VaultResult<T> {
        let place = self.place.clone();
        let waiter = Waiter::default();
        let given_up = GivenUp(waiter.0.clone());
        let done = tokio::task::spawn_blocking(move || {
            place.check()?;
            let done = work(&place, &given_up);
            place.check()?;
            done
        });
        match done.await {
            Ok(done) => done.map_err(|failure| failure.of(attempt, key)),
            Err(join) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(join) => Err(VaultError::new(attempt, key, Cause::Other, join)),
            },
        }
    }
}

/// Whether nobody waits for the answer any more. Reading a large object back takes hours, and a thread cannot be
/// dropped as a future can.
struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::GivenUp) } else { Ok(()) }
    }
}

#[derive(Default)]
struct Waiter(Arc<AtomicBool>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Vault for DirectoryVault {
    async fn put(&self, key: &Key, spec: &ObjectSpec, payload: Payload) -> VaultResult<()> {
        let bytes = payload.bytes().await.map_err(|err| VaultError::new("put", key, Cause::Integrity, err))?;
        let (of, spec) = (key.clone(), spec.clone());
        self.run("put", key, move |place, given_up| object::put(place, &of, &spec, &bytes, given_up)).await
    }

    async fn begin(&self, key: &Key, spec: &ObjectSpec) -> VaultResult<UploadId> {
        let (of, spec) = (key.clone(), spec.clone());
        self.run("begin an upload of", key, move |place, _| upload::begin(place, &of, &spec)).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, number: u32, payload: Payload) -> VaultResult<Part> {
        const ATTEMPT: &str = "store a part of";
        let (of, id, len, crc) = (key.clone(), upload.clone(), payload.len(), payload.crc64());
        let mut draft =
            self.run(ATTEMPT, key, move |place, _| upload::open_part(place, &of, &id, number, len, crc)).await?;
        let mut reader = payload.reader();
        while let Some(chunk) =
            reader.next().await.map_err(|err| VaultError::new(ATTEMPT, key, Cause::Integrity, err))?
        {
            draft = self.run(ATTEMPT, key, move |place, _| draft.write(place, &chunk)).await?;
        }
        self.run(ATTEMPT, key, move |place, _| draft.finish(place)).await
    }

    async fn parts(&self, key: &Key, upload: &UploadId) -> VaultResult<Vec<Part>> {
        let (of, id) = (key.clone(), upload.clone());
        self.run("list the parts of", key, move |place, _| upload::parts(place, &of, &id)).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, spec: &ObjectSpec, parts: &[Part]) -> VaultResult<()> {
        let (of, id, spec, parts) = (key.clone(), upload.clone(), spec.clone(), parts.to_vec());
        self.run("complete", key, move |place, given_up| upload::complete(place, &of, &id, &spec, &parts, given_up))
            .await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> VaultResult<()> {
        let (of, id) = (key.clone(), upload.clone());
        self.run("abort an upload of", key, move |place, _| upload::abort(place, &of, &id)).await
    }

    async fn uploads(&self, prefix: &str) -> VaultResult<Vec<(Key, UploadId)>> {
        let below = prefix.to_owned();
        self.run("list the uploads below", prefix, move |place, _| upload::uploads(place, &below)).await
    }

    async fn head(&self, key: &Key) -> VaultResult<Option<Receipt>> {
        let of = key.clone();
        self.run("look at", key, move |place, given_up| object::head(place, &of, given_up)).await
    }

    async fn get_range(&self, key: &Key, offset: u64, len: u64) -> VaultResult<Vec<u8>> {
        let of = key.clone();
        self.run("read", key, move |place, _| object::get_range(place, &of, offset, len)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> VaultResult<Vec<Listed>> {
        let (below, after) = (prefix.to_owned(), after.cloned());
        self.run("list what is below", prefix, move |place, _| list::list(place, &below, after.as_ref(), limit)).await
    }

    async fn delete(&self, key: &Key) -> VaultResult<()> {
        let of = key.clone();
        self.run("delete", key, move |place, _| object::delete(place, &of)).await
    }

    async fn thaw(&self, key: &Key, _days: u32, _tier: Tier) -> VaultResult<Thaw> {
        let of = key.clone();
        self.run("thaw", key, move |place, _| object::open(place, &of)?.map(|_| Thaw::Ready).ok_or(Failure::Gone)).await
    }
}
