//! The unit in a real systemd: it starts, works under the limits that it sets itself, is started again after a kill,
//! stops in order, and what it says can be read in the journal.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(60);

const INSTALL: &str = "
install -m 755 /host/archiver /usr/bin/archiver
install -m 644 /host/archiver.service /lib/systemd/system/archiver.service
install -d -m 700 /etc/archiver
(umask 077; echo correct horse battery staple >/etc/archiver/passphrase)
cp /host/archiver.toml /etc/archiver.toml
mkdir -p /data/deep/er /mnt/vault
for n in 1 2 3 4 5 6; do head -c 700000 /dev/urandom >/data/deep/er/$n; done
ln -s deep/er /data/link
chown -R 1000:1000 /data
chmod -R go= /data
install -D -m 644 /host/archiver.catalog /usr/lib/systemd/catalog/archiver.catalog
journalctl --update-catalog
systemctl daemon-reload";

const CONFIGURATION: &str = r#"
[staging]
cap = "20MB"
[[source]]
name = "data"
path = "/data"
[pack]
max_size = "1MiB"
[encrypt]
passphrase_file = "/etc/archiver/passphrase"
[vault]
url = "file:///mnt/vault"
"#;

const HAS_ENDED: &str = "ls /mnt/vault/*/data/*/index.json.zst.gpg";

/// A booted system with the program, its unit and a configuration in place.
struct Machine {
    dir: TempDir,
}

