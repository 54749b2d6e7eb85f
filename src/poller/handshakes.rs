//! Handshakes of TLS on their poller: a few steps in each batch, a time limit, and their ends.
//!
//! A handshake costs a hundred times as much as a request. So a batch takes only some steps, and the others keep their
//! place in the ready list behind the connections.

use std::io;
use std::sync::Arc;

use socket2::Socket;

use super::deadlines::set_guard;
use super::queues::{Ending, Turn};
use super::state::{Deadline, Source, State};
use super::token::mio_token;
use crate::connection::Connection;
use crate::connection::transport::Transport;
use crate::error::Error;
use crate::shared::acceptor::Acceptor;
use crate::shared::admission::Permit;
use crate::shared::handle::Message;
use crate::shared::remote::{Peer, Remote};
use crate::slots::Token;
use crate::sources::connector::Secured;
use crate::sources::handshake::{Certificate, Handshake, Origin};
use crate::timer::TimerId;
use crate::tls::server::ServerContext;
use crate::tls::stream::Stream;
use crate::tls::{Failure, FailureKind};

impl State {
    /// Begins the handshake of a socket that was accepted.
    pub(super) fn adopt_secured(
        &mut self,
        socket: Socket,
        peer: Peer,
        acceptor: &Arc<Acceptor>,
        permit: Permit,
        context: &Arc<ServerContext>,
    ) {
        // Fails only without memory, which ends the socket.
        let Ok(stream) = Stream::server(context.config()) else { return };
        let (transport, options) = (Transport::secured(socket, stream), acceptor.connection_options());
        let origin = Origin::Accepted(acceptor.clone(), permit);
        let certificate = Certificate::of(context);
        self.begin_handshake(Handshake::new(transport, peer, options, origin, certificate));
    }

    fn begin_handshake(&mut self, handshake: Box<Handshake>) {
        let token = self.sources.insert_with(|_| Source::Handshake(handshake));
        if let Some(Source::Handshake(handshake)) = self.sources.get(token)
            && handshake.transport.register(&self.registry, mio_token(token), true).is_err()
        {
            // Memory or epoll watches ran out: the socket is closed.
            return self.stop_handshake(token);
        }
        self.time_handshake(token);
    }

    /// Begins the handshake of a socket that was connected, in the slot of its dial, whose time limit goes on.
    pub(super) fn secure_dialled(
        &mut self,
        token: Token,
        socket: Socket,
        peer: Peer,
        tls: Secured,
        deadline: Option<TimerId>,
    ) {
        let Some(source @ Source::Dial(_)) = self.sources.get_mut(token) else { return };
        let Source::Dial(mut dial) = std::mem::replace(source, Source::Leaving) else { return };
        dial.deadline = deadline;
        let options = dial.options.connection.clone().into();
        let secured = Stream::client(tls.config, tls.name).map_err(|error| Failure::from(error).into());
        let secured = secured.map(|stream| Transport::secured(socket, stream)).and_then(|transport| {
            transport.reregister(&self.registry, mio_token(token), true)?;
            Ok(transport)
        });
        let origin = Origin::Dialed(dial);
        match (secured, self.sources.get_mut(token)) {
            (Ok(transport), Some(source)) => {
                *source = Source::Handshake(Handshake::new(transport, peer, options, origin, Certificate::Known));
                self.time_handshake(token);
            }
            (Err(error), _) => {
                deadline.map(|timer| self.supplies.timers.cancel(timer));
                self.leave_handshake(token, peer, origin, error);
            }
            (Ok(_), None) => {}
        }
    }

    fn time_handshake(&mut self, token: Token) {
        let Some(Source::Handshake(handshake)) = self.sources.get_mut(token) else { return };
        let until = self.batch.now.saturating_add(handshake.options.handshake_timeout.as_nanos() as u64);
        handshake.deadline = Some(self.supplies.timers.set(until, 0, Deadline::Handshake(token)));
        self.list_handshake(token);
    }

    /// Puts a handshake into the ready list.
    pub(super) fn list_handshake(&mut self, token: Token) {
        if let Some(Source::Handshake(handshake)) = self.sources.get_mut(token)
            && !std::mem::replace(&mut handshake.listed, true)
        {
            self.queues.ready.push_back(token);
        }
    }

    /// Goes on with a handshake as far as the socket allows.
    pub(super) fn shake_hands(&mut self, token: Token) {
        let Some(Source::Handshake(handshake)) = self.sources.get_mut(token) else { return };
        handshake.listed = false;
        let certificate = self.find_certificate(token);
        let Some(Source::Handshake(handshake)) = self.sources.get_mut(token) else { return };
        match certificate.and_then(|()| handshake.transport.shake_hands()) {
            Ok(()) => self.open_secured(token),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.list_handshake(token),
            Err(error) => self.fail_handshake(token, error),
        }
    }

