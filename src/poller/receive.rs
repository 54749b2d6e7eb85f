//! The read phase: notes events and messages, then gives each ready source a turn.
//!
//! The dispatch does not run here. Input goes into the arena; no handler is called.

use std::collections::VecDeque;
use std::sync::Arc;

use mio::event::Event;

use super::deadlines::watch_part;
use super::queues::{Turn, is_for_dispatch};
use super::spread::is_new;
use super::state::{Source, State};
use crate::connection::phase::Phase;
use crate::error::{Foreign, Reason};
use crate::options::LEAST_READ;
use crate::shared::handle::Message;
use crate::shared::remote::Remote;
use crate::slots::Token;

/// The most messages that a turn of the loop obeys in the read phase, so that a flood of them delays no connection.
const MOST_OBEYED: usize = 4096;

/// The result of a connection's turn.
#[derive(Default)]
struct Read {
    /// The number of bytes that were read.
    count: usize,
    /// The number of them that stay in the arena until the connection's turn in the batch.
    used: usize,
    /// The connection was lingering, and the peer has finished.
    lingered: bool,
}

impl State {
    pub(super) fn note(&mut self, token: Token, event: &Event) {
        match self.sources.get_mut(token) {
            Some(Source::Connection(connection)) => {
                connection.note(event.into());
                self.queues.place(token, connection);
            }
            Some(Source::Listener(listener)) => self.queues.place_listener(token, listener),
            Some(Source::Descriptor(descriptor)) => {
                descriptor.note(event);
                self.queues.turns.push_back(Turn::Descriptor(token));
            }
            Some(Source::Datagrams(_)) => self.note_datagrams(token),
            Some(Source::Attempt(_)) => self.queues.ready.push_back(token),
            Some(Source::Arrival(_)) => self.list_arrival(token),
            #[cfg(feature = "tls")]
            Some(Source::Handshake(_)) => self.list_handshake(token),
            Some(Source::Dial(_) | Source::Expected(_) | Source::Leaving) => {}
            None => self.note_guest(event),
        }
    }

    pub(super) fn read_signals(&mut self) {
        if self.signals.as_ref().is_some_and(|pipe| pipe.drain()) {
            self.queues.turns.push_back(Turn::Signal);
        }
    }

    /// Takes the messages of the mailbox, unless earlier ones still wait. Obeys the first ones, which need no dispatch.
    pub(super) fn read_mailbox(&mut self) {
        if self.queues.posted.is_empty() {
            self.queues.has_mail = false;
            self.handle.mailbox.take(&mut self.queues.posted);
        }
        self.obey_first();
        self.obey_urgent();
    }

    /// Takes the last messages of the mailbox, which is closed.
    pub(super) fn read_last(&mut self, mut messages: VecDeque<Message>) {
        self.queues.has_mail = false;
        self.queues.posted.append(&mut messages);
        self.obey_urgent();
    }

    /// Obeys the messages before the first task. Behind a waiting task every other message waits too, so the messages of
    /// each thread keep their order.
    pub(super) fn obey_first(&mut self) {
        for _ in 0..MOST_OBEYED {
            if self.queues.posted.front().is_some_and(is_for_dispatch) {
                return;
            }
            match self.queues.posted.pop_front() {
                Some(message) => self.obey(message),
                None => return self.queues.shrink_posted(),
            }
        }
    }

    fn obey_urgent(&mut self) {
        let urgent = self.handle.mailbox.take_urgent();
        urgent.into_iter().for_each(|message| self.obey(message));
    }

    pub(super) fn obey(&mut self, message: Message) {
        if let Some(remote) = message.recipient() {
            remote.location.taken();
        }
        match message {
            Message::Write { to, payload } => self.write_posted(&to, payload),
            Message::Post { to, len, post } => {
                to.arrived(len);
                // Not `current()`: a handler that took over has another protocol.
                self.give_post(to.token(), post);
            }
            Message::Close(remote, post, error) => self.close_posted(&remote, post, error),
            Message::Abort(remote) => self.end(remote.current(), Reason::Aborted),
            Message::Overflow(remote) => self.overflow(remote.current()),
            Message::Adopt { socket, peer, acceptor, permit } => {
                self.adopt(socket, peer, &acceptor, permit);
                self.queues.release(acceptor);
            }
            Message::Room(acceptor) => {
                self.accept_again(&acceptor);
                self.queues.release(acceptor);
            }
            Message::Listen(listener) => self.listen(listener),
            Message::Unlisten(acceptor) => {
                self.unlisten(|listener| Arc::ptr_eq(&listener.acceptor, &acceptor));
                self.queues.release(acceptor);
            }
            Message::CancelTimer(id) => {
                if self.supplies.timers.cancel(id) {
                    // The dispatch drops its callback.
                    self.queues.posted.push_back(Message::CancelTimer(id));
                }
            }
            Message::Broadcast(broadcast) => {
                broadcast.arrived();
                self.broadcast(&broadcast);
            }
            task @ (Message::Task(_) | Message::TaskFor(..)) => self.queues.posted.push_back(task),
            Message::Move(step) => self.obey_move(step),
            Message::Resolved { dial, target, answer } => self.resolved(dial, target, answer),
            #[cfg(feature = "tls")]
            Message::CertificateChosen(handshake) => self.certificate_chosen(handshake),
            Message::Stop { deadline, drained, at_once } => self.stop(deadline, drained, at_once),
        }
    }

