//! Compares two trees entry by entry: kinds, modes, owners, times, sizes, content, link targets, xattrs and
//! ACLs, device numbers. Both are walked once, in order, side by side.

use crate::{
    archive::{
        entry::{Entry, Kind, Walked},
        filter::{self, Filter},
        tree::{SourceError, Tree},
        walk::{Options, Position, Walk},
    },
    path::SourcePath,
};
use sha2::{Digest, Sha256};
use std::{cmp::Ordering, collections::BTreeSet, io, path::Path, sync::Arc};

/// How two entries of one path differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: SourcePath,
    /// `mtime 2026-… is not 2026-…`
    pub what: String,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Entries on the left, without those in `leave_out`.
    pub entries: u64,
    /// Bytes of content read on the left.
    pub bytes: u64,
    pub differences: Vec<Difference>,
}

/// An entry that could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("Cannot set up the comparison")]
    Filter(#[from] filter::FilterError),
}

/// Compares `left` (what was archived) with `right` (what came back). `leave_out` are paths of the left that need
/// not be on the right: what the pass told as skipped. `owners`: whether those must be the same, which only root can
/// make them.
pub fn compare(
    left: &Path,
    right: &Path,
    options: Options,
    leave_out: &BTreeSet<SourcePath>,
    owners: bool,
) -> Result<Comparison, CompareError> {
    let plain = Arc::new(Filter::new(&filter::Options::default())?);
    let open = |path: &Path| Tree::open(path).map(Arc::new);
    let (left, right) = (open(left)?, open(right)?);
    let mut a = Walk::new(left.clone(), plain.clone(), options, Position::Start).peekable();
    let mut b = Walk::new(right.clone(), plain, Options::default(), Position::Start).peekable();
    let mut found = Comparison::default();
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return Ok(found),
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
            (Some(Ok(a)), Some(Ok(b))) => a.path().cmp(b.path()),
        };
        match order {
            Ordering::Less => {
                if let Some(Walked::Entry(entry)) = a.next().transpose()?
                    && !leave_out.contains(&entry.path)
                {
                    found.entries += 1;
                    found.differences.push(Difference { path: entry.path, what: "did not come back".into() });
                }
            }
            Ordering::Greater => {
                if let Some(Walked::Entry(entry)) = b.next().transpose()? {
                    found.differences.push(Difference { path: entry.path, what: "came from nowhere".into() });
                }
            }
            Ordering::Equal => {
                if let (Some(Walked::Entry(one)), Some(Walked::Entry(other))) =
                    (a.next().transpose()?, b.next().transpose()?)
                {
                    found.entries += 1;
                    let path = one.path.clone();
                    let differences = differences((&left, &one), (&right, &other), &mut found.bytes);
                    for what in differences.into_iter().filter(|what| owners || !what.starts_with(OWNER)) {
                        found.differences.push(Difference { path: path.clone(), what });
                    }
                }
            }
        }
    }
}

const OWNER: &str = "owner";

fn differences((left, a): (&Tree, &Entry), (right, b): (&Tree, &Entry), bytes: &mut u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, a: String, b: String| {
        if a != b {
            found.push(format!("{what} {b} is not {a}"));
        }
    };
    differ("kind", a.meta.kind.as_str().into(), b.meta.kind.as_str().into());
    if a.meta.kind != b.meta.kind {
        return found;
    }
    differ("mode", format!("{:04o}", a.meta.mode), format!("{:04o}", b.meta.mode));
    differ(OWNER, format!("{}:{}", a.meta.uid, a.meta.gid), format!("{}:{}", b.meta.uid, b.meta.gid));
    let time = |entry: &Entry| crate::archive::manifest::rfc3339(entry.meta.mtime);
    differ("mtime", time(a), time(b));
    match a.meta.kind {
        Kind::File => {
            differ("size", a.meta.size.to_string(), b.meta.size.to_string());
            let before = *bytes;
            let one = content(left, a, bytes);
            *bytes = before + a.meta.size;
            differ("content", one, content(right, b, &mut 0));
        }
        Kind::Symlink => differ("target", text(left.read_link(a)), text(right.read_link(b))),
        Kind::CharDevice | Kind::BlockDevice => differ("device", a.meta.rdev.to_string(), b.meta.rdev.to_string()),
        _ => {}
    }
    differ("xattrs", text(left.xattrs(a)), text(right.xattrs(b)));
    found
}

fn text<T: std::fmt::Debug, E: std::fmt::Debug>(read: Result<T, E>) -> String {
    format!("{read:?}")
}

/// SHA-256 of a file's content, or why it cannot be read; two failures never look equal to a success.
fn content(tree: &Tree, entry: &Entry, bytes: &mut u64) -> String {
    let mut hash = Hashing(Sha256::new());
    match tree
        .open_file(entry)
        .map_err(|err| format!("{err:?}"))
        .and_then(|mut file| io::copy(&mut file, &mut hash).map_err(|err| err.to_string()))
    {
        Ok(len) => {
            *bytes += len;
            format!("{:x?}", hash.0.finalize().as_slice())
        }
        Err(why) => format!("unreadable ({why}) {}", entry.path),
    }
}

struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

    fn run(dir: &Path, script: &str) {
        assert!(Command::new("sh").arg("-euc").arg(script).current_dir(dir).status().unwrap().success(), "{script}");
    }

    /// Builds the same small tree twice, changes one of them, and gives what the comparer says.
    fn after(change: &str) -> Vec<String> {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for dir in &dirs {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            run(
                dir.path(),
                "mkdir d; echo one > d/f; ln -s f d/l; mkfifo p; mknod n c 1 3; setfattr -n user.a -v 1 d/f; find . -exec touch -h -d @1000000000.5 {} +",
            );
        }
        run(dirs[1].path(), change);
        let found = compare(dirs[0].path(), dirs[1].path(), Options::default(), &BTreeSet::new(), true).unwrap();
        found.differences.into_iter().map(|d| format!("{}: {}", d.path, d.what)).collect()
    }

    #[test]
    fn equal_trees_are_equal() {
        assert_eq!(after("true"), [] as [String; 0]);
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let keep = "touch -d @1000000000.5 d d/f .";
        for (change, word) in [
            (format!("rm d/f; {keep} 2>/dev/null; rm -f d/f; touch -d @1000000000.5 d"), "did not come back"),
            (format!("touch d/new; {keep}"), "came from nowhere"),
            (format!("echo two > d/f; {keep}"), "content"),
            (format!("echo longer > d/f; {keep}"), "size"),
            ("touch -d @1000000000.4 d/f".to_owned(), "mtime"),
            ("chmod 4755 d/f".to_owned(), "mode"),
            ("chown 7:8 d/f".to_owned(), "owner"),
            (format!("ln -sfn g d/l; touch -h -d @1000000000.5 d/l; {keep}"), "target"),
            ("setfattr -n user.a -v 2 d/f".to_owned(), "xattrs"),
            ("setfacl -m u:7:r d/f".to_owned(), "xattrs"),
            (format!("rm n; mknod n c 1 5; touch -d @1000000000.5 n; {keep}"), "device"),
            (format!("rm p; echo > p; touch -d @1000000000.5 p; {keep}"), "kind"),
        ] {
            let found = after(&change);
            assert!(found.iter().any(|what| what.contains(word)), "{change}: {found:?}");
        }
    }
}
