//! Turns one downloaded object into what was sealed in it: a piece into a plain tar, a manifest into JSON
//! Lines, a listing into text. What is not proven to be whole never gets its name.

use super::unpack::UnpackError;
use crate::{
    compress,
    durable::{self, DurableError, at},
    encrypt::{EncryptError, Opener},
    fate::{Fate, Fateful, Stopped, Trouble},
    name::Compression,
};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

/// Clear bytes between decompressing and whoever takes them.
const BUFFER_LEN: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Disk(#[from] DurableError),
    #[error("Cannot decrypt {path:?}")]
    Decrypt { path: PathBuf, source: EncryptError },
    #[error("{path:?} is encrypted, and there is neither a passphrase nor a secret key to open it with")]
    NoKey { path: PathBuf },
    #[error("Cannot decompress {path:?}: it is damaged or incomplete")]
    Damaged { path: PathBuf, source: io::Error },
    #[error("{0:?} has no name of ours, like 000001-a_to_b.tar.xz.gpg")]
    Name(PathBuf),
    #[error("Cannot unpack {path:?}")]
    Unpack { path: PathBuf, source: UnpackError },
}

impl RestoreError {
    /// Whether other objects would meet the same: a key that does not open what is as it was sealed, or the disk.
    pub fn is_of_all(&self) -> bool {
        match self {
            RestoreError::Unpack { source: UnpackError::Target(_), .. } => true,
            RestoreError::Decrypt { source, .. } => {
                matches!(source, EncryptError::Key(_) | EncryptError::NoKey { .. } | EncryptError::Agent { .. })
            }
            RestoreError::NoKey { .. } | RestoreError::Disk(_) => true,
            RestoreError::Damaged { .. } | RestoreError::Name(_) | RestoreError::Unpack { .. } => false,
        }
    }
}

impl Fateful for RestoreError {
    fn fate(&self) -> Fate {
        match self {
            RestoreError::Damaged { source, .. } if Stopped::caused(source) => Fate::Stopped,
            _ => Fate::Operator,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            RestoreError::Disk(_) => Trouble::Staging,
            RestoreError::Decrypt { source, .. } => source.trouble(),
            RestoreError::NoKey { .. } => Trouble::Keys,
            RestoreError::Damaged { .. } | RestoreError::Name(_) | RestoreError::Unpack { .. } => Trouble::Internal,
        }
    }
}

/// The name of what is inside of an object of ours, that must be opened to be had.
pub fn clear_name(file: &Path) -> Result<&str, RestoreError> {
    let (clear_name, form) = form(file)?;
    if form == (Form { is_sealed: false, compression: Compression::None }) || clear_name.is_empty() {
        return Err(RestoreError::Name(file.to_owned()));
    }
    Ok(clear_name)
}

/// Opens `file` into `dest`, and never replaces a file. `came` is told of clear bytes as they come. Gives their number.
pub fn open_object(file: &Path, opener: Option<&Opener>, dest: &Path, came: &dyn Fn(u64)) -> Result<u64, RestoreError> {
    let (_, form) = form(file)?;
    let mut tmp = dest.as_os_str().to_owned();
    tmp.push(".part");
    let tmp = PathBuf::from(tmp);
    durable::create_dir(dest.parent().expect("what is made lies in a directory"))?;
    durable::remove(&tmp)?;
    let out = durable::create(&tmp)?;
    let written = with_clear(file, form, opener, |clear| {
        let mut out = BufWriter::with_capacity(BUFFER_LEN, &out);
        let copied = io::copy(&mut Counted { clear, came }, &mut out);
        let copied = copied.and_then(|len| out.flush().map(|()| len));
        copied.map_err(|source| RestoreError::Damaged { path: file.to_owned(), source })
    });
    let published = written.and_then(|bytes| {
        durable::publish_new(&out, &tmp, dest)?;
        Ok(bytes)
    });
    if published.is_err() {
        durable::remove(&tmp)?;
    }
    published
}

struct Counted<'a> {
    clear: &'a mut dyn Read,
    came: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.clear.read(buf)?;
        (self.came)(len as u64);
        Ok(len)
    }
}

/// How an object was made, as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub is_sealed: bool,
    pub compression: Compression,
}

/// The name of what is inside, and how it was made.
pub fn form(file: &Path) -> Result<(&str, Form), RestoreError> {
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| RestoreError::Name(file.to_owned()))?;
    let (rest, is_sealed) = match name.strip_suffix(".gpg") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let (clear_name, compression) = [(".xz", Compression::Xz), (".zst", Compression::Zstd)]
        .into_iter()
        .find_map(|(suffix, method)| rest.strip_suffix(suffix).map(|clear| (clear, method)))
        .unwrap_or((rest, Compression::None));
    Ok((clear_name, Form { is_sealed, compression }))
}

/// Hands the clear bytes of an object to `take`. They are proven to be whole when this returns `Ok`, and not before.
pub fn with_clear<T>(
    file: &Path,
    form: Form,
    opener: Option<&Opener>,
    take: impl FnOnce(&mut dyn Read) -> Result<T, RestoreError>,
) -> Result<T, RestoreError> {
    let mut input = File::open(file).map_err(at("open", file))?;
    if !form.is_sealed {
        return decompress(file, input, form.compression, take);
    }
    let opener = opener.ok_or_else(|| RestoreError::NoKey { path: file.to_owned() })?;
    // Decryption pushes and decompression pulls: they meet in a bounded channel.
    let (sender, receiver) = sync_channel::<Vec<u8>>(16);
    thread::scope(|scope| {
        let decrypting = scope.spawn(move || {
            let mut pipe = PipeWriter(sender);
            opener.decrypt(&mut input, &mut pipe)
        });
        let pipe = PipeReader { receiver, chunk: Vec::new(), at: 0 };
        let taken = decompress(file, pipe, form.compression, take);
        match decrypting.join() {
            // A broken key or a damaged file is the cause when both ends fail; but who fails only because the
            // other end has gone is not.
            Ok(Err(source)) if source.fate() != Fate::Retry || taken.is_ok() => {
                Err(RestoreError::Decrypt { path: file.to_owned(), source })
            }
            Ok(_) => taken,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn decompress<T>(
    file: &Path,
    input: impl Read + Send + 'static,
    method: Compression,
    take: impl FnOnce(&mut dyn Read) -> Result<T, RestoreError>,
) -> Result<T, RestoreError> {
    let clear = compress::reader(method, input);
    let clear = clear.map_err(|source| RestoreError::Damaged { path: file.to_owned(), source })?;
    // A tar of small files is read in blocks of 512 bytes.
    take(&mut BufReader::with_capacity(BUFFER_LEN, clear))
}

struct PipeWriter(SyncSender<Vec<u8>>);

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.send(buf.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.receiver.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(_) => return Ok(0),
            }
        }
        let len = buf.len().min(self.chunk.len() - self.at);
        buf[..len].copy_from_slice(&self.chunk[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
