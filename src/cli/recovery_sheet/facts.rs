//! What is on the sheet: facts from configuration and catalog, and the commands.

use super::super::{Failed, aws_policy::quoted};
use crate::{
    catalog::{Catalog, CatalogError, PieceRow, PieceState},
    config::{Settings, VaultUrl},
    encrypt::{CertificateAbout, certificates},
    name::Encryption,
    pipeline::{local_manifest, read_manifest},
    vault::policy::{Scope, is_frozen},
};
use jiff::{Timestamp, Unit};
use serde::Serialize;
use std::collections::BTreeSet;

const S3: &str = include_str!("s3.sh");
const DIRECTORY: &str = include_str!("directory.sh");
const RESTORE: &str = include_str!("restore.sh");
const FIND: &str = include_str!("find.sh");
/// Stands for the region where none is configured.
const UNKNOWN: &str = "REGION";

#[derive(Debug, Serialize)]
pub struct Facts {
    pub made: Timestamp,
    pub host: String,
    pub vault: Vault,
    pub keys: Keys,
    pub sources: Vec<Source>,
    /// Paragraphs of one script, each with what it does.
    pub commands: Vec<Paragraph>,
}

#[derive(Debug, Serialize)]
pub struct Vault {
    pub url: String,
    pub class: String,
    /// Of a vault in S3.
    pub bucket: Option<String>,
    pub prefix: Option<String>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    /// Whether pieces must be thawed.
    pub is_frozen: bool,
}

