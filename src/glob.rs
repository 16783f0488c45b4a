//! Patterns of paths inside a source, by which something is looked for.
//!
//! `*` and `?` match within one name, `**` any number of directories; a pattern without `/` is about names, wherever
//! they are, and all others are about paths from the root of the source. What holds none of these matches itself, and
//! so does a path that is written as it is, whatever it holds.
//!
//! Not those of the filter: there `?` and `[…]` match bytes, so that `?` is not `é`; a pattern cannot hold bytes that
//! are not UTF-8; and `!` and `#` at its beginning mean something else. Here a name that is not UTF-8 matches as
//! well, each of its odd bytes as one character.

use crate::path::{PathError, SourcePath};

/// One pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    parts: Vec<Part>,
    /// The pattern as a path: what holds `*` in its name is found by its name.
    plain: SourcePath,
    /// About names, wherever they are.
    is_name: bool,
    /// It ends with `/`: only directories are meant.
    only_dirs: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Name(Vec<Token>),
    /// `**`
    AnyDepth,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[a-z]`, `[!a-z]`
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// A pattern as somebody types it.
    pub fn parse(text: &[u8]) -> Result<Glob, PathError> {
        let plain = SourcePath::parse(text)?;
        let trimmed = text.strip_suffix(b"/").unwrap_or(text);
        let is_name = !trimmed.contains(&b'/') && !plain.is_root();
        let mut parts = Vec::new();
        for name in plain.components() {
            match name {
                b"**" if parts.last() == Some(&Part::AnyDepth) => {}
                b"**" => parts.push(Part::AnyDepth),
                name => parts.push(Part::Name(tokens(name))),
            }
        }
        // Everything below something, and not that itself.
        if parts.last() == Some(&Part::AnyDepth) {
            parts.push(Part::Name(vec![Token::Many]));
        }
        if is_name && parts.first() != Some(&Part::AnyDepth) {
            parts.insert(0, Part::AnyDepth);
        }
        Ok(Glob { parts, plain, is_name, only_dirs: text.ends_with(b"/") && text != b"/" })
    }

    pub fn matches(&self, path: &SourcePath, is_dir: bool) -> bool {
        if self.only_dirs && !is_dir {
            return false;
        }
        let is_plain = if self.is_name { path.name() == self.plain.as_bytes() } else { *path == self.plain };
        is_plain || below(&self.parts, &path.components().collect::<Vec<_>>())
    }

    /// Everything that matches is this, or lies below it.
    pub fn prefix(&self) -> SourcePath {
        if self.is_name {
            return SourcePath::root();
        }
        let plain = self.parts.iter().zip(self.plain.components()).take_while(|(part, name)| part.is_plain(name));
        plain.fold(SourcePath::root(), |path, (_, name)| path.join(name))
    }

    /// Only [`prefix`](Self::prefix) itself can match.
    pub fn is_one_path(&self) -> bool {
        !self.is_name && self.prefix() == self.plain
    }
}

impl Part {
    /// Nothing but the bytes of the name, as it is written.
    fn is_plain(&self, name: &[u8]) -> bool {
        let is = |(token, byte): (&Token, &u8)| *token == Token::Byte(*byte);
        matches!(self, Part::Name(tokens) if tokens.len() == name.len() && tokens.iter().zip(name).all(is))
    }
}

/// A `\` before a character takes its meaning away; a `[` without an end has none.
fn tokens(mut name: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let [first, rest @ ..] = name {
        name = rest;
        match first {
            b'?' => tokens.push(Token::One),
            b'*' if tokens.last() == Some(&Token::Many) => {}
            b'*' => tokens.push(Token::Many),
            b'[' => match class(rest) {
                Some((class, rest)) => {
                    tokens.push(class);
                    name = rest;
                }
                None => tokens.push(Token::Byte(b'[')),
            },
            b'\\' if !rest.is_empty() => {
                tokens.push(Token::Byte(rest[0]));
                name = &rest[1..];
            }
            byte => tokens.push(Token::Byte(*byte)),
        }
    }
    tokens
}

/// What stands behind a `[`, and what follows its `]`.
fn class(text: &[u8]) -> Option<(Token, &[u8])> {
    let negated = text.strip_prefix(b"!").or_else(|| text.strip_prefix(b"^"));
    let (is_negated, inside) = (negated.is_some(), negated.unwrap_or(text));
    // A `]` that comes first is one of the characters.
    let end = 1 + inside.get(1..)?.iter().position(|byte| *byte == b']')?;
    let mut chars = std::str::from_utf8(&inside[..end]).ok()?.chars().peekable();
    let mut ranges = Vec::new();
    while let Some(from) = chars.next() {
        let mut rest = chars.clone();
        match (rest.next(), rest.next()) {
            (Some('-'), Some(to)) => {
                ranges.push((from, to));
                chars = rest;
            }
            _ => ranges.push((from, from)),
        }
    }
    Some((Token::Class { is_negated, ranges }, &inside[end + 1..]))
}

/// Whether the whole path matches. At a `**` that matched too little it goes back to the last one, which is enough: what
/// an earlier one could take, the last one can take as well.
fn below(parts: &[Part], names: &[&[u8]]) -> bool {
    let (mut part, mut name, mut back) = (0, 0, None);
    loop {
        match parts.get(part) {
            Some(Part::AnyDepth) => {
                part += 1;
                back = Some((part, name));
                continue;
            }
            Some(Part::Name(tokens)) if names.get(name).is_some_and(|name| within(tokens, name)) => {
                (part, name) = (part + 1, name + 1);
                continue;
            }
            None if name == names.len() => return true,
            _ => {}
        }
        match &mut back {
            Some((after, at)) if *at < names.len() => {
                *at += 1;
                (part, name) = (*after, *at);
            }
            _ => return false,
        }
    }
}

/// Whether a whole name matches; the same way as [`below`], with `*`.
fn within(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at, mut back) = (0, 0, None);
    loop {
        let len = match (tokens.get(token), first(&name[at..])) {
            (Some(Token::Many), _) => {
                token += 1;
                back = Some((token, at));
                continue;
            }
            (Some(Token::Byte(byte)), Some(_)) if name[at] == *byte => 1,
            (Some(Token::One), Some((_, len))) => len,
            (Some(Token::Class { is_negated, ranges }), Some((found, len))) => {
                let is_in = found.is_some_and(|found| ranges.iter().any(|(from, to)| (*from..=*to).contains(&found)));
                if is_in == *is_negated { 0 } else { len }
            }
            (None, None) => return true,
            _ => 0,
        };
        if len > 0 {
            (token, at) = (token + 1, at + len);
            continue;
        }
        match &mut back {
            Some((after, from)) if *from < name.len() => {
                *from += first(&name[*from..]).map_or(1, |(_, len)| len);
                (token, at) = (*after, *from);
            }
            _ => return false,
        }
    }
}

/// The first character and its length; a byte that belongs to none is one by itself, of which nobody knows which.
fn first(text: &[u8]) -> Option<(Option<char>, usize)> {
    let chunk = text[..text.len().min(4)].utf8_chunks().next()?;
    Some(chunk.valid().chars().next().map_or((None, 1), |found| (Some(found), found.len_utf8())))
}

#[cfg(test)]
#[path = "glob_tests.rs"]
mod tests;
