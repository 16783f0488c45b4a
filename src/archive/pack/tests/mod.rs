//! Promises of the packer, proven with the tools that a restore uses. The tree is a plain directory here; ours opens
//! by descriptors.

mod inside;
mod moving;
mod nasty;
mod ranges;
mod resume;
mod segments;
mod tools;

use super::*;
use crate::archive::{
    content::{OpenError, Xattrs},
    entry::{Meta, Stamp},
    list::{MemberList, members},
    manifest::{Member, join},
};
use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    fs::{self, OpenOptions},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

type BeforeOpen<'h> = Box<dyn Fn(&Entry) -> Result<(), OpenError> + 'h>;
type OnMark<'h> = Box<dyn Fn(&Mark) + 'h>;
type Reader<'h> = Box<dyn Fn(&File, &mut [u8], u64) -> io::Result<usize> + 'h>;

/// A plain directory as content, with a hook that is called before each file is opened.
struct Plain<'h> {
    root: PathBuf,
    before_open: Option<BeforeOpen<'h>>,
}

impl Plain<'_> {
    fn at(&self, path: &SourcePath) -> PathBuf {
        self.root.join(path.as_path())
    }

    fn checked(&self, entry: &Entry) -> Result<PathBuf, OpenError> {
        if self.stat(&entry.path)?.is_same_inode(&entry.meta) {
            Ok(self.at(&entry.path))
        } else {
            Err(OpenError::Replaced)
        }
    }
}

impl Content for Plain<'_> {
    fn stat(&self, path: &SourcePath) -> io::Result<Meta> {
        lstat(&self.at(path))
    }

    fn open_file(&self, entry: &Entry) -> Result<File, OpenError> {
        if let Some(hook) = &self.before_open {
            hook(entry)?;
        }
        Ok(File::open(self.checked(entry)?)?)
    }

    fn read_link(&self, entry: &Entry) -> Result<Vec<u8>, OpenError> {
        Ok(fs::read_link(self.checked(entry)?)?.as_os_str().as_bytes().to_vec())
    }

    fn xattrs(&self, entry: &Entry) -> Result<Xattrs, OpenError> {
        Ok(xattrs(&self.checked(entry)?)?)
    }
}

fn xattrs(path: &Path) -> io::Result<Xattrs> {
    let (mut names, mut value) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let len = rustix::fs::llistxattr(path, &mut names)?;
    let names = names[..len].split(|b| *b == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let len = rustix::fs::lgetxattr(path, name, &mut value)?;
            Ok((name.to_vec(), value[..len].to_vec()))
        })
        .collect()
}

fn lstat(path: &Path) -> io::Result<Meta> {
    let stat = fs::symlink_metadata(path)?;
    let kind = match stat.file_type() {
        t if t.is_dir() => Kind::Dir,
        t if t.is_file() => Kind::File,
        t if t.is_symlink() => Kind::Symlink,
        t if t.is_fifo() => Kind::Fifo,
        t if t.is_char_device() => Kind::CharDevice,
        t if t.is_block_device() => Kind::BlockDevice,
        _ => Kind::Socket,
    };
    Ok(Meta {
        kind,
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        size: if matches!(kind, Kind::File | Kind::Symlink) { stat.size() } else { 0 },
        mtime: Stamp { sec: stat.mtime(), nsec: stat.mtime_nsec() as u32 },
        ctime: Stamp { sec: stat.ctime(), nsec: stat.ctime_nsec() as u32 },
        dev: stat.dev(),
        ino: stat.ino(),
        nlink: stat.nlink(),
        rdev: stat.rdev(),
    })
}

fn path(text: &str) -> SourcePath {
    SourcePath::parse(text.as_bytes()).unwrap()
}

/// Everything below and with the directory, in walk order.
fn walk(root: &Path) -> Vec<Walked> {
    fn go(root: &Path, path: SourcePath, found: &mut Vec<Walked>) {
        let at = root.join(path.as_path());
        let meta = lstat(&at).unwrap();
        let is_dir = meta.kind == Kind::Dir;
        found.push(Walked::Entry(Entry { path: path.clone(), meta }));
        if is_dir {
            let mut names: Vec<_> = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names.iter().for_each(|name| go(root, path.join(name.as_bytes()), found));
        }
    }
    let mut found = Vec::new();
    go(root, SourcePath::root(), &mut found);
    found
}

