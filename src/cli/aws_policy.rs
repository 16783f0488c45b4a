//! `archiver aws-policy`: what the owner of the bucket grants, denies and sets, filled in from the configuration, with
//! the commands that install each. Only words and commands are here; what is allowed is decided in the vault's room.

use super::Failed;
use crate::{
    config::{ConfigError, Settings, Vault, VaultUrl},
    name::Encryption,
    vault::policy::{self, Policy, Principal, Scope},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    borrow::Cow,
    io::{Write, stdout},
};

/// Characters, without blanks, of all policies that are written into one user.
const USER_POLICY_LEN_MAX: usize = 2_048;
const LINE_LEN_MAX: usize = 100;
/// Of classes that are not billed for a shortest time.
const RETENTION_DAYS: u32 = 30;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print only this document, to be piped into `aws … file:///dev/stdin`
    pub document: Option<Document>,
    /// The user or role of the backup host; default: a user named archiver-backup
    #[arg(long, value_name = "ARN")]
    pub principal: Option<Principal>,
    /// Abort uploads this many days after they began; default: 30, or more where the configured bandwidth needs it
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub abort_days: Option<u32>,
    /// Let Object Lock keep every object for so long; default: as long as its class is billed for anyway
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub retention_days: Option<u32>,
    /// One JSON object: every document under its name, or the one that is asked for
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Document {
    /// IAM policy of the backup host
    Iam,
    /// IAM policy of whoever restores
    Restore,
    /// IAM policy of whoever deletes
    Delete,
    /// Policy of the bucket
    Bucket,
    /// Lifecycle of the bucket
    Lifecycle,
    /// Object Lock of the bucket
    ObjectLock,
}

#[derive(Serialize)]
struct Documents {
    iam: Policy,
    restore: Policy,
    delete: Policy,
    bucket: Policy,
    lifecycle: Value,
    object_lock: Value,
}

pub fn run(args: &super::Args, asked: &Args) -> Result<u8, Failed> {
    let settings = args.settings()?;
    let VaultUrl::S3 { bucket, prefix } = &settings.vault.url else {
        let what = "must be an S3 bucket, like \"s3://my-bucket/prefix\", for there to be a policy; a vault in a \
                    directory is guarded by the rights of its files";
        return Err(ConfigError::invalid(settings.file(), vec![settings.problem("vault.url", what)]).into());
    };
    let scope = Scope { bucket: bucket.clone(), prefix: prefix.clone(), region: settings.vault.region.clone() };
    let backup = asked.principal.clone().unwrap_or_else(|| Principal::user(&scope, "archiver-backup"));
    let documents = documents(&settings, &scope, &backup, asked);
    let text = match asked.document {
        Some(document) => documents.one(document, asked.json)?,
        None if asked.json => serialized(&documents, true)?,
        None => Guide::new(args, asked, &settings, &scope, &backup).write(&documents)?,
    };
    let mut out = stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(0)
}

fn documents(settings: &Settings, scope: &Scope, backup: &Principal, asked: &Args) -> Documents {
    let Vault { storage_class, endpoint_url, .. } = &settings.vault;
    let bandwidth = settings.upload.bandwidth.map(|bandwidth| bandwidth.0);
    let needed = policy::abort_days(settings.pack.max_size.0, bandwidth, settings.upload.window.open_minutes());
    let billed = policy::billed_days(storage_class).unwrap_or(RETENTION_DAYS);
    // A bucket that refuses what is not encrypted on its way would refuse everything that comes this way.
    let needs_tls = !endpoint_url.as_ref().is_some_and(|url| url.starts_with("http://"));
    Documents {
        iam: policy::backup_host(scope),
        restore: policy::restore_host(scope),
        delete: policy::deleter(scope),
        bucket: policy::bucket(scope, backup, needs_tls),
        lifecycle: policy::lifecycle(scope, asked.abort_days.unwrap_or(needed)),
        object_lock: policy::object_lock(asked.retention_days.unwrap_or(billed)),
    }
}

impl Documents {
    fn one(&self, document: Document, is_line: bool) -> Result<String, Failed> {
        match document {
            Document::Iam => serialized(&self.iam, is_line),
            Document::Restore => serialized(&self.restore, is_line),
            Document::Delete => serialized(&self.delete, is_line),
            Document::Bucket => serialized(&self.bucket, is_line),
            Document::Lifecycle => serialized(&self.lifecycle, is_line),
            Document::ObjectLock => serialized(&self.object_lock, is_line),
        }
    }
}

