//! The ends of connections, in order or at once; lingering, descriptors, the whole poller.

use std::os::fd::AsRawFd;

use mio::unix::SourceFd;

use super::deadlines::drop_guard;
use super::queues::{Ending, Turn};
use super::state::{Deadline, Source, State};
use super::token::mio_token;
use crate::connection::Connection;
use crate::connection::phase::{Event, Phase};
use crate::connection::transport::Transport;
use crate::error::{Foreign, Reason};
use crate::protocols::Closing;
use crate::slots::Token;

impl State {
    pub(super) fn overflow(&mut self, token: Token) {
        let Some(connection) = self.open(token) else { return };
        let limit = connection.options.max_output;
        self.end(token, Reason::OutputOverflow { limit });
    }

    /// Closes in order: sends the queued output, then ends the connection.
    pub(super) fn close(&mut self, token: Token) {
        self.close_saying(token, Closing::Asked);
    }

    fn close_saying(&mut self, token: Token, why: Closing<'_>) {
        self.say_last_word(token, why);
        self.close_silently(token);
    }

    fn close_silently(&mut self, token: Token) {
        let closed = self.with_open(token, |connection, _| {
            connection.remote.mark_closed();
            connection.step(Event::Close);
            if connection.phase() == Phase::Doomed {
                connection.set_early_end(Reason::Orderly);
            }
            (connection.phase(), connection.output.is_none())
        });
        match closed {
            Some((Phase::Gone, _)) => self.reject(token),
            Some((Phase::Flushing, true)) => self.flush_one(token),
            _ => {}
        }
    }

    /// Closes in order; `on_close` gets `reason`.
    pub(super) fn close_because(&mut self, token: Token, reason: Reason) {
        self.say_last_word(token, Closing::Failed(&reason));
        // Kept out of the closure, which is dropped with its values if the connection is not open.
        let mut untold = Some(reason);
        self.with_open(token, |connection, _| {
            let weaker = |reason: &Reason| {
                connection.reason.as_deref().is_some_and(|known| known.goes_first() || !reason.goes_first())
            };
            if let Some(reason) = untold.take_if(|reason| !weaker(reason)) {
                untold = connection.reason.replace(Box::new(reason)).map(|known| *known);
            }
        });
        self.drop_reason(untold);
        self.close_silently(token);
    }

    /// Sends the queued output, then resets.
    pub(super) fn close_cut(&mut self, token: Token) {
        self.with_open(token, |connection, _| connection.mark_cut());
        self.close_because(token, Reason::Aborted);
    }

    /// Has the dispatch drop a reason that is not reported. It may hold a value of the layer above, and dropping that
    /// may run user code.
    pub(super) fn drop_reason(&mut self, untold: Option<Reason>) {
        if let Some(value) = untold.and_then(Reason::into_foreign) {
            self.queues.push_task(value);
        }
    }

    /// Closes a connection in order because its peer is silent; ends it at once if the peer takes no output either.
    pub(super) fn give_up(&mut self, token: Token, reason: Reason) {
        match self.open(token) {
            // Otherwise the handler would get `on_close` only after `write_timeout`.
            Some(connection) if connection.is_blocked() => self.end(token, reason),
            _ => self.close_because(token, reason),
        }
    }

    /// Closes in order because a callback raised, also if the connection was closed before. Returns the exception if
    /// the handler does not get it.
    pub(super) fn fail(&mut self, token: Token, raised: Foreign) -> Option<Foreign> {
        let reason = Reason::Raised(raised);
        self.close_saying(token, Closing::Failed(&reason));
        let refused = self.with(token, |connection, _| {
            let is_closing = matches!(connection.phase(), Phase::Flushing | Phase::Ended);
            match connection.reason.as_deref() {
                None | Some(Reason::Orderly) if is_closing => {
                    connection.reason = Some(Box::new(reason));
                    None
                }
                _ => Some(reason),
            }
        });
        match refused {
            Some(Some(Reason::Raised(raised))) => Some(raised),
            _ => None,
        }
    }

    /// Removes a connection that has no handler, so there is no `on_close`.
    pub(super) fn reject(&mut self, token: Token) {
        self.handle.counters.closed.note_rejected();
        self.remove(token);
    }

    /// Ends a connection now; `on_close` follows in its turn.
    pub(super) fn end(&mut self, token: Token, reason: Reason) {
        let ended = self.with(token, |connection, supplies| {
            connection.remote.mark_closed();
            if !connection.step(Event::End) {
                return (connection.phase(), None);
            }
            let untold = match connection.phase() {
                Phase::Doomed => connection.set_early_end(reason),
                Phase::Ended => {
                    let (reason, untold) = connection.take_reason(Some(reason));
                    connection.reason = Some(Box::new(reason));
                    connection.drop_output(&mut supplies.pool);
                    untold
                }
                _ => None,
            };
            (connection.phase(), untold)
        });
        let Some((phase, untold)) = ended else { return };
        self.drop_reason(untold);
        if phase == Phase::Gone {
            self.reject(token);
        }
    }

