//! An upload from beginning to end, as an honest server does it.

mod common;

use archiver_s3_double::{Double, Options, sums};
use aws_sdk_s3::{
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, StorageClass},
};
use common::{BUCKET, client, noise, put, refusal};

#[tokio::test]
async fn an_upload_in_parts_with_checksums_is_stored_as_it_was_sent() {
    let double = Double::start(Options::default().small_parts()).await;
    let client = client(&double);
    // One part in memory, one in a file.
    let parts = [noise(3 << 20, 1), noise(1000, 2)];
    let begun = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("a/b c")
        .storage_class(StorageClass::DeepArchive)
        .metadata("origin", "test")
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject)
        .send()
        .await
        .unwrap();
    let id = begun.upload_id().unwrap();
    let mut list = CompletedMultipartUpload::builder();
    for (number, bytes) in (1..).zip(&parts) {
        let sum = sums::crc64(bytes);
        let sent = client.upload_part().bucket(BUCKET).key("a/b c").upload_id(id).part_number(number);
        let sent = sent.checksum_crc64_nvme(&sum).body(ByteStream::from(bytes.clone())).send().await.unwrap();
        assert_eq!(sent.checksum_crc64_nvme(), Some(sum.as_str()));
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).checksum_crc64_nvme(sum);
        list = list.parts(part.build());
    }
    let upload = &double.uploads(BUCKET)[0];
    assert_eq!((upload.id.as_str(), upload.class.as_str(), upload.parts.len()), (id, "DEEP_ARCHIVE", 2));
    let listed = client.list_parts().bucket(BUCKET).key("a/b c").upload_id(id).send().await.unwrap();
    assert_eq!(listed.parts()[1].checksum_crc64_nvme(), Some(sums::crc64(&parts[1]).as_str()));

    let whole = parts.concat();
    let complete = |sum: String, size: i64| {
        let request = client.complete_multipart_upload().bucket(BUCKET).key("a/b c").upload_id(id);
        let request = request.checksum_type(ChecksumType::FullObject).checksum_crc64_nvme(sum).mpu_object_size(size);
        request.multipart_upload(list.clone().build()).if_none_match("*").send()
    };
    let size = whole.len() as i64;
    assert_eq!(refusal(complete(sums::crc64(b"other"), size).await), (400, "BadDigest".into()));
    assert_eq!(refusal(complete(sums::crc64(&whole), size + 1).await), (400, "InvalidRequest".into()));
    let done = complete(sums::crc64(&whole), size).await.unwrap();
    assert_eq!(done.checksum_crc64_nvme(), Some(sums::crc64(&whole).as_str()));
    assert!(done.e_tag().unwrap().ends_with("-2\""));

    let object = double.object(BUCKET, "a/b c").unwrap();
    assert_eq!((object.size, object.class.as_str()), (whole.len() as u64, "DEEP_ARCHIVE"));
    assert_eq!(object.metadata["origin"], "test");
    assert_eq!(object.crc64, sums::crc64(&whole));
    assert!(object.bytes() == whole, "the bytes differ");
    assert!(double.uploads(BUCKET).is_empty());
    let head = client.head_object().bucket(BUCKET).key("a/b c").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.checksum_crc64_nvme(), Some(sums::crc64(&whole).as_str()));
    assert_eq!(head.storage_class(), Some(&StorageClass::DeepArchive));
    // Asked again, as after a lost answer.
    assert_eq!(complete(sums::crc64(&whole), size).await.unwrap().e_tag(), done.e_tag());
}

#[tokio::test]
async fn the_log_tells_what_was_asked() {
    let double = Double::start(Options::default()).await;
    let client = client(&double);
    put(&client, "k", b"four").await;
    let _ = client.head_object().bucket(BUCKET).key("none").send().await;
    let again = client.put_object().bucket(BUCKET).key("k").if_none_match("*").body(ByteStream::from_static(b"12"));
    let again = again.storage_class(StorageClass::GlacierIr).send().await;
    assert_eq!(refusal(again), (412, "PreconditionFailed".into()));

    let log = double.log();
    let told: Vec<_> = log.iter().map(|entry| (entry.operation.as_str(), entry.status, entry.received)).collect();
    assert_eq!(told, [("PutObject", Some(200), 4), ("HeadObject", Some(404), 0), ("PutObject", Some(412), 2)]);
    assert_eq!(log[2].if_none_match.as_deref(), Some("*"));
    assert_eq!(log[2].storage_class.as_deref(), Some("GLACIER_IR"));
    assert_eq!(log[2].code.as_deref(), Some("PreconditionFailed"));
    assert_eq!(log[2].content_length, Some(2));
    assert!(log.iter().all(|entry| entry.took.is_some()));
    assert_eq!((double.requests("PutObject"), double.bytes_received()), (2, 6));
    assert_eq!(double.object_bytes(BUCKET, "k").unwrap(), b"four");
}

#[tokio::test]
async fn parts_have_a_smallest_size_unless_it_is_turned_off() {
    let double = Double::start(Options::default()).await;
    let client = client(&double);
    let begun = client.create_multipart_upload().bucket(BUCKET).key("k").send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let mut list = CompletedMultipartUpload::builder();
    for number in 1..=2 {
        let sent = client.upload_part().bucket(BUCKET).key("k").upload_id(id).part_number(number);
        let sent = sent.body(ByteStream::from_static(b"small")).send().await.unwrap();
        list = list.parts(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
    }
    let complete = || {
        let request = client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(id);
        request.multipart_upload(list.clone().build()).send()
    };
    assert_eq!(refusal(complete().await), (400, "EntityTooSmall".into()));
    double.set_min_part_size(0);
    complete().await.unwrap();
    assert_eq!(double.object_bytes(BUCKET, "k").unwrap(), b"smallsmall");
}

#[test]
fn a_server_starts_and_stops_without_anyones_runtime() {
    let address = {
        let double = Double::spawn(Options::default().buckets(&["one", "two"]));
        assert!(double.objects("two").is_empty());
        double.address()
    };
    let gone = std::net::TcpStream::connect(address);
    assert!(gone.is_err(), "it still listens");
}
