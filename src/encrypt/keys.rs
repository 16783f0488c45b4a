//! The certificates that pieces are sealed to: reading them, and choosing the keys that are used now.
//!
//! Everything is refused that would leave a piece unreadable to one of its recipients or to gpg, and a recipient
//! is never dropped: either all of them can be used, or none is.

use super::secret::{PassphraseFlaw, open_regular};
use crate::fate::{Chain, Fate, Fateful, Trouble};
use sequoia_openpgp::{
    Cert,
    cert::{CertParser, amalgamation::ValidAmalgamation, amalgamation::key::ValidErasedKeyAmalgamation},
    packet::{Key, key},
    parse::Parse,
    policy::StandardPolicy,
    types::{Curve, PublicKeyAlgorithm, RevocationStatus},
};
use std::{
    error::Error,
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Longest file of certificates, bytes.
const FILE_LEN_MAX: u64 = 16 << 20;

/// Keys or a passphrase that cannot be used. Each says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("Cannot read the keys in {file:?}")]
    Read { file: PathBuf, source: io::Error },
    #[error("{file:?} is not a file; name a file that holds the keys")]
    NotFile { file: PathBuf },
    #[error("{file:?} can be read by others (mode {mode:04o}); run: chmod 600 {file:?}")]
    Loose { file: PathBuf, mode: u32 },
    #[error("The passphrase in {file:?} cannot be used: {flaw}")]
    Passphrase { file: PathBuf, flaw: PassphraseFlaw },
    #[error("No recipients are given; name at least one file of public certificates")]
    NoRecipients,
    #[error("{file:?} holds no OpenPGP certificate: {why}; make it with: gpg --export --armor NAME > {file:?}")]
    NotOpenPgp { file: PathBuf, why: String },
    #[error("The certificate {fingerprint} in {file:?} cannot be used: {flaw}")]
    Certificate { file: PathBuf, fingerprint: String, flaw: CertFlaw },
    #[error("{file:?} holds no secret key that can decrypt; export it with: gpg --export-secret-keys --armor NAME")]
    NoSecret { file: PathBuf },
    #[error("The secret key in {file:?} is locked; give its password")]
    Locked { file: PathBuf },
    #[error("The password does not unlock the secret key in {file:?}; give the one that it was exported with")]
    WrongPassword { file: PathBuf },
    #[error("{}", .0.iter().map(|err| Chain(err).to_string()).collect::<Vec<_>>().join("; "))]
    Several(Vec<KeyError>),
}

impl KeyError {
    pub(super) fn read(file: &Path) -> impl FnOnce(io::Error) -> KeyError + '_ {
        move |source| KeyError::Read { file: file.to_owned(), source }
    }

    /// Whether a file is not there, which is a mistake in the configuration rather than in the keys.
    pub fn is_missing(&self) -> bool {
        match self {
            KeyError::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            KeyError::Several(errors) => errors.iter().any(KeyError::is_missing),
            _ => false,
        }
    }

    /// Joins what is wrong with several files into one error.
    fn all(mut errors: Vec<KeyError>) -> Result<(), KeyError> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(KeyError::Several(errors)),
        }
    }
}

impl Fateful for KeyError {
    fn fate(&self) -> Fate {
        Fate::Operator
    }

    fn trouble(&self) -> Trouble {
        Trouble::Keys
    }
}

/// Why a certificate is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertFlaw {
    #[error("it is a secret key, which does not belong here; give the public certificate: gpg --export --armor NAME")]
    Secret,
    #[error("it is of version {0}, which gpg cannot read; give one of version 4, as gpg --quick-gen-key makes it")]
    Version(u8),
    #[error("it expired at {0}; extend it with gpg --quick-set-expire and export it again, or give another one")]
    Expired(String),
    #[error("it is valid only from {0} on; check the clock")]
    NotYet(String),
    #[error("it is revoked; give another one")]
    Revoked,
    #[error("it has no valid encryption key; add one with gpg --quick-add-key, export it again, or give another one")]
    NoEncryption,
    #[error("its encryption key expired at {0}; extend it with gpg --quick-set-expire and export it again")]
    SubkeyExpired(String),
    #[error("its encryption key is revoked; add one with gpg --quick-add-key and export it again")]
    SubkeyRevoked,
    #[error("its encryption key is of a kind that gpg cannot use ({0}); add an RSA or cv25519 key")]
    Algorithm(String),
    #[error("its signatures do not hold: {0}; make a new one with gpg --quick-gen-key")]
    Invalid(String),
}

