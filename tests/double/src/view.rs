//! What tests see of what the server knows.

use crate::{
    content::Content,
    state::{Bucket, Object, Upload},
    sums::Sums,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

/// An object, as it is stored.
#[derive(Clone, Debug)]
pub struct ObjectView {
    /// Its length.
    pub size: u64,
    /// Its storage class.
    pub class: String,
    /// The metadata of its user, without `x-amz-meta-`.
    pub metadata: HashMap<String, String>,
    /// Its type.
    pub content_type: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its ETag without quotes.
    pub etag: String,
    /// CRC64NVME of what is stored, in base64, whatever the server claims.
    pub crc64: String,
    /// The checksums that the server claims.
    pub sums: Sums,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub sum_type: Option<String>,
    /// The size of each part; none for an object that was put in one piece.
    pub parts: Vec<u64>,
    /// The id of the version, in a bucket that keeps versions.
    pub version: Option<String>,
    /// When it was stored, by the server's clock.
    pub modified: SystemTime,
    /// Its bytes.
    pub content: Content,
}

impl ObjectView {
    pub(crate) fn of(object: &Object) -> ObjectView {
        ObjectView {
            size: object.content.len(),
            class: object.about.class.clone(),
            metadata: object.about.metadata.clone(),
            content_type: object.about.content_type.clone().map(|kind| kind.to_string()),
            tags: object
                .about
                .tags
                .iter()
                .map(|tag| (tag.key.clone().unwrap_or_default(), tag.value.clone().unwrap_or_default()))
                .collect(),
            etag: object.etag.clone(),
            crc64: object.crc64.clone(),
            sums: object.sums.clone(),
            sum_type: object.sum_type.clone(),
            parts: object.parts.iter().map(|part| part.size).collect(),
            version: object.version.clone(),
            modified: object.modified,
            content: object.content.clone(),
        }
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If they cannot be read.
    pub fn bytes(&self) -> Vec<u8> {
        self.content.read().expect("bytes of the double's own files")
    }
}

/// An upload that is under way.
#[derive(Clone, Debug)]
pub struct UploadView {
    /// Its id.
    pub id: String,
    /// The key that it is for.
    pub key: String,
    /// The storage class that it is for.
    pub class: String,
    /// The metadata that it is for.
    pub metadata: HashMap<String, String>,
    /// The parts that are there, by number.
    pub parts: BTreeMap<i32, PartView>,
    /// When it began, by the server's clock.
    pub at: SystemTime,
}

/// A part of an upload that is under way.
#[derive(Clone, Debug)]
pub struct PartView {
    /// Its length.
    pub size: u64,
    /// Its ETag without quotes.
    pub etag: String,
    /// CRC64NVME of what is stored, in base64.
    pub crc64: String,
    /// The checksums that the server claims.
    pub sums: Sums,
}

impl UploadView {
    pub(crate) fn of(id: &str, upload: &Upload) -> UploadView {
        UploadView {
            id: id.to_owned(),
            key: upload.key.clone(),
            class: upload.about.class.clone(),
            metadata: upload.about.metadata.clone(),
            parts: upload
                .parts
                .iter()
                .map(|(number, part)| {
                    let view = PartView {
                        size: part.blob.len(),
                        etag: part.etag.clone(),
                        crc64: part.crc64.clone(),
                        sums: part.sums.clone(),
                    };
                    (*number, view)
                })
                .collect(),
            at: upload.at,
        }
    }
}

/// The current version of every key.
pub(crate) fn objects(bucket: &Bucket) -> BTreeMap<String, ObjectView> {
    let current = bucket.objects.keys().filter_map(|key| Some((key, bucket.current(key)?)));
    current.map(|(key, object)| (key.clone(), ObjectView::of(object))).collect()
}

/// The uploads that are under way, by key and in the order in which they began.
pub(crate) fn uploads(bucket: &Bucket) -> Vec<UploadView> {
    let mut all: Vec<UploadView> = bucket.uploads.iter().map(|(id, upload)| UploadView::of(id, upload)).collect();
    all.sort_by(|a, b| (&a.key, a.at, &a.id).cmp(&(&b.key, b.at, &b.id)));
    all
}
