//! A filesystem that misbehaves on order: reads that fail or never end, names without files, sizes that lie.

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

/// Nothing is kept in mind by the kernel.
const NO_TIME: Duration = Duration::ZERO;

pub struct Node {
    pub name: OsString,
    pub kind: FileType,
    /// What a listing of its directory says it is, where that is something else.
    pub listed_as: Option<FileType>,
    /// What it says it is when it is asked after it was found.
    pub becomes: Option<FileType>,
    pub bytes: Vec<u8>,
    /// Claimed beyond what is there.
    pub extra_size: u64,
    pub has_no_blocks: bool,
    /// Content that cannot be read.
    pub bad: Range<u64>,
    /// Listing it fails at this entry.
    pub list_fails_at: Option<usize>,
    /// It is listed, and not there.
    pub is_ghost: bool,
    /// Reads pass the page cache by.
    pub is_direct: bool,
    children: Vec<u64>,
}

/// The nodes, by number; the root is 1.
pub struct Nodes(Vec<Node>);

impl Nodes {
    fn get(&self, ino: u64) -> &Node {
        &self.0[ino as usize - 1]
    }

    pub fn node(&mut self, ino: u64) -> &mut Node {
        &mut self.0[ino as usize - 1]
    }

    fn add(&mut self, parent: u64, name: &str, kind: FileType, bytes: Vec<u8>) -> u64 {
        self.0.push(Node {
            name: name.into(),
            kind,
            listed_as: None,
            becomes: None,
            bytes,
            extra_size: 0,
            has_no_blocks: false,
            bad: 0..0,
            list_fails_at: None,
            is_ghost: false,
            is_direct: false,
            children: Vec::new(),
        });
        let ino = self.0.len() as u64;
        if ino > 1 {
            self.node(parent).children.push(ino);
        }
        ino
    }

    pub fn dir(&mut self, parent: u64, name: &str) -> u64 {
        self.add(parent, name, FileType::Directory, Vec::new())
    }

    pub fn file(&mut self, parent: u64, name: &str, bytes: impl Into<Vec<u8>>) -> u64 {
        self.add(parent, name, FileType::RegularFile, bytes.into())
    }
}

type Answer = Box<dyn FnOnce() + Send>;

/// What gets no answer.
#[derive(Default)]
struct Hung {
    nodes: BTreeSet<u64>,
    held: Vec<Answer>,
}

#[derive(Clone)]
struct Odd {
    nodes: Arc<Nodes>,
    hung: Arc<Mutex<Hung>>,
}

impl Odd {
    fn attr(&self, ino: u64) -> FileAttr {
        let node = self.nodes.get(ino);
        let size = node.bytes.len() as u64 + node.extra_size;
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: if node.has_no_blocks { 0 } else { size.div_ceil(512) },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: node.kind,
            perm: if node.kind == FileType::Directory { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }

    /// Answers at once, or when the hang is over.
    fn answer(&self, ino: u64, answer: impl FnOnce() + Send + 'static) {
        let mut hung = self.hung.lock().unwrap();
        if hung.nodes.contains(&ino) {
            hung.held.push(Box::new(answer));
        } else {
            drop(hung);
            answer();
        }
    }

    fn list(&self, ino: u64, offset: u64, mut reply: ReplyDirectory) {
        let node = self.nodes.get(ino);
        for (at, child) in node.children.iter().enumerate().skip(offset as usize) {
            if node.list_fails_at == Some(at) {
                // What is before it goes out with an answer of its own.
                return if at as u64 == offset { reply.error(Errno::EIO) } else { reply.ok() };
            }
            let named = self.nodes.get(*child);
            let kind = named.listed_as.unwrap_or(named.kind);
            if reply.add(INodeNo(*child), at as u64 + 1, kind, &named.name) {
                break;
            }
        }
        reply.ok();
    }

    fn read(&self, ino: u64, wanted: Range<u64>, reply: ReplyData) {
        let Node { bytes, bad, .. } = self.nodes.get(ino);
        if wanted.start < bad.end && bad.start < wanted.end {
            return reply.error(Errno::EIO);
        }
        let len = bytes.len() as u64;
        reply.data(&bytes[wanted.start.min(len) as usize..wanted.end.min(len) as usize]);
    }
}

impl Filesystem for Odd {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let children = &self.nodes.get(parent.0).children;
        let is_it = |ino: &&u64| self.nodes.get(**ino).name.as_bytes() == name.as_bytes();
        match children.iter().find(is_it).filter(|ino| !self.nodes.get(**ino).is_ghost) {
            Some(ino) => reply.entry(&NO_TIME, &self.attr(*ino), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let odd = self.clone();
        // The root alone: of all else what is asked of its content may hang, but not what it is.
        let hangs_as = if ino == INodeNo::ROOT { ino.0 } else { 0 };
        self.answer(hangs_as, move || {
            let attr = odd.attr(ino.0);
            let kind = odd.nodes.get(ino.0).becomes.unwrap_or(attr.kind);
            reply.attr(&NO_TIME, &FileAttr { kind, ..attr });
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let direct = if self.nodes.get(ino.0).is_direct { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), direct);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let odd = self.clone();
        self.answer(ino.0, move || odd.read(ino.0, offset..offset + u64::from(size), reply));
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        let odd = self.clone();
        self.answer(ino.0, move || odd.list(ino.0, offset, reply));
    }
}

/// The filesystem, mounted for as long as this lives.
pub struct Mounted {
    pub at: PathBuf,
    hung: Arc<Mutex<Hung>>,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// `fill` adds what is in it.
    pub fn new(at: &Path, fill: impl FnOnce(&mut Nodes)) -> Mounted {
        let mut nodes = Nodes(Vec::new());
        nodes.dir(0, "");
        fill(&mut nodes);
        let hung = Arc::new(Mutex::new(Hung::default()));
        let odd = Odd { nodes: Arc::new(nodes), hung: hung.clone() };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("odd".to_owned()), MountOption::RO];
        let session = fuser::spawn_mount(odd, at, &config).unwrap();
        Mounted { at: at.to_owned(), hung, session: Some(session) }
    }

    /// What is asked of this node gets no answer any more.
    pub fn hang(&self, ino: u64) {
        self.hung.lock().unwrap().nodes.insert(ino);
    }

    /// Whether somebody waits.
    pub fn is_waited_for(&self) -> bool {
        !self.hung.lock().unwrap().held.is_empty()
    }

    /// Answers everything.
    pub fn go_on(&self) {
        let held = {
            let mut hung = self.hung.lock().unwrap();
            hung.nodes.clear();
            std::mem::take(&mut hung.held)
        };
        held.into_iter().for_each(|answer| answer());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.go_on();
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        // Its thread ends when nobody uses the filesystem any more, for which nobody waits.
        drop(self.session.take());
    }
}
