//! A daemon, from its start to its end.

use super::{common::World, signal, status, wait_until};
use std::{
    fs,
    io::Read,
    os::unix::net::UnixDatagram,
    process::Child,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A daemon that runs, and what it has said so far.
pub struct Daemon {
    pub child: Child,
    said: Arc<Mutex<String>>,
}

impl Daemon {
    pub fn start(world: &World) -> Daemon {
        Daemon::start_with(world, &["run"])
    }

    pub fn start_with(world: &World, args: &[&str]) -> Daemon {
        Daemon::of(world.spawn(args))
    }

    /// As systemd does, with a watchdog that bites after this time; and what systemd hears.
    pub fn start_notifying(world: &World, watchdog: Duration) -> (Daemon, Arc<Heard>) {
        let at = world.root.path().join("notify");
        let _ = fs::remove_file(&at);
        let (socket, heard) = (UnixDatagram::bind(&at).unwrap(), Arc::<Heard>::default());
        let ears = heard.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = socket.recv(&mut bytes) {
                let told = String::from_utf8_lossy(&bytes[..len]);
                ears.0.lock().unwrap().extend(told.lines().map(|line| (Instant::now(), line.to_owned())));
            }
        });
        let (at, watchdog) = (at.to_str().unwrap(), watchdog.as_micros().to_string());
        let environment = [("NOTIFY_SOCKET", at), ("WATCHDOG_USEC", &watchdog)];
        (Daemon::of(world.spawn_with(&["run"], &environment)), heard)
    }

    fn of(mut child: Child) -> Daemon {
        let said = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (child.stderr.take().unwrap(), said.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..len]));
            }
        });
        Daemon { child, said }
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn hear(&self, what: &str) {
        self.hear_times(what, 1);
    }

    pub fn hear_times(&self, what: &str, times: usize) {
        wait_until(&format!("{what} is said; {}", self.said()), || times <= self.said().matches(what).count());
    }

    pub fn reload(&self, world: &World) {
        world.config();
        signal(&self.child, "-HUP");
    }

    /// Told to stop, it ends in order.
    pub fn stop(mut self) -> String {
        signal(&self.child, "-TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.said());
        self.said()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every line that systemd was told, and when.
#[derive(Default)]
pub struct Heard(Mutex<Vec<(Instant, String)>>);

impl Heard {
    /// The line of `systemctl status`.
    pub fn headline(&self) -> String {
        let heard = self.0.lock().unwrap();
        let told = heard.iter().rev().find_map(|(_, line)| line.strip_prefix("STATUS="));
        told.unwrap_or_default().to_owned()
    }

    /// How long nothing has fed the watchdog.
    pub fn hungry_for(&self) -> Duration {
        let heard = self.0.lock().unwrap();
        heard.iter().rev().find(|(_, line)| line == "WATCHDOG=1").map_or(Duration::ZERO, |(at, _)| at.elapsed())
    }
}

pub fn has_ended(world: &World, index: usize) -> bool {
    status(world)["sources"][index]["state"] == "ended"
}

/// Never open: the minute is of another day.
pub fn closed() -> String {
    let today = jiff::Zoned::now().weekday();
    let far = today.wrapping_add(3);
    let day = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][far.to_monday_zero_offset() as usize];
    format!("[upload]\nwindow = [\"{day} 03:00-03:01\"]")
}
