//! A daemon, from its start to its end.

use super::{common::World, signal, status, wait_until};
use std::{
    io::Read,
    process::Child,
    sync::{Arc, Mutex},
    thread,
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
        let mut child = world.spawn(args);
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
