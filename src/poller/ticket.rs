//! The ticket of a connection for its move to another poller, and the slot that waits for it there.

use std::sync::Arc;

use crate::shared::handle::{Message, Move, PollerHandle};
use crate::shared::remote::Remote;
use crate::slots::Token;

/// The slot that another poller keeps for a connection.
pub struct Ticket {
    /// The connection on its old poller.
    pub token: Token,
    pub(super) to: Arc<PollerHandle>,
    pub(super) slot: Token,
    /// Whether it has waited for the callback for the input of the batch.
    pub(super) has_waited: bool,
}

/// A connection that is expected from another poller.
pub(super) struct Expected {
    pub remote: Arc<Remote>,
    pub from: Arc<PollerHandle>,
}

impl Ticket {
    /// The connection stays: tells the other poller that its slot is not needed.
    pub fn decline(&self) {
        // A poller that has ended keeps no slots.
        let _ = self.to.post(Message::Move(Move::Stay { slot: self.slot }));
    }
}
