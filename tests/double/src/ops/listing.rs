//! ListObjectsV2, ListMultipartUploads and ListParts, in pages.

use super::{Answered, Operations, etag, ok, text};
use crate::{
    state::{Object as Kept, Reading, Upload},
    sums::Algorithm,
};
use s3s::{
    S3Request,
    dto::{
        ChecksumAlgorithm, CommonPrefix, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input,
        ListObjectsV2Output, ListPartsInput, ListPartsOutput, MultipartUpload, Object, ObjectStorageClass, Part,
        RestoreStatus, StorageClass,
    },
};
use std::time::SystemTime;

const PAGE: i32 = 1000;

fn page(wanted: Option<i32>) -> usize {
    wanted.unwrap_or(PAGE).clamp(0, PAGE) as usize
}

/// The group that a key belongs to when listed with a delimiter.
fn group(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let end = prefix.len() + key[prefix.len()..].find(delimiter)? + delimiter.len();
    Some(key[..end].to_owned())
}

fn algorithm_name(algorithm: Algorithm) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from(algorithm.name().to_owned())
}

fn restore_status(object: &Kept, now: SystemTime) -> Option<RestoreStatus> {
    match object.reading(now) {
        Reading::Always | Reading::Frozen => None,
        Reading::Thawing => Some(RestoreStatus { is_restore_in_progress: Some(true), restore_expiry_date: None }),
        Reading::Until(expiry) => {
            Some(RestoreStatus { is_restore_in_progress: Some(false), restore_expiry_date: Some(expiry.into()) })
        }
    }
}

fn listed(key: &str, object: &Kept, restore: Option<RestoreStatus>) -> Object {
    let algorithms: Vec<ChecksumAlgorithm> = object.sums.keys().copied().map(algorithm_name).collect();
    Object {
        checksum_algorithm: (!algorithms.is_empty()).then_some(algorithms),
        checksum_type: object.sum_type.as_deref().filter(|_| !object.sums.is_empty()).and_then(text),
        e_tag: etag(&object.etag),
        key: Some(key.to_owned()),
        last_modified: Some(object.modified.into()),
        restore_status: restore,
        size: Some(object.content.len() as i64),
        storage_class: Some(ObjectStorageClass::from(object.about.class.clone())),
        ..Default::default()
    }
}

impl Operations {
    pub(super) async fn list_objects_v2_op(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answered<ListObjectsV2Output> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let max = page(input.max_keys);
        let mut after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let wants_restore =
            input.optional_object_attributes.iter().flatten().any(|name| name.as_str() == "RestoreStatus");
        let now = self.0.clock.now();
        let (mut contents, mut groups, mut truncated) = (Vec::new(), Vec::<CommonPrefix>::new(), false);
        self.0.bucket(&input.bucket, |bucket| {
            for (key, versions) in &bucket.objects {
                let Some(object) = versions.last().filter(|object| !object.is_marker) else { continue };
                let group = group_if(key, &prefix, input.delimiter.as_deref());
                // A group that ended the last page, or the one before, is not told again.
                let told = group.as_ref().is_some_and(|group| {
                    *group == after || groups.last().is_some_and(|last| last.prefix.as_ref() == Some(group))
                });
                if !key.starts_with(&prefix) || *key <= after || told {
                    continue;
                }
                if contents.len() + groups.len() >= max {
                    truncated = true;
                    break;
                }
                match group {
                    Some(group) => {
                        after.clone_from(&group);
                        groups.push(CommonPrefix { prefix: Some(group) });
                    }
                    None => {
                        after.clone_from(key);
                        let restore = if wants_restore { restore_status(object, now) } else { None };
                        contents.push(listed(key, object, restore));
                    }
                }
            }
            Ok(())
        })?;
        ok(ListObjectsV2Output {
            key_count: Some((contents.len() + groups.len()) as i32),
            contents: Some(contents),
            common_prefixes: Some(groups),
            continuation_token: input.continuation_token,
            delimiter: input.delimiter,
            is_truncated: Some(truncated),
            max_keys: Some(max as i32),
            name: Some(input.bucket),
            next_continuation_token: truncated.then_some(after),
            prefix: input.prefix,
            start_after: input.start_after,
            ..Default::default()
        })
    }