    /// Has the certificate for the name looked for that the client asks for, if there is none yet. `WouldBlock` until it
    /// is found.
    fn find_certificate(&mut self, token: Token) -> io::Result<()> {
        // The resolver may start a thread.
        self.leave_home();
        let Some(Source::Handshake(handshake)) = self.sources.get_mut(token) else { return Ok(()) };
        let context = match &handshake.certificate {
            Certificate::Known => return Ok(()),
            Certificate::LookedFor { .. } => return Err(io::ErrorKind::WouldBlock.into()),
            Certificate::Unknown(context) => context.clone(),
        };
        let name = handshake.transport.asked_name()?;
        let Some(name) = name.filter(|name| context.has_to_choose(name)) else {
            handshake.certificate = Certificate::Known;
            return Ok(());
        };
        let wanted = Arc::new(());
        let handle = self.handle.clone();
        self.resolver.run(Arc::downgrade(&wanted), move || {
            context.choose(&name);
            // Fails only on a poller that has ended.
            let _ = handle.post(Message::CertificateChosen(token));
        });
        handshake.certificate = Certificate::LookedFor { _wanted: wanted };
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Goes on with a handshake whose certificate was looked for.
    pub(super) fn certificate_chosen(&mut self, token: Token) {
        if let Some(Source::Handshake(handshake)) = self.sources.get_mut(token) {
            handshake.certificate = Certificate::Known;
            self.list_handshake(token);
        }
    }

    /// Ends a handshake that has used up its time, unless the peer's part has come while the poller was busy.
    pub(super) fn handshake_timed_out(&mut self, token: Token) {
        let Some(Source::Handshake(handshake)) = self.sources.get_mut(token) else {
            return self.upgrade_timed_out(token);
        };
        handshake.deadline = None;
        let timeout = handshake.options.handshake_timeout;
        self.shake_hands(token);
        self.fail_handshake(token, Failure::Timeout(timeout).into());
    }

    /// Ends a handshake that has used up the time of its connect request, likewise.
    pub(super) fn dialled_handshake_timed_out(&mut self, token: Token) {
        self.shake_hands(token);
        let Some(Handshake { transport, origin, .. }) = self.end_handshake(token) else { return };
        self.queues.endings.push(Ending::Close(transport));
        if let Origin::Dialed(dial) = origin {
            self.queues.turns.push_back(Turn::ConnectFailed(token, dial.timed_out()));
        }
    }

    /// Makes the connection, in the slot of its handshake.
    fn open_secured(&mut self, token: Token) {
        let Some(Handshake { transport, peer, options, origin, .. }) = self.end_handshake(token) else { return };
        if let Err(error) = transport.reregister(&self.registry, mio_token(token), false) {
            self.queues.endings.push(Ending::Close(transport));
            return self.leave_handshake(token, peer, origin, error);
        }
        let remote = Remote::over(self.handle.clone(), token, peer, &options, true);
        let is_resumed = transport.is_resumed();
        // Input behind the handshake is in the transport, of which the poll knows nothing.
        let mut connection = Connection::new(transport, remote, options, self.batch.now).with_input();
        match origin {
            Origin::Accepted(acceptor, permit) => {
                connection = connection.with_permit(permit).with_stop(self.draining);
                self.queues.turns.push_back(Turn::Accepted(token, acceptor));
                self.handle.counters.accepted.add(1);
                self.count_secured(is_resumed);
            }
            Origin::Dialed(_) => {
                connection = connection.outgoing();
                connection.set_late(self.stopping.is_some());
                self.handle.counters.connected.add(1);
            }
        }
        if let Some(source) = self.sources.get_mut(token) {
            *source = Source::Connection(connection);
        }
        self.with(token, |connection, supplies| set_guard(connection, &mut supplies.timers, token));
    }

    /// Ends a handshake that failed. The alert for the peer was sent already.
    fn fail_handshake(&mut self, token: Token, error: io::Error) {
        let Some(Handshake { transport, peer, origin, .. }) = self.end_handshake(token) else { return };
        self.queues.endings.push(Ending::Close(transport));
        self.leave_handshake(token, peer, origin, error);
    }

    /// Tells of a failure: a client's handler hears of it, a server's is not made.
    fn leave_handshake(&mut self, token: Token, peer: Peer, origin: Origin, error: io::Error) {
        match origin {
            Origin::Dialed(dial) => {
                let context = format!("cannot connect to {} with TLS", dial.text());
                self.queues.turns.push_back(Turn::ConnectFailed(token, Error::io(context)(error)));
            }
            Origin::Accepted(acceptor, permit) => {
                drop((self.sources.remove(token), permit));
                self.note_failed_handshake(peer, &error);
                self.queues.release(acceptor);
            }
        }
    }

    /// Counts a handshake of an accepted socket that has succeeded.
    pub(super) fn count_secured(&self, resumed: bool) {
        self.handle.counters.secured.add(1);
        self.handle.counters.resumed.add(resumed.into());
    }

    fn note_failed_handshake(&mut self, peer: Peer, error: &io::Error) {
        let kind = FailureKind::of(error);
        self.handle.counters.handshakes[kind as usize].add(1);
        if self.told_of_handshakes.is_due(kind as usize, self.batch.now) {
            self.queues.turns.push_back(Turn::HandshakeFailed(peer, error.to_string()));
        }
    }

    /// Takes a handshake out of its slot, which stays until it is used or removed.
    fn end_handshake(&mut self, token: Token) -> Option<Handshake> {
        let source @ Source::Handshake(_) = self.sources.get_mut(token)? else { return None };
        let Source::Handshake(handshake) = std::mem::replace(source, Source::Leaving) else { return None };
        let dialled = match &handshake.origin {
            Origin::Dialed(dial) => dial.deadline,
            Origin::Accepted(..) => None,
        };
        for timer in [handshake.deadline, dialled].into_iter().flatten() {
            self.supplies.timers.cancel(timer);
        }
        Some(*handshake)
    }

    /// The reactor stops: a handshake that has not ended has no handler to be told, or one that is told why.
    pub(super) fn stop_handshake(&mut self, token: Token) {
        let Some(Handshake { transport, origin, .. }) = self.end_handshake(token) else { return };
        self.queues.endings.push(Ending::Close(transport));
        match origin {
            Origin::Dialed(dial) => self.queues.turns.push_back(Turn::ConnectFailed(token, dial.stopped())),
            Origin::Accepted(acceptor, permit) => {
                drop((self.sources.remove(token), permit));
                self.queues.release(acceptor);
            }
        }
    }
}
