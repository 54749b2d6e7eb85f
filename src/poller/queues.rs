//! The queues of one poller: the order of reads, the order of callbacks, and the work for the end of the batch.
//!
//! [`Queues::place`] puts a connection into the queues that its state asks for, after every step, so no code path can
//! forget to wake a connection. Two entries are made elsewhere: a new connection (`accept`), and a turn that the end of
//! the batch cuts off (`calls`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::connection::Connection;
use crate::connection::transport::Transport;
use crate::error::{Error, Foreign, Reason};
use crate::shared::acceptor::{Acceptor, Listener};
use crate::shared::handle::Message;
use crate::slots::Token;
use crate::timer::TimerId;

/// An entry that waits for its turn in the batch.
pub(super) enum Turn {
    Accepted(Token, Arc<Acceptor>),
    Connection(Token),
    Descriptor(Token),
    Datagrams(Token),
    Removed(Token, Reason),
    AcceptFailed(Arc<Acceptor>, io::Error),
    ConnectFailed(Token, Error),
    Cancelled(TimerId),
    Task(Foreign),
    /// A message behind a task that may be from the same thread.
    Message(Message),
    Signal,
}

/// A socket to close when the batch is over, because each end takes system calls.
pub(super) enum Ending {
    Close(Transport),
    /// Ends with a reset instead of a FIN.
    Reset(Transport),
    Linger(Token),
}

#[derive(Default)]
pub(super) struct Queues {
    /// Sources that may be ready to read, in the order of their turns.
    pub ready: VecDeque<Token>,
    /// The turns of the batch.
    pub turns: VecDeque<Turn>,
    /// The number of turns that are tasks and messages.
    pub posted_turns: usize,
    /// The connection with the current turn.
    pub current: Option<Token>,
    /// Connections and datagram sockets with output to flush.
    pub touched: Vec<Token>,
    pub endings: Vec<Ending>,
    /// Level-triggered descriptors to register again, because their handlers were called.
    pub rearm: Vec<Token>,
}

impl Queues {
    /// Puts a connection into each queue that its state asks for: for input, for a callback, for output.
    ///
    /// Runs after every step of a connection, and mostly finds nothing to do. So the tests are inlined, the cheapest
    /// and most selective first, and the rest is not.
    #[inline(always)]
    pub fn place(&mut self, token: Token, connection: &mut Connection) {
        self.list(token, connection);
        if !connection.places.queued && connection.has_due() {
            connection.places.queued = true;
            self.turns.push_back(Turn::Connection(token));
        }
        if connection.has_output() && !connection.places.touched && connection.wants_flush() {
            connection.places.touched = true;
            self.touched.push(token);
        }
    }

    /// As [`Self::place`], for input only.
    #[inline(always)]
    pub fn list(&mut self, token: Token, connection: &mut Connection) {
        if connection.may_hold_input() && !connection.places.listed && connection.wants_read() {
            connection.places.listed = true;
            self.ready.push_back(token);
        }
    }

    /// Lists a listener, unless it rests.
    pub fn place_listener(&mut self, token: Token, listener: &mut Listener) {
        if !listener.listed && listener.resting.is_none() {
            listener.listed = true;
            self.ready.push_back(token);
        }
    }

    /// Queues a value for the dispatch.
    pub fn push_task(&mut self, task: Foreign) {
        self.posted_turns += 1;
        self.turns.push_back(Turn::Task(task));
    }

    /// Whether no work is left before the next wait.
    pub fn are_empty(&self) -> bool {
        self.touched.is_empty()
            && self.endings.is_empty()
            && self.rearm.is_empty()
            && self.turns.is_empty()
            && self.ready.is_empty()
    }
}
