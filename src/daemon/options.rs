//! The configuration fills every room's own options.

use super::Run;
use crate::{
    archive::{filter, pack},
    compress,
    config::{self, ConfigError, Problem, Settings, VaultUrl},
    encrypt,
    fate::{Chain, Fateful},
    name::Encryption,
    pipeline::{self, SourceSpec},
    report::{heartbeat, mail},
    units::Seconds,
    upload,
    vault::directory::DirectoryVault,
};
use std::path::{Path, PathBuf};

/// Where the unit says which directories it hides from us, separated by colons: their files would look removed.
const HIDDEN: &str = "ARCHIVER_HIDDEN";

/// Reads and checks the configuration, with what only the rooms know. Every problem is told at once.
pub fn load(file: &Path) -> Result<Settings, ConfigError> {
    let settings = config::load(file)?;
    let mut problems = settings.check_files();
    if let Err(err) = compress::Compressor::check(&compress(&settings)) {
        problems.push(settings.problem("compress.memory", err.to_string()));
    }
    for (index, source) in settings.sources.iter().enumerate() {
        if let Err(err) = filter::Filter::new(&filter_options(source)) {
            problems.push(settings.source_problem(index, "exclude", Chain(&err).to_string()));
        }
    }
    if let Err(what) = mail(&settings) {
        problems.push(settings.problem("mail", what));
    }
    problems.extend(hidden(&settings, &std::env::var(HIDDEN).unwrap_or_default()));
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError::invalid(file, problems)) }
}

/// What is configured where the unit hides the files of the system.
fn hidden(settings: &Settings, hidden: &str) -> Vec<Problem> {
    let hidden: Vec<&Path> = hidden.split(':').filter(|path| !path.is_empty()).map(Path::new).collect();
    let told = |path: &Path| {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let meets = |dir: &&&Path| [path, &real].iter().any(|path| path.starts_with(dir) || dir.starts_with(path));
        let dir = hidden.iter().find(meets)?;
        Some(format!(
            "{path:?} needs {dir:?}, which the unit hides from the service; write the path without symlinks, and run: \
             systemctl daemon-reload && systemctl restart archiver"
        ))
    };
    let sources = settings.sources.iter().enumerate();
    let sources =
        sources.filter_map(|(index, source)| Some(settings.source_problem(index, "path", told(&source.path)?)));
    let vault = match &settings.vault.url {
        VaultUrl::Directory(path) => told(path).map(|what| settings.problem("vault.url", what)),
        VaultUrl::S3 { .. } => None,
    };
    let own = [("state", &settings.state), ("staging.path", &settings.staging.path)];
    let own = own.into_iter().filter_map(|(key, path)| Some(settings.problem(key, told(path)?)));
    sources.chain(own).chain(vault).collect()
}

/// What a run would meet as things are now: no error of the configuration, but worth telling whoever checks it.
pub fn foreseen(settings: &Settings) -> Vec<String> {
    let sources = settings.sources.iter().filter_map(|source| {
        let what = match std::fs::metadata(&source.path) {
            Ok(meta) if meta.is_dir() => return None,
            Ok(_) => "is not a directory",
            Err(_) => "is not there",
        };
        Some(format!("Source {}: {:?} {what}; its pass would be held", source.name, source.path))
    });
    let keys = encrypt(settings).and_then(|keys| {
        let err = encrypt::Encrypter::open(&keys, std::sync::Arc::new(std::time::SystemTime::now)).err()?;
        Some(format!("{}; a run would end with exit code {}", Chain(&err), err.trouble().exit_code()))
    });
    let vault = match &settings.vault.url {
        VaultUrl::S3 { .. } => None,
        VaultUrl::Directory(path) if DirectoryVault::is_there(path) => None,
        VaultUrl::Directory(path) => Some(format!(
            "vault.url: {path:?} is no vault yet; the first run would make one there. Is its disk mounted?"
        )),
    };
    sources.chain(keys).chain(vault).collect()
}

fn filter_options(source: &config::Source) -> filter::Options {
    filter::Options {
        exclude: source.exclude.clone(),
        include: source.include.clone(),
        exclude_tag: source.exclude_tag.clone(),
    }
}

