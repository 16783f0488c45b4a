//! Panics: defects of ours, caught around the work in which they happen, so that all other work goes on.
//!
//! Whoever catches one is given what it says, but not where it happened: of that only the hook of the process hears.
//! [`listen`] remembers it, so that [`caught`] can tell both, also of a panic on another thread that was handed on.
//!
//! Work that is run in [`caught`] leaves nothing half changed that others see: what it holds goes back when it is
//! dropped, and a lock that it held is taken as it is.

use crate::fate::{Fate, Fateful, Trouble};
use std::{
    any::Any,
    collections::VecDeque,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{Mutex, PoisonError},
    thread,
};

/// Of those that nobody catches here, the last few are remembered.
const HEARD_MAX: usize = 32;
/// Longest text of a panic that is told, characters.
const TEXT_LEN_MAX: usize = 1000;

/// What was heard by the hook and not caught yet, the newest last.
static HEARD: Mutex<VecDeque<Panicked>> = Mutex::new(VecDeque::new());

/// A panic. Its text is escaped: it may hold names of files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("A defect of the program, at {place}: {text}")]
pub struct Panicked {
    pub text: String,
    /// File, line and column in the source of the program.
    pub place: String,
    /// The name of the thread.
    pub thread: String,
}

impl Fateful for Panicked {
    /// It may have come of something that passes, and nobody else waits for it.
    fn fate(&self) -> Fate {
        Fate::Retry
    }

    fn trouble(&self) -> Trouble {
        Trouble::Internal
    }
}

impl Panicked {
    fn heard(info: &PanicHookInfo) -> Panicked {
        Panicked {
            text: text(info.payload()),
            place: info.location().map_or_else(|| UNKNOWN.to_owned(), ToString::to_string),
            thread: thread::current().name().unwrap_or(UNKNOWN).to_owned(),
        }
    }

    /// What was heard of a panic that was caught now.
    fn caught(payload: &(dyn Any + Send)) -> Panicked {
        let text = text(payload);
        let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
        let at = heard.iter().rposition(|panicked| panicked.text == text);
        let unheard = || Panicked { text, place: UNKNOWN.to_owned(), thread: UNKNOWN.to_owned() };
        at.and_then(|at| heard.remove(at)).unwrap_or_else(unheard)
    }
}

const UNKNOWN: &str = "an unknown place";

fn text(payload: &(dyn Any + Send)) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "it does not say why",
    };
    let mut escaped = String::new();
    for (count, c) in text.chars().enumerate() {
        match c {
            _ if count == TEXT_LEN_MAX => {
                escaped.push('…');
                break;
            }
            '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                escaped.extend(c.escape_default());
            }
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

/// From now on every panic of the process is told here, once, whether it is caught or not, in place of what the
/// standard library would print.
pub fn listen(tell: impl Fn(&Panicked) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        let panicked = Panicked::heard(info);
        {
            let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
            if heard.len() == HEARD_MAX {
                heard.pop_front();
            }
            heard.push_back(panicked.clone());
        }
        tell(&panicked);
    }));
}

/// Works; a panic is an error like others.
pub fn caught<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::caught(&*payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_says_is_one_printable_line() {
        let name = String::from("a\n\x1b[31m\u{202e}é");
        let panicked = caught(|| panic!("no {name}")).unwrap_err();
        assert_eq!(panicked.text, r"no a\n\u{1b}[31m\u{202e}é");
        assert_eq!(caught(|| panic!("plain")).unwrap_err().text, "plain");
        let odd = caught(|| panic::resume_unwind(Box::new(7))).unwrap_err();
        assert_eq!(odd.text, "it does not say why");
        let long = caught(|| panic!("{}", "é".repeat(2000))).unwrap_err();
        assert_eq!(long.text.chars().count(), TEXT_LEN_MAX + 1);
        assert_eq!((panicked.fate(), panicked.trouble()), (Fate::Retry, Trouble::Internal));
    }

    #[test]
    fn a_panic_of_another_thread_is_caught_with_the_place_where_it_happened() {
        let hook = panic::take_hook();
        listen(|_| ());
        let handed_on = caught(|| {
            let joined = thread::Builder::new().name("other".to_owned()).spawn(|| panic!("of another thread")).unwrap();
            panic::resume_unwind(joined.join().unwrap_err());
        });
        let own = caught(|| panic!("of this thread"));
        panic::set_hook(hook);
        let (other, own) = (handed_on.unwrap_err(), own.unwrap_err());
        assert_eq!((&*other.text, &*other.thread), ("of another thread", "other"));
        assert!(other.place.starts_with("src/panics.rs:") && own.place.starts_with("src/panics.rs:"));
        assert!(other.place != own.place);
        assert_eq!(own.to_string(), format!("A defect of the program, at {}: of this thread", own.place));
    }
}
