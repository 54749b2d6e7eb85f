//! The read phase: what events and messages say is noted, then each ready connection and listener gets a turn.
//!
//! Detached from the language above. Everything read goes into the arena; nothing is called.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::event::Event;
use mio::unix::SourceFd;
use socket2::Socket;

use super::{ACCEPT_BUDGET, Deadline, REST, Source, State, Turn};
use super::{list_if_ready, list_listener, mio_token, queue_if_due, stream_interests, touch};
use crate::acceptor::{Acceptor, is_of_the_peer};
use crate::connection::{Connection, Phase};
use crate::error::{Foreign, Reason};
use crate::options::LEAST_READ;
use crate::remote::{Message, Peer, Remote};
use crate::slots::Token;

impl State {
    pub(super) fn note(&mut self, token: Token, event: &Event) {
        match self.sources.get_mut(token) {
            Some(Source::Connection(connection)) => {
                connection.note(event);
                if !connection.blocked && connection.output.is_some() {
                    touch(connection, &mut self.touched, token);
                }
                list_if_ready(connection, &mut self.ready, token);
                queue_if_due(connection, &mut self.turns, token);
            }
            Some(Source::Listener(listener)) => list_listener(listener, &mut self.ready, token),
            Some(Source::Descriptor(descriptor)) => {
                descriptor.note(event);
                self.turns.push_back(Turn::Descriptor(token));
            }
            Some(Source::Datagrams(_)) => self.note_datagrams(token),
            Some(Source::Attempt(_)) => self.ready.push_back(token),
            Some(Source::Dial(_) | Source::Leaving) | None => {}
        }
    }

    pub(super) fn read_signals(&mut self) {
        if self.signals.as_ref().is_some_and(|pipe| pipe.drain()) {
            self.turns.push_back(Turn::Signal);
        }
    }

    pub(super) fn read_mailbox(&mut self) {
        let messages = self.handle.mailbox.take(std::mem::take(&mut self.messages));
        self.receive(messages);
    }

    pub(super) fn receive(&mut self, mut messages: Vec<Message>) {
        for message in messages.drain(..) {
            match message {
                Message::Task(task) => self.push_task(task),
                // A cancelled timer may be due in this very batch. It is set already, so nothing before it matters.
                Message::CancelTimer(id) => self.obey(Message::CancelTimer(id)),
                // Behind a task that waits for its turn everything waits: each thread's order is kept.
                message if self.posted_turns > 0 => {
                    self.posted_turns += 1;
                    self.turns.push_back(Turn::Message(message));
                }
                message => self.obey(message),
            }
        }
        // Keep the memory for the next messages, unless a flood made it large.
        if messages.capacity() <= 1024 {
            self.messages = messages;
        }
    }

    pub(super) fn push_task(&mut self, task: Foreign) {
        self.posted_turns += 1;
        self.turns.push_back(Turn::Task(task));
    }

    pub(super) fn obey(&mut self, message: Message) {
        match message {
            Message::Write { to, payload } => self.write_posted(&to, payload),
            Message::Close(remote) => self.close(remote.current()),
            Message::Abort(remote) => self.end(remote.current(), Reason::Aborted),
            Message::Overflow(remote) => self.overflow(remote.current()),
            Message::Adopt { socket, peer, acceptor } => self.adopt(socket, peer, &acceptor),
            Message::Listen(listener) => self.listen(listener),
            Message::Unlisten(acceptor) => self.unlisten(|listener| Arc::ptr_eq(&listener.acceptor, &acceptor)),
            Message::CancelTimer(id) => {
                if self.timers.cancel(id) {
                    self.turns.push_back(Turn::Cancelled(id));
                }
            }
            Message::Task(task) => self.push_task(task),
            Message::Resolved { dial, target, answer } => self.resolved(dial, target, answer),
            Message::Stop { deadline } => self.stop(deadline),
        }
    }

    /// Gives each ready connection and listener a turn, until the batch is full. What waits from before does not
    /// count: posted calls that never cease must not keep the sockets from being read.
    pub(super) fn fill(&mut self) {
        let (waiting, mut used, mut skipped) = (self.turns.len(), 0, 0);
        for _ in 0..self.ready.len() {
            if self.turns.len() - waiting >= self.most_calls
                || self.arena.len() - used < LEAST_READ
                || skipped >= self.arena.len()
            {
                break;
            }
            let Some(token) = self.ready.pop_front() else { break };
            match self.sources.get_mut(token) {
                Some(Source::Connection(connection)) if connection.phase == Phase::Lingering => {
                    connection.listed = false;
                    // The arena is free from `used` on: what is thrown away goes there.
                    skipped += connection.skip_input(&mut self.arena[used..]);
                    if connection.eof {
                        self.remove(token);
                    } else {
                        list_if_ready(connection, &mut self.ready, token);
                    }
                }
                Some(Source::Connection(connection)) => {
                    connection.listed = false;
                    if !connection.wants_read() {
                        continue;
                    }
                    used += connection.receive(&mut self.arena, used);
                    list_if_ready(connection, &mut self.ready, token);
                    queue_if_due(connection, &mut self.turns, token);
                }
                Some(Source::Listener(listener)) => {
                    listener.listed = false;
                    self.accept(token);
                }
                Some(Source::Datagrams(_)) => self.receive_datagrams(token),
                Some(Source::Dial(_)) => self.try_next(token),
                Some(Source::Attempt(_)) => self.attempt_ready(token),
                Some(Source::Descriptor(_) | Source::Leaving) | None => {}
            }
        }
    }

    pub(super) fn accept(&mut self, token: Token) {
        for _ in 0..ACCEPT_BUDGET {
            let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
            match listener.accept() {
                Ok((socket, peer)) => {
                    let acceptor = listener.acceptor.clone();
                    match acceptor.taker().filter(|taker| !Arc::ptr_eq(taker, &self.handle)).cloned() {
                        // A poller that has stopped drops the socket, and with it the connection.
                        Some(taker) => drop(taker.post(Message::Adopt { socket, peer, acceptor })),
                        None => self.adopt(socket, peer, &acceptor),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The connection was gone before it was taken, or a firewall said no: not the listener's trouble.
                Err(error) if is_of_the_peer(&error) => {}
                // A shortage, or a listener that someone shut down: either way trying at once would be of no use.
                Err(_) => {
                    listener.resting = true;
                    let until = self.batch.now + REST.as_nanos() as u64;
                    self.timers.set(until, 0, Deadline::Rest(token));
                    return;
                }
            }
        }
        if let Some(Source::Listener(listener)) = self.sources.get_mut(token) {
            list_listener(listener, &mut self.ready, token);
        }
    }

    pub(super) fn adopt(&mut self, socket: Socket, peer: Peer, acceptor: &Arc<Acceptor>) {
        if self.stopping.is_some() {
            return;
        }
        let (handle, options) = (self.handle.clone(), acceptor.connection_options());
        let fd = socket.as_raw_fd();
        let token = self.sources.insert_with(|token| {
            Source::Connection(Connection::new(socket, Remote::new(handle, token, peer, options)))
        });
        match self.registry.register(&mut SourceFd(&fd), mio_token(token), stream_interests(false)) {
            Ok(()) => {
                self.handle.counters.accepted.add(1);
                self.turns.push_back(Turn::Accepted(token, acceptor.clone()));
            }
            // Out of memory or of epoll watches: the peer sees the connection closed.
            Err(_) => drop(self.sources.remove(token)),
        }
    }
}
