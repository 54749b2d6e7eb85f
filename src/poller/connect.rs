//! Outgoing connections on their poller: watched sockets, name lookups, time limits.
//!
//! All system calls of a dial happen in the read phase; a callback that asks for a connection only lists the dial as
//! ready.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::Interest;
use mio::unix::SourceFd;
use socket2::SockAddr;

use super::deadlines::set_guard;
use super::queues::{Ending, Turn};
use super::state::{Deadline, Source, State};
use super::token::mio_token;
use crate::connection::Connection;
use crate::connection::transport::Transport;
use crate::error::Error;
use crate::shared::handle::Message;
use crate::shared::remote::Remote;
use crate::slots::Token;
use crate::sources::connector::{Attempt, Begun, Dial, Next, Request};
use crate::system::resolver::Answer;

impl State {
    /// Makes the dial of a connect request; the token is that of the later connection.
    pub(super) fn dial(&mut self, request: Request, now: u64) -> Result<Token, Error> {
        // During the grace of a stop, a connection that is still open may need others.
        if self.stopping.is_some_and(|end| now >= end || !self.has_handlers(|_| true)) {
            return Err(Error::stopped());
        }
        let deadline = request.since.unwrap_or(now).saturating_add(request.timeout.as_nanos() as u64);
        let dial = Dial::new(request);
        let (names, alive) = (dial.names(), Arc::downgrade(&dial.alive));
        let token = self.sources.insert_with(|_| Source::Dial(Box::new(dial)));
        // The resolver may start a thread.
        self.leave_home();
        for (target, name, port) in names {
            let handle = self.handle.clone();
            // A poller that has ended has reported the failure to all handlers already.
            let tell = move |answer| drop(handle.post(Message::Resolved { dial: token, target, answer }));
            self.resolver.look_up(name, port, alive.clone(), tell);
        }
        let deadline = self.supplies.timers.set(deadline, 0, Deadline::Dial(token));
        if let Some(Source::Dial(dial)) = self.sources.get_mut(token) {
            dial.deadline = Some(deadline);
        }
        self.list_dial(token);
        Ok(token)
    }

    pub(super) fn resolved(&mut self, token: Token, target: usize, answer: Answer) {
        let Some(Source::Dial(dial)) = self.sources.get_mut(token) else { return };
        dial.resolved(target, answer);
        if dial.attempts.is_empty() {
            self.list_dial(token);
        } else if dial.stagger.is_none() {
            // The current attempt keeps its time.
            self.set_stagger(token);
        }
    }

    /// The last attempt, or a name lookup, has had its time: the next address is tried.
    pub(super) fn stagger_is_over(&mut self, token: Token) {
        if let Some(Source::Dial(dial)) = self.sources.get_mut(token) {
            (dial.stagger, dial.past_lookups) = (None, true);
            dial.retry_full();
        }
        self.list_dial(token);
    }

    fn list_dial(&mut self, token: Token) {
        if let Some(Source::Dial(dial)) = self.sources.get_mut(token)
            && !std::mem::replace(&mut dial.listed, true)
        {
            self.queues.ready.push_back(token);
        }
    }

    /// Tries the next address, and further ones until an attempt is under way.
    pub(super) fn try_next(&mut self, token: Token) {
        loop {
            let Some(Source::Dial(dial)) = self.sources.get_mut(token) else { return };
            let options = dial.options.clone();
            let Next::Try(address) = dial.next() else { break };
            match Attempt::begin(&address, token, &options) {
                Ok(Begun::Full) => dial.note_full(address),
                Ok(Begun::Connecting(attempt)) => match self.watch(attempt) {
                    Ok(()) => break,
                    Err(error) => self.note_failure(token, &address, error),
                },
                Err(error) => self.note_failure(token, &address, error),
            }
        }
        let Some(Source::Dial(dial)) = self.sources.get_mut(token) else { return };
        (dial.past_lookups, dial.listed) = (false, false);
        if dial.is_lost() {
            self.end_dial(token, |dial| dial.into_failure());
        } else {
            self.set_stagger(token);
        }
    }

    fn watch(&mut self, attempt: Attempt) -> io::Result<()> {
        let (fd, dial) = (attempt.socket.as_raw_fd(), attempt.dial);
        let token = self.sources.insert_with(|_| Source::Attempt(attempt));
        let registered = self.registry.register(&mut SourceFd(&fd), mio_token(token), Interest::WRITABLE);
        match self.sources.get_mut(dial) {
            Some(Source::Dial(dial)) if registered.is_ok() => {
                dial.attempts.push(token);
                dial.began = self.batch.now;
            }
            _ => drop(self.sources.remove(token)),
        }
        registered
    }

    fn note_failure(&mut self, token: Token, address: &SockAddr, error: io::Error) {
        if let Some(Source::Dial(dial)) = self.sources.get_mut(token) {
            dial.note_failure(address, error);
        }
    }

