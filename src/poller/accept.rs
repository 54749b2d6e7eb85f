//! Listeners on their poller: accepting, limits, and rests when descriptors or memory run out.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::Interest;
use mio::unix::SourceFd;
use socket2::Socket;

use super::queues::Turn;
use super::state::{Deadline, REST, Source, State};
use super::token::mio_token;
use crate::connection::Connection;
use crate::connection::transport::Transport;
use crate::error::Error;
use crate::options::ConnectionOptions;
use crate::shared::acceptor::{Acceptor, Admitted, Listener, is_of_the_peer};
use crate::shared::admission::Permit;
use crate::shared::handle::Message;
use crate::shared::remote::{Peer, Remote};
use crate::slots::Token;

/// The most connections that a listener accepts in one turn.
const BUDGET: usize = 64;

impl State {
    pub(super) fn listen(&mut self, listener: Listener) {
        if self.stopping.is_some() {
            return self.queues.release(listener.acceptor);
        }
        if let Some(cpu) = listener.cpu() {
            self.pin(cpu);
        }
        let token = self.sources.insert_with(|_| Source::Listener(listener));
        self.listening.listeners.push(token);
        self.watch_listener(token);
    }

    /// Whether the poll watches the listener; registers it if it does not. If memory is short, another attempt follows
    /// after a rest, because peers may wait in the backlog already.
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

    /// Accepts connections from the backlog, as many as the limits allow.
    pub(super) fn accept(&mut self, token: Token) {
        if !self.watch_listener(token) {
            return;
        }
        for _ in 0..BUDGET {
            let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
            let admitted = match listener.acceptor.admit(self.batch.now) {
                // `Message::Room` follows when a connection has ended.
                Admitted::Full => return,
                Admitted::TooFast(until) => return self.rest(token, until),
                admitted => admitted,
            };
            match listener.accept() {
                Ok((socket, peer)) => self.welcome(token, socket, peer, admitted),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The connection ended before it was accepted, or a firewall refused it. The listener is not at fault.
                Err(error) if is_of_the_peer(&error) => {}
                // A shortage, or a listener that was shut down: in both cases an attempt at once would fail too.
                Err(error) => return self.run_short(token, error),
            }
        }
        if let Some(Source::Listener(listener)) = self.sources.get_mut(token) {
            self.queues.place_listener(token, listener);
        }
    }

    /// Gives a new connection to the poller that will own it, unless its address has too many connections.
    fn welcome(&mut self, token: Token, socket: Socket, peer: Peer, admitted: Admitted) {
        let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
        let acceptor = listener.acceptor.clone();
        acceptor.admission.note_accepted(self.batch.now);
        let address = if let Peer::Inet(address) = peer { Some(address.ip()) } else { None };
        let permit = if let Admitted::In(room) = admitted { room.admit(address) } else { None };
        let Some(mut permit) = permit else {
            acceptor.admission.note_refused();
            return self.handle.counters.refused.add(1);
        };
        let placed = acceptor.place(&socket, address).map(|(poller, place)| (poller.clone(), place));
        let (poller, place) = placed.unzip();
        permit.place = place;
        match poller.filter(|poller| !Arc::ptr_eq(poller, &self.handle)) {
            // A poller that has stopped drops the socket, which closes the connection.
            Some(poller) => drop(poller.post(Message::Adopt { socket, peer, acceptor, permit })),
            None => self.adopt(socket, peer, &acceptor, permit),
        }
    }

    pub(super) fn adopt(&mut self, socket: Socket, peer: Peer, acceptor: &Arc<Acceptor>, permit: Permit) {
        if self.stopping.is_some() && !self.draining {
            return;
        }
        match &acceptor.proxies {
            Some(trusted) => self.await_header(socket, peer, acceptor, permit, trusted),
            None => self.let_in(socket, peer, acceptor, permit),
        }
    }

    /// Makes the connection of an accepted socket, or begins its handshake.
    pub(super) fn let_in(&mut self, socket: Socket, peer: Peer, acceptor: &Arc<Acceptor>, permit: Permit) {
        #[cfg(feature = "tls")]
        if let Some(context) = &acceptor.tls {
            return self.adopt_secured(socket, peer, acceptor, permit, context);
        }
        let (options, now, draining) = (acceptor.connection_options(), self.batch.now, self.draining);
        let finish = |connection: Connection| connection.with_permit(permit).with_stop(draining);
        let taken = self.take_in(Transport::Plain(socket), peer, options, now, finish);
        // If memory or epoll watches ran out, the connection is closed.
        if let Ok(token) = taken {
            self.queues.turns.push_back(Turn::Accepted(token, acceptor.clone()));
            self.guard(token);
        }
    }

