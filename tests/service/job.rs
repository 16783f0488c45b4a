//! The work under the limits of the unit.

use crate::machine::Machine;

/// Three sources that only the right to read everything opens, one of them the whole system; staging and vault where
/// the unit alone would not let it write.
pub const CONFIGURATION: &str = r#"
[staging]
path = "/arch ive/100%"
cap = "20MB"
[[source]]
name = "data"
path = "/data"
[[source]]
name = "homes"
path = "/home"
[[source]]
name = "system"
path = "/"
exclude = ["/*", "/var/*"]
include = ["/home", "/var", "/var/tmp"]
one_file_system = true
[pack]
max_size = "1MiB"
[encrypt]
passphrase_file = "/etc/archiver/passphrase"
[vault]
url = "file:///mnt/vault"
"#;

/// Makes what is archived.
pub const SOURCES: &str = "
mkdir -p /data/deep/er /mnt/vault
for n in 1 2 3 4 5 6; do head -c 700000 /dev/urandom >/data/deep/er/$n; done
ln -s deep/er /data/link
cd /home; mkdir -p ann/private bob
echo mine >ann/private/diary; echo too >bob/notes; echo here | tee /tmp/in-tmp >/var/tmp/in-tmp
chown -R 1000:1000 /data ann; chown -R 1001:1001 bob
chmod -R go= /data ann bob";

pub const HAVE_ENDED: &str = "for source in data homes system; do ls /mnt/vault/*/$source/*/index.json.zst.gpg; done";

pub fn everything_is_archived_by_a_user_of_its_own(machine: &Machine) {
    machine.begin(CONFIGURATION);
    machine.wait_until(HAVE_ENDED);
    machine.wait_until("test $(archiver status | grep -c '0 lost or damaged') = 3");
    assert_eq!(machine.sh("for source in data homes system; do archiver exceptions $source; done"), "");
    assert_eq!(machine.sh("archiver tree data | grep -c deep/er/."), "6\n");
    assert_eq!(machine.sh("archiver tree homes | grep -c -e ann/private/diary -e bob/notes"), "2\n");
    // What the unit mounts over itself to make it read-only is no mount, and its own /tmp hides nothing of a source.
    assert_eq!(machine.sh("archiver tree system | grep -c -e home/bob/notes -e var/tmp/in-tmp"), "2\n");
    let of_process = "p=$(systemctl show archiver -p MainPID --value); ";
    let user = machine.sh(&format!("{of_process} ps -o user= -p $p; grep CapEff /proc/$p/status"));
    assert_eq!(user.split_whitespace().collect::<Vec<_>>(), ["archiver", "CapEff:", "0000000000000004"]);
    let owners = machine.sh("stat -c '%U %a' /var/lib/archiver '/arch ive/100%' /mnt/vault/archiver.json");
    assert_eq!(owners, "archiver 700\narchiver 700\narchiver 600\n");
    // Nothing else can be written, whoever it belongs to.
    let write = "nsenter -t $p -m -- touch";
    for path in ["/usr/x", "/etc/x", "/data/x", "/root/x"] {
        assert!(!machine.try_sh(&format!("{of_process} {write} {path}")).status.success(), "{path}");
    }
    machine.sh(&format!("{of_process} {write} /mnt/vault/x '/arch ive/100%/x'; rm /mnt/vault/x '/arch ive/100%/x'"));
}

pub fn the_life_of_a_piece_is_in_the_journal(machine: &Machine) {
    let journal = machine.journal();
    for stage in ["pack", "compress", "encrypt", "upload"] {
        let ended = |line: &&str| line.starts_with("Step ended") && line.contains(&format!("stage=\"{stage}\""));
        let line = journal.lines().find(ended).unwrap_or_else(|| panic!("{stage}: {journal}"));
        let fields = ["piece=", "input_bytes=", "output_bytes=", "seconds="];
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
    let life = machine.sh(&format!("journalctl --no-pager -o cat -u archiver PIECE_ID='{id}'"));
    let stages = |what: &str| life.lines().filter(|line| line.starts_with(what)).count();
    assert!((stages("Step started"), stages("Step ended")) >= (4, 4), "{life}");
    let bytes: u64 = field("BYTES", &format!("PIECE_ID='{id}' EVENT=step-ended STAGE=upload")).parse().unwrap();
    assert!(bytes > 0);
}

pub fn another_configuration_is_taken_without_a_restart(machine: &Machine) {
    let pid = || machine.sh("systemctl show archiver -p MainPID --value");
    let status = "systemctl show archiver -p StatusText --value";
    let before = pid();
    machine.sh("cp /etc/archiver.toml /root/good; sed -i 's/^cap = .*/cap = \"1MB\"/' /etc/archiver.toml");
    let reload = machine.try_sh("systemctl reload archiver");
    assert!(!reload.status.success(), "Whoever reloads is told");
    machine.wait_until(&format!("{status} | grep 'refused.*archiver.toml:4: staging.cap'"));
    // Who cannot read the configuration asks the daemon all the same.
    let asked = machine.try_sh("echo broken >>/etc/archiver.toml; archiver status");
    assert!(String::from_utf8_lossy(&asked.stdout).contains("would be refused"), "{asked:?}");
    assert_eq!(asked.status.code(), Some(2));
    machine.sh("rm /etc/archiver.toml");
    assert!(!machine.try_sh("systemctl reload archiver").status.success());
    machine.wait_until(&format!("{status} | grep 'refused.*Cannot read'"));
    machine.sh("cp /root/good /etc/archiver.toml; printf '[upload]\\nbandwidth = \"7MB/s\"\\n' >>/etc/archiver.toml");
    machine.sh("systemctl reload archiver");
    machine.wait_until(&format!("{status} | grep 'Configuration taken'"));
    machine.sh("for n in $(seq 1000); do systemctl kill -s HUP --kill-who=main archiver; done");
    machine.wait_until("systemctl is-active archiver");
    assert_eq!(pid(), before);
    let explained = machine.sh("journalctl --no-pager -x -u archiver EVENT=settings-refused");
    for told in ["Mend it, look at it with `archiver check`", "Subject: The configuration was refused"] {
        assert!(explained.contains(told), "{told}: {explained}");
    }
    let journal = machine.journal();
    assert!(journal.contains("Setting changed key=\"upload.bandwidth\" old=\"none\" new=\"7MB/s\""), "{journal}");
    machine.sh("cp /root/good /etc/archiver.toml; systemctl stop archiver");
    assert_eq!(machine.sh("systemctl show archiver -p Result --value"), "success\n");
}

pub fn it_is_started_again_after_a_kill(machine: &Machine) {
    machine.drop_in("[Service]\nRestartSec=1\n");
    machine.begin(CONFIGURATION);
    machine.sh("systemctl kill -s KILL archiver");
    machine.wait_until("systemctl show archiver -p NRestarts --value | grep -x 1 && systemctl is-active archiver");
    machine.wait_until(HAVE_ENDED);
    machine.drop_in("");
}
