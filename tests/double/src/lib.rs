//! An S3 server for tests, in the process of the test: buckets, objects, storage classes with a thaw that takes time,
//! conditional writes, checksums, uploads in parts, versions, a clock that tests set, and faults on request.
//!
//! ```
//! use archiver_s3_double::{Act, Double, Options, Rule};
//!
//! let double = Double::spawn(Options::default().buckets(&["photos"]).small_parts());
//! double.script(Rule::new(Act::refuse("SlowDown")).on("UploadPart").times(3));
//! assert!(double.endpoint().starts_with("http://127.0.0.1:"));
//! assert_eq!(double.requests("UploadPart"), 0);
//! ```
//!
//! What a lesser server lacks is a [`Persona`]. A bad network is a [`Proxy`] in front of any server. Tests that run
//! whole programs start the program `s3-double`, and script it through a file or over HTTP below `/_double/`.
//!
//! It stops when it is dropped. Nothing here is meant to be exposed to anyone but a test on the same machine.

#![warn(missing_docs)]

#[macro_use]
mod macros;
mod admin;
mod answer;
mod body;
mod clock;
mod content;
mod front;
mod keys;
mod log;
mod ops;
mod options;
pub mod proxy;
mod receive;
mod request;
mod script;
mod server;
mod state;
pub mod sums;
mod view;

pub use clock::Clock;
pub use content::Content;
pub use log::Entry;
pub use options::{ACCESS_KEY, CompletedAgain, Key, Options, Persona, REGION, SECRET_KEY, Thaw};
pub use proxy::Proxy;
pub use script::{Act, Closing, Flip, Rule};
pub use server::Double;
pub use view::{ObjectView, PartView, UploadView};
