//! A tree with everything that a filesystem allows, unpacked with stock tools and compared.

use super::{tools::*, *};
use std::ffi::OsStr;

/// Names and link targets with every byte that is a trouble somewhere.
fn names(root: &Path) {
    let names: &[&[u8]] = &[
        b"new\nline",
        b"\x1b[31mred",
        b"-leading",
        b"--checkpoint-action=x",
        b"trail ",
        b" lead",
        b"*?[a]",
        b"a\\b",
        b"\xff\xfe\x80",
        "é日本".as_bytes(),
        b"\"quoted\"",
        b"x=1%2",
        b"\x01\x7f",
        b"~",
        b"PaxHeaders",
        b"...",
    ];
    for name in names {
        let at = root.join(OsStr::from_bytes(name));
        fs::create_dir(&at).unwrap();
        fs::write(at.join(OsStr::from_bytes(name)), name).unwrap();
        std::os::unix::fs::symlink(OsStr::from_bytes(name), at.join("link")).unwrap();
    }
    for len in [99, 100, 101, 255] {
        fs::write(root.join("n".repeat(len)), "long").unwrap();
        fs::create_dir(root.join("d".repeat(len))).unwrap();
        std::os::unix::fs::symlink("t".repeat(len), root.join(format!("to{len}"))).unwrap();
    }
    fs::write(root.join("é".repeat(127)), "").unwrap();
    fs::write(root.join(OsStr::from_bytes(&[0xfe; 255])), "").unwrap();
    std::os::unix::fs::symlink("/x".repeat(2000), root.join("to4000")).unwrap();
    std::os::unix::fs::symlink(OsStr::from_bytes(&[0xfe; 200]), root.join("to\u{e9}")).unwrap();
    let mut deep = root.to_owned();
    for depth in 0..9 {
        deep.push(format!("{depth}").repeat(200));
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("file"), vec![depth; 700]).unwrap();
        fs::write(deep.join("sparse"), "").unwrap();
        File::options().write(true).open(deep.join("sparse")).unwrap().set_len(1 << 20).unwrap();
        sh("ln -s $(printf 'x%.0s' {1..120}) link; ln file hard", &deep);
    }
}

fn metadata(root: &Path) {
    sh(
        "mkdir meta; cd meta
         for t in @-86400.000000001 @-1.5 @-0.5 @-1 @0 @0.000000001 @1.5 @4294967296.25 @8589934591 @8589934592.000000001
         do touch -d $t f$t; mkdir d$t; touch -d $t d$t; ln -s x l$t; touch -h -d $t l$t; done
         touch u; chown 4294967294:4294967294 u; mkdir ud; chown 2097151:2097152 ud; chown 1234:5678 f@0
         touch suid; chmod 6755 suid; mkdir sticky; chmod 1777 sticky; touch none; chmod 0 none; mkdir nodir; chmod 0 nodir
         mkfifo pipe; ln pipe pipe2; mknod null c 1 3; mknod blk b 7 200; mknod big c 4095 1048575; chmod 640 null
         echo a > a; ln a b; mkdir sub; ln a sub/c; ln -s a s; ln s s2; : > empty; mkdir emptydir
         printf %s \"$(seq 1 200000)\" > data; printf x > one; head -c 512 /dev/zero > 512",
        root,
    );
}

fn attributes(root: &Path) {
    sh(
        "mkdir xattr; cd xattr; touch f g h cap; mkdir d; ln -s f l; echo data > f
         setfattr -n user.nul -v 0x61006200 f; setfattr -n user.empty f; setfattr -n user.bin -v 0xff0a3d25 f
         setfattr -n 'user.a=b%3D' -v x f; setfattr -n trusted.t -v x d; setfattr -h -n trusted.l -v y l
         setfattr -n user.large -v 0x$(printf '00%.0s' {1..3000}) g; setfattr -n security.selinux -v system_u h
         setcap cap_net_raw+ep cap; chown 12 cap; setcap cap_net_raw+ep cap
         setfacl -m u:1000:r--,u:4294967294:rwx,g:5:rw-,m::r-x f; setfacl -m d:u:1000:rwx,u:7:x d; ln f hard",
        root,
    );
}

