//! Writing the sealed form.
//!
//! The form is the one that every gpg since 2.1 reads: PKESK packets of version 3 or one SKESK packet of version 4,
//! then an encrypted packet of version 1 (AES-256 in CFB with a modification detection code), and in it one
//! literal packet without a name or a date; no compression, no padding, no signature. The session key packets are
//! written here and not by the library's encryptor, which would go over to version 2 of the encrypted packet, that
//! no gpg reads, once all certificates say that they could.

use super::{
    EncryptError, Lock, Made,
    layout::{CHUNK_LEN, Sealed},
    wire::{Input, Output},
};
use sequoia_openpgp::{
    KeyID, Packet,
    crypto::{S2K, SessionKey},
    packet::{PKESK, SKESK, pkesk::PKESK3, skesk::SKESK4},
    serialize::{
        Serialize,
        stream::{Encryptor, LiteralWriter, Message},
    },
    types::{HashAlgorithm, SymmetricAlgorithm},
};
use std::{
    io::{self, Read, Write},
    time::SystemTime,
};

pub(super) const CIPHER: SymmetricAlgorithm = SymmetricAlgorithm::AES256;
/// Bytes of a key of AES-256.
const SESSION_KEY_LEN: usize = 32;
/// Bytes hashed to derive a key from a passphrase: the most that the format can say.
const S2K_COUNT: u32 = 65_011_712;

/// Seals all of `input` to every recipient, with a session key of its own.
pub(super) fn seal(
    lock: &Lock,
    now: SystemTime,
    input: &mut Input<'_>,
    output: &mut Output<'_>,
) -> Result<Made, EncryptError> {
    let session_key = SessionKey::new(SESSION_KEY_LEN).map_err(EncryptError::sealing)?;
    let (header, key_ids) = header(lock, now, &session_key)?;
    let sealed = write(&header, &session_key, input, output);
    // The first failure of a stream is the cause of whatever the library made of it.
    if let Some(err) = input.failure() {
        return Err(EncryptError::reading(err));
    }
    if let Some(err) = output.failure() {
        return Err(EncryptError::writing(err));
    }
    sealed?;
    let sealed =
        Sealed { header_length: header.len() as u64, clear_length: input.count(), fingerprints: lock.fingerprints() };
    // Offsets in the manifest are computed from the length of chunks; if the library ever changes it, they are wrong.
    if sealed.length() != output.count() {
        return Err(EncryptError::Layout { length: output.count(), expected: sealed.length() });
    }
    Ok(Made { sealed, header, key_ids, session_key })
}

/// The packets that hold the session key, and for whom.
fn header(lock: &Lock, now: SystemTime, session_key: &SessionKey) -> Result<(Vec<u8>, Vec<KeyID>), EncryptError> {
    let (mut header, mut key_ids) = (Vec::new(), Vec::new());
    match lock {
        Lock::Passphrase(secret) => {
            let s2k = S2K::new_iterated(HashAlgorithm::SHA256, S2K_COUNT).map_err(EncryptError::sealing)?;
            let skesk = SKESK4::with_password(CIPHER, CIPHER, s2k, session_key, secret.password());
            let packet = Packet::SKESK(SKESK::V4(skesk.map_err(EncryptError::sealing)?));
            packet.serialize(&mut header).map_err(EncryptError::sealing)?;
        }
        Lock::Certificates(recipients) => {
            for recipient in recipients {
                for key in recipient.usable(now)?.keys {
                    if key_ids.contains(&key.keyid()) {
                        continue;
                    }
                    let pkesk = PKESK3::for_recipient(CIPHER, session_key, &key).map_err(EncryptError::sealing)?;
                    let packet = Packet::PKESK(PKESK::V3(pkesk));
                    packet.serialize(&mut header).map_err(EncryptError::sealing)?;
                    key_ids.push(key.keyid());
                }
            }
        }
    }
    Ok((header, key_ids))
}

fn write(
    header: &[u8],
    session_key: &SessionKey,
    input: &mut Input<'_>,
    output: &mut Output<'_>,
) -> Result<(), EncryptError> {
    output.write_all(header).map_err(EncryptError::sealing)?;
    // With a session key and no recipients it writes the encrypted packet alone, and that of version 1.
    let message = Encryptor::with_session_key(Message::new(output), CIPHER, session_key.clone())
        .map_err(EncryptError::sealing)?;
    let message = message.build().map_err(EncryptError::sealing)?;
    // Its defaults are binary, without a name and a date; told all the same.
    let mut literal = LiteralWriter::new(message).build().map_err(EncryptError::sealing)?;
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        let len = fill(input, &mut chunk).map_err(EncryptError::sealing)?;
        literal.write_all(&chunk[..len]).map_err(EncryptError::sealing)?;
        if len < chunk.len() {
            break;
        }
    }
    literal.finalize().map_err(EncryptError::sealing)
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match input.read(&mut buf[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(len)
}
