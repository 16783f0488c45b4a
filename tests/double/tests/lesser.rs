//! Personas: servers that lack something, permissions that are taken away, and keys that are no longer valid.

mod common;

use archiver_s3_double::{ACCESS_KEY, CompletedAgain, Double, Key, Options, Persona, SECRET_KEY, sums};
use aws_sdk_s3::{
    Client,
    config::{Credentials, RequestChecksumCalculation},
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, StorageClass},
};
use common::{BUCKET, client, client_of, put, refusal};

async fn as_persona(persona: Persona) -> (Double, Client) {
    let double = Double::start(Options::default().small_parts().persona(persona)).await;
    let client = client(&double);
    (double, client)
}

/// An upload of one part with its checksum, up to the answer to Complete.
async fn upload(client: &Client, sum: &str, if_none_match: Option<&str>) -> Result<Uploaded, (u16, String)> {
    let begun = client.create_multipart_upload().bucket(BUCKET).key("k");
    let begun = begun.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).send().await.unwrap();
    let id = begun.upload_id().unwrap().to_owned();
    let part = client.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(1).checksum_crc64_nvme(sum);
    let part = match part.body(ByteStream::from_static(b"part")).send().await {
        Ok(part) => part,
        Err(error) => return Err(refusal::<(), _>(Err(error))),
    };
    let told = part.checksum_crc64_nvme().map(str::to_owned);
    let listed = client.list_parts().bucket(BUCKET).key("k").upload_id(&id).send().await.unwrap();
    let listed = listed.parts()[0].checksum_crc64_nvme().map(str::to_owned);
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    let list = CompletedMultipartUpload::builder().parts(part).build();
    let complete = || {
        let request = client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id);
        request.multipart_upload(list.clone()).set_if_none_match(if_none_match.map(str::to_owned)).send()
    };
    let done = complete().await.map_err(|error| refusal::<(), _>(Err(error)))?;
    let again = complete().await.map(|_| 200).unwrap_or_else(|error| refusal::<(), _>(Err(error)).0);
    Ok(Uploaded { part: told, listed, whole: done.checksum_crc64_nvme, etag: done.e_tag, again })
}

#[derive(Debug, PartialEq)]
struct Uploaded {
    part: Option<String>,
    listed: Option<String>,
    whole: Option<String>,
    etag: Option<String>,
    again: u16,
}

#[tokio::test]
async fn without_checksums_nothing_is_compared_and_nothing_told() {
    let (_double, client) = as_persona(Persona { no_checksums: true, ..Persona::default() }).await;
    let told = upload(&client, &sums::crc64(b"something else"), None).await.unwrap();
    assert_eq!((told.part, told.listed, told.whole), (None, None, None));
    assert!(told.etag.is_some());
    let head = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(head.checksum_crc64_nvme(), None);

    let (_double, client) = as_persona(Persona::default()).await;
    let refused = upload(&client, &sums::crc64(b"something else"), None).await;
    assert_eq!(refused, Err((400, "BadDigest".into())));
    let sum = sums::crc64(b"part");
    let told = upload(&client, &sum, None).await.unwrap();
    assert_eq!((told.part.as_ref(), told.listed.as_ref(), told.whole.as_ref()), (Some(&sum), Some(&sum), Some(&sum)));
}

#[tokio::test]
async fn conditions_may_be_ignored() {
    let sum = sums::crc64(b"part");
    let (double, client) = as_persona(Persona::default()).await;
    put(&client, "k", b"first").await;
    assert_eq!(upload(&client, &sum, Some("*")).await, Err((412, "PreconditionFailed".into())));

    double.set_persona(Persona { no_conditions_on_complete: true, ..Persona::default() });
    upload(&client, &sum, Some("*")).await.unwrap();
    let again = || {
        let request = client.put_object().bucket(BUCKET).key("k").if_none_match("*");
        request.body(ByteStream::from_static(b"again")).send()
    };
    assert_eq!(refusal(again().await).0, 412);
    double.set_persona(Persona::garage());
    again().await.unwrap();
    assert_eq!(double.object_bytes(BUCKET, "k").unwrap(), b"again");
}

#[tokio::test]
async fn storage_classes_may_be_ignored_or_refused() {
    let deep = |client: &Client| {
        let request = client.put_object().bucket(BUCKET).key("k").storage_class(StorageClass::DeepArchive);
        request.body(ByteStream::from_static(b"x")).send()
    };
    let (_double, client) = as_persona(Persona { no_storage_classes: true, ..Persona::default() }).await;
    deep(&client).await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.storage_class(), None, "STANDARD is not mentioned");

    let refused = Persona { rejects_storage_class: vec!["DEEP_ARCHIVE".into()], ..Persona::default() };
    let (double, client) = as_persona(refused).await;
    assert_eq!(refusal(deep(&client).await), (400, "InvalidStorageClass".into()));
    assert!(double.objects(BUCKET).is_empty());
    put(&client, "k", b"x").await;
}

