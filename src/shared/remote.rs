//! The operations of other threads on a connection: write, close, abort, and post to its poller.
//!
//! Every operation goes through the poller's mailbox, so the order of each calling thread is kept. Nothing here
//! blocks or touches a socket.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socket2::SockAddr;

use super::group::Group;
use super::handle::{Message, PollerHandle};
use super::location::Location;
use crate::data::Payload;
use crate::error::{Error, Foreign};
use crate::options::ConnectionOptions;
use crate::proxy::Proxied;
use crate::slots::Token;
use crate::system::address::unmapped;

/// The address of the peer.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A TCP peer.
    Inet(SocketAddr),
    /// A Unix-socket peer; such peers usually have no name.
    Unix,
    /// A client behind a proxy, or that proxy itself.
    Proxied(Arc<Proxied>),
}

impl Peer {
    /// The peer of this address.
    pub(crate) fn of(address: &SockAddr) -> Self {
        address.as_socket().map_or(Self::Unix, |address| Self::Inet(unmapped(address)))
    }

    /// Its IP address and port; `None` for a Unix socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix => None,
            Self::Proxied(proxied) => proxied.client(),
        }
    }

    /// The client and its proxy, if the peer is behind one.
    pub fn proxied(&self) -> Option<&Proxied> {
        match self {
            Self::Proxied(proxied) => Some(proxied),
            Self::Inet(_) | Self::Unix => None,
        }
    }
}

/// A [`Peer`] in half as many bytes, for most peers.
enum Kept {
    V4(SocketAddrV4),
    Other(Box<Peer>),
}

impl Kept {
    fn new(peer: Peer) -> Self {
        match peer {
            Peer::Inet(SocketAddr::V4(address)) => Self::V4(address),
            other => Self::Other(Box::new(other)),
        }
    }

    fn get(&self) -> Peer {
        match self {
            Self::V4(address) => Peer::Inet((*address).into()),
            Self::Other(peer) => Peer::clone(peer),
        }
    }
}

/// The states of a connection as other threads see it: each state allows fewer operations.
const OPEN: u8 = 0;
const WRITE_SHUT: u8 = 1;
const CLOSED: u8 = 2;
/// It may join no group any more.
const ENDED: u8 = 3;

/// One connection as other threads see it.
pub struct Remote {
    pub(crate) location: Location,
    peer: Kept,
    /// Whether TLS protects its bytes from the first one that its handler got: between the client and us, or between
    /// the client and a proxy that we trust.
    pub is_secure: bool,
    /// The limits of waiting input and of waiting output, bytes.
    max_input: AtomicU32,
    max_output: AtomicUsize,
    /// Bytes in the mailbox.
    posted: AtomicUsize,
    /// Bytes in the output queue, as the poller last reported.
    queued: AtomicUsize,
    state: AtomicU8,
    /// The groups of the connection. In a box, since most connections have none, and an idle one is to be small.
    #[allow(clippy::box_collection, reason = "a vector has three words")]
    groups: Mutex<Option<Box<Vec<Weak<Group>>>>>,
}

impl Remote {
    pub(crate) fn new(handle: Arc<PollerHandle>, token: Token, peer: Peer, options: &ConnectionOptions) -> Arc<Self> {
        Self::over(handle, token, peer, options, false)
    }

    /// As [`Self::new`], over TLS if `is_secure`.
    pub(crate) fn over(
        handle: Arc<PollerHandle>,
        token: Token,
        peer: Peer,
        options: &ConnectionOptions,
        is_secure: bool,
    ) -> Arc<Self> {
        let is_secure = is_secure || peer.proxied().is_some_and(|proxied| proxied.header.tls().is_some());
        Arc::new(Self {
            location: Location::new(handle, token),
            peer: Kept::new(peer),
            is_secure,
            max_input: AtomicU32::new(options.max_input as u32),
            max_output: AtomicUsize::new(options.max_output),
            posted: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            state: AtomicU8::new(OPEN),
            groups: Mutex::default(),
        })
    }

    /// The peer's address.
    pub fn peer(&self) -> Peer {
        self.peer.get()
    }

    /// Its poller. A connection may move to another one.
    #[inline]
    pub fn poller(&self) -> &PollerHandle {
        self.location.poller()
    }

    /// Its token on its poller.
    #[inline]
    pub fn token(&self) -> Token {
        self.location.token()
    }

    /// Queues `payload` behind the earlier writes of this thread.
    ///
    /// More than `max_output` bytes, those in the mailbox included, make the connection fail with an overflow.
    pub fn write(self: &Arc<Self>, payload: Payload) -> Result<(), Error> {
        self.post_bytes(payload.len(), || Message::Write { to: self.clone(), payload })
    }

    /// Posts a value for the protocol of the connection; `len` bytes of it count as those of [`Self::write`]. The
    /// protocol gets it by [`crate::protocols::Protocol::receive`], unless the connection was handed over to another
    /// handler meanwhile.
    pub fn post(self: &Arc<Self>, len: usize, post: Foreign) -> Result<(), Error> {
        self.post_bytes(len, || Message::Post { to: self.clone(), len, post })
    }

    fn post_bytes(self: &Arc<Self>, len: usize, message: impl FnOnce() -> Message) -> Result<(), Error> {
        if self.state.load(Ordering::Acquire) != OPEN {
            return Err(Error::closed());
        }
        let waiting = self.posted.fetch_add(len, Ordering::Relaxed) + self.queued.load(Ordering::Relaxed);
        if waiting > 0 && waiting + len > self.max_output.load(Ordering::Relaxed) {
            self.mark_closed();
            return self.tell(Message::Overflow(self.clone()));
        }
        self.tell(message())
    }

