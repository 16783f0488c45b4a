//! Nothing that differs from what was sealed is taken for it, and streams that fail are told apart.

use super::{testing::*, *};
use crate::{
    fate::{Fate, Fateful, Stopped, Trouble},
    stage::{Job, Mark, Transform},
};
use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use std::io;

fn is_rotten(encrypter: &mut Encrypter, sealed: &[u8], clear: &[u8], what: &str) {
    let mut proven = Vec::new();
    match encrypter.prove(&mut &*sealed, &mut proven, &|| false) {
        Err(err) => assert_eq!((err.fate(), err.trouble()), (Fate::Rotten, Trouble::Staging), "{what}: {err}"),
        Ok(()) => panic!("{what} was proven, equal: {}", proven == clear),
    }
}

fn opener(dir: &std::path::Path, cert: &sequoia_openpgp::Cert) -> Opener {
    let file = write(&dir.join("secret"), secret(cert), 0o600);
    Opener::open(&Unlock::SecretKey { file, password: None }).unwrap()
}

#[test]
fn every_flipped_bit_is_found_by_the_proof_and_by_opening() {
    let (dir, cert, clear) = (dir(), cert(), noise(300));
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    let opener = opener(dir.path(), &cert);
    let (summary, mut sealed) = apply(&mut encrypter, &clear).unwrap();
    let header = summary.header_length as usize;
    for bit in 0..sealed.len() * 8 {
        sealed[bit / 8] ^= 1 << (bit % 8);
        is_rotten(&mut encrypter, &sealed, &clear, &format!("bit {bit}"));
        let mut opened = Vec::new();
        // X25519 ignores the highest bit of a point, so not every flip in its packet matters.
        let is_open = opener.decrypt(&mut &sealed[..], &mut opened).is_ok();
        assert!(!is_open || (bit / 8 < header && opened == clear), "bit {bit}");
        sealed[bit / 8] ^= 1 << (bit % 8);
    }
    encrypter.prove(&mut &sealed[..], &mut Vec::new(), &|| false).unwrap();
}

#[test]
fn damage_anywhere_in_a_large_form_is_found() {
    let (dir, cert, clear) = (dir(), cert(), noise(2 * CHUNK_LEN + 5000));
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    let opener = opener(dir.path(), &cert);
    let (summary, mut sealed) = apply(&mut encrypter, &clear).unwrap();
    let body = summary.header_length as usize + 1;
    // Lengths of chunks outside and, encrypted, inside; data at the borders; the detection code.
    let inside = summary.position(CHUNK_LEN as u64 - 6) as usize - 1;
    let chunk = CHUNK_LEN + 1;
    let places = [0, body - 1, body, body + 1, body + 2, body + 30, inside, body + chunk - 1, body + chunk];
    let places = places.into_iter().chain([body + 2 * chunk, sealed.len() / 2, sealed.len() - 30, sealed.len() - 1]);
    for place in places {
        sealed[place] ^= 0x20;
        is_rotten(&mut encrypter, &sealed, &clear, &format!("byte {place}"));
        assert!(opener.decrypt(&mut &sealed[..], &mut io::sink()).is_err(), "byte {place}");
        sealed[place] ^= 0x20;
    }
    let len = sealed.len();
    for end in [0, 1, body - 1, body, body + 1, body + 20, body + chunk, len / 2, len - 22, len - 20, len - 1] {
        is_rotten(&mut encrypter, &sealed[..end], &clear, &format!("cut at {end}"));
        assert!(opener.decrypt(&mut &sealed[..end], &mut io::sink()).is_err(), "cut at {end}");
    }
    let again = sealed.clone();
    for more in [&[0][..], &[0; 100], &noise(100), &again] {
        let longer = [&sealed, more].concat();
        is_rotten(&mut encrypter, &longer, &clear, &format!("{} more", more.len()));
    }
    // Two whole chunks in the place of each other.
    let (one, two) = (body + 1, body + 1 + chunk);
    let mut swapped = sealed.clone();
    swapped[one..one + CHUNK_LEN].copy_from_slice(&sealed[two..two + CHUNK_LEN]);
    swapped[two..two + CHUNK_LEN].copy_from_slice(&sealed[one..one + CHUNK_LEN]);
    is_rotten(&mut encrypter, &swapped, &clear, "swapped");
}

