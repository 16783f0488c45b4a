//! `archiver` moves filesystems that are too large to image and too slow to read twice into a vault,
//! in independent pieces, and brings them back with nothing but stock tools.
//!
//! # Vocabulary
//!
//! One word per thing, and the word is the type.
//!
//! | word | meaning |
//! | --- | --- |
//! | source | a directory tree to be archived; has a name |
//! | entry | one thing in the tree: directory, file, symlink, device, fifo |
//! | pass | one complete walk over a source, with an id (UTC start time) |
//! | piece | one independent archive: a run of neighbouring entries in walk order |
//! | shelf | a staging directory that holds complete pieces in one state |
//! | draft | a piece being written, in `tmp/`; dropping it removes it |
//! | stage | archiver, compressor, encrypter, uploader: each takes pieces from one shelf to the next |
//! | manifest | what is inside one piece: every member with metadata and SHA-256 |
//! | vault | where sealed pieces end: an S3 bucket and prefix, or a directory |
//! | receipt | proof, read back from the vault, that it holds a piece |
//! | catalog | the SQLite database: passes, pieces, uploads, exceptions |
//! | exception | an entry that was not archived clean: path, reason, errno |
//! | window | the hours in which uploading is allowed |
//!
//! # The way of the data
//!
//! ```text
//! walk ─► cut ─► archiver ─► tar/ ─► compressor ─► xz/ ─► encrypter ─► gpg/ ─► uploader ─► vault
//! ```
//!
//! # Invariants
//!
//! - The disk is the queue: a file on a shelf is complete and never written again.
//! - State is a type: `Piece<Packed>`, `Piece<Compressed>`, `Piece<Encrypted>`.
//! - First the new, then away with the old, and the new only when it is proven.
//! - What is configured may change at any time: a unit of work begins with what holds then, and keeps it to its end.
//! - Only [`durable`] renames.
//! - A room uses only rooms above it in this list, and each foreign crate enters by one door;
//!   `tests/tidy.rs` holds both.

// Words: pure, no I/O, no clock.
pub mod fate;
pub mod units;
pub mod price;
pub mod path;
pub mod glob;
pub mod name;
pub mod window;
pub mod notice;
pub mod finding;
// What may befall any thread.
pub mod panics;
// The disk.
pub mod durable;
pub mod staging;
pub mod catalog;
// Contracts.
pub mod stage;
pub mod vault;
// The stages; none knows another.
pub mod archive;
pub mod compress;
pub mod encrypt;
pub mod upload;
// Running them.
pub mod pipeline;
// Getting it back.
pub mod restore;
pub mod inventory;
pub mod verify;
// Taking it away.
pub mod removal;
// The shell: knows everyone, known by no one.
pub mod config;
pub mod report;
pub mod log;
pub mod daemon;
pub mod cli;