/// A key that a piece is sealed to.
pub(super) type EncryptionKey = Key<key::PublicParts, key::UnspecifiedRole>;

/// What is used of a certificate now.
pub(super) struct Usable {
    pub(super) keys: Vec<EncryptionKey>,
    /// When the first of the certificate and these keys expires.
    pub(super) expiry: Option<SystemTime>,
}

/// A certificate and where it came from.
pub(super) struct Recipient {
    pub(super) file: PathBuf,
    pub(super) cert: Cert,
}

impl Recipient {
    pub(super) fn fingerprint(&self) -> String {
        self.cert.fingerprint().to_hex()
    }

    /// Chooses the keys to be used at `now`.
    pub(super) fn usable(&self, now: SystemTime) -> Result<Usable, KeyError> {
        usable(&self.cert, now).map_err(|flaw| KeyError::Certificate {
            file: self.file.clone(),
            fingerprint: self.fingerprint(),
            flaw,
        })
    }
}

/// Reads all certificates in all files, and checks that every one can be used at `now`. Errors tell of all files.
pub(super) fn read_all(files: &[PathBuf], now: SystemTime) -> Result<Vec<Recipient>, KeyError> {
    if files.is_empty() {
        return Err(KeyError::NoRecipients);
    }
    let (mut recipients, mut errors) = (Vec::<Recipient>::new(), Vec::new());
    for file in files {
        match read_certs(file) {
            Err(err) => errors.push(err),
            Ok(certs) => recipients.extend(certs.into_iter().map(|cert| Recipient { file: file.clone(), cert })),
        }
    }
    errors.extend(recipients.iter().filter_map(|recipient| recipient.usable(now).err()));
    KeyError::all(errors).map(|()| recipients)
}

pub(super) fn read_certs(file: &Path) -> Result<Vec<Cert>, KeyError> {
    let bytes = read_limited(file, open_regular(file)?)?;
    parse_certs(file, &bytes)
}

pub(super) fn read_limited(file: &Path, reader: impl Read) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::new();
    reader.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(KeyError::read(file))?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(KeyError::NotOpenPgp { file: file.to_owned(), why: "it is too large".to_owned() });
    }
    Ok(bytes)
}

/// All certificates in the bytes of a file. One that cannot be read spoils the file: it could be a recipient.
pub(super) fn parse_certs(file: &Path, bytes: &[u8]) -> Result<Vec<Cert>, KeyError> {
    let not_openpgp = |why: String| KeyError::NotOpenPgp { file: file.to_owned(), why };
    let unreadable = |err: Box<dyn Error + Send + Sync>| not_openpgp(Chain(&*err).to_string());
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(not_openpgp("it is empty".to_owned()));
    }
    let mut certs = Vec::new();
    for block in blocks(bytes).ok_or_else(|| not_openpgp("its armor has no end".to_owned()))? {
        let before = certs.len();
        for cert in CertParser::from_bytes(block).map_err(|err| unreadable(err.into()))? {
            certs.push(cert.map_err(|err| unreadable(err.into()))?);
        }
        if certs.len() == before {
            return Err(not_openpgp("there is something else in it".to_owned()));
        }
    }
    Ok(certs)
}

/// The armored blocks of a file, or all of it when it is binary; `None` when a block is cut off. The parser itself
/// stops after the first block, and would drop the recipients in the others without a word.
fn blocks(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    const BEGIN: &[u8] = b"-----BEGIN PGP ";
    const END: &[u8] = b"-----END PGP ";
    let find = |what: &[u8], from: usize| {
        let place = bytes[from..].windows(what.len()).position(|window| window == what);
        place.map(|place| from + place)
    };
    let Some(mut begin) = find(BEGIN, 0) else { return Some(vec![bytes]) };
    // Binary data may hold these words by chance, but does not begin with text.
    if !bytes[..begin].is_ascii() {
        return Some(vec![bytes]);
    }
    let mut blocks = Vec::new();
    loop {
        let next = find(BEGIN, begin + BEGIN.len());
        let block = &bytes[begin..next.unwrap_or(bytes.len())];
        if !block.windows(END.len()).any(|window| window == END) {
            return None;
        }
        blocks.push(block);
        match next {
            Some(next) => begin = next,
            None => return Some(blocks),
        }
    }
}

