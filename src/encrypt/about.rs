//! What people know certificates by.

use super::keys::{KeyError, read_certs};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateAbout {
    pub fingerprint: String,
    pub user_ids: Vec<String>,
}

/// All certificates in these files. Expired and revoked ones too: what was sealed to them still opens with their keys.
pub fn certificates(files: &[PathBuf]) -> Result<Vec<CertificateAbout>, KeyError> {
    let mut all = Vec::new();
    for file in files {
        for cert in read_certs(file)? {
            let user_ids = cert.userids().map(|user| String::from_utf8_lossy(user.userid().value()).into_owned());
            let about = CertificateAbout { fingerprint: cert.fingerprint().to_hex(), user_ids: user_ids.collect() };
            if !all.contains(&about) {
                all.push(about);
            }
        }
    }
    Ok(all)
}
