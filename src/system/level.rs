//! Level-triggered descriptors in an epoll instance of mio, which itself watches for edges only (epoll_ctl(2)).

use std::io;
use std::os::fd::RawFd;

/// Begins to watch `fd`; its events come with `data`.
pub fn add(epoll: RawFd, fd: RawFd, data: u64, (readable, writable): (bool, bool)) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_ADD, fd, data, (readable, writable))
}

/// Replaces the events for which `fd` is watched.
pub fn change(epoll: RawFd, fd: RawFd, data: u64, (readable, writable): (bool, bool)) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_MOD, fd, data, (readable, writable))
}

/// Stops watching `fd`.
pub fn remove(epoll: RawFd, fd: RawFd) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_DEL, fd, 0, (false, false))
}

fn control(epoll: RawFd, operation: i32, fd: RawFd, data: u64, (readable, writable): (bool, bool)) -> io::Result<()> {
    let flag = |wanted: bool, flag: i32| if wanted { flag as u32 } else { 0 };
    let events = flag(readable, libc::EPOLLIN) | flag(writable, libc::EPOLLOUT);
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the event outlives the call; wrong descriptors are reported by an error.
    match unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
