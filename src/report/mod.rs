//! What is told to people who do not look.
pub mod mail;
