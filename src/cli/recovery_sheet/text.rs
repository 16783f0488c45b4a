//! The sheet as text. Commands are indented, and nothing else is.

use super::{
    super::aws_policy::wrapped,
    facts::{Facts, Keys, Source, Vault},
};
use crate::units::ByteSize;

const INDENT: &str = "    ";

/// A part of the sheet: what it is about, and its lines.
pub struct Section {
    pub title: String,
    pub lines: Vec<String>,
}

pub fn text(facts: &Facts) -> String {
    let mut text = String::new();
    for Section { title, lines } in sections(facts) {
        text.push_str(&format!("{title}\n{}\n\n", "-".repeat(title.chars().count())));
        for line in lines {
            text.push_str(&wrapped(&line));
            text.push('\n');
        }
        text.push('\n');
    }
    for paragraph in &facts.commands {
        text.push_str(&format!("{}:\n\n", paragraph.what));
        for line in paragraph.script.lines() {
            text.push_str(format!("{INDENT}{line}").trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// All that stands before the commands.
pub fn sections(facts: &Facts) -> Vec<Section> {
    let section = |title: &str, lines| Section { title: title.to_owned(), lines };
    vec![
        Section {
            title: format!("How to get back what {} has archived", facts.host),
            lines: vec![
                format!("Made {} by archiver {}. No secret is on this sheet.", facts.made, env!("CARGO_PKG_VERSION")),
                "Keep it, and what opens the data, where this machine cannot take them with it. Print it again when the \
                 vault or the keys change."
                    .to_owned(),
            ],
        },
        section("Where it is", whereabouts(&facts.vault, &facts.host)),
        section("What is there", facts.sources.iter().map(source).collect()),
        section("What opens it", keys(&facts.keys)),
        section("Who may read it", credentials(&facts.vault)),
        section(
            "The commands",
            vec![
                format!(
                    "As root, in an empty directory with room for what comes back, on any Linux with bash, {}gnupg, xz-utils, \
                     zstd, tar and jq; nothing of archiver is needed. Write them into one file, in their order, and run that \
                     with bash.",
                    if facts.vault.bucket.is_some() { "curl, " } else { "" }
                ),
            ],
        ),
    ]
}

fn whereabouts(vault: &Vault, host: &str) -> Vec<String> {
    let mut lines = vec![format!("Vault: {}", vault.url), format!("Host: {host}")];
    let named = [("Bucket", &vault.bucket), ("Prefix", &vault.prefix), ("Region", &vault.region)];
    for (name, value) in named.into_iter().chain([("Endpoint", &vault.endpoint)]) {
        lines.extend(value.as_ref().filter(|value| !value.is_empty()).map(|value| format!("{name}: {value}")));
    }
    if vault.bucket.is_some() {
        lines.push(format!("Storage class of the pieces: {}", vault.class));
    }
    if vault.is_frozen {
        lines.push(
            "It must be thawed before it is read: within 48 hours (Bulk), or 12 for more money (Standard).".into(),
        );
    }
    lines
}

fn source(source: &Source) -> String {
    let Source { name, path, prefix, pass, pieces, bytes } = source;
    match (prefix, pass) {
        (Some(prefix), Some(pass)) => {
            format!("{name} ({path}): {prefix}/{pass}/, {pieces} pieces, {}", ByteSize(*bytes))
        }
        (Some(prefix), None) => format!("{name} ({path}): {prefix}/, no pass has ended yet"),
        (None, _) => format!("{name} ({path}): nothing is delivered yet"),
    }
}

fn keys(keys: &Keys) -> Vec<String> {
    let mut lines = Vec::new();
    if !keys.is_encrypted {
        lines.push("Nothing: it is not encrypted.".to_owned());
    } else if keys.certificates.is_empty() {
        lines.push("A passphrase. It is kept at: ________________________________________".to_owned());
        lines.push(
            "A piece opens only with the passphrase that it was made with: keep every one that was ever used.".into(),
        );
    } else {
        lines.push("Any one of these OpenPGP keys; of each the secret half is needed:".to_owned());
        for certificate in &keys.certificates {
            let users = certificate.user_ids.join(", ");
            lines.push(format!("{} {users}", grouped(&certificate.fingerprint)));
        }
        lines.push("They are kept at: ________________________________________".to_owned());
    }
    for other in &keys.others {
        lines.push(format!("Pieces of the last pass were sealed to {} as well.", grouped(other)));
    }
    lines
}

/// In groups of four, as people compare it.
fn grouped(fingerprint: &str) -> String {
    let bytes: Vec<&str> = fingerprint.as_bytes().chunks(4).filter_map(|four| std::str::from_utf8(four).ok()).collect();
    bytes.join(" ")
}

fn credentials(vault: &Vault) -> Vec<String> {
    if vault.bucket.is_none() {
        return vec![
            "Whoever may read the files of the vault's disk. Where that disk is: ____________________".to_owned(),
        ];
    }
    vec![
        "Whoever owns the account makes a user with the rights s3:GetObject, s3:RestoreObject and s3:ListBucket on the \
         bucket (`archiver aws-policy restore` prints the policy), and an access key for it."
            .to_owned(),
        "Account, and who can sign in to it: ________________________________________".to_owned(),
    ]
}
