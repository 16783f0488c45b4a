//! Thaws, by a clock that the test sets; pages of lists; large objects.

mod common;

use archiver_s3_double::{Double, Options, Thaw, sums};
use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{
        AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, CompletedMultipartUpload, CompletedPart,
        ExpirationStatus, GlacierJobParameters, LifecycleRule, LifecycleRuleFilter, OptionalObjectAttributes,
        RestoreRequest, RestoreStatus, StorageClass, Tier,
    },
};
use common::{BUCKET, client, put, refusal};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

async fn frozen() -> (Double, Client) {
    let double = Double::start(Options::default()).await;
    let client = client(&double);
    let deep = client.put_object().bucket(BUCKET).key("k").storage_class(StorageClass::DeepArchive);
    deep.body(ByteStream::from_static(b"deep")).send().await.unwrap();
    (double, client)
}

/// The status of the answer, or of the refusal with its code.
async fn restore(client: &Client, tier: Tier, days: i32) -> (u16, String) {
    let job = GlacierJobParameters::builder().tier(tier).build().unwrap();
    let wanted = RestoreRequest::builder().days(days).glacier_job_parameters(job).build();
    match client.restore_object().bucket(BUCKET).key("k").restore_request(wanted).send().await {
        Ok(_) => (0, String::new()),
        Err(error) => refusal::<(), _>(Err(error)),
    }
}

async fn get(client: &Client) -> Result<Vec<u8>, (u16, String)> {
    match client.get_object().bucket(BUCKET).key("k").send().await {
        Ok(got) => Ok(got.body.collect().await.unwrap().to_vec()),
        Err(error) => Err(refusal::<(), _>(Err(error))),
    }
}

async fn told(client: &Client) -> Option<String> {
    client.head_object().bucket(BUCKET).key("k").send().await.unwrap().restore
}

async fn listed(client: &Client) -> Option<RestoreStatus> {
    let list = client.list_objects_v2().bucket(BUCKET);
    let list = list.optional_object_attributes(OptionalObjectAttributes::RestoreStatus).send().await.unwrap();
    list.contents()[0].restore_status().cloned()
}

#[tokio::test]
async fn a_thaw_takes_its_time_and_ends_again() {
    let (double, client) = frozen().await;
    let unreadable = Err((403, "InvalidObjectState".to_owned()));
    assert_eq!((get(&client).await, told(&client).await), (unreadable.clone(), None));
    assert_eq!(restore(&client, Tier::Bulk, 2).await.0, 0);
    assert_eq!(double.log().pop().unwrap().status, Some(202));
    assert_eq!(told(&client).await.as_deref(), Some("ongoing-request=\"true\""));
    assert_eq!(listed(&client).await.unwrap().is_restore_in_progress(), Some(true));
    assert_eq!(restore(&client, Tier::Bulk, 2).await, (409, "RestoreAlreadyInProgress".into()));

    double.clock().advance(HOUR * 47);
    assert_eq!(get(&client).await, unreadable);
    double.clock().advance(HOUR);
    assert_eq!(get(&client).await.unwrap(), b"deep");
    let header = told(&client).await.unwrap();
    assert!(header.starts_with("ongoing-request=\"false\", expiry-date=\""), "{header}");
    assert!(listed(&client).await.unwrap().restore_expiry_date().is_some());

    double.clock().advance(HOUR * 47);
    assert_eq!(restore(&client, Tier::Bulk, 1).await.0, 0);
    assert_eq!(double.log().pop().unwrap().status, Some(200), "prolonged by a day");
    double.clock().advance(HOUR * 23);
    assert_eq!(get(&client).await.unwrap(), b"deep");
    double.clock().advance(HOUR);
    assert_eq!((get(&client).await, told(&client).await), (unreadable, None));
    assert_eq!(double.object_bytes(BUCKET, "k").unwrap(), b"deep", "tests see through the ice");
}

