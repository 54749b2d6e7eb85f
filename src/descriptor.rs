//! A descriptor that belongs to an event handler: what it is watched for, and what it was reported for.
//!
//! It may be anything epoll takes (epoll_ctl(2)): a pipe, a UDP socket, inotify. It is never read, written or closed
//! here.

use std::os::fd::RawFd;

use mio::Interest;
use mio::event::Event;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interests {
    /// Readable, or ended.
    pub readable: bool,
    /// Writable.
    pub writable: bool,
    /// Report changes only, not levels.
    pub edge: bool,
}

impl Interests {
    /// Whether it is watched for nothing.
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
    pub fd: RawFd,
    pub interests: Interests,
    readable: bool,
    writable: bool,
}

impl Descriptor {
    pub fn new(fd: RawFd, interests: Interests) -> Self {
        Self { fd, interests, readable: false, writable: false }
    }

    /// Takes in what the poll says. A hang-up or an error is reported as whatever the handler watches for.
    pub fn note(&mut self, event: &Event) {
        let over = event.is_error() || event.is_read_closed();
        self.readable |= event.is_readable() || over;
        self.writable |= event.is_writable() || over;
    }

    /// Takes one report out, writability first as in the Go original: true for writable.
    pub fn take_due(&mut self) -> Option<bool> {
        if std::mem::take(&mut self.writable) && self.interests.writable {
            return Some(true);
        }
        (std::mem::take(&mut self.readable) && self.interests.readable).then_some(false)
    }
}
