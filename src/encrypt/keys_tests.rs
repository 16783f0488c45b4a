//! Which keys and passphrases are used, and which are refused.

use super::{testing::*, *};
use crate::{
    fate::{Fate, Fateful, Trouble},
    stage::Transform,
};
use sequoia_openpgp::{
    Cert, Packet, Profile,
    cert::{CertBuilder, CipherSuite, KeyBuilder, SubkeyRevocationBuilder},
    packet::{Key, key, key::Key4, signature::SignatureBuilder},
    policy::StandardPolicy,
    serialize::SerializeInto,
    types::{Curve, KeyFlags, ReasonForRevocation, SignatureType},
};
use std::{path::Path, sync::Mutex};

fn passphrase_flaw(dir: &Path, bytes: &[u8]) -> Option<PassphraseFlaw> {
    match Secret::from_file(&write(&dir.join("passphrase"), bytes, 0o600)) {
        Err(KeyError::Passphrase { flaw, .. }) => Some(flaw),
        Err(err) => panic!("{err}"),
        Ok(_) => None,
    }
}

#[test]
fn a_passphrase_that_gpg_would_read_differently_or_that_is_weak_is_refused() {
    use PassphraseFlaw::*;
    let dir = dir();
    let check = |bytes: &[u8], flaw| assert_eq!(passphrase_flaw(dir.path(), bytes), flaw, "{bytes:?}");
    check(b"", Some(Empty));
    check(b"\n", Some(Empty));
    check(b"nineteen bytes long", Some(Short(19)));
    check(b"nineteen bytes long\n", Some(Short(19)));
    check(b"twenty bytes long ok", None);
    check(b"twenty bytes long ok\n", None);
    check(b"twenty bytes long ok\n\n", Some(Lines));
    check(b"twenty bytes long ok\nand another line", Some(Lines));
    check(b"\ntwenty bytes long ok", Some(Lines));
    check(b"twenty bytes long ok\r\n", Some(CarriageReturn));
    check(b"twenty bytes\0long ok\n", Some(Nul));
    check("größer als zwanzig Bytes".as_bytes(), None);
    check(&[0xff; 32], None);
    check(&[b'x'; PASSPHRASE_LEN_MAX], None);
    check(&[[b'x'; PASSPHRASE_LEN_MAX].as_slice(), b"\n"].concat(), None);
    check(&[b'x'; PASSPHRASE_LEN_MAX + 1], Some(Long));
    check(&vec![b'x'; 1 << 20], Some(Long));
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let (dir, cert) = (dir(), cert());
    for mode in [0o640, 0o604, 0o660, 0o610, 0o602, 0o644] {
        let file = write(&dir.path().join("secret"), PASSPHRASE, mode);
        let err = Secret::from_file(&file).unwrap_err();
        let told = err.to_string();
        assert!(told.contains(&format!("{mode:04o}")) && told.contains("chmod 600"), "{told}");
        write(&file, secret(&cert), mode);
        let err = Opener::open(&Unlock::SecretKey { file, password: None }).err().unwrap();
        assert!(matches!(err, KeyError::Loose { .. }), "{err}");
    }
    assert!(Secret::from_file(&write(&dir.path().join("secret"), PASSPHRASE, 0o400)).is_ok());
}

#[test]
fn a_missing_file_is_told_apart_and_a_directory_is_no_file() {
    let dir = dir();
    let missing = Secret::from_file(&dir.path().join("none")).unwrap_err();
    assert!(missing.is_missing(), "{missing}");
    let err = Secret::from_file(dir.path()).unwrap_err();
    assert!(matches!(err, KeyError::NotFile { .. }) && !err.is_missing(), "{err}");
    let err = open(KeySource::Certificates(vec![dir.path().join("none")])).err().unwrap();
    assert!(err.is_missing(), "{err}");
}

#[test]
fn nothing_prints_a_secret() {
    let secret = Secret::new(PASSPHRASE.into());
    assert_eq!(format!("{secret:?}"), "Secret");
    let unlock = Unlock::SecretKey { file: "x".into(), password: Some(secret) };
    assert!(!format!("{unlock:?}").contains("horse"));
}

