//! Seals pieces, manifests and listings in OpenPGP, and opens them again. The only door to `sequoia_openpgp`.
//!
//! - Every piece has a session key of its own, which is kept in memory until the next one, for the proof, and is
//!   never written or logged.
//! - A piece is sealed to all recipients or to none; keys are judged again before each piece, since a run takes
//!   longer than keys live.
//! - What is sealed opens with any `gpg` from 2.1 on; the module `seal` has the form.
//! - With certificates the secret key is not here, and nothing of this room needs it, except [`Opener`].

mod agent;
mod about;
mod error;
mod keys;
mod layout;
mod open;
mod seal;
mod secret;
mod wire;

#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod gpg_tests;
#[cfg(test)]
mod keys_tests;
#[cfg(test)]
mod prove_tests;
#[cfg(test)]
mod testing;

pub use about::{CertificateAbout, certificates};
pub use error::EncryptError;
pub use keys::{CertFlaw, KeyError};
pub use layout::{CHUNK_LEN, Sealed};
pub use open::{Opener, Unlock};
pub use secret::{PASSPHRASE_LEN_MAX, PASSPHRASE_LEN_MIN, PassphraseFlaw, Secret};

use crate::{
    notice::Step,
    stage::{Job, Transform},
};
use keys::Recipient;
use open::{Opening, unseal};
use sequoia_openpgp::{KeyID, crypto::SessionKey};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};
use wire::{Input, Output};

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a passphrase on its only line.
    Passphrase(PathBuf),
    /// Files of public certificates, one or more in each, armored or binary. All of them are recipients.
    Certificates(Vec<PathBuf>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub keys: KeySource,
    /// Whether [`Transform::prove`] opens what was made; without, it does nothing.
    pub prove: bool,
}

/// What time it is, for the validity of certificates.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Seals, and proves what it sealed last.
pub struct Encrypter {
    options: Options,
    clock: Clock,
    lock: Lock,
    /// What was sealed last.
    made: Option<Made>,
}

/// What opens a piece again.
enum Lock {
    Passphrase(Secret),
    Certificates(Vec<Recipient>),
}

/// What is remembered of a sealed form for its proof.
struct Made {
    sealed: Sealed,
    /// The session key packets as written.
    header: Vec<u8>,
    /// Whom they are for.
    key_ids: Vec<KeyID>,
    session_key: SessionKey,
}

impl Lock {
    fn read(keys: &KeySource, now: SystemTime) -> Result<Lock, KeyError> {
        Ok(match keys {
            KeySource::Passphrase(file) => Lock::Passphrase(Secret::from_file(file)?),
            KeySource::Certificates(files) => Lock::Certificates(keys::read_all(files, now)?),
        })
    }

    fn recipients(&self) -> &[Recipient] {
        match self {
            Lock::Passphrase(_) => &[],
            Lock::Certificates(recipients) => recipients,
        }
    }

    fn check(&self, now: SystemTime) -> Result<(), KeyError> {
        self.recipients().iter().try_for_each(|recipient| recipient.usable(now).map(drop))
    }

    /// Each once, although two files may hold the same certificate.
    fn fingerprints(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let all = self.recipients().iter().map(Recipient::fingerprint);
        all.filter(|fingerprint| seen.insert(fingerprint.clone())).collect()
    }
}

impl Encrypter {
    /// Reads and checks all keys. Errors name every file that cannot be used, and what would be right.
    pub fn open(options: &Options, clock: Clock) -> Result<Encrypter, KeyError> {
        let lock = Lock::read(&options.keys, clock())?;
        Ok(Encrypter { options: options.clone(), clock, lock, made: None })
    }

    /// Of the certificates, in the order of the configuration; empty with a passphrase.
    pub fn fingerprints(&self) -> Vec<String> {
        self.lock.fingerprints()
    }

    /// When each certificate can no longer be sealed to: it or the key in use expires. `None` is never. One that
    /// cannot be used any more is told by the next [`seal_small`](Self::seal_small) or [`Transform::apply`].
    pub fn expiries(&self) -> Vec<(String, Option<SystemTime>)> {
        let now = (self.clock)();
        let recipients = self.lock.recipients().iter();
        recipients
            .map(|recipient| (recipient.fingerprint(), recipient.usable(now).map_or(Some(now), |usable| usable.expiry)))
            .collect()
    }

    /// Seals what is too small to be a piece: a manifest, an index, a listing. The form is the same, and
    /// [`Transform::prove`] proves it.
    pub fn seal_small(
        &mut self,
        clear: &mut (dyn Read + Send),
        out: &mut (dyn Write + Send),
    ) -> Result<Sealed, EncryptError> {
        self.made = None;
        let now = (self.clock)();
        if self.lock.check(now).is_err() {
            // Someone may have put a certificate with a new expiry in the place of the old one.
            self.lock = Lock::read(&self.options.keys, now)?;
        }
        let made = seal::seal(&self.lock, now, &mut Input::new(clear), &mut Output::new(out))?;
        let sealed = made.sealed.clone();
        self.made = Some(made);
        Ok(sealed)
    }
}

impl Transform for Encrypter {
    const STEP: Step = Step::Encrypt;
    type Summary = Sealed;
    type Error = EncryptError;

    fn apply(&mut self, job: Job<'_, Sealed>) -> Result<Sealed, EncryptError> {
        // A session key is never stored, so there is nothing to go on with.
        if job.from.is_some() {
            return Err(EncryptError::Resumed);
        }
        let sealed = self.seal_small(job.input, job.output)?;
        if sealed.clear_length != job.input_len {
            self.made = None;
            return Err(EncryptError::Length { length: sealed.clear_length, expected: job.input_len });
        }
        Ok(sealed)
    }

    /// With a passphrase, the session key is taken from the SKESK packet with the passphrase itself. With
    /// certificates the secret keys are elsewhere: the PKESK packets must be just the bytes that were written, one
    /// for every recipient, and the session key is the one still in memory.
    fn prove(
        &mut self,
        output: &mut (dyn Read + Send),
        clear: &mut (dyn Write + Send),
        _: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), EncryptError> {
        if !self.options.prove {
            return Ok(());
        }
        let made = self.made.as_ref().ok_or(EncryptError::Unmade)?;
        let mut header = Vec::new();
        let beginning = made.header.len() as u64;
        (&mut *output).take(beginning).read_to_end(&mut header).map_err(EncryptError::reading)?;
        if header != made.header {
            return Err(EncryptError::Damaged("The session key packets have changed".into()));
        }
        let opening = match &self.lock {
            Lock::Passphrase(secret) => Opening::Passphrase(secret),
            Lock::Certificates(_) => Opening::SessionKey(&made.session_key, &made.key_ids),
        };
        let mut whole = header.as_slice().chain(output);
        let mut whole = Input::new(&mut whole);
        match unseal(opening, &mut whole, &mut Output::new(clear)) {
            Ok(()) if whole.count() != made.sealed.length() => {
                Err(EncryptError::Length { length: whole.count(), expected: made.sealed.length() })
            }
            Err(EncryptError::NoKey { .. }) => {
                Err(EncryptError::Damaged("The session key that it was sealed with does not open it".into()))
            }
            done => done,
        }
    }
}
