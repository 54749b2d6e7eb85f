//! The place of a connection: its poller, its token there, and the way of messages to it.
//!
//! A connection lives on one poller at a time, and may move to another between two callbacks. It goes through the mailbox of
//! the new poller, and every later message goes there behind it. A move begins only while no mailbox holds a message to
//! the connection. So the messages of each thread keep their order.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use once_cell::race::OnceBox;

use super::handle::{Message, PollerHandle};
use crate::slots::Token;

/// The place of one connection.
pub(crate) struct Location {
    /// The poller on which it was opened.
    first: Arc<PollerHandle>,
    /// Its poller, or the one to which it is on its way. Only the thread of the poller that it leaves changes that.
    poller: AtomicPtr<PollerHandle>,
    token: AtomicU64,
    /// Messages to it that were posted, and that no poller has taken.
    posted: AtomicU32,
    is_on_its_way: AtomicBool,
    /// The rest, for the few connections that moved or were handed over.
    rare: OnceBox<Rare>,
}

#[derive(Default)]
struct Rare {
    /// The current token of a connection that was handed over. All its remotes share it, so nothing is kept of a hand-over
    /// but this word.
    current: OnceLock<Arc<AtomicU64>>,
    /// Whether another handler has taken the connection over.
    is_handed_over: AtomicBool,
    moves: Mutex<Moves>,
    /// The time of the last move, in nanoseconds; 0 before the first one.
    moved_at: AtomicU64,
}

#[derive(Default)]
struct Moves {
    /// The pollers to which it moved, each once. They are kept, so that the pointer to the current one stays valid.
    pollers: Vec<Arc<PollerHandle>>,
}

impl Location {
    pub fn new(poller: Arc<PollerHandle>, token: Token) -> Self {
        Self {
            poller: AtomicPtr::new(Arc::as_ptr(&poller).cast_mut()),
            first: poller,
            token: AtomicU64::new(token.to_bits()),
            posted: AtomicU32::new(0),
            is_on_its_way: AtomicBool::new(false),
            rare: OnceBox::new(),
        }
    }

    /// Its poller, or the one to which it is on its way.
    #[inline]
    pub fn poller(&self) -> &PollerHandle {
        // SAFETY: the pointer is that of `first`, or of a handle in `Moves::pollers`. Both are kept as long as `self`.
        unsafe { &*self.poller.load(Ordering::Acquire) }
    }

    /// As [`Self::poller`], to keep.
    pub fn shared_poller(&self) -> Arc<PollerHandle> {
        let here = self.poller();
        let moved = self.rare.get().and_then(|rare| {
            let moves = rare.moves();
            moves.pollers.iter().find(|poller| std::ptr::eq(&raw const ***poller, here)).cloned()
        });
        moved.unwrap_or_else(|| self.first.clone())
    }

    /// Whether it is on this poller, the one of the calling thread.
    #[inline]
    pub fn is_on(&self, poller: &PollerHandle) -> bool {
        std::ptr::eq(self.poller.load(Ordering::Acquire), poller) && !self.is_on_its_way.load(Ordering::Relaxed)
    }

    /// Its token on its poller.
    #[inline]
    pub fn token(&self) -> Token {
        Token::from_bits(self.token.load(Ordering::Relaxed))
    }

    /// The token of the handler that has the connection now: another one after a hand-over.
    pub fn current(&self) -> Token {
        let current = self.rare.get().and_then(|rare| rare.current.get());
        current.map_or_else(|| self.token(), |current| Token::from_bits(current.load(Ordering::Acquire)))
    }

    /// Whether another handler has taken the connection over.
    pub fn is_handed_over(&self) -> bool {
        self.rare.get().is_some_and(|rare| rare.is_handed_over.load(Ordering::Acquire))
    }

    /// Redirects everything that was posted until now to the new place of the connection.
    pub fn hand_over(&self, successor: &Self) {
        let current = self.rare().current.get_or_init(Arc::default);
        current.store(successor.token().to_bits(), Ordering::Release);
        self.rare().is_handed_over.store(true, Ordering::Release);
        // The successor is new, so nothing is set there yet.
        let _ = successor.rare().current.set(current.clone());
    }

    /// The time of its last move.
    pub fn moved_at(&self) -> Option<u64> {
        self.rare.get().map(|rare| rare.moved_at.load(Ordering::Relaxed)).filter(|time| *time > 0)
    }

    /// Whether a message to it is in a mailbox.
    pub fn has_posted(&self) -> bool {
        self.posted.load(Ordering::SeqCst) > 0
    }

    /// Posts a message to its poller; returns it if that one has ended. [`Self::taken`] follows when the poller takes it.
    pub fn post(&self, message: Message) -> Result<(), Message> {
        self.posted.fetch_add(1, Ordering::SeqCst);
        // Either `depart` sees the number, or this sees the moves that `depart` made.
        fence(Ordering::SeqCst);
        let posted = match self.rare.get() {
            None => self.first.post(message),
            Some(rare) => {
                // Under the lock, so that no move begins before the message is in the mailbox.
                let _moves = rare.moves();
                self.poller().post(message)
            }
        };
        if posted.is_err() {
            self.taken();
        }
        posted
    }

    /// Notes that a poller took a message.
    pub fn taken(&self) {
        self.posted.fetch_sub(1, Ordering::SeqCst);
    }

    /// Begins a move, on the thread of its poller: `send` puts the connection into the mailbox of the new one. Returns false
    /// if a message to it is in a mailbox.
    pub fn depart(&self, to: &Arc<PollerHandle>, token: Token, now: u64, send: impl FnOnce()) -> bool {
        let rare = self.rare();
        let mut moves = rare.moves();
        fence(Ordering::SeqCst);
        if self.has_posted() {
            return false;
        }
        if !moves.pollers.iter().any(|poller| Arc::ptr_eq(poller, to)) {
            moves.pollers.push(to.clone());
        }
        rare.moved_at.store(now, Ordering::Relaxed);
        if let Some(current) = rare.current.get() {
            current.store(token.to_bits(), Ordering::Release);
        }
        self.is_on_its_way.store(true, Ordering::Relaxed);
        self.token.store(token.to_bits(), Ordering::Relaxed);
        self.poller.store(Arc::as_ptr(to).cast_mut(), Ordering::Release);
        send();
        true
    }

    /// Ends a move, on the thread of the new poller.
    pub fn arrive(&self) {
        self.is_on_its_way.store(false, Ordering::Relaxed);
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }
}

impl Rare {
    fn moves(&self) -> MutexGuard<'_, Moves> {
        // A panic while the lock is held cannot leave the moves half changed.
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
