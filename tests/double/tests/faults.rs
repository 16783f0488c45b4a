//! Rules: each act, seen by a client and by what is stored afterwards.

mod common;

use archiver_s3_double::{ACCESS_KEY, Act, Closing, Double, Flip, Options, Proxy, Rule, SECRET_KEY, sums};
use aws_sdk_s3::{
    Client,
    config::Credentials,
    primitives::ByteStream,
    types::{ChecksumMode, CompletedMultipartUpload, CompletedPart},
};
use common::{BUCKET, client, client_of, noise, put, refusal};
use std::time::{Duration, Instant};

async fn start() -> (Double, Client) {
    let double = Double::start(Options::default().small_parts()).await;
    let client = client(&double);
    (double, client)
}

async fn try_put(client: &Client, key: &str) -> (u16, String) {
    let sent = client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"bytes")).send().await;
    match sent {
        Ok(_) => (200, String::new()),
        Err(error) => refusal::<(), _>(Err(error)),
    }
}

/// An upload with one part, ready to be completed.
async fn begun(client: &Client, key: &str) -> (String, CompletedMultipartUpload) {
    let begun = client.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap();
    let id = begun.upload_id().unwrap().to_owned();
    let part = client.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(1);
    let part = part.body(ByteStream::from_static(b"part")).send().await.unwrap();
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    (id, CompletedMultipartUpload::builder().parts(part).build())
}

#[tokio::test]
async fn a_refusal_has_its_status_and_code_and_does_nothing() {
    let (double, client) = start().await;
    for (code, status) in [
        ("SlowDown", 503),
        ("InternalError", 500),
        ("TooManyRequests", 429),
        ("RequestTimeout", 400),
        ("AccessDenied", 403),
        ("ExpiredToken", 400),
        ("InvalidAccessKeyId", 403),
        ("SignatureDoesNotMatch", 403),
        ("RequestTimeTooSkewed", 403),
        ("NoSuchUpload", 404),
        ("NoSuchBucket", 404),
        ("ConditionalRequestConflict", 409),
    ] {
        double.script(Rule::new(Act::refuse(code)).on("PutObject").once());
        assert_eq!(try_put(&client, "k").await, (status, code.to_owned()));
    }
    double.script(Rule::new(Act::refuse_as(418, "Teapot")).once());
    assert_eq!(try_put(&client, "k").await, (418, "Teapot".into()));
    assert!(double.objects(BUCKET).is_empty());
    assert_eq!(try_put(&client, "k").await.0, 200, "every rule was for once");
    assert_eq!(double.log()[0].code.as_deref(), Some("SlowDown"));
}

#[tokio::test]
async fn a_refusal_comes_after_the_body_or_before_it() {
    let (double, client) = start().await;
    for early in [false, true] {
        double.clear_script();
        let act = Act::Refuse { code: "SlowDown".into(), status: None, headers: Default::default(), early };
        double.script(Rule::new(act));
        let sent = client.put_object().bucket(BUCKET).key("k").body(ByteStream::from(noise(8 << 20, 1))).send().await;
        // An early answer may be lost with the connection, as in real life.
        assert!(matches!(refusal(sent).0, 503) || early);
        let entry = double.log().pop().unwrap();
        assert_eq!((entry.status, entry.received), (Some(503), if early { 0 } else { 8 << 20 }));
    }
}

#[tokio::test]
async fn a_redirect_names_the_region() {
    let (double, client) = start().await;
    double.script(Rule::new(Act::redirect("eu-central-1")));
    let error = client.head_bucket().bucket(BUCKET).send().await.unwrap_err();
    let answer = error.raw_response().unwrap();
    assert_eq!(answer.status().as_u16(), 301);
    assert_eq!(answer.headers().get("x-amz-bucket-region"), Some("eu-central-1"));
}