fn usable(cert: &Cert, now: SystemTime) -> Result<Usable, CertFlaw> {
    let primary = cert.primary_key().key();
    if cert.is_tsk() {
        return Err(CertFlaw::Secret);
    }
    if primary.version() != 4 {
        return Err(CertFlaw::Version(primary.version()));
    }
    if primary.creation_time() > now {
        return Err(CertFlaw::NotYet(time(primary.creation_time())));
    }
    let policy = StandardPolicy::at(now);
    let valid = cert.with_policy(&policy, now).map_err(|err| {
        let err: Box<dyn Error + Send + Sync> = err.into();
        CertFlaw::Invalid(Chain(&*err).to_string())
    })?;
    if matches!(valid.revocation_status(), RevocationStatus::Revoked(_)) {
        return Err(CertFlaw::Revoked);
    }
    let expiry = valid.primary_key().key_expiration_time();
    if let Some(expiry) = expiry.filter(|expiry| *expiry <= now) {
        return Err(CertFlaw::Expired(time(expiry)));
    }
    let candidates: Vec<_> = valid.keys().for_transport_encryption().for_storage_encryption().collect();
    choose(&candidates, now).map(|chosen| Usable {
        keys: chosen.iter().map(|candidate| candidate.key().clone()).collect(),
        expiry: chosen.iter().filter_map(|candidate| candidate.key_expiration_time()).chain(expiry).min(),
    })
}

type Candidate<'a> = ValidErasedKeyAmalgamation<'a, key::PublicParts>;

/// The newest of the keys that are valid and that gpg can use, as gpg itself would choose; several when they were
/// made in the same second.
fn choose<'a, 'b>(candidates: &'b [Candidate<'a>], now: SystemTime) -> Result<Vec<&'b Candidate<'a>>, CertFlaw> {
    let (mut good, mut flaw) = (Vec::new(), CertFlaw::NoEncryption);
    for candidate in candidates {
        let expiry = candidate.key_expiration_time().filter(|expiry| *expiry <= now);
        if matches!(candidate.revocation_status(), RevocationStatus::Revoked(_)) {
            flaw = CertFlaw::SubkeyRevoked;
        } else if let Some(expiry) = expiry {
            flaw = CertFlaw::SubkeyExpired(time(expiry));
        } else if !gpg_can_use(candidate.key()) {
            flaw = CertFlaw::Algorithm(candidate.key().pk_algo().to_string());
        } else {
            good.push(candidate);
        }
    }
    let newest = good.iter().map(|candidate| candidate.key().creation_time()).max().ok_or(flaw)?;
    good.retain(|candidate| candidate.key().creation_time() == newest);
    Ok(good)
}

/// Whether gpg 2.1 and later can decrypt with such a key, and our library can encrypt to it. The newer X25519 and
/// X448 of RFC 9580, also in certificates of version 4, are unknown to gpg 2.2 and 2.4.
fn gpg_can_use(key: &EncryptionKey) -> bool {
    use sequoia_openpgp::crypto::mpi::PublicKey;
    if !key.pk_algo().is_supported() {
        return false;
    }
    match (key.pk_algo(), key.mpis()) {
        #[allow(deprecated, reason = "old certificates use it")]
        (PublicKeyAlgorithm::RSAEncryptSign | PublicKeyAlgorithm::RSAEncrypt, _) => true,
        (PublicKeyAlgorithm::ECDH, PublicKey::ECDH { curve, .. }) => {
            !matches!(curve, Curve::Unknown(_)) && curve.is_supported()
        }
        _ => false,
    }
}

fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "a time out of range".to_owned(), |time| time.to_string())
}
