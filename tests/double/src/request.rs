//! What a request asks for, told from its first lines: rules must be able to answer before anything else is looked at.

use crate::log::Entry;
use http::{HeaderMap, Method, request::Parts};

/// A request before its signature is checked and its body read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub operation: &'static str,
    pub bucket: Option<String>,
    pub key: Option<String>,
    pub part: Option<i32>,
    pub upload: Option<String>,
    pub access_key: Option<String>,
    pub token: Option<String>,
    /// The date that was signed, `20261121T153448Z`, in a header; presigned requests have their own rules.
    pub date: Option<String>,
    pub has_trailer: bool,
    /// Whether anything may be another afterwards.
    pub changes: bool,
    pub content_length: Option<u64>,
}

impl Asked {
    pub fn of(parts: &Parts) -> Asked {
        let query = Query::of(parts.uri.query().unwrap_or_default());
        let path = decode(parts.uri.path().trim_start_matches('/'));
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let headers = &parts.headers;
        let copies = headers.contains_key("x-amz-copy-source");
        Asked {
            operation: operation(&parts.method, !bucket.is_empty(), !key.is_empty(), &query, copies),
            bucket: some(bucket),
            key: some(key),
            part: query.get("partNumber").and_then(|number| number.parse().ok()),
            upload: query.get("uploadId").map(str::to_owned),
            access_key: access_key(headers, &query),
            token: header(headers, "x-amz-security-token").or_else(|| query.owned("X-Amz-Security-Token")),
            date: header(headers, "authorization").and_then(|_| header(headers, "x-amz-date")),
            has_trailer: headers.contains_key("x-amz-trailer"),
            changes: parts.method != Method::GET && parts.method != Method::HEAD,
            content_length: header(headers, "content-length").and_then(|length| length.parse().ok()),
        }
    }

    pub fn entry(&self, headers: &HeaderMap) -> Entry {
        let checksums = headers
            .iter()
            .filter(|(name, _)| {
                name.as_str().starts_with("x-amz-checksum-")
                    || ["x-amz-sdk-checksum-algorithm", "x-amz-trailer", "x-amz-mp-object-size"]
                        .contains(&name.as_str())
            })
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        Entry {
            operation: self.operation.to_owned(),
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            part: self.part,
            upload: self.upload.clone(),
            access_key: self.access_key.clone(),
            content_length: self.content_length,
            if_none_match: header(headers, "if-none-match"),
            storage_class: header(headers, "x-amz-storage-class"),
            checksums,
            ..Entry::default()
        }
    }
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// `AWS4-HMAC-SHA256 Credential=AKID/20261121/us-east-1/s3/aws4_request, …`, or the same in the query.
fn access_key(headers: &HeaderMap, query: &Query) -> Option<String> {
    let credential = match header(headers, "authorization") {
        Some(line) => line.split_once("Credential=")?.1.to_owned(),
        None => query.owned("X-Amz-Credential")?,
    };
    Some(credential.split('/').next()?.to_owned())
}

fn operation(method: &Method, bucket: bool, key: bool, query: &Query, copies: bool) -> &'static str {
    let table = match (bucket, key) {
        (false, _) if method == Method::GET => return "ListBuckets",
        (false, _) => return "Unknown",
        (true, false) => OF_BUCKETS,
        (true, true) if copies => OF_COPIES,
        (true, true) => OF_OBJECTS,
    };
    table
        .iter()
        .find(|(of, words, _)| *of == method.as_str() && words.iter().all(|word| query.get(word).is_some()))
        .map_or("Unknown", |(_, _, name)| name)
}

/// Method, what the query must have, name. The first that fits.
type Table = &'static [(&'static str, &'static [&'static str], &'static str)];

