//! What is on this host: the state, the keys, the sources.

use crate::{
    archive::tree,
    catalog::{Catalog, CatalogError},
    config::{Settings, Source},
    encrypt::{self, Encrypter},
    fate::{Chain, Fateful},
    finding::Findings,
    stage::Transform,
};
use rustix::fs::Access;
use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Time to make a new key, and to take it wherever it must be.
const EXPIRES_SOON: Duration = Duration::from_secs(90 * 86_400);

pub(super) fn state(settings: &Settings, out: &mut Findings<'_>) {
    let Some(place) = settings.state.ancestors().find(|place| place.exists()) else {
        return out.problem("state", format!("{:?} is nowhere", settings.state), "Correct `state`");
    };
    if let Err(errno) = rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK) {
        let what = format!("{place:?} cannot be written: {}", std::io::Error::from(errno));
        return out.problem("state", what, "Run this as whom the daemon runs as, and look at the rights of it");
    }
    match Catalog::open_read_only(&settings.catalog_file()) {
        Ok(_) => out.ok("state", format!("the catalog in {:?} is whole", settings.state)),
        Err(CatalogError::Missing { .. }) => {
            out.ok("state", format!("there is no catalog in {:?} yet: the first run makes it", settings.state));
        }
        Err(err) => out.problem("state", Chain(&err).to_string(), ""),
    }
}

pub(super) fn sources(settings: &Settings, out: &mut Findings<'_>) {
    for source in &settings.sources {
        let shown = format!("{}: {:?}", source.name, source.path);
        match trouble_with(source) {
            None => out.ok("source", format!("{shown} is there")),
            Some(what) => {
                let hint = "Mount it, or correct the path; until then its passes are held, and nothing of it is lost";
                out.problem("source", format!("{shown} {what}"), hint);
            }
        }
    }
}

fn trouble_with(source: &Source) -> Option<String> {
    match fs::metadata(&source.path) {
        Ok(meta) if !meta.is_dir() => return Some("is not a directory".to_owned()),
        Err(err) => return Some(format!("is not there: {err}")),
        Ok(_) => {}
    }
    if let Err(err) = fs::read_dir(&source.path) {
        return Some(format!("cannot be read: {err}"));
    }
    match tree::why_no_mount(&source.path) {
        _ if !source.require_mount => None,
        Ok(None) => None,
        Ok(Some(why)) => Some(format!("{why}, and require_mount is set")),
        Err(err) => Some(format!("cannot be looked at: {err}")),
    }
}

/// Seals something to all recipients, and opens it as far as that is possible here.
pub(super) fn keys(options: &encrypt::Options, now: SystemTime, out: &mut Findings<'_>) {
    const CLEAR: &[u8] = b"archiver doctor";
    let mut encrypter = match Encrypter::open(options, Arc::new(move || now)) {
        Ok(encrypter) => encrypter,
        Err(err) => return out.of(err.trouble()).problem("keys", Chain(&err).to_string(), ""),
    };
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    let tried = encrypter.seal_small(&mut &*CLEAR, &mut sealed).and_then(|_| {
        let proven = encrypter.prove(&mut &sealed[..], &mut opened, &|| false);
        proven.map(|()| opened == CLEAR)
    });
    let certificates = encrypter.expiries();
    match tried {
        Err(err) => out.problem("keys", Chain(&err).to_string(), ""),
        Ok(false) => out.problem("keys", "what was sealed opens as something else", "Look at the memory of this host"),
        Ok(true) if certificates.is_empty() => {
            out.ok("keys", "the passphrase seals and opens; keep a copy where this host cannot take it with it");
        }
        Ok(true) => {
            let fingerprints: Vec<&str> = certificates.iter().map(|(fingerprint, _)| fingerprint.as_str()).collect();
            out.ok("keys", format!("sealed to {}; no secret key is needed or tried here", fingerprints.join(", ")));
        }
    }
    for (fingerprint, expiry) in certificates {
        let Some(left) = expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default()) else { continue };
        if left <= EXPIRES_SOON {
            let what = format!("the certificate {fingerprint} expires in {} days", left.as_secs() / 86_400);
            let hint = "Extend it with gpg --quick-set-expire, export it again, and put it in the place of the old one";
            out.warning("keys-expiry", what, hint);
        }
    }
}
