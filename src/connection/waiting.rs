//! The callbacks of a connection that wait: their begin and their end.

use super::due::Due;
use super::phase::Phase;
use super::waits::{Facts, Waits};
use super::{Connection, Peer};
use crate::timer::Held;

impl Connection {
    #[inline(always)]
    pub(super) fn waits(&self) -> Option<&Waits> {
        self.rare.as_ref()?.waits.as_deref()
    }

    fn waits_mut(&mut self) -> Option<&mut Waits> {
        self.rare.as_mut()?.waits.as_deref_mut()
    }

    fn waits_or_new(&mut self) -> &mut Waits {
        self.rare.get_or_insert_default().waits.get_or_insert_default()
    }

    /// Forgets the callbacks that wait.
    pub(super) fn drop_waits(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.waits = None;
        }
    }

    /// Whether a callback waits and keeps the next one back.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.waits().is_some_and(|waits| waits.holding > 0)
    }

    /// Keeps a timer for the end of the callback that holds.
    pub fn hold_timer(&mut self, held: Held) {
        if let Some(waits) = self.waits_mut() {
            waits.timers.push(held);
        }
    }

    /// Sets whether callbacks that wait go on when the peer has gone away.
    pub fn set_outlive_peer(&mut self, outlive: bool) {
        self.waits_or_new().outlive_peer = outlive;
    }

    /// Has [`Due::Drained`] become due when the output has fallen to the low-water mark. False if it is not above the high
    /// one.
    pub fn want_drain(&mut self) -> bool {
        if self.over_high {
            self.waits_or_new().wants_drain = true;
        }
        self.over_high
    }

    pub(super) fn note_drained(&mut self) {
        if let Some(waits) = self.waits_mut() {
            waits.wants_drain = false;
        }
    }

    /// Notes that the running callback waits for something. With `holds` the next one waits for its end.
    pub fn begin_wait(&mut self, holds: bool) {
        let offered = std::mem::take(&mut self.offered);
        let waits = self.waits_or_new();
        waits.count += 1;
        if holds {
            waits.holding += 1;
            waits.offered = waits.offered.max(offered);
        }
    }

    /// Notes the end of a callback that waited. Returns the timers that it kept back.
    pub fn end_wait(&mut self, holds: bool) -> Vec<Held> {
        let Some(waits) = self.waits_mut() else { return Vec::new() };
        waits.count = waits.count.saturating_sub(1);
        waits.told &= waits.count > 0;
        waits.holding = waits.holding.saturating_sub(u32::from(holds));
        if !holds || waits.holding > 0 {
            return Vec::new();
        }
        let (offered, timers) = (std::mem::take(&mut waits.offered), std::mem::take(&mut waits.timers));
        // More input has come: then `on_read` is due, whether it consumed some or not.
        if !self.news {
            self.offered = offered;
        }
        timers
    }

    /// Has the callbacks that wait cancelled, whatever was set before.
    pub fn end_patience(&mut self) {
        if let Some(waits) = self.waits_mut() {
            waits.outlive_peer = false;
        }
    }

    /// Notes that the dispatch cancels the callbacks that wait.
    pub(super) fn note_cancelled(&mut self) {
        if let Some(waits) = self.waits_mut() {
            waits.told = true;
        }
    }

    /// The callback that is due while others wait; `alone` is due without them.
    #[cold]
    pub(super) fn due_beside(&self, waits: &Waits, alone: impl FnOnce() -> Option<Due>) -> Option<Due> {
        let facts = Facts {
            is_open: self.phase == Phase::Open,
            over_high: self.over_high,
            is_lost: self.reason.is_some() || self.peer == Peer::Gone,
            has_eof: self.has_eof(),
        };
        waits.due(&facts, alone)
    }
}