fn compress(settings: &Settings) -> compress::Options {
    compress::Options {
        method: settings.compress.method,
        level: settings.compress.level,
        threads: settings.compress.threads,
        memory: settings.compress.memory.0,
        stream_size: settings.compress.stream.0,
    }
}

/// The name of this host as it is configured, else as the system says.
pub fn host(settings: &Settings) -> String {
    settings.vault.host.clone().unwrap_or_else(system_host)
}

/// The name of this host as the system says, as far as it can stand in keys.
pub fn system_host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain: String = name
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(40)
        .collect();
    if plain.is_empty() { "host".to_owned() } else { plain }
}

/// The mailer's options with the password read, or what is wrong with them.
pub fn mail(settings: &Settings) -> Result<Option<mail::Options>, String> {
    settings.mail.as_ref().map(mail_options).transpose()
}

/// The same of a section by itself.
pub fn mail_options(mail: &config::Mail) -> Result<mail::Options, String> {
    let read = |file: &PathBuf| match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(err) => Err(format!("mail.password_file: cannot read {file:?}: {err}")),
    };
    let options = mail::Options {
        smtp: mail.smtp.to_string(),
        password: mail.password_file.as_ref().map(read).transpose()?,
        from: mail.from.clone(),
        to: mail.to.clone(),
        digest: mail.digest.duration(),
    };
    options.check().map_err(|err| Chain(&err).to_string())?;
    Ok(options)
}

pub fn heartbeat(settings: &Settings) -> Option<heartbeat::Options> {
    let heartbeat = settings.heartbeat.as_ref()?;
    Some(heartbeat::Options { url: heartbeat.url.secret().to_owned(), every: heartbeat.every.duration() })
}

pub fn pipeline(settings: &Settings, run: &Run) -> pipeline::Options {
    let mut own = vec![settings.staging.path.clone(), settings.state.clone()];
    if let VaultUrl::Directory(path) = &settings.vault.url {
        own.push(path.clone());
    }
    pipeline::Options {
        sources: settings.sources.iter().map(|source| spec(source, run)).collect(),
        state: settings.state.clone(),
        staging: settings.staging.path.clone(),
        cap: settings.staging.cap.0,
        pack: pack::Options {
            retries: settings.pack.retries,
            max_size: settings.pack.max_size.0,
            max_members: settings.pack.max_members,
            mark_bytes: settings.pack.checkpoint.0,
            mark_every: settings.pack.checkpoint_every.duration(),
        },
        compress: compress(settings),
        encrypt: encrypt(settings),
        upload: upload::Options {
            part_size: settings.vault.part_size.0,
            concurrency: settings.vault.concurrency as usize,
            retries: upload::Retries::default(),
            bandwidth: settings.upload.bandwidth.map(|bandwidth| bandwidth.0),
        },
        storage_class: settings.vault.storage_class.clone(),
        names: match settings.vault.names {
            config::Names::Plain => pipeline::Names::Plain,
            config::Names::Opaque => pipeline::Names::Opaque,
        },
        host: host(settings),
        own,
        silence: settings.mail.as_ref().map(|mail| mail.silence.duration()),
        prices: settings.prices.clone(),
        once: run.once,
        give_up_after: run.give_up_after,
    }
}

fn spec(source: &config::Source, run: &Run) -> SourceSpec {
    SourceSpec {
        name: source.name.clone(),
        path: source.path.clone(),
        filter: filter_options(source),
        one_file_system: source.one_file_system,
        require_mount: source.require_mount,
        repeat: source.repeat.map(Seconds::duration),
        pass_now: run.pass_now.iter().any(|name| name == source.name.as_str()),
    }
}

pub fn encrypt(settings: &Settings) -> Option<encrypt::Options> {
    if settings.encrypt.method == Encryption::None {
        return None;
    }
    let keys = match &settings.encrypt.passphrase_file {
        Some(file) => encrypt::KeySource::Passphrase(file.clone()),
        None => encrypt::KeySource::Certificates(settings.encrypt.recipients.clone()),
    };
    Some(encrypt::Options { keys, prove: settings.encrypt.prove })
}
