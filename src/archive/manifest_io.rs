//! Writing and reading of manifests, a line at a time: their length does not matter to memory.

use super::{
    manifest::{Counts, FORMAT_VERSION, Head, Member, RangeEnd, note},
    pack::Packed,
};
use crate::path::SourcePath;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Write};

/// Longest line that is read, bytes; the last one holds every exception of a range.
const LINE_LEN_MAX: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct First {
    piece: Head,
}

#[derive(Serialize, Deserialize)]
struct Last {
    range: RangeEnd,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("Cannot read line {line} of the manifest")]
    Read {
        line: u64,
        #[source]
        source: io::Error,
    },
    #[error("Line {line} of the manifest is damaged")]
    Json {
        line: u64,
        #[source]
        source: serde_json::Error,
    },
    #[error("Line {line} of the manifest is damaged: {why}")]
    Damaged { line: u64, why: &'static str },
    #[error("The manifest has format {format}, of a newer version of this program; this one knows {FORMAT_VERSION}")]
    Newer { format: u32 },
}

/// Writes a manifest: the head, the lines of the list as they are, and the end of the range.
pub fn write_manifest(head: &Head, list: &mut dyn BufRead, packed: &Packed, out: &mut dyn Write) -> io::Result<()> {
    let range = RangeEnd { counts: packed.range.counts.clone(), exceptions: packed.range.exceptions.clone() };
    write_parts(head, list, &range, out)
}

/// The same, of whatever its parts come from.
pub fn write_parts(head: &Head, list: &mut dyn BufRead, range: &RangeEnd, out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct FirstRef<'a> {
        piece: &'a Head,
    }
    serde_json::to_writer(&mut *out, &FirstRef { piece: head })?;
    out.write_all(b"\n")?;
    io::copy(list, out)?;
    write_end(range, out)?;
    out.flush()
}

fn write_end(range: &RangeEnd, out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct LastRef<'a> {
        range: &'a RangeEnd,
    }
    serde_json::to_writer(&mut *out, &LastRef { range })?;
    out.write_all(b"\n")
}

/// Reads a manifest: the head at once, then the members as an iterator, then [`range_end`](Self::range_end).
pub struct ManifestReader<R> {
    lines: R,
    line: u64,
    head: Head,
    /// Members that are no ancestors.
    members: u64,
    last: Option<SourcePath>,
    end: Option<RangeEnd>,
    has_failed: bool,
}

impl<R: BufRead> ManifestReader<R> {
    pub fn new(mut lines: R) -> Result<ManifestReader<R>, ManifestError> {
        #[derive(Deserialize)]
        struct Probe {
            piece: Format,
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let text = next_line(&mut lines, 1)?.ok_or(ManifestError::Damaged { line: 1, why: "there is none" })?;
        let json = |source| ManifestError::Json { line: 1, source };
        // Before anything else: a newer format may not even have the fields that are read below.
        let format = serde_json::from_slice::<Probe>(&text).map_err(json)?.piece.format;
        if format > FORMAT_VERSION {
            return Err(ManifestError::Newer { format });
        }
        let head = serde_json::from_slice::<First>(&text).map_err(json)?.piece;
        Ok(ManifestReader { lines, line: 1, head, members: 0, last: None, end: None, has_failed: false })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The end of the range, once all members were read and nothing was found wrong.
    pub fn range_end(&self) -> Option<&RangeEnd> {
        self.end.as_ref()
    }

    fn advance(&mut self) -> Result<Option<Member>, ManifestError> {
        self.line += 1;
        let line = self.line;
        let damaged = |why| ManifestError::Damaged { line, why };
        let text = next_line(&mut self.lines, line)?.ok_or_else(|| damaged("the end of the range is missing"))?;
        let json = |source| ManifestError::Json { line, source };
        if !text.starts_with(b"{\"range\":") {
            let member: Member = serde_json::from_slice(&text).map_err(json)?;
            self.check(&member).map_err(damaged)?;
            return Ok(Some(member));
        }
        let end = serde_json::from_slice::<Last>(&text).map_err(json)?.range;
        if self.members != self.head.members {
            return Err(damaged("there are not as many members as the head says"));
        }
        if next_line(&mut self.lines, line + 1)?.is_some() {
            return Err(ManifestError::Damaged { line: line + 1, why: "nothing may follow the end of the range" });
        }
        self.end = Some(end);
        Ok(None)
    }

    /// Ancestors come first, and every path after the one before.
    fn check(&mut self, member: &Member) -> Result<(), &'static str> {
        let path = member.source_path().ok_or("it has no path")?;
        if self.last.as_ref().is_some_and(|last| *last >= path) {
            return Err("it is out of order");
        }
        self.last = Some(path);
        if !member.has_note(note::ANCESTOR) {
            self.members += 1;
        } else if self.members > 0 {
            return Err("it is an ancestor among members");
        }
        Ok(())
    }
}

impl<R: BufRead> Iterator for ManifestReader<R> {
    type Item = Result<Member, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed || self.end.is_some() {
            return None;
        }
        let next = self.advance();
        self.has_failed = next.is_err();
        next.transpose()
    }
}

/// What members say was archived, counted anew: only `clean` and `changed`, to be compared with what the packer counted.
pub fn recount<E>(members: impl Iterator<Item = Result<Member, E>>) -> Result<Counts, E> {
    let mut counts = Counts::default();
    for member in members {
        let member = member?;
        if !member.is_counted() {
            continue;
        }
        if member.has_note(note::CHANGED) || member.has_note(note::DAMAGED) {
            counts.changed += 1;
        } else {
            counts.clean += 1;
        }
    }
    Ok(counts)
}

/// The next line without its end; `None` after the last. A line without an end was cut off.
fn next_line(lines: &mut impl BufRead, line: u64) -> Result<Option<Vec<u8>>, ManifestError> {
    let mut text = Vec::new();
    lines
        .by_ref()
        .take(LINE_LEN_MAX)
        .read_until(b'\n', &mut text)
        .map_err(|source| ManifestError::Read { line, source })?;
    match text.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(text)),
        Some(_) => Err(ManifestError::Damaged { line, why: "it is cut off" }),
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