/// The flaw for which a file with this certificate is refused.
fn flaw_at(bytes: &[u8], now: SystemTime) -> Option<CertFlaw> {
    let dir = dir();
    let file = write(&dir.path().join("cert"), bytes, 0o644);
    match open_at(KeySource::Certificates(vec![file.clone()]), now) {
        Err(KeyError::Certificate { file: named, flaw, .. }) => {
            assert_eq!(named, file);
            Some(flaw)
        }
        Err(err) => panic!("{err}"),
        Ok(_) => None,
    }
}

fn flaw(cert: &Cert) -> Option<CertFlaw> {
    flaw_at(&public(cert), SystemTime::now())
}

fn subkey_revoked(cert: Cert) -> Cert {
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let subkey = cert.keys().subkeys().next().unwrap().key().clone();
    let builder =
        SubkeyRevocationBuilder::new().set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"").unwrap();
    let revocation = builder.build(&mut signer, &cert, &subkey, None).unwrap();
    cert.insert_packets(revocation).unwrap().0
}

/// A certificate of version 4 with an encryption subkey of RFC 9580's own kind.
fn x25519() -> Cert {
    let cert = CertBuilder::new().set_profile(Profile::RFC4880).unwrap().add_userid("x").generate().unwrap().0;
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let subkey: Key<key::SecretParts, key::SubordinateRole> = Key4::generate_x25519().unwrap().into();
    let flags = KeyFlags::empty().set_storage_encryption();
    let builder = SignatureBuilder::new(SignatureType::SubkeyBinding).set_key_flags(flags).unwrap();
    let binding = subkey.bind(&mut signer, &cert, builder).unwrap();
    cert.insert_packets([Packet::from(subkey), binding.into()]).unwrap().0
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_with_its_reason() {
    let now = SystemTime::now();
    let base = || builder(CipherSuite::Cv25519).set_creation_time(now - 400 * DAY);
    let build = |builder: CertBuilder<'static>| builder.generate().unwrap().0;
    let plain = || CertBuilder::new().set_profile(Profile::RFC4880).unwrap().add_userid("x");

    assert_eq!(flaw(&build(base())), None);
    let expired = flaw(&build(base().set_validity_period(100 * DAY)));
    assert!(matches!(&expired, Some(CertFlaw::Expired(at)) if at.starts_with("20")), "{expired:?}");
    let old = plain().set_creation_time(now - 400 * DAY);
    let old = build(old.add_subkey(KeyFlags::empty().set_transport_encryption(), 100 * DAY, None));
    assert!(matches!(flaw(&old), Some(CertFlaw::SubkeyExpired(_))));
    let future = flaw_at(&public(&build(base())), now - 500 * DAY);
    assert!(matches!(future, Some(CertFlaw::NotYet(_))), "{future:?}");

    let (revoked, revocation) = base().generate().unwrap();
    assert_eq!(flaw(&revoked.insert_packets(revocation).unwrap().0), Some(CertFlaw::Revoked));
    assert_eq!(flaw(&subkey_revoked(build(base()))), Some(CertFlaw::SubkeyRevoked));
    assert_eq!(flaw(&build(plain().add_signing_subkey())), Some(CertFlaw::NoEncryption));
    assert_eq!(flaw_at(&secret(&build(base())), now), Some(CertFlaw::Secret));
    let v6 = CertBuilder::general_purpose(Some("x")).set_profile(Profile::RFC9580).unwrap();
    assert_eq!(flaw(&build(v6)), Some(CertFlaw::Version(6)));
    assert!(matches!(flaw(&x25519()), Some(CertFlaw::Algorithm(_))));
}

#[test]
fn every_curve_and_rsa_that_gpg_knows_is_used() {
    for suite in [CipherSuite::P256, CipherSuite::P384, CipherSuite::P521, CipherSuite::Cv25519, CipherSuite::RSA2k] {
        let (dir, cert) = (dir(), builder(suite).generate().unwrap().0);
        let mut encrypter = to_certs(dir.path(), &[&cert]);
        let (_, sealed) = apply(&mut encrypter, b"clear").unwrap();
        let file = write(&dir.path().join("secret"), secret(&cert), 0o600);
        let opener = Opener::open(&Unlock::SecretKey { file, password: None }).unwrap();
        let mut clear = Vec::new();
        opener.decrypt(&mut &sealed[..], &mut clear).unwrap();
        assert_eq!(clear, b"clear", "{suite:?}");
    }
    assert!(!Curve::Unknown(Box::new([1])).is_supported());
}

#[test]
fn a_file_without_a_certificate_is_refused() {
    let (dir, cert) = (dir(), cert());
    let armored = public(&cert);
    let message = apply(&mut to_certs(dir.path(), &[&cert]), b"clear").unwrap().1;
    let check = |bytes: &[u8], says: &str| {
        let file = write(&dir.path().join("cert"), bytes, 0o644);
        let err = open(KeySource::Certificates(vec![file.clone()])).err().unwrap();
        assert!(matches!(&err, KeyError::NotOpenPgp { file: named, .. } if *named == file), "{err}");
        assert!(err.to_string().contains(says) && err.to_string().contains("gpg --export"), "{err}");
        assert_eq!((err.fate(), err.trouble()), (Fate::Operator, Trouble::Keys));
    };
    check(b"", "it is empty");
    check(b" \n\t\n", "it is empty");
    check(b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me@here\n", "");
    check(&noise(5000), "");
    check(&[0; 5000], "");
    check(&message, "");
    // A marker packet, which every reader skips; and armor around nothing.
    check(b"\xca\x03PGP", "");
    check(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=twTO\n-----END PGP PUBLIC KEY BLOCK-----\n", "");
    check(&armored[..armored.len() - 60], "no end");
    check(&cert.to_vec().unwrap()[..200], "");
    check(&[&armored[..], b"\n-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n"].concat(), "");
    let err = open(KeySource::Certificates(Vec::new())).err().unwrap();
    assert!(matches!(err, KeyError::NoRecipients), "{err}");
}

#[test]
fn one_bad_certificate_among_good_ones_refuses_all_and_every_bad_one_is_named() {
    let (dir, good) = (dir(), cert());
    let name = |name: &str| dir.path().join(name);
    let expired = builder(CipherSuite::Cv25519).set_creation_time(SystemTime::now() - 9 * DAY).set_validity_period(DAY);
    let files = vec![
        write(&name("good"), public(&good), 0o644),
        write(&name("expired"), public(&expired.generate().unwrap().0), 0o644),
        write(&name("secret"), secret(&good), 0o644),
        write(&name("empty"), "", 0o644),
    ];
    let err = open(KeySource::Certificates(files[..2].to_vec())).err().unwrap();
    assert!(
        matches!(&err, KeyError::Certificate { file, flaw: CertFlaw::Expired(_), .. } if *file == files[1]),
        "{err}"
    );
    let err = open(KeySource::Certificates(files)).err().unwrap();
    let told = err.to_string();
    assert!(matches!(&err, KeyError::Several(errors) if errors.len() == 3), "{told}");
    assert!(["expired", "secret", "empty"].iter().all(|file| told.contains(&format!("{:?}", name(file)))), "{told}");
    assert!(!told.contains("/good\""), "{told}");
}

#[test]
fn all_certificates_of_a_file_are_recipients() {
    let (dir, one, two) = (dir(), cert(), cert());
    let both = [one.fingerprint().to_hex(), two.fingerprint().to_hex()];
    let binary = [one.to_vec().unwrap(), two.to_vec().unwrap()].concat();
    let armored = [&b"Two keys:\n"[..], &public(&one), b"\n", &public(&two)].concat();
    for bytes in [binary, armored] {
        let file = write(&dir.path().join("both"), bytes, 0o644);
        // A file named twice does not make two recipients of one.
        let mut encrypter = open(KeySource::Certificates(vec![file.clone(), file])).unwrap();
        assert_eq!(encrypter.fingerprints(), both);
        let (_, sealed) = apply(&mut encrypter, b"clear").unwrap();
        assert_eq!(packets(&sealed).len(), 3);
    }
    // A whole one and half of another.
    let file = write(&dir.path().join("both"), [public(&one), public(&two)[..300].to_vec()].concat(), 0o644);
    assert!(open(KeySource::Certificates(vec![file])).is_err());
}

#[test]
fn the_newest_encryption_key_is_used() {
    let (dir, now) = (dir(), SystemTime::now());
    let cert = builder(CipherSuite::Cv25519).set_creation_time(now - 400 * DAY).generate().unwrap().0;
    let policy = StandardPolicy::new();
    let newer = KeyBuilder::new(KeyFlags::empty().set_transport_encryption())
        .set_creation_time(now - 10 * DAY)
        .subkey(cert.with_policy(&policy, None).unwrap())
        .unwrap()
        .set_key_validity_period(30 * DAY)
        .unwrap()
        .attach_cert()
        .unwrap();
    let key_id = |created: SystemTime| {
        let mut keys = newer.keys().subkeys();
        keys.find(|key| key.key().creation_time().duration_since(created).is_ok_and(|d| d < DAY)).unwrap().key().keyid()
    };
    let check = |now: SystemTime, created: SystemTime| {
        let file = write(&dir.path().join("cert"), public(&newer), 0o644);
        let mut encrypter = open_at(KeySource::Certificates(vec![file]), now).unwrap();
        apply(&mut encrypter, b"clear").unwrap();
        assert_eq!(encrypter.made.as_ref().unwrap().key_ids, [key_id(created - DAY / 2)]);
        encrypter.expiries()[0].1
    };
    let expiry = check(now, now - 10 * DAY).unwrap();
    assert!(expiry > now + 19 * DAY && expiry < now + 21 * DAY);
    // Before it was made, and after it has expired, the other one.
    assert_eq!(check(now - 20 * DAY, now - 400 * DAY), None);
    assert_eq!(check(now + 30 * DAY, now - 400 * DAY), None);
}

#[test]
fn keys_are_judged_again_before_each_piece_and_a_renewed_one_is_taken_up() {
    let (dir, start) = (dir(), SystemTime::now());
    let (cert, _) = builder(CipherSuite::Cv25519).set_validity_period(30 * DAY).generate().unwrap();
    let file = write(&dir.path().join("cert"), public(&cert), 0o644);
    let now = Arc::new(Mutex::new(start));
    let clock: Clock = Arc::new({
        let now = now.clone();
        move || *now.lock().unwrap()
    });
    let options = Options { keys: KeySource::Certificates(vec![file.clone()]), prove: true };
    let mut encrypter = Encrypter::open(&options, clock).unwrap();
    apply(&mut encrypter, b"clear").unwrap();
    *now.lock().unwrap() = start + 31 * DAY;
    let mut output = Vec::new();
    let err = encrypter.seal_small(&mut &b"clear"[..], &mut output).unwrap_err();
    assert!(matches!(&err, EncryptError::Key(KeyError::Certificate { flaw: CertFlaw::Expired(_), .. })), "{err}");
    assert_eq!((err.fate(), err.trouble(), err.trouble().exit_code()), (Fate::Operator, Trouble::Keys, 5));
    assert!(output.is_empty(), "nothing is written to fewer recipients");
    // Nor is the last piece mistaken for this one.
    assert!(matches!(encrypter.prove(&mut &b""[..], &mut Vec::new(), &|| false), Err(EncryptError::Unmade)));

    let policy = StandardPolicy::new();
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let primary =
        cert.with_policy(&policy, None).unwrap().primary_key().set_expiration_time(&mut signer, None).unwrap();
    let mut renewed = cert.clone().insert_packets(primary).unwrap().0;
    let subkeys: Vec<_> = cert.with_policy(&policy, None).unwrap().keys().subkeys().collect();
    for subkey in subkeys {
        let signatures = subkey.set_expiration_time(&mut signer, None, None).unwrap();
        renewed = renewed.insert_packets(signatures).unwrap().0;
    }
    write(&file, public(&renewed), 0o644);
    assert_eq!(apply(&mut encrypter, b"clear").unwrap().0.fingerprints, [cert.fingerprint().to_hex()]);
}
