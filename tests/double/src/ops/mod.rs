//! The operations of S3, on top of s3s, which knows the wire format and checks signatures.

mod archive;
mod bucket;
mod listing;
mod multipart;
mod object;
mod put;
mod tags;
mod versions;

use crate::{
    Persona,
    front::Mark,
    state::{Object, Retention, Shared},
};
use s3s::{S3, S3Request, S3Response, S3Result, dto, dto::*, s3_error};
use std::sync::{Arc, atomic::Ordering};

/// All operations on what one server knows.
#[derive(Clone)]
pub(crate) struct Operations(pub Arc<Shared>);

type Answered<T> = S3Result<S3Response<T>>;

fn ok<T>(output: T) -> Answered<T> {
    Ok(S3Response::new(output))
}

fn mark<T>(request: &S3Request<T>) -> Mark {
    request.extensions.get::<Mark>().cloned().unwrap_or_default()
}

fn etag(value: &str) -> Option<ETag> {
    Some(ETag::Strong(value.to_owned()))
}

/// HEAD and GET do not mention the class STANDARD.
fn shown_class(class: &str) -> Option<StorageClass> {
    (class != StorageClass::STANDARD).then(|| StorageClass::from(class.to_owned()))
}

fn text<T: From<String>>(text: &str) -> Option<T> {
    Some(T::from(text.to_owned()))
}

const CLASSES: [&str; 7] =
    ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];

impl Operations {
    /// The class in which this server keeps what was to be kept in that one.
    fn class(&self, wanted: Option<&StorageClass>) -> S3Result<String> {
        let persona = self.0.persona();
        let class = wanted.map_or(StorageClass::STANDARD, StorageClass::as_str);
        let refused = persona.rejects_storage_class.iter().any(|refused| refused == class);
        if refused || !CLASSES.contains(&class) {
            return Err(s3_error!(InvalidStorageClass, "The storage class you specified is not valid"));
        }
        Ok(if persona.no_storage_classes { StorageClass::STANDARD } else { class }.to_owned())
    }

    /// Ids that are never the same twice, and look opaque.
    fn new_id(&self) -> String {
        let number = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let digest = crate::sums::md5(format!("{number} {:?}", std::time::SystemTime::now()).as_bytes());
        format!("{}{number:08x}", crate::sums::hex(&digest))
    }
}

/// Of a server that refuses what it does not know.
fn knows_conditions(persona: &Persona, none_match: Option<&ETagCondition>) -> S3Result {
    if persona.rejects_conditions && none_match.is_some() {
        return Err(s3_error!(NotImplemented, "A header you provided implies functionality that is not implemented"));
    }
    Ok(())
}

/// If-None-Match and If-Match of writes.
fn check_conditions(
    existing: Option<&Object>,
    none_match: Option<&ETagCondition>,
    matching: Option<&ETagCondition>,
) -> S3Result<()> {
    let failed = || s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold");
    if none_match.is_some() && existing.is_some() {
        return Err(failed());
    }
    match (existing, matching) {
        (None, Some(_)) => Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
        (Some(object), Some(ETagCondition::ETag(wanted))) if wanted.value() != object.etag => Err(failed()),
        _ => Ok(()),
    }
}

fn retention(mode: Option<&str>, until: Option<Timestamp>) -> Option<Retention> {
    Some(Retention { mode: mode?.to_owned(), until: until? })
}

/// Every operation in one place, each a call of the method that does it.
macro_rules! operations {
    ($($name:ident => $method:ident($input:ident) -> $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $name(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                    self.$method(request).await
                }
            )*
        }
    };
}

operations! {
    list_buckets => list_buckets_op(ListBucketsInput) -> ListBucketsOutput;
    create_bucket => create_bucket_op(CreateBucketInput) -> CreateBucketOutput;
    head_bucket => head_bucket_op(HeadBucketInput) -> HeadBucketOutput;
    delete_bucket => delete_bucket_op(DeleteBucketInput) -> DeleteBucketOutput;
    get_bucket_location => get_bucket_location_op(GetBucketLocationInput) -> GetBucketLocationOutput;
    get_bucket_versioning => get_bucket_versioning_op(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    put_bucket_versioning => put_bucket_versioning_op(PutBucketVersioningInput) -> PutBucketVersioningOutput;
    get_bucket_lifecycle_configuration => get_lifecycle_op(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput;
    put_bucket_lifecycle_configuration => put_lifecycle_op(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput;
    delete_bucket_lifecycle => delete_lifecycle_op(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput;
    get_bucket_encryption => get_encryption_op(GetBucketEncryptionInput) -> GetBucketEncryptionOutput;
    put_bucket_encryption => put_encryption_op(PutBucketEncryptionInput) -> PutBucketEncryptionOutput;
    get_object_lock_configuration => get_lock_op(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput;
    put_object_lock_configuration => put_lock_op(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput;
    put_object => put_object_op(PutObjectInput) -> PutObjectOutput;
    copy_object => copy_object_op(CopyObjectInput) -> CopyObjectOutput;
    head_object => head_object_op(HeadObjectInput) -> HeadObjectOutput;
    get_object => get_object_op(GetObjectInput) -> GetObjectOutput;
    get_object_attributes => get_object_attributes_op(GetObjectAttributesInput) -> GetObjectAttributesOutput;
    delete_object => delete_object_op(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects => delete_objects_op(DeleteObjectsInput) -> DeleteObjectsOutput;
    list_object_versions => list_object_versions_op(ListObjectVersionsInput) -> ListObjectVersionsOutput;
    get_object_retention => get_object_retention_op(GetObjectRetentionInput) -> GetObjectRetentionOutput;
    put_object_retention => put_object_retention_op(PutObjectRetentionInput) -> PutObjectRetentionOutput;
    get_object_tagging => get_object_tagging_op(GetObjectTaggingInput) -> GetObjectTaggingOutput;
    put_object_tagging => put_object_tagging_op(PutObjectTaggingInput) -> PutObjectTaggingOutput;
    delete_object_tagging => delete_object_tagging_op(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput;
    list_objects_v2 => list_objects_v2_op(ListObjectsV2Input) -> ListObjectsV2Output;
    restore_object => restore_object_op(RestoreObjectInput) -> RestoreObjectOutput;
    create_multipart_upload => create_multipart_upload_op(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    upload_part => upload_part_op(UploadPartInput) -> UploadPartOutput;
    list_parts => list_parts_op(ListPartsInput) -> ListPartsOutput;
    list_multipart_uploads => list_multipart_uploads_op(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
    abort_multipart_upload => abort_multipart_upload_op(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    complete_multipart_upload => complete_multipart_upload_op(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
}
