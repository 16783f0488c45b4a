//! The form on disk, read without the library: which packets, which chunks, and where the bytes are.

use super::{CHUNK_LEN, Encrypter, testing::*};
use sequoia_openpgp::{
    KeyHandle,
    crypto::symmetric::{BlockCipherMode, Decryptor, UnpaddingMode},
    parse::buffered_reader,
    types::SymmetricAlgorithm,
};
use std::{collections::HashSet, io::Read};

const PKESK: u8 = 1;
const SKESK: u8 = 3;
const LITERAL: u8 = 11;
const SEIP: u8 = 18;
const MDC: u8 = 19;

/// The clear content of an encrypted packet of version 1, without its prefix.
fn opened(encrypter: &Encrypter, seip: &Found) -> Vec<u8> {
    assert_eq!(seip.body[0], 1, "the version of the encrypted packet");
    let key = &encrypter.made.as_ref().unwrap().session_key;
    let body = buffered_reader::Memory::with_cookie(&seip.body[1..], Default::default());
    let mut reader =
        Decryptor::new(SymmetricAlgorithm::AES256, BlockCipherMode::CFB, UnpaddingMode::None, key, None, body).unwrap();
    let mut clear = Vec::new();
    reader.read_to_end(&mut clear).unwrap();
    assert_eq!(clear[14..16], clear[16..18], "the repeated bytes of the prefix");
    clear.split_off(18)
}

fn is_cut_in_chunks(packet: &Found) {
    let (last, whole) = packet.chunks.split_last().unwrap();
    assert!(whole.iter().all(|len| *len == CHUNK_LEN) && (1..=CHUNK_LEN).contains(last), "{:?}", packet.chunks);
}

#[test]
fn packets_and_chunks_are_these_for_every_length() {
    let (dir, cert) = (dir(), cert());
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    for len in lengths() {
        let clear = noise(len);
        let (summary, sealed) = apply(&mut encrypter, &clear).unwrap();
        let outer = packets(&sealed);
        assert_eq!(outer.iter().map(|packet| packet.tag).collect::<Vec<_>>(), [PKESK, SEIP], "{len}");
        is_cut_in_chunks(&outer[1]);
        let inner = packets(&opened(&encrypter, &outer[1]));
        assert_eq!(inner.iter().map(|packet| packet.tag).collect::<Vec<_>>(), [LITERAL, MDC], "{len}");
        is_cut_in_chunks(&inner[0]);
        // Binary, no name, no date.
        assert_eq!(inner[0].body[..6], [b'b', 0, 0, 0, 0, 0], "{len}");
        assert!(inner[0].body[6..] == clear, "{len}");
        assert_eq!(inner[1].body.len(), 20);

        // And all of that is known without opening anything.
        assert_eq!(summary.length(), sealed.len() as u64, "{len}");
        assert_eq!(summary.clear_length, len as u64);
        assert_eq!(sealed[summary.header_length as usize], 0xc0 | SEIP);
        for offset in [0, 1, len / 3, CHUNK_LEN - 30, CHUNK_LEN - 7, CHUNK_LEN - 6, CHUNK_LEN, len.saturating_sub(1)] {
            if offset < len {
                let place = outer[1].places[1 + 18 + inner[0].places[6 + offset]];
                assert_eq!(summary.position(offset as u64), place as u64, "{offset} of {len}");
            }
        }
    }
}

