//! The documents are judged as AWS judges them: an explicit refusal wins, then a permission, and all else is refused.

use super::*;
use std::collections::BTreeMap;

const ACCOUNT_USER: &str = "arn:aws:iam::111122223333:user/archiver-backup";
const KEY: &str = "vault/nas1/data/20261120T200000Z/000017-x.tar.xz.gpg";

fn scope(bucket: &str, prefix: &str, region: &str) -> Scope {
    Scope { bucket: bucket.to_owned(), prefix: prefix.to_owned(), region: Some(region.to_owned()) }
}

fn vault() -> Scope {
    scope("my-bucket", "vault", "eu-west-1")
}

/// What S3 is asked, in the terms in which it asks IAM.
#[derive(Clone, Debug)]
struct Request {
    action: String,
    resource: String,
    /// Keys that the request carries; what is not here is absent.
    context: BTreeMap<&'static str, String>,
}

impl Request {
    fn of(action: &str, resource: &str) -> Request {
        let context = BTreeMap::from([("aws:SecureTransport", "true".to_owned())]);
        Request { action: format!("s3:{action}"), resource: format!("arn:aws:s3:::{resource}"), context }
    }

    fn object(action: &str, key: &str) -> Request {
        Request::of(action, &format!("my-bucket/{key}"))
    }

    fn bucket(action: &str) -> Request {
        Request::of(action, "my-bucket")
    }

    fn with(mut self, key: &'static str, value: &str) -> Request {
        self.context.insert(key, value.to_owned());
        self
    }

    /// PutObject and CompleteMultipartUpload: they make an object.
    fn creation(key: &str, guarded: bool) -> Request {
        let request = Request::object("PutObject", key).with("s3:ObjectCreationOperation", "true");
        if guarded { request.with("s3:if-none-match", "*") } else { request }
    }

    /// CreateMultipartUpload and UploadPart: they make none, and carry no condition.
    fn part(key: &str) -> Request {
        Request::object("PutObject", key).with("s3:ObjectCreationOperation", "false")
    }

    fn list(action: &str, prefix: &str) -> Request {
        Request::bucket(action).with("s3:prefix", prefix)
    }
}

/// `*` and `?`, as in policies.
fn is_like(pattern: &str, text: &str) -> bool {
    match (pattern.as_bytes().first(), text.as_bytes().first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            is_like(&pattern[1..], text)
                || text.char_indices().any(|(at, c)| is_like(&pattern[1..], &text[at + c.len_utf8()..]))
        }
        (Some(b'?'), Some(_)) => is_like(&pattern[1..], &text[1..]),
        (Some(a), Some(b)) => a == b && is_like(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(values) => values.iter().map(|value| value.as_str().unwrap()).collect(),
        value => vec![value.as_str().unwrap()],
    }
}

/// Every operator, and every key of it, must hold; of the values one. An absent key fits nothing but `Null`.
fn holds(condition: &Value, context: &BTreeMap<&str, String>) -> bool {
    condition.as_object().unwrap().iter().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, wanted)| {
            let found = context.get(key.as_str());
            texts(wanted).into_iter().any(|wanted| match (operator.as_str(), found) {
                ("Null", found) => found.is_none().to_string() == wanted,
                (_, None) => false,
                ("StringLike", Some(found)) => is_like(wanted, found),
                ("Bool", Some(found)) => found == wanted,
                // Each part of an ARN for itself: a wildcard does not reach over a colon.
                ("ArnLike", Some(found)) => {
                    let (wanted, found): (Vec<_>, Vec<_>) =
                        (wanted.splitn(6, ':').collect(), found.splitn(6, ':').collect());
                    wanted.len() == found.len()
                        && wanted.iter().zip(found).all(|(wanted, found)| is_like(wanted, found))
                }
                (operator, _) => panic!("the judge does not know {operator}"),
            })
        })
    })
}

/// The effects of the statements that speak about a request.
fn effects(policy: &Policy, request: &Request) -> Vec<String> {
    let policy = serde_json::to_value(policy).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    let statements = policy["Statement"].as_array().unwrap();
    let speaking = statements.iter().filter(|statement| {
        texts(&statement["Action"]).into_iter().any(|action| is_like(action, &request.action))
            && texts(&statement["Resource"]).into_iter().any(|resource| is_like(resource, &request.resource))
            && statement.get("Condition").is_none_or(|condition| holds(condition, &request.context))
    });
    speaking.map(|statement| statement["Effect"].as_str().unwrap().to_owned()).collect()
}

