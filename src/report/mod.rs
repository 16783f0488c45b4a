//! Telling people. A happening is one [`crate::notice::Notice`]; mails are drawn from it.
//!
//! [`letter`] says what a mail is about, [`digest`] which one goes out when, both pure; [`mailer`] keeps them
//! until the server takes them, also in a file, [`spool`], and [`mail`] is the only door to SMTP. [`heartbeat`] tells
//! a service elsewhere that all is well, which tells people when it does not hear that any more.

pub mod digest;
pub mod heartbeat;
pub mod letter;
pub mod live;
pub mod mail;
pub mod mailer;
mod mailers;
pub mod metrics;
pub mod spool;
pub mod standing;
mod times;
#[cfg(test)]
mod stub;

pub use heartbeat::Heartbeat;
pub use letter::{Mail, MailKind};
pub use live::Live;
pub use mail::{MailError, Options};
pub use mailer::Mailer;
pub use mailers::Mailers;
pub use standing::{Standing, is_drill_due};
pub use times::{Clock, Patience};
