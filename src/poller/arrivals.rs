//! Accepted sockets whose proxies have to send a PROXY header first: trust, a time limit, and the connection behind it.
//!
//! A header mostly comes with the connection, and is read at once then. Only a socket whose header is late gets a slot,
//! a place in the poll and a timer.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::Interest;
use mio::unix::SourceFd;
use socket2::Socket;

use super::queues::{Ending, Turn};
use super::state::{Deadline, Source, State};
use super::token::mio_token;
use crate::connection::transport::Transport;
use crate::proxy::{Header, Proxied, Refusal, Trusted};
use crate::shared::acceptor::Acceptor;
use crate::shared::admission::Permit;
use crate::shared::remote::Peer;
use crate::slots::Token;
use crate::sources::arrival::Arrival;

impl State {
    /// Waits for the header on a socket that was accepted, unless it is there already.
    pub(super) fn await_header(
        &mut self,
        socket: Socket,
        peer: Peer,
        acceptor: &Arc<Acceptor>,
        permit: Permit,
        trusted: &Trusted,
    ) {
        let is_trusted = trusted.holds(peer.inet().map(|address| address.ip()));
        let mut arrival = Arrival::new(socket, peer, acceptor.clone(), permit);
        match if is_trusted { arrival.read() } else { Err(Refusal::Untrusted) } {
            Ok(Some(header)) => self.introduce(arrival, header),
            Ok(None) => self.watch_arrival(arrival),
            Err(refusal) => self.refuse_peer(arrival, &refusal),
        }
    }

    fn watch_arrival(&mut self, arrival: Arrival) {
        let (fd, limit) = (arrival.socket.as_raw_fd(), arrival.time_limit());
        let token = self.sources.insert_with(|_| Source::Arrival(Box::new(arrival)));
        if self.registry.register(&mut SourceFd(&fd), mio_token(token), Interest::READABLE).is_err() {
            // Memory or epoll watches ran out: the socket is closed.
            return self.drop_arrival(token);
        }
        let until = self.batch.now.saturating_add(limit.as_nanos() as u64);
        let timer = self.supplies.timers.set(until, 0, Deadline::Arrival(token));
        if let Some(Source::Arrival(arrival)) = self.sources.get_mut(token) {
            arrival.deadline = Some(timer);
        }
    }

    /// Puts an arrival into the ready list.
    pub(super) fn list_arrival(&mut self, token: Token) {
        if let Some(Source::Arrival(arrival)) = self.sources.get_mut(token)
            && !std::mem::replace(&mut arrival.listed, true)
        {
            self.queues.ready.push_back(token);
        }
    }

    /// Goes on with a header.
    pub(super) fn read_header(&mut self, token: Token) {
        let Some(Source::Arrival(arrival)) = self.sources.get_mut(token) else { return };
        arrival.listed = false;
        match arrival.read() {
            Ok(None) => {}
            Ok(Some(header)) => {
                if let Some(arrival) = self.take_arrival(token) {
                    // The connection is watched under a token of its own, and the poll tells it of the input behind the
                    // header. Fails only if the poll does not watch the socket, which is the goal.
                    let _ = self.registry.deregister(&mut SourceFd(&arrival.socket.as_raw_fd()));
                    self.introduce(arrival, header);
                }
            }
            Err(refusal) => self.refuse_late(token, &refusal),
        }
    }

    /// Ends an arrival that has used up its time, unless its header has come while the poller was busy.
    pub(super) fn arrival_timed_out(&mut self, token: Token) {
        self.read_header(token);
        let Some(Source::Arrival(arrival)) = self.sources.get(token) else { return };
        let refusal = Refusal::Timeout(arrival.time_limit());
        self.refuse_late(token, &refusal);
    }

    /// Makes the connection of the client that the header names, or begins its handshake.
    fn introduce(&mut self, arrival: Arrival, header: Header) {
        let Arrival { socket, peer, acceptor, permit, .. } = arrival;
        let proxied = Proxied { header, proxy: peer.inet() };
        self.let_in(socket, Peer::Proxied(proxied.into()), &acceptor, permit);
        self.queues.release(acceptor);
    }

    fn refuse_late(&mut self, token: Token, refusal: &Refusal) {
        if let Some(arrival) = self.take_arrival(token) {
            self.refuse_peer(arrival, refusal);
        }
    }

    fn refuse_peer(&mut self, arrival: Arrival, refusal: &Refusal) {
        let kind = refusal.number();
        self.handle.counters.proxies_refused[kind].add(1);
        if self.told_of_refusals.is_due(kind, self.batch.now) {
            self.queues.turns.push_back(Turn::ProxyRefused(arrival.peer.clone(), refusal.to_string()));
        }
        self.end_arrival(arrival);
    }

    /// Ends an arrival, of which no handler has to hear.
    pub(super) fn drop_arrival(&mut self, token: Token) {
        if let Some(arrival) = self.take_arrival(token) {
            self.end_arrival(arrival);
        }
    }

    fn end_arrival(&mut self, arrival: Arrival) {
        let Arrival { socket, acceptor, permit, .. } = arrival;
        drop(permit);
        self.queues.endings.push(Ending::Close(Transport::Plain(socket)));
        self.queues.release(acceptor);
    }

    fn take_arrival(&mut self, token: Token) -> Option<Arrival> {
        let Source::Arrival(_) = self.sources.get(token)? else { return None };
        let Source::Arrival(arrival) = self.sources.remove(token)? else { return None };
        if let Some(timer) = arrival.deadline {
            self.supplies.timers.cancel(timer);
        }
        Some(*arrival)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_connection_without_a_proxy_is_not_larger() {
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>());
    }
}
