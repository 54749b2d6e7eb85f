//! A poller as all threads see it, and the messages that they post to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use socket2::Socket;

use super::acceptor::{Acceptor, Listener};
use super::admission::Permit;
use super::counters::Counters;
use super::group::Broadcast;
use super::histogram::Measures;
use super::mailbox::Mailbox;
use super::placement::Load;
use super::pulse::Pulse;
use super::remote::{Peer, Remote};
use crate::data::Payload;
use crate::error::Foreign;
use crate::slots::Token;
use crate::system::fork;
use crate::system::resolver::Answer;
use crate::timer::TimerId;

/// The messages of a poller's mailbox.
pub(crate) enum Message {
    Write {
        to: Arc<Remote>,
        payload: Payload,
    },
    /// A value for the protocol of a connection; `len` bytes of it count toward `max_output`.
    Post {
        to: Arc<Remote>,
        len: usize,
        post: Foreign,
    },
    /// Closes in order. Before that the connection's protocol gets the first value, if there is one; `on_close` gets the
    /// second one.
    Close(Arc<Remote>, Option<Foreign>, Option<Foreign>),
    Abort(Arc<Remote>),
    Overflow(Arc<Remote>),
    Adopt {
        socket: Socket,
        peer: Peer,
        acceptor: Arc<Acceptor>,
        permit: Permit,
    },
    Room(Arc<Acceptor>),
    Listen(Listener),
    Unlisten(Arc<Acceptor>),
    Resolved {
        dial: Token,
        target: usize,
        answer: Answer,
    },
    /// The certificate for a handshake was looked for.
    #[cfg(feature = "tls")]
    CertificateChosen(Token),
    /// Urgent: the timer may be due in the very next batch. It was set before, so no earlier message matters to it.
    CancelTimer(TimerId),
    Broadcast(Broadcast),
    Task(Foreign),
    /// A task of a connection.
    TaskFor(Arc<Remote>, Foreign),
    Move(Move),
    /// `drained`: until then connections that drain stay open. `at_once`: skip the closing messages of the protocols,
    /// because they take time.
    Stop {
        deadline: u64,
        drained: Option<u64>,
        at_once: bool,
    },
}

impl Message {
    /// The connection that it is for, if the poller obeys it at once. A task is taken when its turn comes.
    pub fn recipient(&self) -> Option<&Arc<Remote>> {
        match self {
            Self::Write { to, .. } | Self::Post { to, .. } => Some(to),
            Self::Close(remote, ..) | Self::Abort(remote) | Self::Overflow(remote) => Some(remote),
            _ => None,
        }
    }
}

/// The steps of a connection that moves to another poller: its poller asks, the other one keeps a slot, the connection
/// comes, or stays.
pub(crate) enum Move {
    /// Asks for a slot.
    Ask { remote: Arc<Remote>, from: Arc<PollerHandle> },
    /// There is none, because the poller stops.
    Refuse,
    /// There is one.
    Welcome { remote: Arc<Remote>, to: Arc<PollerHandle>, slot: Token },
    /// The connection comes. Only pollers know the value.
    Come { slot: Token, traveller: Foreign },
    /// It stays.
    Stay { slot: Token },
}

/// A value of the layer above in a mailbox.
pub enum Waiting<'a> {
    /// For the dispatch.
    Task(&'a Foreign),
    /// Listens once the poller runs. One that listens in several places waits several times.
    Acceptor(&'a Arc<Acceptor>),
}

/// The part of a poller that all threads see.
pub struct PollerHandle {
    /// The poller's number in its reactor.
    pub index: usize,
    /// The counters of its work so far.
    pub counters: Counters,
    /// The histograms of its times, if the reactor measures.
    pub measures: Option<Box<Measures>>,
    /// Its running callback, for the watchdog.
    pub pulse: Pulse,
    pub(crate) mailbox: Mailbox<Message>,
    /// The [`crate::system::fork::generation`] of the process that made it.
    pub birth: u32,
    /// Whether a stop was asked for. The poller may not have heard of it yet.
    pub(crate) stopping: AtomicBool,
    /// The facts by which acceptors place connections.
    pub(crate) load: Arc<Load>,
    /// All pollers of its reactor.
    pub(crate) siblings: OnceLock<Box<[Weak<PollerHandle>]>>,
}

impl PollerHandle {
    /// All pollers of its reactor that have not ended, in the order of their numbers; none if one has ended.
    pub(crate) fn siblings(&self) -> Vec<Arc<Self>> {
        let all = self.siblings.get().map(|all| all.iter().map(Weak::upgrade).collect::<Option<Vec<_>>>());
        all.flatten().unwrap_or_default()
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Posts a value for the dispatch of this poller, which gets it as [`crate::poller::call::Call::Task`].
    pub fn post_task(&self, task: Foreign) -> Result<(), Foreign> {
        match self.post(Message::Task(task)) {
            Err(Message::Task(task)) => Err(task),
            _ => Ok(()),
        }
    }

    /// Cancels a timer from another thread. The dispatch gets it as [`crate::poller::call::Call::TimerCancelled`].
    pub fn cancel_timer(&self, id: TimerId) {
        // A poller that takes no more messages fires no more timers.
        if !fork::is_foreign(self.birth) {
            let _ = self.mailbox.post_urgent(Message::CancelTimer(id));
        }
    }

    /// Calls `look` with each value of the layer above that waits in the mailbox: a task, or an acceptor with its factory.
    pub fn each_waiting(&self, look: &mut dyn FnMut(Waiting<'_>)) {
        self.mailbox.each(|message| match message {
            Message::Task(task) | Message::TaskFor(_, task) => look(Waiting::Task(task)),
            Message::Listen(listener) => look(Waiting::Acceptor(&listener.acceptor)),
            _ => {}
        });
    }

    /// Whether the poller takes messages, as of a moment ago: it has not ended.
    pub fn is_open(&self) -> bool {
        self.mailbox.is_open()
    }

    /// The number of messages that the poller has not taken.
    pub fn mailbox_depth(&self) -> u64 {
        self.mailbox.depth()
    }

    /// Posts a message. Returns it when the poller has ended, or when this is a copy in a forked child. In a child
    /// the lock may be held by a thread that does not exist there, and the eventfd is the parent's.
    pub(crate) fn post(&self, message: Message) -> Result<(), Message> {
        if fork::is_foreign(self.birth) {
            return Err(message);
        }
        self.mailbox.post(message)
    }
}
