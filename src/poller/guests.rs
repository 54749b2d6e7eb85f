//! A loop around this poller, for example that of asyncio: its descriptors are in the same poll, and it asks for the
//! turns one by one.
//!
//! The descriptors of that loop are *guests*: level-triggered, and without handlers. A turn only tells which of them
//! are ready.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use mio::event::Event;

use super::state::State;
use super::{Dispatch, Failure, Poller};
use crate::sources::guest::{Guest, Guests};

impl State {
    /// Notes an event that belongs to no source: of a guest, or of a source that has ended.
    #[cold]
    pub(super) fn note_guest(&mut self, event: &Event) {
        if let Ok(fd) = RawFd::try_from(event.token().0) {
            let has_failed = event.is_error();
            self.guests.push(Guest {
                fd,
                readable: event.is_readable() || event.is_read_closed() || has_failed,
                writable: event.is_writable() || event.is_write_closed() || has_failed,
            });
        }
    }
}

impl Poller {
    /// The guests of this poller.
    pub fn guests(&self) -> io::Result<Guests> {
        Ok(Guests::new(self.registry.try_clone()?))
    }

    /// Begins to serve a loop that runs on this thread.
    pub fn begin_turns(&self) {
        self.state.borrow_mut().pinning.pin_if_asked();
        self.handle.pulse.start();
        self.handle.mailbox.serve();
    }

    /// The loop on this thread has ended, or pauses.
    pub fn end_turns(&self) {
        self.state.borrow_mut().pinning.undo();
        self.handle.pulse.rest();
        self.handle.mailbox.leave();
    }

    /// Notes that the code of the loop around runs, under this name, for the watchdog.
    pub fn begin_guest(&self, name: &'static &'static str) {
        self.handle.pulse.point_to(None);
        self.handle.pulse.begin(self.clock.now(), name);
    }

    /// Notes that the code of the loop around pauses. It was attached to the interpreter, so its time counts as busy.
    fn end_guest(&self) {
        self.handle.pulse.rest();
        self.state.borrow_mut().batch.latest = self.clock.now();
    }

    /// The first half of a turn: flushes, waits no longer than `at_most`, and reads. Returns whether there is something to
    /// dispatch.
    pub fn gather(&self, dispatch: &dyn Dispatch, at_most: Option<Duration>) -> Result<bool, Failure> {
        self.end_guest();
        let mut has_batch = Ok(false);
        dispatch.apart(self, &mut || {
            self.state.borrow_mut().flush();
            has_batch = self.collect(at_most);
        });
        has_batch.map_err(Failure::Io)
    }

    /// The second half: calls the handlers, and flushes.
    pub fn act(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        self.handle.pulse.rest();
        self.begin_batch();
        self.dispatch_batch(dispatch)?;
        dispatch.apart(self, &mut || self.state.borrow_mut().flush());
        Ok(())
    }

    /// Whether the poller is done; [`Poller::wind_up`] is due then.
    pub fn is_done(&self) -> bool {
        self.state.borrow().is_done()
    }

    /// Waits for guests only, because the poller has ended. Callbacks that had waited may still end.
    pub fn turn_for_guests(&self, dispatch: &dyn Dispatch, at_most: Option<Duration>) -> Result<(), Failure> {
        let at_most = if self.state.borrow().queues.have_turns() { Some(Duration::ZERO) } else { at_most };
        self.end_guest();
        let mut waited = Ok(());
        dispatch.apart(self, &mut || waited = self.wait(None, at_most));
        waited.map_err(Failure::Io)?;
        if self.state.borrow().queues.have_turns() {
            self.begin_batch();
            self.dispatch_batch(dispatch)?;
        }
        Ok(())
    }

    /// Takes the guests that were found ready in the last turn.
    pub fn take_guests(&self, into: &mut Vec<Guest>) {
        into.append(&mut self.state.borrow_mut().guests);
    }
}