#[test]
fn a_range_can_be_opened_alone_at_its_computed_place() {
    let (dir, cert, clear) = (dir(), cert(), noise(3 * CHUNK_LEN));
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    let (summary, sealed) = apply(&mut encrypter, &clear).unwrap();
    let body = &packets(&sealed)[1];
    let offset = 2 * CHUNK_LEN + 12_345;
    let place = body.places.binary_search(&(summary.position(offset as u64) as usize)).unwrap();
    // Blocks of 16 begin after the version; the one before is what the first is opened with.
    let block = (place - 1) / 16 * 16 + 1;
    let key = &encrypter.made.as_ref().unwrap().session_key;
    let reader = buffered_reader::Memory::with_cookie(&body.body[block..block + 1024], Default::default());
    let previous = &body.body[block - 16..block];
    let (algo, mode) = (SymmetricAlgorithm::AES256, BlockCipherMode::CFB);
    let mut reader = Decryptor::new(algo, mode, UnpaddingMode::None, key, Some(previous), reader).unwrap();
    let mut opened = vec![0; 1024];
    reader.read_exact(&mut opened).unwrap();
    assert_eq!(opened[place - block..][..900], clear[offset..][..900]);
}

#[test]
fn a_passphrase_is_stretched_as_far_as_gpg_can() {
    let dir = dir();
    let mut encrypter = to_passphrase(dir.path());
    let (summary, sealed) = apply(&mut encrypter, b"clear").unwrap();
    let found = packets(&sealed);
    assert_eq!(found.iter().map(|packet| packet.tag).collect::<Vec<_>>(), [SKESK, SEIP]);
    let skesk = &found[0].body;
    // Version 4, AES-256, iterated and salted, SHA-256; salt; the maximum count; cipher and key, encrypted.
    assert_eq!(skesk[..4], [4, 9, 3, 8]);
    assert_eq!(skesk[12], 0xff);
    assert_eq!(skesk.len(), 13 + 1 + 32);
    assert_eq!(summary.header_length, 2 + 46);
    assert!(summary.fingerprints.is_empty());
    let again = packets(&apply(&mut encrypter, b"clear").unwrap().1);
    assert_ne!(skesk[4..12], again[0].body[4..12], "the salt is new each time");
}

#[test]
fn the_old_form_is_kept_for_certificates_that_ask_for_the_new() {
    let (dir, one, two) = (dir(), modern_cert(), modern_cert());
    let mut encrypter = to_certs(dir.path(), &[&one, &two]);
    let (summary, sealed) = apply(&mut encrypter, b"clear").unwrap();
    let found = packets(&sealed);
    assert_eq!(found.iter().map(|packet| packet.tag).collect::<Vec<_>>(), [PKESK, PKESK, SEIP]);
    assert!(found.iter().map(|packet| packet.body[0]).eq([3, 3, 1]), "versions");
    for (packet, cert) in found.iter().zip([&one, &two]) {
        let subkey = cert.keys().subkeys().next().unwrap().key().key_handle();
        let KeyHandle::Fingerprint(fingerprint) = subkey else { panic!() };
        assert_eq!(packet.body[1..9], fingerprint.as_bytes()[12..], "the key id");
        assert_eq!(packet.body[9], 18, "ECDH");
    }
    assert_eq!(summary.fingerprints, [one.fingerprint().to_hex(), two.fingerprint().to_hex()]);
    assert_eq!(encrypter.fingerprints(), summary.fingerprints);
    let listed = Gpg::new().run(&["--list-packets"], &sealed).stdout;
    let listed = String::from_utf8(listed).unwrap();
    let lines: Vec<_> = listed.lines().filter(|line| line.starts_with(':')).collect();
    assert!(lines[..2].iter().all(|line| line.starts_with(":pubkey enc packet: version 3, algo 18")), "{listed}");
    assert!(lines[2].starts_with(":encrypted data packet:") && lines.len() == 3, "{listed}");
    assert!(listed.contains("mdc_method: 2"), "{listed}");
}

#[test]
fn every_session_key_is_new() {
    let (dir, cert) = (dir(), cert());
    let mut encrypter = to_certs(dir.path(), &[&cert]);
    let mut seen = HashSet::new();
    for _ in 0..1000 {
        encrypter.seal_small(&mut &b""[..], &mut Vec::new()).unwrap();
        let key = &encrypter.made.as_ref().unwrap().session_key;
        assert_eq!(key.len(), 32);
        assert!(seen.insert(key.to_vec()));
    }
}
