//! What is left to another unit: to mail that this one has failed and stays down.

use super::systemd;
use crate::{config::Settings, durable};
use std::{env, fs, io};

/// The settings of mail that held last, in the state directory, for the day on which the configuration cannot be read.
pub const LAST_GOOD: &str = "mail.toml";

/// Exit codes, separated by colons, after which systemd does not start the daemon again but another unit, which mails.
const MAILED: &str = "ARCHIVER_MAILED";

/// Whether this end is mailed by the other unit.
pub(super) fn is_mailed(code: u8) -> bool {
    env::var(MAILED).is_ok_and(|codes| codes.split(':').any(|known| known == code.to_string()))
}

/// Keeps what the other unit may need; outside of systemd nothing.
pub(super) fn remember(settings: &Settings) -> io::Result<()> {
    let Some(file) = systemd::own_directory().map(|dir| dir.join(LAST_GOOD)) else { return Ok(()) };
    match settings.mail_section() {
        Some(text) if fs::read(&file).is_ok_and(|known| known == text.as_bytes()) => Ok(()),
        Some(text) => durable::write(&file, text.as_bytes()).map_err(io::Error::other),
        None => durable::remove(&file).map_err(io::Error::other),
    }
}
