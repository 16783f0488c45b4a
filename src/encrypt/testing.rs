//! What the tests of this room share: certificates, a gpg of its own, and a reader of packets that is not the library's.

use super::{CHUNK_LEN, EncryptError, Encrypter, KeySource, Options, Sealed};
use crate::stage::{Job, Transform};
use sequoia_openpgp::{
    Cert,
    cert::{CertBuilder, CipherSuite},
    serialize::SerializeInto,
    types::Features,
};
use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

pub(super) const PASSPHRASE: &str = "correct horse battery staple";
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn dir() -> TempDir {
    tempfile::Builder::new().prefix("seal").tempdir_in("/tmp").unwrap()
}

pub(super) fn write(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    path.to_owned()
}

pub(super) fn builder(suite: CipherSuite) -> CertBuilder<'static> {
    CertBuilder::new()
        .set_profile(sequoia_openpgp::Profile::RFC4880)
        .unwrap()
        .set_cipher_suite(suite)
        .add_userid("archive <archive@example.org>")
        .add_storage_encryption_subkey()
}

pub(super) fn cert() -> Cert {
    builder(CipherSuite::Cv25519).generate().unwrap().0
}

/// A certificate of version 4 whose owner says that the newest form may be used.
pub(super) fn modern_cert() -> Cert {
    let features = Features::empty().set_seipdv1().set_seipdv2();
    builder(CipherSuite::Cv25519).set_features(features).unwrap().generate().unwrap().0
}

pub(super) fn public(cert: &Cert) -> Vec<u8> {
    cert.armored().to_vec().unwrap()
}

pub(super) fn secret(cert: &Cert) -> Vec<u8> {
    cert.as_tsk().armored().to_vec().unwrap()
}

pub(super) fn open_at(keys: KeySource, now: SystemTime) -> Result<Encrypter, super::KeyError> {
    Encrypter::open(&Options { keys, prove: true }, Arc::new(move || now))
}

pub(super) fn open(keys: KeySource) -> Result<Encrypter, super::KeyError> {
    open_at(keys, SystemTime::now())
}

/// An encrypter to certificates that are written to files of `dir`.
pub(super) fn to_certs(dir: &Path, certs: &[&Cert]) -> Encrypter {
    let name = |index: usize| dir.join(format!("{index}.asc"));
    let files = certs.iter().enumerate().map(|(index, cert)| write(&name(index), public(cert), 0o644)).collect();
    open(KeySource::Certificates(files)).unwrap()
}

pub(super) fn to_passphrase(dir: &Path) -> Encrypter {
    open(KeySource::Passphrase(write(&dir.join("passphrase"), PASSPHRASE, 0o600))).unwrap()
}

pub(super) fn apply(encrypter: &mut Encrypter, clear: &[u8]) -> Result<(Sealed, Vec<u8>), EncryptError> {
    let mut output = Vec::new();
    let job = Job {
        input: &mut &*clear,
        input_len: clear.len() as u64,
        output: &mut output,
        from: None,
        mark: &mut |_| panic!("there is nothing to go on from"),
        stop: &|| false,
    };
    encrypter.apply(job).map(|sealed| (sealed, output))
}

/// Bytes without a pattern that a swap of blocks could hide in.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Lengths around every border of the form.
pub(super) fn lengths() -> Vec<usize> {
    // 6 bytes of the literal's header: 185 and 186, 8377 and 8378 are where its length takes one more byte.
    let borders = [185, 186, 8377, 8378, CHUNK_LEN - 6, CHUNK_LEN, 2 * CHUNK_LEN - 6];
    let mut lengths: Vec<_> = borders.into_iter().flat_map(|border| [border - 1, border, border + 1]).collect();
    // 48 bytes around the clear ones are where the encrypted packet goes over to another chunk.
    lengths.extend([0, 1, 10_000_000].into_iter().chain(CHUNK_LEN - 60..CHUNK_LEN - 45));
    lengths
}

/// A gpg with keys of its own.
pub(super) struct Gpg {
    home: TempDir,
}

impl Gpg {
    pub(super) fn new() -> Gpg {
        // The sockets of its agent are here, and their paths must be short.
        Gpg { home: dir() }
    }

    pub(super) fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new("gpg")
            .env("GNUPGHOME", self.home.path())
            .env("LC_ALL", "C")
            .args(["--batch", "--no-tty", "--pinentry-mode", "loopback", "--no-symkey-cache"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // It may end before it has read all.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    pub(super) fn ok(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(args, input);
        assert!(output.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub(super) fn decrypt(&self, args: &[&str], sealed: &[u8]) -> Vec<u8> {
        self.ok(&[args, &["-d"]].concat(), sealed)
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let kill = Command::new("gpgconf").env("GNUPGHOME", self.home.path()).args(["--kill", "gpg-agent"]).status();
        assert!(kill.unwrap().success());
    }
}

/// A packet as it stands in a file, found without the library.
pub(super) struct Found {
    pub(super) tag: u8,
    /// Of every chunk; just one where the length is given at once.
    pub(super) chunks: Vec<usize>,
    pub(super) body: Vec<u8>,
    /// Where each byte of the body stands.
    pub(super) places: Vec<usize>,
}

/// Reads packets of the new format (RFC 4880, section 4.2.2).
pub(super) fn packets(bytes: &[u8]) -> Vec<Found> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        assert_eq!(bytes[at] & 0xc0, 0xc0, "a packet of the new format at {at}");
        let mut packet = Found { tag: bytes[at] & 0x3f, chunks: Vec::new(), body: Vec::new(), places: Vec::new() };
        at += 1;
        loop {
            let (len, octets, last) = match bytes[at] {
                one @ 0..192 => (one as usize, 1, true),
                one @ 192..224 => (((one as usize - 192) << 8) + bytes[at + 1] as usize + 192, 2, true),
                255 => (u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize, 5, true),
                one => (1 << (one & 0x1f), 1, false),
            };
            at += octets;
            packet.chunks.push(len);
            packet.body.extend_from_slice(&bytes[at..at + len]);
            packet.places.extend(at..at + len);
            at += len;
            if last {
                break;
            }
        }
        found.push(packet);
    }
    found
}
