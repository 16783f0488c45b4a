//! From a tree to pieces: walk it in order, leave out what is excluded, cut it into plans, and pack each plan
//! into one tar that unpacks alone.
//!
//! [`walk`] reads metadata once and in order; [`cut`] is pure; [`pack`] is the only writer of tars,
//! [`reader`] reads them again;
//! [`manifest`] says what is inside a piece.

pub mod acl;
pub mod content;
pub mod cut;
pub mod entry;
pub mod filter;
pub mod header;
pub mod holes;
pub mod index;
pub mod items;
pub mod list;
pub mod manifest;
pub mod listing;
pub mod manifest_io;
pub mod names;
pub mod pack;
pub mod reader;
pub mod tree;
pub mod walk;
