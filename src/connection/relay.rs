//! Input that goes on to another connection: the state of it, and the protocol that keeps it from the handler.

use crate::error::Error;
use crate::protocols::{Protocol, Succession, Wire};
use crate::slots::Token;

/// The state of input that goes on to another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relay {
    /// The input is for the handler.
    Off,
    Flowing,
    /// Until the output of the other connection is sent.
    Waiting,
    /// The end of the input was passed on.
    Finished,
}

/// The protocol of a connection that is piped to another one: it keeps the input from the handler.
pub(super) struct Piped {
    pub to: Token,
    /// The last receive filled its room, so more bytes wait.
    pub is_bulk: bool,
}

impl Protocol for Piped {
    fn look(&mut self, _: &mut [u8]) -> usize {
        0
    }
    fn has_news(&self) -> bool {
        false
    }
    fn longest(&self) -> usize {
        0
    }
    fn callback(&self) -> &'static &'static str {
        &"on_read"
    }
    fn forget(&mut self) {}

    fn holds_eof(&self, input: usize) -> bool {
        input > 0
    }

    /// The end of the input ends one direction only, which the other connection is told of.
    fn finish(&mut self, wire: &mut dyn Wire) {
        if !wire.has_eof() || wire.is_stopping() {
            wire.close();
        }
    }

    fn may_hand_over(&self) -> Result<Succession, Error> {
        Err(Error::state("the input of the connection goes to another one, by pipe_to()".into()))
    }
}
