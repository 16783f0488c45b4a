//! What the vault gives back, by stock tools alone, and what a tree is, as stock tools tell it.

use crate::{source::sh, world::World};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// Everything in the vault below these keys, opened.
pub struct Opened {
    /// Lines of each manifest, and of each index, by key.
    pub texts: BTreeMap<String, Vec<Value>>,
    /// All pieces in one directory, segments joined.
    pub tree: tempfile::TempDir,
}

/// Opens one object; `gpg` only where it is needed, since it is slow on purpose.
const OPEN: &str = r#"
clear() {
    case $1 in
    *.gpg) gpg --batch --quiet --pinentry-mode loopback --passphrase-file "$ROOT/passphrase" -d "$1" 2>/dev/null ;;
    *) cat "$1" ;;
    esac
}
text() { clear "$1" | zstd -dqc; }
unpack() {
    case $1 in
    *.xz*) clear "$1" | xz -dc ;;
    *.zst*) clear "$1" | zstd -dqc ;;
    *) clear "$1" ;;
    esac | tar --numeric-owner --acls --xattrs --xattrs-include='*' -xpf - -C "$TREE"
}
join() {
    cd "$TREE"; stamp=$(mktemp -p "$ROOT"); touch -r "$(dirname "$1")" "$stamp"
    cat "$1"/?????? > "$1.joined"
    for as in chmod chown touch; do $as --reference="$1/000001" "$1.joined"; done
    rm -r "$1"; mv "$1.joined" "$1"
    touch -r "$stamp" "$(dirname "$1")"; rm "$stamp"
}
"#;

impl Opened {
    /// `manifests` and `pieces` are keys in the vault.
    pub fn open(world: &World, texts: &[String], pieces: &[String]) -> Opened {
        let tree = tempfile::TempDir::new_in(world.path("")).unwrap();
        let root = world.path("");
        let head = format!(
            "export GNUPGHOME={root}/gnupg ROOT={root} TREE={tree}; mkdir -p -m 700 $GNUPGHOME\n{OPEN}\n",
            root = root.display(),
            tree = tree.path().display()
        );
        let vault = world.path("vault");
        let mut script = head.clone();
        for (number, key) in texts.iter().enumerate() {
            script += &format!("text '{key}' > $ROOT/text.{number}\n");
        }
        for key in pieces {
            script += &format!("unpack '{key}'\n");
        }
        sh(&vault, &script);
        let texts: BTreeMap<String, Vec<Value>> = texts
            .iter()
            .enumerate()
            .map(|(number, key)| {
                let path = root.join(format!("text.{number}"));
                let text = fs::read_to_string(&path).unwrap();
                fs::remove_file(&path).unwrap();
                (key.clone(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
            })
            .collect();
        let mut files: Vec<String> = texts
            .values()
            .flatten()
            .filter(|member| member["segment"]["index"] == 1)
            .map(|member| file_of(member["path"].as_str().unwrap()).to_owned())
            .collect();
        files.sort();
        files.dedup();
        for file in files {
            sh(&vault, &format!("{head} join '{file}'"));
        }
        Opened { texts, tree }
    }
}

/// The file of which this is the path of a segment.
pub fn file_of(segment: &str) -> &str {
    segment.rsplit_once('/').unwrap().0
}

/// Every entry of a tree with all that must come back, one line each.
pub fn listing(root: &Path) -> Vec<String> {
    let script = r"
        find . ! -type s ! -type d -printf '%P %y %m %U:%G %s %T@ %l\n' -o -type d -printf '%P %y %m %U:%G %T@\n' | sort
        find . -type f -print0 | sort -z | xargs -0r sha256sum
        find . ! -type s -print0 | sort -z | xargs -0r getfattr -h -d -m '^user' 2>/dev/null";
    sh(root, script).lines().map(str::to_owned).collect()
}

/// Paths of all entries as manifests write them, sockets apart, and the number of all with them.
pub fn entries(root: &Path) -> (Vec<String>, u64) {
    let names = |script: &str| -> Vec<String> {
        sh(root, script).lines().map(|path| if path.is_empty() { "./".to_owned() } else { path.to_owned() }).collect()
    };
    let all = names(r"find . -printf '%P\n'").len() as u64;
    (names(r"find . ! -type s -printf '%P\n' | sort"), all)
}
