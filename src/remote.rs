//! What other threads may do: post to a poller; write to, close and abort one of its connections.
//!
//! Everything here goes through the poller's mailbox, so it keeps its order per calling thread. Nothing here blocks
//! or touches a socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use socket2::{SockAddr, Socket};

use crate::acceptor::{Acceptor, Listener};
use crate::admission::Permit;
use crate::buffer::Held;
use crate::counters::Counters;
use crate::error::{Error, Foreign};
use crate::fork;
use crate::group::{Broadcast, Group};
use crate::http::Then;
use crate::mailbox::Mailbox;
use crate::options::ConnectionOptions;
use crate::resolver::Answer;
use crate::slots::Token;
use crate::timer::TimerId;
use crate::watchdog::Pulse;
use crate::websocket::Farewell;

/// Bytes to send: copied already, or held by reference.
pub enum Payload {
    /// Bytes of our own.
    Copied(Vec<u8>),
    /// Bytes of the language above.
    Held(Box<dyn Held>),
}

impl Payload {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Held(held) => held.bytes().len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What can be posted to a poller.
pub(crate) enum Message {
    Write {
        to: Arc<Remote>,
        payload: Payload,
    },
    Answer {
        to: Arc<Remote>,
        number: u64,
        parts: Vec<Payload>,
        then: Then,
    },
    /// With the last word of a WebSocket, if it is to have one of its own.
    Close(Arc<Remote>, Option<Box<Farewell>>),
    Abort(Arc<Remote>),
    Overflow(Arc<Remote>),
    Adopt {
        socket: Socket,
        peer: Peer,
        acceptor: Arc<Acceptor>,
        permit: Option<Permit>,
    },
    Room(Arc<Acceptor>),
    Listen(Listener),
    Unlisten(Arc<Acceptor>),
    Resolved {
        dial: Token,
        target: usize,
        answer: Answer,
    },
    CancelTimer(TimerId),
    Broadcast(Broadcast),
    Task(Foreign),
    /// `at_once`: without a farewell, which would take time.
    Stop {
        deadline: u64,
        at_once: bool,
    },
}

/// The part of a poller that all threads see.
pub struct PollerHandle {
    /// Which poller of its reactor.
    pub index: usize,
    /// What it has done so far.
    pub counters: Counters,
    /// What it is doing now.
    pub pulse: Pulse,
    pub(crate) mailbox: Mailbox<Message>,
    /// [`crate::fork::generation`] when it was made.
    pub birth: u32,
}

impl PollerHandle {
    /// Posts a value for the dispatch of this poller, which gets it as [`crate::dispatch::Call::Task`].
    pub fn post_task(&self, task: Foreign) -> Result<(), Foreign> {
        match self.post(Message::Task(task)) {
            Err(Message::Task(task)) => Err(task),
            _ => Ok(()),
        }
    }

    /// Cancels a timer from another thread. The dispatch gets it as [`crate::dispatch::Call::TimerCancelled`].
    pub fn cancel_timer(&self, id: TimerId) {
        // A poller that takes no more messages fires no more timers.
        let _ = self.post(Message::CancelTimer(id));
    }

    /// Messages that have not been read.
    pub fn mailbox_depth(&self) -> u64 {
        self.mailbox.depth()
    }

    /// Posts a message; gives it back when the poller has ended, or is a copy in a forked child: there its lock may be
    /// held by a thread that does not exist, and its eventfd is the parent's.
    pub(crate) fn post(&self, message: Message) -> Result<(), Message> {
        if fork::is_foreign(self.birth) {
            return Err(message);
        }
        self.mailbox.post(message)
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// A TCP peer.
    Inet(SocketAddr),
    /// A Unix-socket peer; those have no names as a rule.
    Unix,
}

impl Peer {
    /// Whoever has this address.
    pub(crate) fn of(address: &SockAddr) -> Self {
        address.as_socket().map_or(Self::Unix, Self::Inet)
    }
}

/// What other threads may still do to a connection.
const OPEN: u8 = 0;
const WRITE_SHUT: u8 = 1;
const CLOSED: u8 = 2;

/// One connection as other threads see it.
pub struct Remote {
    /// Its poller.
    pub handle: Arc<PollerHandle>,
    /// Its name there.
    pub token: Token,
    /// Who is at the other end.
    pub peer: Peer,
    /// How much input and how much output may wait.
    max_input: AtomicUsize,
    max_output: AtomicUsize,
    /// Bytes in the mailbox.
    posted: AtomicUsize,
    /// Bytes in the output queue, as the poller last said.
    queued: AtomicUsize,
    state: AtomicU8,
    /// The connection's name since it was handed over.
    successor: OnceLock<Arc<Remote>>,
    /// Those it is a member of; none may be joined once it has ended.
    groups: Mutex<Option<Vec<Weak<Group>>>>,
}

impl Drop for Remote {
    /// One after the other: a connection may have been handed over any number of times, and the stack is finite.
    fn drop(&mut self) {
        let mut next = self.successor.take();
        while let Some(mut remote) = next.and_then(Arc::into_inner) {
            next = remote.successor.take();
        }
    }
}

impl Remote {
    pub(crate) fn new(handle: Arc<PollerHandle>, token: Token, peer: Peer, options: &ConnectionOptions) -> Arc<Self> {
        Arc::new(Self {
            handle,
            token,
            peer,
            max_input: AtomicUsize::new(options.max_input),
            max_output: AtomicUsize::new(options.max_output),
            posted: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            state: AtomicU8::new(OPEN),
            successor: OnceLock::new(),
            groups: Mutex::new(Some(Vec::new())),
        })
    }

