//! Opening what was sealed, as a reader would years later.
//!
//! The clear bytes are handed on while they are read, in bounded memory, and only the last of them come after the
//! whole has been found unchanged: they are to be trusted when the function returns `Ok`, and not before.

use super::{
    EncryptError, agent,
    keys::{KeyError, parse_certs, read_limited},
    secret::{Secret, open_private},
    wire::{Input, Output},
};
use crate::panics;
use sequoia_openpgp::{
    Cert, KeyHandle, KeyID,
    crypto::SessionKey,
    packet::{Key, PKESK, SKESK, key},
    parse::{
        Parse,
        stream::{DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper},
    },
    policy::StandardPolicy,
    types::SymmetricAlgorithm,
};
use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Bytes that are held back until the whole is found unchanged. The library reads in pieces of twice as many.
const RESERVE_LEN: usize = 1 << 20;
const COPY_LEN: usize = 1 << 20;
/// Read before the library is called; more than it reads before it has found the session key.
const AHEAD_LEN: usize = 1 << 20;

/// What to open with.
#[derive(Debug)]
pub enum Unlock {
    Passphrase(Secret),
    /// A file of certificates with their secret keys, as `gpg --export-secret-keys` writes it.
    SecretKey {
        file: PathBuf,
        password: Option<Secret>,
    },
    /// Whatever keys gpg and its agent have.
    Agent,
}

type SecretKey = Key<key::SecretParts, key::UnspecifiedRole>;

/// What a session key is taken from.
pub(super) enum Opening<'a> {
    Passphrase(&'a Secret),
    SecretKeys(&'a [SecretKey]),
    /// The session key itself, of a form that must be for just these keys.
    SessionKey(&'a SessionKey, &'a [KeyID]),
}

/// Opens what was sealed.
pub struct Opener(Keys);

enum Keys {
    Passphrase(Secret),
    Secret(Vec<SecretKey>),
    Agent,
}

impl Opener {
    /// Reads and unlocks the keys. Neither expiry nor revocation matters: they say what must not be sealed any more.
    pub fn open(unlock: &Unlock) -> Result<Opener, KeyError> {
        Ok(Opener(match unlock {
            Unlock::Passphrase(secret) => Keys::Passphrase(secret.clone()),
            Unlock::SecretKey { file, password } => Keys::Secret(secret_keys(file, password.as_ref())?),
            Unlock::Agent => Keys::Agent,
        }))
    }

    /// Writes the clear bytes of `input` to `output`. They are to be trusted only when this returns `Ok`.
    pub fn decrypt(&self, input: &mut (dyn Read + Send), output: &mut (dyn Write + Send)) -> Result<(), EncryptError> {
        let opening = match &self.0 {
            Keys::Passphrase(secret) => Opening::Passphrase(secret),
            Keys::Secret(keys) => Opening::SecretKeys(keys),
            Keys::Agent => return agent::decrypt(input, output),
        };
        unseal(opening, &mut Input::new(input), &mut Output::new(output))
    }
}

fn secret_keys(file: &Path, password: Option<&Secret>) -> Result<Vec<SecretKey>, KeyError> {
    let certs = parse_certs(file, &read_limited(file, open_private(file)?)?)?;
    let (mut keys, mut locked) = (Vec::new(), false);
    let secrets = certs.iter().flat_map(|cert| cert.keys().secret());
    for key in secrets.map(|key| key.key()).filter(|key| key.pk_algo().for_encryption()) {
        if !key.secret().is_encrypted() {
            keys.push(key.clone());
            continue;
        }
        locked = true;
        // Keys of one file may have several passwords, or be mere stubs: whatever opens is used.
        if let Some(Ok(key)) = password.map(|password| key.clone().decrypt_secret(password.password())) {
            keys.push(key);
        }
    }
    let file = file.to_owned();
    match (keys.is_empty(), locked, password) {
        (false, ..) => Ok(keys),
        (true, false, _) => Err(KeyError::NoSecret { file }),
        (true, true, None) => Err(KeyError::Locked { file }),
        (true, true, Some(_)) => Err(KeyError::WrongPassword { file }),
    }
}

pub(super) fn unseal(opening: Opening<'_>, input: &mut Input<'_>, output: &mut Output<'_>) -> Result<(), EncryptError> {
    // The library unwraps a read that can fail when a form ends within its first bytes.
    let opened = panics::caught(|| copy(opening, input, output));
    // The first failure of a stream is the cause of whatever the library made of it.
    if let Some(err) = input.failure() {
        return Err(EncryptError::reading(err));
    }
    if let Some(err) = output.failure() {
        return Err(EncryptError::writing(err));
    }
    let opened = opened.map_err(|_| EncryptError::Damaged("The OpenPGP library could not go on".into()))?;
    opened.map_err(|err| match err.downcast::<NoKeyFits>() {
        Ok(no) => EncryptError::NoKey { sealed_to: no.sealed_to },
        Err(err) => EncryptError::Damaged(err.into()),
    })
}

fn copy(opening: Opening<'_>, input: &mut Input<'_>, output: &mut Output<'_>) -> sequoia_openpgp::Result<()> {
    // Read here first, so that a stop or a failing disk is not met at the place where the library panics.
    let mut ahead = Vec::with_capacity(AHEAD_LEN);
    input.by_ref().take(AHEAD_LEN as u64).read_to_end(&mut ahead)?;
    let policy = StandardPolicy::new();
    let builder = DecryptorBuilder::from_reader(ahead.as_slice().chain(input))?.buffer_size(RESERVE_LEN);
    let mut reader = builder.with_policy(&policy, None, Helper { opening })?;
    let mut buf = vec![0; COPY_LEN];
    loop {
        match reader.read(&mut buf) {
            Ok(0) => break,
            Ok(count) => output.write_all(&buf[..count])?,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err.into()),
        }
    }
    // The end of the clear bytes is given out only when the whole message was read and its detection code holds.
    if !reader.message_processed() {
        return Err(io::Error::other("The end was not checked").into());
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("None of the keys opens it")]
struct NoKeyFits {
    sealed_to: Vec<String>,
}

struct Helper<'a> {
    opening: Opening<'a>,
}

