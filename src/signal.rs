//! A pipe that signal handlers write to, so that a signal wakes the poller even just before it waits.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// A socket pair: signal handlers have the one end, a poller the other.
pub struct SignalPipe {
    reader: UnixStream,
    writer: UnixStream,
}

impl SignalPipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, writer })
    }

    pub(crate) fn reader(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// The end for signal handlers.
    pub fn writer(&self) -> RawFd {
        self.writer.as_raw_fd()
    }

    /// Empties the pipe; whether there was anything in it.
    pub(crate) fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        let mut any = false;
        while (&self.reader).read(&mut bytes).is_ok_and(|count| count > 0) {
            any = true;
        }
        any
    }
}