    /// Queues `payload` behind what this thread wrote before.
    ///
    /// More than `max_output` bytes, those in the mailbox included, end the connection with an overflow.
    pub fn write(self: &Arc<Self>, payload: Payload) -> Result<(), Error> {
        self.post_bytes(payload.len(), || Message::Write { to: self.clone(), payload })
    }

    /// Answers an HTTP request, or gives a part of the answer, as [`Self::write`] does with all of `parts` at once.
    pub fn answer(self: &Arc<Self>, number: u64, parts: Vec<Payload>, then: Then) -> Result<(), Error> {
        let len = parts.iter().map(Payload::len).sum();
        self.post_bytes(len, || Message::Answer { to: self.clone(), number, parts, then })
    }

    fn post_bytes(self: &Arc<Self>, len: usize, message: impl FnOnce() -> Message) -> Result<(), Error> {
        if self.state.load(Ordering::Acquire) != OPEN {
            return Err(Error::Closed);
        }
        let waiting = self.posted.fetch_add(len, Ordering::Relaxed) + self.queued.load(Ordering::Relaxed);
        if waiting > 0 && waiting + len > self.max_output.load(Ordering::Relaxed) {
            self.mark_closed();
            return self.post(Message::Overflow(self.clone()));
        }
        self.post(message())
    }

    /// Closes in order, after what this thread wrote.
    pub fn close(self: &Arc<Self>) {
        self.end_by(|remote| Message::Close(remote, None));
    }

    /// Closes a WebSocket in order, with a last word.
    pub fn close_with(self: &Arc<Self>, farewell: Farewell) {
        self.end_by(|remote| Message::Close(remote, Some(Box::new(farewell))));
    }

    /// Ends the connection at once.
    pub fn abort(self: &Arc<Self>) {
        self.end_by(Message::Abort);
    }

    fn end_by(self: &Arc<Self>, message: impl FnOnce(Arc<Self>) -> Message) {
        // Once it is handed over it is another's to close; a poller that has ended has closed it.
        if self.successor.get().is_none() {
            self.mark_closed();
            let _ = self.post(message(self.clone()));
        }
    }

    /// Whether it has ended or is being closed.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    pub(crate) fn mark_closed(&self) {
        self.state.store(CLOSED, Ordering::Release);
    }

    /// From here on a `write` is refused.
    pub(crate) fn mark_write_shut(&self) {
        self.state.fetch_max(WRITE_SHUT, Ordering::AcqRel);
    }

    /// Hands over to `successor` what was posted until now.
    pub(crate) fn hand_over(&self, successor: &Arc<Self>) {
        // A connection is handed over once: its token is stale after that.
        let _ = self.successor.set(successor.clone());
        self.mark_closed();
    }

    /// The connection's name now.
    pub(crate) fn current(&self) -> Token {
        let mut current = self;
        while let Some(successor) = current.successor.get() {
            current = successor;
        }
        current.token
    }

    /// Joins a group by `enter`, unless it has ended.
    pub(crate) fn join(&self, group: &Arc<Group>, enter: impl FnOnce() -> bool) -> Result<bool, Error> {
        let mut groups = self.groups();
        let joined = groups.as_mut().ok_or(Error::Closed)?;
        let is_new = enter();
        if is_new {
            joined.push(Arc::downgrade(group));
        }
        Ok(is_new)
    }

    /// Leaves one group.
    pub(crate) fn leave(&self, group: &Arc<Group>) {
        if let Some(joined) = &mut *self.groups() {
            joined.retain(|other| other.as_ptr() != Arc::as_ptr(group));
        }
    }

    /// Leaves all groups, for ever.
    pub(crate) fn leave_all(&self) {
        let left = self.groups().take();
        for group in left.iter().flatten().filter_map(Weak::upgrade) {
            group.forget(self);
        }
    }

    fn groups(&self) -> MutexGuard<'_, Option<Vec<Weak<Group>>>> {
        // A panic while the lock is held cannot leave the list half changed.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes of input may wait.
    pub fn max_input(&self) -> usize {
        self.max_input.load(Ordering::Relaxed)
    }

    /// Replaces the limits of what may wait.
    pub(crate) fn set_limits(&self, options: &ConnectionOptions) {
        self.max_input.store(options.max_input, Ordering::Relaxed);
        self.max_output.store(options.max_output, Ordering::Relaxed);
    }

    /// Notes that the poller took `n` bytes out of the mailbox.
    pub(crate) fn arrived(&self, n: usize) {
        self.posted.fetch_sub(n, Ordering::Relaxed);
    }

    /// Bytes that are still in the mailbox.
    pub(crate) fn posted(&self) -> usize {
        self.posted.load(Ordering::Relaxed)
    }

    /// Tells other threads how much output waits.
    pub(crate) fn tell_queued(&self, n: usize) {
        self.queued.store(n, Ordering::Relaxed);
    }

    fn post(&self, message: Message) -> Result<(), Error> {
        self.handle.post(message).map_err(|_| Error::Closed)
    }
}
