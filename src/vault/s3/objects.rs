//! Calls on whole objects.

use super::{
    Lacks, S3Vault, Wanted, body,
    failure::{Call, Failure},
};
use crate::vault::{self, Cause, Crc64, Key, Listed, ObjectSpec, Receipt, Thaw, payload::Payload};
use aws_sdk_s3::{
    operation::head_object::HeadObjectOutput,
    types::{
        ChecksumMode, ChecksumType, GlacierJobParameters, OptionalObjectAttributes, RestoreRequest, RestoreStatus,
        StorageClass, Tier,
    },
};

/// The class of what is asked for without one.
pub(super) const STANDARD: &str = "STANDARD";

/// Most objects on one page of a listing.
const PAGE: usize = 1_000;

impl S3Vault {
    pub(super) async fn put_object(&self, key: &Key, spec: &ObjectSpec, payload: Payload) -> Result<(), Failure> {
        let (len, crc) = (payload.len(), payload.crc64());
        if len != spec.size || crc != spec.crc64 {
            return Err(Failure::Mismatch("The bytes are not those of the object".into()));
        }
        let put = async |wanted: Wanted| {
            self.is_free(key, &wanted).await?;
            let (body, flow) = body::body(payload.clone(), self.line.clone());
            let request = self
                .client
                .put_object()
                .bucket(&self.place.bucket)
                .key(self.place.name(key.as_str()))
                .set_if_none_match(wanted.if_none_match())
                .set_storage_class(wanted.class)
                .set_metadata(Some(spec.metadata.clone().into_iter().collect()))
                .checksum_crc64_nvme(crc.to_base64())
                .content_length(len as i64)
                .body(body);
            self.answer_to(Call::PUT, flow, request.send()).await
        };
        let answer = self.conceding(Wanted::new(&spec.storage_class, true), put).await?;
        self.compare(answer.checksum_crc64_nvme(), None, crc)
    }

    /// Where the server does not see to it that nothing is replaced, the best that can be done.
    pub(super) async fn is_free(&self, key: &Key, wanted: &Wanted) -> Result<(), Failure> {
        if wanted.condition {
            return Ok(());
        }
        match self.try_head(key).await {
            Err(failure) if failure.cause() == Cause::Gone => Ok(()),
            head => head.and(Err(Failure::Taken)),
        }
    }

    /// A checksum that came back is that of what was sent; where none does, the server does not look.
    pub(super) fn compare(
        &self,
        answered: Option<&str>,
        kind: Option<&ChecksumType>,
        sent: Crc64,
    ) -> Result<(), Failure> {
        let answered = answered.filter(|_| kind.is_none_or(|kind| *kind == ChecksumType::FullObject));
        match answered.map(Crc64::from_base64) {
            Some(Ok(crc)) if crc == sent => Ok(()),
            Some(_) => Err(Failure::Mismatch("The server answered with another checksum than was sent".into())),
            None => {
                Lacks::tell(&self.lacks.checksums, || {
                    tracing::warn!(
                        "The server keeps no CRC64NVME checksums: receipts prove the size of objects, not their bytes"
                    );
                });
                Ok(())
            }
        }
    }

    pub(super) async fn head_object(&self, key: &Key) -> Result<Receipt, Failure> {
        let head = self.look_at(key).await?;
        let class = head.storage_class().map_or(STANDARD, StorageClass::as_str).to_owned();
        let whole = head.checksum_type().is_none_or(|kind| *kind == ChecksumType::FullObject);
        let crc64 = head.checksum_crc64_nvme().filter(|_| whole).and_then(|text| Crc64::from_base64(text).ok());
        Ok(Receipt {
            key: key.clone(),
            size: head.content_length().unwrap_or_default().unsigned_abs(),
            crc64,
            storage_class: class,
            metadata: head
                .metadata()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        })
    }

    async fn try_head(&self, key: &Key) -> Result<HeadObjectOutput, Failure> {
        let request = self
            .client
            .head_object()
            .bucket(&self.place.bucket)
            .key(self.place.name(key.as_str()))
            .checksum_mode(ChecksumMode::Enabled);
        self.answer(Call::HEAD, self.patience.silence, request.send()).await
    }

    /// An answer to HEAD has no body, so what is wrong is asked with a call that has one. Where that is allowed, the
    /// clocks may have been apart: by then the client knows by how much, and signs with the server's time.
    async fn look_at(&self, key: &Key) -> Result<HeadObjectOutput, Failure> {
        match self.try_head(key).await {
            Err(failure) if failure.is_mute() => {
                self.page(key.as_str(), None, 1).await?;
                self.try_head(key).await
            }
            head => head,
        }
    }

