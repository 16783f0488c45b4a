//! What must not pass in silence.

use crate::{
    job::{CONFIGURATION, HAVE_ENDED},
    machine::Machine,
    smtp::Sink,
};

/// Without the one right that it has, and so without the files of others.
pub fn what_may_not_be_read_is_told_and_never_archived_as_empty(machine: &Machine) {
    machine.drop_in("[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n");
    machine.sh("chmod 755 /data /data/deep; chown -R archiver /etc/archiver; chmod 644 /etc/archiver.toml");
    machine.begin(CONFIGURATION);
    machine.sh("systemctl stop archiver; chmod 644 /etc/archiver.toml; systemctl start archiver");
    machine.wait_until(HAVE_ENDED);
    let told = machine.sh("archiver exceptions data");
    assert!(told.contains("deep/er") && told.contains("denied"), "{told}");
    let homes = machine.sh("archiver exceptions homes");
    assert!(["ann", "bob"].iter().all(|name| homes.contains(name)), "{homes}");
    machine.sh("! archiver tree data | grep deep/er; ! archiver tree homes | grep -e ann -e bob");
    let status = machine.sh("archiver status");
    assert!(!status.contains("0 lost or damaged"), "{status}");
    machine.sh("systemctl stop archiver; chmod 700 /data");
    machine.drop_in("");
    machine.sh("chown -R root /etc/archiver");
}

pub fn a_daemon_that_cannot_start_is_mailed_once(machine: &Machine) {
    let sink = Sink::start();
    let mail = format!(
        "\n[mail]\nsmtp = \"smtp://127.0.0.1:{}\"\nfrom = \"archiver@example.org\"\nto = [\"before@example.org\"]\n",
        sink.port
    );
    machine.begin(&format!("{CONFIGURATION}{mail}"));
    machine.sh("sed -i s/before@/ops@/ /etc/archiver.toml; systemctl reload archiver
        grep ops@ /var/lib/archiver/mail.toml; systemctl stop archiver");
    let fail = |how: &str| {
        machine.sh(how);
        // With bad keys it begins, and ends soon.
        machine.try_sh("systemctl restart archiver");
        machine.wait_until("systemctl is-failed archiver && ! systemctl is-active archiver-failure");
        machine.sh("! systemctl is-failed archiver-failure; systemctl reset-failed archiver");
    };
    fail("cp /etc/archiver.toml /root/good; sed -i 's/^cap = .*/cap = \"1MB\"/' /etc/archiver.toml");
    let text = sink.failure();
    for said in ["archiver.service has failed", "exit status 2", "archiver check", "staging.cap: must be at least"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(machine.sh("systemctl show archiver -p NRestarts --value"), "0\n");
    fail("");
    assert_eq!(sink.other_failures(), 0, "About the same, one in a day");
    // Of keys, and by what is known from before: now the file is no TOML at all.
    fail(
        "cp /root/good /etc/archiver.toml; cp /etc/archiver/passphrase /root/passphrase; echo short >/etc/archiver/passphrase",
    );
    let text = sink.failure();
    assert!(text.contains("exit status 5") && text.contains("passphrase"), "{text}");
    assert!(!sink.daemon_has_said("passphrase"), "Once is enough");
    fail(
        "rm /var/lib/archiver/failures.json; cp /root/passphrase /etc/archiver/passphrase; echo '= =' >>/etc/archiver.toml",
    );
    let text = sink.failure();
    assert!(text.contains("exit status 2") && text.contains("not TOML"), "{text}");
    // One that is killed again and again is given up in the end, and then told.
    machine.drop_in("[Service]\nRestartSec=100ms\n[Unit]\nStartLimitBurst=3\n");
    machine.sh("cp /root/good /etc/archiver.toml; systemctl start archiver");
    machine.wait_until("systemctl kill -s KILL archiver; sleep 0.5; systemctl is-failed archiver");
    assert!(sink.failure().contains("ended by signal KILL"));
    machine.wait_until("! systemctl is-active archiver-failure");
    assert_eq!(sink.other_failures(), 0);
    machine.drop_in("");
    machine.sh("systemctl reset-failed archiver");
}