/// A source directory, and what was packed of it.
struct Bench<'h> {
    dir: tempfile::TempDir,
    content: Plain<'h>,
    options: Options,
    /// Marks with the tar and the list as they were then.
    marks: RefCell<Vec<Mark>>,
    from: Option<Mark>,
    chain: Option<SegmentChain>,
    read_at: Reader<'h>,
    stop: Box<dyn Fn() -> bool + 'h>,
    on_mark: Option<OnMark<'h>>,
}

impl<'h> Bench<'h> {
    fn new() -> Bench<'h> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("source");
        fs::create_dir(&root).unwrap();
        Bench {
            dir,
            content: Plain { root, before_open: None },
            options: Options {
                retries: 3,
                max_size: 1 << 40,
                max_members: 1 << 40,
                mark_bytes: 1 << 40,
                mark_every: Duration::from_secs(1),
            },
            marks: RefCell::default(),
            from: None,
            chain: None,
            read_at: Box::new(rustix::fs::FileExt::read_at),
            stop: Box::new(|| false),
            on_mark: None,
        }
    }

    fn root(&self) -> PathBuf {
        self.content.root.clone()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let at = self.root().join(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, bytes).unwrap();
        at
    }

    fn tar(&self) -> PathBuf {
        self.dir.path().join("piece.tar")
    }

    fn list(&self) -> PathBuf {
        self.dir.path().join("piece.list")
    }

    fn pack(&self) -> Result<Outcome, PackError> {
        self.pack_plan(Plan { items: walk(&self.root()).into(), tar_size: 0, members: 0, segment: None })
    }

    fn pack_items(&self, items: Vec<Walked>) -> Result<Outcome, PackError> {
        self.pack_plan(Plan { items: items.into(), tar_size: 0, members: 0, segment: None })
    }

    fn pack_plan(&self, plan: Plan) -> Result<Outcome, PackError> {
        self.pack_from(&self.content, plan)
    }

    fn pack_content(&self, content: &dyn Content, items: Vec<Walked>) -> Result<Outcome, PackError> {
        self.pack_from(content, Plan { items: items.into(), tar_size: 0, members: 0, segment: None })
    }

    fn pack_from(&self, content: &dyn Content, plan: Plan) -> Result<Outcome, PackError> {
        let open = |path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        let names = Names::parse(b"root:x:0:0::/:/\n", b"root:x:0:\n");
        let job = PackJob {
            content,
            plan,
            options: &self.options,
            tar: open(self.tar()),
            list: open(self.list()),
            from: self.from.clone(),
            chain: self.chain.clone(),
            mark: &mut |mark| {
                self.marks.borrow_mut().push(mark.clone());
                self.on_mark.iter().for_each(|heard| heard(mark));
                Ok(())
            },
            rule: &|rule| format!("rule {rule}"),
            stop: &self.stop,
            progress: &|_| {},
            now: &|| Duration::ZERO,
            names: &names,
        };
        let outcome = pack_reading(job, &self.read_at)?;
        self.check(&outcome.packed);
        Ok(outcome)
    }

    /// What holds for every piece.
    fn check(&self, packed: &Packed) {
        let tar = fs::read(self.tar()).unwrap();
        assert_eq!(packed.tar_size, tar.len() as u64);
        assert_eq!(packed.tar_sha256, hex(Sha256::new().chain_update(&tar)));
        assert!(packed.range.counts.adds_up(), "{:?}", packed.range.counts);
        let (read, lines) = MemberList::open(&self.list()).unwrap();
        assert_eq!(&read, packed);
        let recount = crate::archive::manifest_io::recount(members(lines)).unwrap();
        assert_eq!((recount.clean, recount.changed), (packed.range.counts.clean, packed.range.counts.changed));
    }

    fn members(&self) -> Vec<Member> {
        members(MemberList::open(&self.list()).unwrap().1).map(Result::unwrap).collect()
    }

    fn member(&self, name: &str) -> Member {
        let named = |member: &Member| join(&member.path, &member.path_b64).unwrap() == name.as_bytes();
        self.members().into_iter().find(named).unwrap_or_else(|| panic!("no member {name}"))
    }
}

/// Reason and path of every exception.
fn exceptions(packed: &Packed) -> Vec<(Reason, String)> {
    packed.range.exceptions.iter().map(|line| (line.reason, line.exception().unwrap().path.display())).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new().chain_update(bytes))
}

/// Bytes that look like nothing, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}
