//! What may not be read or changed, and names that come and go.

use super::{
    common::{self, Ran, World},
    exceptions, is_root, told, unpacked,
};
use std::{fs, process::Command};

/// A run without any rights beyond those of user 1000, who owns everything but the source.
pub fn run_as_ordinary_user(world: &World) -> Ran {
    let config = world.config();
    let script = "cd \"$1\"; chown -R 1000:1000 state staging vault passphrase; chmod 755 .";
    world.bash(script, &[world.root.path()]).expect(0);
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all", "--", common::BINARY, "--config"]).arg(config);
    Ran::of(command.args(["run", "--once"]).output().unwrap())
}

#[test]
fn what_an_ordinary_user_may_not_read_is_a_loss_and_the_rest_is_archived() {
    if !is_root() {
        return;
    }
    let world = World::new();
    world.fill(
        "echo a > a; mkdir m n; echo inside > m/inside; echo inside > n/inside; ln n/inside n/other; echo f > f; \
         echo z > z; chown -R 1000:1000 .",
    );
    // Of others: what root keeps to itself.
    world.fill("chown root f m; chmod 600 f; chmod 700 m");
    let ran = run_as_ordinary_user(&world).expect(3);
    assert_eq!(exceptions(&world), [told("f", "denied", "loss"), told("m", "denied", "loss")], "{}", ran.stderr);
    let to = unpacked(&world);
    for (name, content) in [("a", "a\n"), ("n/inside", "inside\n"), ("n/other", "inside\n"), ("z", "z\n")] {
        assert_eq!(fs::read_to_string(to.join(name)).unwrap(), content);
    }
    assert!(fs::symlink_metadata(to.join("f")).is_err() && fs::symlink_metadata(to.join("m")).is_err());
}

#[test]
fn what_may_not_be_changed_is_archived() {
    if !is_root() {
        return;
    }
    let world = World::new();
    world.fill("mkdir d; echo kept > d/f; echo log > log");
    if world.bash("cd \"$1\"; chattr +i d/f d; chattr +a log", &[&world.source]).code != 0 {
        println!("This filesystem knows no immutable files: not tested");
        return;
    }
    let ran = world.run_once();
    world.bash("cd \"$1\"; chattr -i d d/f; chattr -a log", &[&world.source]).expect(0);
    ran.expect(0);
    let to = unpacked(&world);
    assert_eq!(
        fs::read_to_string(to.join("d/f")).unwrap() + &fs::read_to_string(to.join("log")).unwrap(),
        "kept\nlog\n"
    );
    assert_eq!(exceptions(&world), []);
}

#[test]
fn names_of_a_file_that_come_and_go_while_it_is_read_leave_no_link_to_nowhere() {
    // Of a file that has another name still, its time of change may tell of its content as well: rather a false alarm.
    for (change, code, expected) in [
        ("rm b", 3, vec![told("b", "changed", "loss")]),
        ("ln b new; ln b newer", 0, vec![]),
        ("rm m", 0, vec![told("m", "vanished", "info")]),
    ] {
        let mut world = World::new();
        "8MiB".clone_into(&mut world.setup.max_size);
        "64MiB".clone_into(&mut world.setup.cap);
        // One inode: `b`, which is read while the names change, then its other names.
        world.fill("head -c 3000000 /dev/zero | tr '\\0' x > b; ln b m; ln b z; rm b; ln m b");
        let file = world.source.join("b");
        let ended = world.run_once_while(&file, |_| {
            world.bash(&format!("cd \"$1\"; {change}"), &[&world.source]).expect(0);
        });
        assert_eq!((ended, exceptions(&world)), (code, expected), "{change}");
        // Whatever stands in the piece unpacks alone, every name with the whole content.
        let to = unpacked(&world);
        let names = if change == "rm m" { vec!["z"] } else { vec!["m", "z"] };
        for name in names {
            assert!(fs::read(to.join(name)).unwrap() == vec![b'x'; 3_000_000], "{change}: {name}");
        }
    }
}
