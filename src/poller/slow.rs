//! Reports of callbacks that have returned and took longer than `slow_callback`.
//!
//! The report is a turn of its own, so it comes after the callback and never inside one. A report names the callback and
//! its peer as they were known when the callback began or ended.

use super::call::SlowCallback;
use super::queues::Turn;
use super::state::{Source, State};
use crate::shared::remote::Peer;

impl State {
    /// Reports the last callback, which took so many nanoseconds; at most one report a second.
    #[cold]
    pub(super) fn note_slow(&mut self, took: u64, now: u64) {
        if !self.told_of_slow.is_due(0, now) {
            self.slow_unreported += 1;
            return;
        }
        let unreported = std::mem::take(&mut self.slow_unreported);
        let callback = self.handle.pulse.callback().unwrap_or("a callback");
        let peer = self.peer_of_last();
        self.queues.turns.push_back(Turn::Slow(Box::new(SlowCallback { callback, peer, took, unreported })));
    }

    fn peer_of_last(&mut self) -> Option<Peer> {
        let token = self.batch.source()?;
        match self.sources.get(token) {
            Some(Source::Connection(connection)) => Some(connection.remote.peer()),
            _ => self.batch.take_closed(token),
        }
    }
}
