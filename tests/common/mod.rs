//! What tests of the whole program share: a `World` with a source, a state, a staging and a vault of its own, the
//! real binary, and the stock tools that must be able to read what it writes.
//!
//! Nothing here uses the library: what the program did is looked at from outside.
#![allow(dead_code)]

pub mod server;
pub mod snapshot;

use serde_json::Value;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_archiver");

/// What unpacks a piece, as the runbook says.
const TAR: &str = "tar --numeric-owner --acls --xattrs --xattrs-include='*' -xpf -";

/// A run that takes longer hangs.
const RUN_SECONDS_MAX: &str = "120";

/// What is written into the configuration, in sections; change it before a command.
pub struct Setup {
    pub max_size: String,
    pub cap: String,
    /// More lines of `[[source]]`.
    pub source: String,
    /// More lines of `[pack]`.
    pub pack: String,
    pub method: String,
    /// The lines of `[encrypt]`.
    pub encrypt: String,
    /// Of the vault; a directory of the world without it.
    pub url: Option<String>,
    /// More lines of `[vault]`.
    pub vault: String,
    /// More sections, at the end.
    pub more: String,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    /// -1: ended by a signal.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr }
    }

    /// It ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stderr:\n{}", self.stderr);
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// One object per line.
    pub fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

pub fn json_lines(text: &[u8]) -> Vec<Value> {
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap_or_else(|err| panic!("{err}: {line:?}"))).collect()
}

pub struct World {
    pub root: TempDir,
    pub source: PathBuf,
    pub state: PathBuf,
    pub staging: PathBuf,
    pub vault: PathBuf,
    pub passphrase: PathBuf,
    pub setup: Setup,
    /// Sockets of agents live in it, whose paths must be short.
    gnupg: TempDir,
}

impl World {
    pub fn new() -> World {
        let root = TempDir::new().unwrap();
        let dir = |name: &str| {
            let dir = root.path().join(name);
            fs::create_dir(&dir).unwrap();
            dir
        };
        let (source, state, staging, vault) = (dir("source"), dir("state"), dir("staging"), dir("vault"));
        let passphrase = root.path().join("passphrase");
        fs::write(&passphrase, "correct horse battery staple of a test\n").unwrap();
        fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
        let gnupg = tempfile::Builder::new().prefix("g").tempdir_in("/tmp").unwrap();
        fs::set_permissions(gnupg.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let encrypt = format!("passphrase_file = {passphrase:?}");
        let setup = Setup {
            max_size: "1MiB".to_owned(),
            cap: "32MiB".to_owned(),
            source: String::new(),
            pack: "checkpoint = \"1MiB\"".to_owned(),
            method: "xz".to_owned(),
            encrypt,
            url: None,
            vault: String::new(),
            more: String::new(),
        };
        World { source, state, staging, vault, passphrase, setup, gnupg, root }
    }

    /// The configuration file, written anew from `setup`.
    pub fn config(&self) -> PathBuf {
        let Setup { max_size, cap, source, pack, method, encrypt, url, vault, more } = &self.setup;
        let url = url.clone().unwrap_or_else(|| format!("file://{}", self.vault.display()));
        let level = if method == "none" { "" } else { "level = 1" };
        let text = format!(
            "state = {:?}\n[staging]\npath = {:?}\ncap = \"{cap}\"\n[[source]]\nname = \"data\"\npath = {:?}\n{source}\n\
             [pack]\nmax_size = \"{max_size}\"\n{pack}\n[compress]\nmethod = \"{method}\"\n{level}\n[encrypt]\n{encrypt}\n\
             [vault]\nurl = \"{url}\"\nhost = \"nas1\"\n{vault}\n{more}\n",
            self.state, self.staging, self.source,
        );
        let file = self.root.path().join("archiver.toml");
        // A daemon may be reading it.
        if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            fs::write(&file, text).unwrap();
        }
        file
    }

    /// `archiver --config …` with these arguments, to its end.
    pub fn archiver<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", RUN_SECONDS_MAX, BINARY, "--config"]).arg(self.config()).args(args);
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    pub fn run_once(&self) -> Ran {
        self.archiver(&["run", "--once"])
    }