    /// Makes a connection of a connected socket that the user may keep a copy of; [`super::call::Call::Open`] follows.
    pub(super) fn adopt_shared(
        &mut self,
        socket: Socket,
        peer: Peer,
        options: Arc<ConnectionOptions>,
    ) -> Result<Token, Error> {
        if self.stopping.is_some() {
            return Err(Error::stopped());
        }
        let now = self.supplies.clock.now();
        let taken = self.take_in(Transport::Shared(socket), peer, options, now, Connection::outgoing);
        let token = taken.map_err(Error::io("cannot watch the given socket"))?;
        self.guard(token);
        Ok(token)
    }

    /// Makes a connection of a connected socket, and has the poll watch it.
    fn take_in(
        &mut self,
        transport: Transport,
        peer: Peer,
        options: Arc<ConnectionOptions>,
        now: u64,
        finish: impl FnOnce(Connection) -> Connection,
    ) -> io::Result<Token> {
        let handle = self.handle.clone();
        let token = self.sources.insert_with(|token| {
            let remote = Remote::new(handle, token, peer, &options);
            Source::Connection(finish(Connection::new(transport, remote, options, now)))
        });
        let watched = self.connection(token).map(|new| new.transport.register(&self.registry, mio_token(token), false));
        if let Some(Err(error)) = watched {
            drop(self.sources.remove(token));
            return Err(error);
        }
        self.handle.counters.accepted.add(1);
        Ok(token)
    }

    /// Descriptors or memory ran out: the listener rests, and new connections wait in the backlog.
    fn run_short(&mut self, token: Token, error: io::Error) {
        self.rest(token, self.batch.now + REST.as_nanos() as u64);
        let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
        // A listener that was shut down (EINVAL) will be closed soon, so this is no shortage.
        let is_short = error.raw_os_error() != Some(libc::EINVAL);
        if is_short {
            listener.acceptor.admission.note_failed();
            self.supplies.pool.pipes.close_empty();
        }
        if is_short && listener.acceptor.tells_of_shortage(self.batch.now) {
            self.queues.turns.push_back(Turn::AcceptFailed(listener.acceptor.clone(), error));
        }
        self.listening.short.push(token);
    }

    /// Ends the rests of the listeners, because a socket was closed and its descriptor is free.
    pub(super) fn end_shortage(&mut self) {
        for token in std::mem::take(&mut self.listening.short) {
            self.end_rest(token);
        }
    }

    fn rest(&mut self, token: Token, until: u64) {
        let Some(Source::Listener(listener)) = self.sources.get_mut(token) else { return };
        let timer = self.supplies.timers.set(until, 0, Deadline::Rest(token));
        if let Some(before) = listener.resting.replace(timer) {
            self.supplies.timers.cancel(before);
        }
    }

    pub(super) fn end_rest(&mut self, token: Token) {
        match self.sources.get_mut(token) {
            Some(Source::Listener(listener)) => {
                if let Some(timer) = listener.resting.take() {
                    self.supplies.timers.cancel(timer);
                }
                self.queues.place_listener(token, listener);
            }
            Some(Source::Datagrams(_)) => self.note_datagrams(token),
            _ => {}
        }
        self.listening.short.retain(|other| *other != token);
    }

    /// A connection of `acceptor` has ended: its listeners may accept again.
    pub(super) fn accept_again(&mut self, acceptor: &Arc<Acceptor>) {
        for &token in &self.listening.listeners {
            if let Some(Source::Listener(listener)) = self.sources.get_mut(token)
                && Arc::ptr_eq(&listener.acceptor, acceptor)
            {
                self.queues.place_listener(token, listener);
            }
        }
    }

    pub(super) fn unlisten(&mut self, which: impl Fn(&Listener) -> bool) {
        let (registry, sources, queues) = (&self.registry, &mut self.sources, &mut self.queues);
        self.listening.listeners.retain(|&token| match sources.get(token) {
            Some(Source::Listener(listener)) if which(listener) => {
                let _ = registry.deregister(&mut SourceFd(&listener.socket().as_raw_fd()));
                if let Some(Source::Listener(listener)) = sources.remove(token) {
                    queues.release(listener.acceptor);
                }
                false
            }
            _ => true,
        });
    }
}
