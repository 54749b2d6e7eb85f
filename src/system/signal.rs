//! Signals and pollers: a pipe that wakes a poller, and a guard that blocks signals in threads of our own.
//!
//! The pipe exists because a signal that arrives just before the wait would otherwise be lost.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// A socket pair: signal handlers write to one end, a poller reads the other.
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

    /// Empties the pipe; returns whether it held a byte.
    pub(crate) fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        let mut any = false;
        while (&self.reader).read(&mut bytes).is_ok_and(|count| count > 0) {
            any = true;
        }
        any
    }
}

/// The signal that asks one thread for its stack: a real-time signal that other software is unlikely to use.
pub fn stack_signal() -> libc::c_int {
    libc::SIGRTMAX() - 2
}

/// The address of a signal's handler: `SIG_DFL`, `SIG_IGN` or a function. `None` if the system does not tell.
pub fn handler_of(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // SAFETY: only reads the signal's action, into our own memory.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0).then_some(action.sa_sigaction)
    }
}

/// Blocks asynchronous signals in this thread, and so in the threads that it starts meanwhile. Such threads run no code of
/// the user: a child that was started there would block the signals too. Signals that a thread causes by its own fault are
/// not blocked.
pub(crate) struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    pub fn new() -> io::Result<Self> {
        // SAFETY: the sets are ours, and sigfillset, sigdelset and pthread_sigmask only read and write them.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP] {
                libc::sigdelset(&raw mut all, fault);
            }
            libc::sigdelset(&raw mut all, stack_signal());
            let mut before: libc::sigset_t = std::mem::zeroed();
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) {
                0 => Ok(Self(before)),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the one that this thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}
