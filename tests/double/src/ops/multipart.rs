//! Uploads in parts.

use super::{Answered, Operations, check_conditions, etag, knows_conditions, mark, ok, retention, tags, text};
use crate::{
    content::Content,
    options::CompletedAgain,
    receive::{Sent, receive},
    state::{About, Bucket, Completed, Object, Part, PartShape, Upload, no_such_upload},
    sums::{self, Algorithm, Sums, hex},
};
use s3s::{
    S3Request, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput,
        UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use std::{collections::BTreeMap, sync::atomic::Ordering};

const PARTS_MAX: i32 = 10_000;

/// The checksum of the whole is that of the bytes, or of the parts' checksums.
const FULL_OBJECT: &str = "FULL_OBJECT";
const COMPOSITE: &str = "COMPOSITE";

fn sum_type(algorithm: Algorithm, wanted: Option<&str>) -> S3Result<String> {
    let can_join = !matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256);
    let kind = wanted.unwrap_or(if algorithm == Algorithm::Crc64Nvme { FULL_OBJECT } else { COMPOSITE });
    let possible = match kind {
        FULL_OBJECT => can_join,
        COMPOSITE => algorithm != Algorithm::Crc64Nvme,
        _ => false,
    };
    if possible {
        return Ok(kind.to_owned());
    }
    Err(s3_error!(
        InvalidRequest,
        "The {kind} checksum type cannot be used with the {} checksum algorithm.",
        algorithm.name()
    ))
}

impl Operations {
    pub(super) async fn create_multipart_upload_op(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answered<CreateMultipartUploadOutput> {
        let mark = mark(&request);
        let input = request.input;
        let knows_sums = !self.0.persona().no_checksums;
        let algorithm = input.checksum_algorithm.as_ref().and_then(|name| Algorithm::named(name.as_str()));
        let algorithm = algorithm.filter(|_| knows_sums);
        let wanted = input.checksum_type.as_ref().map(|kind| kind.as_str());
        let upload = Upload {
            key: input.key.clone(),
            about: About {
                class: self.class(input.storage_class.as_ref())?,
                metadata: input.metadata.unwrap_or_default(),
                content_type: input.content_type,
                tags: tags::from_header(input.tagging.as_deref()),
                retention: retention(
                    input.object_lock_mode.as_ref().map(|mode| mode.as_str()),
                    input.object_lock_retain_until_date,
                ),
            },
            algorithm,
            sum_type: algorithm.map(|algorithm| sum_type(algorithm, wanted)).transpose()?,
            parts: BTreeMap::new(),
            at: self.0.clock.now(),
        };
        let id = self.new_id();
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            checksum_algorithm: input.checksum_algorithm.filter(|_| knows_sums),
            checksum_type: upload.sum_type.as_deref().and_then(text),
            key: Some(input.key),
            upload_id: Some(id.clone()),
            ..Default::default()
        };
        self.0.bucket(&input.bucket, |bucket| {
            if !mark.pretend {
                bucket.uploads.insert(id, upload);
            }
            Ok(())
        })?;
        ok(output)
    }

