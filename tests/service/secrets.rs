//! Secrets that systemd keeps.

use crate::{
    job::{CONFIGURATION, HAVE_ENDED},
    machine::Machine,
};

pub fn credentials_stand_in_for_files(machine: &Machine) {
    let encrypted = "/etc/credstore.encrypted/passphrase";
    machine.sh(&format!(
        "mkdir -p /etc/credstore.encrypted
        systemd-creds --with-key=host encrypt --name=passphrase /etc/archiver/passphrase {encrypted}"
    ));
    machine.drop_in(&format!("[Service]\nLoadCredentialEncrypted=passphrase:{encrypted}\n"));
    machine.begin(&CONFIGURATION.replace("passphrase_file = \"/etc/archiver/passphrase\"", ""));
    machine.wait_until(HAVE_ENDED);
    let told = machine.sh("archiver check 2>/dev/null");
    assert!(told.contains("passphrase_file = \"/run/credentials/archiver.service/passphrase\""), "{told}");
    machine.sh("systemctl stop archiver");
    let out = machine.try_sh("archiver check");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(2) && said.contains("credential `passphrase` is seen by the service"), "{said}");
    machine.drop_in("");
}
