//! The peer of a connection in a test: two queues of bytes instead of a socket.
//!
//! A test fills one queue and empties the other; the connection does the reverse by its transport. Everything above
//! the transport is the code that serves sockets.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::buffer::{Head, Sent};

/// One peer.
pub struct Memory(Mutex<Inside>);

struct Inside {
    /// Bytes that the peer has sent and the connection has not received.
    incoming: VecDeque<u8>,
    /// Whether the peer has shut down its write side.
    finished: bool,
    /// Whether the peer has reset the connection.
    is_reset: bool,
    /// Bytes that were sent to the peer and not taken by the test.
    outgoing: Vec<u8>,
    /// The number of bytes that the peer still takes.
    window: usize,
    end: Option<End>,
}

/// The end of the stream to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An orderly end.
    Finished,
    /// A reset.
    Reset,
}

impl Default for Memory {
    fn default() -> Self {
        Self(Mutex::new(Inside {
            incoming: VecDeque::new(),
            finished: false,
            is_reset: false,
            outgoing: Vec::new(),
            window: usize::MAX,
            end: None,
        }))
    }
}

impl Memory {
    // ---- the test's side ------------------------------------------------------------------------------------------

    /// The peer sends `bytes`.
    pub fn push(&self, bytes: &[u8]) {
        self.lock().incoming.extend(bytes);
    }

    /// The peer shuts down its write side.
    pub fn push_eof(&self) {
        self.lock().finished = true;
    }

    /// The peer resets the connection.
    pub fn push_reset(&self) {
        self.lock().is_reset = true;
    }

    /// Takes the bytes that were sent to the peer.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().outgoing)
    }

    /// The peer takes `window` more bytes, then none.
    pub fn set_window(&self, window: usize) {
        self.lock().window = window;
    }

    /// The end of the stream to the peer, if it has ended.
    pub fn end(&self) -> Option<End> {
        self.lock().end
    }

    // ---- the connection's side ------------------------------------------------------------------------------------

    pub(super) fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut inside = self.lock();
        if inside.is_reset {
            return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        if inside.incoming.is_empty() && !inside.finished {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A queue of two parts reads only the first one, and a short read means that nothing is left.
        inside.incoming.make_contiguous();
        inside.incoming.read(room)
    }

    pub(super) fn send(&self, head: Head<'_>, file_budget: usize) -> io::Result<Sent> {
        let mut inside = self.lock();
        if inside.is_reset {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        if inside.window == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (data, from_file) = match head {
            Head::Bytes(slices) => (slices.iter().flat_map(|slice| slice.iter().copied()).collect(), false),
            Head::File(range) => {
                let mut data = vec![0; (range.remaining as usize).min(file_budget)];
                File::from(range.file.as_fd().try_clone_to_owned()?).read_exact_at(&mut data, range.offset)?;
                (data, true)
            }
            Head::Piped(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let bytes = data.len().min(inside.window);
        inside.window -= bytes;
        inside.outgoing.extend_from_slice(&data[..bytes]);
        Ok(Sent { bytes, all: bytes == data.len() && !from_file, from_file })
    }

    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.lock().is_reset.then(|| io::Error::from_raw_os_error(libc::ECONNRESET))
    }

    pub(super) fn finish(&self) {
        self.lock().end.get_or_insert(End::Finished);
    }

    pub(super) fn reset(&self) {
        self.lock().end = Some(End::Reset);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // A panic while the lock is held cannot leave the queues half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
