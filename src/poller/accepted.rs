//! The end of the connections of one acceptor, on a poller that goes on.
//!
//! A connection belongs to the acceptor of its permit, whatever handler has taken it over.

use super::Poller;
use super::state::{Source, State};
use crate::connection::phase::Phase;
use crate::shared::acceptor::Acceptor;
use crate::shared::admission::Permit;
use crate::slots::Token;

impl Source {
    fn permit(&self) -> Option<&Permit> {
        match self {
            Self::Connection(connection) => connection.permit(),
            Self::Arrival(arrival) => Some(&arrival.permit),
            #[cfg(feature = "tls")]
            Self::Handshake(handshake) => handshake.permit(),
            _ => None,
        }
    }

    /// Whether a handler has it, or will have it.
    fn is_served(&self) -> bool {
        !matches!(self, Self::Connection(connection) if connection.phase() >= Phase::Lingering)
    }
}

impl State {
    fn accepted_by(&self, acceptor: &Acceptor) -> Vec<Token> {
        let is_its = |token: &Token| {
            let permit = self.sources.get(*token).and_then(Source::permit);
            permit.is_some_and(|permit| permit.is_of(&acceptor.admission))
        };
        self.sources.tokens().into_iter().filter(is_its).collect()
    }
}

impl Poller {
    /// Ends the connections of an acceptor as a stop of the reactor does: each gets `on_stopping`, or closes.
    pub fn stop_accepted(&self, acceptor: &Acceptor) {
        // One on its way between two pollers is stopped when it arrives.
        acceptor.admission.note_stopping();
        let state = &mut *self.state.borrow_mut();
        for token in state.accepted_by(acceptor) {
            state.stop_source(token, false);
        }
    }

    /// Aborts the connections of an acceptor.
    pub fn abort_accepted(&self, acceptor: &Acceptor) {
        let state = &mut *self.state.borrow_mut();
        for token in state.accepted_by(acceptor) {
            state.abort_source(token);
        }
    }

    /// The number of connections of an acceptor that have handlers, or are going to have them.
    pub fn served(&self, acceptor: &Acceptor) -> usize {
        let state = self.state.borrow();
        let is_its = |permit: &Permit| permit.is_of(&acceptor.admission);
        state.sources.values().filter(|source| source.permit().is_some_and(is_its) && source.is_served()).count()
    }
}
