//! `archiver find`: which piece holds what is looked for. Pieces are runs of an ordered walk, so only manifests of
//! those are read that can hold something below the plain beginning of a pattern, and only as far as it can come.

use super::{Failed, access::Access, json_line, members::each_member_until};
use crate::{
    archive::manifest::{Member, member_name, note, split},
    catalog::{Catalog, PieceRow, PieceState},
    glob::Glob,
    name::{PassId, SourceName},
    path::SourcePath,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufWriter, Write, stdout},
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
};

/// Exit code where nothing was found, as of `grep`.
const NOTHING: u8 = 1;

#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// What to look for: names, or paths in the source with `*`, `?`, `[a-z]` and `**`
    #[arg(required = true, value_name = "PATTERN")]
    pub patterns: Vec<OsString>,
    /// The source; may be left out when there is only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The pass; default: the last
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    /// In all passes, the newest first
    #[arg(long, conflicts_with = "pass")]
    pub all: bool,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
}

const HELP: &str = "\
A pattern without `/` is about names, wherever they are: `*.jpg`, `thesis.pdf`. All others are about paths from the \
root of the source, with or without a leading `/`: `photos/2019/*`, `/thesis.pdf`. With a trailing `/` only \
directories are meant.

  *       any characters within one name, also none, also a leading dot
  ?       one character within a name
  [a-z]   one of these characters, [!a-z] one of all others
  **      any number of directories, also none: `photos/**/*.raw`; at the end everything below: `photos/**`
  \\       takes the meaning of the next character away

What is written as it is matches itself, whatever it holds. Put patterns in quotes, or the shell expands them.

The more of a path is given before the first of these characters, the fewer manifests are read. Ends with 0 when \
something was found, with 1 when nothing was.";

pub fn run(args: &super::Args, find: &Args) -> Result<u8, Failed> {
    let access = Access::with(args.settings()?)?;
    let source = super::source(&access.settings, find.source.as_deref())?;
    let globs = find.patterns.iter().map(|pattern| Glob::parse(pattern.as_bytes()));
    let globs = globs.collect::<Result<Vec<_>, _>>().map_err(Failed::usage)?;
    let catalog = super::catalog(&access.settings)?;
    let passes: Vec<PassId> = if find.all {
        catalog.passes(Some(&source))?.iter().map(|row| row.pass).collect()
    } else {
        vec![super::pass(&catalog, &source, find.pass.as_deref())?]
    };
    let mut out = BufWriter::new(stdout().lock());
    let (mut found, mut unsealed) = (0, 0);
    for pass in passes {
        for row in candidates(&catalog, &source, pass, &globs)? {
            if row.state < PieceState::Sealed {
                unsealed += 1;
            } else {
                found += in_piece(&access, &row, &globs, find, &mut out)?;
            }
        }
    }
    out.flush()?;
    if unsealed > 0 {
        eprintln!("archiver: {unsealed} pieces that are not sealed yet were not looked through");
    }
    Ok(if found > 0 { 0 } else { NOTHING })
}

/// The pieces that can hold something that matches, in walk order.
fn candidates(catalog: &Catalog, source: &SourceName, pass: PassId, globs: &[Glob]) -> Result<Vec<PieceRow>, Failed> {
    let mut rows = BTreeMap::new();
    for glob in globs {
        let prefix = glob.prefix();
        let holding = if glob.is_one_path() {
            catalog.holding(source, pass, &prefix)?
        } else {
            catalog.touching(source, pass, &prefix)?
        };
        for row in holding {
            let segment = row.packed.segment.map_or(0, |segment| segment.index);
            rows.insert((row.packed.first.order_key(), segment, row.packed.name.seq), row);
        }
    }
    Ok(rows.into_values().collect())
}

/// How many entries of the piece match. Each has its line.
fn in_piece(access: &Access, row: &PieceRow, globs: &[Glob], find: &Args, out: &mut dyn Write) -> Result<u64, Failed> {
    let mut found = 0;
    // What matches lies at or below these, and nothing comes after all of them.
    let reach: Vec<_> = globs.iter().map(|glob| (glob.prefix(), glob.is_one_path())).collect();
    let is_behind = |path: &SourcePath| {
        reach.iter().all(|(prefix, is_one_path)| path > prefix && (*is_one_path || !path.is_within(prefix)))
    };
    each_member_until(access, row, |member| {
        let Some(path) = member.source_path() else { return Ok(ControlFlow::Continue(())) };
        if is_behind(&path) {
            return Ok(ControlFlow::Break(()));
        }
        if !member.has_note(note::ANCESTOR) && globs.iter().any(|glob| glob.matches(&path, member.r#type == "dir")) {
            found += 1;
            tell(row, &member, &path, find, out)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn tell(row: &PieceRow, member: &Member, path: &SourcePath, find: &Args, out: &mut dyn Write) -> Result<(), Failed> {
    let name = row.name();
    if !find.json {
        let pass = if find.all { format!("{} ", name.pass) } else { String::new() };
        let part = member.segment.map_or(String::new(), |part| format!(" part {} of {}", part.index, part.count));
        return Ok(writeln!(out, "{pass}{}  {path}{part}", name.short())?);
    }
    let (text, text_b64) = split(&member_name(path));
    let mut line = json!({
        "source": name.source.as_str(), "pass": name.pass.to_string(), "piece": name.short(), "seq": name.seq,
        "key": row.delivered.as_ref().map(|delivered| &delivered.key),
        "type": member.r#type, "size": member.segment.map_or(member.size, |part| part.file_size), "mtime": member.mtime,
    });
    match (text, text_b64) {
        (Some(text), _) => line["path"] = text.into(),
        (None, b64) => line["path_b64"] = b64.into(),
    }
    if let Some(part) = member.segment {
        line["segment"] = json!({ "index": part.index, "count": part.count, "offset": part.offset });
    }
    json_line(out, &line)
}
