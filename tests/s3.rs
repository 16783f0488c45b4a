//! What must hold of uploads to S3, whatever the way there and the server do: through the uploader, the pipeline and
//! the real binary, to a server in this process that fails as it is told, behind a network as bad as it is told.
//!
//! `network.sh` does at length what the tests here do in samples.

#![expect(clippy::disallowed_methods, reason = "these tests play the bad network and wait for others, from outside")]

#[path = "s3/answers.rs"]
mod answers;
#[path = "s3/cuts.rs"]
mod cuts;
#[path = "s3/delete.rs"]
mod delete;
#[path = "s3/direct.rs"]
mod direct;
#[path = "s3/kills.rs"]
mod kills;
#[path = "s3/identities.rs"]
mod identities;
#[path = "s3/inside.rs"]
mod inside;
#[path = "s3/refusals.rs"]
mod refusals;
#[path = "s3/lines.rs"]
mod lines;
#[path = "s3/lost.rs"]
mod lost;
#[path = "s3/outage.rs"]
mod outage;
#[path = "s3/restore.rs"]
mod restore;
#[path = "s3/roads.rs"]
mod roads;
#[path = "s3/rollback.rs"]
mod rollback;
#[path = "s3/stops.rs"]
mod stops;
#[path = "s3/strangers.rs"]
mod strangers;
#[path = "s3/tools.rs"]
mod tools;
#[path = "s3/verify.rs"]
mod verify;
#[path = "s3/window.rs"]
mod window;
#[path = "s3/world.rs"]
mod world;
