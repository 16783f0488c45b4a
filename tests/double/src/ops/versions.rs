//! Deleting, versions, and what keeps a version from being deleted.

use super::{Answered, Operations, mark, ok, retention, text};
use crate::state::{Bucket, Object, lock};
use s3s::{
    S3Request, S3Result,
    dto::{
        DeleteMarkerEntry, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
        DeletedObject, Error, GetObjectRetentionInput, GetObjectRetentionOutput, ListObjectVersionsInput,
        ListObjectVersionsOutput, ObjectLockRetention, ObjectVersion, ObjectVersionStorageClass,
        PutObjectRetentionInput, PutObjectRetentionOutput,
    },
    s3_error,
};
use std::time::SystemTime;

const VERSIONS_MAX: i32 = 1000;

/// What a deletion was asked to do.
struct Deletion<'a> {
    key: &'a str,
    version: Option<&'a str>,
    bypasses: bool,
    /// The id that a new marker would get.
    marker: String,
    now: SystemTime,
}

/// What became of it.
#[derive(Default)]
struct Deleted {
    marker: bool,
    version: Option<String>,
}

fn delete(bucket: &mut Bucket, wanted: &Deletion<'_>) -> S3Result<Deleted> {
    if let Some(version) = wanted.version {
        return delete_version(bucket, wanted, version);
    }
    if bucket.versioning.is_none() {
        bucket.objects.remove(wanted.key);
        return Ok(Deleted::default());
    }
    let version = bucket.store(wanted.key, Object::marker(wanted.now), wanted.marker.clone());
    Ok(Deleted { marker: true, version })
}

fn delete_version(bucket: &mut Bucket, wanted: &Deletion<'_>, version: &str) -> S3Result<Deleted> {
    let Some(versions) = bucket.objects.get_mut(wanted.key) else { return Ok(Deleted::default()) };
    let Some(index) = versions.iter().position(|object| object.version_name() == version) else {
        return Ok(Deleted { marker: false, version: Some(version.to_owned()) });
    };
    let kept = versions[index]
        .about
        .retention
        .as_ref()
        .is_some_and(|kept| kept.until > wanted.now.into() && !(wanted.bypasses && kept.mode == "GOVERNANCE"));
    if kept {
        return Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock."));
    }
    let gone = versions.remove(index);
    if versions.is_empty() {
        bucket.objects.remove(wanted.key);
    }
    Ok(Deleted { marker: gone.is_marker, version: Some(version.to_owned()) })
}

impl Operations {
    pub(super) async fn delete_object_op(&self, request: S3Request<DeleteObjectInput>) -> Answered<DeleteObjectOutput> {
        let mark = mark(&request);
        let input = request.input;
        let wanted = Deletion {
            key: &input.key,
            version: input.version_id.as_deref(),
            bypasses: input.bypass_governance_retention == Some(true),
            marker: self.new_id(),
            now: self.0.clock.now(),
        };
        let done = self.0.bucket(&input.bucket, |bucket| {
            if mark.pretend { Ok(Deleted::default()) } else { delete(bucket, &wanted) }
        })?;
        ok(DeleteObjectOutput {
            delete_marker: done.marker.then_some(true),
            version_id: done.version,
            ..Default::default()
        })
    }

    pub(super) async fn delete_objects_op(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> Answered<DeleteObjectsOutput> {
        let mark = mark(&request);
        let input = request.input;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        // Whoever may not delete at all may not delete many.
        let denied = lock(&self.0.persona).denied.contains("DeleteObject");
        for one in &input.delete.objects {
            let wanted = Deletion {
                key: &one.key,
                version: one.version_id.as_deref(),
                bypasses: input.bypass_governance_retention == Some(true),
                marker: self.new_id(),
                now: self.0.clock.now(),
            };
            let done = self.0.bucket(&input.bucket, |bucket| match (denied, mark.pretend) {
                (true, _) => Err(s3_error!(AccessDenied, "Access Denied")),
                (false, true) => Ok(Deleted::default()),
                (false, false) => delete(bucket, &wanted),
            });
            match done {
                Ok(done) => deleted.push(DeletedObject {
                    key: Some(one.key.clone()),
                    delete_marker: done.marker.then_some(true),
                    delete_marker_version_id: if done.marker { done.version } else { None },
                    version_id: one.version_id.clone(),
                }),
                Err(error) => errors.push(Error {
                    key: Some(one.key.clone()),
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    version_id: one.version_id.clone(),
                }),
            }
        }
        let quiet = input.delete.quiet == Some(true);
        ok(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: (!errors.is_empty()).then_some(errors),
            ..Default::default()
        })
    }