#[tokio::test]
async fn rules_choose_by_operation_key_part_number_count_flag_and_chance() {
    let (double, client) = start().await;
    double.script(Rule::new(Act::refuse("SlowDown")).on("PutObject").key("red").named("red"));
    double.script(Rule::new(Act::refuse("InternalError")).on("PutObject").key("blue").nth(2));
    double.script(Rule::new(Act::refuse("AccessDenied")).while_flag("outage"));
    let mut seen = Vec::new();
    for key in ["a/red", "blue", "blue", "blue", "green"] {
        seen.push(try_put(&client, key).await.0);
    }
    assert_eq!(seen, [503, 200, 500, 200, 200]);
    assert_eq!(double.fired("red"), 1);
    assert_eq!(double.log()[0].rule.as_deref(), Some("red"));
    double.set_flag("outage", true);
    assert_eq!(try_put(&client, "green").await.0, 403);
    double.set_flag("outage", false);
    assert_eq!(try_put(&client, "green").await.0, 200);

    double.clear_script();
    double.script(Rule::new(Act::refuse("SlowDown")).on("UploadPart").part(2));
    let (id, _) = begun(&client, "k").await;
    let second = client.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(2);
    assert_eq!(refusal(second.body(ByteStream::from_static(b"x")).send().await).0, 503);

    let sequence = |seed| {
        let client = client.clone();
        let double = &double;
        async move {
            double.clear_script();
            double.script(Rule::new(Act::refuse("SlowDown")).chance(0.5, seed));
            let mut seen = Vec::new();
            for _ in 0..20 {
                seen.push(try_put(&client, "chance").await.0);
            }
            seen
        }
    };
    let first = sequence(1).await;
    assert_eq!(first, sequence(1).await, "the same seed");
    assert_ne!(first, sequence(2).await, "another seed");
    assert!(first.contains(&200) && first.contains(&503), "{first:?}");
}

#[tokio::test]
async fn done_and_told_otherwise_and_told_and_not_done() {
    let (double, client) = start().await;
    double.script(Rule::new(Act::do_and_fail("InternalError")).key("done"));
    assert_eq!(try_put(&client, "done").await, (500, "InternalError".into()));
    assert_eq!(double.object_bytes(BUCKET, "done").unwrap(), b"bytes");

    double.script(Rule::new(Act::Pretend).key("pretended"));
    assert_eq!(try_put(&client, "pretended").await.0, 200);
    assert!(double.object(BUCKET, "pretended").is_none());
    double.clear_script();

    // A part that was never kept shows only when all is put together.
    let (id, list) = begun(&client, "k").await;
    double.script(Rule::new(Act::Pretend).on("UploadPart"));
    let part = client.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(2);
    let part = part.body(ByteStream::from_static(b"x")).send().await.unwrap();
    let part = CompletedPart::builder().part_number(2).set_e_tag(part.e_tag).build();
    let list = CompletedMultipartUpload::builder().set_parts(list.parts).parts(part).build();
    let complete = client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).multipart_upload(list);
    assert_eq!(refusal(complete.send().await), (400, "InvalidPart".into()));
}

#[tokio::test]
async fn complete_may_answer_200_with_an_error_or_with_nothing() {
    let (double, client) = start().await;
    for done in [false, true] {
        double.clear_script();
        let (id, list) = begun(&client, "k").await;
        double.script(Rule::new(Act::ErrorIn200 { code: "InternalError".into(), done }).on("CompleteMultipartUpload"));
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id);
        // What the client makes of it is its own affair; what came is in the log.
        let _ = complete.multipart_upload(list).send().await;
        let entry = double.log().pop().unwrap();
        assert_eq!((entry.status, entry.code.as_deref()), (Some(200), Some("InternalError")));
        assert_eq!(double.object(BUCKET, "k").is_some(), done);
    }
    double.clear_script();
    let (id, list) = begun(&client, "empty").await;
    double.script(Rule::new(Act::EmptyBody).on("CompleteMultipartUpload"));
    let complete = client.complete_multipart_upload().bucket(BUCKET).key("empty").upload_id(&id);
    let told = complete.multipart_upload(list).send().await;
    assert!(told.as_ref().map_or(true, |told| told.e_tag().is_none()), "{told:?}");
    assert!(double.object(BUCKET, "empty").is_some());
}

