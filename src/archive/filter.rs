//! What is left out of a source by name. The only door to the crate `ignore`.
//!
//! Patterns are those of gitignore, relative to the source; the last one that matches decides. An `include`
//! works as a later `!pattern` would, so it cannot bring back what lies in an excluded directory: that is
//! never looked at. Names are bytes, they need not be UTF-8.

use crate::path::SourcePath;
use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Number of the rule `exclude_tag`.
pub const RULE_TAG: u16 = u16::MAX - 1;
/// Number of the rule that leaves out our own directories: staging, state, a vault inside the source.
pub const RULE_OWN: u16 = u16::MAX;
/// Most patterns; above them are the numbers of the rules that are no patterns.
pub const PATTERNS_MAX: usize = 60_000;
const _: () = assert!(PATTERNS_MAX < RULE_TAG as usize);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Patterns of what is archived all the same, without a leading `!`.
    pub include: Vec<String>,
    /// A directory that holds a regular file of this name is archived empty of all else.
    pub exclude_tag: Option<String>,
}

/// A pattern that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("The pattern `{key} = {pattern:?}` cannot be used: {why}")]
    Pattern { key: &'static str, pattern: String, why: String },
    #[error("There are {count} patterns, more than the {PATTERNS_MAX} that can be used")]
    TooMany { count: usize },
    #[error("All patterns together cannot be used: {why}")]
    Together { why: String },
}

/// The rules of one source, ready to match.
#[derive(Debug)]
pub struct Filter {
    matcher: Gitignore,
    /// Text of each pattern's rule, by number.
    rules: Vec<String>,
    tag: Option<String>,
    tag_rule: String,
    sha256: String,
}

impl Filter {
    /// Refuses every pattern that the matcher would drop or that could match nothing, because a pattern
    /// without an effect is a mistake that nobody would notice until the staging disk is full.
    pub fn new(options: &Options) -> Result<Filter, FilterError> {
        let count = options.exclude.len() + options.include.len();
        if PATTERNS_MAX < count {
            return Err(FilterError::TooMany { count });
        }
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        let mut rules = Vec::with_capacity(count);
        let excludes = options.exclude.iter().map(|pattern| ("exclude", pattern));
        let includes = options.include.iter().map(|pattern| ("include", pattern));
        for (key, pattern) in excludes.chain(includes) {
            let fail = |why: &str| FilterError::Pattern { key, pattern: pattern.clone(), why: why.to_owned() };
            check(key, pattern).map_err(fail)?;
            let line = if key == "include" { format!("!{pattern}") } else { pattern.clone() };
            // The number travels through the matcher as the file that the pattern is said to come from.
            let number = PathBuf::from(rules.len().to_string());
            builder.add_line(Some(number), &line).map_err(|err| fail(&reason(err)))?;
            rules.push(format!("{key} {pattern:?}"));
        }
        if let Some(tag) = &options.exclude_tag {
            check_tag(tag).map_err(|why| FilterError::Pattern {
                key: "exclude_tag",
                pattern: tag.clone(),
                why: why.to_owned(),
            })?;
        }
        let matcher = builder.build().map_err(|err| FilterError::Together { why: reason(err) })?;
        let tag = options.exclude_tag.clone();
        let tag_rule = format!("exclude_tag {:?}", tag.as_deref().unwrap_or_default());
        Ok(Filter { matcher, rules, tag, tag_rule, sha256: digest(options) })
    }

    /// The rule of this number as text for manifests: `exclude "*.tmp"`, `exclude_tag "NOBACKUP"`, `own`.
    pub fn rule(&self, number: u16) -> &str {
        match number {
            RULE_OWN => "own",
            RULE_TAG => &self.tag_rule,
            number => self.rules.get(usize::from(number)).map_or("unknown", String::as_str),
        }
    }

