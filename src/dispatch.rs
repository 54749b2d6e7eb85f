//! The seam between the reactor and the language its handlers are written in.
//!
//! A poller calls [`Dispatch::dispatch`] once per batch of events. The dispatch then asks the poller, by
//! [`crate::poller::Poller::next_call`], what to call next until there is nothing more. All rules of order live behind
//! that question; a dispatch only finds the handler object, calls it, and says what came of it. The core never holds,
//! drops or logs a handler: side tables indexed by [`Token::slot`] do, on this side of the seam.

use std::io;
use std::sync::Arc;

use crate::acceptor::Acceptor;
use crate::datagram::Datagram;
use crate::error::{Error, Foreign, Reason};
use crate::poller::Poller;
use crate::remote::Remote;
use crate::slots::Token;
use crate::timer::TimerId;
use crate::watchdog::Stall;
use crate::websocket::Farewell;

/// The next thing to call.
pub enum Call {
    /// Make the handler of a new connection by the acceptor's factory, and call its `on_open`. Without a handler, say
    /// [`Poller::reject`]; then the connection never existed.
    Accept(Arc<Remote>, Arc<Acceptor>),
    /// `on_open` of a handler that is in its place already: one that was connected or handed over to.
    Open(Arc<Remote>),
    /// A listener cannot take connections out of its backlog, and will try again.
    AcceptFailed(Arc<Acceptor>, io::Error),
    /// `on_connect_fail`, then let go of the handler. The token is stale already.
    ConnectFailed(Token, Error),
    /// `on_read`.
    Read(Token),
    /// There may be messages: [`Poller::take_message`] has the next one.
    Message(Token),
    /// There may be a request, or a piece of the body of one: [`Poller::take_request`] has it.
    Request(Token),
    /// There may be a message of a WebSocket: [`Poller::take_item`] has it.
    Item(Token),
    /// `on_eof`.
    Eof(Token),
    /// `on_drain`.
    Drain(Token),
    /// `on_stopping`: the reactor stops. A handler without one is to be closed by [`Poller::close`].
    Stopping(Token),
    /// `on_close`, then let go of the handler. The token is stale already; the timers were cancelled.
    Close {
        /// Whose place in the side table is free now.
        token: Token,
        /// Why it ended.
        reason: Reason,
        /// What we said last, of a WebSocket.
        farewell: Option<Farewell>,
        /// Its timers, which will not fire any more.
        timers: Vec<TimerId>,
    },
    /// A timer fired.
    Timer {
        /// Which.
        id: TimerId,
        /// The connection it was set by; it may have ended, then the timer is only to be forgotten.
        owner: Option<Token>,
        /// Whether it will fire again unless cancelled.
        again: bool,
    },
    /// A descriptor of an event handler is readable.
    DescriptorReadable(Token),
    /// A descriptor of an event handler is writable.
    DescriptorWritable(Token),
    /// `on_datagram`; [`Poller::with_datagram`] has its bytes.
    Datagram(Token, Datagram),
    /// `on_error` of a handler for datagrams, which goes on.
    DatagramError(Token, Error),
    /// The descriptor left the poller: `on_close`, then let go of the event handler. The token is stale already.
    DescriptorRemoved(Token, Reason),
    /// A timer was cancelled by another thread: let go of what it would have called.
    TimerCancelled(TimerId),
    /// A value that was posted.
    Task(Foreign),
    /// A byte arrived in the poller's signal pipe.
    Signal,
}

impl Call {
    /// What the watchdog calls it.
    pub(crate) fn name(&self) -> &'static &'static str {
        match self {
            Self::Accept(..) => &"the factory or on_open",
            Self::Open(_) => &"on_open",
            Self::ConnectFailed(..) => &"on_connect_fail",
            Self::Read(_) => &"on_read",
            Self::Message(_) | Self::Item(_) => &"on_message",
            Self::Request(_) => &"on_request",
            Self::Eof(_) => &"on_eof",
            Self::Drain(_) => &"on_drain",
            Self::Stopping(_) => &"on_stopping",
            Self::Close { .. } => &"on_close",
            Self::Timer { .. } => &"a timer callback",
            Self::DescriptorReadable(_) => &"on_read",
            Self::DescriptorWritable(_) => &"on_write",
            Self::Datagram(..) => &"on_datagram",
            Self::DatagramError(..) => &"on_error",
            Self::DescriptorRemoved(..) => &"on_close",
            Self::TimerCancelled(_) => &"a cancelled timer",
            Self::Task(_) => &"a call_soon function",
            Self::Signal => &"a signal handler",
            Self::AcceptFailed(..) => &"a log handler",
        }
    }

    /// What the call is about, while it is there.
    pub(crate) fn token(&self) -> Option<Token> {
        match self {
            Self::Accept(remote, _) | Self::Open(remote) => Some(remote.token),
            Self::Read(token)
            | Self::Message(token)
            | Self::Request(token)
            | Self::Item(token)
            | Self::Eof(token)
            | Self::Drain(token)
            | Self::Stopping(token)
            | Self::DescriptorReadable(token)
            | Self::DescriptorWritable(token)
            | Self::Datagram(token, _)
            | Self::DatagramError(token, _)
            | Self::Close { token, .. } => Some(*token),
            Self::Timer { owner, .. } => *owner,
            Self::ConnectFailed(..)
            | Self::DescriptorRemoved(..)
            | Self::TimerCancelled(_)
            | Self::Task(_)
            | Self::Signal
            | Self::AcceptFailed(..) => None,
        }
    }
}

/// Calls handlers. One value per poller, moved to the poller's thread.
pub trait Dispatch: Send + 'static {
    /// Wraps the whole life of the poller's thread: a place to attach the thread to an interpreter once.
    fn on_thread(&self, body: &mut dyn FnMut()) {
        body();
    }

    /// Runs the callbacks of one batch: `while let Some(call) = poller.next_call() { … }`.
    ///
    /// Also has to drop what [`Poller::take_released`] returns, which may be the only reason for the call.
    fn dispatch(&self, poller: &Poller);

    /// A callback of some poller has run for longer than `stall_warning`, and still does. Called on a thread of its own,
    /// once for each such callback.
    fn stalled(stall: &Stall<'_>)
    where
        Self: Sized,
    {
        let _ = stall;
    }
}