#[tokio::test]
async fn connections_close_before_reading_after_reading_and_after_doing() {
    let (double, client) = start().await;
    // More than any buffer on the way takes.
    let large = noise(8 << 20, 1);
    for (when, read, stored) in [
        (Closing::BeforeReading, false, false),
        (Closing::AfterReading, true, false),
        (Closing::AfterDoing, true, true),
    ] {
        double.clear_script();
        double.script(Rule::new(Act::Close { when }));
        let sent = client.put_object().bucket(BUCKET).key("k").body(ByteStream::from(large.clone())).send().await;
        assert_eq!(refusal(sent).0, 0, "{when:?}: there was an answer");
        let entry = double.log().pop().unwrap();
        assert_eq!((entry.status, entry.received == large.len() as u64), (None, read), "{when:?}");
        assert_eq!(double.object(BUCKET, "k").is_some(), stored, "{when:?}");
    }
}

#[tokio::test]
async fn truncated_answers_are_shorter_than_announced() {
    let (double, client) = start().await;
    let bytes = noise(700_000, 1);
    put(&client, "k", &bytes).await;
    double.script(Rule::new(Act::Truncate { after: 300_000 }).on("GetObject"));
    let mut body = client.get_object().bucket(BUCKET).key("k").send().await.unwrap().body;
    let mut came = Vec::new();
    let end = loop {
        match body.next().await {
            Some(Ok(more)) => came.extend_from_slice(&more),
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(_))), "it ended well");
    assert!(came == bytes[..300_000], "{} bytes came", came.len());

    // The heads are alike, so that what differs is the body.
    let proxy = Proxy::start(double.address());
    let through = client_of(&proxy.endpoint(), Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"));
    let mut came = Vec::new();
    for after in [10, 60] {
        double.clear_script();
        double.script(Rule::new(Act::Truncate { after }).on("ListObjectsV2"));
        let before = proxy.passed().down;
        assert!(through.list_objects_v2().bucket(BUCKET).send().await.is_err(), "{after}");
        came.push(proxy.passed().down - before);
    }
    assert_eq!(came[1] - came[0], 50);
}

