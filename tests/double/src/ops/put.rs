//! PutObject and CopyObject.

use super::{Answered, Operations, check_conditions, etag, knows_conditions, mark, ok, retention, tags, text};
use crate::{
    content::Content,
    receive::{Sent, receive},
    state::{About, Object, Reading},
    sums::{Algorithm, Sums, hex},
};
use s3s::{
    S3Request,
    dto::{CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, PutObjectInput, PutObjectOutput},
    s3_error,
};

impl Operations {
    pub(super) async fn put_object_op(&self, request: S3Request<PutObjectInput>) -> Answered<PutObjectOutput> {
        let mark = mark(&request);
        let input = request.input;
        let about = About {
            class: self.class(input.storage_class.as_ref())?,
            metadata: input.metadata.clone().unwrap_or_default(),
            content_type: input.content_type.clone(),
            tags: tags::from_header(input.tagging.as_deref()),
            retention: retention(
                input.object_lock_mode.as_ref().map(|mode| mode.as_str()),
                input.object_lock_retain_until_date.clone(),
            ),
        };
        let sent = Sent {
            sums: sums_of!(input),
            body: input.body,
            algorithm: input.checksum_algorithm.as_ref().and_then(|name| Algorithm::named(name.as_str())),
            md5: input.content_md5,
            length: input.content_length,
            trailers: request.trailing_headers,
        };
        let received = receive(&self.0, &mark, sent).await?;
        let persona = self.0.persona();
        let mut sums = received.sums;
        if sums.is_empty() && !persona.no_checksums {
            // Amazon adds one of its own. Of corrupted bytes it is the true one: it comes after the damage.
            sums = Sums::from([(Algorithm::Crc64Nvme, received.crc64.clone())]);
        }
        let object = Object {
            content: Content::new(vec![received.blob]),
            etag: hex(&received.md5),
            about,
            sums: sums.clone(),
            sum_type: (!persona.no_checksums).then(|| "FULL_OBJECT".to_owned()),
            crc64: received.crc64,
            is_marker: false,
            ..Object::marker(self.0.clock.now())
        };
        let tag = object.etag.clone();
        let version = self.0.bucket(&input.bucket, |bucket| {
            knows_conditions(&persona, input.if_none_match.as_ref())?;
            if !persona.no_conditions_on_put {
                let existing = bucket.current(&input.key);
                check_conditions(existing, input.if_none_match.as_ref(), input.if_match.as_ref())?;
            }
            Ok(if mark.pretend { None } else { bucket.store(&input.key, object, self.new_id()) })
        })?;
        let mut output = PutObjectOutput {
            e_tag: etag(&tag),
            server_side_encryption: text("AES256"),
            checksum_type: if sums.is_empty() { None } else { text("FULL_OBJECT") },
            version_id: version,
            ..Default::default()
        };
        show_sums!(output, &sums);
        ok(output)
    }

    pub(super) async fn copy_object_op(&self, request: S3Request<CopyObjectInput>) -> Answered<CopyObjectOutput> {
        let mark = mark(&request);
        let input = request.input;
        let CopySource::Bucket { bucket, key, version_id } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let now = self.0.clock.now();
        let mut copy = self.0.object(bucket, key, version_id.as_deref(), |object| Ok(object.clone()))?;
        if matches!(copy.reading(now), Reading::Frozen | Reading::Thawing) {
            return Err(s3_error!(InvalidObjectState, "Operation is not valid for the source object's storage class"));
        }
        copy.modified = now;
        copy.thawed = None;
        copy.about.class = self.class(input.storage_class.as_ref())?;
        if input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == "REPLACE") {
            copy.about.metadata = input.metadata.unwrap_or_default();
            copy.about.content_type = input.content_type;
        }
        let result =
            CopyObjectResult { e_tag: etag(&copy.etag), last_modified: Some(now.into()), ..Default::default() };
        let version = self.0.bucket(&input.bucket, |bucket| {
            Ok(if mark.pretend { None } else { bucket.store(&input.key, copy, self.new_id()) })
        })?;
        ok(CopyObjectOutput { copy_object_result: Some(result), version_id: version, ..Default::default() })
    }
}
