//! How things end: connections in order or at once, lingering, listeners, descriptors, the whole poller.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use socket2::Socket;

use super::deadlines::drop_guard;
use super::{Deadline, Ending, Source, State, Turn, list_if_ready, mio_token, open, queue_if_due, touch};
use crate::connection::{Connection, Phase};
use crate::error::{Foreign, Reason};
use crate::fork;
use crate::slots::Token;
use crate::steering;
use crate::websocket::{Farewell, GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION};

impl State {
    /// The handler was offered all the input that may wait and consumed nothing: it would wait for ever.
    pub(super) fn input_overflow(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        let limit = connection.options.max_input;
        self.end(token, Reason::InputOverflow { limit });
    }

    pub(super) fn overflow(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        let limit = connection.options.max_output;
        self.end(token, Reason::OutputOverflow { limit });
    }

    /// Closes in order: the queue goes out, then the connection ends.
    pub(super) fn close(&mut self, token: Token) {
        self.say_last_word(token);
        let Some(connection) = open(&mut self.sources, token) else { return };
        connection.remote.mark_closed();
        match connection.phase {
            Phase::Accepted => return self.reject(token),
            Phase::New => return connection.early_end = Some(Box::new(Reason::Orderly)),
            _ => connection.phase = Phase::Flushing,
        }
        if connection.output.is_none() {
            self.flushed(token);
        } else {
            touch(connection, &mut self.touched, token);
        }
    }

    /// Closes in order, and `on_close` is told why.
    pub(super) fn close_because(&mut self, token: Token, reason: Reason) {
        match &reason {
            Reason::WebSocket(violation) => self.part(token, Farewell::because(violation.code(), violation)),
            Reason::Expired(limit) => self.part(token, Farewell::because(POLICY_VIOLATION, limit)),
            _ => {}
        }
        self.say_last_word(token);
        let Some(connection) = open(&mut self.sources, token) else { return };
        let untold = match connection.reason.as_deref() {
            Some(known) if known.goes_first() || !reason.goes_first() => Some(reason),
            _ => connection.reason.replace(Box::new(reason)).map(|known| *known),
        };
        self.let_go(untold);
        self.close(token);
    }

    /// A reason may hold a value of the language above, whose end may run code of the user's: the dispatch drops it.
    pub(super) fn let_go(&mut self, untold: Option<Reason>) {
        if let Some(Reason::Raised(value)) = untold {
            self.push_task(value);
        }
    }

    /// Closes in order one whose peer is silent; at once if it takes nothing either, or nobody would be told of it for long.
    pub(super) fn give_up(&mut self, token: Token, reason: Reason) {
        match open(&mut self.sources, token) {
            Some(connection) if connection.blocked => self.end(token, reason),
            _ => self.close_because(token, reason),
        }
    }

