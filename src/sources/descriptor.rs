//! The descriptor of an event handler: the events to watch for, and the events reported.
//!
//! It may be any descriptor that epoll takes (epoll_ctl(2)): a pipe, a UDP socket, inotify. This module never reads,
//! writes or closes it.

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
    pub fd: RawFd,
    pub interests: Interests,
    readable: bool,
    writable: bool,
}

impl Descriptor {
    pub fn new(fd: RawFd, interests: Interests) -> Self {
        Self { fd, interests, readable: false, writable: false }
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
