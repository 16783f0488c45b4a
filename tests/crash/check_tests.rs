//! The checker is only worth something if it fails: each case spoils one thing after a run that was right.

use crate::{
    check::{Compare, judge},
    source::{self, sh},
    world::{Setup, World},
};

/// What is done in the world's directory, and what the checker must then say.
const CASES: &[(&str, &str, &str)] = &[
    ("a lost file", "touch source/many/new", "many/new is in no piece"),
    ("a file of nowhere", "rm source/odd/empty", "restored only: odd/empty f"),
    (
        "a wrong byte",
        "f=source/alpha/05; touch -r $f s; printf x | dd of=$f conv=notrunc status=none; touch -r s $f",
        "alpha/05",
    ),
    (
        "a wrong byte in a segment",
        "f=source/big/F; touch -r $f s; printf x | dd of=$f seek=2000000 bs=1 \
        conv=notrunc status=none; touch -r s $f",
        "big/F",
    ),
    ("a wrong mtime", "touch -d '2020-01-02 03:04:05.678912346 UTC' source/alpha/05", "source only: alpha/05 f"),
    ("a wrong mtime of a directory", "touch source/zz-empty", "source only: zz-empty d"),
    ("a missing xattr", "setfattr -n user.shape -v round source/odd/empty", "source only: user.shape"),
    ("a wrong mode", "chmod 604 source/odd/pipe", "source only: odd/pipe p 604"),
    ("a wrong target", "ln -sfn ../many/2 source/odd/link", "source only: odd/link l"),
    (
        "a doubled file",
        "m=$(echo vault/h1/data/*/000001-*.manifest.jsonl.zst); zstd -dcq $m | sed '3p' | \
        zstd -qo t; mv t $m",
        "is archived 2 times",
    ),
    (
        "a missing segment",
        "for m in vault/h1/data/*/*big.F.manifest.jsonl.zst; do zstd -dcq $m | \
        sed '/F.000002/d' | zstd -qo t && mv t $m; done",
        "big/F has the segments [1, 3] of 3",
    ),
    ("a draft that is left", "touch staging/tmp/x", "staging/tmp/x\" is left"),
    ("a record that is left", "touch staging/list/x", "staging/list/x\" is left"),
    ("a draft of the catalog", "touch state/catalog.sqlite.copy.new", "catalog.sqlite.copy.new\" is left"),
    ("a draft of a manifest", "touch $(echo state/manifests/data/*)/x.new", "x.new\" is left"),
    ("a catalog for all to read", "chmod 640 state/catalog.sqlite", "the mode 640"),
    ("a shelf for all to enter", "chmod 755 staging/gpg", "the mode 755"),
    (
        "an upload that is left",
        "mkdir vault/.archiver/uploads/x; touch vault/.archiver/uploads/x/y",
        "uploads/x/y is left",
    ),
    (
        "a lost object",
        "rm vault/h1/data/*/000002-*.tar.xz vault/.archiver/objects/h1/data/*/000002-*.tar.xz",
        "is in the catalog and not in the vault",
    ),
    ("a cut object", "truncate -s -1 vault/h1/data/*/000002-*.tar.xz", "bytes in the vault"),
    ("an object that grew", "echo >> $(echo vault/h1/data/*/000002-*.tar.xz)", "bytes in the vault"),
    (
        "an entry that nobody accounts for",
        "m=$(echo vault/h1/data/*/000001-*.manifest.jsonl.zst); zstd -dcq $m | \
        sed 's/\"seen\":[0-9]*/\"seen\":99/' | zstd -qo t; mv t $m",
        "99 seen",
    ),
    (
        "an object too many",
        "cd vault/h1/data/*; cp 000002-*.tar.xz 000099-x.tar.xz; \
        cd ../../../.archiver/objects/h1/data/*; cp 000002-*.tar.xz 000099-x.tar.xz",
        "in no index",
    ),
    ("a record without an object", "rm vault/archiver.json", "The vault's records"),
];

#[test]
fn the_checker_finds_what_is_wrong() {
    let world = World::new(Setup::default(), source::mixed);
    let ran = world.run();
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
    let root = world.path("");
    for (what, spoil, told) in CASES {
        sh(&root, "mkdir saved; cp -a source vault staging state saved");
        sh(&root, spoil);
        let wrong = judge(&world, &ran, Compare::Equal);
        assert!(wrong.iter().any(|line| line.contains(told)), "{what}: {wrong:#?}");
        sh(&root, "for d in source vault staging state; do rm -r $d; mv saved/$d $d; done; rmdir saved; rm -f s");
    }
    let failed = crate::world::Ran { code: Some(1), log: String::new() };
    assert!(!judge(&world, &failed, Compare::Equal).is_empty());
    assert_eq!(judge(&world, &ran, Compare::Equal), Vec::<String>::new());
}
