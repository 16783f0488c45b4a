//! Where whoever tells people has its times from, and how long it waits.

use jiff::Timestamp;
use std::time::{Duration, Instant, SystemTime};

/// Where [`Clock::system`] begins: what was told long ago was told before that.
const CLOCK_BEGINS: Duration = Duration::from_secs(100_000 * 86_400);

/// Where times come from.
pub struct Clock {
    /// Time since some fixed moment; never goes back.
    pub elapsed: Box<dyn Fn() -> Duration + Send + Sync>,
    /// For the dates of mails.
    pub wall: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Clock {
    pub fn system() -> Clock {
        let start = Instant::now();
        let elapsed = move || CLOCK_BEGINS + start.elapsed();
        Clock { elapsed: Box::new(elapsed), wall: Box::new(SystemTime::now) }
    }

    /// Whatever the calendar says, it is a date.
    pub(super) fn calendar(&self) -> Timestamp {
        Timestamp::try_from((self.wall)()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// How long to wait for a server.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before the second attempt; doubles with each failure.
    pub first: Duration,
    /// The longest time between two attempts.
    pub most: Duration,
    /// For each step of a conversation.
    pub timeout: Duration,
    /// For what is still to be sent when the mailer is dropped.
    pub farewell: Duration,
    /// Between two times that what it knows is written down.
    pub rest: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first: Duration::from_secs(60),
            most: Duration::from_secs(3600),
            timeout: Duration::from_secs(30),
            farewell: Duration::from_secs(5),
            rest: Duration::from_secs(1),
        }
    }
}
