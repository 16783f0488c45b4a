//! Reads a TOML document into typed values and collects everything that is wrong with them. The only door to `toml`.
//!
//! serde stops at the first error; here each key is read by itself, so that all errors are told at once.

use super::{
    keys,
    problem::{FileKind, FileRef, Found},
};
use crate::{
    price::{PRICE_MAX, is_price},
    units::{ByteSize, Seconds},
};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
    str::FromStr,
};
use toml::de::{DeTable, DeValue};

/// A document, and where its lines begin.
pub(super) struct Document<'t> {
    table: DeTable<'t>,
    lines: Lines<'t>,
}

/// One `[section]`, an element of a `[[list of sections]]`, or the top of the file.
pub(super) struct Section<'a> {
    /// As in messages: `staging`; empty at the top.
    name: &'static str,
    /// As in [`super::problem::Places`]: `staging`, `source[0]`.
    place: String,
    /// Of the header; `None` when the section is not there.
    line: Option<usize>,
    table: Option<&'a DeTable<'a>>,
    lines: &'a Lines<'a>,
}

struct Lines<'t> {
    text: &'t str,
    /// Of the first byte of each line.
    starts: Vec<usize>,
}

/// `settings` as a TOML document.
pub(super) fn to_toml(settings: &impl Serialize) -> String {
    toml::to_string_pretty(settings).expect("settings are tables of texts, numbers and lists")
}

impl<'t> Document<'t> {
    /// `None` when the text is not TOML; its problems are collected.
    pub fn parse(text: &'t str, found: &mut Found) -> Option<Document<'t>> {
        let lines = Lines::of(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut told = BTreeSet::new();
        // One mistake confuses the parser for the rest of its line.
        let mut errors: Vec<_> = errors.iter().map(|err| (err.span().map_or(0, |span| span.start), err)).collect();
        errors.sort_by_key(|(at, _)| *at);
        for (at, err) in &errors {
            let (line, column) = lines.position(*at);
            if told.insert(line) {
                found.problem(Some(line), lines.key_at(line), format!("not TOML, column {column}: {}", err.message()));
            }
        }
        // A key that is there twice leaves a sound document; after any other error nothing can be believed.
        let is_sound = errors.iter().all(|(_, err)| err.message().starts_with("duplicate key"));
        is_sound.then(|| Document { table: table.into_inner(), lines })
    }

    /// As much of a document as can be made of the text, and whether it is all of it.
    pub fn recover(text: &'t str) -> (Document<'t>, bool) {
        let (table, errors) = DeTable::parse_recoverable(text);
        (Document { table: table.into_inner(), lines: Lines::of(text) }, errors.is_empty())
    }

    pub fn top(&self) -> Section<'_> {
        self.make("", String::new(), Some(1), Some(&self.table))
    }

    /// The section of this name, or an empty one.
    pub fn section(&self, name: &'static str, found: &mut Found) -> Section<'_> {
        let Some((line, value)) = self.top().value(name) else {
            return self.make(name, name.to_owned(), None, None);
        };
        match value {
            DeValue::Table(table) => {
                let section = self.make(name, name.to_owned(), Some(line), Some(table));
                section.tell_unknown_keys(found);
                section
            }
            other => {
                found.problem(Some(line), name, format!("must be a section, written [{name}], not {}", kind(other)));
                self.make(name, name.to_owned(), Some(line), None)
            }
        }
    }

    /// All `[[name]]` sections in the order of the file.
    pub fn list(&self, name: &'static str, found: &mut Found) -> Vec<Section<'_>> {
        let mut sections = Vec::new();
        let Some((line, value)) = self.top().value(name) else { return sections };
        let not_a_list = |what| format!("must be a list of sections, each written [[{name}]], not {what}");
        let DeValue::Array(array) = value else {
            found.problem(Some(line), name, not_a_list(kind(value)));
            return sections;
        };
        for (index, element) in array.iter().enumerate() {
            let line = Some(self.lines.position(element.span().start).0);
            match element.get_ref() {
                DeValue::Table(table) => {
                    let section = self.make(name, format!("{name}[{index}]"), line, Some(table));
                    section.tell_unknown_keys(found);
                    sections.push(section);
                }
                other => found.problem(line, name, not_a_list(kind(other))),
            }
        }
        sections
    }

    fn make<'a>(
        &'a self,
        name: &'static str,
        place: String,
        line: Option<usize>,
        table: Option<&'a DeTable<'a>>,
    ) -> Section<'a> {
        Section { name, place, line, table, lines: &self.lines }
    }
}

impl<'a> Section<'a> {
    pub fn is_there(&self) -> bool {
        self.line.is_some()
    }

