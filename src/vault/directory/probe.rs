//! Tries everything that a vault in a directory takes, for real, and leaves nothing. For `archiver doctor`.

use super::DirectoryVault;
use crate::{
    durable,
    fate::Chain,
    finding::{Findings, State},
    units::ByteSize,
    vault::{Cause, Key, ObjectSpec, Vault, VaultError, VaultResult, checksum::crc64, payload::Payload},
};
use std::collections::BTreeMap;

const BYTES: &[u8] = b"A probe of archiver doctor. Nobody needs it.\n";

impl DirectoryVault {
    /// `nonce` is no other probe's; `largest` are the bytes of the largest piece.
    pub async fn probe(&self, nonce: &str, largest: u64, out: &mut Findings<'_>) {
        let root = self.place.root();
        out.ok("vault", format!("{root:?} is a vault"));
        match durable::free(root) {
            Ok(free) if free.bytes < largest => out.warning(
                "vault-room",
                format!("{} are free, less than one piece of {}", ByteSize(free.bytes), ByteSize(largest)),
                "Make room, or give it a larger disk",
            ),
            Ok(free) => out.ok("vault-room", format!("{} are free", ByteSize(free.bytes))),
            Err(err) => out.problem("vault-room", format!("Cannot tell what is free: {err}"), ""),
        }
        let Ok(key) = format!("_doctor.{nonce}").parse::<Key>() else { return };
        let tried = self.try_all(&key).await;
        // Whatever came of it, nothing of it stays.
        let cleared = self.delete(&key).await;
        match tried.and(cleared.map_err(|err| ("delete", err))) {
            Ok(()) => out.ok("objects", "they are stored, proven, read, listed, never replaced, and removed"),
            Err((check, err)) => out.tell(check, State::Problem, Chain(&err).to_string(), hint(err.cause), None),
        }
    }

    async fn try_all(&self, key: &Key) -> Result<(), (&'static str, VaultError)> {
        let spec = ObjectSpec {
            size: BYTES.len() as u64,
            crc64: crc64(BYTES),
            part_size: BYTES.len() as u64,
            storage_class: "STANDARD".to_owned(),
            metadata: BTreeMap::new(),
        };
        let payload = || Payload::of_bytes(BYTES, spec.crc64);
        let at = |check: &'static str| move |err: VaultError| (check, err);
        let amiss =
            |check: &'static str, what: &'static str| (check, VaultError::new("try", key, Cause::Integrity, what));
        let lost = self.begin(key, &spec).await.map_err(at("begin"))?;
        self.abort(key, &lost).await.map_err(at("abort"))?;
        let upload = self.begin(key, &spec).await.map_err(at("begin"))?;
        let part = self.put_part(key, &upload, 1, payload()).await;
        let completed = match part {
            Ok(part) => self.complete(key, &upload, &spec, &[part]).await.map_err(at("complete")),
            Err(err) => Err(("part", err)),
        };
        if let Err(failed) = completed {
            let _ = self.abort(key, &upload).await;
            return Err(failed);
        }
        let receipt = self.head(key).await.map_err(at("receipt"))?;
        if !receipt.is_some_and(|receipt| receipt.proves(&spec)) {
            return Err(amiss("receipt", "The object is not what was stored"));
        }
        let got = self.get_range(key, 0, spec.size).await.map_err(at("get"))?;
        let listed = self.list(key.as_str(), None, 1).await.map_err(at("list"))?;
        if got != BYTES || listed.len() != 1 {
            return Err(amiss("get", "Other bytes are read than were stored"));
        }
        is_refused(self.put(key, &spec, payload()).await, key).map_err(at("put-if-absent"))
    }
}

/// What exists must not be replaced.
fn is_refused(put: VaultResult<()>, key: &Key) -> VaultResult<()> {
    match put {
        Err(err) if err.cause == Cause::Exists => Ok(()),
        Err(err) => Err(err),
        Ok(()) => Err(VaultError::new("guard", key, Cause::Integrity, "A key that exists was replaced")),
    }
}

fn hint(cause: Cause) -> &'static str {
    match cause {
        Cause::Storage => "Make room, and look at `dmesg` and `smartctl` for what the disk says",
        Cause::Permission => "Give the directory, with all that is in it, to whom the daemon runs as",
        Cause::Network => "Mount its disk",
        _ => "Look at `dmesg` for what the disk says",
    }
}
