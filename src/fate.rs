//! What must happen after a failure. An error knows its fate; only the pipeline acts on it.

use std::{error::Error, fmt, io, time::Duration};

/// What becomes of the work that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Told to stop: nothing is wrong, the work goes on at the next start.
    Stopped,
    /// May pass by itself: wait and try again, for ever.
    Retry,
    /// This local form of the piece is lost or rotten: make the piece again.
    Rotten,
    /// Needs an operator; the queue is kept and the work is tried again slowly.
    Operator,
}

/// The kind of trouble, which decides the exit code and groups the mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// A source could not be read as a whole, or is not there.
    Source,
    /// The staging disk: full, read-only, failing.
    Staging,
    /// The configuration.
    Settings,
    /// Keys or passphrase are there, but unusable.
    Keys,
    /// The vault could not be reached, or refused.
    Vault,
    /// Catalog and disk disagree, or a record is damaged.
    State,
    /// Anything else: a defect of the program.
    Internal,
}

impl Trouble {
    pub const ALL: [Trouble; 7] = [
        Trouble::Source,
        Trouble::Staging,
        Trouble::Settings,
        Trouble::Keys,
        Trouble::Vault,
        Trouble::State,
        Trouble::Internal,
    ];

    /// The exit code of a run that ends in this trouble.
    pub fn exit_code(self) -> u8 {
        match self {
            Trouble::Internal => 1,
            Trouble::Settings => 2,
            Trouble::Vault => 4,
            Trouble::Keys => 5,
            Trouble::Staging => 6,
            Trouble::State => 7,
            Trouble::Source => 75,
        }
    }

    /// The trouble that ends a run with this code.
    pub fn of_exit_code(code: u8) -> Trouble {
        Trouble::ALL.into_iter().find(|trouble| trouble.exit_code() == code).unwrap_or(Trouble::Internal)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Source => "source",
            Trouble::Staging => "staging",
            Trouble::Settings => "settings",
            Trouble::Keys => "keys",
            Trouble::Vault => "vault",
            Trouble::State => "state",
            Trouble::Internal => "internal",
        }
    }
}

/// How long to wait before something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// After the first failure; twice as long after each further one …
    pub first: Duration,
    /// … up to this.
    pub longest: Duration,
}

impl Waits {
    pub const fn secs(first: u64, longest: u64) -> Waits {
        Waits { first: Duration::from_secs(first), longest: Duration::from_secs(longest) }
    }

    /// After so many failures in a row, at least one. `chance`, any number, puts it between half of the step and all
    /// of it, so that many that failed together do not come again together.
    pub fn after(self, failures: u32, chance: u32) -> Duration {
        let half = self.first.saturating_mul(1 << (failures - 1).min(16)).min(self.longest) / 2;
        half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

impl From<Fate> for Waits {
    fn from(fate: Fate) -> Waits {
        match fate {
            // Looking more often would not make them act sooner.
            Fate::Operator => Waits::secs(60, 60),
            _ => Waits::secs(1, 300),
        }
    }
}

/// An error that knows what must happen next.
pub trait Fateful: Error + Send + Sync + 'static {
    fn fate(&self) -> Fate;
    fn trouble(&self) -> Trouble;
    fn waits(&self) -> Waits {
        self.fate().into()
    }
}

/// Carried inside an [`io::Error`] by readers that were told to stop.
#[derive(Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told to stop")
    }
}

impl Error for Stopped {}

impl Fateful for Stopped {
    fn fate(&self) -> Fate {
        Fate::Stopped
    }

    fn trouble(&self) -> Trouble {
        Trouble::Internal
    }
}

impl Stopped {
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Whether this error, or any cause of it, is a stop. `io::Error::source` skips its own payload,
    /// so that is looked at as well.
    pub fn caused(err: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(err);
        while let Some(err) = cause {
            if err.is::<Stopped>() {
                return true;
            }
            if let Some(io) = err.downcast_ref::<io::Error>()
                && let Some(inner) = io.get_ref()
                && Stopped::caused(inner)
            {
                return true;
            }
            cause = err.source();
        }
        false
    }
}

/// Prints an error with all its causes on one line. `Display` of an error never includes its source,
/// so this is the only place where they are joined.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(err) = cause {
            write!(f, ": {err}")?;
            cause = err.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("Cannot read")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_stop_is_found_below_other_errors() {
        assert!(Stopped::caused(&Outer(Stopped.into_io())));
        assert!(Stopped::caused(&io::Error::other(Outer(Stopped.into_io()))));
        assert!(!Stopped::caused(&Outer(io::Error::other("no"))));
    }

    #[test]
    fn a_chain_says_every_cause_once() {
        let err = Outer(io::Error::other("disk on fire"));
        assert_eq!(Chain(&err).to_string(), "Cannot read: disk on fire");
    }
}