    /// Makes the system calls of ended connections.
    pub(super) fn finish_endings(&mut self) {
        if self.queues.endings.is_empty() {
            return;
        }
        while let Some(ending) = self.queues.endings.pop() {
            match ending {
                Ending::Linger(token) => self.linger(token),
                Ending::Partner(token, true) => self.close(token),
                Ending::Partner(token, false) => self.close_cut(token),
                Ending::Reset(transport) => transport.reset(&self.registry),
                Ending::Close(mut transport) => transport.close(&self.registry),
                // Fails only if the poll does not watch it, which is the goal.
                Ending::Leave(socket) => drop(self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()))),
            }
        }
        self.supplies.pool.pipes.close_done();
        self.end_shortage();
        self.queues.shrink();
    }

    /// Lingers: after `on_close` the socket stays until the peer has read everything. Closing a socket with unread
    /// input would reset the connection, and the peer would lose the last answer (RFC 9112 section 9.6).
    fn linger(&mut self, token: Token) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        let timeout = connection.options.linger_timeout;
        let until = self.batch.now.saturating_add(timeout.as_nanos() as u64);
        let until = self.stopping.map_or(until, |deadline| until.min(deadline));
        // A shutdown that fails means that the peer is gone.
        if until <= self.batch.now || connection.transport.shutdown_write().is_err() {
            return self.remove(token);
        }
        self.with(token, |connection, supplies| {
            connection.linger();
            let timer = supplies.timers.set(until, 0, Deadline::Linger(token));
            connection.add_timer(timer, |_| true);
        });
    }

    pub(super) fn remove_lingering(&mut self, token: Token) {
        if self.connection(token).is_some_and(|connection| connection.phase() == Phase::Lingering) {
            self.remove(token);
        }
    }

    /// Removes a connection; its socket is closed when the batch is over.
    pub(super) fn remove(&mut self, token: Token) {
        if let Some(transport) = self.take_out(token) {
            self.queues.endings.push(Ending::Close(transport));
        }
    }

    /// As [`Self::remove`], but with a reset instead of a FIN.
    pub(super) fn reset(&mut self, token: Token) {
        if let Some(transport) = self.take_out(token) {
            self.queues.endings.push(Ending::Reset(transport));
        }
    }

    fn take_out(&mut self, token: Token) -> Option<Transport> {
        let Some(Source::Connection(mut connection)) = self.sources.remove(token) else { return None };
        connection.step(Event::Remove);
        connection.drop_output(&mut self.supplies.pool);
        for timer in connection.take_timers() {
            self.supplies.timers.cancel(timer);
        }
        drop_guard(&mut connection, &mut self.supplies.timers);
        let Connection { transport, .. } = connection;
        Some(transport)
    }

    /// Stops listening and ends all sources in order. Until `drained` connections that drain stay open. At `deadline`
    /// the rest is aborted. A second stop without a drain ends the drain of the first.
    pub(super) fn stop(&mut self, deadline: u64, drained: Option<u64>, at_once: bool) {
        let before = self.stopping;
        let deadline = before.map_or(deadline, |earlier| earlier.min(deadline));
        self.stopping = Some(deadline);
        self.supplies.timers.set(deadline, 0, Deadline::Stop);
        match (before, drained) {
            (None, Some(until)) => {
                self.draining = true;
                self.supplies.timers.set(until, 0, Deadline::Drained);
                self.stop_everything(false);
            }
            (None, None) => self.stop_everything(at_once),
            (Some(_), Some(_)) => {}
            (Some(_), None) => self.end_drain(),
        }
    }

    /// The drain of a stop is over: ends the connections that stayed open, and sockets that are no connections yet.
    pub(super) fn end_drain(&mut self) {
        if !std::mem::take(&mut self.draining) {
            return;
        }
        for token in self.sources.tokens() {
            match self.sources.get(token) {
                Some(Source::Connection(connection)) if connection.is_drained() => self.finish(token),
                Some(Source::Connection(_)) => {}
                _ => self.stop_source(token, false),
            }
        }
    }

    /// Closes in order when every answer that is due has been given.
    pub(super) fn finish(&mut self, token: Token) {
        let finished = self.with_protocol(token, |protocol, wire| {
            protocol.finish(wire);
            Some(())
        });
        if finished.is_none() {
            self.close(token);
        }
    }

    /// The end of a connection that the handler leaves to us, in a stop. During a drain one that drains stays open.
    pub(super) fn finish_stopping(&mut self, token: Token) {
        let drains = self.draining && self.with_open(token, |connection, _| connection.drain()) == Some(true);
        if !drains {
            self.finish(token);
        }
    }

    fn stop_everything(&mut self, at_once: bool) {
        self.unlisten(|_| true);
        for token in self.sources.tokens() {
            self.stop_source(token, at_once);
        }
    }

    pub(super) fn stop_source(&mut self, token: Token, at_once: bool) {
        match self.sources.get(token) {
            Some(Source::Connection(connection)) if connection.phase() == Phase::Open && !at_once => {
                self.with(token, |connection, _| connection.set_stopping(true));
            }
            Some(Source::Connection(connection)) if connection.phase() < Phase::Open && self.draining => {
                // Told after its `on_open`.
                self.with(token, |connection, _| connection.set_stopping(true));
            }
            // A drain is for those too that have no handler yet.
            #[cfg(feature = "tls")]
            Some(Source::Handshake(_)) if self.draining => {}
            Some(Source::Arrival(_)) if self.draining => {}
            Some(Source::Connection(_)) => self.close_saying(token, Closing::Stopping),
            Some(Source::Descriptor(_)) => drop(self.remove_descriptor(token, Reason::Orderly)),
            Some(Source::Datagrams(_)) => drop(self.close_datagrams(token, Reason::Orderly)),
            #[cfg(feature = "tls")]
            Some(Source::Handshake(handshake)) if at_once || handshake.is_accepted() => self.stop_handshake(token),
            #[cfg(feature = "tls")]
            Some(Source::Handshake(_)) => {}
            Some(Source::Arrival(_)) => self.drop_arrival(token),
            Some(Source::Dial(_)) if at_once => self.stop_dial(token),
            Some(Source::Dial(_) | Source::Listener(_) | Source::Attempt(_) | Source::Leaving) | None => {}
            // It is stopped when it arrives.
            Some(Source::Expected(_)) => {}
        }
    }

    /// During a stop: when only such connections are left that were opened since it began, tells them of it, and ends the
    /// dials. They served the others, and a connection that is opened again and again must not use up the grace.
    pub(super) fn stop_latecomers(&mut self) {
        if self.draining || self.queues.have_turns() || self.has_handlers(|connection| !connection.is_late()) {
            return;
        }
        self.stop_everything(false);
        for token in self.sources.tokens() {
            self.stop_dial(token);
            #[cfg(feature = "tls")]
            self.stop_handshake(token);
        }
    }

    /// Whether a connection of that kind has a handler to be called yet.
    pub(super) fn has_handlers(&self, kind: impl Fn(&Connection) -> bool) -> bool {
        self.sources.values().any(|source| match source {
            Source::Connection(connection) => connection.phase() < Phase::Lingering && kind(connection),
            _ => false,
        })
    }

    pub(super) fn abort_everything(&mut self) {
        for token in self.sources.tokens() {
            match self.sources.get(token) {
                // A poller that failed sends nothing.
                Some(Source::Expected(expected)) if !expected.from.is_open() => drop(self.sources.remove(token)),
                _ => self.abort_source(token),
            }
        }
    }

    pub(super) fn abort_source(&mut self, token: Token) {
        self.stop_dial(token);
        #[cfg(feature = "tls")]
        self.stop_handshake(token);
        self.remove_lingering(token);
        self.with(token, |connection, _| connection.end_patience());
        self.end(token, Reason::Aborted);
    }

    /// Stops watching a descriptor. Returns the reason if there is no such descriptor.
    pub(super) fn remove_descriptor(&mut self, token: Token, reason: Reason) -> Result<(), Reason> {
        let Some(Source::Descriptor(descriptor)) = self.sources.get(token) else { return Err(reason) };
        let fd = descriptor.fd();
        if descriptor.still_open().is_ok() {
            // Fails only if it is not registered, which is the goal.
            let _ = self.registry.deregister(&mut SourceFd(&fd));
        }
        if self.descriptors.get(&fd) == Some(&token) {
            self.descriptors.remove(&fd);
        }
        self.forget_descriptor(token, reason);
        Ok(())
    }

    /// Calls the handler of a descriptor no more, except for its `on_close`.
    pub(super) fn forget_descriptor(&mut self, token: Token, reason: Reason) {
        if let Some(source @ Source::Descriptor(_)) = self.sources.get_mut(token) {
            *source = Source::Leaving;
            self.queues.turns.push_back(Turn::Removed(token, reason));
        }
    }

    /// Registers level-triggered descriptors again. mio is edge-triggered, and a registration reports a level that
    /// still holds.
    pub(super) fn rearm_descriptors(&mut self) {
        let mut rearm = std::mem::take(&mut self.queues.rearm);
        for token in rearm.drain(..) {
            let Some(Source::Descriptor(descriptor)) = self.sources.get(token) else { continue };
            let interests = descriptor.interests.to_mio();
            let watched = descriptor
                .still_open()
                .and_then(|fd| self.registry.reregister(&mut SourceFd(&fd), mio_token(token), interests));
            if let Err(error) = watched {
                drop(self.remove_descriptor(token, Reason::Io(error)));
            }
        }
        self.queues.rearm = rearm;
    }
}