const OF_BUCKETS: Table = &[
    ("GET", &["uploads"], "ListMultipartUploads"),
    ("GET", &["versions"], "ListObjectVersions"),
    ("GET", &["versioning"], "GetBucketVersioning"),
    ("GET", &["lifecycle"], "GetBucketLifecycleConfiguration"),
    ("GET", &["object-lock"], "GetObjectLockConfiguration"),
    ("GET", &["location"], "GetBucketLocation"),
    ("GET", &["policy"], "GetBucketPolicy"),
    ("GET", &["encryption"], "GetBucketEncryption"),
    ("GET", &["list-type"], "ListObjectsV2"),
    ("GET", &[], "ListObjects"),
    ("PUT", &["versioning"], "PutBucketVersioning"),
    ("PUT", &["lifecycle"], "PutBucketLifecycleConfiguration"),
    ("PUT", &["encryption"], "PutBucketEncryption"),
    ("PUT", &["object-lock"], "PutObjectLockConfiguration"),
    ("PUT", &[], "CreateBucket"),
    ("HEAD", &[], "HeadBucket"),
    ("DELETE", &["lifecycle"], "DeleteBucketLifecycle"),
    ("DELETE", &[], "DeleteBucket"),
    ("POST", &["delete"], "DeleteObjects"),
];

const OF_OBJECTS: Table = &[
    ("GET", &["uploadId"], "ListParts"),
    ("GET", &["attributes"], "GetObjectAttributes"),
    ("GET", &["tagging"], "GetObjectTagging"),
    ("GET", &["retention"], "GetObjectRetention"),
    ("GET", &[], "GetObject"),
    ("HEAD", &[], "HeadObject"),
    ("PUT", &["uploadId"], "UploadPart"),
    ("PUT", &["tagging"], "PutObjectTagging"),
    ("PUT", &["retention"], "PutObjectRetention"),
    ("PUT", &[], "PutObject"),
    ("POST", &["uploads"], "CreateMultipartUpload"),
    ("POST", &["uploadId"], "CompleteMultipartUpload"),
    ("POST", &["restore"], "RestoreObject"),
    ("DELETE", &["uploadId"], "AbortMultipartUpload"),
    ("DELETE", &["tagging"], "DeleteObjectTagging"),
    ("DELETE", &[], "DeleteObject"),
];

const OF_COPIES: Table = &[("PUT", &["uploadId"], "UploadPartCopy"), ("PUT", &[], "CopyObject")];

/// The pairs of a query, decoded.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub fn of(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }
}

/// Undoes `%41`. What is malformed stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, uri: &str) -> Asked {
        Asked::of(&http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn operations_are_told_from_the_first_line() {
        for (method, uri, name) in [
            ("PUT", "/b/k?partNumber=3&uploadId=u", "UploadPart"),
            ("PUT", "/b/k", "PutObject"),
            ("POST", "/b/k?uploads=", "CreateMultipartUpload"),
            ("POST", "/b/k?uploads", "CreateMultipartUpload"),
            ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
            ("POST", "/b/k?restore", "RestoreObject"),
            ("GET", "/b/k?max-parts=2&uploadId=u", "ListParts"),
            ("GET", "/b/?list-type=2&prefix=x", "ListObjectsV2"),
            ("GET", "/b?uploads", "ListMultipartUploads"),
            ("GET", "/", "ListBuckets"),
            ("HEAD", "/b", "HeadBucket"),
            ("DELETE", "/b/k?uploadId=u", "AbortMultipartUpload"),
            ("PATCH", "/b/k", "Unknown"),
        ] {
            assert_eq!(asked(method, uri).operation, name, "{method} {uri}");
        }
    }

    #[test]
    fn keys_are_decoded() {
        let asked = asked("PUT", "/b/a%20b/%C3%A4%2B%zz?partNumber=7&uploadId=x%2Fy");
        assert_eq!(asked.key.as_deref(), Some("a b/ä+%zz"));
        assert_eq!((asked.part, asked.upload.as_deref()), (Some(7), Some("x/y")));
    }
}
