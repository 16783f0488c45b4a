//! Promises about finding what is archived, and about proving that it is still there: `find`, `verify` and `drill`.

mod common;
#[path = "proofs/find.rs"]
mod find;

use common::World;
use std::path::PathBuf;

/// The manifest of the piece of this number, of the only pass, on this host.
fn local_manifest(world: &World, seq: u32) -> PathBuf {
    let found = world.bash(
        "find \"$1\" -name $(printf %06d $2).jsonl.zst",
        &[world.state.join("manifests").as_os_str(), seq.to_string().as_ref()],
    );
    found.expect(0).text().trim_end().into()
}
