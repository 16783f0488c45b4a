//! Where heartbeats are heard. Pure; an address that was parsed can be used.

use super::address::{is_host, port_of};
use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Where a heartbeat is heard. Who knows its path can say that all is well, so that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HeartbeatUrl {
    url: String,
    shown: String,
}

impl HeartbeatUrl {
    /// With its path.
    pub fn secret(&self) -> &str {
        &self.url
    }
}

impl FromStr for HeartbeatUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<HeartbeatUrl, String> {
        const RIGHT: &str = "must be \"https://HOST/PATH\", as the service tells it, without a user and a fragment";
        let after = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme)).ok_or(RIGHT)?.len();
        let end = text[after..].find(['/', '?']).map_or(text.len(), |at| after + at);
        let authority = &text[after..end];
        let (host, is_port) = match authority.rsplit_once(':') {
            Some((host, digits)) if !digits.contains(']') => (host, port_of(digits).is_some()),
            _ => (authority, true),
        };
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'@' | b'#' | b'"' | b'<' | b'>'));
        if !is_plain || !is_port || !is_host(host) || HEARTBEAT_LEN_MAX < text.len() {
            return Err(RIGHT.to_owned());
        }
        let shown = if end == text.len() { text.to_owned() } else { format!("{}/…", &text[..end]) };
        Ok(HeartbeatUrl { url: text.to_owned(), shown })
    }
}

const HEARTBEAT_LEN_MAX: usize = 2000;

impl fmt::Display for HeartbeatUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for HeartbeatUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HeartbeatUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_has_a_secret_path() {
        for (text, shown) in [
            ("https://hc-ping.com/c0ffee", "https://hc-ping.com/…"),
            ("http://127.0.0.1:8000/a?b=c", "http://127.0.0.1:8000/…"),
            ("https://[::1]:8000?b=c", "https://[::1]:8000/…"),
            ("https://ping.example.org", "https://ping.example.org"),
        ] {
            let url: HeartbeatUrl = text.parse().unwrap();
            assert_eq!((url.secret(), url.to_string(), format!("{url:?}")), (text, shown.to_owned(), shown.to_owned()));
        }
        let long = format!("https://h/{}", "x".repeat(HEARTBEAT_LEN_MAX));
        for text in [
            "",
            "hc-ping.com/x",
            "ftp://h/x",
            "https://",
            "https:///x",
            "https://u:p@h/x",
            "https://h/a b",
            "https://h/…",
            &long,
        ] {
            let err = text.parse::<HeartbeatUrl>().unwrap_err();
            assert!(err.contains("https://HOST/PATH") && !err.contains("u:p"), "{text}: {err}");
        }
    }
}
