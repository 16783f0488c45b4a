//! Walks a tree and cuts it into pieces as a pass does, without reading or writing anything, for measuring:
//! `walk DIR [MAX_SIZE [MAX_MEMBERS]]`. Prints what it saw, and how large it grew.

use archiver::archive::{
    cut::{Cut, Limits},
    filter::{self, Filter},
    header,
    tree::Tree,
    walk::{Options, Position, Walk},
};
use std::{env, error::Error, fs, path::Path, sync::Arc};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(dir) = args.first() else { return Err("usage: walk DIR [MAX_SIZE [MAX_MEMBERS]]".into()) };
    let number = |at: usize, usual: u64| args.get(at).map_or(Ok(usual), |text| text.parse());
    // As they are when nothing is configured.
    let limits = Limits {
        max_size: number(1, 512 << 30)?,
        max_members: number(2, 1_000_000)?,
        estimate: header::estimate,
        ancestor: header::ancestor,
    };
    let tree = Arc::new(Tree::open(Path::new(dir))?);
    let filter = Arc::new(Filter::new(&filter::Options::default())?);
    let mut cut = Cut::new(Walk::new(tree, filter, Options::default(), Position::Start), limits);
    let (mut pieces, mut bytes) = (0, 0);
    while let Some(plan) = cut.next_plan()? {
        pieces += 1;
        bytes += plan.tar_size;
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim();
    println!("{} entries, {pieces} pieces, {bytes} bytes, peak {peak}", cut.walk().seen());
    Ok(())
}