impl VerificationHelper for Helper<'_> {
    fn get_certs(&mut self, _: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(Vec::new())
    }

    /// Asked once the whole has been read. A message that is not encrypted at all is a message to the library, but
    /// not to us: anybody could have put it in the place of ours.
    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        match structure.iter().next() {
            Some(MessageLayer::Encryption { .. }) => Ok(()),
            _ => Err(io::Error::other("It is not encrypted").into()),
        }
    }
}

impl DecryptionHelper for Helper<'_> {
    fn decrypt(
        &mut self,
        pkesks: &[PKESK],
        skesks: &[SKESK],
        sym_algo: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> sequoia_openpgp::Result<Option<Cert>> {
        let opened = match &self.opening {
            Opening::Passphrase(secret) => skesks.iter().any(|skesk| {
                skesk.decrypt(secret.password()).is_ok_and(|(algo, session_key)| decrypt(algo, &session_key))
            }),
            Opening::SessionKey(session_key, key_ids) => {
                is_for(pkesks, key_ids) && skesks.is_empty() && decrypt(Some(super::seal::CIPHER), session_key)
            }
            Opening::SecretKeys(keys) => pkesks.iter().any(|pkesk| {
                let fits = |key: &&SecretKey| pkesk.recipient().is_none_or(|id| id.aliases(key.key_handle()));
                keys.iter().filter(fits).any(|key| {
                    let pair = key.clone().into_keypair().ok();
                    let session_key = pair.and_then(|mut pair| pkesk.decrypt(&mut pair, sym_algo));
                    session_key.is_some_and(|(algo, session_key)| decrypt(algo, &session_key))
                })
            }),
        };
        if opened {
            return Ok(None);
        }
        let name = |pkesk: &PKESK| pkesk.recipient().map_or("somebody unnamed".to_owned(), |id| id.to_hex());
        let mut sealed_to: Vec<_> = pkesks.iter().map(name).collect();
        if !skesks.is_empty() {
            sealed_to.push("a passphrase".to_owned());
        }
        Err(NoKeyFits { sealed_to }.into())
    }
}

/// Whether the session key packets are for just these keys, in this order.
fn is_for(pkesks: &[PKESK], key_ids: &[KeyID]) -> bool {
    pkesks.len() == key_ids.len()
        && pkesks
            .iter()
            .zip(key_ids)
            .all(|(pkesk, id)| pkesk.recipient().is_some_and(|recipient| recipient == KeyHandle::from(id)))
}