    /// `run --once` under strace with these options, which say what is to go wrong.
    pub fn run_once_under_strace(&self, options: &[&OsStr]) -> Ran {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", RUN_SECONDS_MAX, "strace", "-f", "-o", "/dev/null"]).args(options);
        command.args(["--", BINARY, "--config"]).arg(self.config()).args(["run", "--once"]);
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// `run --once`, which is stopped during its first read of `file`, and goes on when `change` is done, which is given
    /// the id of the process. The code that it ends with.
    pub fn run_once_while(&self, file: &Path, change: impl FnOnce(&str)) -> i32 {
        let log = self.root.path().join("strace.log");
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60", "strace", "-f", "-o"]).arg(&log).arg("-P").arg(file);
        command.args(["-e", "inject=pread64:signal=STOP:when=1", "--", BINARY, "--config"]).arg(self.config());
        let mut run = command.args(["run", "--once"]).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        let pid = loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(line) = text.lines().find(|line| line.contains("--- stopped by SIGSTOP ---")) {
                break line.split(' ').next().unwrap().to_owned();
            }
            assert!(began.elapsed() < Duration::from_secs(50), "It never read the file: {text}");
            thread::yield_now();
        };
        change(&pid);
        assert!(Command::new("kill").args(["-CONT", &pid]).status().unwrap().success());
        run.wait().unwrap().code().unwrap_or(-1)
    }

    /// A daemon (or any other command) that goes on; the caller ends it.
    pub fn spawn(&self, args: &[&str]) -> std::process::Child {
        self.spawn_with(args, &[])
    }

    /// With more in its environment.
    pub fn spawn_with(&self, args: &[&str], environment: &[(&str, &str)]) -> std::process::Child {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(self.config()).args(args).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The pieces of the last pass that stand, as `ls --json` tells them.
    pub fn pieces(&self) -> Vec<Value> {
        self.archiver(&["ls", "data", "--json"]).expect(0).json_lines()
    }

    /// The keys of [`Self::pieces`].
    pub fn keys(&self) -> Vec<String> {
        self.pieces()
            .iter()
            .map(|piece| piece["key"].as_str().expect("a delivered piece has a key").to_owned())
            .collect()
    }

    pub fn exceptions(&self) -> Vec<Value> {
        self.archiver(&["exceptions", "--json"]).expect(0).json_lines()
    }

    /// Runs a script of stock tools with `set -eu -o pipefail` and the keys of this world.
    pub fn bash<S: AsRef<OsStr>>(&self, script: &str, args: &[S]) -> Ran {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("set -eu -o pipefail; {script}"), "bash"]).args(args);
        command.env("GNUPGHOME", self.gnupg.path()).env("LC_ALL", "C");
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// What decrypts an object that is named as its last argument; `cat` without encryption.
    fn gpg(&self, key: &str) -> String {
        match key.strip_suffix(".gpg") {
            None => "cat".to_owned(),
            Some(_) if self.setup.encrypt.contains("passphrase_file") => {
                format!("gpg --batch -q --no-tty --pinentry-mode loopback --passphrase-file {:?} -d", self.passphrase)
            }
            Some(_) => "gpg --batch -q --no-tty -d".to_owned(),
        }
    }

    fn decompressor(key: &str) -> &'static str {
        match key.strip_suffix(".gpg").unwrap_or(key) {
            key if key.ends_with(".xz") => "xz -d",
            key if key.ends_with(".zst") => "zstd -q -d",
            _ => "cat",
        }
    }

    /// An object of the vault in the clear.
    pub fn open_object(&self, key: &str) -> Vec<u8> {
        let script = format!("{} \"$1\" | {}", self.gpg(key), World::decompressor(key));
        self.bash(&script, &[self.vault.join(key)]).expect(0).stdout
    }

    /// Unpacks one piece into a directory, with stock tools alone. Gives its tar, which is kept.
    pub fn open_piece_alone(&self, key: &str, dir: &Path) -> PathBuf {
        let script = format!("{} \"$1\" | {} | tee \"$3\" | {TAR} -C \"$2\"", self.gpg(key), World::decompressor(key));
        let tar = self.root.path().join(format!("{}.plain", key.replace('/', "_")));
        let ran = self.bash(&script, &[self.vault.join(key).as_path(), dir, &tar]).expect(0);
        assert_eq!(complaints(&ran.stderr), "", "The tools have something to say of {key}");
        tar
    }

    /// Unpacks a plain tar into a directory.
    pub fn untar(&self, tar: &Path, dir: &Path) {
        let ran = self.bash(&format!("{TAR} -C \"$2\" < \"$1\""), &[tar, dir]).expect(0);
        assert_eq!(complaints(&ran.stderr), "", "tar has something to say of {tar:?}");
    }

    /// The key of the manifest of a piece.
    pub fn manifest_key(key: &str) -> String {
        let stem = &key[..key.rfind(".tar").expect("a piece is a tar")];
        let sealed = if key.ends_with(".gpg") { ".gpg" } else { "" };
        format!("{stem}.manifest.jsonl.zst{sealed}")
    }

    /// The manifest of a piece as it is in the vault.
    pub fn manifest(&self, key: &str) -> Manifest {
        let mut lines = json_lines(&self.open_object(&World::manifest_key(key)));
        let range = lines.pop().unwrap()["range"].take();
        let head = lines.remove(0)["piece"].take();
        assert!(head.is_object() && range.is_object(), "{key}");
        Manifest { head, members: lines, range }
    }

    /// Joins what was cut into segments, keeping the metadata of the file and of the directory that it is in.
    pub fn join_segments(&self, file: &Path) {
        let script = "d=$(dirname \"$1\"); s=$(mktemp -p /tmp); touch -r \"$d\" \"$s\"; cp -a -- \"$1/000001\" \"$1.joined\"; \
                      cat -- \"$1\"/* > \"$1.joined\"; touch -r \"$1/000001\" \"$1.joined\"; rm -r -- \"$1\"; \
                      mv -T -- \"$1.joined\" \"$1\"; touch -r \"$s\" \"$d\"; rm \"$s\"";
        self.bash(script, &[file]).expect(0);
    }

    /// An empty directory of this name.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.root.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Every object in the vault, relative to it; not what the vault keeps for itself.
    pub fn objects(&self) -> Vec<String> {
        let found = self.bash("cd \"$1\"; find . -type f -not -path './.*' -printf '%P\\n' | sort", &[&self.vault]);
        found.expect(0).text().lines().map(str::to_owned).collect()
    }
}

