//! Listeners on their poller: who comes in, who waits, and what happens when descriptors run out.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::Interest;
use mio::unix::SourceFd;
use socket2::Socket;

use super::{Deadline, REST, Source, State, Turn, list_listener, mio_token, stream_interests};
use crate::acceptor::{Acceptor, Admitted, Listener, is_of_the_peer};
use crate::admission::Permit;
use crate::connection::Connection;
use crate::remote::{Message, Peer, Remote};
use crate::slots::Token;

/// How many connections one listener takes per turn.
const BUDGET: usize = 64;

impl State {
    pub(super) fn listen(&mut self, listener: Listener) {
        if self.stopping.is_some() {
            return;
        }
        if let Some(cpu) = listener.cpu() {
            self.pin(cpu);
        }
        let token = self.sources.insert_with(|_| Source::Listener(listener));
        self.listeners.push(token);
        self.watch_listener(token);
    }

    /// Whether the poll tells of its connections. That takes memory; without it is tried again after a rest, since peers are
    /// in the backlog already.
    fn watch_listener(&mut self, token: Token) -> bool {
        let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return false };
        if !listener.watched {
            let fd = listener.socket().as_raw_fd();
            match self.registry.register(&mut SourceFd(&fd), mio_token(token), Interest::READABLE) {
                Ok(()) => listener.watched = true,
                Err(error) => self.run_short(token, error),
            }
        }
        matches!(self.sources.get(token), Some(Source::Listener(listener)) if listener.watched)
    }

    /// Takes connections out of the backlog, as many as may come in.
    pub(super) fn accept(&mut self, token: Token) {
        if !self.watch_listener(token) {
            return;
        }
        for _ in 0..BUDGET {
            let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
            let admitted = match listener.acceptor.admit(self.batch.now) {
                // Room that comes free will be told.
                Admitted::Full => return,
                Admitted::TooFast(until) => return self.rest(token, until),
                admitted => admitted,
            };
            match listener.accept() {
                Ok((socket, peer)) => self.welcome(token, socket, peer, admitted),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The connection was gone before it was taken, or a firewall said no: not the listener's trouble.
                Err(error) if is_of_the_peer(&error) => {}
                // A shortage, or a listener that someone shut down: either way trying at once would be of no use.
                Err(error) => return self.run_short(token, error),
            }
        }
        if let Some(Source::Listener(listener)) = self.sources.get_mut(token) {
            list_listener(listener, &mut self.ready, token);
        }
    }

    /// Hands a new connection to the poller that will own it, unless its address has its share.
    fn welcome(&mut self, token: Token, socket: Socket, peer: Peer, mut admitted: Admitted) {
        let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
        let acceptor = listener.acceptor.clone();
        acceptor.note_accepted(self.batch.now);
        if let (Admitted::In(Some(permit)), Peer::Inet(address)) = (&mut admitted, peer)
            && !permit.admits(address.ip())
        {
            admitted = Admitted::Refused;
        }
        let Admitted::In(permit) = admitted else { return self.handle.counters.refused.add(1) };
        match acceptor.taker().filter(|taker| !Arc::ptr_eq(taker, &self.handle)).cloned() {
            // A poller that has stopped drops the socket, and with it the connection.
            Some(taker) => drop(taker.post(Message::Adopt { socket, peer, acceptor, permit })),
            None => self.adopt(socket, peer, &acceptor, permit),
        }
    }

    pub(super) fn adopt(&mut self, socket: Socket, peer: Peer, acceptor: &Arc<Acceptor>, permit: Option<Permit>) {
        if self.stopping.is_some() {
            return;
        }
        let (handle, options, now) = (self.handle.clone(), acceptor.connection_options(), self.batch.now);
        let fd = socket.as_raw_fd();
        let token = self.sources.insert_with(|token| {
            let remote = Remote::new(handle, token, peer, &options);
            Source::Connection(Connection::new(socket, remote, options, now).with_permit(permit))
        });
        match self.registry.register(&mut SourceFd(&fd), mio_token(token), stream_interests(false)) {
            Ok(()) => {
                self.handle.counters.accepted.add(1);
                self.turns.push_back(Turn::Accepted(token, acceptor.clone()));
                self.guard(token);
            }
            // Out of memory or of epoll watches: the peer sees the connection closed.
            Err(_) => drop(self.sources.remove(token)),
        }
    }

    /// Descriptors or memory ran out: new connections wait in the backlog.
    fn run_short(&mut self, token: Token, error: io::Error) {
        self.rest(token, self.batch.now + REST.as_nanos() as u64);
        let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
        // A listener that was shut down is about to be closed.
        let is_short = error.raw_os_error() != Some(libc::EINVAL);
        if is_short && listener.acceptor.tells_of_shortage(self.batch.now) {
            self.turns.push_back(Turn::AcceptFailed(listener.acceptor.clone(), error));
        }
        self.short.push(token);
    }

    /// A socket was closed here, so there is a descriptor again.
    pub(super) fn end_shortage(&mut self) {
        for token in std::mem::take(&mut self.short) {
            self.end_rest(token);
        }
    }

    fn rest(&mut self, token: Token, until: u64) {
        let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
        let timer = self.timers.set(until, 0, Deadline::Rest(token));
        if let Some(before) = listener.resting.replace(timer) {
            self.timers.cancel(before);
        }
    }

    pub(super) fn end_rest(&mut self, token: Token) {
        match self.sources.get_mut(token) {
            Some(Source::Listener(listener)) => {
                if let Some(timer) = listener.resting.take() {
                    self.timers.cancel(timer);
                }
                list_listener(listener, &mut self.ready, token);
            }
            Some(Source::Datagrams(_)) => self.note_datagrams(token),
            _ => {}
        }
        self.short.retain(|other| *other != token);
    }

    /// One of the connections of `acceptor` has ended.
    pub(super) fn accept_again(&mut self, acceptor: &Arc<Acceptor>) {
        for &token in &self.listeners {
            if let Some(Source::Listener(listener)) = self.sources.get_mut(token)
                && Arc::ptr_eq(&listener.acceptor, acceptor)
            {
                list_listener(listener, &mut self.ready, token);
            }
        }
    }

    pub(super) fn unlisten(&mut self, which: impl Fn(&Listener) -> bool) {
        let (registry, sources) = (&self.registry, &mut self.sources);
        self.listeners.retain(|&token| match sources.get(token) {
            Some(Source::Listener(listener)) if which(listener) => {
                let _ = registry.deregister(&mut SourceFd(&listener.socket().as_raw_fd()));
                sources.remove(token);
                false
            }
            _ => true,
        });
    }
}