/// Whether somebody of the bucket's account, who has these rights of its own, may do it. The bucket's own policy
/// is met by all.
fn may(rights: &Policy, arn: &str, request: Request) -> bool {
    let request = request.with("aws:PrincipalArn", arn);
    let bucket = bucket(&vault(), &Principal::user(&vault(), "archiver-backup"), true);
    let effects = [effects(rights, &request), effects(&bucket, &request)].concat();
    !effects.contains(&"Deny".to_owned()) && effects.contains(&"Allow".to_owned())
}

/// By parties: backup host, restore host, whoever deletes.
fn check(what: &str, request: &Request, expected: [bool; 3]) {
    let parties = [
        (backup_host(&vault()), ACCOUNT_USER),
        (restore_host(&vault()), "arn:aws:iam::111122223333:user/archiver-restore"),
        (deleter(&vault()), "arn:aws:iam::111122223333:user/archiver-delete"),
    ];
    let found = parties.map(|(rights, arn)| may(&rights, arn, request.clone()));
    assert_eq!(found, expected, "{what}: backup host, restore host, deleter");
}

#[test]
fn each_party_may_do_its_work_and_nothing_else() {
    const NOBODY: [bool; 3] = [false; 3];
    const BACKUP: [bool; 3] = [true, false, false];
    const ALL: [bool; 3] = [true; 3];
    for (what, request, expected) in [
        ("a small object is stored", Request::creation(KEY, true), BACKUP),
        ("an upload is begun, a part sent", Request::part(KEY), BACKUP),
        ("an upload is completed", Request::creation(KEY, true), BACKUP),
        ("parts are listed", Request::object("ListMultipartUploadParts", KEY), BACKUP),
        ("an upload is aborted", Request::object("AbortMultipartUpload", KEY), BACKUP),
        ("uploads are listed; S3 tells no prefix", Request::bucket("ListBucketMultipartUploads"), BACKUP),
        ("a receipt, or archiver.json, is read", Request::object("GetObject", KEY), ALL),
        ("the vault is named", Request::creation("vault/archiver.json", true), BACKUP),
        ("a HEAD of what is absent is answered by 404", Request::list("ListBucket", KEY), ALL),
        ("the vault is listed", Request::list("ListBucket", "vault/"), ALL),
        ("the vault is listed without its slash", Request::list("ListBucket", "vault"), NOBODY),
        ("the neighbors are listed", Request::list("ListBucket", "vault2/"), NOBODY),
        ("the whole bucket is listed", Request::list("ListBucket", ""), NOBODY),
        ("the whole bucket is listed, with no word of a prefix", Request::bucket("ListBucket"), NOBODY),
        ("an object is replaced, by a put or a completion", Request::creation(KEY, false), NOBODY),
        ("an object is removed", Request::object("DeleteObject", KEY), [false, false, true]),
        ("a version is removed", Request::object("DeleteObjectVersion", KEY), [false, false, true]),
        ("versions are listed", Request::list("ListBucketVersions", "vault/"), [false, false, true]),
        ("an object is thawed", Request::object("RestoreObject", KEY), [false, true, false]),
        ("a neighbor is read", Request::object("GetObject", "vault2/x"), NOBODY),
        ("a neighbor is thawed", Request::object("RestoreObject", "other"), NOBODY),
        ("a neighbor is written", Request::creation("vault2/x", true), NOBODY),
        ("a neighbor is removed", Request::object("DeleteObject", "vault2/x"), NOBODY),
        ("versioning is looked at", Request::bucket("GetBucketVersioning"), BACKUP),
        ("Object Lock is looked at", Request::bucket("GetBucketObjectLockConfiguration"), BACKUP),
        ("the lifecycle is looked at", Request::bucket("GetLifecycleConfiguration"), BACKUP),
        ("the encryption is looked at", Request::bucket("GetEncryptionConfiguration"), BACKUP),
        ("the region is looked at", Request::bucket("GetBucketLocation"), BACKUP),
        ("another bucket is looked at", Request::of("GetBucketVersioning", "my-bucket2"), NOBODY),
        ("the policy is read", Request::bucket("GetBucketPolicy"), NOBODY),
        ("the policy is replaced", Request::bucket("PutBucketPolicy"), NOBODY),
        ("the policy is removed", Request::bucket("DeleteBucketPolicy"), NOBODY),
        ("a lifecycle is set", Request::bucket("PutLifecycleConfiguration"), NOBODY),
        ("versioning is suspended", Request::bucket("PutBucketVersioning"), NOBODY),
        ("Object Lock is set", Request::bucket("PutBucketObjectLockConfiguration"), NOBODY),
        ("a retention is shortened", Request::object("PutObjectRetention", KEY), NOBODY),
        ("a retention is bypassed", Request::object("BypassGovernanceRetention", KEY), NOBODY),
        ("an object is made public", Request::object("PutObjectAcl", KEY), NOBODY),
        ("the bucket is removed", Request::bucket("DeleteBucket"), NOBODY),
    ] {
        check(what, &request, expected);
        check(&format!("{what}, in the clear"), &request.with("aws:SecureTransport", "false"), NOBODY);
    }
}

