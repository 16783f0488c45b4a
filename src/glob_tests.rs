//! What patterns match, and that bash matches the same.

use super::*;
use proptest::prelude::*;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

fn glob(text: impl AsRef<[u8]>) -> Glob {
    Glob::parse(text.as_ref()).unwrap()
}

fn path(text: impl AsRef<[u8]>) -> SourcePath {
    SourcePath::parse(text.as_ref()).unwrap()
}

fn check(pattern: impl AsRef<[u8]>, found: &[&[u8]], not: &[&[u8]]) {
    let glob = glob(pattern.as_ref());
    for (paths, expected) in [(found, true), (not, false)] {
        for text in paths {
            let matches = glob.matches(&path(text), text.ends_with(b"/"));
            assert_eq!(matches, expected, "{glob:?} {}", text.escape_ascii());
            assert!(!matches || path(text).is_within(&glob.prefix()), "{glob:?} {}", text.escape_ascii());
        }
    }
}

#[test]
fn a_pattern_without_a_slash_is_about_names_and_all_others_about_paths() {
    check("*.jpg", &[b"a.jpg", b"x/y/b.jpg", b".jpg", b"d.jpg/"], &[b"a.jpeg", b"x.jpg/y", b"/"]);
    check("a", &[b"a", b"x/a", b"x/y/a/"], &[b"a/x", b"aa", b"/"]);
    check("/*.jpg", &[b"a.jpg"], &[b"x/b.jpg"]);
    check("/a", &[b"a"], &[b"x/a", b"a/x"]);
    check("a/", &[b"a/", b"x/a/"], &[b"a", b"x/a"]);
    check("x/*", &[b"x/a", b"x/.b"], &[b"x", b"x/a/b", b"y/x/a"]);
    check("/x/*/z", &[b"x/a/z"], &[b"x/z", b"x/a/b/z"]);
    check("x/y", &[b"x/y"], &[b"x", b"x/y/z", b"a/x/y"]);
    check("./x/y/", &[b"x/y/"], &[b"x/y"]);
    check("/", &[b"/"], &[b"a"]);
}

#[test]
fn two_stars_match_any_number_of_directories() {
    check("x/**/z", &[b"x/z", b"x/a/z", b"x/a/b/z"], &[b"z", b"x/a", b"y/x/z", b"x/z/a"]);
    check("**/z", &[b"z", b"a/z", b"a/b/z"], &[b"z/a", b"az"]);
    check("x/**", &[b"x/a", b"x/a/b"], &[b"x", b"xa/b"]);
    check("**", &[b"x", b"x/a/b"], &[b"/"]);
    check("a/**/**/b/**/c", &[b"a/b/c", b"a/x/b/y/b/c", b"a/b/b/c/c"], &[b"a/c", b"a/b", b"a/b/c/d"]);
    check("x**y/z", &[b"xy/z", b"x-y/z"], &[b"x/y/z"]);
}

#[test]
fn a_character_is_one_whatever_its_bytes_are() {
    check("?", &["é".as_bytes(), b"a", b"\xff", "日".as_bytes()], &[b"ab", b"\xff\xfe", "éé".as_bytes()]);
    check("caf?", &["café".as_bytes(), b"caf\xe9"], &[b"caf", b"cafes"]);
    check("[à-é]x", &["éx".as_bytes(), "àx".as_bytes()], &["ÿx".as_bytes(), b"\xe9x", b"ax"]);
    check("[!a-c]", &[b"d", "é".as_bytes(), b"\xff"], &[b"b"]);
    check("[]x]", &[b"]", b"x"], &[b"[]x]y"]);
    check("[a-]", &[b"a", b"-"], &[b"b"]);
    check(b"caf\xe9*", &[b"caf\xe9", b"caf\xe9s"], &["café".as_bytes()]);
    check("a\nb*", &[b"a\nb", b"a\nbc"], &[b"a b"]);
}

#[test]
fn what_is_written_as_it_is_matches_itself() {
    check("x[1].txt", &[b"x[1].txt", b"x1.txt"], &[b"x2.txt"]);
    check("d[1]/what?", &[b"d[1]/what?", b"d1/what!"], &[b"d2/what?"]);
    check("a[b", &[b"a[b", b"x/a[b"], &[b"ab"]);
    check(r"a\*b", &[b"a*b", br"a\*b"], &[b"axb"]);
    check(r"\[1]", &[b"[1]"], &[b"1"]);
    check("#x", &[b"#x"], &[b"x"]);
    check("!x", &[b"!x"], &[b"x"]);
}

#[test]
fn what_comes_before_the_first_sign_is_all_that_is_looked_through() {
    for (pattern, prefix, is_one_path) in [
        ("a/b/c", "a/b/c", true),
        ("/a", "a", true),
        ("a", "/", false),
        ("a/b*/c", "a", false),
        ("/a/**/c", "a", false),
        ("*/b", "/", false),
        (r"a/\b/c", "a", false),
        ("a[1]/b", "/", false),
        ("a/b/", "a/b", true),
        ("/", "/", true),
    ] {
        let glob = glob(pattern);
        assert_eq!((glob.prefix(), glob.is_one_path()), (path(prefix), is_one_path), "{pattern}");
    }
    assert!(Glob::parse(b"a/../b").is_err());
}

/// Whether bash matches the same, of names that begin with no dot, in a locale where characters are of UTF-8.
fn bash(pattern: &[u8], names: &[Vec<u8>]) -> Vec<bool> {
    let script = "p=$1; shift; for name; do [[ $name == $p ]] && echo 1 || echo 0; done";
    let mut command = Command::new("bash");
    command.env("LC_ALL", "C.UTF-8").args(["-c", script, "bash"]).arg(OsStr::from_bytes(pattern));
    let out = command.args(names.iter().map(|name| OsStr::from_bytes(name))).output().unwrap();
    out.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| line == b"1").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn names_match_as_in_bash(pattern in "[ab*?é]{1,6}", names in prop::collection::vec("[abé]{1,6}", 20)) {
        let names: Vec<Vec<u8>> = names.into_iter().map(String::into_bytes).collect();
        let found: Vec<bool> = names.iter().map(|name| glob(&pattern).matches(&path(name), false)).collect();
        // In bash two stars are one.
        prop_assume!(pattern != "**");
        prop_assert_eq!(found, bash(pattern.as_bytes(), &names));
    }

    #[test]
    fn paths_match_as_the_naive_way_says(pattern in "[ab]?(/([ab*]|\\*\\*)){1,5}", text in "[ab](/[ab]){0,6}") {
        fn naive(parts: &[&str], names: &[&str]) -> bool {
            match parts {
                [] => names.is_empty(),
                ["**"] => !names.is_empty(),
                ["**", rest @ ..] => (0..=names.len()).any(|taken| naive(rest, &names[taken..])),
                [part, rest @ ..] => names.split_first().is_some_and(|(name, names)| {
                    (*part == "*" || part == name) && naive(rest, names)
                }),
            }
        }
        let split = |text: &'static str| text.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let (parts, names) = (split(pattern.clone().leak()), split(text.clone().leak()));
        prop_assert_eq!(glob(&pattern).matches(&path(&text), false), naive(&parts, &names));
    }
}
