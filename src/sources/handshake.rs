//! A handshake of TLS on its way: a connected socket that is no connection yet. The connection takes over its slot.

use std::sync::Arc;

use crate::connection::transport::Transport;
use crate::options::ConnectionOptions;
use crate::shared::acceptor::Acceptor;
use crate::shared::admission::Permit;
use crate::shared::remote::Peer;
use crate::sources::connector::Dial;
use crate::timer::TimerId;
use crate::tls::server::ServerContext;

/// One handshake on its poller.
pub(crate) struct Handshake {
    pub transport: Transport,
    pub peer: Peer,
    pub options: Arc<ConnectionOptions>,
    pub origin: Origin,
    /// The timer of its time limit.
    pub deadline: Option<TimerId>,
    /// Whether it is in the poller's ready list.
    pub listed: bool,
    pub certificate: Certificate,
}

impl Handshake {
    /// A handshake before its first step.
    pub fn new(
        transport: Transport,
        peer: Peer,
        options: Arc<ConnectionOptions>,
        origin: Origin,
        certificate: Certificate,
    ) -> Box<Self> {
        Self { transport, peer, options, origin, deadline: None, listed: false, certificate }.into()
    }

    /// Whether the socket was accepted, so that no handler waits.
    pub fn is_accepted(&self) -> bool {
        self.permit().is_some()
    }

    /// The permit of an accepted connection.
    pub fn permit(&self) -> Option<&Permit> {
        match &self.origin {
            Origin::Accepted(_, permit) => Some(permit),
            Origin::Dialed(_) => None,
        }
    }
}

/// The certificate of our side.
pub(crate) enum Certificate {
    /// The context has it.
    Known,
    /// The context may have to find it for the name that the client asks for.
    Unknown(Arc<ServerContext>),
    /// A thread looks for it; it gives up if this is dropped.
    LookedFor { _wanted: Arc<()> },
}

impl Certificate {
    /// The certificate of a server before the first message of its client.
    pub fn of(context: &Arc<ServerContext>) -> Self {
        if context.chooses() { Self::Unknown(context.clone()) } else { Self::Known }
    }
}

/// The way by which the socket came.
pub(crate) enum Origin {
    /// The factory of the acceptor makes the handler when the handshake is over.
    Accepted(Arc<Acceptor>, Permit),
    /// The handler waits already. The dial is over but for its time limit.
    Dialed(Box<Dial>),
}