    pub(super) async fn list_object_versions_op(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> Answered<ListObjectVersionsOutput> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let max = input.max_keys.unwrap_or(VERSIONS_MAX).clamp(0, VERSIONS_MAX);
        let mut output = ListObjectVersionsOutput { max_keys: Some(max), prefix: input.prefix, ..Default::default() };
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        // Within a key the newest comes first; the next page begins after the pair of markers.
        let mut skips = input.key_marker.clone().map(|key| (key, input.version_id_marker.clone()));
        self.0.bucket(&input.bucket, |bucket| {
            let all = bucket
                .objects
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix))
                .flat_map(|(key, list)| list.iter().rev().enumerate().map(move |(age, object)| (key, age, object)));
            for (key, age, object) in all {
                if let Some((from, version)) = &skips {
                    if key < from || key == from && version.as_deref().is_none_or(|v| v != object.version_name()) {
                        continue;
                    }
                    let is_marked = key == from;
                    skips = None;
                    if is_marked {
                        continue;
                    }
                }
                if versions.len() + markers.len() == max as usize {
                    output.is_truncated = Some(true);
                    break;
                }
                output.next_key_marker = Some(key.clone());
                output.next_version_id_marker = Some(object.version_name().to_owned());
                push(&mut versions, &mut markers, key, age == 0, object);
            }
            Ok(())
        })?;
        if output.is_truncated.is_none() {
            output.is_truncated = Some(false);
            output.next_key_marker = None;
            output.next_version_id_marker = None;
        }
        output.name = Some(input.bucket);
        output.versions = Some(versions);
        output.delete_markers = Some(markers);
        ok(output)
    }

    pub(super) async fn get_object_retention_op(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> Answered<GetObjectRetentionOutput> {
        let input = request.input;
        let kept = self.0.object(&input.bucket, &input.key, input.version_id.as_deref(), |object| {
            object.about.retention.clone().ok_or_else(|| s3_error!(NoSuchObjectLockConfiguration))
        })?;
        let shown = ObjectLockRetention { mode: text(&kept.mode), retain_until_date: Some(kept.until) };
        ok(GetObjectRetentionOutput { retention: Some(shown) })
    }

    pub(super) async fn put_object_retention_op(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> Answered<PutObjectRetentionOutput> {
        let input = request.input;
        let wanted = input.retention.and_then(|wanted| {
            retention(wanted.mode.as_ref().map(|mode| mode.as_str()), wanted.retain_until_date.clone())
        });
        let bypasses = input.bypass_governance_retention == Some(true);
        self.0.object(&input.bucket, &input.key, input.version_id.as_deref(), |object| {
            if let Some(kept) = &object.about.retention {
                let shortens = wanted.as_ref().is_none_or(|wanted| wanted.until < kept.until);
                if shortens && !(bypasses && kept.mode == "GOVERNANCE") {
                    return Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock."));
                }
            }
            object.about.retention = wanted;
            Ok(())
        })?;
        ok(PutObjectRetentionOutput::default())
    }
}

fn push(
    versions: &mut Vec<ObjectVersion>,
    markers: &mut Vec<DeleteMarkerEntry>,
    key: &str,
    is_latest: bool,
    object: &Object,
) {
    let version = Some(object.version_name().to_owned());
    if object.is_marker {
        markers.push(DeleteMarkerEntry {
            is_latest: Some(is_latest),
            key: Some(key.to_owned()),
            last_modified: Some(object.modified.into()),
            version_id: version,
            ..Default::default()
        });
        return;
    }
    versions.push(ObjectVersion {
        e_tag: super::etag(&object.etag),
        is_latest: Some(is_latest),
        key: Some(key.to_owned()),
        last_modified: Some(object.modified.into()),
        size: Some(object.content.len() as i64),
        storage_class: Some(ObjectVersionStorageClass::from(object.about.class.clone())),
        version_id: version,
        ..Default::default()
    });
}