    pub(super) async fn list_multipart_uploads_op(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answered<ListMultipartUploadsOutput> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let max = page(input.max_uploads);
        // By key, and of one key in the order in which they began.
        let mut uploads = self.0.bucket(&input.bucket, |bucket| {
            let all = bucket.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&prefix));
            Ok(all.map(|(id, upload)| (upload.key.clone(), upload.at, shown(id, upload))).collect::<Vec<_>>())
        })?;
        uploads.sort_by(|a, b| (&a.0, a.1, &a.2.upload_id).cmp(&(&b.0, b.1, &b.2.upload_id)));
        let mut uploads: Vec<MultipartUpload> = uploads.into_iter().map(|(_, _, upload)| upload).collect();
        if let Some(marker) = input.key_marker.as_ref().filter(|marker| !marker.is_empty()) {
            let marked = input
                .upload_id_marker
                .as_ref()
                .and_then(|id| uploads.iter().position(|upload| upload.upload_id.as_ref() == Some(id)));
            match marked {
                Some(index) => drop(uploads.drain(..=index)),
                None => uploads.retain(|upload| upload.key.as_ref() > Some(marker)),
            }
        }
        let truncated = uploads.len() > max;
        uploads.truncate(max);
        let last = uploads.last().filter(|_| truncated);
        ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(truncated),
            key_marker: input.key_marker,
            max_uploads: Some(max as i32),
            next_key_marker: last.and_then(|upload| upload.key.clone()),
            next_upload_id_marker: last.and_then(|upload| upload.upload_id.clone()),
            prefix: input.prefix,
            upload_id_marker: input.upload_id_marker,
            uploads: Some(uploads),
            ..Default::default()
        })
    }

    pub(super) async fn list_parts_op(&self, request: S3Request<ListPartsInput>) -> Answered<ListPartsOutput> {
        let input = request.input;
        let max = page(input.max_parts);
        let after = input.part_number_marker.unwrap_or(0);
        let upload = self.0.bucket(&input.bucket, |bucket| bucket.upload(&input.upload_id, &input.key).cloned())?;
        let mut left = upload.parts.iter().filter(|(number, _)| **number > after);
        let parts: Vec<Part> = left
            .by_ref()
            .take(max)
            .map(|(number, part)| {
                let mut shown = Part {
                    e_tag: etag(&part.etag),
                    last_modified: Some(part.at.into()),
                    part_number: Some(*number),
                    size: Some(part.blob.len() as i64),
                    ..Default::default()
                };
                show_sums!(shown, &part.sums);
                shown
            })
            .collect();
        let truncated = left.next().is_some();
        ok(ListPartsOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: upload.algorithm.map(algorithm_name),
            checksum_type: upload.sum_type.as_deref().and_then(text),
            is_truncated: Some(truncated),
            key: Some(input.key),
            max_parts: Some(max as i32),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            part_number_marker: Some(after),
            parts: Some(parts),
            storage_class: Some(StorageClass::from(upload.about.class)),
            upload_id: Some(input.upload_id),
            ..Default::default()
        })
    }
}

fn group_if(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    if key.starts_with(prefix) { group(key, prefix, delimiter) } else { None }
}

fn shown(id: &str, upload: &Upload) -> MultipartUpload {
    MultipartUpload {
        checksum_algorithm: upload.algorithm.map(algorithm_name),
        checksum_type: upload.sum_type.as_deref().and_then(text),
        initiated: Some(upload.at.into()),
        key: Some(upload.key.clone()),
        storage_class: Some(StorageClass::from(upload.about.class.clone())),
        upload_id: Some(id.to_owned()),
        ..Default::default()
    }
}