    /// Posts a value for the dispatch of its poller, which gets it as [`crate::poller::call::Call::Task`].
    pub fn post_task(self: &Arc<Self>, task: Foreign) -> Result<(), Error> {
        self.tell(Message::TaskFor(self.clone(), task))
    }

    /// Closes in order, after the earlier writes of this thread.
    pub fn close(self: &Arc<Self>) {
        self.close_with(None, None);
    }

    /// Closes in order; before that the connection's protocol gets `post`, by
    /// [`crate::protocols::Protocol::receive`]. `on_close` gets `error`.
    pub fn close_with(self: &Arc<Self>, post: Option<Foreign>, error: Option<Foreign>) {
        self.end_by(|remote| Message::Close(remote, post, error));
    }

    /// Aborts the connection at once.
    pub fn abort(self: &Arc<Self>) {
        self.end_by(Message::Abort);
    }

    fn end_by(self: &Arc<Self>, message: impl FnOnce(Arc<Self>) -> Message) {
        // After a hand-over the new handler decides about the close; a poller that has ended has closed the
        // connection.
        if !self.location.is_handed_over() {
            self.mark_closed();
            let _ = self.tell(message(self.clone()));
        }
    }

    /// Whether it has ended or is being closed.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CLOSED
    }

    pub(crate) fn mark_closed(&self) {
        self.state.fetch_max(CLOSED, Ordering::AcqRel);
    }

    /// Marks the write side as shut down: a later `write` is refused.
    pub(crate) fn mark_write_shut(&self) {
        self.state.fetch_max(WRITE_SHUT, Ordering::AcqRel);
    }

    /// Redirects everything that was posted until now to `successor`.
    pub(crate) fn hand_over(&self, successor: &Arc<Self>) {
        self.location.hand_over(&successor.location);
        self.mark_closed();
    }

    /// The token of the handler that has the connection now.
    pub(crate) fn current(&self) -> Token {
        self.location.current()
    }

    /// Begins a move to another poller, on the thread of its own. `send` sends the connection there; no group takes it in
    /// meanwhile, so a message of a group comes behind the connection. Returns false if the connection is in a group, or if
    /// a message to it is in a mailbox.
    pub(crate) fn depart(&self, to: &Arc<PollerHandle>, token: Token, now: u64, send: impl FnOnce()) -> bool {
        let groups = self.groups();
        groups.as_ref().is_none_or(|joined| joined.is_empty()) && self.location.depart(to, token, now, send)
    }

    /// Joins a group by `enter`; returns an error if the connection has ended.
    pub(crate) fn join(&self, group: &Arc<Group>, enter: impl FnOnce() -> bool) -> Result<bool, Error> {
        let mut groups = self.groups();
        if self.state.load(Ordering::Acquire) == ENDED {
            return Err(Error::closed());
        }
        let is_new = enter();
        if is_new {
            groups.get_or_insert_default().push(Arc::downgrade(group));
        }
        Ok(is_new)
    }

    /// Leaves one group by `exit`. It does not move meanwhile.
    pub(crate) fn leave(&self, group: &Arc<Group>, exit: impl FnOnce() -> bool) -> bool {
        let mut groups = self.groups();
        if let Some(joined) = &mut *groups {
            joined.retain(|other| other.as_ptr() != Arc::as_ptr(group));
        }
        exit()
    }

    /// Whether it is in no group.
    pub(crate) fn is_alone(&self) -> bool {
        self.groups().as_ref().is_none_or(|joined| joined.is_empty())
    }

    /// Leaves all groups; it can join none afterwards.
    pub(crate) fn leave_all(&self) {
        for group in self.end_joining().iter().filter_map(Weak::upgrade) {
            group.forget(self);
        }
    }

    /// Takes the groups out. A thread that joins one holds the lock, so it comes before or finds the end.
    fn end_joining(&self) -> Vec<Weak<Group>> {
        let mut groups = self.groups();
        self.state.store(ENDED, Ordering::Release);
        groups.take().map_or_else(Vec::new, |groups| *groups)
    }

    #[allow(clippy::box_collection, reason = "as the field")]
    fn groups(&self) -> MutexGuard<'_, Option<Box<Vec<Weak<Group>>>>> {
        // A panic while the lock is held cannot leave the list half changed.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most bytes of input that may wait.
    pub fn max_input(&self) -> usize {
        self.max_input.load(Ordering::Relaxed) as usize
    }

    /// Bytes of output that wait in memory: those in the mailbox, and those in the queue as of the last report.
    pub fn waiting_output(&self) -> usize {
        self.posted.load(Ordering::Relaxed) + self.queued.load(Ordering::Relaxed)
    }

    /// The most bytes of output that may wait.
    pub fn max_output(&self) -> usize {
        self.max_output.load(Ordering::Relaxed)
    }

    /// Replaces the limits of waiting input and output.
    pub(crate) fn set_limits(&self, options: &ConnectionOptions) {
        self.max_input.store(options.max_input as u32, Ordering::Relaxed);
        self.max_output.store(options.max_output, Ordering::Relaxed);
    }

    /// Notes that the poller took `n` bytes of output out of the mailbox.
    pub(crate) fn arrived(&self, n: usize) {
        self.posted.fetch_sub(n, Ordering::Relaxed);
    }

    /// Bytes that are still in the mailbox.
    pub(crate) fn posted(&self) -> usize {
        self.posted.load(Ordering::Relaxed)
    }

    /// Stores the number of waiting output bytes for other threads.
    pub(crate) fn tell_queued(&self, n: usize) {
        self.queued.store(n, Ordering::Relaxed);
    }

    fn tell(&self, message: Message) -> Result<(), Error> {
        self.location.post(message).map_err(|_| Error::closed())
    }
}
