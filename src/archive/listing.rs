//! The listing of a tree as text: one line per entry in walk order, as `ls -l` would show it.
//!
//! ```text
//! drwxr-xr-x    1000   1000              0 2026-11-20T20:00:00.123456789Z photos/2019
//! lrwxrwxrwx    1000   1000             11 2026-11-20T20:00:00.123456789Z photos/new -> 2019/last
//! -rw-r--r--    1000   1000           4711 2026-11-20T20:00:00.123456789Z photos/one link to photos/first
//! ```
//!
//! Names are escaped, so a line is an entry, whatever its name is.

use super::manifest::{Member, join, note};
use crate::path::escape;
use std::io::{self, Write};

pub struct Listing<W> {
    out: W,
}

impl<W: Write> Listing<W> {
    pub fn new(out: W) -> Listing<W> {
        Listing { out }
    }

    /// Writes the member's line, unless it does not count as an entry.
    pub fn add(&mut self, member: &Member) -> io::Result<()> {
        if !member.is_counted() {
            return Ok(());
        }
        let path = member.source_path().map(|path| path.display()).unwrap_or_default();
        let size = member.segment.map_or(member.size, |segment| segment.file_size);
        let mode = mode_text(&member.r#type, u32::from_str_radix(&member.mode, 8).unwrap_or(0));
        write!(self.out, "{mode} {:>7} {:>7} {size:>15} {} {path}", member.uid, member.gid, member.mtime)?;
        match join(&member.link, &member.link_b64) {
            // A further name of what the piece has already, as GNU tar lists it.
            Some(link) if member.has_note(note::HARDLINK) => writeln!(self.out, " link to {}", escape(&link)),
            Some(link) if member.r#type == "symlink" => writeln!(self.out, " -> {}", escape(&link)),
            _ => writeln!(self.out),
        }
    }
}

/// `-rwsr-x--T` of a kind and a mode.
fn mode_text(kind: &str, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        "dir" => 'd',
        "symlink" => 'l',
        "fifo" => 'p',
        "char" => 'c',
        "block" => 'b',
        _ => '-',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_like_those_of_ls() {
        assert_eq!(mode_text("file", 0o4755), "-rwsr-xr-x");
        assert_eq!(mode_text("dir", 0o1777), "drwxrwxrwt");
        assert_eq!(mode_text("file", 0o2640), "-rw-r-S---");
        assert_eq!(mode_text("symlink", 0o777), "lrwxrwxrwx");
    }

    #[test]
    fn a_further_name_shows_what_it_is_a_name_of() {
        let member = Member {
            path: Some("b".into()),
            r#type: "symlink".into(),
            mode: "0777".into(),
            mtime: "2026-11-20T20:00:00.000000000Z".into(),
            link: Some("a".into()),
            note: Some("hardlink".into()),
            ..Member::default()
        };
        let mut out = Vec::new();
        Listing::new(&mut out).add(&member).unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with(" b link to a\n"));
    }

    #[test]
    fn a_name_never_makes_a_second_line() {
        let member = Member {
            path: Some("a\nb".into()),
            r#type: "symlink".into(),
            mode: "0777".into(),
            mtime: "2026-11-20T20:00:00.000000000Z".into(),
            link: Some("\u{1b}[1m".into()),
            ..Member::default()
        };
        let mut out = Vec::new();
        Listing::new(&mut out).add(&member).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with("a\\nb -> \\u{1b}[1m\n"), "{text}");
    }
}
