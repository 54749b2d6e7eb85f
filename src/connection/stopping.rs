//! A connection during a stop of its reactor: its handler is told, and it may stay open for the time of a drain.
//!
//! The poller decides who is told and when; here are only the marks.

use super::Connection;

impl Connection {
    /// Sets whether `on_stopping` is due.
    pub fn set_stopping(&mut self, stopping: bool) {
        self.stopping_due = stopping;
        self.late &= !stopping;
        self.draining = false;
    }

    /// A new connection that hears of a stop after its `on_open`.
    pub fn with_stop(mut self, stopping: bool) -> Self {
        self.stopping_due = stopping;
        self
    }

    /// Has the connection stay open in a stop if its protocol drains; returns whether it does.
    pub fn drain(&mut self) -> bool {
        self.draining = self.protocol.as_ref().is_some_and(|protocol| protocol.drains());
        self.draining
    }

    /// Whether the end of the drain is to end it. Input that has arrived is answered first, and that ends it, too.
    pub fn is_drained(&self) -> bool {
        self.draining && self.input.is_empty()
    }

    /// Whether it was opened during a stop of which its handler has not been told.
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// Sets whether it is opened during a stop.
    pub fn set_late(&mut self, late: bool) {
        self.late = late;
    }
}
