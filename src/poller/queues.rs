//! The queues of one poller: the order of reads, the order of callbacks, and the work for the end of the batch.
//!
//! [`Queues::place`] puts a connection into the queues that its state asks for, after every step, so no code path can
//! forget to wake a connection. Two entries are made elsewhere: a new connection (`accept`), and a turn that the end of
//! the batch cuts off (`calls`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use socket2::Socket;

use super::call::SlowCallback;
use super::ticket::Ticket;
use crate::capacity::{KEPT, room_for};
use crate::connection::Connection;
use crate::connection::transport::Transport;
use crate::error::{Error, Foreign, Reason};
use crate::shared::acceptor::{Acceptor, Listener};
use crate::shared::handle::{Message, Move};
use crate::shared::remote::Peer;
use crate::slots::Token;
use crate::timer::Held;

/// The most room for messages that is given back in a turn of the loop. The kernel takes some 30 ms for the 200 MB of two
/// million messages, and no connection must wait for that.
const STEP: usize = 32 * 1024;

/// An entry that waits for its turn in the batch.
pub(super) enum Turn {
    Accepted(Token, Arc<Acceptor>),
    Connection(Token),
    /// A connection that may leave for another poller.
    Departure(Box<Ticket>),
    Descriptor(Token),
    Datagrams(Token),
    Removed(Token, Reason),
    AcceptFailed(Arc<Acceptor>, io::Error),
    ConnectFailed(Token, Error),
    ProxyRefused(Peer, String),
    #[cfg(feature = "tls")]
    HandshakeFailed(Peer, String),
    Task(Foreign),
    Slow(Box<SlowCallback>),
    /// A timer that is due, behind the input of its connection that arrived before.
    Timer(Held, Owed),
    Signal,
}

/// The input that a connection got before a moment, and that its handler gets before what came due at that moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    /// The bytes that the handler has to have taken, counted from the opening of the connection.
    pub until: u64,
}

/// A socket to close when the batch is over, because each end takes system calls.
pub(super) enum Ending {
    Close(Transport),
    /// Ends with a reset instead of a FIN.
    Reset(Transport),
    Linger(Token),
    /// Ends the connection with which one that has ended was piped: in order, or cut.
    Partner(Token, bool),
    /// Closes our copy of a datagram socket and nothing else: the socket may be the user's, and shared with others.
    Leave(Socket),
}

#[derive(Default)]
pub(super) struct Queues {
    /// Sources that may be ready to read, in the order of their turns.
    pub ready: VecDeque<Token>,
    /// The turns of the batch. It has at most a few entries for each source.
    pub turns: VecDeque<Turn>,
    /// The posted tasks, and the messages behind them that may be from the same thread. Apart from the turns, because a
    /// thread may post millions, and no source must wait for them.
    pub posted: VecDeque<Message>,
    /// Whether the mailbox may have messages.
    pub has_mail: bool,
    /// The room that a flood of posted messages took. It is empty, and is given back in steps.
    spent: VecDeque<Message>,
    /// Marks of protocols whose output was sent, each with its connection. They come before the turns, and before the
    /// `on_close` of their connection.
    pub passed: VecDeque<(Token, Foreign)>,
    /// Whether a connection had a protocol that needs no handler.
    pub may_deliver: bool,
    /// The connection with the current turn.
    pub current: Option<Token>,
    /// Sources with input that was read into the poller's buffers in this turn of the loop.
    pub filled: Vec<Token>,
    /// Connections with a time limit that has come, and input that arrived before.
    pub overdue: Vec<(Token, Owed)>,
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

    /// Takes the oldest mark of a connection whose output was sent.
    pub fn take_passed(&mut self, token: Token) -> Option<Foreign> {
        let at = self.passed.iter().position(|(owner, _)| *owner == token)?;
        self.passed.remove(at).map(|(_, mark)| mark)
    }

    /// Queues a value for the dispatch.
    pub fn push_task(&mut self, task: Foreign) {
        self.turns.push_back(Turn::Task(task));
    }

    /// Has the dispatch drop an acceptor if this is the last reference: dropping its factory may run user code.
    pub fn release(&mut self, acceptor: Arc<Acceptor>) {
        if Arc::strong_count(&acceptor) == 1 {
            self.push_task(Box::new(acceptor));
        }
    }

    /// Whether a turn, a posted task or a mark waits for the dispatch.
    pub fn have_turns(&self) -> bool {
        !self.turns.is_empty() || self.posted.front().is_some_and(is_for_dispatch) || !self.passed.is_empty()
    }

