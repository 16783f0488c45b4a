//! Between our streams and the library's: keeps the first failure of a stream, which the library may bury under
//! errors of its own, and makes streams shareable between threads, which the library demands and never uses.

use std::{
    io::{self, Read, Write},
    sync::Mutex,
};

/// What a stream answers after it has failed; its own error is kept for [`Input::failure`] or [`Output::failure`].
fn failed() -> io::Error {
    io::Error::other("The stream has failed")
}

fn inner<T: ?Sized>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(|poison| poison.into_inner())
}

pub(super) struct Input<'a> {
    reader: Mutex<&'a mut (dyn Read + Send)>,
    failure: Option<io::Error>,
    bytes: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(reader: &'a mut (dyn Read + Send)) -> Input<'a> {
        Input { reader: Mutex::new(reader), failure: None, bytes: 0 }
    }

    /// Bytes read so far.
    pub(super) fn count(&self) -> u64 {
        self.bytes
    }

    /// The first failure of the reader.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(failed());
        }
        match inner(&mut self.reader).read(buf) {
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => Err(err),
            Err(err) => {
                self.failure = Some(err);
                Err(failed())
            }
        }
    }
}

pub(super) struct Output<'a> {
    writer: Mutex<&'a mut (dyn Write + Send)>,
    failure: Option<io::Error>,
    bytes: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(writer: &'a mut (dyn Write + Send)) -> Output<'a> {
        Output { writer: Mutex::new(writer), failure: None, bytes: 0 }
    }

    /// Bytes written so far.
    pub(super) fn count(&self) -> u64 {
        self.bytes
    }

    /// The first failure of the writer.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }
}

impl Write for Output<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // Whole or not at all: the library would not tell how much of a short write was taken.
        self.write_all(buf).map(|()| buf.len())
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        if self.failure.is_some() {
            return Err(failed());
        }
        match inner(&mut self.writer).write_all(buf) {
            Ok(()) => {
                self.bytes += buf.len() as u64;
                Ok(())
            }
            Err(err) => {
                self.failure = Some(err);
                Err(failed())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Flushing is the business of whoever owns the writer.
        Ok(())
    }
}