#[tokio::test]
async fn a_thaw_under_way_can_be_made_faster_but_not_slower() {
    let (double, client) = frozen().await;
    double.set_thaw(Thaw { standard: HOUR, bulk: HOUR * 10 });
    assert_eq!(restore(&client, Tier::Bulk, 1).await.0, 0);
    assert_eq!(restore(&client, Tier::Standard, 1).await.0, 0);
    assert_eq!(restore(&client, Tier::Bulk, 1).await.0, 409);
    double.clock().advance(HOUR);
    assert_eq!(get(&client).await.unwrap(), b"deep");
    assert!(double.freeze(BUCKET, "k"));
    assert!(get(&client).await.is_err());
    assert!(double.thaw_now(BUCKET, "k", 1));
    assert_eq!(get(&client).await.unwrap(), b"deep");
    assert!(!double.thaw_now(BUCKET, "none", 1));
}

#[tokio::test]
async fn what_cannot_be_thawed_is_refused() {
    let (double, client) = frozen().await;
    assert_eq!(restore(&client, Tier::Expedited, 1).await, (400, "InvalidArgument".into()));
    assert!(double.lose_object(BUCKET, "k"));
    assert_eq!(restore(&client, Tier::Bulk, 1).await, (404, "NoSuchKey".into()));
    put(&client, "k", b"warm").await;
    assert_eq!(restore(&client, Tier::Bulk, 1).await, (403, "InvalidObjectState".into()));
    assert_eq!(get(&client).await.unwrap(), b"warm");
}

#[tokio::test]
async fn signatures_age_by_a_clock_of_their_own() {
    let (double, client) = frozen().await;
    double.clock().advance(HOUR * 1000);
    client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    for (skew, works) in [(-16 * 60, false), (-14 * 60, true), (14 * 60, true), (16 * 60, false)] {
        double.clock().set_skew(skew * 1000);
        let answer = client.list_objects_v2().bucket(BUCKET).send().await;
        if works {
            answer.unwrap();
        } else {
            assert_eq!(refusal(answer), (403, "RequestTimeTooSkewed".into()), "{skew}");
        }
        // The client learns the server's time from this and would sign by it from now on: start anew.
        double.clock().set_skew(0);
        let _ = client.list_objects_v2().bucket(BUCKET).send().await;
    }
}