    /// The pattern that leaves out this path, if one does. Says nothing of what is above the path: the walk
    /// comes from there. The root of a source is never left out.
    pub fn excluded(&self, path: &SourcePath, is_dir: bool) -> Option<u16> {
        if self.rules.is_empty() || path.is_root() {
            return None;
        }
        match self.matcher.matched(path.as_path(), is_dir) {
            Match::Ignore(glob) => {
                let number = glob.from().and_then(|from| from.to_str()).and_then(|from| from.parse().ok());
                Some(number.expect("every pattern was added with its number"))
            }
            Match::Whitelist(_) | Match::None => None,
        }
    }

    /// Name of the file that tags a directory.
    pub fn tag(&self) -> Option<&[u8]> {
        self.tag.as_deref().map(str::as_bytes)
    }

    /// SHA-256 of the rules in their order, in lowercase hex: two walks with the same digest leave out the same.
    pub fn sha256(&self) -> String {
        self.sha256.clone()
    }
}

fn check(key: &str, pattern: &str) -> Result<(), &'static str> {
    if pattern.trim().is_empty() {
        return Err("it is empty");
    }
    if pattern.contains(['\0', '\n', '\r']) {
        return Err("it holds a NUL byte or the end of a line");
    }
    if pattern.starts_with('#') {
        return Err("it is a comment; a name that begins with # is written `\\#`");
    }
    if key == "include" && pattern.starts_with('!') {
        return Err("`include` needs no `!`; a name that begins with one is written `\\!`");
    }
    let plain = pattern.strip_prefix('!').unwrap_or(pattern);
    if plain.trim_matches('/').trim().is_empty() {
        return Err("it names nothing; what is in the source is `/*`");
    }
    if plain.split('/').any(|name| name == "." || name == "..") {
        return Err("`.` and `..` match nothing; patterns are relative to the source");
    }
    if plain.trim_start_matches('/').contains("//") || plain.starts_with("//") {
        return Err("`//` matches nothing");
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    if tag.is_empty() || tag == "." || tag == ".." || tag.contains(['/', '\0']) {
        return Err("it must be the name of a file, without `/`");
    }
    Ok(())
}

/// The matcher's complaint without the pattern, which our error names already.
fn reason(err: ignore::Error) -> String {
    match err {
        ignore::Error::Glob { err, .. } => err,
        other => other.to_string(),
    }
}

