//! Buckets and what is set for all of one.

use super::{Answered, Operations, ok, text};
use crate::state::{Bucket as Kept, lock};
use s3s::{
    S3Request,
    dto::{
        Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketLifecycleInput,
        DeleteBucketLifecycleOutput, DeleteBucketOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput,
        GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput, GetBucketLocationInput,
        GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectLockConfigurationInput,
        GetObjectLockConfigurationOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput,
        ObjectLockConfiguration, PutBucketEncryptionInput, PutBucketEncryptionOutput,
        PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput, PutBucketVersioningInput,
        PutBucketVersioningOutput, PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput,
    },
    s3_error,
};

impl Operations {
    pub(super) async fn list_buckets_op(&self, _: S3Request<ListBucketsInput>) -> Answered<ListBucketsOutput> {
        let buckets = lock(&self.0.buckets);
        let shown = buckets.keys().map(|name| Bucket { name: Some(name.clone()), ..Default::default() }).collect();
        ok(ListBucketsOutput { buckets: Some(shown), ..Default::default() })
    }

    pub(super) async fn create_bucket_op(&self, request: S3Request<CreateBucketInput>) -> Answered<CreateBucketOutput> {
        let input = request.input;
        let mut buckets = lock(&self.0.buckets);
        if buckets.contains_key(&input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        let mut bucket = Kept::default();
        if input.object_lock_enabled_for_bucket == Some(true) {
            bucket.versioning = Some("Enabled".into());
            bucket.object_lock = Some(ObjectLockConfiguration { object_lock_enabled: text("Enabled"), rule: None });
        }
        let location = Some(format!("/{}", input.bucket));
        buckets.insert(input.bucket, bucket);
        ok(CreateBucketOutput { location })
    }

    pub(super) async fn head_bucket_op(&self, request: S3Request<HeadBucketInput>) -> Answered<HeadBucketOutput> {
        self.0.bucket(&request.input.bucket, |_| Ok(()))?;
        ok(HeadBucketOutput { bucket_region: text(crate::REGION), ..Default::default() })
    }

    pub(super) async fn delete_bucket_op(&self, request: S3Request<DeleteBucketInput>) -> Answered<DeleteBucketOutput> {
        let name = request.input.bucket;
        self.0.bucket(&name, |bucket| {
            if bucket.objects.values().all(Vec::is_empty) { Ok(()) } else { Err(s3_error!(BucketNotEmpty)) }
        })?;
        lock(&self.0.buckets).remove(&name);
        ok(DeleteBucketOutput::default())
    }

    pub(super) async fn get_bucket_location_op(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Answered<GetBucketLocationOutput> {
        self.0.bucket(&request.input.bucket, |_| Ok(()))?;
        ok(GetBucketLocationOutput::default())
    }

    pub(super) async fn get_bucket_versioning_op(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> Answered<GetBucketVersioningOutput> {
        let status = self.0.bucket(&request.input.bucket, |bucket| Ok(bucket.versioning.clone()))?;
        ok(GetBucketVersioningOutput { status: status.as_deref().and_then(text), ..Default::default() })
    }

    pub(super) async fn put_bucket_versioning_op(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> Answered<PutBucketVersioningOutput> {
        let status = request.input.versioning_configuration.status.map(|status| status.as_str().to_owned());
        self.0.bucket(&request.input.bucket, |bucket| {
            if bucket.object_lock.is_some() && status.as_deref() != Some("Enabled") {
                return Err(s3_error!(InvalidBucketState, "Versioning cannot be suspended with Object Lock"));
            }
            bucket.versioning = status;
            Ok(())
        })?;
        ok(PutBucketVersioningOutput::default())
    }

    pub(super) async fn get_lifecycle_op(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> Answered<GetBucketLifecycleConfigurationOutput> {
        let rules = self.0.bucket(&request.input.bucket, |bucket| {
            bucket
                .lifecycle
                .clone()
                .ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration, "The lifecycle configuration does not exist"))
        })?;
        ok(GetBucketLifecycleConfigurationOutput { rules: Some(rules), ..Default::default() })
    }

    pub(super) async fn put_lifecycle_op(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> Answered<PutBucketLifecycleConfigurationOutput> {
        let wanted = request.input.lifecycle_configuration.ok_or_else(|| s3_error!(MalformedXML))?;
        self.0.bucket(&request.input.bucket, |bucket| {
            bucket.lifecycle = Some(wanted.rules);
            Ok(())
        })?;
        ok(PutBucketLifecycleConfigurationOutput::default())
    }

    pub(super) async fn delete_lifecycle_op(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> Answered<DeleteBucketLifecycleOutput> {
        self.0.bucket(&request.input.bucket, |bucket| {
            bucket.lifecycle = None;
            Ok(())
        })?;
        ok(DeleteBucketLifecycleOutput::default())
    }

    pub(super) async fn get_encryption_op(
        &self,
        request: S3Request<GetBucketEncryptionInput>,
    ) -> Answered<GetBucketEncryptionOutput> {
        let kept = self.0.bucket(&request.input.bucket, |bucket| {
            bucket.encryption.clone().ok_or_else(|| s3_error!(ServerSideEncryptionConfigurationNotFoundError))
        })?;
        ok(GetBucketEncryptionOutput { server_side_encryption_configuration: Some(kept) })
    }

    pub(super) async fn put_encryption_op(
        &self,
        request: S3Request<PutBucketEncryptionInput>,
    ) -> Answered<PutBucketEncryptionOutput> {
        let wanted = request.input.server_side_encryption_configuration;
        self.0.bucket(&request.input.bucket, |bucket| {
            bucket.encryption = Some(wanted);
            Ok(())
        })?;
        ok(PutBucketEncryptionOutput::default())
    }

    pub(super) async fn get_lock_op(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> Answered<GetObjectLockConfigurationOutput> {
        let kept = self.0.bucket(&request.input.bucket, |bucket| {
            bucket.object_lock.clone().ok_or_else(|| s3_error!(ObjectLockConfigurationNotFoundError))
        })?;
        ok(GetObjectLockConfigurationOutput { object_lock_configuration: Some(kept) })
    }

    pub(super) async fn put_lock_op(
        &self,
        request: S3Request<PutObjectLockConfigurationInput>,
    ) -> Answered<PutObjectLockConfigurationOutput> {
        let wanted = request.input.object_lock_configuration;
        self.0.bucket(&request.input.bucket, |bucket| {
            if !bucket.is_versioned() {
                return Err(s3_error!(InvalidBucketState, "Versioning must be 'Enabled' on the bucket"));
            }
            bucket.object_lock = wanted;
            Ok(())
        })?;
        ok(PutObjectLockConfigurationOutput::default())
    }
}
