//! Promises about finding what is archived, and about proving that it is still there: `find`, `verify` and `drill`.

mod common;
#[path = "proofs/drill.rs"]
mod drill;
#[path = "proofs/find.rs"]
mod find;
#[path = "proofs/verify.rs"]
mod verify;

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

/// What the catalog says.
fn sql(world: &World, statement: &str) -> String {
    let script = "python3 -c '
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    for row in db.execute(sys.argv[2]): print(*row)
' \"$1\" \"$2\"";
    let ran = world.bash(script, &[world.state.join("catalog.sqlite").as_os_str(), statement.as_ref()]);
    ran.expect(0).text().trim().to_owned()
}

/// How many pieces are on record as proven in this way.
fn proofs(world: &World, how: &str) -> usize {
    sql(world, &format!("SELECT count(*) FROM proof WHERE how = '{how}'")).parse().unwrap()
}
