//! Probes of whole objects: storing, reading, never replacing, and being told what is not there.

use super::super::{
    failure::{Call, Failure},
    objects::STANDARD,
};
use super::{BYTES, Ended, Probe, hints, payload, spec};
use crate::{
    finding::State,
    vault::{Cause, Key, Part, UploadId, checksum::crc64},
};
use aws_sdk_s3::primitives::ByteStream;

impl Probe<'_, '_> {
    /// What manifests and indexes are.
    pub(super) async fn small_objects(&mut self) -> Result<(), Ended> {
        let (vault, key, spec) = (self.vault, self.key("small")?, spec(STANDARD));
        let put = vault.put_object(&key, &spec, payload()).await;
        if self.told("put", Call::PUT, put)?.is_none() {
            return Ok(());
        }
        self.out.ok("put", format!("{:?} is stored", vault.place.name(key.as_str())));
        let again = vault.put_object(&key, &spec, payload()).await;
        self.is_guarded("put-if-absent", Call::PUT, again)?;
        let got = vault.get(&key, 0, BYTES.len() as u64).await;
        match self.told("get", Call::GET, got)? {
            Some(bytes) if bytes == BYTES => self.out.ok("get", "it is read as it was stored"),
            Some(_) => self.out.problem("get", "other bytes are read than were stored", hints::after(Cause::Integrity)),
            None => {}
        }
        Ok(())
    }

    /// What exists must not be replaced.
    fn is_guarded(&mut self, check: &'static str, call: Call, answer: Result<(), Failure>) -> Result<bool, Ended> {
        match answer {
            Err(failure) if failure.cause() == Cause::Exists => {
                self.out.ok(check, format!("{} of a key that exists is refused", call.name));
                Ok(true)
            }
            Ok(()) => {
                let what = format!("{} replaces what exists: the server ignores If-None-Match", call.name);
                self.out.warning(check, what, "Let nobody else write below the prefix; keys are never used twice");
                Ok(false)
            }
            Err(failure) => self.told(check, call, Err::<(), _>(failure)).map(|_| false),
        }
    }

    /// What pieces are: in parts, in their class, and proven by a receipt.
    pub(super) async fn large_object(&mut self) -> Result<(), Ended> {
        let (vault, key) = (self.vault, self.key("piece")?);
        let Some(upload) = self.begin(&key).await? else { return Ok(()) };
        let spec = spec(&self.plan.storage_class);
        self.wrong_part(&key, &upload).await?;
        let sent = vault.upload_part(&key, &upload, 1, payload()).await;
        let Some(part) = self.told("part", Call::PART, sent)? else {
            return self.give_up(&key, &upload).await;
        };
        self.out.ok("part", "a part is stored");
        self.listed_part(&key, &upload, &part).await?;
        let completed = vault.complete_upload(&key, &upload, &spec, &[part]).await;
        if self.told("complete", Call::COMPLETE, completed)?.is_none() {
            return self.give_up(&key, &upload).await;
        }
        self.out.ok("complete", format!("{:?} is made of its part", vault.place.name(key.as_str())));
        self.receipt(&key).await?;
        self.second_completion(&key).await
    }

    async fn begin(&mut self, key: &Key) -> Result<Option<UploadId>, Ended> {
        let (vault, spec) = (self.vault, spec(&self.plan.storage_class));
        let begun = vault.create(key, &spec).await;
        self.told("begin", Call::CREATE, begun)
    }

    /// Of bytes that are not what they should be.
    async fn wrong_part(&mut self, key: &Key, upload: &UploadId) -> Result<(), Ended> {
        let vault = self.vault;
        let request = vault
            .client
            .upload_part()
            .bucket(&vault.place.bucket)
            .key(vault.place.name(key.as_str()))
            .upload_id(&upload.0)
            .part_number(1)
            .checksum_crc64_nvme(crc64(b"other bytes").to_base64())
            .body(ByteStream::from_static(BYTES));
        match vault.answer(Call::PART, vault.patience.silence, request.send()).await {
            // Servers agree on the status, not on the code.
            Err(failure) if failure.cause() == Cause::Integrity || is_bad_request(&failure) => {
                self.out.ok("checksum", "a part with a wrong checksum is refused");
            }
            Ok(_) => self.out.warning(
                "checksum",
                "a part with a wrong checksum is accepted: the server does not verify what arrives",
                hints::LESSER,
            ),
            // The right part tells of it.
            Err(failure) if failure.cause() == Cause::Permission => {}
            Err(failure) => return self.told("checksum", Call::PART, Err::<(), _>(failure)).map(drop),
        }
        Ok(())
    }

    async fn listed_part(&mut self, key: &Key, upload: &UploadId, part: &Part) -> Result<(), Ended> {
        let listed = self.vault.list_parts(key, upload).await;
        let Some(parts) = self.told("parts", Call::PARTS, listed)? else { return Ok(()) };
        match parts.as_slice() {
            [only] if only.size == part.size && only.number == part.number => {
                self.out.ok("parts", "the parts of an upload are listed");
            }
            _ => self.out.problem(
                "parts",
                format!("ListParts tells {} parts, and not the one that was stored", parts.len()),
                "An upload cannot go on after an interruption: ask whoever runs the server",
            ),
        }
        Ok(())
    }

