//! Tags of objects.

use super::{Answered, Operations, mark, ok};
use crate::request::decode;
use s3s::{
    S3Request,
    dto::{
        DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
        PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
    },
};

/// The header `x-amz-tagging`: `name=value&name=value`.
pub(super) fn from_header(header: Option<&str>) -> Vec<Tag> {
    let plain = |text: &str| Some(decode(&text.replace('+', " ")));
    header
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| Tag { key: plain(name), value: plain(value) })
        .collect()
}

impl Operations {
    pub(super) async fn get_object_tagging_op(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> Answered<GetObjectTaggingOutput> {
        let input = request.input;
        let tags = self
            .0
            .object(&input.bucket, &input.key, input.version_id.as_deref(), |object| Ok(object.about.tags.clone()))?;
        ok(GetObjectTaggingOutput { tag_set: tags, version_id: input.version_id })
    }

    pub(super) async fn put_object_tagging_op(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> Answered<PutObjectTaggingOutput> {
        let mark = mark(&request);
        let input = request.input;
        self.0.object(&input.bucket, &input.key, input.version_id.as_deref(), |object| {
            if !mark.pretend {
                object.about.tags = input.tagging.tag_set;
            }
            Ok(())
        })?;
        ok(PutObjectTaggingOutput::default())
    }

    pub(super) async fn delete_object_tagging_op(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> Answered<DeleteObjectTaggingOutput> {
        let input = request.input;
        self.0.object(&input.bucket, &input.key, input.version_id.as_deref(), |object| {
            object.about.tags.clear();
            Ok(())
        })?;
        ok(DeleteObjectTaggingOutput::default())
    }
}