#[test]
fn with_a_passphrase_the_proof_goes_through_the_packet_that_holds_the_key() {
    let (dir, clear) = (dir(), noise(300));
    let mut encrypter = to_passphrase(dir.path());
    let opener = Opener::open(&Unlock::Passphrase(Secret::new(PASSPHRASE.into()))).unwrap();
    let (summary, mut sealed) = apply(&mut encrypter, &clear).unwrap();
    let body = summary.header_length as usize;
    // Each field: version, cipher, S2K, hash, salt, count, key; then the encrypted packet.
    for place in [2, 3, 4, 5, 6, 13, 14, 15, 20, body - 1, body, body + 1, body + 3, body + 10, body + 100] {
        sealed[place] ^= 0x04;
        is_rotten(&mut encrypter, &sealed, &clear, &format!("byte {place}"));
        assert!(opener.decrypt(&mut &sealed[..], &mut io::sink()).is_err(), "byte {place}");
        sealed[place] ^= 0x04;
    }
    // A packet for another passphrase is found even when it is the one that was written.
    let other = SKESK_OF_ANOTHER;
    let made = encrypter.made.as_mut().unwrap();
    let damaged = [other(made), sealed[body..].to_vec()].concat();
    is_rotten(&mut encrypter, &damaged, &clear, "another passphrase");
    let err = opener.decrypt(&mut &damaged[..], &mut io::sink()).unwrap_err();
    assert!(matches!(&err, EncryptError::NoKey { sealed_to } if sealed_to == &["a passphrase"]), "{err}");
    assert_eq!((err.fate(), err.trouble()), (Fate::Operator, Trouble::Keys));
}

/// Puts the session key under another passphrase, and says that this is what was written.
const SKESK_OF_ANOTHER: fn(&mut Made) -> Vec<u8> = |made| {
    use sequoia_openpgp::{Packet, crypto::S2K, packet::skesk::SKESK4, serialize::SerializeInto};
    let other = "another passphrase".into();
    let skesk = SKESK4::with_password(seal::CIPHER, seal::CIPHER, S2K::default(), &made.session_key, &other).unwrap();
    made.header = Packet::SKESK(skesk.into()).to_vec().unwrap();
    made.header.clone()
};

#[test]
fn another_key_does_not_open_it_and_the_error_says_for_whom_it_is() {
    let (dir, one, two) = (dir(), cert(), cert());
    let (_, sealed) = apply(&mut to_certs(dir.path(), &[&one]), b"clear").unwrap();
    let mut clear = Vec::new();
    let err = opener(dir.path(), &two).decrypt(&mut &sealed[..], &mut clear).unwrap_err();
    let key_id = one.keys().subkeys().next().unwrap().key().keyid().to_hex();
    assert!(err.to_string().contains(&key_id), "{err}");
    assert!(clear.is_empty());
    let passphrase = Opener::open(&Unlock::Passphrase(Secret::new(PASSPHRASE.into()))).unwrap();
    let err = passphrase.decrypt(&mut &sealed[..], &mut clear).unwrap_err();
    assert!(matches!(err, EncryptError::NoKey { .. }), "{err}");
    assert!(Opener::open(&Unlock::SecretKey { file: dir.path().join("0.asc"), password: None }).is_err());
    let file = write(&dir.path().join("public"), public(&one), 0o600);
    let err = Opener::open(&Unlock::SecretKey { file, password: None }).err().unwrap();
    assert!(matches!(err, KeyError::NoSecret { .. }), "{err}");
}

#[test]
fn a_piece_with_a_recipient_too_few_is_not_proven() {
    let (dir, one, two) = (dir(), cert(), cert());
    let mut encrypter = to_certs(dir.path(), &[&one, &two]);
    let (_, sealed) = apply(&mut encrypter, b"clear").unwrap();
    let second = packets(&sealed)[1].places[0] - 2;
    let made = encrypter.made.as_mut().unwrap();
    let fewer = [&sealed[..second], &sealed[made.header.len()..]].concat();
    // Even if it was written like that.
    made.header.truncate(second);
    made.sealed.header_length = second as u64;
    is_rotten(&mut encrypter, &fewer, b"clear", "one recipient");
}