    /// Sets the timer for the next address, if there is one.
    fn set_stagger(&mut self, token: Token) {
        let Some(Source::Dial(dial)) = self.sources.get_mut(token) else { return };
        if let Some(before) = dial.stagger.take() {
            self.supplies.timers.cancel(before);
        }
        if let Some(pause) = dial.pause() {
            let from = if dial.attempts.is_empty() { self.batch.now } else { dial.began };
            dial.stagger = Some(self.supplies.timers.set(from + pause.as_nanos() as u64, 0, Deadline::Stagger(token)));
        }
    }

    /// Handles an attempt that the poll reported ready: it has won, or the next address is tried.
    pub(super) fn attempt_ready(&mut self, token: Token) {
        let Some(Source::Attempt(attempt)) = self.sources.get(token) else { return };
        let (dial, address) = (attempt.dial, attempt.address().clone());
        match attempt.result() {
            None => {}
            Some(Ok(())) => self.win(dial, token),
            Some(Err(error)) => {
                self.drop_attempt(token);
                if let Some(Source::Dial(state)) = self.sources.get_mut(dial) {
                    state.attempts.retain(|other| *other != token);
                    state.note_failure(&address, error);
                }
                self.try_next(dial);
            }
        }
    }

    /// Makes the socket of the attempt the connection, in the slot of the dial.
    fn win(&mut self, token: Token, winner: Token) {
        let Some(Source::Attempt(attempt)) = self.sources.remove(winner) else { return };
        let Some(Source::Dial(dial)) = self.sources.get_mut(token) else { return };
        dial.attempts.retain(|other| *other != winner);
        let (peer, options) = (attempt.peer(), dial.options.connection.clone());
        let announced = attempt.announce(dial.announcement.as_ref());
        #[cfg(feature = "tls")]
        if announced.is_ok()
            && let Some(tls) = dial.tls.take()
        {
            // The handshake is a part of the request, whose time limit goes on.
            let deadline = dial.deadline.take();
            self.break_off(token);
            return self.secure_dialled(token, attempt.socket, peer, tls, deadline);
        }
        self.break_off(token);
        if let Err(error) = announced {
            self.queues.endings.push(Ending::Close(Transport::Plain(attempt.socket)));
            return self
                .end_dial(token, |dial| Error::io(format!("cannot send the PROXY header to {}", dial.text()))(error));
        }
        let transport = Transport::Plain(attempt.socket);
        let remote = Remote::new(self.handle.clone(), token, peer, &options);
        if let Err(error) = transport.reregister(&self.registry, mio_token(token), false) {
            self.queues.endings.push(Ending::Close(transport));
            return self.end_dial(token, |_| Error::io("cannot watch the connected socket")(error));
        }
        let Some(source) = self.sources.get_mut(token) else { return };
        let connection = Connection::new(transport, remote, options.into(), self.batch.now);
        let mut connection = connection.outgoing();
        connection.set_late(self.stopping.is_some());
        *source = Source::Connection(connection);
        self.with(token, |connection, supplies| set_guard(connection, &mut supplies.timers, token));
        self.handle.counters.connected.add(1);
    }

    /// Fails a dial that has used up its time limit, unless a socket was connected while the poller was busy.
    pub(super) fn dial_timed_out(&mut self, token: Token) {
        #[cfg(feature = "tls")]
        if let Some(Source::Handshake(_)) = self.sources.get(token) {
            return self.dialled_handshake_timed_out(token);
        }
        let Some(Source::Dial(dial)) = self.sources.get(token) else { return };
        let is_connected = |attempt: &Token| match self.sources.get(*attempt) {
            Some(Source::Attempt(attempt)) => matches!(attempt.result(), Some(Ok(()))),
            _ => false,
        };
        if let Some(winner) = dial.attempts.iter().copied().find(is_connected) {
            return self.win(token, winner);
        }
        self.end_dial(token, |dial| dial.timed_out());
    }

    pub(super) fn stop_dial(&mut self, token: Token) {
        self.end_dial(token, |dial| dial.stopped());
    }

    /// Ends a dial; `on_connect_fail` follows in its turn. Until then the slot is not used again.
    fn end_dial(&mut self, token: Token, why: impl FnOnce(Dial) -> Error) {
        self.break_off(token);
        let Some(source) = self.sources.get_mut(token) else { return };
        match std::mem::replace(source, Source::Leaving) {
            Source::Dial(dial) => self.queues.turns.push_back(Turn::ConnectFailed(token, why(*dial))),
            other => *source = other,
        }
    }

    /// Ends the attempts and the timers of a dial.
    fn break_off(&mut self, token: Token) {
        let Some(Source::Dial(dial)) = self.sources.get_mut(token) else { return };
        let timers = [dial.deadline.take(), dial.stagger.take()];
        let attempts = std::mem::take(&mut dial.attempts);
        for timer in timers.into_iter().flatten() {
            self.supplies.timers.cancel(timer);
        }
        attempts.into_iter().for_each(|attempt| self.drop_attempt(attempt));
    }

    fn drop_attempt(&mut self, token: Token) {
        if let Some(Source::Attempt(attempt)) = self.sources.remove(token) {
            self.queues.endings.push(Ending::Close(Transport::Plain(attempt.socket)));
        }
    }
}