    /// Whether messages wait, here or in the mailbox.
    #[inline]
    pub fn have_messages(&self) -> bool {
        self.has_mail || !self.posted.is_empty()
    }

    /// Whether no work is left before the next wait.
    pub fn are_empty(&self) -> bool {
        self.touched.is_empty()
            && self.endings.is_empty()
            && self.rearm.is_empty()
            && self.overdue.is_empty()
            && !self.have_turns()
            && !self.have_messages()
            && !self.has_spent()
            && self.ready.is_empty()
    }

    /// Puts the memory of the posted messages aside, when a flood made it large and the last one was taken.
    pub fn shrink_posted(&mut self) {
        if self.posted.capacity() > STEP {
            self.spent = std::mem::take(&mut self.posted);
        }
        self.shrink();
    }

    /// Whether memory of posted messages is to be given back.
    #[inline]
    pub fn has_spent(&self) -> bool {
        self.spent.capacity() > 0
    }

    /// Gives back a part of it.
    #[cold]
    pub fn shrink_spent(&mut self) {
        self.spent.shrink_to(self.spent.capacity().saturating_sub(STEP));
    }

    /// Gives memory back that a flood made a queue take. Called when connections have ended, and when the last posted value
    /// was taken; a call for each turn of the loop would cost each request.
    pub fn shrink(&mut self) {
        // No capacity is above the limit if none of its high bits is set in any of them.
        let vectors = self.touched.capacity() | self.rearm.capacity() | self.endings.capacity();
        let deques = self.ready.capacity() | self.turns.capacity() | self.posted.capacity();
        if (vectors | deques | self.filled.capacity() | self.overdue.capacity()) >= 2 * KEPT {
            self.shrink_each();
        }
    }

    #[cold]
    fn shrink_each(&mut self) {
        shrink_deque(&mut self.ready);
        shrink_deque(&mut self.turns);
        shrink_deque(&mut self.posted);
        shrink_vector(&mut self.touched);
        shrink_vector(&mut self.rearm);
        shrink_vector(&mut self.endings);
        shrink_vector(&mut self.filled);
        shrink_vector(&mut self.overdue);
    }
}

/// Whether a message that was taken from the mailbox waits for the dispatch, and not for its turn alone. A timer to cancel is
/// cancelled already: only its callback is left.
pub(super) fn is_for_dispatch(message: &Message) -> bool {
    matches!(
        message,
        Message::Task(_) | Message::TaskFor(..) | Message::CancelTimer(_) | Message::Move(Move::Come { .. })
    )
}

fn shrink_deque<T>(queue: &mut VecDeque<T>) {
    if let Some(room) = room_for(queue.len(), queue.capacity()) {
        queue.shrink_to(room);
    }
}

fn shrink_vector<T>(queue: &mut Vec<T>) {
    if let Some(room) = room_for(queue.len(), queue.capacity()) {
        queue.shrink_to(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_no_memory_in_the_queues_and_loses_no_entry() {
        let mut queues = Queues::default();
        (0..100_000).for_each(|n| queues.ready.push_back(Token::from_bits(1 << 32 | n)));
        (0..100_000).for_each(|_| queues.turns.push_back(Turn::Signal));
        (0..100_000).for_each(|n| queues.touched.push(Token::from_bits(1 << 32 | n)));
        queues.shrink();
        assert!(queues.ready.capacity() >= 100_000);
        queues.ready.drain(5..);
        queues.turns.clear();
        queues.touched.clear();
        queues.shrink();
        let slots: Vec<_> = queues.ready.iter().map(|token| token.slot()).collect();
        assert_eq!(slots, [0, 1, 2, 3, 4]);
        let most = queues.ready.capacity().max(queues.turns.capacity()).max(queues.touched.capacity());
        assert!(most <= 2 * KEPT, "{most}");
    }

    #[test]
    fn a_flood_of_messages_gives_its_memory_back_in_steps() {
        let mut queues = Queues::default();
        (0..100_000).for_each(|_| queues.posted.push_back(Message::Task(Box::new(()))));
        queues.posted.clear();
        let (mut room, mut steps) = (queues.posted.capacity(), 0);
        queues.shrink_posted();
        assert_eq!(queues.posted.capacity(), 0);
        while queues.has_spent() {
            assert!(!queues.are_empty(), "the poller must not sleep before it is done");
            queues.shrink_spent();
            assert!(room - queues.spent.capacity() <= STEP);
            (room, steps) = (queues.spent.capacity(), steps + 1);
        }
        assert!(steps >= 4 && queues.are_empty(), "{steps}");
    }
}