/// What the bucket refuses does not depend on what somebody was granted elsewhere.
#[test]
fn the_bucket_refuses_even_those_who_may_do_everything() {
    let all = Policy::new(vec![allow("All", &["s3:*"], vec!["*".to_owned()])]);
    let admin = "arn:aws:iam::111122223333:role/admin";
    assert!(may(&all, admin, Request::creation(KEY, true)));
    assert!(may(&all, admin, Request::part(KEY)));
    assert!(!may(&all, admin, Request::creation(KEY, false)), "Nobody replaces an object");
    assert!(may(&all, admin, Request::creation("vault2/x", false)), "What is beside the vault is nobody's business");
    assert!(!may(&all, admin, Request::object("GetObject", KEY).with("aws:SecureTransport", "false")));
    for action in ["DeleteObject", "DeleteObjectVersion", "RestoreObject", "BypassGovernanceRetention"] {
        assert!(may(&all, admin, Request::object(action, KEY)), "{action}");
        assert!(!may(&all, ACCOUNT_USER, Request::object(action, KEY)), "{action}");
    }
    for action in ["PutBucketPolicy", "PutLifecycleConfiguration", "PutBucketVersioning", "DeleteBucketPolicy"] {
        assert!(may(&all, admin, Request::bucket(action)), "{action}");
        assert!(!may(&all, ACCOUNT_USER, Request::bucket(action)), "{action}");
    }
    let namesake = "arn:aws:iam::111122223333:user/archiver-backup2";
    assert!(may(&all, namesake, Request::object("DeleteObject", KEY)));
}

/// The host's own policy holds where the bucket has none, and where another policy grants more.
#[test]
fn the_backup_host_neither_removes_nor_thaws_whatever_else_it_is_granted() {
    let mut rights = backup_host(&vault());
    rights.statement.push(allow("More", &["s3:*"], vec!["*".to_owned()]));
    for request in [
        Request::object("DeleteObject", KEY),
        Request::object("DeleteObjectVersion", KEY),
        Request::object("RestoreObject", KEY),
        Request::bucket("PutLifecycleConfiguration"),
    ] {
        assert!(effects(&rights, &request).contains(&"Deny".to_owned()), "{request:?}");
    }
    assert_eq!(effects(&rights, &Request::object("DeleteObject", "vault2/x")), ["Allow"]);
}

#[test]
fn names_of_resources_begin_with_the_partition_of_the_region() {
    for (region, partition) in [
        (Some("eu-west-1"), "aws"),
        (None, "aws"),
        (Some("cn-north-1"), "aws-cn"),
        (Some("us-gov-west-1"), "aws-us-gov"),
        (Some("us-west-2"), "aws"),
    ] {
        let scope = Scope { region: region.map(str::to_owned), ..vault() };
        let principal = Principal::user(&scope, "archiver-backup");
        let documents = [backup_host(&scope), restore_host(&scope), deleter(&scope), bucket(&scope, &principal, true)];
        let text = serde_json::to_string(&documents).unwrap();
        assert_eq!(text.matches("arn:").count(), text.matches(&format!("arn:{partition}:")).count(), "{region:?}");
    }
}

#[test]
fn a_vault_that_is_the_whole_bucket_is_listed_without_a_prefix() {
    let whole = scope("my-bucket", "", "eu-west-1");
    for policy in [backup_host(&whole), restore_host(&whole), deleter(&whole)] {
        assert_eq!(effects(&policy, &Request::bucket("ListBucket")), ["Allow"]);
        assert_eq!(effects(&policy, &Request::object("GetObject", "nas1/x")), ["Allow"]);
    }
    assert_eq!(lifecycle(&whole, 30)["Rules"][0]["Filter"]["Prefix"], "");
}

