//! What the unit's view of the system does to what is configured.

use crate::{job::CONFIGURATION, machine::Machine};

pub fn what_the_unit_hides_is_refused_or_shown(machine: &Machine) {
    // Without the generator's word, /tmp is one of the service's own.
    let narrow = CONFIGURATION.replace("path = \"/\"", "path = \"/data/deep\"");
    machine.begin(&narrow);
    let daemon = "p=$(systemctl show archiver -p MainPID --value); nsenter -t $p -m --";
    machine.sh(&format!("{daemon} test ! -e /tmp/in-tmp; {daemon} test ! -e /dev/kmsg"));
    machine.sh("sed -i 's|\"/data/deep\"|\"/tmp\"|' /etc/archiver.toml");
    assert!(!machine.try_sh("systemctl reload archiver").status.success());
    let status = "systemctl show archiver -p StatusText --value";
    machine.wait_until(&format!("{status} | grep 'source.path.*hides from the service.*daemon-reload'"));
    machine.sh("systemctl stop archiver");
    assert!(!machine.try_sh("systemctl start archiver").status.success(), "Before the generator was asked");
    machine.sh("systemctl daemon-reload; systemctl start archiver");
    machine.sh(&format!("{daemon} test -e /tmp/in-tmp; {daemon} test ! -e /dev/kmsg"));
    // A configuration that is broken, or none, keeps no system from booting.
    let generated = "/run/systemd/generator/archiver.service.d/50-configured.conf";
    machine.sh(&format!(
        "cp /etc/archiver.toml /root/good; echo '= =' >>/etc/archiver.toml; systemctl daemon-reload
        grep '^ReadWritePaths=\"-/arch ive/100%%\"$' {generated}
        rm /etc/archiver.toml; systemctl daemon-reload; grep '^ReadWritePaths=\"-/var/lib/archiver\"$' {generated}
        chmod -x /usr/bin/archiver; systemctl daemon-reload; ! test -e {generated}; chmod +x /usr/bin/archiver
        cp /root/good /etc/archiver.toml; systemctl daemon-reload; systemctl stop archiver"
    ));
}

pub fn a_vault_that_is_mounted_later_is_found_and_lets_go_of_its_disk(machine: &Machine) {
    let configuration =
        CONFIGURATION.replace("/mnt/vault", "/mnt/usb/vault").replace("path = \"/\"", "path = \"/data/deep\"");
    for before in ["", "mkdir /mnt/usb;"] {
        machine.sh(before);
        machine.prepare(&configuration);
        machine.sh("systemctl start --no-block archiver");
        machine.wait_until("journalctl -u archiver --no-pager -o cat --since -20s | grep -i 'vault.*/mnt/usb'");
        machine.sh("mkdir -p /mnt/usb; mount -t tmpfs usb /mnt/usb; install -d -o archiver -m 700 /mnt/usb/vault");
        machine.wait_until("ls /mnt/usb/vault/*/data/*/index.json.zst.gpg");
        // Also when it is there at the start, nothing is mounted in it that would keep it.
        machine.sh(
            "systemctl restart archiver; sleep 1; cat /proc/$(systemctl show archiver -p MainPID --value)/mountinfo \
                    >/root/mounts; umount /mnt/usb
                    ! grep /mnt/usb /proc/$(systemctl show archiver -p MainPID --value)/mountinfo | grep tmpfs
                    systemctl stop archiver; rmdir /mnt/usb",
        );
    }
}
