//! Where things are: vaults, mail servers, people. Pure; an address that was parsed can be used.

use serde::{Serialize, Serializer};
use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// Where the vault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultUrl {
    /// An absolute path.
    Directory(PathBuf),
    /// `prefix` without slashes at its ends; empty for the whole bucket.
    S3 { bucket: String, prefix: String },
}

/// A mail server: `smtps://user@host:465`. Secrets are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpUrl {
    pub security: SmtpSecurity,
    pub user: Option<String>,
    /// A name or an address; IPv6 in brackets.
    pub host: String,
    /// Of the URL, or that of its scheme: 587 for `smtp`, 465 for `smtps`.
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// `smtp://`: begins in the clear, then STARTTLS.
    StartTls,
    /// `smtps://`: TLS from the first byte.
    Tls,
}

impl FromStr for VaultUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<VaultUrl, String> {
        const RIGHT: &str = "must be \"s3://BUCKET/PREFIX\" or \"file:///ABSOLUTE/PATH\"";
        if let Some(path) = text.strip_prefix("file://") {
            let is_plain = !path.contains(['%', '\0']);
            let path = PathBuf::from(path);
            let goes_up = path.components().any(|part| part == std::path::Component::ParentDir);
            if !path.is_absolute() || goes_up || !is_plain {
                return Err(format!("{RIGHT}; the path begins with a third slash and has neither `..` nor %-escapes"));
            }
            return Ok(VaultUrl::Directory(path.components().collect()));
        }
        let Some(rest) = text.strip_prefix("s3://") else { return Err(RIGHT.to_owned()) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_bucket(bucket) {
            return Err(format!("{RIGHT}; a bucket's name is 3 to 63 of a-z, 0-9, . and -"));
        }
        let prefix = prefix.trim_end_matches('/');
        if !is_prefix(prefix) {
            return Err(format!(
                "{RIGHT}; a prefix is up to {PREFIX_LEN_MAX} of A-Z, a-z, 0-9, ., _, - and /, no name beginning with a dot"
            ));
        }
        Ok(VaultUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// Leaves room for our own names in a key of S3, which has 1024 bytes.
const PREFIX_LEN_MAX: usize = 512;

/// Upper case and `_` are old buckets and other servers' freedom; S3 itself refuses what it does not like.
fn is_bucket(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_prefix(text: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    text.is_empty() || (text.len() <= PREFIX_LEN_MAX && text.split('/').all(plain))
}

impl fmt::Display for VaultUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VaultUrl::Directory(path) => write!(f, "file://{}", path.display()),
            VaultUrl::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            VaultUrl::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Errors never show the text: it may hold a password that should not be there.
impl FromStr for SmtpUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<SmtpUrl, String> {
        const RIGHT: &str =
            "must be \"smtps://USER@HOST:PORT\", or \"smtp://…\" for STARTTLS; user and port may be left out";
        let (security, rest, port) = match text.split_once("://") {
            Some(("smtps", rest)) => (SmtpSecurity::Tls, rest, 465),
            Some(("smtp", rest)) => (SmtpSecurity::StartTls, rest, 587),
            _ => return Err(RIGHT.to_owned()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err(
                    "must not hold the password; put it into a file of mode 0600 and name that as `password_file`"
                        .to_owned(),
                );
            }
            Some((user, rest)) => (Some(unescaped(user).ok_or(RIGHT)?), rest),
            None => (None, rest),
        };
        // The colon of a port comes after the brackets of an IPv6 address.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, digits)) if !digits.contains(']') => (host, port_of(digits).ok_or(RIGHT)?),
            _ => (rest, port),
        };
        if is_host(host) { Ok(SmtpUrl { security, user, host: host.to_owned(), port }) } else { Err(RIGHT.to_owned()) }
    }
}

impl fmt::Display for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.security {
            SmtpSecurity::StartTls => "smtp",
            SmtpSecurity::Tls => "smtps",
        };
        let user = self.user.as_ref().map(|user| escaped(user) + "@").unwrap_or_default();
        write!(f, "{scheme}://{user}{}:{}", self.host, self.port)
    }
}

macro_rules! as_displayed {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
as_displayed!(VaultUrl, SmtpUrl);

/// `http://` or `https://`, a host, perhaps a port and a path. Errors never show the text: it may hold a password.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    const RIGHT: &str = "must be \"https://HOST:PORT\" or \"http://HOST:PORT\", without a user, a query or a fragment";
    let Some(("http" | "https", rest)) = text.split_once("://") else { return Err(RIGHT.to_owned()) };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, is_port) = match authority.rsplit_once(':') {
        Some((host, digits)) if !digits.contains(']') => (host, port_of(digits).is_some()),
        _ => (authority, true),
    };
    let is_plain = !rest.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#'));
    if is_plain && is_port && is_host(host) { Ok(text.trim_end_matches('/').to_owned()) } else { Err(RIGHT.to_owned()) }
}

/// Where metrics are told: only this machine may ask, since nobody is asked who he is.
pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        _ => Err(format!(
            "must be an address of this machine alone with a port, as \"127.0.0.1:9617\", not {}",
            super::document::quoted(text)
        )),
    }
}

