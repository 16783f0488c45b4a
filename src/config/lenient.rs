//! What can be known of a configuration although it is wrong elsewhere: for those who must work when the daemon cannot.

use super::{
    Credentials, VaultUrl,
    document::{Document, Section},
    problem::Found,
    read_text, sections,
    settings::Mail,
};
use std::path::{Path, PathBuf};

/// Parts of a configuration. Each is believed when nothing is wrong with itself.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub state: PathBuf,
    pub staging: PathBuf,
    /// Of a vault in a directory.
    pub vault: Option<PathBuf>,
    pub sources: Vec<PathBuf>,
    /// Where metrics are written.
    pub textfile: Option<PathBuf>,
    pub mail: MailPart,
}

#[derive(Clone, Debug, Default)]
pub enum MailPart {
    /// There is no section.
    #[default]
    Absent,
    /// There may be one; it cannot be believed.
    Wrong,
    Good(Mail),
}

/// Reads a file as far as it can be read, with the credentials of this process. Nothing but this file is looked at.
pub fn parts(file: &Path) -> Parts {
    match read_text(file) {
        Ok(text) => of(&text, &Credentials::from_env()),
        Err(_) => Parts { mail: MailPart::Wrong, ..of("", &Credentials::default()) },
    }
}

fn of(text: &str, credentials: &Credentials) -> Parts {
    let (document, is_toml) = Document::recover(text);
    let top = document.top();
    let section = |name| document.section(name, &mut Found::default());
    let state = good(|found| Some(sections::state(&top, found))).unwrap_or_else(|| sections::STATE.into());
    let staging = good(|found| section("staging").path(found, "path")).unwrap_or_else(|| state.join("staging"));
    let vault = good(|found| section("vault").text(found, "url", str::parse));
    let path = |source: &Section<'_>| good(|found| source.path(found, "path"));
    let textfile = good(|found| section("metrics").path(found, "textfile"));
    let mail = section("mail");
    Parts {
        state,
        staging,
        vault: match vault {
            Some(VaultUrl::Directory(path)) => Some(path),
            Some(VaultUrl::S3 { .. }) | None => None,
        },
        sources: document.list("source", &mut Found::default()).iter().filter_map(path).collect(),
        textfile,
        mail: match good(|found| sections::mail(&mail, found, credentials)) {
            Some(mail) if is_toml => MailPart::Good(mail),
            None if is_toml && !mail.is_there() => MailPart::Absent,
            _ => MailPart::Wrong,
        },
    }
}

/// What is read, unless a problem is found with it.
fn good<T>(read: impl FnOnce(&mut Found) -> Option<T>) -> Option<T> {
    let mut found = Found::default();
    read(&mut found).filter(|_| found.problems.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "[mail]\nsmtp = \"smtp://127.0.0.1:25\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n";

    fn read(text: &str) -> Parts {
        of(text, &Credentials::default())
    }

    #[test]
    fn what_is_wrong_elsewhere_takes_nothing_away() {
        let text = "state = \"/s\"\nunknown = 1\n[staging]\npath = \"/a b\"\ncap = \"lots\"\n[vault]\nurl = \"file:///v\"\n\
                    names = 7\n[[source]]\nname = \"?\"\npath = \"/one\"\n[[source]]\npath = \"two\"\n";
        let parts = read(&format!("{text}{MAIL}colour = \"red\"\n"));
        assert_eq!((&*parts.state, &*parts.staging), (Path::new("/s"), Path::new("/a b")));
        assert_eq!((parts.vault, parts.sources), (Some("/v".into()), vec![PathBuf::from("/one")]));
        assert!(matches!(parts.mail, MailPart::Good(mail) if mail.to == ["b@example.org"]));
    }

    #[test]
    fn what_is_wrong_itself_has_its_default_or_is_told_to_be_wrong() {
        let parts =
            read("state = 5\n[staging]\npath = \"relative\"\n[vault]\nurl = \"s3://my-bucket\"\n[mail]\nto = []\n");
        assert_eq!(parts.staging, Path::new("/var/lib/archiver/staging"));
        assert!(parts.vault.is_none() && parts.sources.is_empty() && matches!(parts.mail, MailPart::Wrong));
        assert!(matches!(read("").mail, MailPart::Absent));
    }

    #[test]
    fn of_what_is_no_toml_directories_are_guessed_and_mail_is_not_believed() {
        let parts = read(&format!("state = \"/s\"\n[staging]\npath = \"/x\"\n= = =\n{MAIL}"));
        assert_eq!((&*parts.state, &*parts.staging), (Path::new("/s"), Path::new("/x")));
        assert!(matches!(parts.mail, MailPart::Wrong));
        assert!(matches!(super::parts(Path::new("/nowhere/archiver.toml")).mail, MailPart::Wrong));
    }
}
