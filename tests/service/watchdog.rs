//! A thread that hangs, for real: it is stopped from outside by a tracer, and nothing in the program knows of it.

use crate::machine::Machine;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// Stops one thread, and says so; it stays stopped for as long as this runs.
const HOLD: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
thread = int(sys.argv[1])
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, thread, None, None) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, WALL)
print("held", flush=True)
# Until it is killed, and then it must be buried: it is ours as long as it is traced.
while os.WIFSTOPPED(os.waitpid(thread, WALL)[1]):
    pass
"#;

struct Held(Child);

impl Held {
    fn thread(thread: u32) -> Held {
        let mut held =
            Command::new("python3").args(["-c", HOLD, &thread.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(held.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Held(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn a_thread_that_hangs_costs_a_restart(machine: &Machine) {
    // Ten times as long a thread may give no sign.
    machine.drop_in("[Service]\nWatchdogSec=4\nRestartSec=1\n");
    machine.begin(&format!("{}[upload]\nbandwidth = \"100kB/s\"\n", crate::job::CONFIGURATION));
    machine.wait_until("archiver status | grep ' [1-9][0-9]* delivered'");
    let held = Held::thread(machine.thread("compressor"));
    machine.wait_until("systemctl show archiver -p NRestarts --value | grep -x 1");
    drop(held);
    let journal = machine.journal();
    for told in ["The compressor has given no sign for", "Watchdog timeout"] {
        assert!(journal.contains(told), "{told}: {journal}");
    }
    machine.sh("sed -i '/bandwidth/d' /etc/archiver.toml; systemctl reload archiver");
    machine.wait_until("archiver status | grep 'pass .* ended'");
    // An idle one lives on, although nothing happens for longer than that, and so does one that is paused.
    machine.sh("sleep 45; archiver pause");
    machine.sh("sleep 45; archiver resume");
    assert_eq!(machine.sh("systemctl show archiver -p NRestarts --value"), "1\n", "{}", machine.journal());
    machine.drop_in("");
}