/// What opens it; never the secret itself.
#[derive(Debug, Serialize)]
pub struct Keys {
    pub is_encrypted: bool,
    pub certificates: Vec<Certificate>,
    /// Keys that pieces of the last passes were sealed to, and that are not configured any more.
    pub others: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Certificate {
    pub fingerprint: String,
    pub user_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Source {
    pub name: String,
    pub path: String,
    /// The directory of its passes in the vault, opaque ids too; `None` before anything was delivered.
    pub prefix: Option<String>,
    /// The newest pass that has ended.
    pub pass: Option<String>,
    pub pieces: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct Paragraph {
    pub what: &'static str,
    pub script: String,
}

impl Facts {
    pub fn gather(settings: &Settings) -> Result<Facts, Failed> {
        let catalog = match Catalog::open_read_only(&settings.catalog_file()) {
            Err(CatalogError::Missing { .. }) => None,
            catalog => Some(catalog?),
        };
        let kept = |name: &str| catalog.as_ref().map_or(Ok(None), |catalog| catalog.setting(name));
        let host = settings.vault.host.clone().or(kept("host")?).unwrap_or_else(|| "this host".to_owned());
        let mut sources = Vec::new();
        let mut sealed_to = BTreeSet::new();
        for source in &settings.sources {
            let mut about = Source {
                name: source.name.to_string(),
                path: source.path.display().to_string(),
                prefix: None,
                pass: None,
                pieces: 0,
                bytes: 0,
            };
            if let Some(catalog) = &catalog {
                for pass in catalog.passes(Some(&source.name))? {
                    let mut pieces = catalog.pieces(&source.name, pass.pass)?;
                    pieces.retain(|row| row.state == PieceState::Delivered);
                    about.prefix = about.prefix.or_else(|| prefix(&pieces));
                    if pass.ended.is_some() && about.pass.is_none() && !pieces.is_empty() {
                        about.pass = Some(pass.pass.to_string());
                        about.pieces = pieces.len() as u64;
                        about.bytes = pieces.iter().filter_map(|row| Some(row.sealed.as_ref()?.size)).sum();
                        sealed_to.extend(fingerprints(settings, &pieces));
                    }
                }
            }
            sources.push(about);
        }
        let keys = keys(settings, sealed_to)?;
        let vault = vault(settings);
        let commands = commands(&vault, &keys, &sources);
        let made = Timestamp::now().round(Unit::Second).map_err(|err| Failed::other(&err))?;
        Ok(Facts { made, host, vault, keys, sources, commands })
    }
}

/// `nas1/data/20261120T200000Z/000001-x.tar.xz.gpg` → `nas1/data`.
fn prefix(pieces: &[PieceRow]) -> Option<String> {
    let key = &pieces.iter().find_map(|row| row.delivered.as_ref())?.key;
    let (pass, _) = key.rsplit_once('/')?;
    Some(pass.rsplit_once('/')?.0.to_owned())
}

/// As the manifests on this host tell, of the first and the last piece.
fn fingerprints(settings: &Settings, pieces: &[PieceRow]) -> Vec<String> {
    let ends = pieces.first().into_iter().chain(pieces.last());
    let heads = ends.filter_map(|row| read_manifest(&local_manifest(&settings.state, row.name())).ok());
    heads.flat_map(|manifest| manifest.head().fingerprints.clone()).collect()
}

fn vault(settings: &Settings) -> Vault {
    let vault = &settings.vault;
    let (bucket, prefix) = match &vault.url {
        VaultUrl::S3 { bucket, prefix } => (Some(bucket.clone()), Some(prefix.clone())),
        VaultUrl::Directory(_) => (None, None),
    };
    let region = vault.region.clone().filter(|_| bucket.is_some());
    let endpoint = bucket.as_ref().map(|bucket| {
        let scope = Scope { bucket: bucket.clone(), prefix: String::new(), region: region.clone() };
        let end = if scope.partition() == "aws-cn" { ".cn" } else { "" };
        let region = region.as_deref().unwrap_or(UNKNOWN);
        vault.endpoint_url.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com{end}"))
    });
    Vault {
        url: vault.url.to_string(),
        class: vault.storage_class.clone(),
        is_frozen: bucket.is_some() && is_frozen(&vault.storage_class),
        bucket,
        prefix,
        region,
        endpoint,
    }
}

fn keys(settings: &Settings, mut sealed_to: BTreeSet<String>) -> Result<Keys, Failed> {
    let known = certificates(&settings.encrypt.recipients).map_err(|err| Failed::of(&err))?;
    let certificates: Vec<Certificate> = known
        .into_iter()
        .map(|CertificateAbout { fingerprint, user_ids }| Certificate { fingerprint, user_ids })
        .collect();
    sealed_to.retain(|key| !certificates.iter().any(|certificate| certificate.fingerprint == *key));
    let is_encrypted = settings.encrypt.method == Encryption::OpenPgp;
    Ok(Keys { is_encrypted, certificates, others: sealed_to.into_iter().collect() })
}

fn commands(vault: &Vault, keys: &Keys, sources: &[Source]) -> Vec<Paragraph> {
    let mut settings = vec!["set -eu -o pipefail".to_owned()];
    match (&vault.bucket, &vault.endpoint) {
        (Some(bucket), Some(endpoint)) => {
            let below = vault.prefix.as_ref().filter(|prefix| !prefix.is_empty());
            let below = below.map(|prefix| format!("{prefix}/")).unwrap_or_default();
            // Servers other than Amazon's take any.
            let region = vault.region.as_deref().unwrap_or("us-east-1");
            if vault.region.is_none() && endpoint.contains(UNKNOWN) {
                settings.push("region=${AWS_REGION:?where the bucket is: aws s3api get-bucket-location}".into());
                settings.push("endpoint=https://s3.$region.amazonaws.com".into());
            } else {
                settings.push(format!("endpoint={} region={}", quoted(endpoint), quoted(region)));
            }
            settings.push(format!("bucket={} below={}", quoted(bucket), quoted(&below)));
            settings
                .push(": \"${AWS_ACCESS_KEY_ID:?of keys that may read and thaw} ${AWS_SECRET_ACCESS_KEY:?}\"".into());
        }
        _ => {
            let path = vault.url.strip_prefix("file://").unwrap_or(&vault.url);
            settings.push(format!("vault={} below=                 # or where its disk is mounted now", quoted(path)));
        }
    }
    for (at, source) in sources.iter().enumerate() {
        let Some(prefix) = &source.prefix else { continue };
        // One at a time; the others stand ready to be chosen.
        let mark = if sources[..at].iter().any(|other| other.prefix.is_some()) { "# " } else { "" };
        settings.push(format!("{mark}source={}                  # {}", quoted(prefix), source.name));
    }
    settings.push(match (keys.is_encrypted, keys.certificates.is_empty()) {
        (false, _) => "unlock=()".to_owned(),
        (true, true) => {
            "unlock=(--pinentry-mode loopback --passphrase-file \"${PASSPHRASE_FILE:?a file with the passphrase}\")"
                .into()
        }
        (true, false) => "unlock=()                             # before: gpg --import THE-SECRET-KEY".to_owned(),
    });
    let tree = if keys.is_encrypted { "tree.txt.xz.gpg" } else { "tree.txt.xz" };
    let find = format!("wanted=${{wanted:-thesis}} tree={tree}\n{}", FIND.trim_end());
    let client = if vault.bucket.is_some() { S3 } else { DIRECTORY };
    let (open, restore) = RESTORE.trim_end().split_once("\n\n").unwrap_or((RESTORE, ""));
    let (unpack, join) = restore.split_once("\n\n").unwrap_or((restore, ""));
    let paragraph = |what, script: &str| Paragraph { what, script: script.to_owned() };
    vec![
        paragraph("The names of this vault", &settings.join("\n")),
        paragraph("How to get things out of it", client.trim_end()),
        paragraph("What opens them, and the index of the newest pass", open),
        paragraph("Everything, into a new directory back, piece by piece", unpack),
        paragraph("Files larger than a piece", join),
        paragraph("Only to find a file: after the first three, instead of the others", &find),
    ]
}