/// Makes a tree of everything that a filesystem can hold, but for its sizes.
const NASTY: &str = include_str!("nasty.sh");
/// Adds sizes.
const SIZES: &str = include_str!("sizes.sh");

impl World {
    /// A source of everything that a filesystem can hold: about three pieces of 1 MiB.
    pub fn nasty() -> World {
        let world = World::new();
        world.fill(NASTY);
        world
    }

    /// More of it: files as large as a piece, a byte more or less, and many small ones.
    pub fn nasty_and_large() -> World {
        let world = World::nasty();
        world.fill(SIZES);
        world
    }

    /// Runs a script in the source.
    pub fn fill(&self, script: &str) {
        self.bash(&format!("cd \"$1\"; {script}"), &[&self.source]).expect(0);
    }

    /// A new key pair, the secret half in the keyring of this world: the file of its certificate, and its fingerprint.
    pub fn certificate(&self, user: &str) -> (PathBuf, String) {
        let file = self.root.path().join(format!("{user}.asc"));
        let script = "gpg --batch -q --passphrase '' --quick-gen-key \"$1@example.org\" future-default default never; \
                      gpg --batch --armor --export \"$1@example.org\" > \"$2\"; \
                      gpg --batch --with-colons --list-keys \"$1@example.org\" | grep -m 1 ^fpr | cut -d : -f 10";
        let ran = self.bash(script, &[OsStr::new(user), file.as_os_str()]).expect(0);
        (file, ran.text().trim().to_owned())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--kill", "gpg-agent"]).env("GNUPGHOME", self.gnupg.path()).output();
    }
}

/// What tar says, but for its wonder about old and future times, which it restores all the same.
fn complaints(stderr: &str) -> String {
    let is_wonder = |line: &&str| line.contains("implausibly old time stamp") || line.ends_with(" s in the future");
    stderr.lines().filter(|line| !is_wonder(line)).collect::<Vec<_>>().join("\n")
}

/// Of one piece, as JSON.
pub struct Manifest {
    pub head: Value,
    pub members: Vec<Value>,
    pub range: Value,
}

impl Manifest {
    /// Members by path, without the final `/` of directories; the root is empty.
    pub fn by_path(&self) -> BTreeMap<Vec<u8>, &Value> {
        self.members.iter().map(|member| (path_of(member), member)).collect()
    }
}

/// The path in a line of a manifest or of `exceptions --json`, the root being empty.
pub fn path_of(line: &Value) -> Vec<u8> {
    let mut path = match (&line["path"], &line["path_b64"]) {
        (Value::String(path), Value::Null) => path.clone().into_bytes(),
        (Value::Null, Value::String(coded)) => base64(coded),
        _ => panic!("either path or path_b64: {line}"),
    };
    if path == b"./" {
        path.clear();
    }
    if path.last() == Some(&b'/') {
        path.pop();
    }
    path
}

fn base64(text: &str) -> Vec<u8> {
    let script = "printf %s \"$1\" | base64 -d";
    let output = Command::new("bash").args(["-c", script, "bash", text]).output().unwrap();
    assert!(output.status.success(), "{text}");
    output.stdout
}

pub fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Of a path, for messages.
pub fn shown(bytes: &[u8]) -> String {
    format!("{:?}", OsStr::from_bytes(bytes))
}
