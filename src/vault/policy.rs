//! What the owner of a bucket grants, denies and sets so that an S3 vault works and stays whole: policies and bucket
//! settings, filled in. Pure; nothing here speaks to AWS.
//!
//! Three parties have three sets of rights. The backup host adds objects and can neither remove, replace nor thaw
//! any; whoever restores reads and thaws; whoever deletes deletes. The bucket itself refuses to replace an object,
//! whoever asks.
//!
//! What S3 asks for is not always what its calls are called:
//!
//! - Beginning, sending and completing an upload in parts are all `s3:PutObject`.
//! - HEAD needs `s3:GetObject`. Receipts are read by HEAD, so the backup host may read what it wrote; of an archive
//!   class there is nothing to be read without `s3:RestoreObject`.
//! - HEAD of a key that is not there answers 404 only to who may list it, else 403; the key counts as the prefix.
//! - `s3:ListBucketMultipartUploads` knows no prefix: a condition on one would refuse every listing.

use serde::Serialize;
use serde_json::{Value, json};
use std::str::FromStr;

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

/// Uploads that nobody went on with are thrown away after this many days, or later where uploads take longer.
pub const ABORT_DAYS: u32 = 30;

/// The part of a bucket that is the vault.
#[derive(Clone, Debug)]
pub struct Scope {
    pub bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// Decides the partition, in which all names of resources begin.
    pub region: Option<String>,
}

impl Scope {
    /// The family of regions: `aws` where nothing else is known.
    pub fn partition(&self) -> &'static str {
        match self.region.as_deref() {
            Some(region) if region.starts_with("cn-") => "aws-cn",
            Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    fn bucket_arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition(), self.bucket)
    }

    fn objects_arn(&self) -> String {
        format!("{}/{}", self.bucket_arn(), self.keys())
    }

    fn both(&self) -> Vec<String> {
        vec![self.bucket_arn(), self.objects_arn()]
    }

    /// Every key of the vault.
    fn keys(&self) -> String {
        if self.prefix.is_empty() { "*".to_owned() } else { format!("{}/*", self.prefix) }
    }

    /// Only what is listed of the vault. In a bucket of its own nothing needs to be held apart.
    fn listed(&self) -> Option<Value> {
        (!self.prefix.is_empty()).then(|| json!({ "StringLike": { "s3:prefix": [self.keys()] } }))
    }
}

/// A user or a role, by its ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    arn: String,
    pub is_role: bool,
    /// Without its path.
    pub name: String,
}

impl Principal {
    /// A user of this name in any account. As a pattern it can only deny, which is all that it is used for; so it
    /// needs no account number.
    pub fn user(scope: &Scope, name: &str) -> Principal {
        let arn = format!("arn:{}:iam::*:user/{name}", scope.partition());
        Principal { arn, is_role: false, name: name.to_owned() }
    }

    pub fn arn(&self) -> &str {
        &self.arn
    }
}

impl FromStr for Principal {
    type Err = String;
    fn from_str(arn: &str) -> Result<Principal, String> {
        const RIGHT: &str = "write the ARN of a user or a role, like arn:aws:iam::111122223333:user/archiver-backup";
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, what] = parts.as_slice() else { return Err(RIGHT.to_owned()) };
        let (kind, path) = what.split_once('/').ok_or(RIGHT)?;
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        // No wildcards: the commands that install a policy need one name.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
        let fits = partition.starts_with("aws") && is_account && !name.is_empty() && path.chars().all(is_plain);
        if fits && ["user", "role"].contains(&kind) {
            Ok(Principal { arn: arn.to_owned(), is_role: kind == "role", name: name.to_owned() })
        } else {
            Err(RIGHT.to_owned())
        }
    }
}

/// A policy of IAM or of a bucket, its keys in the order in which people read them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

/// The `Sid` says why; JSON has no other place for it. IAM takes letters and digits only.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'static str>,
    action: Vec<&'static str>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Value>,
}

/// The version of the language, not of the document.
const LANGUAGE: &str = "2012-10-17";

impl Policy {
    fn new(statement: Vec<Statement>) -> Policy {
        Policy { version: LANGUAGE, statement }
    }
}

fn allow(sid: &'static str, action: &[&'static str], resource: Vec<String>) -> Statement {
    Statement { sid, effect: "Allow", principal: None, action: action.to_vec(), resource, condition: None }
}

fn deny(sid: &'static str, action: &[&'static str], resource: Vec<String>) -> Statement {
    Statement { effect: "Deny", ..allow(sid, action, resource) }
}

impl Statement {
    fn when(self, condition: Option<Value>) -> Statement {
        Statement { condition, ..self }
    }

    /// Of a bucket's policy: whoever asks, if the condition fits.
    fn for_everybody(self) -> Statement {
        Statement { principal: Some("*"), ..self }
    }
}

/// What would undo the vault: removing, paying for a thaw, and changing what protects the bucket.
const HARMFUL: [&str; 5] =
    ["s3:Delete*", "s3:RestoreObject", "s3:BypassGovernanceRetention", "s3:PutBucket*", "s3:PutLifecycleConfiguration"];

/// The least that the daemon can work with. The last but one statement is only for `doctor`; the last one holds even
/// where another policy of the same user grants more.
pub fn backup_host(scope: &Scope) -> Policy {
    const SEND: [&str; 3] = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];
    const LOOK: [&str; 5] = [
        "s3:GetBucketLocation",
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:GetEncryptionConfiguration",
    ];
    Policy::new(vec![
        allow("SendPiecesInParts", &SEND, vec![scope.objects_arn()]),
        allow("ReceiptsAreReadByHeadWhichNeedsThis", &["s3:GetObject"], vec![scope.objects_arn()]),
        allow("TellAbsentFromForbidden", &["s3:ListBucket"], vec![scope.bucket_arn()]).when(scope.listed()),
        allow("FindUnfinishedUploads", &["s3:ListBucketMultipartUploads"], vec![scope.bucket_arn()]),
        allow("OptionalForDoctor", &LOOK, vec![scope.bucket_arn()]),
        deny("NeverRemoveNorThaw", &HARMFUL, scope.both()),
    ])
}

