//! A throw-away installation of the real binary whose vault is in S3: the server lives in the test, and outlives it.

use crate::{
    direct::write_keys,
    tools::{BUCKET, Random, dir, sh, wait_until},
};
use archiver_s3_double::{self as double, Double, Entry};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The program under test: the one that was built with this test, or another that a campaign names.
fn binary() -> String {
    env::var("ARCHIVER_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_archiver").to_owned())
}

/// A run that takes longer hangs, unless it is told to be that slow.
const RUN_MAX: Duration = Duration::from_secs(120);
/// The name of rules that take a body in and never do anything with it.
pub const HANGS: &str = "hangs";

/// How a run ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    /// As a shell says it; `None` when it had to be killed because it hung.
    pub code: Option<i32>,
    pub log: String,
}

pub struct World {
    pub double: Double,
    /// Where the binary looks for the server.
    pub endpoint: String,
    /// Of a piece, bytes.
    pub max_size: u64,
    /// The lines of `[vault]` that say who we are.
    pub identity: String,
    /// More lines of `[vault]`.
    pub vault: String,
    /// More sections.
    pub more: String,
    /// More of its environment.
    pub env: Vec<(String, String)>,
    dir: TempDir,
}

impl World {
    /// With so many pieces, each of two parts of 8 MiB and a third of about 1 MiB.
    pub fn new(pieces: u64) -> World {
        let dir = dir();
        for name in ["source", "objects"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for piece in 0..pieces {
            fs::write(dir.path().join(format!("source/{piece:02}")), content(piece)).unwrap();
        }
        let options = double::Options { directory: Some(dir.path().join("objects")), ..double::Options::default() };
        let double = Double::spawn(options.buckets(&[BUCKET]));
        let endpoint = double.endpoint();
        let (vault, more) = ("concurrency = 3".to_owned(), String::new());
        let identity = format!("credentials_file = \"{}/credentials\"", dir.path().display());
        let world = World { double, endpoint, max_size: 18 << 20, identity, vault, more, env: Vec::new(), dir };
        world.write_keys(double::ACCESS_KEY, double::SECRET_KEY);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write_keys(&self, access: &str, secret: &str) {
        write_keys(&self.path("credentials"), access, secret);
    }

    fn config(&self) -> PathBuf {
        let (root, endpoint) = (self.dir.path().display(), &self.endpoint);
        let (identity, vault, more) = (&self.identity, &self.vault, &self.more);
        let (max_size, cap) = (self.max_size, self.max_size * 4);
        let bucket = if vault.contains("url =") { String::new() } else { format!("url = \"s3://{BUCKET}/lab\"") };
        let text = format!(
            "state = \"{root}/state\"\ntime_zone = \"UTC\"\n[staging]\npath = \"{root}/staging\"\ncap = {cap}\n\
             [[source]]\nname = \"data\"\npath = \"{root}/source\"\n[pack]\nmax_size = {max_size}\n\
             [compress]\nmethod = \"none\"\n[encrypt]\nmethod = \"none\"\n\
             [vault]\n{bucket}\nendpoint_url = \"{endpoint}\"\npath_style = true\nhost = \"nas1\"\n\
             {identity}\npart_size = \"8MiB\"\n{vault}\n{more}\n"
        );
        let file = self.path("archiver.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// Starts `archiver …`, its log in a file, so that nothing ever waits for a reader.
    pub fn start(&self, args: &[&str]) -> Running {
        let log = self.path("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.config()).args(args).envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Running { child: command.spawn().unwrap(), log, began: Instant::now() }
    }

    /// Runs it to its end. What it printed is given as well.
    pub fn start_and_read(&self, args: &[&str]) -> (Ran, String) {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", &RUN_MAX.as_secs().to_string(), &binary(), "--config"]).arg(self.config());
        let out = command.args(args).envs(self.env.iter().cloned()).stdin(Stdio::null()).output().unwrap();
        let ran = Ran { code: out.status.code(), log: String::from_utf8_lossy(&out.stderr).into_owned() };
        (ran, String::from_utf8(out.stdout).unwrap())
    }

    pub fn run_once(&self) -> Ran {
        self.start(&["run", "--once"]).wait()
    }

    /// One that waits for what needs an operator as well.
    pub fn run_patiently(&self, seconds: u32) -> Ran {
        self.start(&["run", "--once", "--give-up-after", &format!("{seconds}s")]).wait()
    }

    /// What is wrong after a run that could deliver nothing: it must say why, end with 4, and keep the queue.
    pub fn wrong_when_refused(&self, ran: &Ran, told: &[&str]) -> Vec<String> {
        let mut wrong = self.false_receipts();
        if ran.code != Some(4) {
            wrong.push(format!("it ended with {:?}\n{}", ran.code, ran.log));
        }
        // Of the class, and with the last word.
        let last = ran.log.lines().rfind(|line| line.contains("Cannot go on trouble=\"vault\"")).unwrap_or_default();
        let missing: Vec<_> = told.iter().filter(|told| !last.contains(**told)).collect();
        if !missing.is_empty() || last.is_empty() {
            wrong.push(format!("{missing:?} is not told: {}", ran.log));
        }
        let (pieces, kept) = (&self.status()["sources"][0]["pieces"], self.path("staging/gpg"));
        if pieces["sealed"] != 1 || pieces["delivered"] != 0 || fs::read_dir(kept).map_or(0, Iterator::count) == 0 {
            wrong.push(format!("the queue is not kept: {pieces}"));
        }
        wrong
    }

    /// What is wrong after one more run, which must deliver everything.
    pub fn wrong_when_healed(&self) -> Vec<String> {
        let ran = self.run_once();
        let mut wrong = self.wrong();
        if ran.code != Some(0) {
            wrong.push(format!("healed, it ended with {:?}\n{}", ran.code, ran.log));
        }
        wrong
    }

    /// What `archiver COMMAND…` prints.
    pub fn ask(&self, args: &[&str]) -> String {
        let out = Command::new(binary()).arg("--config").arg(self.config()).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Pieces, as the catalog knows them; none before there is one.
    pub fn pieces(&self) -> Vec<Value> {
        if self.status()["sources"][0]["pass"].is_null() {
            return Vec::new();
        }
        self.json_lines(&["ls", "--all", "--json"])
    }

    /// What it prints, one value a line.
    pub fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        self.ask(args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ask(&["status", "--json"])).unwrap()
    }

    /// What the catalog calls delivered and the server does not hold as it was made. Must always be nothing.
    pub fn false_receipts(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for piece in self.pieces().iter().filter(|piece| piece["state"] == "delivered") {
            let key = format!("lab/{}", piece["key"].as_str().unwrap());
            let manifest = format!("lab/{}", piece["manifest_key"].as_str().unwrap());
            match self.double.object(BUCKET, &key) {
                None => wrong.push(format!("{key} is delivered and not there")),
                Some(object) if Some(object.size) != piece["sealed_size"].as_u64() => {
                    wrong.push(format!("{key} is of {} bytes", object.size));
                }
                Some(object) if object.class != "DEEP_ARCHIVE" => wrong.push(format!("{key} is {}", object.class)),
                Some(_) if self.double.object(BUCKET, &manifest).is_none() => wrong.push(format!("no {manifest}")),
                Some(_) => {}
            }
        }
        wrong
    }

    /// What is wrong after everything should have been delivered.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.false_receipts();
        let pieces = self.pieces();
        let keys: Vec<String> = self.double.objects(BUCKET).into_keys().collect();
        let count = |end: &str| keys.iter().filter(|key| key.ends_with(end)).count();
        let (tars, manifests) = (count(".tar"), count(".manifest.jsonl.zst"));
        if pieces.is_empty() || pieces.iter().any(|piece| piece["state"] != "delivered") {
            wrong.push(format!("not all is delivered: {pieces:?}"));
        }
        if (tars, manifests) != (pieces.len(), pieces.len()) || count("index.json.zst") != 1 {
            wrong.push(format!("{} pieces, and in the vault {keys:?}", pieces.len()));
        }
        wrong.extend(self.double.uploads(BUCKET).iter().map(|upload| format!("the upload of {} is left", upload.key)));
        for dir in ["tmp", "tar", "xz", "gpg", "list"] {
            let left = fs::read_dir(self.path("staging").join(dir)).map_or(0, Iterator::count);
            if left > 0 {
                wrong.push(format!("{left} files are left in {dir}"));
            }
        }
        wrong.extend(self.differences());
        wrong
    }

    /// What the vault gives back by stock tools, and the source does not hold, or the other way round.
    fn differences(&self) -> Option<String> {
        let back = self.path("back");
        let _ = fs::remove_dir_all(&back);
        fs::create_dir(&back).unwrap();
        for (key, object) in self.double.objects(BUCKET) {
            if key.ends_with(".tar") {
                fs::write(self.path("object"), object.bytes()).unwrap();
                sh(&back, "tar --no-same-owner -xpf ../object");
            }
        }
        let told = sh(self.dir.path(), "diff -r source back 2>&1 || true");
        (!told.is_empty()).then_some(told)
    }

    /// Parts that came whole more than once, of pieces: what should not have been sent again.
    pub fn parts_again(&self) -> Vec<String> {
        let mut whole: BTreeMap<(String, i32), u64> = BTreeMap::new();
        for entry in self.double.log_of("UploadPart").iter().filter(|entry| is_whole(entry)) {
            *whole.entry((entry.key.clone().unwrap(), entry.part.unwrap())).or_default() += 1;
        }
        let again = whole.into_iter().filter(|(_, times)| *times > 1);
        again.map(|((key, part), times)| format!("part {part} of {key} was sent {times} times")).collect()
    }

    /// Waits until the server has dealt with what came before the client went away. Those that hang do so for ever.
    pub fn settle(&self) {
        wait_until("the server rests", || {
            self.double.log().iter().all(|entry| entry.took.is_some() || entry.rule.is_some())
        });
    }
}

/// Taken by the server and stored, whether it could still say so or not.
pub fn is_whole(entry: &Entry) -> bool {
    let is_stored = entry.content_length == Some(entry.received) && entry.rule.as_deref() != Some(HANGS);
    entry.status == Some(200) || entry.status.is_none() && is_stored
}

/// Of one file; made once, since that takes longer than anything that is done with it.
fn content(piece: u64) -> &'static [u8] {
    static MADE: [OnceLock<Vec<u8>>; 4] = [const { OnceLock::new() }; 4];
    MADE[piece as usize].get_or_init(|| Random::new(piece).bytes(17 << 20))
}

pub struct Running {
    child: Child,
    log: PathBuf,
    began: Instant,
}

impl Running {
    pub fn wait(self) -> Ran {
        self.wait_for(RUN_MAX)
    }

    /// Waits for its end, and kills it if it hangs.
    pub fn wait_for(mut self, at_most: Duration) -> Ran {
        let mut code = None;
        while self.began.elapsed() < at_most {
            if let Some(status) = self.child.try_wait().unwrap() {
                code = Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
                break;
            }
            thread::sleep(Duration::from_millis(3));
        }
        self.kill();
        Ran { code, log: self.log() }
    }

    /// Kills it as the system would, unless it has ended.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn terminate(self) -> Ran {
        self.signal(rustix::process::Signal::TERM);
        self.wait_for(Duration::from_secs(600))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
