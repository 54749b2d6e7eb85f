//! Guests: descriptors that a loop around a poller watches, level-triggered, without handlers.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use mio::Registry;

use crate::system::level;

/// A guest that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its descriptor.
    pub fd: RawFd,
    /// Whether it can be read, has ended, or has failed.
    pub readable: bool,
    /// Whether it can be written, has hung up, or has failed.
    pub writable: bool,
}

/// The guests of a poller. May be changed on any thread, also while the poller waits.
pub struct Guests {
    registry: Registry,
}

impl Guests {
    /// The guests of the poll of that registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// Begins to watch a descriptor for reading and for writing.
    pub fn add(&self, fd: RawFd, events: (bool, bool)) -> io::Result<()> {
        level::add(self.registry.as_raw_fd(), fd, token_of(fd), events)
    }

    /// Replaces the events for which it is watched.
    pub fn change(&self, fd: RawFd, events: (bool, bool)) -> io::Result<()> {
        level::change(self.registry.as_raw_fd(), fd, token_of(fd), events)
    }

    /// Stops watching it.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        level::remove(self.registry.as_raw_fd(), fd)
    }
}

/// No source has such a token, because no generation is 0.
fn token_of(fd: RawFd) -> u64 {
    u64::from(fd.cast_unsigned())
}