#[tokio::test]
async fn hanging_lasts_until_the_client_gives_up_and_delays_pass() {
    let (double, client) = start().await;
    double.script(Rule::new(Act::Hang { read: true }).key("hangs"));
    let hanging = tokio::time::timeout(Duration::from_millis(300), try_put(&client, "hangs")).await;
    assert!(hanging.is_err(), "it was answered");
    let entry = &double.log()[0];
    assert_eq!((entry.status, entry.received), (None, 5));

    double.script(Rule::new(Act::Hang { read: false }).key("deaf"));
    let sent = client.put_object().bucket(BUCKET).key("deaf").body(ByteStream::from(noise(8 << 20, 1))).send();
    assert!(tokio::time::timeout(Duration::from_millis(300), sent).await.is_err(), "it was answered");
    assert_eq!(double.log()[1].received, 0);

    let delay = Duration::from_millis(200);
    double.script(Rule::new(Act::Nothing).key("slow").delay(delay).delay_answer(delay));
    double.script(Rule::new(Act::refuse("SlowDown")).key("slow-and-refused"));
    for (key, status) in [("slow", 200), ("slow-and-refused", 503)] {
        let from = Instant::now();
        assert_eq!(try_put(&client, key).await.0, status);
        assert!(from.elapsed() >= delay * 2, "{key}: {:?}", from.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_lets_no_one_hang() {
    let (double, client) = start().await;
    double.script(Rule::new(Act::Hang { read: false }));
    let hanging = tokio::spawn(async move { try_put(&client, "k").await });
    while double.log().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(double);
    let ended = tokio::time::timeout(Duration::from_secs(5), hanging).await.expect("still hanging").unwrap();
    assert_eq!(ended.0, 0);
}

#[tokio::test]
async fn answers_may_tell_wrong_checksums_wrong_etags_and_none() {
    let (double, client) = start().await;
    let sum = sums::crc64(b"bytes");
    let send = || {
        let request = client.put_object().bucket(BUCKET).key("k").checksum_crc64_nvme(&sum);
        request.body(ByteStream::from_static(b"bytes")).send()
    };
    let honest = send().await.unwrap();
    assert_eq!(honest.checksum_crc64_nvme(), Some(sum.as_str()));

    double.script(Rule::new(Act::WrongChecksum).once());
    let wrong = send().await.unwrap();
    assert!(wrong.checksum_crc64_nvme().is_some_and(|told| told != sum), "{wrong:?}");
    assert_eq!(wrong.e_tag(), honest.e_tag());

    double.script(Rule::new(Act::WrongEtag).once());
    let wrong = send().await.unwrap();
    assert!(wrong.e_tag().is_some() && wrong.e_tag() != honest.e_tag(), "{wrong:?}");
    assert_eq!(wrong.checksum_crc64_nvme(), Some(sum.as_str()));

    double.script(Rule::new(Act::DropChecksums));
    assert_eq!(send().await.unwrap().checksum_crc64_nvme(), None);
    let head = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!((head.checksum_crc64_nvme(), head.content_length()), (None, Some(5)));
    let (id, list) = begun(&client, "parts").await;
    let complete = client.complete_multipart_upload().bucket(BUCKET).key("parts").upload_id(&id);
    let told = complete.multipart_upload(list).send().await.unwrap();
    assert_eq!(told.checksum_crc64_nvme(), None);
    assert!(told.e_tag().is_some());
    assert_eq!(double.object(BUCKET, "k").unwrap().crc64, sum, "stored all the same");
}

#[tokio::test]
async fn other_bytes_may_be_stored_or_sent_than_there_should_be() {
    let (double, client) = start().await;
    for (len, keep_checksum) in [(100, false), (100, true), (3 << 20, false), (3 << 20, true)] {
        double.clear_script();
        double.script(Rule::new(Act::Corrupt(Flip { at: 42, keep_checksum })));
        let bytes = noise(len, 7);
        let sum = sums::crc64(&bytes);
        let request = client.put_object().bucket(BUCKET).key("k").checksum_crc64_nvme(&sum);
        let told = request.body(ByteStream::from(bytes.clone())).send().await.unwrap();
        assert_eq!(told.checksum_crc64_nvme() == Some(sum.as_str()), keep_checksum, "{len}");
        let stored = double.object(BUCKET, "k").unwrap();
        let kept = stored.bytes();
        let differing: Vec<usize> = (0..len).filter(|at| kept[*at] != bytes[*at]).collect();
        assert_eq!(differing, [42], "{len}");
        assert_eq!(stored.crc64, sums::crc64(&kept), "what the test sees is the truth");
        let claimed = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await;
        assert_eq!(claimed.unwrap().checksum_crc64_nvme() == Some(sum.as_str()), keep_checksum, "{len}");
    }
    double.clear_script();
    put(&client, "k", b"honest bytes").await;
    double.script(Rule::new(Act::CorruptAnswer { at: 3 }).on("GetObject"));
    let got = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    let got = got.body.collect().await.unwrap().to_vec();
    assert_eq!((&got[..3], got[3], &got[4..]), (&b"hon"[..], !b'e', &b"st bytes"[..]));
    assert_eq!(double.object_bytes(BUCKET, "k").unwrap(), b"honest bytes");
}
