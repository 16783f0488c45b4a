//! Telling people. A happening is one [`crate::notice::Notice`]; mails are drawn from it.
//!
//! [`letter`] says what a mail is about, [`digest`] which one goes out when, both pure; [`mailer`] keeps them
//! until the server takes them, and [`mail`] is the only door to SMTP.

pub mod digest;
pub mod letter;
pub mod live;
pub mod mail;
pub mod mailer;
pub mod metrics;
pub mod standing;
#[cfg(test)]
mod stub;

pub use letter::{Mail, MailKind};
pub use live::Live;
pub use mail::{MailError, Options};
pub use mailer::{Clock, Mailer, Mailers};
pub use standing::Standing;