    pub fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// As in messages: `staging.cap`.
    pub fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// At this key's line, or at the section's where the key is absent.
    pub fn problem(&self, found: &mut Found, key: &'static str, what: impl Into<String>) {
        let line = self.value(key).map(|(line, _)| line).or(self.line);
        found.problem(line, self.key(key), what);
    }

    /// Tells that a key is missing, with what could be written.
    pub fn require(&self, found: &mut Found, key: &'static str, example: &str) {
        if !self.has(key) {
            let place = if self.name.is_empty() { String::new() } else { format!(" in {}", keys::header(self.name)) };
            found.problem(self.line, self.key(key), format!("is missing; write `{key} = {example}`{place}"));
        }
    }

    pub fn tell_unknown_keys(&self, found: &mut Found) {
        for (key, _) in self.table.iter().flat_map(|table| table.iter()) {
            let name: &str = key.get_ref();
            let is_known = keys::of(self.name).contains(&name) || (self.name.is_empty() && keys::is_section(name));
            if !is_known {
                let line = self.lines.position(key.span().start).0;
                // A name from outside: it must not break the line or move a cursor.
                let shown = crate::path::escape(name.as_bytes());
                found.problem(Some(line), self.key(&shown), keys::unknown(self.name, name));
            }
        }
    }

    /// A text that `convert` understands.
    pub fn text<T>(
        &self,
        found: &mut Found,
        key: &'static str,
        convert: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.read(found, key, |value| match value {
            DeValue::String(text) => convert(text),
            other => Err(format!("must be a text in quotes, not {}", kind(other))),
        })
    }

    pub fn flag(&self, found: &mut Found, key: &'static str) -> Option<bool> {
        self.read(found, key, |value| match value {
            DeValue::Boolean(flag) => Ok(*flag),
            other => Err(format!("must be true or false, without quotes, not {}", kind(other))),
        })
    }

    pub fn number(&self, found: &mut Found, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.read(found, key, |value| {
            let right = format!("must be a number from {} to {}", range.start(), range.end());
            integer(value).filter(|n| range.contains(n)).ok_or_else(|| format!("{right}, not {}", shown(value)))
        })
    }

    /// A price in dollars.
    pub fn price(&self, found: &mut Found, key: &'static str) -> Option<f64> {
        self.read(found, key, |value| {
            let price = match value {
                DeValue::Float(float) => float.as_str().parse().ok(),
                value => integer(value).map(|whole| whole as f64),
            };
            let right = format!("must be a price in dollars from 0 to {PRICE_MAX}, like 0.00099");
            price.filter(|price| is_price(*price)).ok_or_else(|| format!("{right}, not {}", shown(value)))
        })
    }

    /// A size as a text or in bytes.
    pub fn size(&self, found: &mut Found, key: &'static str, range: RangeInclusive<u64>) -> Option<ByteSize> {
        self.read(found, key, |value| {
            let size = match value {
                DeValue::String(text) => ByteSize::from_str(text).map_err(|err| err.to_string())?,
                DeValue::Integer(_) => ByteSize(integer(value).ok_or_else(|| {
                    format!("must be a number of bytes from 0 to {}, not {}", i64::MAX, shown(value))
                })?),
                other => return Err(format!("must be a size like \"512GiB\", \"2TB\" or bytes, not {}", kind(other))),
            };
            let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
            match size {
                size if size < least => Err(format!("must be at least {:?}, not {}", least.exact(), shown(value))),
                size if most < size => Err(format!("must be at most {:?}, not {}", most.exact(), shown(value))),
                size => Ok(size),
            }
        })
    }

    pub fn seconds(&self, found: &mut Found, key: &'static str, least: Seconds) -> Option<Seconds> {
        // Ten thousand days: longer than anything waits, and short enough to be added to any time.
        const MOST: Seconds = Seconds(10_000 * Seconds::DAY);
        self.read(found, key, |value| {
            let seconds = match value {
                DeValue::String(text) => Seconds::from_str(text).map_err(|err| err.to_string())?,
                other => return Err(format!("must be a length of time like \"90d\" or \"12h\", not {}", kind(other))),
            };
            match seconds {
                seconds if seconds < least => Err(format!("must be at least \"{least}\", not {}", shown(value))),
                seconds if MOST < seconds => Err(format!("must be at most \"{MOST}\", not {}", shown(value))),
                seconds => Ok(seconds),
            }
        })
    }

