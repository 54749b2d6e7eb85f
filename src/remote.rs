//! What other threads may do: post to a poller; write to, close and abort one of its connections.
//!
//! Everything here goes through the poller's mailbox, so it keeps its order per calling thread. Nothing here blocks
//! or touches a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use socket2::Socket;

use crate::acceptor::{Acceptor, Listener};
use crate::buffer::Held;
use crate::counters::Counters;
use crate::error::{Error, Foreign};
use crate::mailbox::Mailbox;
use crate::options::ConnectionOptions;
use crate::slots::Token;

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
    Write { to: Arc<Remote>, payload: Payload },
    Close(Token),
    Abort(Token),
    Overflow(Token),
    Adopt { socket: Socket, peer: Peer, acceptor: Arc<Acceptor> },
    Listen(Listener),
    Unlisten(Arc<Acceptor>),
    Task(Foreign),
    Stop { deadline: u64 },
}

/// The part of a poller that all threads see.
pub struct PollerHandle {
    /// Which poller of its reactor.
    pub index: usize,
    /// What it has done so far.
    pub counters: Counters,
    pub(crate) mailbox: Mailbox<Message>,
    /// [`crate::fork::generation`] when it was made.
    pub birth: u32,
}

impl PollerHandle {
    /// Posts a value for the dispatch of this poller, which gets it as [`crate::dispatch::Call::Task`].
    pub fn post_task(&self, task: Foreign) -> Result<(), Foreign> {
        match self.mailbox.post(Message::Task(task)) {
            Err(Message::Task(task)) => Err(task),
            _ => Ok(()),
        }
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

/// One connection as other threads see it.
pub struct Remote {
    /// Its poller.
    pub handle: Arc<PollerHandle>,
    /// Its name there.
    pub token: Token,
    /// Who is at the other end.
    pub peer: Peer,
    /// Its settings.
    pub options: Arc<ConnectionOptions>,
    /// Bytes in the mailbox.
    posted: AtomicUsize,
    /// Bytes in the output queue, as the poller last said.
    queued: AtomicUsize,
    closed: AtomicBool,
}

impl Remote {
    pub(crate) fn new(
        handle: Arc<PollerHandle>,
        token: Token,
        peer: Peer,
        options: Arc<ConnectionOptions>,
    ) -> Arc<Self> {
        Arc::new(Self {
            handle,
            token,
            peer,
            options,
            posted: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Queues `payload` behind what this thread wrote before.
    ///
    /// More than `max_output` bytes, those in the mailbox included, end the connection with an overflow.
    pub fn write(self: &Arc<Self>, payload: Payload) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let waiting = self.posted.fetch_add(payload.len(), Ordering::Relaxed) + self.queued.load(Ordering::Relaxed);
        let message = if waiting > 0 && waiting + payload.len() > self.options.max_output {
            self.mark_closed();
            Message::Overflow(self.token)
        } else {
            Message::Write { to: self.clone(), payload }
        };
        self.post(message)
    }

    /// Closes in order, after what this thread wrote.
    pub fn close(&self) -> Result<(), Error> {
        self.mark_closed();
        self.post(Message::Close(self.token)).or(Ok(()))
    }

    /// Ends the connection at once.
    pub fn abort(&self) -> Result<(), Error> {
        self.mark_closed();
        self.post(Message::Abort(self.token)).or(Ok(()))
    }

    /// Whether a `write` from another thread would be refused.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn mark_closed(&self) {
        self.closed.store(true, Ordering::Release);
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
        self.handle.mailbox.post(message).map_err(|_| Error::Closed)
    }
}