/// Reads and thaws, and changes nothing.
pub fn restore_host(scope: &Scope) -> Policy {
    const READ: [&str; 2] = ["s3:GetObject", "s3:RestoreObject"];
    Policy::new(vec![
        allow("ThawAndRead", &READ, vec![scope.objects_arn()]),
        allow("FindPieces", &["s3:ListBucket"], vec![scope.bucket_arn()]).when(scope.listed()),
    ])
}

/// Deletes; not what a retention still holds.
pub fn deleter(scope: &Scope) -> Policy {
    const ALL: [&str; 2] = ["s3:DeleteObject", "s3:DeleteObjectVersion"];
    const LIST: [&str; 2] = ["s3:ListBucket", "s3:ListBucketVersions"];
    Policy::new(vec![
        allow("ReadIndexesAndReceipts", &["s3:GetObject"], vec![scope.objects_arn()]),
        allow("DeletePieces", &ALL, vec![scope.objects_arn()]),
        allow("FindPieces", &LIST, vec![scope.bucket_arn()]).when(scope.listed()),
    ])
}

/// What the bucket itself refuses. `needs_tls` is off for servers that are reached without it.
pub fn bucket(scope: &Scope, backup: &Principal, needs_tls: bool) -> Policy {
    let plain = deny("OnlyThroughTls", &["s3:*"], scope.both())
        .when(Some(json!({ "Bool": { "aws:SecureTransport": "false" } })));
    // Both must fit for the refusal. Parts, and the beginning of an upload, cannot carry the header and create nothing.
    let overwriting = json!({
        "Null": { "s3:if-none-match": "true" },
        "Bool": { "s3:ObjectCreationOperation": "true" },
    });
    let host = json!({ "ArnLike": { "aws:PrincipalArn": [backup.arn()] } });
    let refused = [
        needs_tls.then_some(plain),
        Some(deny("NothingIsReplaced", &["s3:PutObject"], vec![scope.objects_arn()]).when(Some(overwriting))),
        Some(deny("BackupHostNeverRemovesNorThaws", &HARMFUL, scope.both()).when(Some(host))),
    ];
    Policy::new(refused.into_iter().flatten().map(Statement::for_everybody).collect())
}

/// Parts of an upload that nobody goes on with cost money and are in no listing.
pub fn lifecycle(scope: &Scope, abort_days: u32) -> Value {
    let prefix = if scope.prefix.is_empty() { String::new() } else { format!("{}/", scope.prefix) };
    json!({ "Rules": [{
        "ID": "archiver-unfinished-uploads",
        "Status": "Enabled",
        "Filter": { "Prefix": prefix },
        "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": abort_days },
    }] })
}

/// Governance: who has a right of its own for that may still remove an object before its time.
pub fn object_lock(retention_days: u32) -> Value {
    json!({
        "ObjectLockEnabled": "Enabled",
        "Rule": { "DefaultRetention": { "Mode": "GOVERNANCE", "Days": retention_days } },
    })
}

/// Days after which an upload may be taken for given up: twice what the largest piece takes at this many bytes per
/// second in an upload window that is open so many minutes a week, and never less than [`ABORT_DAYS`]. An upload that
/// the rule ends begins again, so too few days would keep a slow link from ever finishing a piece.
pub fn abort_days(piece: u64, bandwidth: Option<u64>, open_minutes: u32) -> u32 {
    sending_days(2 * u128::from(piece), bandwidth, open_minutes).max(ABORT_DAYS)
}

/// Days before which no upload may be taken for given up: what the largest piece takes, and the longest time for which
/// the window is closed, and one more; a week at least, so that a weekend without a line ends none.
pub fn abort_days_least(piece: u64, bandwidth: Option<u64>, open_minutes: u32, closed_minutes: u32) -> u32 {
    const DAY_MINUTES: u32 = 24 * 60;
    let sending = sending_days(u128::from(piece), bandwidth, open_minutes);
    sending.saturating_add(closed_minutes.div_ceil(DAY_MINUTES)).saturating_add(1).max(WEEK_DAYS)
}

const WEEK_DAYS: u32 = 7;

/// Days that so many bytes take; none where nothing is known of the line.
fn sending_days(bytes: u128, bandwidth: Option<u64>, open_minutes: u32) -> u32 {
    let Some(bandwidth) = bandwidth else { return 0 };
    let sent_a_week = u128::from(bandwidth) * u128::from(open_minutes) * 60;
    let days = (u128::from(WEEK_DAYS) * bytes).div_ceil(sent_a_week.max(1));
    u32::try_from(days).unwrap_or(u32::MAX)
}

/// The shortest time that a class is billed for, in days: what is removed earlier is paid for all the same.
pub fn billed_days(storage_class: &str) -> Option<u32> {
    match storage_class {
        "DEEP_ARCHIVE" => Some(180),
        "GLACIER" | "GLACIER_IR" => Some(90),
        "STANDARD_IA" | "ONEZONE_IA" => Some(30),
        _ => None,
    }
}

/// Whether objects of this class must be thawed before they can be read.
pub fn is_frozen(storage_class: &str) -> bool {
    matches!(storage_class, "DEEP_ARCHIVE" | "GLACIER")
}
