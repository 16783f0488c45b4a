//! What an object says of itself in its metadata, so that a bucket can be understood without a catalog.
//!
//! At most 2 KB of US-ASCII together, S3's limit. Where names are opaque, nothing in it names a source or a path.

use super::{
    Names,
    context::{Context, Failure},
    naming::Naming,
};
use crate::{
    catalog::PieceRow,
    name::{PassId, PieceName, SourceName},
    path::SourcePath,
    staging::HashingWriter,
    vault::SHA256_LABEL,
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
};

/// Most bytes of a path; what is longer is cut.
const PATH_LEN_MAX: usize = 700;

pub type Labels = BTreeMap<String, String>;

/// The label by which the listing and the index of a pass say of which pieces they are.
pub const PIECES: &str = "pieces";

/// Of an object of a pass, with the SHA-256 of its bytes in hex.
pub fn of_pass(ctx: &Context, source: &SourceName, pass: PassId, sha256: &str) -> Result<Labels, Failure> {
    let mut labels = Labels::from([("pass".into(), pass.to_string()), (SHA256_LABEL.into(), sha256.to_owned())]);
    if Naming::of(ctx, source, pass)?.names == Names::Plain {
        labels.insert("source".into(), source.to_string());
    }
    Ok(labels)
}

/// The SHA-256 of the keys and sums of delivered pieces, in walk order: of nothing but what the vault shows anyhow.
pub fn all_of(pieces: &[PieceRow]) -> String {
    let mut all = HashingWriter::new(io::sink());
    for row in pieces {
        let key = row.delivered.as_ref().map_or("", |delivered| &delivered.key);
        let sha256 = row.sealed.as_ref().map_or("", |sealed| &sealed.sha256);
        writeln!(all, "{key} {sha256}").expect("a sink takes everything");
    }
    all.tally().digest().sha256
}

/// Of a piece or its manifest.
pub fn of_piece(ctx: &Context, name: &PieceName, sha256: &str) -> Result<Labels, Failure> {
    let mut labels = of_pass(ctx, &name.source, name.pass, sha256)?;
    labels.insert("seq".into(), format!("{:06}", name.seq));
    if labels.contains_key("source")
        && let Some(row) = ctx.catalog.piece(&name.source, name.pass, name.seq)?
    {
        labels.insert("first".into(), ascii(&row.packed.first));
        labels.insert("last".into(), ascii(&row.packed.last));
    }
    Ok(labels)
}

/// Whatever a header could not carry is percent-encoded.
fn ascii(path: &SourcePath) -> String {
    let mut text = String::new();
    for byte in path.as_bytes() {
        let before = text.len();
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        if text.len() > PATH_LEN_MAX {
            text.truncate(before);
            break;
        }
    }
    if text.is_empty() { "/".into() } else { text }
}

/// The path of a label, and whether all of it is there: a long one is cut.
pub fn path_of(label: &str) -> Option<(SourcePath, bool)> {
    let mut bytes = Vec::new();
    let mut rest = label.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (code, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
        rest = after;
    }
    // An escape has three bytes.
    Some((SourcePath::parse(&bytes).ok()?, label.len() + 3 <= PATH_LEN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_label_is_what_it_was_made_of() {
        for path in [&b"/"[..], b"a b/\xffc%d\n/e.txt"] {
            let path = SourcePath::parse(path).unwrap();
            assert_eq!(path_of(&ascii(&path)), Some((path, true)));
        }
        let long = SourcePath::parse("d/".repeat(400).trim_end_matches('/').as_bytes()).unwrap();
        let (cut, is_whole) = path_of(&ascii(&long)).unwrap();
        assert!(!is_whole && cut.as_bytes().len() < long.as_bytes().len());
        assert_eq!(path_of("a%2"), None);
        assert_eq!(path_of("a%zz"), None);
    }

    #[test]
    fn paths_are_plain_ascii_and_never_too_long() {
        let ascii = |bytes: &[u8]| ascii(&SourcePath::parse(bytes).unwrap());
        assert_eq!(ascii(b"a b/\xffc%d\n/e.txt"), "a%20b/%FFc%25d%0A/e.txt");
        assert_eq!(super::ascii(&SourcePath::root()), "/");
        let long = ascii(&b"d/".repeat(400).iter().copied().chain(*b"x").collect::<Vec<_>>());
        assert_eq!(long.len(), PATH_LEN_MAX);
        let odd = ascii(&[b"d", &[0xff_u8; 255][..]].join(&b'/'));
        assert!(odd.len() <= PATH_LEN_MAX && odd.ends_with("%FF"), "no half of an escape");
    }
}