#[tokio::test]
async fn a_second_complete_gets_what_the_server_is_told_to_give() {
    let sum = sums::crc64(b"part");
    for (completed_again, condition, status) in [
        (CompletedAgain::SameAnswer, Some("*"), 200),
        (CompletedAgain::NoSuchUpload, Some("*"), 404),
        (CompletedAgain::PreconditionFailed, Some("*"), 412),
        (CompletedAgain::PreconditionFailed, None, 200),
    ] {
        let (_double, client) = as_persona(Persona { completed_again, ..Persona::default() }).await;
        let told = upload(&client, &sum, condition).await.unwrap();
        assert_eq!(told.again, status, "{completed_again:?} {condition:?}");
    }
}

#[tokio::test]
async fn trailers_may_be_refused_and_etags_missing() {
    let (double, client) = as_persona(Persona::ceph16()).await;
    // By its own default the client adds a checksum in a trailer to a body that it has not read yet.
    let config = client.config().to_builder().request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
    let with_trailers = Client::from_conf(config.build());
    let path = std::env::temp_dir().join(format!("s3-double-trailer-{}", std::process::id()));
    std::fs::write(&path, b"from a file").unwrap();
    let send = || async {
        let body = ByteStream::from_path(&path).await.unwrap();
        with_trailers.put_object().bucket(BUCKET).key("k").body(body).send().await
    };
    let refused = refusal(send().await);
    double.set_persona(Persona::default());
    let kept = send().await;
    double.set_persona(Persona::ceph16());
    std::fs::remove_file(&path).unwrap();
    assert!(double.log()[1].checksums.contains_key("x-amz-trailer"), "{:?}", double.log());
    assert!(kept.unwrap().checksum_crc32().is_some());
    assert_eq!(refused, (400, "XAmzContentSHA256Mismatch".into()));
    assert_eq!(upload(&client, &sums::crc64(b"part"), None).await.unwrap().etag, None);
}

#[tokio::test]
async fn permissions_are_taken_away_one_at_a_time() {
    let (double, client) = as_persona(Persona::default()).await;
    double.deny("PutObject");
    let sent = client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x")).send().await;
    assert_eq!(refusal(sent), (403, "AccessDenied".into()));
    client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    double.allow("PutObject");
    put(&client, "k", b"x").await;
}

#[tokio::test]
async fn keys_are_added_revoked_and_expire() {
    let double = Double::start(Options::default().key(Key::with_token("AKIDTEMPORARY", "secret", "token-1"))).await;
    let with = |access: &str, secret: &str, token: Option<&str>| {
        client_of(&double.endpoint(), Credentials::new(access, secret, token.map(str::to_owned), None, "test"))
    };
    let lasting = with(ACCESS_KEY, SECRET_KEY, None);
    let temporary = with("AKIDTEMPORARY", "secret", Some("token-1"));
    put(&lasting, "a", b"x").await;
    put(&temporary, "b", b"x").await;
    let list = |client: Client| async move { refusal(client.list_objects_v2().bucket(BUCKET).send().await) };
    let wrong = list(with(ACCESS_KEY, "not the secret", None)).await;
    assert_eq!(wrong, (403, "SignatureDoesNotMatch".into()));
    assert_eq!(list(with("AKIDNOBODY", "x", None)).await, (403, "InvalidAccessKeyId".into()));
    assert_eq!(list(with("AKIDTEMPORARY", "secret", Some("token-0"))).await, (400, "InvalidToken".into()));

    double.expire_token("token-1");
    assert_eq!(list(temporary.clone()).await, (400, "ExpiredToken".into()));
    double.add_key(Key::with_token("AKIDTEMPORARY", "secret", "token-2"));
    put(&with("AKIDTEMPORARY", "secret", Some("token-2")), "c", b"x").await;
    double.revoke_key(ACCESS_KEY);
    assert_eq!(list(lasting.clone()).await, (403, "InvalidAccessKeyId".into()));
    double.add_key(Key::new(ACCESS_KEY, SECRET_KEY));
    put(&lasting, "d", b"x").await;
    assert_eq!(double.log()[0].access_key.as_deref(), Some(ACCESS_KEY));
}
