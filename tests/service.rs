//! The package in a real systemd: what is installed does the whole job as a user of its own under all limits of the unit,
//! is started again after a kill, stops in order, tells its failures by mail, and is removed without a trace.
//!
//! `ARCHIVER_SYSTEMD=trixie`: on another Debian. `ARCHIVER_RESTARTS=100`: so many restarts in the middle of everything.

mod common;

#[path = "service/bucket.rs"]
mod bucket;
#[path = "service/failing.rs"]
mod failing;
#[path = "service/job.rs"]
mod job;
#[path = "service/machine.rs"]
mod machine;
#[path = "service/mounts.rs"]
mod mounts;
#[path = "service/package.rs"]
mod package;
#[path = "service/secrets.rs"]
mod secrets;
#[path = "service/smtp.rs"]
mod smtp;
#[path = "service/stops.rs"]
mod stops;
#[path = "service/watchdog.rs"]
mod watchdog;

use machine::{Machine, repository};
use std::process::Command;

/// One test, so that the system for it is made once.
#[test]
fn the_package_does_the_whole_job_under_systemd() {
    if !rustix::process::geteuid().is_root() {
        println!("Only root can boot a system: not tested");
        return;
    }
    let machine = Machine::boot();
    package::three_lines_are_enough(&machine);
    job::everything_is_archived_by_a_user_of_its_own(&machine);
    job::the_life_of_a_piece_is_in_the_journal(&machine);
    job::another_configuration_is_taken_without_a_restart(&machine);
    job::it_is_started_again_after_a_kill(&machine);
    mounts::what_the_unit_hides_is_refused_or_shown(&machine);
    mounts::a_vault_that_is_mounted_later_is_found_and_lets_go_of_its_disk(&machine);
    secrets::credentials_stand_in_for_files(&machine);
    bucket::the_whole_job_goes_to_a_bucket_and_comes_back(&machine);
    failing::what_may_not_be_read_is_told_and_never_archived_as_empty(&machine);
    failing::a_daemon_that_cannot_start_is_mailed_once(&machine);
    stops::it_stops_soon_however_busy(&machine);
    watchdog::a_thread_that_hangs_costs_a_restart(&machine);
    package::an_upgrade_goes_on(&machine);
    package::a_purge_leaves_nothing_but_what_is_documented(&machine);
}

/// As `systemd-analyze security` counts: 0 is a service that can do nothing, 10 one without limits.
#[test]
fn the_unit_gives_little_away() {
    let unit = repository().join("packaging/systemd/archiver.service");
    let out = Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=18"]).arg(unit).output();
    let Ok(out) = out else {
        println!("There is no systemd-analyze: not tested");
        return;
    };
    let told = String::from_utf8_lossy(&out.stdout);
    println!("{}", told.lines().last().unwrap_or_default());
    assert!(out.status.success(), "{told}");
}
