//! Paths inside a source, and the one order in which everything is walked, cut, stored and found.
//!
//! Paths are compared **component by component**, never as joined strings: `Photos/x` comes before
//! `Photos (old)/y`, because `Photos` < `Photos (old)` as names. A name holds neither `/` nor NUL, so this
//! is the order of the joined bytes with `/` read as the lowest byte; [`SourcePath::order_key`] is those bytes.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, cmp::Ordering, ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path};

/// Longest name, bytes: that of all filesystems of Linux.
const NAME_LEN_MAX: usize = 255;

/// A path relative to the root of a source: names joined by `/`, no leading or trailing `/`, no `.`, `..`
/// or empty names. The root itself is empty.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SourcePath(Box<[u8]>);

/// Why bytes are not a path inside a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is not a path inside a source: {why}")]
pub struct PathError {
    path: String,
    why: &'static str,
}

impl SourcePath {
    pub fn root() -> SourcePath {
        SourcePath(Box::default())
    }

    /// Takes a path as users and files write it: with or without a leading or trailing `/`; `/`, `.` and
    /// the empty string are the root.
    pub fn parse(text: &[u8]) -> Result<SourcePath, PathError> {
        let fail = |why| PathError { path: String::from_utf8_lossy(text).into_owned(), why };
        let mut joined = Vec::with_capacity(text.len());
        for name in text.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".") {
            if name == b".." {
                return Err(fail("`..` leads outside"));
            }
            if name.contains(&0) {
                return Err(fail("a name cannot hold a NUL byte"));
            }
            if !joined.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(name);
        }
        Ok(SourcePath(joined.into()))
    }

    /// The path whose [`as_bytes`](Self::as_bytes) these are.
    pub(crate) fn from_joined(joined: &[u8]) -> SourcePath {
        debug_assert!(SourcePath::parse(joined).is_ok_and(|path| *path.0 == *joined));
        SourcePath(joined.into())
    }

    /// The child `name` of this directory. `name` comes from a directory listing: no `/`, not empty.
    pub fn join(&self, name: &[u8]) -> SourcePath {
        debug_assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        if !joined.is_empty() {
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
        SourcePath(joined.into())
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Names from the top down; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// How many names deep; 0 for the root.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    pub fn parent(&self) -> Option<SourcePath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(SourcePath(self.0[..end].into()))
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// Every directory above this path, from the root down, without the path itself.
    /// A path that comes before this one, and before which nothing else that can be there comes: the end of a range that
    /// does not hold this one any more. Nothing comes before the root.
    pub fn before(&self) -> Option<SourcePath> {
        let parent = self.parent()?;
        let (last, head) = self.name().split_last()?;
        let mut name = head.to_vec();
        // Neither NUL nor `/` is in a name.
        let lower = (1..*last).rev().find(|byte| *byte != b'/');
        if let Some(lower) = lower {
            name.push(lower);
            name.resize(NAME_LEN_MAX, 0xff);
        }
        match &name[..] {
            // Below these nothing can be.
            b"" => Some(parent),
            b"." | b".." => Some(parent.join(&[&name[..], &[0x01]].concat())),
            _ if lower.is_none() => Some(parent.join(&name).join(&[0xff; NAME_LEN_MAX])),
            _ => Some(parent.join(&name)),
        }
    }

    pub fn ancestors(&self) -> Vec<SourcePath> {
        let mut above = Vec::new();
        let mut at = self.parent();
        while let Some(path) = at {
            at = path.parent();
            above.push(path);
        }
        above.reverse();
        above
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(&self, other: &SourcePath) -> bool {
        other.is_root() || self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Bytes whose plain order (`memcmp`, as in SQLite blobs) is the order of paths.
    pub fn order_key(&self) -> Vec<u8> {
        self.0.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect()
    }

    /// The path whose [`order_key`](Self::order_key) this is.
    pub fn from_order_key(key: &[u8]) -> Result<SourcePath, PathError> {
        let bytes: Vec<u8> = key.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
        SourcePath::parse(&bytes)
    }

    /// For people: control characters and bytes that are not UTF-8 are escaped, so that a name can never
    /// forge a line of a log or move a cursor.
    pub fn display(&self) -> String {
        if self.is_root() { "/".to_owned() } else { escape(&self.0) }
    }

    /// For files of ours: the text, or `Err` with the raw bytes where it is not UTF-8.
    pub fn as_utf8(&self) -> Result<&str, &[u8]> {
        std::str::from_utf8(&self.0).map_err(|_| &*self.0)
    }
}

/// Bytes as printable text; `\n`, `\x1b` and the like are escaped, a backslash is doubled.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                // Control characters, and those that break lines or reorder what is shown.
                c if c.is_control()
                    || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    text.extend(c.escape_default());
                }
                c => text.push(c),
            }
        }
        for b in chunk.invalid() {
            text.push_str(&format!("\\x{b:02x}"));
        }
    }
    text
}

