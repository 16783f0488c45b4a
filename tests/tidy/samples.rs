//! Every rule is shown what it must find, and what it must leave alone.

use super::*;

const LIB: &str = "pub mod fate;\npub mod path;\npub mod durable;\npub mod catalog;\npub mod stage;\npub mod archive;\n\
    pub mod compress;\npub mod encrypt;\npub mod upload;\npub mod pipeline;\npub mod config;\npub mod cli;\n";

/// The lines that a rule finds.
fn check(rule: Rule, path: &str, text: &str, expected: &[usize]) {
    let mut lines: Vec<usize> = rule(&Source::new(path, text), &rooms(LIB)).into_iter().map(|(line, _)| line).collect();
    lines.sort_unstable();
    assert_eq!(lines, expected, "{path}: {text}");
}

#[test]
fn files_and_functions_have_a_size() {
    check(size, "path.rs", &"\n".repeat(400), &[]);
    check(size, "path.rs", &"\n".repeat(401), &[401]);
    let function =
        |lines: usize| format!("//!\nfn a(b: [u8; 4]) -> fn() {{\n{}}}\nfn c();\n", "x('{', \"}\");\n".repeat(lines));
    check(functions, "path.rs", &function(68), &[]);
    check(functions, "path.rs", &function(69), &[2]);
    check(functions, "path.rs", &format!("{}{}", function(1), function(69)), &[7]);
}

#[test]
fn a_file_says_what_it_is_for() {
    check(intro, "path.rs", "use x;", &[1]);
    check(intro, "path.rs", "//! Paths.", &[]);
}

#[test]
fn rooms_use_rooms_above() {
    check(order, "catalog/mod.rs", "use crate::durable;\nuse crate::catalog::row;", &[]);
    check(order, "catalog/mod.rs", "use crate::compress;", &[1]);
    check(order, "path.rs", "\nuse crate::{\n    fate::{Fate, cli},\n    durable::{self},\n};", &[4]);
    check(order, "path.rs", "fn a() { crate::cli::run() }", &[1]);
    check(order, "path.rs", "use super::cli;", &[1]);
    check(order, "catalog/row.rs", "use super::schema;", &[]);
    check(order, "path.rs", "// crate::cli\nconst A: &str = \"crate::cli\";", &[]);
    check(order, "path.rs", "#[cfg(test)]\nmod tests { use crate::cli; }\nuse crate::cli;", &[3]);
    check(order, "main.rs", "use crate::cli;", &[]);
    check(config_is_the_shells, "pipeline/mod.rs", "use crate::config;", &[1]);
    check(config_is_the_shells, "cli/mod.rs", "use crate::config;", &[]);
}

#[test]
fn stages_do_not_know_each_other() {
    check(stages, "upload/mod.rs", "use crate::{fate, encrypt};", &[1]);
    check(stages, "compress/xz.rs", "use crate::{fate, compress};", &[]);
    check(stages, "pipeline/mod.rs", "use crate::{encrypt, compress};", &[]);
}

#[test]
fn foreign_crates_enter_by_their_doors() {
    check(doors, "catalog/mod.rs", "use rusqlite::Connection;", &[]);
    check(doors, "upload/mod.rs", "use rusqlite::Connection;", &[1]);
    check(doors, "upload/mod.rs", "use rusqlite;\nfn a(b: rusqlite::Error) {}", &[1, 2]);
    check(doors, "archive/pack.rs", "use std::io;\nuse {tar::Header};", &[2]);
    check(doors, "archive/header.rs", "use tar::Header;", &[]);
    check(doors, "archive/pack.rs", "use crate::tar::x;\nlet tar = 1;\nstar::x();", &[]);
    check(doors, "archive/pack.rs", "#[cfg(test)]\nmod tests { use tar::Archive; }", &[]);
    check(doors, "cli/main.rs", "use clap::Parser;", &[]);
    check(doors, "daemon/main.rs", "use clap::Parser;", &[1]);
}

#[test]
fn only_durable_renames() {
    check(renames, "durable.rs", "fs::rename(a, b)", &[]);
    for call in ["std::fs::rename(a, b)", "rename(a, b)", "rustix::fs::renameat(a, b, c, d)", "renameat_with(a)"] {
        check(renames, "staging/mod.rs", call, &[1]);
    }
    check(renames, "staging/mod.rs", "durable::rename(a, b);\n#[serde(rename = \"x\")]\nfn renamed() {}", &[]);
}

#[test]
fn nothing_is_unfinished_or_unchecked() {
    check(unwraps, "path.rs", "a.unwrap();\nb.unwrap_or(1);\n#[cfg(test)]\nfn c() { a.unwrap(); }", &[1]);
    check(unfinished, "path.rs", "todo!();\nunimplemented!();\ndbg!(x);\n#[ignore]\n// todo!", &[1, 2, 3, 4]);
    check(unfinished, "path.rs", "#[cfg(test)]\nmod tests {\n    #[ignore = \"slow\"]\n}", &[3]);
    check(unsafes, "compress/lzma.rs", "unsafe { x }", &[]);
    check(unsafes, "compress/mod.rs", "#![deny(unsafe_code)]\nunsafe { x }", &[2]);
    check(words, "path.rs", "// See Issue #12.\nlet a = \"/home/x\";\n// TODO\n// An issue of x.", &[1, 2, 3]);
    check(pure, "path.rs", "use std::fs::File;\nTimestamp::now()", &[1, 2]);
    check(pure, "durable.rs", "use std::fs::File;", &[]);
}

#[test]
fn literals_and_comments_are_blanked_and_nothing_else() {
    let gap = |chars: usize| " ".repeat(chars);
    for (text, code) in [
        ("a // b\nc", format!("a {}\nc", gap(4))),
        ("a /* b\n} */ c", format!("a {}\n{} c", gap(4), gap(4))),
        ("a(\"}\\\"{\", 1)", format!("a({}, 1)", gap(6))),
        ("a(r#\"}\"}\"#, br\"\\\", b\"}\")", format!("a({}, b{}, b{})", gap(8), gap(4), gap(3))),
        ("a('{', '\\'', '\\u{7d}')", format!("a({}, {}, {})", gap(3), gap(4), gap(8))),
        ("fn a<'b>(r#type: &'b str)", "fn a<'b>(r#type: &'b str)".to_owned()),
        ("a(\"b\n}\")", format!("a({}\n{})", gap(2), gap(2))),
    ] {
        let blanked = blank(text);
        assert_eq!(blanked, code, "{text}");
        assert_eq!(blanked.lines().count(), text.lines().count());
    }
}

#[test]
fn files_of_tests_are_known_by_their_declaration() {
    let sources = [
        Source::new("catalog/mod.rs", "#[cfg(test)]\nmod damage;\nmod row;\n"),
        Source::new("archive/list.rs", "#[cfg(test)]\n#[path = \"list_tests.rs\"]\nmod tests;\n"),
        Source::new("path.rs", "\"\u{e9}\" // \u{e9}\n#[cfg(test)] pub(crate) mod tests;\nmod tests_not;"),
    ];
    let places = places_of_tests(&sources);
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    for (file, expected) in [
        ("catalog/damage.rs", true),
        ("catalog/damage/more.rs", true),
        ("catalog/row.rs", false),
        ("archive/list_tests.rs", true),
        ("archive/tests.rs", false),
        ("path/tests.rs", true),
        ("path/tests/mod.rs", true),
        ("path/tests_not.rs", false),
    ] {
        assert_eq!(Source::new(file, "").is_in(&places), expected, "{file}");
    }
}
