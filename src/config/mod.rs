//! The configuration. It is parsed once, here at the door; inside, everything is known to be good.
//!
//! A file becomes a document ([`document`]), its sections become typed values ([`sections`]), and what must hold
//! between them is checked ([`rules`]). Nothing stops at the first error: all problems are told at once, each with
//! file, line and key and with what would be right. What only the file system knows is asked in a separate step,
//! [`Settings::check_files`].
//!
//! Secrets are never in the file, and no message shows the value of a key that may hold one by mistake.

mod address;
mod changes;
mod document;
mod files;
mod heartbeat;
mod keys;
mod lenient;
mod problem;
mod rules;
mod sections;
mod settings;

pub use address::{SmtpSecurity, SmtpUrl, VaultUrl};
pub use heartbeat::HeartbeatUrl;
pub use lenient::{MailPart, Parts, parts};
pub use problem::{ConfigError, Problem};
pub use rules::cap_min;
pub use settings::{
    Compress, Encrypt, Heartbeat, Log, LogLevel, Mail, Metrics, Names, Pack, Restore, Settings, Source, Staging,
    Upload, Vault, Zone,
};

use document::{Document, Section};
use problem::Found;
use rules::Dirs;
use settings::Origin;
use std::{
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Longest file that is read, bytes. A thousand sources fit in.
const FILE_SIZE_MAX: u64 = 256 * 1024;

/// Where systemd keeps the credentials of the unit while it runs.
const OF_SERVICE: &str = "/run/credentials/archiver.service";

/// The secrets that systemd keeps for the service: `$CREDENTIALS_DIRECTORY`. They stand in for `*_file` keys that
/// are absent.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Option<PathBuf>);

impl Credentials {
    /// Those of this process; of a command that root runs by hand, those of the service while it runs.
    pub fn from_env() -> Credentials {
        let own = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
        Credentials(own.or_else(|| Some(PathBuf::from(OF_SERVICE)).filter(|path| path.is_dir())))
    }

    pub fn in_directory(path: &Path) -> Credentials {
        Credentials(Some(path.to_owned()))
    }

    /// The credential for a key: `passphrase`, or `passphrase_file`, for `passphrase_file`.
    fn find(&self, key: &str) -> Option<PathBuf> {
        let dir = self.0.as_ref()?;
        let names = [key.strip_suffix("_file").unwrap_or(key), key];
        names.iter().map(|name| dir.join(name)).find(|path| path.is_file())
    }

    fn holds(&self, path: &Path) -> bool {
        self.0.as_ref().is_some_and(|dir| path.starts_with(dir))
    }
}

/// Reads a configuration, with the credentials of this process. Of the files that it names nothing is known yet
/// ([`Settings::checked`]); but where something is wrong anyway, what is wrong with them is told as well.
pub fn load(file: &Path) -> Result<Settings, ConfigError> {
    let bytes = read_bytes(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let mut found = Found::default();
    let settings = match std::str::from_utf8(&bytes) {
        Ok(text) => read(text, file, &Credentials::from_env(), &mut found),
        Err(err) => {
            let at = err.valid_up_to();
            let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
            let what =
                format!("the file must be UTF-8, and byte 0x{:02x} on this line is not; save it as UTF-8", bytes[at]);
            found.problem(Some(line), "", what);
            None
        }
    };
    settings.ok_or_else(|| {
        found.problems.extend(found.files.iter().filter_map(files::problem_of));
        ConfigError::invalid(file, found.problems)
    })
}

fn read_bytes(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if FILE_SIZE_MAX < bytes.len() as u64 {
        let what = format!("It is longer than {FILE_SIZE_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

fn read_text(file: &Path) -> io::Result<String> {
    String::from_utf8(read_bytes(file)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Reads a configuration without asking the file system (but for time zones). `file` is for messages.
pub fn parse(text: &str, file: &Path) -> Result<Settings, ConfigError> {
    parse_with(text, file, &Credentials::default())
}

/// As [`parse`], with credentials of systemd.
pub fn parse_with(text: &str, file: &Path, credentials: &Credentials) -> Result<Settings, ConfigError> {
    let mut found = Found::default();
    read(text, file, credentials, &mut found).ok_or_else(|| ConfigError::invalid(file, found.problems))
}

/// `None` exactly when problems were found.
fn read(text: &str, file: &Path, credentials: &Credentials, found: &mut Found) -> Option<Settings> {
    let document = Document::parse(text, found)?;
    let top = document.top();
    top.tell_unknown_keys(found);
    let state = sections::state(&top, found);
    let time_zone = sections::time_zone(&top, found);
    let staging = sections::staging(&document.section("staging", found), found, &state);
    let sources = read_sources(&document, &top, found);
    let pack = sections::pack(&document.section("pack", found), found);
    let compress = sections::compress(&document.section("compress", found), found);
    let encrypt = sections::encrypt(&document.section("encrypt", found), found, credentials);
    let vault = sections::vault(&document.section("vault", found), found, credentials);
    let upload = sections::upload(&document.section("upload", found), found);
    let restore = sections::restore(&document.section("restore", found), found, &state, credentials);
    let prices = sections::prices(&document.section("prices", found), found, vault.as_ref());
    let mail = sections::mail(&document.section("mail", found), found, credentials);
    let heartbeat = sections::heartbeat(&document.section("heartbeat", found), found);
    let metrics = sections::metrics(&document.section("metrics", found), found);
    let log = sections::log(&document.section("log", found), found);
    rules::sizes(found, &staging, &pack);
    let dirs = Dirs {
        state: state.clone(),
        staging: staging.path.clone(),
        restore: restore.path.clone(),
        vault: vault.as_ref().and_then(|vault| rules::vault_dir(&vault.url)),
        sources: sources.iter().map(|(at, source)| (*at, source.path.clone())).collect(),
    };
    rules::directories(found, &dirs);
    if !found.problems.is_empty() {
        return None;
    }
    let origin = Origin {
        file: file.to_owned(),
        lines: std::mem::take(&mut found.lines),
        files: std::mem::take(&mut found.files),
    };
    let vault = vault.expect("a section without problems has its settings");
    let sources = sources.into_iter().map(|(_, source)| source).collect();
    Some(Settings {
        state,
        time_zone,
        staging,
        sources,
        pack,
        compress,
        encrypt,
        vault,
        upload,
        restore,
        prices,
        mail,
        heartbeat,
        metrics,
        log,
        origin,
    })
}

/// The sources that can be told, by their index in the file.
fn read_sources(document: &Document<'_>, top: &Section<'_>, found: &mut Found) -> Vec<(usize, Source)> {
    let sections = document.list("source", found);
    if sections.is_empty() && !found.blames("source") {
        let what = "is missing; write at least one section [[source]] with name = \"data\" and path = \"/srv/data\"";
        top.problem(found, "source", what);
    }
    let mut sources = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        sources.extend(sections::source(section, found).map(|source| (index, source)));
    }
    rules::unique_sources(found, &sources);
    sources
}

#[cfg(test)]
mod tests;
