//! A connection that may move to another poller.

use std::sync::Arc;

use super::{Connection, InputEnd, OutputEnd, Peer};
use crate::connection::phase::Phase;
use crate::shared::handle::PollerHandle;
use crate::timer::TimerId;

impl Connection {
    /// Whether it may move now: its acceptor places connections by itself, and nothing but the connection and its protocol
    /// belongs to the poller. Timers that are no upkeep, coroutines and requests that wait for their answers keep it, and an
    /// end that has begun.
    pub fn may_move(&self, is_upkeep: impl Fn(TimerId) -> bool) -> bool {
        let placed = self.permit.as_ref().is_some_and(|permit| permit.moves() && !permit.is_stopping());
        let mut timers = self.rare.iter().flat_map(|rare| rare.timers.iter());
        let is_free = self.waits().is_none() && timers.all(|timer| is_upkeep(*timer));
        let goes_on = self.phase == Phase::Open && self.reason.is_none() && !self.stopping_due && !self.draining;
        let is_whole = self.input_end == InputEnd::None && self.output_end == OutputEnd::Open && !self.cut;
        let flows = self.peer == Peer::Present && !self.over_high && !self.paused && !self.transport.is_upgrading();
        let is_answered = self.protocol.as_ref().is_none_or(|protocol| !protocol.is_busy());
        let is_sound = placed && !self.bound && is_free && goes_on && is_whole && flows && is_answered;
        is_sound && !self.remote.is_closed() && self.remote.is_alone()
    }

    /// Has it stay on its poller for good.
    pub fn bind(&mut self) {
        self.bound = true;
    }

    /// Leaves its poller, and counts as one of the other.
    pub fn leave_poller(&mut self, to: &Arc<PollerHandle>) {
        self.places = super::Places::default();
        if let Some(permit) = &mut self.permit {
            permit.move_to(&to.load);
        }
    }
}