    /// Gives a posted value to the protocol of a connection. The dispatch drops a refused value, because it may belong
    /// to the layer above.
    fn give_post(&mut self, token: Token, post: Foreign) {
        let mut post = Some(post);
        self.with_protocol(token, |protocol, wire| {
            post = protocol.receive(post.take()?, wire);
            Some(())
        });
        if let Some(refused) = post {
            self.queues.push_task(refused);
        }
    }

    /// Closes a connection by a message. If its handler has handed over, the close applies to the new handler.
    fn close_posted(&mut self, remote: &Arc<Remote>, post: Option<Foreign>, error: Option<Foreign>) {
        let token = remote.current();
        if let Some(post) = post {
            self.give_post(token, post);
        }
        match error {
            Some(error) => self.close_because(token, Reason::Given(error)),
            None => self.close(token),
        }
    }

    /// Gives each ready source a turn, until the batch is full: of calls, or of bytes read. Turns from before do not
    /// count, so that a flood of posted calls cannot keep the sockets from being read.
    pub(super) fn fill(&mut self) {
        let (waiting, mut used, mut read) = (self.queues.turns.len(), 0, 0);
        #[cfg(feature = "tls")]
        let mut shaken = 0;
        for _ in 0..self.queues.ready.len() {
            let most = self.supplies.arena.len();
            if self.queues.turns.len() - waiting >= self.batch.most_calls || read >= most || most - used < LEAST_READ {
                break;
            }
            let Some(token) = self.queues.ready.pop_front() else { break };
            match self.sources.get_mut(token) {
                #[cfg(feature = "tls")]
                Some(Source::Connection(connection)) if connection.transport.is_upgrading() => {
                    if shaken == self.batch.most_handshakes {
                        self.queues.ready.push_back(token);
                    } else {
                        shaken += 1;
                        self.go_on_upgrading(token);
                    }
                }
                Some(Source::Connection(connection)) if connection.is_piped() => read += self.pass_on(token, used),
                Some(Source::Connection(_)) => {
                    let turn = self.read_connection(token, used);
                    read += turn.count;
                    if turn.used > 0 {
                        used += turn.used;
                        self.queues.filled.push(token);
                    }
                    if turn.lingered {
                        self.remove(token);
                    }
                }
                Some(Source::Listener(listener)) => {
                    listener.listed = false;
                    self.accept(token);
                }
                Some(Source::Datagrams(_)) => self.receive_datagrams(token),
                Some(Source::Dial(_)) => self.try_next(token),
                Some(Source::Attempt(_)) => self.attempt_ready(token),
                Some(Source::Arrival(_)) => self.read_header(token),
                #[cfg(feature = "tls")]
                Some(Source::Handshake(_)) if shaken == self.batch.most_handshakes => {
                    self.queues.ready.push_back(token)
                }
                #[cfg(feature = "tls")]
                Some(Source::Handshake(_)) => {
                    shaken += 1;
                    self.shake_hands(token);
                }
                Some(Source::Descriptor(_) | Source::Expected(_) | Source::Leaving) | None => {}
            }
        }
    }

    /// Reads a connection into the arena, of which the part from `at` on is free.
    #[inline]
    fn read_connection(&mut self, token: Token, at: usize) -> Read {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return Read::default() };
        let arena = &mut self.supplies.arena;
        connection.places.listed = false;
        if connection.phase() == Phase::Lingering {
            let count = connection.skip_input(&mut arena[at..]);
            self.queues.list(token, connection);
            return Read { count, used: 0, lingered: connection.has_eof() };
        }
        let count = if connection.wants_read() { connection.receive(arena, at, self.batch.now) } else { 0 };
        if count > 0 && self.balance.is_on() && !std::mem::replace(&mut connection.places.active, true) {
            self.balance.note(token);
            if is_new(connection, self.batch.now) {
                self.balance.hasten(self.batch.now);
            }
        }
        self.queues.place(token, connection);
        if connection.places.queued {
            return Read { count, used: count, lingered: false };
        }
        // Only a part of a message arrived, so no turn will move it out of the arena.
        let is_settled = connection.settle(arena);
        watch_part(connection, &mut self.supplies.timers, token, self.batch.now);
        if !is_settled {
            self.queues.place(token, connection);
        }
        Read { count, used: 0, lingered: false }
    }
}
