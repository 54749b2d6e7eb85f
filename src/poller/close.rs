//! How things end: connections in order or at once, lingering, listeners, descriptors, the whole poller.

use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::Interest;
use mio::unix::SourceFd;
use socket2::Socket;

use super::{Deadline, Source, State, Turn, list_if_ready, mio_token, open, touch};
use crate::acceptor::Listener;
use crate::connection::{Connection, Phase};
use crate::error::Reason;
use crate::fork;
use crate::slots::Token;
use crate::steering;

impl State {
    /// The handler was offered all the input that may wait and consumed nothing: it would wait for ever.
    pub(super) fn input_overflow(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        let limit = connection.remote.options.max_input;
        self.end(token, Reason::InputOverflow { limit });
    }

    pub(super) fn overflow(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        let limit = connection.remote.options.max_output;
        self.end(token, Reason::OutputOverflow { limit });
    }

    /// Closes in order: the queue goes out, then the connection ends.
    pub(super) fn close(&mut self, token: Token, reason: Reason) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        if connection.phase == Phase::New {
            return self.discard(token);
        }
        connection.remote.mark_closed();
        connection.phase = Phase::Flushing;
        if !matches!(reason, Reason::Orderly) || !connection.cannot_write() {
            connection.reason = Some(Box::new(reason));
        }
        if connection.output.is_none() {
            self.flushed(token);
        } else {
            touch(connection, &mut self.touched, token);
        }
    }

    /// Ends a connection that has not been opened, so nobody is told.
    pub(super) fn discard(&mut self, token: Token) {
        self.handle.counters.closed.add(1);
        self.remove(token);
        self.turns.push_back(Turn::Forget(token));
    }

    /// Ends a connection now; `on_close` follows in its turn.
    pub(super) fn end(&mut self, token: Token, reason: Reason) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        if connection.phase >= Phase::Ended {
            return;
        }
        if connection.phase == Phase::New {
            return self.discard(token);
        }
        connection.remote.mark_closed();
        connection.phase = Phase::Ended;
        connection.reason = Some(Box::new(reason));
        if let Some(output) = connection.output.take() {
            self.pool.give_back(output);
        }
        if self.current != Some(token) {
            self.turns.push_back(Turn::Connection(token));
        }
    }

    /// The handler is gone, the socket stays until the peer has read what was sent: closing a socket with unread
    /// input would reset the connection and take the last answer with it (RFC 9112 section 9.6 has the reasons).
    pub(super) fn linger(&mut self, token: Token) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        let timeout = connection.remote.options.linger_timeout;
        let until = self.batch.now.saturating_add(timeout.as_nanos() as u64);
        let until = self.stopping.map_or(until, |deadline| until.min(deadline));
        // A failing shutdown means that the peer is gone.
        if until <= self.batch.now || connection.socket.shutdown(Shutdown::Write).is_err() {
            return self.remove(token);
        }
        connection.phase = Phase::Lingering;
        connection.input = Default::default();
        connection.readable = true;
        list_if_ready(connection, &mut self.ready, token);
        self.timers.set(until, 0, Deadline::Linger(token));
    }

    /// Closes so that the peer sees a reset and not the orderly end of something complete (RFC 9293 section 3.10.5).
    pub(super) fn reset(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get(token) {
            // Fails only on a socket that has failed already.
            let _ = connection.socket.set_linger(Some(Duration::ZERO));
        }
        self.remove(token);
    }

    pub(super) fn remove_lingering(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get(token)
            && connection.phase == Phase::Lingering
        {
            self.remove(token);
        }
    }

    pub(super) fn remove(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.remove(token) {
            self.forget(connection);
        }
    }

    pub(super) fn forget(&mut self, mut connection: Connection) {
        if let Some(output) = connection.output.take() {
            self.pool.give_back(output);
        }
        self.close_socket(&connection.socket);
    }

    /// The descriptor leaves the poll before it is closed, so no event can reach whoever gets its number next.
    pub(super) fn close_socket(&self, socket: &Socket) {
        // Fails only if it is not registered, which is what is wanted.
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        if fork::has_children() {
            // A child may hold a copy, and then closing ours tells the peer nothing.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn listen(&mut self, listener: Listener) {
        if self.stopping.is_some() {
            return;
        }
        if let Some(cpu) = listener.cpu().filter(|_| self.unpinned.is_none()) {
            // Without pinning steering is only less exact.
            self.unpinned = steering::affinity().ok().filter(|_| steering::pin(cpu).is_ok());
        }
        let fd = listener.socket().as_raw_fd();
        let token = self.sources.insert_with(|_| Source::Listener(listener));
        if self.registry.register(&mut SourceFd(&fd), mio_token(token), Interest::READABLE).is_err() {
            self.sources.remove(token);
        }
    }

    pub(super) fn unlisten(&mut self, which: impl Fn(&Listener) -> bool) {
        for token in self.sources.tokens() {
            if let Some(Source::Listener(listener)) = self.sources.get(token)
                && which(listener)
            {
                let _ = self.registry.deregister(&mut SourceFd(&listener.socket().as_raw_fd()));
                self.sources.remove(token);
            }
        }
    }

    /// Stops listening and closes everything in order; what is not done by `deadline` is aborted.
    pub(super) fn stop(&mut self, deadline: u64) {
        let deadline = self.stopping.map_or(deadline, |earlier| earlier.min(deadline));
        self.stopping = Some(deadline);
        self.unlisten(|_| true);
        for token in self.sources.tokens() {
            match self.sources.get(token) {
                Some(Source::Connection(_)) => self.close(token, Reason::Orderly),
                Some(Source::Descriptor(_)) => self.remove_descriptor(token, Reason::Orderly),
                Some(Source::Listener(_)) | None => {}
            }
        }
        self.timers.set(deadline, 0, Deadline::Stop);
    }

    pub(super) fn abort_everything(&mut self) {
        for token in self.sources.tokens() {
            self.remove_lingering(token);
            self.end(token, Reason::Aborted);
        }
    }

    pub(super) fn remove_descriptor(&mut self, token: Token, reason: Reason) {
        let Some(Source::Descriptor(descriptor)) = self.sources.get(token) else { return };
        // A descriptor that was closed too early has left the poll by itself.
        let _ = self.registry.deregister(&mut SourceFd(&descriptor.fd));
        self.sources.remove(token);
        self.turns.push_back(Turn::Removed(token, reason));
    }
}
