//! Takes in the body of PutObject and UploadPart, and compares it with every checksum that came along.

use crate::{
    content::{Blob, BlobWriter},
    front::Mark,
    state::Shared,
    sums::{Algorithm, Digests, Hasher, Sums},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use futures::StreamExt;
use s3s::{S3Error, S3Result, TrailingHeaders, dto::StreamingBlob, s3_error};

/// A body and what is said about it.
pub(crate) struct Sent {
    pub body: Option<StreamingBlob>,
    /// From headers.
    pub sums: Sums,
    /// The algorithm that was named; its checksum is computed even if none was sent.
    pub algorithm: Option<Algorithm>,
    pub md5: Option<String>,
    pub length: Option<i64>,
    pub trailers: Option<TrailingHeaders>,
}

/// What is stored, and what the server will say of it.
pub(crate) struct Received {
    pub blob: Blob,
    pub md5: [u8; 16],
    pub sums: Sums,
    /// CRC64NVME of the bytes that are stored.
    pub crc64: String,
}

pub(crate) async fn receive(shared: &Shared, mark: &Mark, mut sent: Sent) -> S3Result<Received> {
    let ignores_sums = shared.persona().no_checksums;
    // A trailer's algorithm is known only at the end: all are computed then.
    let algorithms: Vec<Algorithm> = Algorithm::ALL
        .into_iter()
        .filter(|one| sent.sums.contains_key(one) || sent.algorithm == Some(*one) || sent.trailers.is_some())
        .collect();
    let mut writer = BlobWriter::new(&shared.place);
    let mut hasher = Hasher::new(algorithms);
    let mut length = 0;
    if let Some(mut body) = sent.body.take() {
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| broken(&error.to_string()))?;
            hasher.update(&bytes);
            writer.push(&bytes).map_err(S3Error::internal_error)?;
            length += bytes.len() as i64;
        }
    }
    if sent.length.is_some_and(|announced| announced != length) {
        return Err(s3_error!(
            IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        ));
    }
    let mut found = hasher.finish();
    take_trailers(&mut sent);
    if ignores_sums {
        sent.sums.clear();
        sent.algorithm = None;
    }
    compare(&sent, &found)?;
    let mut sums = kept(&sent, &found);
    let blob = writer.finish(mark.flip.map(|flip| flip.at)).map_err(S3Error::internal_error)?;
    let mut crc64 = found.sums.get(&Algorithm::Crc64Nvme).cloned().unwrap_or_default();
    if let Some(flip) = mark.flip {
        let stored = reread(&blob)?;
        crc64 = stored.sums.get(&Algorithm::Crc64Nvme).cloned().unwrap_or_default();
        if !flip.keep_checksum {
            sums = sums.keys().filter_map(|one| Some((*one, stored.sums.get(one)?.clone()))).collect();
            found = stored;
        }
    }
    Ok(Received { blob, md5: found.md5, sums, crc64 })
}

fn broken(error: &str) -> S3Error {
    if error.to_lowercase().contains("checksum") || error.contains("igest") || error.contains("ash") {
        s3_error!(BadDigest, "{error}")
    } else {
        s3_error!(IncompleteBody, "{error}")
    }
}

fn take_trailers(sent: &mut Sent) {
    let Some(trailers) = sent.trailers.take().and_then(|trailers| trailers.take()) else { return };
    for algorithm in Algorithm::ALL {
        if let Some(sum) = trailers.get(algorithm.header()).and_then(|sum| sum.to_str().ok()) {
            sent.sums.insert(algorithm, sum.to_owned());
        }
    }
}

fn compare(sent: &Sent, found: &Digests) -> S3Result<()> {
    for (algorithm, sum) in &sent.sums {
        if found.sums.get(algorithm) != Some(sum) {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            ));
        }
    }
    if sent.md5.as_ref().is_some_and(|md5| *md5 != BASE64.encode(found.md5)) {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
    }
    Ok(())
}

/// Only what the client named is kept; what else was computed on the way was for comparing.
fn kept(sent: &Sent, found: &Digests) -> Sums {
    found
        .sums
        .iter()
        .filter(|(algorithm, _)| sent.sums.contains_key(algorithm) || sent.algorithm == Some(**algorithm))
        .map(|(algorithm, sum)| (*algorithm, sum.clone()))
        .collect()
}

fn reread(blob: &Blob) -> S3Result<Digests> {
    const STEP: u64 = 1024 * 1024;
    let mut hasher = Hasher::new(Algorithm::ALL);
    let mut at = 0;
    while at < blob.len() {
        let end = (at + STEP).min(blob.len());
        hasher.update(&blob.read(at..end).map_err(S3Error::internal_error)?);
        at = end;
    }
    Ok(hasher.finish())
}