#[tokio::test]
async fn uploads_are_aborted_when_a_lifecycle_rule_says_so() {
    let double = Double::start(Options::default()).await;
    let client = client(&double);
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(7).build();
    let filter = LifecycleRuleFilter::builder().prefix("a/").build();
    let rule = LifecycleRule::builder().status(ExpirationStatus::Enabled).filter(filter);
    let rule = rule.abort_incomplete_multipart_upload(abort).build().unwrap();
    let rules = BucketLifecycleConfiguration::builder().rules(rule).build().unwrap();
    let set = client.put_bucket_lifecycle_configuration().bucket(BUCKET).lifecycle_configuration(rules);
    set.send().await.unwrap();
    for key in ["a/1", "b/1"] {
        client.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap();
    }
    let left = || async {
        let list = client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
        list.uploads().iter().map(|upload| upload.key().unwrap().to_owned()).collect::<Vec<_>>()
    };
    double.clock().advance(HOUR * 24 * 7 - HOUR);
    assert_eq!(left().await, ["a/1", "b/1"]);
    double.clock().advance(HOUR);
    assert_eq!(left().await, ["b/1"]);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let double = Double::start(Options::default().small_parts()).await;
    let client = client(&double);
    for key in ["a/1", "a/2", "b", "c/1", "d"] {
        put(&client, key, b"x").await;
        client.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap();
    }
    // A group may end a page, begin one, or stand in the middle.
    for (max, pages) in [(1, 4), (2, 2), (3, 2)] {
        let (mut seen, mut token, mut page) = (Vec::new(), None, 0);
        loop {
            let list = client.list_objects_v2().bucket(BUCKET).delimiter("/").max_keys(max);
            let list = list.set_continuation_token(token).send().await.unwrap();
            seen.extend(list.common_prefixes().iter().map(|group| group.prefix().unwrap().to_owned()));
            seen.extend(list.contents().iter().map(|object| object.key().unwrap().to_owned()));
            page += 1;
            assert!(page < 10, "it never ends: {seen:?}");
            token = list.next_continuation_token.clone();
            if token.is_none() {
                break;
            }
        }
        // Groups and objects come apart, so only the pages are in order.
        seen.sort();
        assert_eq!((page, seen.as_slice()), (pages, &["a/", "b", "c/", "d"].map(str::to_owned)[..]), "{max}");
    }

    let mut seen = Vec::new();
    let (mut key, mut id) = (None, None);
    loop {
        let list = client.list_multipart_uploads().bucket(BUCKET).max_uploads(2);
        let list = list.set_key_marker(key).set_upload_id_marker(id).send().await.unwrap();
        assert!(list.uploads().len() <= 2);
        seen.extend(list.uploads().iter().map(|upload| upload.key().unwrap().to_owned()));
        (key, id) = (list.next_key_marker.clone(), list.next_upload_id_marker.clone());
        if list.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(seen, ["a/1", "a/2", "b", "c/1", "d"]);
    let prefixed = client.list_multipart_uploads().bucket(BUCKET).prefix("a/").send().await.unwrap();
    assert_eq!(prefixed.uploads().len(), 2);
}

#[tokio::test]
async fn large_objects_are_in_files_that_go_with_them() {
    let directory = std::env::temp_dir().join(format!("s3-double-large-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let files = || std::fs::read_dir(&directory).unwrap().count();
    let options = Options { directory: Some(directory.clone()), memory_max: 1000, ..Options::default() };
    let double = Double::start(options).await;
    let client = client(&double);
    put(&client, "small", &[1; 1000]).await;
    assert_eq!(files(), 0);
    let bytes = common::noise(1_000_001, 3);
    put(&client, "large", &bytes).await;
    assert_eq!(files(), 1);
    let got = client.get_object().bucket(BUCKET).key("large").range("bytes=999-600000").send().await.unwrap();
    assert!(got.body.collect().await.unwrap().to_vec() == bytes[999..=600_000]);
    assert_eq!(double.object(BUCKET, "large").unwrap().crc64, sums::crc64(&bytes));
    client.delete_object().bucket(BUCKET).key("large").send().await.unwrap();
    assert_eq!(files(), 0);
    drop(double);
    std::fs::remove_dir(&directory).unwrap();
}

#[tokio::test]
async fn a_later_server_finds_what_an_earlier_one_kept() {
    let directory = std::env::temp_dir().join(format!("s3-double-kept-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let options = Options { directory: Some(directory.clone()), memory_max: 1000, persist: true, ..Options::default() };
    let first = Double::start(options.clone().small_parts()).await;
    let large = common::noise(5000, 1);
    put(&client(&first), "small", b"in memory").await;
    put(&client(&first), "large", &large).await;
    let begun = client(&first).create_multipart_upload().bucket(BUCKET).key("parts").send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let part = client(&first).upload_part().bucket(BUCKET).key("parts").upload_id(id).part_number(1);
    let part = part.body(ByteStream::from(large.clone())).send().await.unwrap();
    drop(first);

    let second = Double::start(options.clone()).await;
    assert_eq!(second.object_bytes(BUCKET, "small").unwrap(), b"in memory");
    assert!(second.object_bytes(BUCKET, "large").unwrap() == large);
    let listed = client(&second).list_parts().bucket(BUCKET).key("parts").upload_id(id).send().await.unwrap();
    assert_eq!(listed.parts()[0].e_tag(), part.e_tag());
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    let list = CompletedMultipartUpload::builder().parts(part).build();
    let complete = client(&second).complete_multipart_upload().bucket(BUCKET).key("parts").upload_id(id);
    complete.multipart_upload(list).send().await.unwrap();
    assert!(second.object_bytes(BUCKET, "parts").unwrap() == large);
    drop(second);

    let none = Double::start(Options { persist: false, ..options }).await;
    assert!(none.objects(BUCKET).is_empty());
    drop(none);
    std::fs::remove_dir_all(&directory).unwrap();
}
