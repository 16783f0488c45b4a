//! Calls on uploads in parts.

use super::{
    S3Vault, Wanted, body,
    failure::{Call, Failure},
    objects::STANDARD,
};
use crate::vault::{Crc64, Key, ObjectSpec, Part, UploadId, payload::Payload};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};

impl S3Vault {
    pub(super) async fn create(&self, key: &Key, spec: &ObjectSpec) -> Result<UploadId, Failure> {
        let create = async |wanted: Wanted| {
            let request = self
                .client
                .create_multipart_upload()
                .bucket(&self.place.bucket)
                .key(self.place.name(key.as_str()))
                .set_storage_class(wanted.class)
                .set_metadata(Some(spec.metadata.clone().into_iter().collect()))
                .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
                .checksum_type(ChecksumType::FullObject);
            self.answer(Call::CREATE, self.patience.silence, request.send()).await
        };
        let answer = self.conceding(Wanted::new(&spec.storage_class, false), create).await?;
        match answer.upload_id() {
            Some(id) if !id.is_empty() => Ok(UploadId(id.to_owned())),
            _ => Err(Failure::Stalled { call: Call::CREATE.name, what: "the answer names no upload" }),
        }
    }

    pub(super) async fn upload_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        payload: Payload,
    ) -> Result<Part, Failure> {
        let (len, crc) = (payload.len(), payload.crc64());
        let (body, flow) = body::body(payload, self.line.clone());
        let request = self
            .client
            .upload_part()
            .bucket(&self.place.bucket)
            .key(self.place.name(key.as_str()))
            .upload_id(&upload.0)
            .part_number(number as i32)
            .checksum_crc64_nvme(crc.to_base64())
            .content_length(len as i64)
            .body(body);
        let answer = self.answer_to(Call::PART, flow, request.send()).await?;
        self.compare(answer.checksum_crc64_nvme(), None, crc)?;
        let crc64 = answer.checksum_crc64_nvme().map(|_| crc);
        Ok(Part { number, size: len, crc64, etag: answer.e_tag().unwrap_or_default().to_owned() })
    }

    pub(super) async fn list_parts(&self, key: &Key, upload: &UploadId) -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = || {
                let request = self
                    .client
                    .list_parts()
                    .bucket(&self.place.bucket)
                    .key(self.place.name(key.as_str()))
                    .upload_id(&upload.0)
                    .set_part_number_marker(after.clone());
                self.answer(Call::PARTS, self.patience.silence, request.send())
            };
            let answer = self.page_of(after.is_none(), page).await?;
            parts.extend(answer.parts().iter().filter_map(|part| {
                Some(Part {
                    number: u32::try_from(part.part_number()?).ok()?,
                    size: part.size()?.unsigned_abs(),
                    crc64: part.checksum_crc64_nvme().and_then(|text| Crc64::from_base64(text).ok()),
                    etag: part.e_tag()?.to_owned(),
                })
            }));
            let next = answer.next_part_number_marker().map(str::to_owned);
            if answer.is_truncated() != Some(true) || next.is_none() || next == after {
                break;
            }
            after = next;
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// The checksum of the whole is the one that was recorded of the file; the server compares it with that of the
    /// parts it holds.
    pub(super) async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        spec: &ObjectSpec,
        parts: &[Part],
    ) -> Result<(), Failure> {
        let completed = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number as i32)
                .e_tag(&part.etag)
                .set_checksum_crc64_nvme(part.crc64.map(Crc64::to_base64))
                .build()
        });
        let completed = CompletedMultipartUpload::builder().set_parts(Some(completed.collect())).build();
        let complete = async |wanted: Wanted| {
            self.is_free(key, &wanted).await?;
            let request = self
                .client
                .complete_multipart_upload()
                .bucket(&self.place.bucket)
                .key(self.place.name(key.as_str()))
                .upload_id(&upload.0)
                .multipart_upload(completed.clone())
                .checksum_crc64_nvme(spec.crc64.to_base64())
                .checksum_type(ChecksumType::FullObject)
                .mpu_object_size(spec.size as i64)
                .set_if_none_match(wanted.if_none_match());
            self.answer(Call::COMPLETE, self.patience.completion(), request.send()).await
        };
        // The class was asked for when the upload was begun.
        let answer = self.conceding(Wanted::new(STANDARD, true), complete).await?;
        self.compare(answer.checksum_crc64_nvme(), answer.checksum_type(), spec.crc64)
    }

    pub(super) async fn abort_upload(&self, key: &Key, upload: &UploadId) -> Result<(), Failure> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.place.bucket)
            .key(self.place.name(key.as_str()))
            .upload_id(&upload.0);
        self.answer(Call::ABORT, self.patience.silence, request.send()).await.map(drop)
    }

    pub(super) async fn list_uploads(&self, prefix: &str) -> Result<Vec<(Key, UploadId)>, Failure> {
        let mut uploads = Vec::new();
        let mut after: Option<(Option<String>, Option<String>)> = None;
        loop {
            let page = || {
                let (key_marker, id_marker) = after.clone().unwrap_or_default();
                let request = self
                    .client
                    .list_multipart_uploads()
                    .bucket(&self.place.bucket)
                    .prefix(self.place.name(prefix))
                    .set_key_marker(key_marker)
                    .set_upload_id_marker(id_marker);
                self.answer(Call::UPLOADS, self.patience.silence, request.send())
            };
            let answer = self.page_of(after.is_none(), page).await?;
            uploads.extend(answer.uploads().iter().filter_map(|upload| {
                let key = self.place.key(upload.key()?)?;
                Some((key, UploadId(upload.upload_id()?.to_owned())))
            }));
            let next = (answer.next_key_marker().map(str::to_owned), answer.next_upload_id_marker().map(str::to_owned));
            if answer.is_truncated() != Some(true) || next.0.is_none() || Some(&next) == after.as_ref() {
                break;
            }
            after = Some(next);
        }
        uploads.sort_by(|(a, x), (b, y)| (a, &x.0).cmp(&(b, &y.0)));
        Ok(uploads)
    }
}
