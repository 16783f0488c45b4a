//! Every key there is, and what a wrong one may have meant.

/// Sections and their keys; the keys at the top of the file have no section. `source` is a list of sections.
pub(super) const KEYS: [(&str, &[&str]); 14] = [
    ("", &["state", "time_zone"]),
    ("staging", &["path", "cap"]),
    ("source", &["name", "path", "exclude", "include", "exclude_tag", "one_file_system", "require_mount", "repeat"]),
    ("pack", &["max_size", "max_members", "retries", "checkpoint", "checkpoint_every"]),
    ("compress", &["method", "level", "threads", "memory", "stream"]),
    ("encrypt", &["method", "passphrase_file", "recipients", "prove"]),
    (
        "vault",
        &[
            "url",
            "storage_class",
            "region",
            "endpoint_url",
            "path_style",
            "profile",
            "credentials_file",
            "part_size",
            "concurrency",
            "names",
            "host",
        ],
    ),
    ("upload", &["window", "bandwidth"]),
    ("restore", &["secret_key_file", "profile", "path", "cap"]),
    (
        "prices",
        &[
            "date",
            "region",
            "storage",
            "storage_standard",
            "minimum_days",
            "requests",
            "requests_standard",
            "thaw_bulk",
            "thaw_bulk_requests",
            "thaw_standard",
            "thaw_standard_requests",
            "egress",
        ],
    ),
    ("mail", &["smtp", "password_file", "from", "to", "digest", "silence"]),
    ("heartbeat", &["url", "every"]),
    ("metrics", &["textfile", "listen"]),
    ("log", &["level"]),
];

pub(super) fn of(section: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

pub(super) fn is_section(name: &str) -> bool {
    !name.is_empty() && KEYS.iter().any(|(section, _)| *section == name)
}

/// `[staging]`, `[[source]]`, as the file has it.
pub(super) fn header(section: &str) -> String {
    if section == "source" { "[[source]]".to_owned() } else { format!("[{section}]") }
}

/// What to say about a key that `section` does not have. The value is never looked at: it may be a secret.
pub(super) fn unknown(section: &str, key: &str) -> String {
    let place =
        if section.is_empty() { "at the top of the file".to_owned() } else { format!("in {}", header(section)) };
    let hint = secret_hint(section, key).or_else(|| near_hint(section, key)).or_else(|| elsewhere_hint(section, key));
    let hint = hint.unwrap_or_else(|| {
        let mut all = of(section).to_vec();
        if section.is_empty() {
            all.extend(KEYS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()));
        }
        format!("known are {}", all.join(", "))
    });
    format!("there is no such key {place}; {hint}")
}

/// Secrets are never in this file.
fn secret_hint(section: &str, key: &str) -> Option<String> {
    let file = format!("{key}_file");
    if of(section).contains(&file.as_str()) {
        return Some(format!("secrets are not in this file: put it into one of mode 0600 and name that as `{file}`"));
    }
    let is_secret = matches!(
        key,
        "passphrase" | "password" | "secret" | "secret_key" | "access_key" | "secret_access_key" | "access_key_id"
    );
    is_secret.then(|| "secrets are not in this file: use the `*_file` keys or systemd credentials".to_owned())
}

fn near_hint(section: &str, key: &str) -> Option<String> {
    let sections = KEYS.iter().map(|(name, _)| *name).filter(|name| section.is_empty() && !name.is_empty());
    of(section)
        .iter()
        .copied()
        .chain(sections)
        .map(|known| (distance(&key.to_ascii_lowercase(), known), known))
        // A third of a word may be mistyped; beyond that it is another word.
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3).min(3))
        .min()
        .map(|(_, known)| match is_section(known) && section.is_empty() {
            true => format!("did you mean {}?", header(known)),
            false => format!("did you mean `{known}`?"),
        })
}

fn elsewhere_hint(section: &str, key: &str) -> Option<String> {
    let homes: Vec<String> = KEYS
        .iter()
        .filter(|(name, keys)| *name != section && keys.contains(&key))
        .map(|(name, _)| match *name {
            "" => "at the top of the file, before the first section".to_owned(),
            name => format!("in {}", header(name)),
        })
        .collect();
    if homes.is_empty() { None } else { Some(format!("`{key}` stands {}", homes.join(" or "))) }
}

/// How many letters must be added, removed, replaced or swapped with their neighbor to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    const LETTERS_MAX: usize = 40;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().max(b.len()) > LETTERS_MAX {
        return LETTERS_MAX;
    }
    // The table's row `i` and column `j` hold the distance between the first `i` and the first `j` letters.
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                table[i][j] = i + j;
                continue;
            }
            let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if 1 < i && 1 < j && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(table[i - 2][j - 2] + 1);
            }
            table[i][j] = least;
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_told_the_nearest() {
        for (section, key, hint) in [
            ("staging", "capp", "did you mean `cap`?"),
            ("staging", "pahts", "did you mean `path`?"),
            ("staging", "Cap", "did you mean `cap`?"),
            ("pack", "max-size", "did you mean `max_size`?"),
            ("pack", "maxsize", "did you mean `max_size`?"),
            ("vault", "storageclass", "did you mean `storage_class`?"),
            ("", "stagign", "did you mean [staging]?"),
            ("", "sources", "did you mean [[source]]?"),
            ("", "timezone", "did you mean `time_zone`?"),
            ("log", "time_zone", "`time_zone` stands at the top of the file, before the first section"),
            ("", "bandwidth", "`bandwidth` stands in [upload]"),
            ("pack", "method", "`method` stands in [compress] or in [encrypt]"),
            ("encrypt", "passphrase", "name that as `passphrase_file`"),
            ("vault", "secret_access_key", "secrets are not in this file"),
            ("log", "color", "known are level"),
        ] {
            let what = unknown(section, key);
            assert!(what.ends_with(hint) || what.contains(hint), "{section}.{key}: {what}");
        }
    }

    #[test]
    fn distances_count_letters() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("cap", "cap", 0), ("acp", "cap", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
        assert!(30 < distance(&"x".repeat(100_000), "cap"));
    }
}