    pub(super) async fn get(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, Failure> {
        let Some(last) = offset.saturating_add(len).checked_sub(1).filter(|_| len > 0) else { return Ok(Vec::new()) };
        let request = self
            .client
            .get_object()
            .bucket(&self.place.bucket)
            .key(self.place.name(key.as_str()))
            .range(format!("bytes={offset}-{last}"));
        let at_most = self.patience.silence + self.patience.at_slowest(len.min(1 << 40));
        let got = tokio::time::timeout(at_most, async {
            let object = match request.send().await.map_err(|err| self.failure(Call::GET, err)) {
                // Nothing lies beyond the end.
                Err(failure) if failure.has_code("InvalidRange") => return Ok(Vec::new()),
                object => object?,
            };
            let expected = object.content_length();
            let mut bytes = Vec::with_capacity(expected.unwrap_or(0).clamp(0, len.min(64 << 20) as i64) as usize);
            let mut body = object.body;
            // Chunk by chunk: what the SDK collects it gives out byte by byte, which took longer than all the rest.
            while let Some(chunk) = body.next().await {
                bytes.extend_from_slice(&chunk.map_err(|err| Failure::NoAnswer {
                    call: Call::GET.name,
                    hint: ": it was cut off",
                    cause: Cause::Network,
                    source: err.into(),
                })?);
                if bytes.len() as u64 > len {
                    break;
                }
            }
            if expected.is_some_and(|expected| expected != bytes.len() as i64) || bytes.len() as u64 > len {
                return Err(Failure::Mismatch("The server sent other bytes than were asked for".into()));
            }
            Ok(bytes)
        });
        got.await.unwrap_or(Err(Failure::Stalled { call: Call::GET.name, what: "the bytes come too slowly" }))
    }

    pub(super) async fn list_objects(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, Failure> {
        let mut listed: Vec<Listed> = Vec::new();
        let mut after = after.map(|key| self.place.name(key.as_str()));
        while listed.len() < limit {
            let len = (limit - listed.len()).min(PAGE);
            let page = self.page_of(listed.is_empty(), || self.page(prefix, after.as_deref(), len)).await?;
            listed.extend(page.listed);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(listed)
    }

    async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.place.bucket)
            .prefix(self.place.name(prefix))
            .set_start_after(after.map(str::to_owned))
            .max_keys(limit as i32)
            .optional_object_attributes(OptionalObjectAttributes::RestoreStatus);
        let answer = self.answer(Call::LIST, self.patience.silence, request.send()).await?;
        let last = answer.contents().last().and_then(|object| object.key()).map(str::to_owned);
        let listed = answer.contents().iter().filter_map(|object| {
            let class = object.storage_class().map_or(STANDARD, |class| class.as_str()).to_owned();
            let restore = object.restore_status();
            let thaw = match restore.and_then(RestoreStatus::is_restore_in_progress) {
                Some(true) => Thaw::Ongoing,
                Some(false) if restore.is_some_and(|status| status.restore_expiry_date().is_some()) => Thaw::Ready,
                _ if is_frozen(&class) => Thaw::Frozen,
                _ => Thaw::Ready,
            };
            Some(Listed {
                key: self.place.key(object.key()?)?,
                size: object.size().unwrap_or_default().unsigned_abs(),
                storage_class: class,
                thaw,
            })
        });
        Ok(Page { listed: listed.collect(), next: last.filter(|_| answer.is_truncated() == Some(true)) })
    }

    pub(super) async fn delete_object(&self, key: &Key) -> Result<(), Failure> {
        let request = self.client.delete_object().bucket(&self.place.bucket).key(self.place.name(key.as_str()));
        self.answer(Call::DELETE, self.patience.silence, request.send()).await.map(drop)
    }

    /// Asks for a thaw of what is in one of these states.
    pub(super) async fn restore_object(
        &self,
        key: &Key,
        days: u32,
        tier: vault::Tier,
        ask_of: &[Thaw],
    ) -> Result<Thaw, Failure> {
        let head = self.look_at(key).await?;
        let class = head.storage_class().map_or(STANDARD, StorageClass::as_str);
        let thaw = thaw(class, head.restore());
        if !ask_of.contains(&thaw) {
            return Ok(thaw);
        }
        let tier = match tier {
            vault::Tier::Bulk => Tier::Bulk,
            vault::Tier::Standard => Tier::Standard,
        };
        let tier = GlacierJobParameters::builder().tier(tier).build();
        let tier = tier.map_err(|err| Failure::Mismatch(err.to_string()))?;
        let wanted = RestoreRequest::builder().days(days as i32).glacier_job_parameters(tier).build();
        let request = self
            .client
            .restore_object()
            .bucket(&self.place.bucket)
            .key(self.place.name(key.as_str()))
            .restore_request(wanted);
        match self.answer(Call::THAW, self.patience.silence, request.send()).await {
            Err(failure) if failure.has_code("RestoreAlreadyInProgress") => Ok(Thaw::Ongoing),
            asked => asked.map(|_| Thaw::Ongoing),
        }
    }
}

struct Page {
    listed: Vec<Listed>,
    /// After which the next page begins.
    next: Option<String>,
}

/// Whether what is in this class must be thawed before it can be read.
pub fn is_frozen(class: &str) -> bool {
    matches!(class, "GLACIER" | "DEEP_ARCHIVE")
}

/// By the header `x-amz-restore`: `ongoing-request="false", expiry-date="…"`.
fn thaw(class: &str, restore: Option<&str>) -> Thaw {
    match restore {
        _ if !is_frozen(class) => Thaw::Ready,
        Some(restore) if restore.contains("ongoing-request=\"true\"") => Thaw::Ongoing,
        Some(restore) if restore.contains("expiry-date") => Thaw::Ready,
        _ => Thaw::Frozen,
    }
}
