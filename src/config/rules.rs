//! What must hold between keys: sizes that fit each other, and directories that do not swallow each other.

use super::{
    address::VaultUrl,
    problem::{Found, Places},
    settings::{Pack, Source, Staging},
};
use crate::units::ByteSize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Three pieces are in staging at once: one being written, one being compressed or sealed, one being uploaded; and
/// what surrounds them takes a hundredth. In percent of `max_size`.
const CAP_PERCENT: u128 = 3 * 101;

/// The directories that the settings name.
pub(super) struct Dirs {
    pub state: PathBuf,
    pub staging: PathBuf,
    pub restore: PathBuf,
    pub vault: Option<PathBuf>,
    /// By index in the file; those whose path is wrong are not among them.
    pub sources: Vec<(usize, PathBuf, Vec<String>)>,
}

pub(super) fn sizes(found: &mut Found, staging: &Staging, pack: &Pack) {
    if found.blames("staging.cap") || found.blames("pack.max_size") || staging.cap >= least_cap(pack.max_size) {
        return;
    }
    let most = round_down(u128::from(staging.cap.0) * 100 / CAP_PERCENT);
    let lower = if most < ByteSize::MIB {
        String::new()
    } else {
        format!(", or pack.max_size at most \"{}\"", ByteSize(most).exact())
    };
    let what = format!(
        "must be at least \"{}\" (3 × pack.max_size + 1 %, with max_size {}){lower}",
        least_cap(pack.max_size).exact(),
        pack.max_size
    );
    found.problem(found.lines.line("staging.cap"), "staging.cap", what);
}

/// The smallest cap for pieces of this size, rounded up so that it can be written down.
fn least_cap(max_size: ByteSize) -> ByteSize {
    let bytes = u64::try_from((u128::from(max_size.0) * CAP_PERCENT).div_ceil(100)).unwrap_or(u64::MAX);
    let unit = if bytes < ByteSize::GIB { ByteSize::KIB } else { ByteSize::MIB };
    ByteSize(bytes.checked_next_multiple_of(unit).unwrap_or(u64::MAX))
}

/// Never more than what would do.
fn round_down(bytes: u128) -> u64 {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let unit = if bytes < 8 * ByteSize::GIB { ByteSize::MIB } else { ByteSize::GIB };
    // The rounding of the cap may take up to one more unit of it.
    (bytes / unit * unit).saturating_sub(if bytes.is_multiple_of(unit) { unit } else { 0 })
}

/// Names and paths of sources are unique.
pub(super) fn unique_sources(found: &mut Found, sources: &[(usize, Source)]) {
    let mut names = BTreeMap::new();
    for (index, source) in sources {
        let line = found.lines.line(&format!("source[{index}].name"));
        if let Some(first) = names.insert(source.name.as_str(), line) {
            let first = first.map(|line| format!(" on line {line}")).unwrap_or_default();
            found.problem(line, "source.name", format!("must be unique: \"{}\" stands already{first}", source.name));
        }
    }
}

/// No directory may swallow another in which nothing would be left to do.
pub(super) fn directories(found: &mut Found, dirs: &Dirs) {
    let lines = std::mem::take(&mut found.lines);
    own_directories(found, &lines, dirs);
    let mut paths = BTreeMap::new();
    for (index, path, exclude) in &dirs.sources {
        let line = lines.line(&format!("source[{index}].path"));
        if let Some(first) = paths.insert(path, line) {
            let first = first.map(|line| format!(" on line {line}")).unwrap_or_default();
            found.problem(line, "source.path", format!("must be unique: {path:?} is a source already{first}"));
        }
        for (key, own) in own(dirs) {
            if path.starts_with(own) {
                let what =
                    format!("must not be in {own:?}, which is {key}: what is in there is left out of every source");
                found.problem(line, "source.path", what);
            }
        }
        staging_in_source(found, &lines, &dirs.staging, (line, path, exclude));
    }
    found.lines = lines;
}

/// Our own directories may only lie in `state`, where they are by default.
fn own_directories(found: &mut Found, lines: &Places, dirs: &Dirs) {
    let own = own(dirs);
    for (at, (key, path)) in own.iter().enumerate() {
        for (other_at, (other, outer)) in own.iter().enumerate() {
            let is_same = path == outer;
            // Of two equal ones the later is told.
            let is_wrong = if is_same { other_at < at } else { path.starts_with(outer) && *other != "state" };
            if is_wrong {
                let relation = if is_same { "the same directory as" } else { "in" };
                // Where it is a default that is in the way, the other key is the one to change.
                let (line, blamed) = match lines.line(key) {
                    Some(line) => (Some(line), key),
                    None if lines.line(other).is_some() => (lines.line(other), other),
                    None => (None, key),
                };
                let what = format!("{key} must not be {relation} {other}: {path:?} and {outer:?}");
                found.problem(line, *blamed, what);
            }
        }
    }
}

/// A staging directory below a source would be archived while it is written, so it must be excluded by name:
/// nothing is left out that nobody asked for.
fn staging_in_source(
    found: &mut Found,
    lines: &Places,
    staging: &Path,
    (line, source, exclude): (Option<usize>, &Path, &[String]),
) {
    let Some(inner) = staging.strip_prefix(source).ok().filter(|inner| !inner.as_os_str().is_empty()) else { return };
    let is_excluded = inner.ancestors().filter(|above| !above.as_os_str().is_empty()).any(|above| {
        let rule = format!("/{}", above.display());
        exclude.iter().any(|pattern| pattern.strip_suffix('/').unwrap_or(pattern) == rule)
    });
    if !is_excluded {
        let what = format!(
            "must not be in the source {source:?}; move it, or leave it out there with exclude = [\"/{}/\"]",
            inner.display()
        );
        found.problem(lines.line("staging.path").or(line), "staging.path", what);
    }
}

fn own(dirs: &Dirs) -> Vec<(&'static str, &PathBuf)> {
    let mut own = vec![("state", &dirs.state), ("staging.path", &dirs.staging), ("restore.path", &dirs.restore)];
    own.extend(dirs.vault.as_ref().map(|path| ("vault.url", path)));
    own
}

/// The directory of a vault that has one.
pub(super) fn vault_dir(url: &VaultUrl) -> Option<PathBuf> {
    match url {
        VaultUrl::Directory(path) => Some(path.clone()),
        VaultUrl::S3 { .. } => None,
    }
}
