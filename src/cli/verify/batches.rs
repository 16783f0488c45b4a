//! Jobs of S3 Batch Operations: the list of objects that such a job takes, and the report that it leaves.

use super::{Report, Scope, checks::prove};
use crate::{
    catalog::{PieceRow, PieceState, Proven},
    cli::Failed,
    config::Settings,
    daemon,
    name::PassId,
    verify::{
        Finding, Verdict,
        batch::{Known, Outcome, Row, list_line},
    },
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{self, BufRead, BufReader, Write, stdout},
    path::{Path, PathBuf},
};

/// Bucket, and the prefix of names in it.
fn bucket(settings: &Settings) -> Result<(String, String), Failed> {
    let options = daemon::s3_options(settings).ok_or_else(|| Failed::usage("The vault is not in S3"))?;
    let prefix = if options.prefix.is_empty() { String::new() } else { format!("{}/", options.prefix) };
    Ok((options.bucket, prefix))
}

pub fn list(scope: &Scope<'_>, file: &Path) -> Result<(), Failed> {
    let (bucket, prefix) = bucket(scope.settings())?;
    let mut text = String::new();
    for delivered in scope.delivered().iter().filter_map(|row| row.delivered.as_ref()) {
        for key in [&delivered.key, &delivered.manifest_key] {
            text += &list_line(&bucket, &format!("{prefix}{key}"));
        }
    }
    if file == Path::new("-") {
        return Ok(stdout().write_all(text.as_bytes())?);
    }
    fs::write(file, &text).map_err(|err| Failed::new(1, format!("Cannot write {file:?}: {err}")))
}

/// What a report says of objects of the pass, or without one of all passes.
pub fn report(scope: &Scope<'_>, files: &[PathBuf], is_of_pass: bool, told: &mut Report) -> Result<(), Failed> {
    let (bucket, prefix) = bucket(scope.settings())?;
    let rows = if is_of_pass {
        scope.delivered()
    } else {
        let passes = scope.catalog.passes(Some(&scope.source))?;
        let rows = passes.iter().map(|pass| scope.catalog.pieces(&scope.source, pass.pass));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().flatten().filter(|row| row.state == PieceState::Delivered).collect()
    };
    let known = objects(&rows, &prefix);
    told.begin("batch", None);
    let (mut seen, mut foreign) = (BTreeSet::new(), 0_u64);
    let (mut proven, mut bad) = (BTreeMap::<PassId, BTreeSet<u32>>::new(), BTreeSet::new());
    for file in files {
        for text in lines(file)? {
            let text = text.map_err(|err| Failed::new(1, format!("Cannot read {file:?}: {err}")))?;
            let Some(line) = Row::parse(&text) else {
                return Err(Failed::usage(format!(
                    "{file:?} is no completion report of S3 Batch Operations: {text:.80}"
                )));
            };
            let found = line.names.iter().find_map(|name| known.get(name)).filter(|_| line.bucket == bucket);
            let Some((row, key, known)) = found else {
                foreign += 1;
                continue;
            };
            seen.insert(*key);
            let name = &row.packed.name;
            match (line.outcome(), known.sha256) {
                // Of manifests nobody knows it; they can be read at once, and `--vault` and `--deep` look at them.
                (Outcome::Sha256(_), None) => {}
                (outcome, sha256) => match outcome.compare(known) {
                    Ok(()) if sha256.is_some() => drop(proven.entry(name.pass).or_default().insert(name.seq)),
                    Ok(()) => {}
                    Err((verdict, why)) => {
                        bad.insert((name.pass, name.seq));
                        told.tell(Some(&name.short()), &Finding::object(verdict, key, why));
                    }
                },
            }
        }
    }
    for (pass, seq) in bad {
        proven.entry(pass).or_default().remove(&seq);
    }
    let absent =
        scope.delivered().iter().filter_map(|row| row.delivered.as_ref()).filter(|of| !seen.contains(&*of.key)).count();
    prove(scope, proven, Proven::Hashed);
    if seen.is_empty() {
        let why = "no line is about an object of this host: nothing was looked at".to_owned();
        told.tell(None, &Finding::object(Verdict::Unproven, &bucket, why));
    }
    let text =
        format!("{} objects; {absent} pieces of the pass are not in it, {foreign} lines are of others", seen.len());
    told.sum(json!({ "objects": seen.len(), "absent": absent, "foreign": foreign }), &text);
    Ok(())
}

/// By their names in the bucket: the piece, the key, and what is known.
type Objects<'a> = HashMap<String, (&'a PieceRow, &'a str, Known<'a>)>;

fn objects<'a>(rows: &'a [PieceRow], prefix: &str) -> Objects<'a> {
    let mut known = HashMap::new();
    for row in rows {
        let (Some(sealed), Some(delivered)) = (&row.sealed, &row.delivered) else { continue };
        let piece = Known {
            crc64: crate::verify::vault::known(sealed.crc64),
            sha256: Some(sealed.sha256.as_str()).filter(|sum| !sum.is_empty()),
        };
        let manifest = Known { crc64: crate::verify::vault::known(sealed.manifest_crc64), sha256: None };
        known.insert(format!("{prefix}{}", delivered.key), (row, &*delivered.key, piece));
        known.insert(format!("{prefix}{}", delivered.manifest_key), (row, &*delivered.manifest_key, manifest));
    }
    known
}

fn lines(file: &Path) -> Result<impl Iterator<Item = io::Result<String>>, Failed> {
    let opened = fs::File::open(file).map_err(|err| Failed::usage(format!("Cannot open {file:?}: {err}")))?;
    let lines = BufReader::new(opened).lines();
    Ok(lines.filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty())))
}