    /// An absolute path, without `.` and `//`.
    pub fn path(&self, found: &mut Found, key: &'static str) -> Option<PathBuf> {
        // Who writes a secret where its file should be named must not find it in a log.
        let is_secret = key.ends_with("_file");
        self.text(found, key, |text| {
            absolute(text).map_err(|what| if is_secret { what } else { format!("{what}, not {}", quoted(text)) })
        })
    }

    /// A list of texts that `convert` understands; problems are told at the line of each.
    pub fn list<T>(
        &self,
        found: &mut Found,
        key: &'static str,
        convert: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let (_, value) = self.value(key)?;
        let elements = self.read(found, key, |_| match value {
            DeValue::Array(elements) => Ok(elements),
            other => Err(format!("must be a list of texts in brackets, like [\"…\", \"…\"], not {}", kind(other))),
        })?;
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let line = self.lines.position(element.span().start).0;
            found.lines.insert(format!("{}[{index}]", self.place(key)), line);
            let value = match element.get_ref() {
                DeValue::String(text) => convert(text),
                other => Err(format!("must be a list of texts in quotes; this one is {}", kind(other))),
            };
            match value {
                Ok(value) => values.push(value),
                Err(what) => found.problem(Some(line), self.key(key), what),
            }
        }
        (values.len() == elements.len()).then_some(values)
    }

    /// Notes that a file must be there; `place` is the key, or `recipients[1]`.
    pub fn note_file(&self, found: &mut Found, key: &'static str, place: &str, path: &Path, kind: FileKind) {
        let line = found.lines.line(&self.place(place)).or(self.line);
        found.files.push(FileRef { line, key: self.key(key), path: path.to_owned(), kind });
    }

    /// As in [`super::problem::Places`].
    pub fn place(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    fn read<T>(
        &self,
        found: &mut Found,
        key: &'static str,
        convert: impl FnOnce(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        debug_assert!(keys::of(self.name).contains(&key), "{}.{key} is in the table of keys", self.name);
        let (line, value) = self.value(key)?;
        found.lines.insert(self.place(key), line);
        convert(value).map_err(|what| found.problem(Some(line), self.key(key), what)).ok()
    }

    /// The value of a key and the line on which the key stands.
    fn value(&self, key: &str) -> Option<(usize, &'a DeValue<'a>)> {
        let (name, value) = self.table?.get_key_value(key)?;
        Some((self.lines.position(name.span().start).0, value.get_ref()))
    }
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Lines<'t> {
        let after = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Lines { text, starts: [0].into_iter().chain(after).collect() }
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at);
        let before = &self.text.as_bytes()[self.starts[line - 1]..at];
        (line, String::from_utf8_lossy(before).chars().count() + 1)
    }

    /// The key on a line of a document that is not TOML, as well as it can be told; empty where there is none.
    fn key_at(&self, line: usize) -> String {
        let plain = |word: &str| {
            let word = word.trim();
            let fits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
            fits.then(|| word.to_owned())
        };
        let header = |text: &str| plain(text.trim().strip_prefix('[')?.trim_matches(|c| c == '[' || c == ']'));
        let mut lines: Vec<&str> = self.text.lines().take(line).collect();
        if lines.len() < line {
            return String::new();
        }
        let last = lines.pop().unwrap_or_default();
        if let Some(section) = header(last) {
            return section;
        }
        let Some(key) = plain(last.split('=').next().unwrap_or_default()) else { return String::new() };
        match lines.iter().rev().find_map(|line| header(line)) {
            Some(section) => format!("{section}.{key}"),
            None => key,
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => integer.to_string(),
        other => kind(other).to_owned(),
    }
}

/// A text as it is told back: short, on one line.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let head: String = text.chars().take(SHOWN_MAX).collect();
    if head.len() < text.len() { format!("{head:?} …") } else { format!("{head:?}") }
}

/// Paths are compared by their names, so there is one spelling of each.
fn absolute(text: &str) -> Result<PathBuf, String> {
    const RIGHT: &str = "must be an absolute path, like \"/srv/data\"";
    let path = Path::new(text);
    if text.contains('\0') || !path.is_absolute() {
        return Err(RIGHT.to_owned());
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err("must be a path without `..`, which may lead elsewhere where there are symlinks".to_owned());
    }
    Ok(path.components().collect())
}
