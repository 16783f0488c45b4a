//! The one checker: what must hold after the last run has ended, whatever happened before.

use crate::{
    leaks::leaks,
    restored::{Opened, entries, file_of, listing},
    world::{Ran, World},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The vault gives back the source as it is now.
    Equal,
    /// The source has changed meanwhile: every path is there at most once, and all sums are right.
    Consistent,
}

/// Runs to the end, and tells everything that is not as it must be.
pub fn finish(world: &World, compare: Compare) -> Vec<String> {
    let ran = world.run();
    judge(world, &ran, compare)
}

/// What is wrong after a run that should have ended well.
pub fn judge(world: &World, ran: &Ran, compare: Compare) -> Vec<String> {
    let mut wrong = Vec::new();
    // Of a large file that was replaced between two of its segments, the rest is lost.
    let may_lose = compare == Compare::Consistent && ran.code == Some(3);
    if ran.code != Some(0) && !may_lose {
        let how = ran.code.map_or("it hangs".to_owned(), |code| format!("exit code {code}"));
        wrong.push(format!("The last run: {how}\n{}", ran.log));
        return wrong;
    }
    for (what, found) in [("left", leaks(world)), ("vault", vault(world, compare))] {
        wrong.extend(found.into_iter().map(|line| format!("{what}: {line}")));
    }
    if !wrong.is_empty() {
        wrong.push(ran.log.clone());
    }
    wrong
}

/// Fails the test that asks if anything is wrong.
#[track_caller]
pub fn assert_right(world: &World, compare: Compare, what: &str) {
    let wrong = finish(world, compare);
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// Files below a directory, relative to it.
pub fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => drop(found.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned())),
            }
        }
    }
    found
}

/// A piece as `archiver ls` tells of it.
struct Listed {
    key: String,
    manifest_key: String,
    sealed_size: u64,
    seen: u64,
    archived: u64,
    members: u64,
}

fn listed(world: &World, wrong: &mut Vec<String>) -> Vec<Listed> {
    let text = match world.ask(&["ls", "--all", "--json"]) {
        Ok(text) => text,
        Err(err) => {
            wrong.push(err);
            return Vec::new();
        }
    };
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = rows.iter().filter_map(|row| row["pass"].as_str()).max().unwrap_or_default();
    let mut pieces = Vec::new();
    for row in &rows {
        if row["state"] != "delivered" {
            wrong.push(format!("{} is {}", row["name"], row["state"]));
            continue;
        }
        // Of passes before the last it is enough that they have ended.
        if row["pass"] != last {
            continue;
        }
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let number = |name: &str| row[name].as_u64().unwrap();
        pieces.push(Listed {
            key: text("key"),
            manifest_key: text("manifest_key"),
            sealed_size: number("sealed_size"),
            seen: number("seen"),
            archived: number("archived"),
            members: number("members"),
        });
    }
    pieces
}

fn vault(world: &World, compare: Compare) -> Vec<String> {
    let mut wrong = Vec::new();
    let pieces = listed(world, &mut wrong);
    let all = files(&world.path("vault"));
    let (own, objects): (BTreeSet<String>, BTreeSet<String>) =
        all.into_iter().partition(|path| path.starts_with(".archiver/"));
    let known: BTreeSet<&str> = own.iter().filter_map(|path| path.strip_prefix(".archiver/objects/")).collect();
    for path in own.iter().filter(|path| !path.starts_with(".archiver/objects/")) {
        if ![".archiver/lock", ".archiver/vault.json"].contains(&&**path) {
            wrong.push(format!("{path} is left"));
        }
    }
    // A record is durable before its object has its name; of a piece that was lost just then it is all that stays.
    let is_of_piece = |key: &str| key.rsplit('/').next().is_some_and(|name| name.starts_with("0000"));
    let is_right = |key: &&str| objects.contains(*key) || is_of_piece(key);
    if !objects.iter().all(|key| known.contains(&**key)) || !known.iter().all(is_right) {
        wrong.push(format!("The vault's records are of {known:?}, and it holds {objects:?}"));
    }
    let indexes: Vec<String> = objects.iter().filter(|key| key.contains("/index.json")).cloned().collect();
    let trees = objects.iter().filter(|key| key.contains("/tree.txt")).count();
    if (indexes.len(), trees) != (1, 1) {
        wrong.push(format!("{} indexes and {trees} listings of one pass", indexes.len()));
        return wrong;
    }
    let keys: Vec<String> = pieces.iter().map(|piece| piece.key.clone()).collect();
    let manifests: Vec<String> = pieces.iter().map(|piece| piece.manifest_key.clone()).collect();
    let texts: Vec<String> = manifests.iter().chain(&indexes).cloned().collect();
    if let Some(key) = texts.iter().chain(&keys).find(|key| !objects.contains(*key)) {
        wrong.push(format!("{key} is in the catalog and not in the vault"));
        return wrong;
    }
    let len = |piece: &&Listed| fs::metadata(world.path("vault").join(&piece.key)).unwrap().len();
    if let Some(piece) = pieces.iter().find(|piece| len(piece) != piece.sealed_size) {
        wrong.push(format!(
            "{} has {} bytes in the vault, and {} in the catalog",
            piece.key,
            len(&piece),
            piece.sealed_size
        ));
        return wrong;
    }
    let opened = Opened::open(world, &texts, &keys);
    let index = &opened.texts[&indexes[0]][0]["index"];
    wrong.extend(index_agrees(index, &pieces, &objects));
    let mut sums = Sums::default();
    for piece in &pieces {
        wrong.extend(sums.add(piece, &opened.texts[&piece.manifest_key]));
    }
    wrong.extend(sums.agree(world, index, compare));
    if compare == Compare::Equal {
        wrong.extend(differences(&listing(&world.source()), &listing(opened.tree.path())));
    }
    wrong
}

