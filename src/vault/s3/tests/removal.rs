//! What is told as removed is not stored any more, whatever the bucket keeps and the server knows; and what could not be
//! removed is named, with the reason.

use super::*;
use aws_sdk_s3::{
    primitives::DateTime,
    types::{
        BucketVersioningStatus, ObjectLockRetention, ObjectLockRetentionMode, VersioningConfiguration as Versioning,
    },
};

fn told(answer: &VaultResult<()>) -> (Cause, String) {
    let err = answer.as_ref().unwrap_err();
    (err.cause, crate::fate::Chain(err).to_string())
}

async fn keep_versions(vault: &S3Vault) {
    let versioning = Versioning::builder().status(BucketVersioningStatus::Enabled).build();
    let asked = vault.client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioning);
    asked.send().await.unwrap();
}

/// Everything that is stored, hidden or not, and marks of deletion.
async fn stored(vault: &S3Vault) -> Vec<String> {
    let all = vault.client.list_object_versions().bucket(BUCKET).send().await.unwrap();
    let versions = all.versions().iter().map(|version| version.key());
    let marks = all.delete_markers().iter().map(|mark| mark.key());
    versions.chain(marks).map(|name| name.unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_marks_of_deletion_go_too() {
    let server = server();
    let vault = server.vault().await;
    put(&vault, "dir/before", b"from when there were none", "STANDARD").await.unwrap();
    put(&vault, "dir/0", b"another one", "STANDARD").await.unwrap();
    keep_versions(&vault).await;
    for name in ["dir/a", "dir/b", "dir/c", "dir/z"] {
        put(&vault, name, b"1", "STANDARD").await.unwrap();
    }
    // Hidden already, and stored again above the mark.
    vault.delete(&key("dir/a")).await.unwrap();
    vault.delete(&key("dir/b")).await.unwrap();
    put(&vault, "dir/b", b"2", "STANDARD").await.unwrap();
    let keys = ["dir/c", "dir/before", "dir/b", "dir/a", "dir/none"].map(key);
    for _ in 0..2 {
        let answers = vault.delete_many(&keys).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(stored(&vault).await, ["lab/nas/dir/0", "lab/nas/dir/z"]);
    }
    // One that was stored before is not hidden by a mark when it goes alone.
    assert!(vault.delete_many(&[key("dir/0")]).await[0].is_ok());
    assert_eq!(stored(&vault).await, ["lab/nas/dir/z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_hidden_is_not_told_as_removed() {
    let server = server();
    let vault = server.vault().await;
    keep_versions(&vault).await;
    put(&vault, "a", b"1", "STANDARD").await.unwrap();
    server.double.deny("ListObjectVersions");
    let (cause, text) = told(&vault.delete_many(&[key("a")]).await[0]);
    assert!(cause == Cause::Permission && text.contains("s3:ListBucketVersions"), "{text}");
    server.double.allow("ListObjectVersions");
    assert!(vault.delete_many(&[key("a")]).await[0].is_ok());
    assert_eq!(stored(&vault).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_retention_holds_stays_as_it_is_and_keeps_no_other() {
    let server = server();
    let vault = server.vault().await;
    keep_versions(&vault).await;
    for name in ["a", "b", "c"] {
        put(&vault, name, b"1", "STANDARD").await.unwrap();
    }
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Governance)
        .retain_until_date(DateTime::from_secs(4_000_000_000))
        .build();
    vault.client.put_object_retention().bucket(BUCKET).key("lab/nas/b").retention(retention).send().await.unwrap();
    let answers = vault.delete_many(&["a", "b", "c"].map(key)).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    let (cause, text) = told(&answers[1]);
    assert!(cause == Cause::Permission && text.contains("its retention has not ended"), "{text}");
    assert_eq!(stored(&vault).await, ["lab/nas/b"]);
    assert!(vault.head(&key("b")).await.unwrap().is_some(), "it is not hidden");
    assert_eq!(server.double.requests("DeleteObjects"), 1, "and was not for a moment");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_that_is_refused_is_told_with_the_permission_that_it_takes() {
    let server = server();
    let vault = server.vault().await;
    put(&vault, "a", b"1", "STANDARD").await.unwrap();
    server.double.deny("DeleteObject");
    for answer in vault.delete_many(&["a", "b"].map(key)).await {
        let (cause, text) = told(&answer);
        assert!(
            cause == Cause::Permission && text.contains("s3:DeleteObject on arn:aws:s3:::backup/lab/nas/*"),
            "{text}"
        );
    }
    assert_eq!(stored(&vault).await, ["lab/nas/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_deletes_only_one_by_one_is_asked_so() {
    for (status, code) in [(501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "MissingContentMD5")] {
        let server = server();
        server.double.script(Rule::new(Act::refuse_as(status, code)).on("DeleteObjects"));
        let vault = server.vault().await;
        for name in ["a", "b", "c"] {
            put(&vault, name, b"1", "STANDARD").await.unwrap();
        }
        for keys in [&["a", "none"][..], &["b"]] {
            let keys: Vec<Key> = keys.iter().map(|name| key(name)).collect();
            assert!(vault.delete_many(&keys).await.iter().all(Result::is_ok));
        }
        assert_eq!(stored(&vault).await, ["lab/nas/c"], "{code}");
        assert_eq!((server.double.requests("DeleteObjects"), server.double.requests("DeleteObject")), (1, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_as_a_whole_is_told_of_every_key_of_it_and_no_other() {
    let server = server();
    let vault = server.vault().await;
    let keys: Vec<Key> = (0..2_000).map(|n| key(&format!("{n:04}"))).collect();
    server.double.script(Rule::new(Act::refuse("SlowDown")).on("DeleteObjects").once());
    let answers = vault.delete_many(&keys).await;
    let causes: Vec<Option<Cause>> = answers.iter().map(|answer| answer.as_ref().err().map(|err| err.cause)).collect();
    assert!(causes[..1_000].iter().all(|cause| *cause == Some(Cause::Throttle)));
    assert!(causes[1_000..].iter().all(Option::is_none));
}
