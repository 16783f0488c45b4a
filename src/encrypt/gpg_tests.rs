//! What is sealed opens with stock gpg, and what gpg exports opens with ours.

use super::{testing::*, *};
use sequoia_openpgp::{Cert, cert::CipherSuite};
use std::path::Path;

fn opened(unlock: &Unlock, sealed: &[u8]) -> Vec<u8> {
    let mut clear = Vec::new();
    Opener::open(unlock).unwrap().decrypt(&mut &*sealed, &mut clear).unwrap();
    clear
}

fn key_file(dir: &Path, cert: &Cert) -> Unlock {
    Unlock::SecretKey { file: write(&dir.join("secret"), secret(cert), 0o600), password: None }
}

#[test]
fn every_length_comes_back_through_gpg_and_through_ours() {
    let (dir, cert, gpg) = (dir(), cert(), Gpg::new());
    gpg.ok(&["--import"], &secret(&cert));
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    let unlock = key_file(dir.path(), &cert);
    for len in [0, 1, 185, 8378, CHUNK_LEN - 7, CHUNK_LEN - 6, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 10_000_000] {
        let clear = noise(len);
        let (_, sealed) = apply(&mut encrypter, &clear).unwrap();
        assert!(gpg.decrypt(&[], &sealed) == clear, "{len} by gpg");
        assert!(opened(&unlock, &sealed) == clear, "{len} by ours");
        let mut proven = Vec::new();
        encrypter.prove(&mut &sealed[..], &mut proven, &|| false).unwrap();
        assert!(proven == clear, "{len} by the proof");
    }
}

#[test]
fn the_passphrase_in_a_file_is_the_one_that_gpg_reads_in_it() {
    let (dir, gpg) = (dir(), Gpg::new());
    let file = dir.path().join("passphrase");
    let long = [b"x".repeat(PASSPHRASE_LEN_MAX), b"\n".to_vec()].concat();
    let cases: [&[u8]; 6] = [
        b"correct horse battery staple",
        b"correct horse battery staple\n",
        b"  spaces around are part of it  \n",
        "größer als zwanzig Bytes, 平文ではない\n".as_bytes(),
        &[&[0xff, 0xfe, 0x80, b'\\', b'%', b'"'], [b'y'; 20].as_slice(), b"\n"].concat(),
        &long,
    ];
    for case in cases {
        write(&file, case, 0o600);
        let mut encrypter = open(KeySource::Passphrase(file.clone())).unwrap();
        let clear = noise(100_000);
        let (_, sealed) = apply(&mut encrypter, &clear).unwrap();
        let opened_by_gpg = gpg.decrypt(&["--passphrase-file", file.to_str().unwrap()], &sealed);
        assert!(opened_by_gpg == clear, "{case:?}");
        assert!(opened(&Unlock::Passphrase(Secret::from_file(&file).unwrap()), &sealed) == clear, "{case:?}");
        let mut proven = Vec::new();
        encrypter.prove(&mut &sealed[..], &mut proven, &|| false).unwrap();
        assert!(proven == clear, "{case:?}");
    }
}

#[test]
fn recipients_made_by_gpg_each_open_it_alone() {
    let dir = dir();
    let (rsa, curve) = (Gpg::new(), Gpg::new());
    rsa.ok(&["--passphrase", "", "--quick-gen-key", "rsa <rsa@example.org>", "default", "default", "1y"], b"");
    let password = "the password of the key";
    curve.ok(&["--passphrase", password, "--quick-gen-key", "cv <cv@example.org>", "future-default"], b"");
    let export = |gpg: &Gpg, armor: &[&str], name: &str| {
        write(&dir.path().join(name), gpg.ok(&[armor, &["--export"]].concat(), b""), 0o644)
    };
    let files = vec![export(&rsa, &["--armor"], "rsa.asc"), export(&curve, &[], "curve.gpg")];
    let mut encrypter = open(KeySource::Certificates(files)).unwrap();
    let fingerprint_of = |gpg: &Gpg| {
        let listed = String::from_utf8(gpg.ok(&["--with-colons", "--list-keys"], b"")).unwrap();
        listed.lines().find(|line| line.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned()
    };
    assert_eq!(encrypter.fingerprints(), [fingerprint_of(&rsa), fingerprint_of(&curve)]);
    let expiries = encrypter.expiries();
    let year = expiries[0].1.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(year > 363 * DAY && year < 366 * DAY, "{year:?}");

    let clear = noise(CHUNK_LEN + 12_345);
    let (_, sealed) = apply(&mut encrypter, &clear).unwrap();
    assert!(rsa.decrypt(&[], &sealed) == clear);
    assert!(curve.decrypt(&["--passphrase", password], &sealed) == clear);

    let exported = rsa.ok(&["--export-secret-keys"], b"");
    let file = write(&dir.path().join("rsa.key"), exported, 0o600);
    assert!(opened(&Unlock::SecretKey { file, password: None }, &sealed) == clear);
    let exported = curve.ok(&["--passphrase", password, "--armor", "--export-secret-subkeys"], b"");
    let file = write(&dir.path().join("curve.key"), exported, 0o600);
    let unlock = |password: Option<&str>| Unlock::SecretKey {
        file: file.clone(),
        password: password.map(|password| Secret::new(password.into())),
    };
    // Without its primary key, as it is kept on a machine for restoring.
    assert!(opened(&unlock(Some(password)), &sealed) == clear);
    assert!(matches!(Opener::open(&unlock(None)), Err(KeyError::Locked { .. })));
    assert!(matches!(Opener::open(&unlock(Some("another"))), Err(KeyError::WrongPassword { .. })));
}

#[test]
fn two_recipients_that_advertise_the_new_form_each_open_it_alone() {
    let (dir, one, two) = (dir(), modern_cert(), builder(CipherSuite::P256).generate().unwrap().0);
    let mut encrypter = to_certs(dir.path(), &[&one, &two]);
    let clear = noise(100_000);
    let (_, sealed) = apply(&mut encrypter, &clear).unwrap();
    for cert in [&one, &two] {
        let gpg = Gpg::new();
        gpg.ok(&["--import"], &secret(cert));
        assert!(gpg.decrypt(&[], &sealed) == clear);
        assert!(opened(&key_file(dir.path(), cert), &sealed) == clear);
    }
}

#[test]
fn old_pieces_open_after_the_key_has_expired_or_was_revoked() {
    let (dir, gpg) = (dir(), Gpg::new());
    let long_ago = SystemTime::now() - 1000 * DAY;
    let (cert, revocation) =
        builder(CipherSuite::Cv25519).set_creation_time(long_ago).set_validity_period(100 * DAY).generate().unwrap();
    let file = write(&dir.path().join("cert"), public(&cert), 0o644);
    let mut encrypter = open_at(KeySource::Certificates(vec![file]), long_ago + 10 * DAY).unwrap();
    let (_, sealed) = apply(&mut encrypter, b"clear").unwrap();
    let cert = cert.insert_packets(revocation).unwrap().0;
    assert_eq!(opened(&key_file(dir.path(), &cert), &sealed), b"clear");
    gpg.ok(&["--import"], &secret(&cert));
    assert_eq!(gpg.decrypt(&[], &sealed), b"clear");
}