    async fn receipt(&mut self, key: &Key) -> Result<(), Ended> {
        let spec = spec(&self.plan.storage_class);
        let head = self.vault.head_object(key).await;
        let Some(receipt) = self.told("receipt", Call::HEAD, head)? else { return Ok(()) };
        match receipt.crc64 {
            _ if receipt.size != spec.size => {
                let what = format!("HEAD tells {} bytes of an object of {}", receipt.size, spec.size);
                self.out.problem("receipt", what, hints::after(Cause::Integrity));
            }
            Some(crc) if crc == spec.crc64 => self.out.ok("receipt", "HEAD tells the size and the right CRC64NVME"),
            Some(_) => {
                self.out.problem("receipt", "HEAD tells another CRC64NVME", hints::after(Cause::Integrity));
            }
            None => self.out.warning(
                "receipt",
                "HEAD tells no CRC64NVME: receipts prove the size of objects, not their bytes",
                hints::LESSER,
            ),
        }
        let (asked, kept) = (&self.plan.storage_class, &receipt.storage_class);
        match (asked == kept, self.vault.place.is_foreign) {
            (true, _) => {
                let billed = crate::vault::policy::billed_days(asked);
                let billed = billed.map(|days| format!("; billed for {days} days, as the probe is too"));
                self.out.ok("class", format!("pieces are kept as {asked}{}", billed.unwrap_or_default()));
            }
            (false, true) => {
                let what = format!("pieces are kept as {kept}, though {asked} is asked for: the server has no classes");
                self.out.warning("class", what, "Leave it, if what it costs there does not depend on the class");
            }
            (false, false) => {
                let what = format!("pieces are kept as {kept}, though {asked} is asked for");
                self.out.problem("class", what, "Look for what changes it: a rule of the bucket or a gateway");
            }
        }
        self.absent().await
    }

    /// Without the right to list, what is not there is told as forbidden, and no receipt could ever say no.
    async fn absent(&mut self) -> Result<(), Ended> {
        match self.vault.head_object(&self.key("absent")?).await {
            Err(failure) if failure.cause() == Cause::Gone => {
                self.out.ok("absent", "what is not there is told from what is forbidden");
            }
            Err(failure) if failure.cause() == Cause::Permission => {
                let what = format!("HEAD of a key that is not there is forbidden, instead of not found: {failure}");
                let permission = Some(Call::LIST.permission.to_owned());
                self.out.tell("absent", State::Problem, what, hints::POLICY, permission);
            }
            Err(failure) => return self.told("absent", Call::HEAD, Err::<(), _>(failure)).map(drop),
            Ok(_) => self.out.problem("absent", "HEAD finds a key that is not there", hints::after(Cause::Other)),
        }
        Ok(())
    }

    /// Two daemons could complete the same key.
    async fn second_completion(&mut self, key: &Key) -> Result<(), Ended> {
        let (vault, spec) = (self.vault, spec(&self.plan.storage_class));
        let Some(upload) = self.begin(key).await? else { return Ok(()) };
        let sent = vault.upload_part(key, &upload, 1, payload()).await;
        let Some(part) = self.told("complete-if-absent", Call::PART, sent)? else {
            return self.give_up(key, &upload).await;
        };
        let completed = vault.complete_upload(key, &upload, &spec, &[part]).await;
        self.is_guarded("complete-if-absent", Call::COMPLETE, completed)?;
        self.give_up(key, &upload).await
    }

    /// Throws away what came to nothing; whether that is allowed is found out elsewhere.
    async fn give_up(&mut self, key: &Key, upload: &UploadId) -> Result<(), Ended> {
        let _ = self.vault.abort_upload(key, upload).await;
        Ok(())
    }

    /// A host that may not delete cannot be made to, and its probes stay.
    pub(super) async fn deletion(&mut self) -> Result<(), Ended> {
        let (vault, small, piece) = (self.vault, self.key("small")?, self.key("piece")?);
        match vault.delete_object(&small).await {
            Err(failure) if failure.cause() == Cause::Permission => {
                let what = "this host may not delete, as it should be; so the probes stay, some 50 bytes each";
                self.out.ok("delete", what);
            }
            Ok(()) => {
                let _ = vault.delete_object(&piece).await;
                self.out.warning(
                    "delete",
                    "this host may delete objects, the probes first: whoever breaks into it can delete every backup",
                    "Deny s3:DeleteObject, as the policies of `archiver aws-policy` do",
                );
            }
            Err(failure) => return self.told("delete", Call::DELETE, Err::<(), _>(failure)).map(drop),
        }
        Ok(())
    }
}

fn is_bad_request(failure: &Failure) -> bool {
    matches!(failure, Failure::Answer { status: 400, cause: Cause::Other, .. })
}
