//! What must hold between keys: sizes that fit each other, and directories that do not swallow each other.

use super::{
    address::VaultUrl,
    problem::{Found, Places},
    settings::{Pack, Source, Staging},
};
use crate::units::ByteSize;
use std::{collections::BTreeMap, path::PathBuf};

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
    pub sources: Vec<(usize, PathBuf)>,
}

/// The least that `staging.cap` may be with pieces of this size.
pub fn cap_min(max_size: u64) -> u64 {
    u64::try_from((u128::from(max_size) * CAP_PERCENT).div_ceil(100)).unwrap_or(u64::MAX)
}

pub(super) fn sizes(found: &mut Found, staging: &Staging, pack: &Pack) {
    let least = cap_min(pack.max_size.0);
    if found.blames("staging.cap") || found.blames("pack.max_size") || least <= staging.cap.0 {
        return;
    }
    // Numbers that can be written down, on the side that will do.
    let unit =
        |bytes| [ByteSize::GIB, ByteSize::MIB].into_iter().find(|unit| unit * 64 <= bytes).unwrap_or(ByteSize::KIB);
    let cap = ByteSize(least.checked_next_multiple_of(unit(least)).unwrap_or(least));
    let most = u64::try_from(u128::from(staging.cap.0) * 100 / CAP_PERCENT).unwrap_or(u64::MAX);
    let max_size = ByteSize(most / unit(most) * unit(most));
    let lower = match max_size.0 < ByteSize::MIB {
        true => String::new(),
        false => format!("; or pack.max_size at most \"{}\"", max_size.exact()),
    };
    let given = pack.max_size.exact();
    let what = format!("must be at least \"{}\", 3 × pack.max_size (\"{given}\") + 1 %{lower}", cap.exact());
    found.problem(found.lines.line("staging.cap"), "staging.cap", what);
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
    for (index, path) in &dirs.sources {
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
                // Where a default is in the way, the other key is the one to change.
                let is_default = lines.line(key).is_none() && lines.line(other).is_some();
                let (blamed, what) = match (is_default, is_same) {
                    (false, true) => (*key, format!("must not be the same directory as {other}, {outer:?}")),
                    (false, false) => (*key, format!("must not be in {other}, {outer:?}")),
                    (true, true) => (*other, format!("must not be the same directory as {key}, {path:?}")),
                    (true, false) => (*other, format!("must not hold {key}, {path:?}")),
                };
                found.problem(lines.line(blamed), blamed, what);
            }
        }
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