impl Ord for SourcePath {
    fn cmp(&self, other: &Self) -> Ordering {
        let low = |b: &u8| if *b == b'/' { 0 } else { *b };
        self.0.iter().map(low).cmp(other.0.iter().map(low))
    }
}

impl PartialOrd for SourcePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Cow::from(self.display()))
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

/// In files of ours: text where it is UTF-8, else `{"b64": …}`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Text(String),
    Raw { b64: String },
}

impl Serialize for SourcePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_utf8() {
            Ok(text) => Stored::Text(text.to_owned()),
            Err(raw) => Stored::Raw { b64: BASE64.encode(raw) },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SourcePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SourcePath, D::Error> {
        let bytes = match Stored::deserialize(deserializer)? {
            Stored::Text(text) => text.into_bytes(),
            Stored::Raw { b64 } => BASE64.decode(b64).map_err(D::Error::custom)?,
        };
        SourcePath::parse(&bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> SourcePath {
        SourcePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn before_a_path_comes_a_path_and_nothing_between() {
        let path = |text: &[u8]| SourcePath::parse(text).unwrap();
        assert_eq!(SourcePath::root().before(), None);
        for (text, below) in [
            (&b"b"[..], &b"a/z"[..]),
            (b"d/b", b"d/a\xff\xff/x"),
            (b"d/0", b"d/.x"),
            (b"d/a\x01", b"d/a/z/z"),
            (b"d/\x01", b"d"),
            (b"d/./x".split_at(2).0, b"c/z"),
            (b"d.", b"d-\xff"),
        ] {
            let (path, below) = (path(text.strip_suffix(b"/").unwrap_or(text)), path(below));
            let before = path.before().unwrap();
            assert!(before < path && below <= before, "{below:?} {before:?} {path:?}");
        }
    }

    #[test]
    fn order_is_by_component() {
        let order = [
            "/",
            "Photos",
            "Photos/x",
            "Photos/x/y",
            "Photos/x.y",
            "Photos (old)/y",
            "Photos-2019",
            "Photos.bak",
            "a/b/c",
            "a/b.c",
        ];
        for pair in order.windows(2) {
            assert!(path(pair[0]) < path(pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn what_leads_outside_is_refused() {
        assert!(SourcePath::parse(b"a/../b").is_err());
        assert!(SourcePath::parse(b"a\0b").is_err());
        assert_eq!(path("/a//b/./c/"), path("a/b/c"));
        assert!(path("/").is_root() && path(".").is_root());
    }

    #[test]
    fn within_is_by_component() {
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(!path("ab").is_within(&path("a")));
        assert!(path("ab").is_within(&path("/")));
    }

    #[test]
    fn escapes_leave_nothing_that_moves_a_cursor() {
        assert_eq!(escape(b"a\nb\x1b[1m\xff\\"), "a\\nb\\u{1b}[1m\\xff\\\\");
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_lists_of_names(a in "[ab./ -]{0,12}", b in "[ab./ -]{0,12}") {
            if let (Ok(a), Ok(b)) = (SourcePath::parse(a.as_bytes()), SourcePath::parse(b.as_bytes())) {
                let names = |p: &SourcePath| p.components().map(<[u8]>::to_vec).collect::<Vec<_>>();
                prop_assert_eq!(a.cmp(&b), names(&a).cmp(&names(&b)));
                prop_assert_eq!(a.order_key().cmp(&b.order_key()), a.cmp(&b));
                prop_assert_eq!(SourcePath::from_order_key(&a.order_key()).unwrap(), a);
            }
        }
    }
}