    /// Closes in order because a callback raised, also one that had closed before. Gives back what nobody will be told.
    pub(super) fn fail(&mut self, token: Token, raised: Foreign) -> Option<Foreign> {
        self.answer_failure(token);
        self.close_with(token, Farewell::new(INTERNAL_ERROR));
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return Some(raised) };
        let closing = matches!(connection.phase, Phase::Flushing | Phase::Ended);
        if !closing || !matches!(connection.reason.as_deref(), None | Some(Reason::Orderly)) {
            return Some(raised);
        }
        connection.reason = Some(Box::new(Reason::Raised(raised)));
        None
    }

    /// Ends a connection that has no handler, so nobody is told.
    pub(super) fn reject(&mut self, token: Token) {
        self.handle.counters.closed.note_rejected();
        self.remove(token);
    }

    /// Ends a connection now; `on_close` follows in its turn.
    pub(super) fn end(&mut self, token: Token, reason: Reason) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        connection.remote.mark_closed();
        match connection.phase {
            Phase::Accepted => return self.reject(token),
            Phase::New => return connection.early_end = Some(Box::new(reason)),
            Phase::Open | Phase::Flushing => {}
            Phase::Ended | Phase::Lingering => return,
        }
        connection.phase = Phase::Ended;
        let (reason, untold) = connection.take_reason(Some(reason));
        connection.reason = Some(Box::new(reason));
        if let Some(output) = connection.output.take() {
            connection.cut |= !output.is_empty();
            self.pool.give_back(output);
        }
        queue_if_due(connection, &mut self.turns, token);
        self.let_go(untold);
    }

    /// Does what ended connections need of the kernel.
    pub(super) fn finish_endings(&mut self) {
        if self.endings.is_empty() {
            return;
        }
        while let Some(ending) = self.endings.pop() {
            match ending {
                Ending::Linger(token) => self.linger(token),
                Ending::Reset(socket) => self.reset_socket(&socket),
                Ending::Close(socket) => self.close_socket(&socket),
            }
        }
        self.end_shortage();
    }

    /// The handler is gone, the socket stays until the peer has read what was sent: closing a socket with unread
    /// input would reset the connection and take the last answer with it (RFC 9112 section 9.6 has the reasons).
    fn linger(&mut self, token: Token) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        let timeout = connection.options.linger_timeout;
        let until = self.batch.now.saturating_add(timeout.as_nanos() as u64);
        let until = self.stopping.map_or(until, |deadline| until.min(deadline));
        // A failing shutdown means that the peer is gone.
        if until <= self.batch.now || connection.socket.shutdown(Shutdown::Write).is_err() {
            return self.remove(token);
        }
        connection.input = Default::default();
        connection.readable = true;
        connection.timers.push(self.timers.set(until, 0, Deadline::Linger(token)));
        list_if_ready(connection, &mut self.ready, token);
    }

    pub(super) fn remove_lingering(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get(token)
            && connection.phase == Phase::Lingering
        {
            self.remove(token);
        }
    }

    /// Takes a connection out; its socket is closed when the batch is over.
    pub(super) fn remove(&mut self, token: Token) {
        if let Some(connection) = self.take_out(token) {
            self.endings.push(Ending::Close(connection.socket));
        }
    }

    /// As [`Self::remove`], but the peer sees a reset and not the orderly end of something complete (RFC 9293 section
    /// 3.10.5).
    pub(super) fn reset(&mut self, token: Token) {
        if let Some(connection) = self.take_out(token) {
            self.endings.push(Ending::Reset(connection.socket));
        }
    }

    fn take_out(&mut self, token: Token) -> Option<Connection> {
        let Some(Source::Connection(mut connection)) = self.sources.remove(token) else { return None };
        if let Some(output) = connection.output.take() {
            self.pool.give_back(output);
        }
        for timer in connection.timers.drain(..) {
            self.timers.cancel(timer);
        }
        drop_guard(&mut connection, &mut self.timers);
        Some(connection)
    }

    /// The descriptor leaves the poll before it is closed, so no event can reach whoever gets its number next.
    fn close_socket(&self, socket: &Socket) {
        // Fails only if it is not registered, which is what is wanted.
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        if fork::has_children() {
            // A child may hold a copy, and then closing ours tells the peer nothing.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn reset_socket(&self, socket: &Socket) {
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        // Either fails only on a socket that has failed already, or a Unix one, which knows no resets.
        if fork::has_children() {
            // Closing ours would tell the peer nothing while a child holds a copy; this resets the connection itself.
            if disconnect(socket).is_err() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        } else {
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// Keeps this thread on one CPU, unless it is kept on one already; the run's end undoes it.
    pub(super) fn pin(&mut self, cpu: usize) {
        if self.unpinned.is_none() {
            // Where it cannot be pinned it is only less exact.
            self.unpinned = steering::affinity().ok().filter(|_| steering::pin(cpu).is_ok());
        }
    }

    /// Stops listening and ends everything in order; what is not done by `deadline` is aborted.
    pub(super) fn stop(&mut self, deadline: u64, at_once: bool) {
        let before = self.stopping;
        let deadline = before.map_or(deadline, |earlier| earlier.min(deadline));
        self.stopping = Some(deadline);
        self.timers.set(deadline, 0, Deadline::Stop);
        if before.is_none() {
            self.say_goodbye(at_once);
        }
    }

    fn say_goodbye(&mut self, at_once: bool) {
        self.unlisten(|_| true);
        for token in self.sources.tokens() {
            match self.sources.get_mut(token) {
                Some(Source::Connection(connection)) if connection.phase == Phase::Open && !at_once => {
                    connection.stopping_due = true;
                    queue_if_due(connection, &mut self.turns, token);
                }
                Some(Source::Connection(_)) => self.close_with(token, Farewell::new(GOING_AWAY)),
                Some(Source::Descriptor(_)) => drop(self.remove_descriptor(token, Reason::Orderly)),
                Some(Source::Datagrams(_)) => drop(self.close_datagrams(token, Reason::Orderly)),
                Some(Source::Dial(_)) => self.stop_dial(token),
                Some(Source::Listener(_) | Source::Attempt(_) | Source::Leaving) | None => {}
            }
        }
    }

    pub(super) fn abort_everything(&mut self) {
        for token in self.sources.tokens() {
            self.remove_lingering(token);
            self.end(token, Reason::Aborted);
        }
    }

    /// Gives the reason back when there is no such descriptor.
    pub(super) fn remove_descriptor(&mut self, token: Token, reason: Reason) -> Result<(), Reason> {
        let fd = match self.sources.get(token) {
            Some(Source::Descriptor(descriptor)) => descriptor.fd,
            _ => return Err(reason),
        };
        // A descriptor that was closed too early has left the poll by itself.
        let _ = self.registry.deregister(&mut SourceFd(&fd));
        if let Some(source) = self.sources.get_mut(token) {
            *source = Source::Leaving;
        }
        self.turns.push_back(Turn::Removed(token, reason));
        Ok(())
    }

    /// mio knows edges only: registering again makes the poll report a level that still holds.
    pub(super) fn rearm_descriptors(&mut self) {
        let mut rearm = std::mem::take(&mut self.rearm);
        for token in rearm.drain(..) {
            let Some(Source::Descriptor(descriptor)) = self.sources.get(token) else { continue };
            let (fd, interests) = (descriptor.fd, descriptor.interests.to_mio());
            if let Err(error) = self.registry.reregister(&mut SourceFd(&fd), mio_token(token), interests) {
                drop(self.remove_descriptor(token, Reason::Io(error)));
            }
        }
        self.rearm = rearm;
    }
}

/// Resets a TCP connection, whoever else holds its socket (connect(2), AF_UNSPEC).
fn disconnect(socket: &Socket) -> io::Result<()> {
    // SAFETY: the address is zeroed memory of ours, of the length given; AF_UNSPEC needs no more of it than the family.
    let result = unsafe {
        let mut nowhere: libc::sockaddr = std::mem::zeroed();
        nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
        libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
