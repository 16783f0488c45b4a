//! Passphrases, and the files that hold secrets.

use super::keys::KeyError;
use sequoia_openpgp::crypto::{Password, mem::Protected};
use std::{
    fmt,
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// Shortest passphrase that seals, bytes: 20 random characters of base64 have 120 bits. The derivation of the key
/// is the strongest that every gpg knows, and still cheap to an attacker, so the passphrase alone must hold.
pub const PASSPHRASE_LEN_MIN: usize = 20;
/// Longest, bytes: GnuPG's own limit (`MAX_PASSPHRASE_LEN` of its agent).
pub const PASSPHRASE_LEN_MAX: usize = 255;
/// Room for a passphrase that is too long, so that it is told apart from one that fits.
const READ_LEN_MAX: usize = 4096;
const _: () = assert!(PASSPHRASE_LEN_MAX + 2 < READ_LEN_MAX);

/// A passphrase. It is kept encrypted in memory and zeroed when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Password);

impl Secret {
    /// A passphrase as it is typed, without a newline. What was given is zeroed.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(Password::from(bytes))
    }

    /// The passphrase in a file, in the way in which `gpg --passphrase-file` reads it: the first line, whose
    /// newline is not part of it. Refused is every file that gpg would read differently, that others can read, or
    /// that is too weak to seal with.
    pub fn from_file(path: &Path) -> Result<Secret, KeyError> {
        let mut file = open_private(path)?;
        let mut bytes = Protected::from(vec![0; READ_LEN_MAX]);
        let mut len = 0;
        while len < bytes.len() {
            match file.read(&mut bytes[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                Err(err) => return Err(KeyError::read(path)(err)),
            }
        }
        let line = bytes[..len].strip_suffix(b"\n").unwrap_or(&bytes[..len]);
        match flaw_of(line) {
            Some(flaw) => Err(KeyError::Passphrase { file: path.to_owned(), flaw }),
            None => Ok(Secret(Password::from(line))),
        }
    }

    pub(super) fn password(&self) -> &Password {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a passphrase is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseFlaw {
    #[error("it is empty; write one with: openssl rand -base64 32")]
    Empty,
    #[error("it holds a NUL byte, which no passphrase can have; write one with: openssl rand -base64 32")]
    Nul,
    #[error("it ends with a carriage return, which gpg would take as part of it; remove it with: sed -i 's/\\r$//'")]
    CarriageReturn,
    #[error("it has more than one line, of which gpg would read only the first; leave one line")]
    Lines,
    #[error("it has {0} bytes and needs at least {PASSPHRASE_LEN_MIN}; write one with: openssl rand -base64 32")]
    Short(usize),
    #[error("it is longer than {PASSPHRASE_LEN_MAX} bytes, the most that gpg takes; shorten it")]
    Long,
}

fn flaw_of(line: &[u8]) -> Option<PassphraseFlaw> {
    if line.is_empty() {
        Some(PassphraseFlaw::Empty)
    } else if line.contains(&0) {
        Some(PassphraseFlaw::Nul)
    } else if line.contains(&b'\n') {
        Some(PassphraseFlaw::Lines)
    } else if line.ends_with(b"\r") {
        Some(PassphraseFlaw::CarriageReturn)
    } else if line.len() > PASSPHRASE_LEN_MAX {
        Some(PassphraseFlaw::Long)
    } else if line.len() < PASSPHRASE_LEN_MIN {
        Some(PassphraseFlaw::Short(line.len()))
    } else {
        None
    }
}

/// Opens a file that holds a secret, if nobody else can read it.
pub(super) fn open_private(path: &Path) -> Result<File, KeyError> {
    let kept = std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_else(|| "/run/credentials".into());
    open_private_unless(path, Some(Path::new(&kept)))
}

/// `kept`: where systemd keeps credentials. It lets the user of the service alone read one, by an ACL, of which the mode
/// shows a right of the group.
fn open_private_unless(path: &Path, kept: Option<&Path>) -> Result<File, KeyError> {
    let file = open_regular(path)?;
    let others = if kept.is_some_and(|kept| kept.is_absolute() && path.starts_with(kept)) { 0o037 } else { 0o077 };
    // Of the open file, not of the name: the name may stand for another file by now.
    let mode = file.metadata().map_err(KeyError::read(path))?.permissions().mode() & 0o7777;
    if mode & others != 0 {
        return Err(KeyError::Loose { file: path.to_owned(), mode });
    }
    Ok(file)
}

/// Opens a file of keys. A fifo would block for ever, and a directory would say so only when read.
pub(super) fn open_regular(path: &Path) -> Result<File, KeyError> {
    let is_file = fs::metadata(path).map_err(KeyError::read(path))?.is_file();
    if !is_file {
        return Err(KeyError::NotFile { file: path.to_owned() });
    }
    File::open(path).map_err(KeyError::read(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_keeps_may_show_a_right_of_the_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        fs::write(&path, "x").unwrap();
        let opens = |mode, kept| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            open_private_unless(&path, kept).is_ok()
        };
        let (kept, other) = (Some(dir.path()), Some(Path::new("/run/credentials/other.service")));
        assert!(opens(0o440, kept) && opens(0o400, kept) && opens(0o600, None));
        assert!(!opens(0o444, kept) && !opens(0o460, kept) && !opens(0o440, other) && !opens(0o440, None));
    }
}
