//! The tools of a restore, and those that compare trees.

use std::{
    path::Path,
    process::{Command, Output},
};

pub fn run(program: &str, args: &[&str], dir: &Path) -> Output {
    Command::new(program).args(args).current_dir(dir).env("LC_ALL", "C.UTF-8").output().unwrap()
}

/// Standard output of a script that must succeed and say nothing on standard error.
pub fn sh(script: &str, dir: &Path) -> String {
    let output = run("bash", &["-euc", &format!("set -o pipefail; {script}")], dir);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{script}: {}", text(&output.stderr));
    output.stdout.iter().map(|b| char::from(*b)).collect()
}

/// Unpacks as the contract says. Nothing may be said about it but that times are strange, and that names are not UTF-8.
pub fn unpack(tar: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let script = "tar --numeric-owner --acls --xattrs --xattrs-include='*' -xpf - < $0";
    let output = run("bash", &["-c", script, tar.to_str().unwrap()], to);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let harmless = ["implausibly old time stamp", " in the future", "keyword 'hdrcharset'"];
    let said: Vec<&str> = said.lines().filter(|line| !harmless.iter().any(|h| line.contains(h))).collect();
    assert!(output.status.success() && said.is_empty(), "{said:?}");
}

/// Fails on the first part that is not the same.
pub fn assert_same(was: &str, is: &str) {
    let parts = |text: &str| -> Vec<String> { text.split(['\0', '\n']).map(str::to_owned).collect() };
    let (was, is) = (parts(was), parts(is));
    was.iter().zip(&is).for_each(|(was, is)| assert_eq!(is, was));
    assert_eq!(is.len(), was.len());
}

/// Everything that a restore must bring back, as text.
pub fn snapshot(dir: &Path) -> String {
    let facts = "%P|%y|%m|%U|%G|%T@|%n|%l";
    [
        format!("find . -type d -printf '{facts}\\0' -o -printf '{facts}|%s\\0' | sort -z"),
        "find . \\( -type b -o -type c \\) -print0 | sort -z | xargs -0r stat -c '%n %t %T'".to_owned(),
        "getfattr -R -P -h -d -m - -e hex . ".to_owned(),
        "getfacl -R -P -n .".to_owned(),
        "find . -type f -print0 | sort -z | xargs -0r sha256sum".to_owned(),
    ]
    .iter()
    .map(|script| sh(script, dir))
    .collect()
}

/// Names as python's tarfile reads them, one per line, with escapes; fails on any damage.
pub fn python_names(tar: &Path) -> Vec<String> {
    let script = "import sys, tarfile\nfor m in tarfile.open(sys.argv[1], errorlevel=2): print(ascii(m.name))";
    let output = run("python3", &["-c", script, tar.to_str().unwrap()], Path::new("/"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// How many members bsdtar lists; it must have no complaint.
pub fn bsdtar_count(tar: &Path) -> usize {
    let output = run("bsdtar", &["-tf", tar.to_str().unwrap()], Path::new("/"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // It escapes line breaks in names.
    output.stdout.iter().filter(|b| **b == b'\n').count()
}
