//! HeadObject, GetObject and GetObjectAttributes.

use super::{Answered, Operations, etag, ok, shown_class, text};
use crate::{
    answer::http_date,
    state::{Object, Reading, lock},
};
use s3s::{
    S3Request, S3Result,
    dto::{
        Checksum, ETagCondition, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts,
        GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ObjectAttributes, ObjectPart, StorageClass,
    },
    s3_error,
};
use std::{ops::Range, time::SystemTime};

const PARTS_PER_PAGE: usize = 1000;

/// The header `x-amz-restore`.
fn restore(object: &Object, now: SystemTime) -> Option<String> {
    match object.reading(now) {
        Reading::Always | Reading::Frozen => None,
        Reading::Thawing => Some("ongoing-request=\"true\"".into()),
        Reading::Until(expiry) => Some(format!("ongoing-request=\"false\", expiry-date=\"{}\"", http_date(expiry)?)),
    }
}

/// The place of a part in its object.
fn part_range(object: &Object, number: i32) -> S3Result<Range<u64>> {
    let index = usize::try_from(number - 1).map_err(|_| s3_error!(InvalidArgument))?;
    if object.parts.is_empty() && index == 0 {
        return Ok(0..object.content.len());
    }
    let part = object
        .parts
        .get(index)
        .ok_or_else(|| s3_error!(InvalidRange, "The requested partnumber is not satisfiable"))?;
    let start = object.parts[..index].iter().map(|part| part.size).sum();
    Ok(start..start + part.size)
}

fn check_if_match(object: &Object, wanted: Option<&ETagCondition>) -> S3Result<()> {
    match wanted {
        Some(ETagCondition::ETag(wanted)) if wanted.value() != object.etag => Err(s3_error!(PreconditionFailed)),
        _ => Ok(()),
    }
}

impl Operations {
    fn find(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Object> {
        self.0.object(bucket, key, version, |object| Ok(object.clone()))
    }

    pub(super) async fn head_object_op(&self, request: S3Request<HeadObjectInput>) -> Answered<HeadObjectOutput> {
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        check_if_match(&object, input.if_match.as_ref())?;
        let range = match input.part_number {
            Some(number) => part_range(&object, number)?,
            None => 0..object.content.len(),
        };
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some((range.end - range.start) as i64),
            content_type: object.about.content_type.clone(),
            e_tag: etag(&object.etag),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.about.metadata.clone()),
            object_lock_mode: object.about.retention.as_ref().and_then(|kept| text(&kept.mode)),
            object_lock_retain_until_date: object.about.retention.as_ref().map(|kept| kept.until.clone()),
            parts_count: input.part_number.map(|_| object.parts.len().max(1) as i32),
            restore: restore(&object, self.0.clock.now()),
            server_side_encryption: text("AES256"),
            storage_class: shown_class(&object.about.class),
            version_id: object.version.clone(),
            ..Default::default()
        };
        if input.checksum_mode.is_some() {
            show_sums!(output, &object.sums);
            output.checksum_type = object.sum_type.as_deref().and_then(text);
        }
        ok(output)
    }

    pub(super) async fn get_object_op(&self, request: S3Request<GetObjectInput>) -> Answered<GetObjectOutput> {
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        check_if_match(&object, input.if_match.as_ref())?;
        let now = self.0.clock.now();
        if matches!(object.reading(now), Reading::Frozen | Reading::Thawing) {
            return Err(s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class"));
        }
        let all = object.content.len();
        let range = match (input.part_number, &input.range) {
            (Some(number), _) => part_range(&object, number)?,
            (None, Some(range)) => range.check(all)?,
            (None, None) => 0..all,
        };
        let is_part = input.range.is_some() || range != (0..all);
        let mut output = GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some((range.end - range.start) as i64),
            content_range: is_part.then(|| format!("bytes {}-{}/{all}", range.start, range.end.saturating_sub(1))),
            content_type: object.about.content_type.clone(),
            e_tag: etag(&object.etag),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.about.metadata.clone()),
            parts_count: input.part_number.map(|_| object.parts.len().max(1) as i32),
            restore: restore(&object, now),
            server_side_encryption: text("AES256"),
            storage_class: shown_class(&object.about.class),
            version_id: object.version.clone(),
            ..Default::default()
        };
        if input.checksum_mode.is_some() && !is_part {
            show_sums!(output, &object.sums);
            output.checksum_type = object.sum_type.as_deref().and_then(text);
        }
        output.body = Some(object.content.stream(range));
        ok(output)
    }

    pub(super) async fn get_object_attributes_op(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> Answered<GetObjectAttributesOutput> {
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        // Several names may come in one header.
        let wanted: Vec<&str> = input.object_attributes.iter().flat_map(|names| names.as_str().split(',')).collect();
        let wants = |name: &str| wanted.iter().any(|one| one.trim() == name);
        let mut output = GetObjectAttributesOutput {
            last_modified: Some(object.modified.into()),
            version_id: object.version.clone(),
            ..Default::default()
        };
        if wants(ObjectAttributes::ETAG) {
            output.e_tag = etag(&object.etag);
        }
        if wants(ObjectAttributes::OBJECT_SIZE) {
            output.object_size = Some(object.content.len() as i64);
        }
        if wants(ObjectAttributes::STORAGE_CLASS) {
            output.storage_class = Some(StorageClass::from(object.about.class.clone()));
        }
        if wants(ObjectAttributes::CHECKSUM) && !object.sums.is_empty() {
            let mut sums = Checksum { checksum_type: object.sum_type.as_deref().and_then(text), ..Default::default() };
            show_sums!(sums, &object.sums);
            output.checksum = Some(sums);
        }
        if wants(ObjectAttributes::OBJECT_PARTS) && !object.parts.is_empty() {
            output.object_parts = Some(parts_page(&object, input.part_number_marker, input.max_parts));
        }
        let no_checksums = lock(&self.0.persona).no_checksums;
        if no_checksums {
            output.checksum = None;
        }
        ok(output)
    }
}

fn parts_page(object: &Object, marker: Option<i32>, max: Option<i32>) -> GetObjectAttributesParts {
    let max = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(PARTS_PER_PAGE).min(PARTS_PER_PAGE);
    let after = marker.unwrap_or(0);
    let left: Vec<_> = object.parts.iter().filter(|part| part.number > after).collect();
    // Amazon lists parts here only if each has a checksum of its own.
    let listed = left.iter().take(max).filter(|part| !part.sums.is_empty());
    let parts = listed
        .map(|part| {
            let mut shown =
                ObjectPart { part_number: Some(part.number), size: Some(part.size as i64), ..Default::default() };
            show_sums!(shown, &part.sums);
            shown
        })
        .collect();
    GetObjectAttributesParts {
        is_truncated: Some(left.len() > max),
        max_parts: Some(max as i32),
        next_part_number_marker: left.iter().take(max).next_back().map(|part| part.number),
        part_number_marker: Some(after),
        parts: Some(parts),
        total_parts_count: Some(object.parts.len() as i32),
    }
}
