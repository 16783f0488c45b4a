//! The life of the package.

use crate::{
    job::{CONFIGURATION, HAVE_ENDED, SOURCES},
    machine::Machine,
};

pub fn three_lines_are_enough(machine: &Machine) {
    machine.sh(SOURCES);
    machine.sh("dpkg -i /host/older.deb");
    let state = machine.try_sh("systemctl is-enabled archiver || true; systemctl is-active archiver");
    assert_eq!(String::from_utf8_lossy(&state.stdout), "disabled\ninactive\n");
    assert_eq!(
        machine.sh("stat -c '%U %a' /var/lib/archiver /etc/archiver /etc/archiver.toml"),
        "archiver 700\nroot 700\nroot 640\n"
    );
    assert_eq!(
        machine.sh(
            "systemd-analyze verify --man=no archiver.service archiver-failure.service archiver-restore@x.service 2>&1 | grep -i archiver || true"
        ),
        ""
    );
    machine.sh("(umask 077; echo correct horse battery staple >/etc/archiver/secret); install -d -o archiver /mnt/vault
        sed -i -e '/^\\[\\[source/,/^\\[pack/s|^path = .*|path = \"/data\"|' -e 's|^url = .*|url = \"file:///mnt/vault\"|' \
            -e 's|^passphrase_file = .*|passphrase_file = \"/etc/archiver/secret\"|' /etc/archiver.toml
        archiver plan >/dev/null; archiver doctor >&2 || true; systemctl daemon-reload; systemctl enable --now archiver");
    machine.wait_until("ls /mnt/vault/*/data/*/index.json.zst.gpg");
    assert_eq!(machine.sh("archiver tree data | grep -c deep/er/."), "6\n");
    // What root does by hand is done as the service would.
    machine.sh("systemctl stop archiver; archiver run --once --pass-now data
        test $(ls /mnt/vault/*/data/*/index.json.zst.gpg | wc -l) = 2");
    assert_eq!(machine.sh("find /var/lib/archiver /mnt/vault ! -user archiver"), "");
    machine.sh("systemctl disable archiver; mv /etc/archiver/secret /etc/archiver/passphrase");
}

pub fn an_upgrade_goes_on(machine: &Machine) {
    machine.begin(CONFIGURATION);
    let pid = || machine.sh("systemctl show archiver -p MainPID --value");
    let before = pid();
    machine.sh("dpkg -i /host/newer.deb; systemctl is-active archiver");
    assert_ne!(pid(), before);
    assert!(machine.sh("dpkg -s archiver").contains("Version: 999"));
    machine.wait_until(HAVE_ENDED);
    machine.sh("cmp /host/archiver.toml /etc/archiver.toml; archiver status | grep '0 lost or damaged'");
    // One that is stopped stays so.
    machine.sh("systemctl stop archiver; dpkg -i /host/newer.deb; ! systemctl is-active archiver");
}

pub fn a_purge_leaves_nothing_but_what_is_documented(machine: &Machine) {
    machine.sh("systemctl enable --now archiver; dpkg -r archiver; test -e /var/lib/archiver/catalog.sqlite
        test -e /etc/archiver.toml; ! systemctl is-active archiver");
    // A vault may lie in the state directory, and be the only copy.
    machine.sh("mkdir /var/lib/archiver/vault; touch /var/lib/archiver/vault/archiver.json; dpkg -P archiver
        test -e /var/lib/archiver/vault/archiver.json; rm -r /var/lib/archiver/vault
        dpkg -i /host/older.deb; dpkg -P archiver");
    let left = machine.sh("find / -xdev -path /mnt/vault -prune -o -name '*archiver*' -print | sort");
    let kept = left.lines().filter(|path| !path.starts_with("/run/") && !path.starts_with("/var/lib/dpkg/"));
    // Keys, what an operator has made, and what is in staging and vault.
    let kept: Vec<&str> = kept.filter(|path| !path.starts_with("/etc/systemd/system/archiver.service.d")).collect();
    assert_eq!(kept, ["/etc/archiver"]);
    machine
        .sh("test -s /etc/archiver/passphrase; getent passwd archiver; ls -d '/arch ive/100%' /mnt/vault/archiver.json
        ! test -e /etc/systemd/system/multi-user.target.wants/archiver.service; ! systemctl cat archiver");
}