/// Roughly: only the mail server knows whom it takes mail for.
pub(super) fn mailbox(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"' | '(' | ')');
    match text.rsplit_once('@') {
        Some((local, domain))
            if !local.is_empty()
                && !local.contains('@')
                && !domain.is_empty()
                && text.len() <= 254
                && !text.contains(odd) =>
        {
            Ok(text.to_owned())
        }
        _ => {
            Err(format!("must be a plain mail address like \"ops@example.org\", not {}", super::document::quoted(text)))
        }
    }
}

pub(super) fn port_of(digits: &str) -> Option<u16> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|port| *port != 0)
}

pub(super) fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !text.starts_with(['-', '.'])
}

/// `%40` stands for the `@` in a user that is a mail address; it may also be written as it is.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    let user = String::from_utf8(bytes).ok()?;
    (!user.is_empty() && !user.contains(char::is_control)).then_some(user)
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| {
            let is_plain = b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
            if is_plain { char::from(b).to_string() } else { format!("%{b:02X}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vaults_are_buckets_or_directories() {
        let s3 = |bucket: &str, prefix: &str| VaultUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        for (text, expected, shown) in [
            ("s3://my-bucket/prefix", s3("my-bucket", "prefix"), "s3://my-bucket/prefix"),
            ("s3://my-bucket", s3("my-bucket", ""), "s3://my-bucket"),
            ("s3://my-bucket/", s3("my-bucket", ""), "s3://my-bucket"),
            ("s3://my.bucket/a/b_c/", s3("my.bucket", "a/b_c"), "s3://my.bucket/a/b_c"),
            (
                "file:///mnt/usb disk/vault/",
                VaultUrl::Directory("/mnt/usb disk/vault".into()),
                "file:///mnt/usb disk/vault",
            ),
        ] {
            let url: VaultUrl = text.parse().unwrap();
            assert_eq!(url, expected, "{text}");
            assert_eq!(url.to_string(), shown);
        }
        for text in [
            "",
            "my-bucket",
            "/mnt/vault",
            "S3://my-bucket",
            "https://my-bucket.s3.amazonaws.com",
            "s3://",
            "s3:///x",
            "s3://ab",
            "s3://-bucket",
            "s3://my bucket",
            "s3://my-bucket//x",
            "s3://my-bucket/a//b",
            "s3://my-bucket/../x",
            "s3://my-bucket/.x",
            "s3://my-bucket/é",
            "file://mnt/vault",
            "file:/mnt",
            "file://",
            "file:///a/../b",
            "file:///a%20b",
        ] {
            assert!(text.parse::<VaultUrl>().is_err(), "{text}");
        }
        assert!(format!("s3://my-bucket/{}", "x".repeat(PREFIX_LEN_MAX + 1)).parse::<VaultUrl>().is_err());
    }

    #[test]
    fn mail_servers_have_a_scheme_a_host_and_no_password() {
        for (text, shown, user) in [
            ("smtps://backup@mail.example.org", "smtps://backup@mail.example.org:465", Some("backup")),
            ("smtp://localhost", "smtp://localhost:587", None),
            ("smtp://127.0.0.1:2525/", "smtp://127.0.0.1:2525", None),
            ("smtp://[::1]:25", "smtp://[::1]:25", None),
            ("smtp://[::1]", "smtp://[::1]:587", None),
            (
                "smtps://ops%40example.org@mail.example.org",
                "smtps://ops%40example.org@mail.example.org:465",
                Some("ops@example.org"),
            ),
            (
                "smtps://ops@example.org@mail.example.org",
                "smtps://ops%40example.org@mail.example.org:465",
                Some("ops@example.org"),
            ),
        ] {
            let url: SmtpUrl = text.parse().expect(text);
            assert_eq!((url.to_string().as_str(), url.user.as_deref()), (shown, user), "{text}");
            assert_eq!(shown.parse(), Ok(url));
        }
        for text in [
            "",
            "mail.example.org",
            "http://x",
            "smtp://",
            "smtp://@host",
            "smtp://host:0",
            "smtp://host:65536",
            "smtp://host:",
            "smtp://host:+25",
            "smtp://host/path",
            "smtp://host?tls=required",
            "smtp://[::1",
            "smtp://a b",
            "smtp://%4@host",
            "smtp://%ff@host",
            "smtp://-host",
        ] {
            assert!(text.parse::<SmtpUrl>().is_err(), "{text}");
        }
        let err = "smtps://me:hunter2@host".parse::<SmtpUrl>().unwrap_err();
        assert!(err.contains("password_file") && !err.contains("hunter2"), "{err}");
    }

    #[test]
    fn endpoints_and_people_have_addresses() {
        for text in ["http://127.0.0.1:9000", "https://s3.example.org", "https://[::1]:9000/base"] {
            assert_eq!(endpoint(text).as_deref(), Ok(text));
        }
        assert_eq!(endpoint("http://minio:9000/").as_deref(), Ok("http://minio:9000"));
        for text in
            ["", "minio:9000", "ftp://minio", "http://", "http://a:b@c", "http://a/?x", "http://a:x", "http://a b"]
        {
            assert!(endpoint(text).is_err(), "{text}");
        }
        for text in ["ops@example.org", "root@localhost", "first.last+tag@example.org"] {
            assert_eq!(mailbox(text).as_deref(), Ok(text));
        }
        for text in ["", "ops", "@example.org", "ops@", "a@b@c", "Ops <ops@example.org>", "a@b, c@d", "a\n@b"] {
            assert!(mailbox(text).is_err(), "{text:?}");
        }
    }
}