/// Limits of AWS, blanks not counted: 2,048 characters for all policies written into a user. A `Sid` is letters and
/// digits, and unique.
#[test]
fn documents_have_a_form_that_aws_takes() {
    let wide = scope(&"b".repeat(63), &"p".repeat(80), "us-gov-west-1");
    let principal = Principal::user(&wide, "archiver-backup");
    for policy in [backup_host(&wide), restore_host(&wide), deleter(&wide), bucket(&wide, &principal, true)] {
        let text = serde_json::to_string(&policy).unwrap();
        assert!(text.starts_with("{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":"), "{text}");
        assert!(text.len() <= 2_048, "{} characters: {text}", text.len());
        let mut sids: Vec<&str> = policy.statement.iter().map(|statement| statement.sid).collect();
        assert!(sids.iter().all(|sid| sid.chars().all(|c| c.is_ascii_alphanumeric())), "{sids:?}");
        sids.sort_unstable();
        sids.dedup();
        assert_eq!(sids.len(), policy.statement.len());
    }
    let of_bucket = serde_json::to_value(bucket(&vault(), &principal, true)).unwrap();
    assert!(of_bucket["Statement"].as_array().unwrap().iter().all(|statement| statement["Principal"] == "*"));
    let of_user = serde_json::to_value(backup_host(&vault())).unwrap();
    assert!(of_user["Statement"].as_array().unwrap().iter().all(|statement| statement.get("Principal").is_none()));
    let plain = serde_json::to_string(&bucket(&vault(), &principal, false)).unwrap();
    assert!(!plain.contains("SecureTransport") && plain.contains("NothingIsReplaced"));
}

#[test]
fn a_principal_is_a_user_or_a_role() {
    for (arn, name, is_role) in [
        ("arn:aws:iam::111122223333:user/backup", "backup", false),
        ("arn:aws:iam::111122223333:role/hosts/nas1", "nas1", true),
        ("arn:aws-cn:iam::111122223333:user/a+b=c,d.e@f_g-h", "a+b=c,d.e@f_g-h", false),
    ] {
        let principal: Principal = arn.parse().unwrap();
        assert_eq!((principal.arn(), principal.name.as_str(), principal.is_role), (arn, name, is_role));
    }
    for arn in [
        "",
        "backup",
        "arn:aws:iam::111122223333:root",
        "arn:aws:iam::111122223333:user/",
        "arn:aws:iam::111122223333:user/*",
        "arn:aws:iam::*:user/backup",
        "arn:aws:iam::1111:user/backup",
        "arn:aws:iam::111122223333:group/backup",
        "arn:aws:sts::111122223333:assumed-role/backup/i-1",
        "arn:aws:s3:::bucket",
        "arn:aws:iam::111122223333:user/a b",
    ] {
        assert!(arn.parse::<Principal>().unwrap_err().contains("ARN"), "{arn}");
    }
}

#[test]
fn nothing_in_the_vault_ever_expires_or_moves() {
    let rules = lifecycle(&vault(), 45);
    let rule = rules["Rules"][0].as_object().unwrap();
    assert_eq!(rules["Rules"].as_array().unwrap().len(), 1);
    assert_eq!(rule.keys().collect::<Vec<_>>(), ["AbortIncompleteMultipartUpload", "Filter", "ID", "Status"]);
    assert_eq!(rule["Filter"], json!({ "Prefix": "vault/" }));
    assert_eq!(rule["AbortIncompleteMultipartUpload"], json!({ "DaysAfterInitiation": 45 }));
    let lock = object_lock(180);
    assert_eq!(lock["Rule"]["DefaultRetention"], json!({ "Mode": "GOVERNANCE", "Days": 180 }));
}

#[test]
fn an_upload_has_twice_the_time_that_it_needs() {
    const GIB: u64 = 1 << 30;
    const WEEK: u32 = 7 * 24 * 60;
    for (piece, bandwidth, open_minutes, days) in [
        (512 * GIB, None, WEEK, 30),
        (512 * GIB, Some(10_000_000), WEEK, 30),
        // 549,755,813,888 bytes at 100 kB/s are 63.6 days.
        (512 * GIB, Some(100_000), WEEK, 128),
        // 6.4 days of sending, of which a week has 2.
        (512 * GIB, Some(1_000_000), 2 * 24 * 60, 45),
        (u64::MAX, Some(1), 1, u32::MAX),
    ] {
        assert_eq!(abort_days(piece, bandwidth, open_minutes), days, "{piece} at {bandwidth:?}, {open_minutes}");
    }
    for (piece, bandwidth, open_minutes, closed_minutes, days) in [
        (512 * GIB, None, WEEK, 0, 7),
        (512 * GIB, Some(10_000_000), WEEK, 0, 7),
        (512 * GIB, None, 60, WEEK - 60, 8),
        (512 * GIB, Some(100_000), WEEK, 0, 65),
        // 22.3 days with their pauses, the longest of which takes 5.
        (512 * GIB, Some(1_000_000), 2 * 24 * 60, 5 * 24 * 60, 29),
        (u64::MAX, Some(1), 1, WEEK, u32::MAX),
    ] {
        let least = abort_days_least(piece, bandwidth, open_minutes, closed_minutes);
        assert_eq!(least, days, "{piece} at {bandwidth:?}, {open_minutes}, {closed_minutes}");
    }
}
