//! A booted system of its own, as a container.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(120);
/// What an upgrade is to.
const NEWER: &str = "999";

pub struct Machine {
    dir: TempDir,
}

fn script(args: &[&str]) -> Output {
    Command::new("bash").arg(repository().join("tests/service/box.sh")).args(args).output().unwrap()
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Of Debian; that of this machine if empty.
fn suite() -> String {
    env::var("ARCHIVER_SYSTEMD").unwrap_or_default()
}

impl Machine {
    /// With packages of the program in /host: `older.deb` and `newer.deb`.
    pub fn boot() -> Machine {
        let dir = TempDir::new().unwrap();
        let host = dir.path().join("host");
        fs::create_dir(&host).unwrap();
        for (name, version) in [("older", env!("CARGO_PKG_VERSION")), ("newer", NEWER)] {
            let out = dir.path().join(name);
            let program = format!("BINARY={}", env!("CARGO_BIN_EXE_archiver"));
            let args = ["deb", &program, &format!("VERSION={version}"), &format!("OUT={}", out.display())];
            let made = Command::new("make").current_dir(repository()).args(args).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let package = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
            fs::copy(package, host.join(format!("{name}.deb"))).unwrap();
        }
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("debian{}", suite()));
        let machine = Machine { dir };
        let up = script(&["up", root.to_str().unwrap(), &machine.name(), host.to_str().unwrap(), &suite()]);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        println!("{}", machine.sh("systemctl --version | head -n 1"));
        machine
    }

    fn name(&self) -> String {
        self.dir.path().join("box").to_str().unwrap().to_owned()
    }

    /// Puts a file where the machine sees it as /host/NAME.
    pub fn hand(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join("host").join(name), content).unwrap();
    }

    pub fn try_sh(&self, line: &str) -> Output {
        script(&["run", &self.name(), "timeout", "90", "bash", "-euc", line])
    }

    /// What a script prints that must succeed.
    pub fn sh(&self, line: &str) -> String {
        let out = self.try_sh(line);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{line}\n{said}\n{}", self.journal());
        String::from_utf8(out.stdout).unwrap()
    }

    /// As an operator reads it.
    pub fn journal(&self) -> String {
        let out = self.try_sh("journalctl -u archiver -u archiver-failure -u 'archiver-restore@*' --no-pager -o cat");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    pub fn wait_until(&self, line: &str) {
        let began = Instant::now();
        while !self.try_sh(line).status.success() {
            assert!(began.elapsed() < WAIT, "Waited in vain for {line}\n{}", self.journal());
        }
    }

    /// The first process of the machine, as this machine numbers it.
    fn leader(&self) -> String {
        fs::read_to_string(self.dir.path().join("box/leader")).unwrap().trim().to_owned()
    }

    /// Where a path of the machine is seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader()))
    }

    /// A thread of the daemon by its name, as this machine numbers it.
    pub fn thread(&self, name: &str) -> u32 {
        let leader = self.leader();
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let numbers =
            |dir: &str| entries(dir).filter_map(|name| name.to_str()?.parse::<u32>().ok()).collect::<Vec<_>>();
        let comm = |path: String| fs::read_to_string(path).unwrap_or_default();
        let is_daemon =
            |pid: &u32| comm(format!("/proc/{pid}/comm")) == "archiver\n" && space(&pid.to_string()) == space(&leader);
        let threads = numbers("/proc")
            .into_iter()
            .filter(is_daemon)
            .flat_map(|pid| numbers(&format!("/proc/{pid}/task")).into_iter().map(move |thread| (pid, thread)));
        let mut named = threads.filter(|(pid, thread)| comm(format!("/proc/{pid}/task/{thread}/comm")).trim() == name);
        named.next().unwrap_or_else(|| panic!("There is no thread {name}")).1
    }

    /// Another configuration, nothing of an earlier run, and a daemon that goes by it.
    pub fn begin(&self, configuration: &str) {
        self.prepare(configuration);
        self.sh("systemctl start archiver");
    }

    /// The same without a start.
    pub fn prepare(&self, configuration: &str) {
        self.hand("archiver.toml", configuration);
        self.sh("systemctl stop archiver; systemctl reset-failed archiver || true
            rm -rf /var/lib/archiver/* /mnt/vault; install -d -o archiver -m 700 /mnt/vault
            cp /host/archiver.toml /etc/archiver.toml; systemctl daemon-reload");
    }

    /// A drop-in of the unit, or none, for the next start.
    pub fn drop_in(&self, text: &str) {
        self.hand("drop-in.conf", text);
        self.sh("d=/etc/systemd/system/archiver.service.d; mkdir -p $d; cp /host/drop-in.conf $d/test.conf
            systemctl daemon-reload");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        script(&["down", &self.name()]);
    }
}