    pub(super) async fn upload_part_op(&self, request: S3Request<UploadPartInput>) -> Answered<UploadPartOutput> {
        let mark = mark(&request);
        let input = request.input;
        if !(1..=PARTS_MAX).contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
        }
        let (key, id) = (input.key.clone(), input.upload_id.clone());
        let algorithm = self.0.bucket(&input.bucket, |bucket| Ok(bucket.upload(&id, &key)?.algorithm))?;
        let sent = Sent {
            sums: sums_of!(input),
            body: input.body,
            algorithm,
            md5: input.content_md5,
            length: input.content_length,
            trailers: request.trailing_headers,
        };
        if let (Some(expected), Some(actual)) = (algorithm, sent.sums.keys().next())
            && !sent.sums.contains_key(&expected)
        {
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                expected.name().to_lowercase(),
                actual.name().to_lowercase()
            ));
        }
        let received = receive(&self.0, &mark, sent).await?;
        let tag = hex(&received.md5);
        let mut output =
            UploadPartOutput { e_tag: etag(&tag), server_side_encryption: text("AES256"), ..Default::default() };
        show_sums!(output, &received.sums);
        let part = Part {
            blob: received.blob,
            md5: received.md5,
            etag: tag,
            sums: received.sums,
            crc64: received.crc64,
            at: self.0.clock.now(),
        };
        self.0.bucket(&input.bucket, |bucket| {
            // It may have been aborted while the bytes came.
            let upload = bucket.uploads.get_mut(&id).ok_or_else(no_such_upload)?;
            if !mark.pretend {
                upload.parts.insert(input.part_number, part);
            }
            Ok(())
        })?;
        ok(output)
    }

    pub(super) async fn abort_multipart_upload_op(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answered<AbortMultipartUploadOutput> {
        let mark = mark(&request);
        let input = request.input;
        self.0.bucket(&input.bucket, |bucket| {
            bucket.upload(&input.upload_id, &input.key)?;
            if !mark.pretend {
                bucket.uploads.remove(&input.upload_id);
            }
            Ok(())
        })?;
        ok(AbortMultipartUploadOutput::default())
    }

    pub(super) async fn complete_multipart_upload_op(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answered<CompleteMultipartUploadOutput> {
        let mark = mark(&request);
        let input = request.input;
        let persona = self.0.persona();
        let done = self.0.bucket(&input.bucket, |bucket| {
            if let Some(done) = bucket.completed.get(&input.upload_id).filter(|done| done.key == input.key) {
                return match persona.completed_again {
                    CompletedAgain::NoSuchUpload => Err(no_such_upload()),
                    CompletedAgain::PreconditionFailed if input.if_none_match.is_some() => {
                        Err(s3_error!(PreconditionFailed))
                    }
                    _ => Ok(done.clone()),
                };
            }
            let upload = bucket.upload(&input.upload_id, &input.key)?;
            knows_conditions(&persona, input.if_none_match.as_ref())?;
            if !persona.no_conditions_on_complete {
                let existing = bucket.current(&input.key);
                check_conditions(existing, input.if_none_match.as_ref(), input.if_match.as_ref())?;
            }
            let object = self.whole(upload, &input, persona.no_checksums)?;
            let done = Completed {
                key: input.key.clone(),
                etag: object.etag.clone(),
                sums: object.sums.clone(),
                sum_type: object.sum_type.clone(),
                version: None,
            };
            if mark.pretend { Ok(done) } else { Ok(finish(bucket, &input, object, done, self.new_id())) }
        })?;
        let mut output = CompleteMultipartUploadOutput {
            checksum_type: done.sum_type.as_deref().and_then(text),
            e_tag: if persona.no_etag_on_complete { None } else { etag(&done.etag) },
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            version_id: done.version,
            ..Default::default()
        };
        show_sums!(output, &done.sums);
        ok(output)
    }

    /// The object that the parts make, if everything is as the request says.
    fn whole(&self, upload: &Upload, input: &CompleteMultipartUploadInput, no_sums: bool) -> S3Result<Object> {
        let listed = input.multipart_upload.as_ref().and_then(|list| list.parts.as_deref()).unwrap_or_default();
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        let parts = chosen(upload, listed, no_sums)?;
        let smallest = self.0.min_part_size.load(Ordering::Relaxed);
        if parts[..parts.len() - 1].iter().any(|(_, part)| part.blob.len() < smallest) {
            return Err(s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size"));
        }
        let content = Content::new(parts.iter().map(|(_, part)| part.blob.clone()).collect());
        if input.mpu_object_size.is_some_and(|size| size as u64 != content.len()) {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match what was computed."
            ));
        }
        let stored: Vec<(String, u64)> = parts.iter().map(|(_, part)| (part.crc64.clone(), part.blob.len())).collect();
        let crc64 = sums::join(Algorithm::Crc64Nvme, &stored).unwrap_or_default();
        let (sums, kind) = if no_sums { (Sums::new(), None) } else { whole_sums(upload, &parts, &sums_of!(input))? };
        let tags: Vec<u8> = parts.iter().flat_map(|(_, part)| part.md5).collect();
        Ok(Object {
            is_marker: false,
            content,
            etag: format!("{}-{}", hex(&sums::md5(&tags)), parts.len()),
            about: upload.about.clone(),
            sums,
            sum_type: kind,
            crc64,
            parts: parts
                .iter()
                .map(|(number, part)| PartShape { number: *number, size: part.blob.len(), sums: part.sums.clone() })
                .collect(),
            ..Object::marker(self.0.clock.now())
        })
    }
}

fn finish(
    bucket: &mut Bucket,
    input: &CompleteMultipartUploadInput,
    object: Object,
    mut done: Completed,
    version: String,
) -> Completed {
    bucket.uploads.remove(&input.upload_id);
    done.version = bucket.store(&input.key, object, version);
    bucket.completed.insert(input.upload_id.clone(), done.clone());
    done
}

/// The parts that the request names, each as it says.
fn chosen<'a>(upload: &'a Upload, listed: &[CompletedPart], no_sums: bool) -> S3Result<Vec<(i32, &'a Part)>> {
    let invalid = || {
        s3_error!(
            InvalidPart,
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
        )
    };
    let mut parts: Vec<(i32, &Part)> = Vec::with_capacity(listed.len());
    for named in listed {
        let number = named.part_number.unwrap_or(0);
        if parts.last().is_some_and(|(previous, _)| number <= *previous) {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        let part = upload.parts.get(&number).ok_or_else(invalid)?;
        if named.e_tag.as_ref().is_none_or(|tag| tag.value() != part.etag) {
            return Err(invalid());
        }
        let differs =
            sums_of!(named).iter().any(|(algorithm, sum)| part.sums.get(algorithm).is_some_and(|kept| kept != sum));
        if differs && !no_sums {
            return Err(invalid());
        }
        parts.push((number, part));
    }
    Ok(parts)
}

/// The checksum of the whole, compared with the one that the request names.
fn whole_sums(upload: &Upload, parts: &[(i32, &Part)], named: &Sums) -> S3Result<(Sums, Option<String>)> {
    // Without an algorithm Amazon computes its own over the whole.
    let algorithm = upload.algorithm.unwrap_or(Algorithm::Crc64Nvme);
    let kind = upload.sum_type.clone().unwrap_or_else(|| FULL_OBJECT.to_owned());
    let of = |part: &Part| match upload.algorithm {
        Some(algorithm) => part.sums.get(&algorithm).cloned().unwrap_or_default(),
        None => part.crc64.clone(),
    };
    let all: Vec<(String, u64)> = parts.iter().map(|(_, part)| (of(part), part.blob.len())).collect();
    let whole = if kind == COMPOSITE { sums::composite(algorithm, &all) } else { sums::join(algorithm, &all) };
    let whole = whole.ok_or_else(|| s3_error!(InvalidRequest, "The parts' checksums cannot be joined"))?;
    if let Some((other, _)) = named.iter().find(|(other, sum)| **other != algorithm || **sum != whole) {
        return Err(s3_error!(
            BadDigest,
            "The {} you specified did not match the calculated checksum.",
            other.name().to_lowercase()
        ));
    }
    Ok((Sums::from([(algorithm, whole)]), Some(kind)))
}