fn script(args: &[&str]) -> Output {
    Command::new("bash").arg(repository().join("tests/service/box.sh")).args(args).output().unwrap()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Machine {
    fn boot() -> Machine {
        let dir = TempDir::new().unwrap();
        let host = dir.path().join("host");
        fs::create_dir(&host).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_archiver"), host.join("archiver")).unwrap();
        fs::copy(repository().join("packaging/systemd/archiver.service"), host.join("archiver.service")).unwrap();
        let catalog = "packaging/systemd/archiver.catalog";
        fs::copy(repository().join(catalog), host.join("archiver.catalog")).unwrap();
        fs::write(host.join("archiver.toml"), CONFIGURATION).unwrap();
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("debian");
        let machine = Machine { dir };
        let up = script(&["up", root.to_str().unwrap(), &machine.name(), host.to_str().unwrap()]);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        machine.sh(INSTALL);
        machine
    }

    fn name(&self) -> String {
        self.dir.path().join("box").to_str().unwrap().to_owned()
    }

    fn try_sh(&self, line: &str) -> Output {
        script(&["run", &self.name(), "bash", "-euc", line])
    }

    /// What a script prints that must succeed.
    fn sh(&self, line: &str) -> String {
        let out = self.try_sh(line);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{line}\n{said}\n{}", self.journal());
        String::from_utf8(out.stdout).unwrap()
    }

    /// As an operator reads it.
    fn journal(&self) -> String {
        let out = self.try_sh("journalctl -u archiver --no-pager -o cat");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn wait_until(&self, line: &str) {
        let began = Instant::now();
        while !self.try_sh(line).status.success() {
            assert!(began.elapsed() < WAIT, "Waited in vain for {line}\n{}", self.journal());
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        script(&["down", &self.name()]);
    }
}

/// One test, so that the system for it is made once.
#[test]
fn the_unit_does_the_whole_job_under_systemd() {
    if !rustix::process::geteuid().is_root() {
        println!("Only root can boot a system: not tested");
        return;
    }
    let machine = Machine::boot();
    machine.sh("systemctl start archiver");
    machine.wait_until(HAS_ENDED);
    assert!(machine.sh("archiver status").contains("0 lost or damaged"));
    assert_eq!(machine.sh("archiver tree data | grep -c deep/er/."), "6\n");
    the_life_of_a_piece_is_in_the_journal(&machine);
    it_takes_another_configuration_without_a_restart(&machine);
    machine.sh("systemctl stop archiver");
    assert_eq!(machine.sh("systemctl show archiver -p Result --value"), "success\n");
    it_is_started_again_after_a_kill(&machine);
    it_does_not_start_with_a_configuration_that_is_wrong(&machine);
}

fn the_life_of_a_piece_is_in_the_journal(machine: &Machine) {
    let journal = machine.journal();
    for stage in ["pack", "compress", "encrypt", "upload"] {
        let ended = |line: &&str| line.starts_with("Step ended") && line.contains(&format!("stage=\"{stage}\""));
        let line = journal.lines().find(ended).unwrap_or_else(|| panic!("{stage}: {journal}"));
        let fields = ["piece=data.", "input_bytes=", "output_bytes=", "seconds="];
        assert!(fields.iter().all(|field| line.contains(field)), "{line}");
    }
    // Its name has the label from the end of packing on.
    let mut ended = journal.lines().filter(|line| line.starts_with("Step ended"));
    let piece = ended.find_map(|line| line.split("piece=").nth(1)?.split(' ').next()).unwrap();
    let found = machine.sh(&format!("journalctl --no-pager -o cat PIECE='{piece}'"));
    assert!(found.lines().count() >= 7 && found.lines().all(|line| line.contains(piece)), "{found}");
    // From its beginning on, when it had no label yet.
    let field = |name: &str, of: &str| {
        let line = machine.sh(&format!("journalctl --no-pager -n 1 -o verbose {of} | grep ' {name}='"));
        line.trim().split_once('=').unwrap().1.to_owned()
    };
    let id = field("PIECE_ID", &format!("PIECE='{piece}' EVENT=step-ended STAGE=upload"));
    let life = machine.sh(&format!("journalctl --no-pager -o cat -u archiver PIECE_ID='{id}' SOURCE=data"));
    let stages = |what: &str| life.lines().filter(|line| line.starts_with(what)).count();
    assert!((stages("Step started"), stages("Step ended")) >= (4, 4), "{life}");
    let bytes: u64 = field("BYTES", &format!("PIECE_ID='{id}' EVENT=step-ended STAGE=upload")).parse().unwrap();
    assert!(bytes > 0);
}

fn it_takes_another_configuration_without_a_restart(machine: &Machine) {
    let pid = || machine.sh("systemctl show archiver -p MainPID --value");
    let status = "systemctl show archiver -p StatusText --value";
    let before = pid();
    machine.sh("cp /etc/archiver.toml /root/good; sed -i 's/^cap = .*/cap = \"1MB\"/' /etc/archiver.toml");
    let reload = machine.try_sh("systemctl reload archiver");
    assert!(!reload.status.success(), "Whoever reloads is told");
    machine.wait_until(&format!("{status} | grep 'refused.*archiver.toml:3: staging.cap'"));
    machine.sh("rm /etc/archiver.toml");
    assert!(!machine.try_sh("systemctl reload archiver").status.success());
    machine.wait_until(&format!("{status} | grep 'refused.*Cannot read'"));
    machine.sh("cp /root/good /etc/archiver.toml; printf '[upload]\\nbandwidth = \"7MB/s\"\\n' >>/etc/archiver.toml");
    machine.sh("systemctl reload archiver");
    machine.wait_until(&format!("{status} | grep 'Configuration taken'"));
    machine.sh("for n in $(seq 1000); do systemctl kill -s HUP --kill-who=main archiver; done");
    machine.wait_until("systemctl is-active archiver");
    assert_eq!(pid(), before);
    let journal = machine.journal();
    let explained = machine.sh("journalctl --no-pager -x -u archiver EVENT=settings-refused");
    assert!(explained.contains("Mend it, look at it with `archiver check`"), "{explained}");
    assert!(explained.contains("Subject: The configuration was refused"), "{explained}");
    assert!(journal.contains("Setting changed key=\"upload.bandwidth\" old=\"none\" new=\"7MB/s\""), "{journal}");
    machine.sh("cp /root/good /etc/archiver.toml");
}

fn it_is_started_again_after_a_kill(machine: &Machine) {
    machine.sh("mkdir -p /etc/systemd/system/archiver.service.d");
    machine.sh("printf '[Service]\\nRestartSec=1\\n' >/etc/systemd/system/archiver.service.d/soon.conf");
    machine.sh("rm -r /var/lib/archiver /mnt/vault; mkdir /mnt/vault");
    machine.sh("systemctl daemon-reload; systemctl start archiver; systemctl kill -s KILL archiver");
    machine.wait_until("systemctl show archiver -p NRestarts --value | grep -x 1 && systemctl is-active archiver");
    machine.wait_until(HAS_ENDED);
    machine.sh("systemctl stop archiver");
}

fn it_does_not_start_with_a_configuration_that_is_wrong(machine: &Machine) {
    machine.sh("sed -i 's/^cap = .*/cap = \"1MB\"/' /etc/archiver.toml");
    assert!(!machine.try_sh("systemctl start archiver").status.success());
    let journal = machine.journal();
    assert!(journal.contains("/etc/archiver.toml:3: staging.cap: must be at least"), "{journal}");
}