fn sparse(root: &Path) {
    sh(
        "mkdir sparse; cd sparse; truncate -s 1M all; truncate -s 10000001 tail; printf x > head; truncate -s 9999999 head
         printf x >> tail; truncate -s 100M mid; for i in 1 20 21 50 90
         do printf block$i | dd of=mid bs=1M seek=$i conv=notrunc status=none; done; truncate -s 4097 small; ln mid hard
         touch -d @5.5 mid; setfattr -n user.x -v y mid; truncate -s 1M é; truncate -s 1M $'\\xff'",
        root,
    );
}

fn nasty() -> Bench<'static> {
    let bench = Bench::new();
    let root = bench.root();
    names(&root);
    metadata(&root);
    attributes(&root);
    sparse(&root);
    sh("touch -d @1000.25 .; chmod 2751 .", &root);
    bench
}

#[test]
fn stock_tar_brings_everything_back() {
    let bench = nasty();
    let items = walk(&bench.root());
    let count = items.len() as u64;
    let outcome = bench.pack_items(items).unwrap();
    assert_eq!(exceptions(&outcome.packed), []);
    assert_eq!((outcome.packed.range.counts.seen, outcome.packed.range.counts.clean), (count, count));
    assert!(outcome.packed.tar_size < 20 << 20, "holes take no room");
    let to = bench.dir.path().join("restored");
    unpack(&bench.tar(), &to);
    assert_same(&snapshot(&bench.root()), &snapshot(&to));
    assert_eq!(sh("find . -type f -size +90M -printf '%b\n' | awk '$1 > 1000'", &to), "", "holes are holes again");
}

#[test]
fn every_reader_sees_every_member() {
    let bench = nasty();
    let count = bench.pack().unwrap().packed.range.members as usize;
    assert_eq!(bsdtar_count(&bench.tar()), count);
    assert_eq!(python_names(&bench.tar()).len(), count);
    let tar = bench.tar();
    let listed = sh(&format!("tar --warning=no-unknown-keyword -tf {}", tar.to_str().unwrap()), Path::new("/"));
    assert_eq!(listed.lines().count(), count);
}

#[test]
fn bsdtar_unpacks_the_same_content() {
    let bench = nasty();
    bench.pack().unwrap();
    let to = bench.dir.path().join("restored");
    fs::create_dir(&to).unwrap();
    let output = run("bsdtar", &["-xpf", bench.tar().to_str().unwrap(), "--numeric-owner"], &to);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let content =
        "find . -type f -print0 | sort -z | xargs -0r sha256sum; find . -printf '%P|%y|%l|%U|%G|%n\\0' | sort -z";
    assert_same(&sh(content, &bench.root()), &sh(content, &to));
}

#[test]
fn the_list_says_what_is_in_the_tree() {
    let bench = nasty();
    bench.pack().unwrap();
    let mut names = Vec::new();
    for member in bench.members() {
        let source = member.source_path().unwrap();
        let at = bench.root().join(source.as_path());
        let meta = lstat(&at).unwrap();
        if meta.kind == Kind::File {
            assert_eq!(member.sha256, Some(sha256(&fs::read(&at).unwrap())), "{source}");
            assert_eq!(member.size, if member.has_note("hardlink") { 0 } else { meta.size }, "{source}");
        }
        assert_eq!(member.has_note("linked") || member.has_note("hardlink"), meta.kind != Kind::Dir && meta.nlink > 1);
        assert_eq!(member.xattr_sha256.is_some(), !xattrs(&at).unwrap().is_empty(), "{source}");
        assert_eq!(member.rdev.unwrap_or(0), meta.rdev, "{source}");
        names.push(source);
    }
    let walked: Vec<SourcePath> = walk(&bench.root()).iter().map(|item| item.path().clone()).collect();
    assert_eq!(names, walked);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let bench = nasty();
    let first = bench.pack().unwrap().packed;
    assert_eq!(bench.pack().unwrap().packed, first);
}

#[test]
fn pages_of_the_source_are_given_back() {
    let bench = Bench::new();
    let at = bench.write("file", noise(20 << 20));
    sh("sync file", &bench.root());
    let cached = || sh(&format!("fincore -nbo PAGES {}", at.to_str().unwrap()), Path::new("/")).trim().to_owned();
    assert_ne!(cached(), "0");
    bench.pack().unwrap();
    assert_eq!(cached(), "0");
}
