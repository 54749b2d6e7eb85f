//! The few calls of Linux that `bare_epoll` and `churn` share.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> Result<Self> {
        // SAFETY: the call takes no pointer; the `OwnedFd` owns the new fd from here on.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    /// `operation` is one of `libc::EPOLL_CTL_*`.
    pub fn control(&self, operation: i32, fd: RawFd, events: i32) -> Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        // SAFETY: the kernel copies the event during the call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) }).map(drop)
    }

    /// Returns how many fds are ready, 0 after a time-out; [`Self::ready`] returns each.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<usize> {
        let milliseconds = timeout.map_or(-1, |timeout| timeout.as_millis() as i32);
        let (events, size) = (self.events.as_mut_ptr(), self.events.len() as i32);
        loop {
            // SAFETY: the kernel fills at most `size` events.
            match check(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events, size, milliseconds) }) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result.map(|count| count as usize),
            }
        }
    }

    /// The fd of one event of the last wait.
    pub fn ready(&self, index: usize) -> RawFd {
        self.events[index].u64 as RawFd
    }
}

/// A non-blocking TCP socket that sends without delay; sockets accepted from it do so too.
pub fn stream_socket() -> Result<OwnedFd> {
    let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointer; the `OwnedFd` owns the new fd from here on.
    let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, flags, 0))?) };
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1i32)?;
    Ok(socket)
}

/// `T` is the C type that the kernel expects for this option.
pub fn set_option<T>(socket: &OwnedFd, level: i32, option: i32, value: T) -> Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of the value during the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) }).map(drop)
}

/// Calls `bind` or `connect` with a port of 127.0.0.1.
pub fn with_loopback(
    socket: &OwnedFd,
    port: u16,
    call: unsafe extern "C" fn(RawFd, *const libc::sockaddr, libc::socklen_t) -> i32,
) -> Result<()> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: libc::INADDR_LOOPBACK.to_be() },
        sin_zero: [0; 8],
    };
    let size = size_of_val(&address) as libc::socklen_t;
    // SAFETY: both calls read `size` bytes of the address and keep no pointer.
    check(unsafe { call(socket.as_raw_fd(), (&raw const address).cast(), size) }).map(drop)
}

/// The result of a system call, or the error that it left in errno.
pub fn check(result: i32) -> Result<i32> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// Whether the same call on a socket may succeed later.
pub fn is_temporary(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