fn serialized(value: &impl Serialize, is_line: bool) -> Result<String, Failed> {
    let text = if is_line { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
    text.map_err(|err| Failed::other(&err))
}

/// The documents for people: what each is for, and what installs it.
struct Guide<'a> {
    settings: &'a Settings,
    scope: &'a Scope,
    backup: &'a Principal,
    /// This command with all that it was given but the name of a document.
    archiver: String,
    /// The client as it reaches the bucket.
    aws: String,
}

impl<'a> Guide<'a> {
    fn new(
        args: &super::Args,
        asked: &Args,
        settings: &'a Settings,
        scope: &'a Scope,
        backup: &'a Principal,
    ) -> Guide<'a> {
        let config = args.config.to_string_lossy();
        let mut archiver = match config.as_ref() {
            super::CONFIG => "archiver aws-policy".to_owned(),
            config => format!("archiver --config {} aws-policy", quoted(config)),
        };
        if let Some(principal) = &asked.principal {
            archiver.push_str(&format!(" --principal {}", quoted(principal.arn())));
        }
        for (name, days) in [("abort", asked.abort_days), ("retention", asked.retention_days)] {
            archiver.extend(days.map(|days| format!(" --{name}-days {days}")));
        }
        let mut aws = "aws".to_owned();
        for (name, value) in [("endpoint-url", &settings.vault.endpoint_url), ("region", &settings.vault.region)] {
            aws.extend(value.as_ref().map(|value| format!(" --{name} {}", quoted(value))));
        }
        Guide { settings, scope, backup, archiver, aws }
    }

    fn write(&self, documents: &Documents) -> Result<String, Failed> {
        let sections = [
            (Document::Iam, "IAM policy of the backup host", self.of_backup(documents)?),
            (Document::Bucket, "Policy of the bucket", self.of_bucket()),
            (Document::Lifecycle, "Lifecycle of the bucket", self.of_lifecycle()),
            (Document::ObjectLock, "Object Lock, to be considered", self.of_object_lock()),
            (Document::Restore, "IAM policy of whoever restores", self.of_restore()),
            (Document::Delete, "IAM policy of whoever deletes", self.of_delete()),
        ];
        let mut text = wrapped(&self.preface());
        for (document, title, (about, commands)) in sections {
            let underline = "-".repeat(title.len());
            let json = documents.one(document, false)?;
            text.push_str(&format!("\n\n{title}\n{underline}\n\n{}\n\n{commands}\n\n{json}", wrapped(&about)));
        }
        Ok(text)
    }

    fn preface(&self) -> String {
        let partition = self.scope.partition();
        let known = match &self.scope.region {
            Some(region) => format!("Region {region}: every ARN begins with arn:{partition}."),
            None => format!(
                "No vault.region is configured, so every ARN begins with arn:{partition}; for China and GovCloud set it."
            ),
        };
        let foreign = self.settings.vault.endpoint_url.as_ref().map(|endpoint| {
            format!(
                " {endpoint} is not AWS: all of this is written for AWS, other servers know only parts of it, and how \
                 their users get rights is their own affair."
            )
        });
        format!(
            "For {}: three parties, each with its own rights, and a bucket that refuses to replace what it holds. {known} \
             Whoever owns the bucket runs the commands once, not the backup host; users and roles that are named must be \
             there (`aws iam create-user`).{}",
            self.settings.vault.url,
            foreign.unwrap_or_default()
        )
    }

    fn of_backup(&self, documents: &Documents) -> Result<(String, String), Failed> {
        let readable = match (policy::is_frozen(&self.settings.vault.storage_class), self.settings.encrypt.method) {
            (_, Encryption::OpenPgp) => "what it could read by that is encrypted",
            (true, Encryption::None) => "pieces cannot be read without a thaw, manifests and indexes can",
            (false, Encryption::None) => "as nothing is encrypted, who has the keys of the host can read all of it",
        };
        let len = documents.one(Document::Iam, true)?.len();
        let long = (USER_POLICY_LEN_MAX < len && !self.backup.is_role).then(|| {
            format!(
                " It has {len} characters where a user takes {USER_POLICY_LEN_MAX}: use `aws iam create-policy` and \
                 `aws iam attach-user-policy` instead."
            )
        });
        let about = format!(
            "What the daemon does, and nothing else: it adds objects, and cannot remove, replace or thaw any. \
             s3:GetObject is there because every receipt is read by HEAD, which needs it; {readable}. Unfinished uploads \
             are listed in the whole bucket, because S3 knows no prefix for that. OptionalForDoctor may be left out. \
             Encryption by S3's own keys (SSE-S3) needs no right; a bucket that encrypts with a key of KMS needs \
             kms:GenerateDataKey and kms:Decrypt on it for this host, which are not here.{}",
            long.unwrap_or_default()
        );
        Ok((about, self.put(Document::Iam, self.backup.is_role, &self.backup.name)))
    }

    fn of_bucket(&self) -> (String, String) {
        let tls = match &self.settings.vault.endpoint_url {
            Some(url) if url.starts_with("http://") => "",
            _ => "What does not come through TLS is refused. ",
        };
        let about = format!(
            "{tls}An object is only ever made with If-None-Match, so nobody replaces one, by mistake or on purpose; nor \
             can objects be copied into the vault. The backup host, {}, neither removes nor thaws anything and does not \
             change what protects the bucket, whatever else it is granted. This replaces the policy that the bucket has: \
             look at that first, and join them.",
            self.backup.arn()
        );
        let look = format!("    {} s3api get-bucket-policy --bucket {}", self.aws, self.scope.bucket);
        (about, format!("{look}\n{}", self.set("put-bucket-policy", "policy", Document::Bucket)))
    }

    fn of_lifecycle(&self) -> (String, String) {
        let about = "Parts of an upload that nobody goes on with cost money and are in no listing. The days must be more \
                     than the longest pause within one upload: closed windows, outages, a host that is away. An upload \
                     that the rule ends begins again from its first part. Add no rule that expires or moves what is in \
                     the vault: every piece is stored in its final class, and is needed until it is deleted. This \
                     replaces the lifecycle that the bucket has: look at that first, and join them.";
        let look = format!("    {} s3api get-bucket-lifecycle-configuration --bucket {}", self.aws, self.scope.bucket);
        let set = self.set("put-bucket-lifecycle-configuration", "lifecycle-configuration", Document::Lifecycle);
        (about.to_owned(), format!("{look}\n{set}"))
    }

    fn of_object_lock(&self) -> (String, String) {
        let class = &self.settings.vault.storage_class;
        let days = match policy::billed_days(class) {
            Some(days) => format!("{class} is billed for {days} days anyway"),
            None => format!("{class} is not billed for a shortest time"),
        };
        let about = format!(
            "Keeps every new object of the whole bucket, also outside of the vault, from being removed before its time: \
             GOVERNANCE by all who lack s3:BypassGovernanceRetention, COMPLIANCE by everybody, the owner of the account \
             too. {days}. It needs versioning, and once it is on neither can be turned off again; what is deleted in a \
             bucket with versions is billed until its version is removed."
        );
        let versioning = format!(
            "    {} s3api put-bucket-versioning --bucket {} --versioning-configuration Status=Enabled",
            self.aws, self.scope.bucket
        );
        let set = self.set("put-object-lock-configuration", "object-lock-configuration", Document::ObjectLock);
        (about, format!("{versioning}\n{set}"))
    }

    fn of_restore(&self) -> (String, String) {
        let thaw = if policy::is_frozen(&self.settings.vault.storage_class) {
            "s3:RestoreObject thaws, which costs money; it adds a copy for some days and changes no object."
        } else {
            "s3:RestoreObject is only needed for pieces of an archive class, should there be any from before."
        };
        let about = format!(
            "Not for the backup host: keys that can read everything belong where data is to come back. {thaw} What a key \
             of KMS encrypted needs kms:Decrypt on it as well."
        );
        (about, self.put(Document::Restore, false, "archiver-restore"))
    }

    fn of_delete(&self) -> (String, String) {
        let about = "For the one who deletes, kept away from both others. s3:DeleteObjectVersion and \
                     s3:ListBucketVersions are for a bucket with versions; what Object Lock still keeps cannot be \
                     removed with them.";
        (about.to_owned(), self.put(Document::Delete, false, "archiver-delete"))
    }

    /// What writes a policy into a user or a role.
    fn put(&self, document: Document, is_role: bool, name: &str) -> String {
        let kind = if is_role { "role" } else { "user" };
        self.piped(
            document,
            &format!("aws iam put-{kind}-policy --{kind}-name {name} --policy-name {name} --policy-document"),
        )
    }

    /// What sets something of the bucket.
    fn set(&self, command: &str, option: &str, document: Document) -> String {
        self.piped(document, &format!("{} s3api {command} --bucket {} --{option}", self.aws, self.scope.bucket))
    }

    fn piped(&self, document: Document, into: &str) -> String {
        let name = match document {
            Document::Iam => "iam",
            Document::Restore => "restore",
            Document::Delete => "delete",
            Document::Bucket => "bucket",
            Document::Lifecycle => "lifecycle",
            Document::ObjectLock => "object-lock",
        };
        format!("    {} {name} |\n        {into} file:///dev/stdin", self.archiver)
    }
}

/// In lines that fit on a terminal.
pub(super) fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= LINE_LEN_MAX => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// As a shell takes it for one word.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")))
    }
}
