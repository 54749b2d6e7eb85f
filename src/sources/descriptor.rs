//! The descriptor of an event handler: the events to watch for, and the events reported.
//!
//! It may be any descriptor that epoll takes (epoll_ctl(2)): a pipe, a UDP socket, inotify. This module never reads,
//! writes or closes it. Its owner may close it at any time.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use mio::Interest;
use mio::event::Event;

/// The events to watch a descriptor for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interests {
    /// Readable, or at its end.
    pub readable: bool,
    /// Writable.
    pub writable: bool,
    /// Edge-triggered: report changes, not levels.
    pub edge: bool,
}

impl Interests {
    /// Whether there are no events to watch for.
    pub fn is_empty(self) -> bool {
        !self.readable && !self.writable
    }

    pub(crate) fn to_mio(self) -> Interest {
        match (self.readable, self.writable) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            _ => Interest::READABLE,
        }
    }
}

pub(crate) struct Descriptor {
    fd: RawFd,
    /// The device and the inode of the open file, to tell it from a later one with the same number.
    file: Option<(libc::dev_t, libc::ino_t)>,
    pub interests: Interests,
    /// Whether a callback waits and keeps the next one back.
    pub held: bool,
    readable: bool,
    writable: bool,
}

impl Descriptor {
    pub fn new(fd: RawFd, interests: Interests) -> Self {
        Self { fd, file: file_of(fd), interests, held: false, readable: false, writable: false }
    }

    /// The number of the descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// The number, if it still names the same file; `EBADF` if its owner has closed it. It then has left the poll by
    /// itself, and the number may belong to a socket that the poll watches for another source.
    pub fn still_open(&self) -> io::Result<RawFd> {
        match self.file.is_some() && file_of(self.fd) == self.file {
            true => Ok(self.fd),
            false => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Stores an event of the poll. A hang-up or an error counts as each event that the handler watches for.
    pub fn note(&mut self, event: &Event) {
        let over = event.is_error() || event.is_read_closed();
        self.readable |= event.is_readable() || over;
        self.writable |= event.is_writable() || over;
    }

    /// Takes out one report: true for writable, which comes first as in the Go original.
    pub fn take_due(&mut self) -> Option<bool> {
        if std::mem::take(&mut self.writable) && self.interests.writable {
            return Some(true);
        }
        (std::mem::take(&mut self.readable) && self.interests.readable).then_some(false)
    }
}

fn file_of(fd: RawFd) -> Option<(libc::dev_t, libc::ino_t)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the call only writes one `stat`, which is ours, and takes any number as a descriptor.
    let result = unsafe { libc::fstat(fd, stat.as_mut_ptr()) };
    // SAFETY: after a result of 0 the system has written the whole `stat`.
    (result == 0).then(|| unsafe { stat.assume_init() }).map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_number_that_is_used_again_is_no_longer_the_same_descriptor() -> io::Result<()> {
        let (first, second) = UnixStream::pair()?;
        let descriptor = Descriptor::new(first.as_raw_fd(), Interests::default());
        assert_eq!(descriptor.still_open()?, first.as_raw_fd());
        // SAFETY: both descriptors are open; `first` keeps its number, which now names the file of `second`.
        assert_eq!(unsafe { libc::dup2(second.as_raw_fd(), first.as_raw_fd()) }, first.as_raw_fd());
        let error = descriptor.still_open().expect_err("it names another file");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        Ok(())
    }
}
