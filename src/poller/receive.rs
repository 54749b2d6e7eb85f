//! The read phase: what events and messages say is noted, then each ready connection and listener gets a turn.
//!
//! Detached from the language above. Everything read goes into the arena; nothing is called.

use std::sync::Arc;

use mio::event::Event;

use super::{Source, State, Turn};
use super::{list_if_ready, list_listener, queue_if_due, touch};
use crate::connection::Phase;
use crate::error::{Foreign, Reason};
use crate::options::LEAST_READ;
use crate::remote::Message;
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
            Message::Answer { to, number, parts, then } => self.answer_posted(&to, number, parts, then),
            Message::Close(remote, None) => self.close(remote.current()),
            Message::Close(remote, Some(farewell)) => self.close_with(remote.current(), *farewell),
            Message::Abort(remote) => self.end(remote.current(), Reason::Aborted),
            Message::Overflow(remote) => self.overflow(remote.current()),
            Message::Adopt { socket, peer, acceptor, permit } => self.adopt(socket, peer, &acceptor, permit),
            Message::Room(acceptor) => self.accept_again(&acceptor),
            Message::Listen(listener) => self.listen(listener),
            Message::Unlisten(acceptor) => self.unlisten(|listener| Arc::ptr_eq(&listener.acceptor, &acceptor)),
            Message::CancelTimer(id) => {
                if self.timers.cancel(id) {
                    self.turns.push_back(Turn::Cancelled(id));
                }
            }
            Message::Broadcast(broadcast) => {
                broadcast.arrived();
                self.broadcast(&broadcast);
            }
            Message::Task(task) => self.push_task(task),
            Message::Resolved { dial, target, answer } => self.resolved(dial, target, answer),
            Message::Stop { deadline, at_once } => self.stop(deadline, at_once),
        }
    }

    /// Gives each ready connection and listener a turn, until the batch is full: of calls, or of bytes, wherever they went.
    /// What waits from before does not count: posted calls that never cease must not keep the sockets from being read.
    pub(super) fn fill(&mut self) {
        let (waiting, mut used, mut read) = (self.turns.len(), 0, 0);
        for _ in 0..self.ready.len() {
            if self.turns.len() - waiting >= self.most_calls
                || read >= self.arena.len()
                || self.arena.len() - used < LEAST_READ
            {
                break;
            }
            let Some(token) = self.ready.pop_front() else { break };
            match self.sources.get_mut(token) {
                Some(Source::Connection(connection)) if connection.phase == Phase::Lingering => {
                    connection.listed = false;
                    // The arena is free from `used` on: what is thrown away goes there.
                    read += connection.skip_input(&mut self.arena[used..]);
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
                    let count = connection.receive(&mut self.arena, used, self.batch.now);
                    read += count;
                    list_if_ready(connection, &mut self.ready, token);
                    queue_if_due(connection, &mut self.turns, token);
                    if connection.queued {
                        used += count;
                    } else {
                        // A part of a message: no turn will move it out of the arena.
                        connection.settle(&self.arena);
                    }
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
}
