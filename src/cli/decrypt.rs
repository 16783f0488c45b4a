//! `archiver decrypt`: downloaded objects into plain tars.

use super::Failed;
use crate::{
    config::Settings,
    encrypt::{Opener, Secret, Unlock},
    restore::open_object,
};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Objects as they are in the vault
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where the plain files go
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The passphrase, when there is no configuration
    #[arg(long, value_name = "FILE", conflicts_with = "secret_key_file")]
    pub passphrase_file: Option<PathBuf>,
    /// The secret key, when there is no configuration
    #[arg(long, value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
}

pub fn run(args: &super::Args, decrypt: &Args) -> Result<u8, Failed> {
    let given = (decrypt.passphrase_file.as_deref(), decrypt.secret_key_file.as_deref());
    // People who have only the bucket and the key have no configuration.
    let settings = if given == (None, None) && args.config.exists() { Some(args.settings()?) } else { None };
    let unlock = unlock(given, settings.as_ref())?;
    let opener = unlock.map(|unlock| Opener::open(&unlock)).transpose().map_err(|err| Failed::of(&err))?;
    let to = std::path::absolute(&decrypt.to)?;
    for file in &decrypt.files {
        let made = open_object(file, opener.as_ref(), &to).map_err(|err| Failed::of(&err))?;
        println!("{}", made.display());
    }
    Ok(0)
}

/// What was given to open with, the passphrase or the secret key; else what is configured.
pub fn unlock(given: (Option<&Path>, Option<&Path>), settings: Option<&Settings>) -> Result<Option<Unlock>, Failed> {
    match (given, settings) {
        ((Some(file), _), _) => Ok(Some(passphrase(file)?)),
        ((None, Some(file)), _) => Ok(Some(Unlock::SecretKey { file: file.to_owned(), password: None })),
        ((None, None), Some(settings)) => configured(settings),
        ((None, None), None) => Ok(None),
    }
}

fn passphrase(file: &Path) -> Result<Unlock, Failed> {
    Ok(Unlock::Passphrase(Secret::from_file(file).map_err(|err| Failed::of(&err))?))
}

/// What the configuration says that opens what was sealed.
pub fn configured(settings: &Settings) -> Result<Option<Unlock>, Failed> {
    if let Some(file) = settings.restore.secret_key_file.clone() {
        return Ok(Some(Unlock::SecretKey { file, password: None }));
    }
    settings.encrypt.passphrase_file.as_deref().map(passphrase).transpose()
}