/// Every text with its kind and length in front, so that no two lists of rules read the same.
fn digest(options: &Options) -> String {
    let mut sha = Sha256::new();
    let mut add = |kind: &str, text: &str| {
        sha.update(format!("{kind} {}\n", text.len()));
        sha.update(text);
        sha.update("\n");
    };
    add("filter", "1");
    options.exclude.iter().for_each(|pattern| add("exclude", pattern));
    options.include.iter().for_each(|pattern| add("include", pattern));
    options.exclude_tag.iter().for_each(|tag| add("exclude_tag", tag));
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(exclude: &[&str], include: &[&str]) -> Options {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Options { exclude: owned(exclude), include: owned(include), exclude_tag: None }
    }

    /// Which pattern leaves out `path`; a trailing `/` makes it a directory.
    fn check(exclude: &[&str], include: &[&str], path: &[u8], expected: Option<u16>) {
        let filter = Filter::new(&options(exclude, include)).unwrap();
        let is_dir = path.ends_with(b"/");
        let path = SourcePath::parse(path).unwrap();
        assert_eq!(filter.excluded(&path, is_dir), expected, "{exclude:?} {include:?} {path:?}");
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        check(&["*.tmp"], &[], b"a/b.tmp", Some(0));
        check(&["*.tmp"], &[], b"a/b.tmp2", None);
        check(&["*.tmp"], &[], b"a/\n.tmp", Some(0));
        check(&["/scratch/"], &[], b"scratch/", Some(0));
        check(&["/scratch/"], &[], b"scratch", None);
        check(&["/scratch/"], &[], b"a/scratch/", None);
        check(&["scratch"], &[], b"a/scratch/", Some(0));
        check(&["a/*/c"], &[], b"a/b/c", Some(0));
        check(&["a/*/c"], &[], b"a/b/b/c", None);
        check(&["a/**/c"], &[], b"a/b/b/c", Some(0));
        check(&["a/**"], &[], b"a/", None);
        check(&["a/**"], &[], b"a/b", Some(0));
        check(&["\\#x"], &[], b"#x", Some(0));
        check(&["\\!x"], &[], b"!x", Some(0));
        check(&["/*"], &[], b"x", Some(0));
        check(&["/*"], &[], b"", None);
        check(&["[ab]"], &[], b"b", Some(0));
        check(&["x?"], &[], b"x\xff", Some(0));
    }

    #[test]
    fn the_last_match_decides_and_is_named() {
        check(&["*", "*.o"], &[], b"a.o", Some(1));
        check(&["*.o", "!b.o"], &[], b"b.o", None);
        check(&["*.o"], &["b.o"], b"b.o", None);
        check(&["*.o"], &["b.o"], b"c.o", Some(0));
        check(&["!b.o", "*.o"], &[], b"b.o", Some(1));
        check(&["x"], &["\\!x"], b"!x", None);
    }

    #[test]
    fn names_need_not_be_utf8() {
        check(&["*.tmp"], &[], b"\xff\xfe/\xc3.tmp", Some(0));
        check(&["/a*"], &[], b"a\xff", Some(0));
        check(&["b"], &[], b"\xff/b", Some(0));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_pattern() {
        for (exclude, include, why) in [
            ("", "", "empty"),
            ("# note", "", "comment"),
            ("[a", "", "class"),
            ("a\\", "", "dangling"),
            ("/", "", "names nothing"),
            ("!/", "", "names nothing"),
            ("../x", "", "relative"),
            ("./x", "", "relative"),
            ("a//b", "", "//"),
            ("a\nb", "", "end of a line"),
            ("x", "!y", "no `!`"),
            ("x", "{a", "alternate"),
        ] {
            let include: Vec<&str> = Some(include).filter(|text| !text.is_empty()).into_iter().collect();
            let err = Filter::new(&options(&[exclude], &include)).unwrap_err().to_string();
            assert!(err.contains(why), "{exclude:?} {include:?}: {err}");
            assert!(err.contains(&format!("{:?}", include.first().unwrap_or(&exclude))), "{err}");
        }
        for tag in ["", ".", "..", "a/b"] {
            let options = Options { exclude_tag: Some(tag.to_owned()), ..Options::default() };
            assert!(Filter::new(&options).unwrap_err().to_string().contains("exclude_tag"), "{tag:?}");
        }
    }

    #[test]
    fn rules_are_told_as_they_were_written() {
        let options = Options { exclude_tag: Some("NOBACKUP".to_owned()), ..options(&["*.tmp", "a\\ "], &["x"]) };
        let filter = Filter::new(&options).unwrap();
        assert_eq!(filter.rule(0), r#"exclude "*.tmp""#);
        assert_eq!(filter.rule(1), r#"exclude "a\\ ""#);
        assert_eq!(filter.rule(RULE_TAG), r#"exclude_tag "NOBACKUP""#);
        assert_eq!(filter.rule(RULE_OWN), "own");
        assert_eq!(filter.tag(), Some(&b"NOBACKUP"[..]));
    }

    #[test]
    fn the_digest_is_that_of_the_rules_and_their_order() {
        let digest = |options: &Options| Filter::new(options).unwrap().sha256();
        let tag = |tag: &str| Options { exclude_tag: Some(tag.to_owned()), ..Options::default() };
        let all = [
            options(&[], &[]),
            options(&["a", "b"], &[]),
            options(&["b", "a"], &[]),
            options(&["a"], &["b"]),
            options(&["ab"], &[]),
            tag("a"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(digest(one), digest(&one.clone()));
            assert_eq!(digest(one).len(), 64);
            assert!(all[..at].iter().all(|other| digest(other) != digest(one)), "{one:?}");
        }
        // Stands in manifests, so it must not change with the program.
        assert_eq!(digest(&all[3]), "bdd3cdd67bccd5e857a3c8e829a36ff985e081a4cddd265ded623379b38aa52d");
    }
}
