//! Extended attributes, by the name of a held descriptor, so that nothing is opened for them.

use rustix::io::Errno;

/// Enough for the lists and values of nearly all files at the first call; bytes.
const GUESS_LEN: usize = 512;
/// How often a list or value may grow between being measured and being read.
const TRIES: usize = 8;

/// Names with their values, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// All names and values, sorted by name. `path` leads to the very inode (`/proc/self/fd/N`): the calls that
/// follow a symlink end at that inode, be it a symlink itself.
pub fn read(path: &str) -> Result<Xattrs, Errno> {
    let list = match fit(|buf| rustix::fs::listxattr(path, buf), || rustix::fs::listxattr_query(path)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        list => list?,
    };
    let mut found = Vec::new();
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let value = fit(|buf| rustix::fs::getxattr(path, name, buf), || rustix::fs::getxattr_query(path, name));
        match value {
            Ok(value) => found.push((name.to_vec(), value)),
            // Removed since it was listed; or listed by a filesystem whose mount options turn it off.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    found.dedup_by(|later, first| later.0 == first.0);
    Ok(found)
}

/// Reads into a buffer that grows until what is read fits.
fn fit(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    mut measure: impl FnMut() -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0; GUESS_LEN];
    for _ in 0..TRIES {
        match read(&mut buf) {
            Err(Errno::RANGE) => buf.resize(measure()?.max(1).saturating_add(GUESS_LEN), 0),
            len => {
                buf.truncate(len?);
                return Ok(buf);
            }
        }
    }
    Err(Errno::RANGE)
}