/// The index names the delivered pieces and no others; what else is in the vault belongs to a retired seq.
fn index_agrees(index: &Value, pieces: &[Listed], objects: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let named = |field: &str| -> BTreeSet<&str> {
        index["pieces"].as_array().unwrap().iter().map(|piece| piece[field].as_str().unwrap()).collect()
    };
    let (keys, manifests) = (named("key"), named("manifest_key"));
    if keys != pieces.iter().map(|piece| &*piece.key).collect()
        || manifests != pieces.iter().map(|piece| &*piece.manifest_key).collect()
        || index["pieces"].as_array().unwrap().len() != pieces.len()
    {
        wrong.push(format!("The index names {keys:?}"));
    }
    let retired: Vec<String> =
        index["retired"].as_array().unwrap().iter().map(|seq| format!("/{:06}-", seq.as_u64().unwrap())).collect();
    for key in objects {
        let is_other = key == "archiver.json" || key.contains("/index.json") || key.contains("/tree.txt");
        if !is_other && !keys.contains(&**key) && !manifests.contains(&**key) {
            match retired.iter().any(|seq| key.contains(seq)) {
                true => {}
                false => wrong.push(format!("{key} is in the vault and in no index")),
            }
        }
    }
    if let Some(seq) = retired.iter().find(|seq| keys.iter().any(|key| key.contains(&***seq))) {
        wrong.push(format!("{seq} is retired and delivered"));
    }
    wrong
}

/// What all manifests say together.
#[derive(Default)]
struct Sums {
    seen: u64,
    archived: u64,
    skipped: u64,
    /// How often each path is archived.
    paths: BTreeMap<String, u32>,
    /// Segments of each large file, and how many there should be.
    segments: BTreeMap<String, (Vec<u64>, u64)>,
    whole: BTreeMap<String, Value>,
}

impl Sums {
    fn add(&mut self, piece: &Listed, lines: &[Value]) -> Vec<String> {
        let mut wrong = Vec::new();
        let key = &piece.key;
        let (Some(head), Some(tail)) = (lines.first(), lines.last()) else {
            return vec![format!("{key}: no manifest")];
        };
        let range = &tail["range"];
        if head["piece"]["key"] != **key {
            wrong.push(format!("The manifest of {key} is of {}", head["piece"]["key"]));
        }
        let mut members = 0;
        for member in &lines[1..lines.len() - 1] {
            let path = member["path"].as_str().unwrap().to_owned();
            if member["note"].as_str().is_some_and(|note| note.contains("ancestor")) {
                continue;
            }
            members += 1;
            let segment = &member["segment"];
            let Some(number) = segment["index"].as_u64() else {
                *self.paths.entry(path).or_default() += 1;
                continue;
            };
            let file = file_of(&path).to_owned();
            let known = self.segments.entry(file.clone()).or_default();
            known.0.push(number);
            known.1 = segment["count"].as_u64().unwrap();
            if number == known.1 {
                self.whole.insert(file, member["file_sha256"].clone());
            }
        }
        let count = |name: &str| range["counts"][name].as_u64().unwrap();
        let skipped: u64 = range["counts"]["skipped"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        let archived = count("clean") + count("changed");
        let seen = count("seen");
        if (seen, archived, members) != (piece.seen, piece.archived, piece.members) || seen != archived + skipped {
            wrong.push(format!(
                "{key}: its manifest counts {seen} seen, {archived} archived, {skipped} skipped, {members} members; \
                 the catalog {}, {}, {}",
                piece.seen, piece.archived, piece.members
            ));
        }
        self.seen += seen;
        self.archived += archived;
        self.skipped += skipped;
        wrong
    }

    fn agree(mut self, world: &World, index: &Value, compare: Compare) -> Vec<String> {
        let mut wrong = Vec::new();
        for (file, (mut numbers, count)) in std::mem::take(&mut self.segments) {
            numbers.sort_unstable();
            if numbers != (1..=count).collect::<Vec<_>>() {
                wrong.push(format!("{file} has the segments {numbers:?} of {count}"));
            }
            if compare == Compare::Equal && self.whole.get(&file).is_none_or(|sha256| !sha256.is_string()) {
                wrong.push(format!("{file}: no SHA-256 of the whole file with its last segment"));
            }
            *self.paths.entry(file).or_default() += 1;
        }
        wrong.extend(
            self.paths.iter().filter(|(_, n)| **n > 1).map(|(path, n)| format!("{path} is archived {n} times")),
        );
        let counts = &index["counts"];
        if counts["seen"] != self.seen
            || counts["clean"].as_u64().unwrap() + counts["changed"].as_u64().unwrap() != self.archived
        {
            wrong.push(format!("The index counts {counts}, the manifests {} and {}", self.seen, self.archived));
        }
        if self.seen != self.archived + self.skipped || self.archived != self.paths.len() as u64 {
            wrong.push(format!("{} seen, {} archived, {} skipped", self.seen, self.archived, self.skipped));
        }
        if compare == Compare::Equal {
            let (expected, all) = entries(&world.source());
            let missing = expected.iter().filter(|path| !self.paths.contains_key(*path));
            wrong.extend(missing.map(|path| format!("{path} is in no piece")));
            if self.seen != all || self.paths.len() != expected.len() {
                wrong.push(format!("{} seen of {all}, {} archived of {}", self.seen, self.paths.len(), expected.len()));
            }
        }
        wrong
    }
}

fn differences(expected: &[String], found: &[String]) -> Vec<String> {
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (expected.iter().collect(), found.iter().collect());
    let lost = a.difference(&b).map(|line| format!("source only: {line}"));
    lost.chain(b.difference(&a).map(|line| format!("restored only: {line}"))).collect()
}
