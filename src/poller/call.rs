//! The seam between the reactor and the language its handlers are written in.
//!
//! A poller calls [`super::Dispatch::dispatch`] once per batch of events. The dispatch then asks the poller, by
//! [`super::Poller::next_call`], for one [`Call`] after the other until there is none. All rules of order live behind
//! that method. A dispatch only finds the handler object, calls it, and reports the result. The core never holds, drops
//! or logs a handler. Side tables indexed by [`Token::slot`] do that, on the other side of this seam.

use std::io;
use std::sync::Arc;

use super::ticket::Ticket;
use crate::error::{Error, Foreign, Reason};
use crate::protocols::Protocol;
use crate::shared::acceptor::Acceptor;
use crate::shared::remote::{Peer, Remote};
use crate::slots::Token;
use crate::sources::datagram::Datagram;
use crate::timer::TimerId;

/// The next call that the dispatch has to make.
pub enum Call {
    /// Make the handler of a new connection by the acceptor's factory, and call its `on_open`. Without a handler, call
    /// [`super::Poller::reject`]; no callback follows then.
    Accept(Arc<Remote>, Arc<Acceptor>),
    /// `on_open` of a handler that exists already: one that was connected, or that takes over.
    Open(Arc<Remote>),
    /// A listener cannot accept connections from its backlog, and will try again.
    AcceptFailed(Arc<Acceptor>, io::Error),
    /// An accepted socket was closed, because no trusted proxy sent a PROXY header there; the text says why. At most one
    /// call a second for each reason.
    ProxyRefused(Peer, String),
    /// A handshake on an accepted socket failed; the text says why. At most one call a second for each kind of reason.
    #[cfg(feature = "tls")]
    HandshakeFailed(Peer, String),
    /// `on_connect_fail`, then drop the handler. The token is stale already.
    ConnectFailed(Token, Error),
    /// `on_read`.
    Read(Token),
    /// The protocol of the connection may have a part for the handler; [`super::Poller::with`] reaches the protocol.
    /// The string is the name of the callback, for the watchdog.
    News(Token, &'static &'static str),
    /// The output before a mark of the connection's protocol was sent ([`crate::data::Data::Mark`]).
    Passed(Token, Foreign),
    /// A connection may leave for another poller: take its objects out, and pass them to [`super::Poller::depart`]. If that
    /// returns them, the connection stays, and they go back.
    Departure(Box<Ticket>),
    /// A connection has come from another poller, with the objects that its dispatch packed.
    Arrived(Token, Foreign),
    /// `on_eof`.
    Eof(Token),
    /// `on_drain`.
    Drain(Token),
    /// `on_stopping`: the reactor stops. [`super::Poller::finish`] closes a handler that does not define it.
    Stopping(Token),
    /// `on_close`, then drop the handler. The token is stale already; the timers were cancelled.
    Close {
        /// The token of the connection; its slot in the side table is free now.
        token: Token,
        /// The reason of the end.
        reason: Reason,
        /// The protocol, unless output was dropped.
        protocol: Option<Box<dyn Protocol>>,
        /// The timers of the connection, which will not fire any more.
        timers: Vec<TimerId>,
    },
    /// The output has fallen to the low-water mark, for which a callback waits ([`super::Poller::want_drain`]).
    Drained(Token),
    /// Cancel the callbacks of the connection that wait ([`super::Poller::begin_wait`]). `on_close` follows when they have
    /// ended.
    Cancel(Token),
    /// A timer fired.
    Timer {
        /// The timer.
        id: TimerId,
        /// The connection that set the timer. If it has ended, the timer's callback is only dropped.
        owner: Option<Token>,
        /// Whether the timer will fire again unless it is cancelled.
        again: bool,
    },
    /// A descriptor of an event handler is readable.
    DescriptorReadable(Token),
    /// A descriptor of an event handler is writable.
    DescriptorWritable(Token),
    /// `on_datagram`; [`super::Poller::with_datagram`] gives the bytes.
    Datagram(Token, Datagram),
    /// `on_error` of a handler for datagrams, whose socket stays open.
    DatagramError(Token, Error),
    /// The descriptor left the poller: `on_close`, then drop the event handler. The token is stale already.
    DescriptorRemoved(Token, Reason),
    /// Another thread cancelled a timer: drop its callback.
    TimerCancelled(TimerId),
    /// A value that was posted.
    Task(Foreign),
    /// A callback took longer than `slow_callback`. At most one call a second.
    Slow(Box<SlowCallback>),
    /// A byte arrived in the poller's signal pipe.
    Signal,
}

/// A callback that took too long, and has returned.
pub struct SlowCallback {
    /// The callback's name.
    pub callback: &'static str,
    /// The peer of the connection that the callback was for.
    pub peer: Option<Peer>,
    /// The time that the callback took, in nanoseconds.
    pub took: u64,
    /// The number of slow callbacks since the last report, which got none.
    pub unreported: u64,
}

impl Call {
    /// The name of the call in the watchdog's report.
    pub(crate) fn name(&self) -> &'static &'static str {
        match self {
            Self::Accept(..) => &"factory or on_open",
            Self::Open(_) => &"on_open",
            Self::ConnectFailed(..) => &"on_connect_fail",
            Self::Read(_) => &"on_read",
            Self::News(_, callback) => callback,
            Self::Passed(..) => &"a callback for sent output",
            Self::Departure(_) | Self::Arrived(..) => &"a move between pollers",
            Self::Eof(_) => &"on_eof",
            Self::Drain(_) => &"on_drain",
            Self::Stopping(_) => &"on_stopping",
            Self::Drained(_) => &"a waiting callback",
            Self::Cancel(_) => &"a cancelled callback",
            Self::Close { .. } => &"on_close",
            Self::Timer { .. } => &"timer callback",
            Self::DescriptorReadable(_) => &"on_read",
            Self::DescriptorWritable(_) => &"on_write",
            Self::Datagram(..) => &"on_datagram",
            Self::DatagramError(..) => &"on_error",
            Self::DescriptorRemoved(..) => &"on_close",
            Self::TimerCancelled(_) => &"cancelled timer",
            Self::Task(_) => &"call_soon function",
            Self::Signal => &"signal handler",
            #[cfg(feature = "tls")]
            Self::HandshakeFailed(..) => &"log handler",
            Self::AcceptFailed(..) | Self::ProxyRefused(..) | Self::Slow(_) => &"log handler",
        }
    }

    /// The source that the call is about, if it still exists.
    pub(crate) fn token(&self) -> Option<Token> {
        match self {
            Self::Accept(remote, _) | Self::Open(remote) => Some(remote.token()),
            Self::Read(token)
            | Self::News(token, _)
            | Self::Passed(token, _)
            | Self::Arrived(token, _)
            | Self::Eof(token)
            | Self::Drain(token)
            | Self::Stopping(token)
            | Self::Drained(token)
            | Self::Cancel(token)
            | Self::DescriptorReadable(token)
            | Self::DescriptorWritable(token)
            | Self::Datagram(token, _)
            | Self::DatagramError(token, _)
            | Self::Close { token, .. } => Some(*token),
            Self::Departure(ticket) => Some(ticket.token),
            Self::Timer { owner, .. } => *owner,
            Self::ConnectFailed(..)
            | Self::DescriptorRemoved(..)
            | Self::TimerCancelled(_)
            | Self::Task(_)
            | Self::Slow(_)
            | Self::Signal
            | Self::ProxyRefused(..)
            | Self::AcceptFailed(..) => None,
            #[cfg(feature = "tls")]
            Self::HandshakeFailed(..) => None,
        }
    }
}
