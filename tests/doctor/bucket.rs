//! How a bucket is set, and what is under way in it.

use super::{ACCESS_KEY, BUCKET, Clinic, Finding, SECRET_KEY, amiss};
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region},
    types::{
        AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketVersioningStatus, DefaultRetention,
        ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, ObjectLockConfiguration,
        ObjectLockRetentionMode, ObjectLockRule, ServerSideEncryption, ServerSideEncryptionByDefault,
        ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
    },
};
use std::process::Command;

/// What the owner of the bucket does.
fn owner(clinic: &Clinic, does: impl AsyncFnOnce(&Client)) {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(clinic.double.endpoint())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(does(&Client::from_conf(config)));
}

fn rule(prefix: &str, abort: Option<i32>, expire: Option<i32>) -> LifecycleRule {
    let abort = abort.map(|days| AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build());
    LifecycleRule::builder()
        .id("theirs")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .set_abort_incomplete_multipart_upload(abort)
        .set_expiration(expire.map(|days| LifecycleExpiration::builder().days(days).build()))
        .build()
        .unwrap()
}

fn set_rules(clinic: &Clinic, rules: Vec<LifecycleRule>) {
    owner(clinic, async |client| {
        let rules = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().unwrap();
        let request = client.put_bucket_lifecycle_configuration().bucket(BUCKET).lifecycle_configuration(rules);
        request.send().await.unwrap();
    });
}

#[test]
fn rules_that_would_harm_the_vault_are_told() {
    let mut clinic = Clinic::new();
    for (rules, state, said, code) in [
        (vec![rule("", Some(7), None)], "ok", "after 7 days", 0),
        (vec![rule("lab/nas/", Some(6), None)], "problem", "aborts uploads 6 days after", 4),
        (vec![rule("", Some(30), None), rule("lab/", None, Some(365))], "problem", "deletes objects", 4),
        (vec![rule("", Some(30), None), rule("other/", None, Some(365))], "ok", "after 30 days", 0),
        (vec![rule("other/", Some(30), None)], "warning", "no rule aborts", 0),
    ] {
        set_rules(&clinic, rules);
        let (told, ended) = clinic.found("lifecycle");
        assert_eq!((told.state.as_str(), ended), (state, code), "{told:#?}");
        assert!(told.what.contains(said), "{told:#?}");
    }
    // A week has it closed for almost 7 days; and 1 MiB takes 3 at 1 kB/s in the hour that is left.
    set_rules(&clinic, vec![rule("", Some(8), None)]);
    "[upload]\nwindow = [\"Sat 00:00-01:00\"]".clone_into(&mut clinic.world.setup.more);
    assert_eq!(clinic.found("lifecycle").0.state, "ok");
    clinic.world.setup.more += "\nbandwidth = \"1kB/s\"";
    // 64 MiB take 67,109 s at 1 kB/s, and an hour and five minutes there are.
    let (told, _) = clinic.found("window");
    assert!(told.state == "problem" && told.what.contains("no part would ever be through"), "{told:#?}");
    clinic.world.setup.more = clinic.world.setup.more.replace("1kB/s", "20kB/s");
    assert_eq!(clinic.found("window").0.state, "ok");
    clinic.world.setup.more = clinic.world.setup.more.replace("20kB/s", "1kB/s");
    let (told, _) = clinic.found("lifecycle");
    assert!(told.state == "problem" && told.what.contains("may take 11"), "{told:#?}");
}

#[test]
fn versions_locks_and_keys_of_a_bucket_are_told() {
    let clinic = Clinic::new();
    owner(&clinic, async |client| {
        let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioning);
        request.send().await.unwrap();
        let kept = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(180).build();
        let lock = ObjectLockConfiguration::builder().rule(ObjectLockRule::builder().default_retention(kept).build());
        let request = client.put_object_lock_configuration().bucket(BUCKET).object_lock_configuration(lock.build());
        request.send().await.unwrap();
        let kms = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::AwsKms).build().unwrap();
        let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(kms).build();
        let all = ServerSideEncryptionConfiguration::builder().rules(rule).build().unwrap();
        let request = client.put_bucket_encryption().bucket(BUCKET).server_side_encryption_configuration(all);
        request.send().await.unwrap();
    });
    let (findings, code) = clinic.findings();
    let of = |check: &str| findings.iter().find(|one| one.check == check).unwrap();
    assert!(of("versioning").what.starts_with("on"), "{findings:#?}");
    assert!(of("object-lock").what.contains("GOVERNANCE") && of("object-lock").what.contains("180 days"));
    assert!(of("encryption").state == "warning" && of("encryption").hint.contains("kms:GenerateDataKey"));
    assert_eq!(code, 0, "It works with versions and locks: {findings:#?}");
}

#[test]
fn settings_that_may_not_be_looked_at_are_no_problem() {
    for (operation, check, permission) in [
        ("GetBucketVersioning", "versioning", "s3:GetBucketVersioning"),
        ("GetObjectLockConfiguration", "object-lock", "s3:GetBucketObjectLockConfiguration"),
        ("GetBucketLifecycleConfiguration", "lifecycle", "s3:GetLifecycleConfiguration"),
        ("GetBucketEncryption", "encryption", "s3:GetEncryptionConfiguration"),
    ] {
        let clinic = Clinic::new();
        clinic.double.deny(operation);
        let (told, code) = clinic.found(check);
        assert_eq!((told.state.as_str(), told.permission.as_deref(), code), ("warning", Some(permission), 0));
        assert_eq!(told.what, format!("could not be looked at, needs {permission}"));
    }
}

fn begin(clinic: &Clinic, key: &str) -> String {
    let mut id = String::new();
    owner(clinic, async |client| {
        let begun = client.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap();
        begun.upload_id().unwrap().clone_into(&mut id);
    });
    id
}

#[test]
fn uploads_under_way_are_told_apart() {
    let clinic = Clinic::new();
    clinic.world.run_once().expect(0);
    let id = begin(&clinic, "lab/nas/nas1/data/known");
    let sql = format!("INSERT INTO upload VALUES ('nas1/data/known', '{{\"id\":\"{id}\"}}')");
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    let catalog = clinic.world.state.join("catalog.sqlite");
    assert!(Command::new("python3").args(["-c", script]).arg(catalog).arg(sql).status().unwrap().success());
    begin(&clinic, "lab/nas/nas2/data/foreign");
    begin(&clinic, "elsewhere/foreign");
    let what = |finding: &Finding| finding.what.clone();
    let (told, _) = clinic.found("uploads");
    assert_eq!(
        (told.state.as_str(), what(&told).as_str()),
        ("ok", "1 of this host under way; 1 of others, the oldest 0 hours old")
    );
    begin(&clinic, "lab/nas/nas1/data/lost");
    clinic.double.clock().set_offset(-3 * 86_400_000);
    begin(&clinic, "lab/nas/nas1/data/known");
    let (findings, code) = clinic.findings();
    assert_eq!(code, 0);
    assert!(amiss(&findings).contains(&("uploads", "warning")), "{findings:#?}");
    let (told, _) = clinic.found("uploads");
    assert!(told.what.starts_with("2 of this host") && told.what.contains("3 days old; 1 are known; 1 of others"));
    assert_eq!(clinic.double.uploads(BUCKET).len(), 5, "All of them are left alone");
}