#[test]
fn what_is_not_encrypted_is_not_opened() {
    let (dir, cert) = (dir(), cert());
    let opener = opener(dir.path(), &cert);
    for signed in [false, true] {
        let mut forged = Vec::new();
        let mut message = Message::new(&mut forged);
        if signed {
            let signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
            message = Signer::new(message, signer).unwrap().build().unwrap();
        }
        let mut literal = LiteralWriter::new(message).build().unwrap();
        literal.write_all(b"not ours").unwrap();
        literal.finalize().unwrap();
        let mut clear = Vec::new();
        let err = opener.decrypt(&mut &forged[..], &mut clear).unwrap_err();
        assert!(matches!(err, EncryptError::Damaged(_)) && clear.is_empty(), "{err}");
    }
}

/// Reads or takes `left` bytes, then fails.
struct Failing {
    left: usize,
    with: fn() -> io::Error,
}

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = buf.len().min(self.left);
        self.left -= count;
        if count == 0 { Err((self.with)()) } else { Ok(count) }
    }
}

impl Write for Failing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.read(&mut vec![0; buf.len()])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stop_and_a_failing_disk_are_told_as_such_wherever_they_happen() {
    let (dir, cert, clear) = (dir(), cert(), noise(3 * CHUNK_LEN));
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    let errors: [(fn() -> io::Error, Fate); 3] = [
        (|| Stopped.into_io(), Fate::Stopped),
        (|| io::Error::from_raw_os_error(28), Fate::Retry),
        (|| io::Error::from_raw_os_error(5), Fate::Rotten),
    ];
    for (with, fate) in errors {
        for left in [0, 10, 100, CHUNK_LEN, 2 * CHUNK_LEN + 100] {
            let sealed = apply(&mut encrypter, &clear).unwrap().1;
            let opener = opener(dir.path(), &cert);
            let failing = || Failing { left, with };
            let check = |err: EncryptError| assert_eq!(err.fate(), fate, "{left}: {err}");
            check(
                encrypter
                    .prove(&mut (&sealed[..left]).chain(Failing { left: 0, with }), &mut io::sink(), &|| false)
                    .unwrap_err(),
            );
            check(
                opener.decrypt(&mut (&sealed[..left]).chain(Failing { left: 0, with }), &mut io::sink()).unwrap_err(),
            );
            check(encrypter.seal_small(&mut failing(), &mut io::sink()).unwrap_err());
            // What cannot be written is not what was read: it is never rotten.
            let fate = if fate == Fate::Rotten { Fate::Retry } else { fate };
            let check = |err: EncryptError| assert_eq!(err.fate(), fate, "{left}: {err}");
            check(opener.decrypt(&mut &sealed[..], &mut failing()).unwrap_err());
            check(encrypter.seal_small(&mut &clear[..], &mut failing()).unwrap_err());
        }
    }
}

#[test]
fn an_input_that_came_short_is_not_sealed_as_if_whole() {
    let (dir, cert) = (dir(), cert());
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    let mut job = |from| {
        let (input, output, mark) = (&mut &b"clear"[..], &mut Vec::new(), &mut |_: &Mark<Sealed>| Ok(()));
        encrypter.apply(Job { input, input_len: 6, output, from, mark, stop: &|| false }).unwrap_err()
    };
    assert!(matches!(job(None), EncryptError::Length { length: 5, expected: 6 }));
    let mark = Mark { input: 3, output: 100, summary: Sealed::default() };
    assert!(matches!(job(Some(mark)), EncryptError::Resumed));
    assert!(matches!(encrypter.prove(&mut &b""[..], &mut Vec::new(), &|| false), Err(EncryptError::Unmade)));
}

#[test]
fn without_proof_nothing_is_read() {
    let (dir, cert) = (dir(), cert());
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    encrypter.options.prove = false;
    apply(&mut encrypter, b"clear").unwrap();
    let mut failing = Failing { left: 0, with: || io::Error::other("read") };
    let mut clear = Vec::new();
    encrypter.prove(&mut failing, &mut clear, &|| false).unwrap();
    assert!(clear.is_empty());
}
