//! Groups: connections of any pollers that get the same messages.
//!
//! A message is one block of memory for all members. Each poller gets one notification, and queues the block to its
//! members by reference. Only members that joined before a message was sent get it. A connection that ends leaves its
//! groups.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::shared::handle::{Message, PollerHandle};
use crate::shared::remote::Remote;
use crate::slots::Token;

/// The most bytes of messages that may be in the mailbox of one poller.
pub const MOST_POSTED: usize = 64 * 1024 * 1024;

/// The treatment of a member with more queued output than its high-water mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBehind {
    /// It does not get the message.
    Skip,
    /// It fails with an output overflow.
    End,
}

/// The members on one poller.
struct Part {
    poller: Arc<PollerHandle>,
    /// Each member's token, with the number of messages that were sent before it joined. Sorted by token, because the
    /// connections lie in memory in that order, here and in the kernel.
    members: Mutex<BTreeMap<Token, u64>>,
    /// Bytes of this group in the poller's mailbox.
    posted: AtomicUsize,
}

/// A message to the members on one poller, as the mailbox carries it.
pub(crate) struct Broadcast {
    part: Arc<Part>,
    pub bytes: Arc<[u8]>,
    number: u64,
    pub when_behind: WhenBehind,
}

/// The members on all pollers.
pub struct Group {
    parts: Mutex<Vec<Arc<Part>>>,
    /// Number of messages sent.
    sent: AtomicU64,
    when_behind: WhenBehind,
}

impl Group {
    /// A group without members.
    pub fn new(when_behind: WhenBehind) -> Arc<Self> {
        Arc::new(Self { parts: Mutex::default(), sent: AtomicU64::new(0), when_behind })
    }

    /// Adds a connection; returns false if it was a member already. Returns an error if it has ended.
    pub fn add(self: &Arc<Self>, remote: &Remote) -> Result<bool, Error> {
        remote.join(self, || {
            let mut parts = lock(&self.parts);
            let at = place_of(&parts, remote.poller()).unwrap_or_else(|| {
                parts.push(Arc::new(Part::new(remote.location.shared_poller())));
                parts.len() - 1
            });
            let since = self.sent.load(Ordering::Acquire);
            lock(&parts[at].members).insert(remote.token(), since).is_none()
        })
    }

    /// Removes a connection; returns false if it was no member.
    pub fn discard(self: &Arc<Self>, remote: &Remote) -> bool {
        remote.leave(self, || self.forget(remote))
    }

    /// Whether the connection is a member.
    pub fn contains(&self, remote: &Remote) -> bool {
        let parts = lock(&self.parts);
        place_of(&parts, remote.poller()).is_some_and(|at| lock(&parts[at].members).contains_key(&remote.token()))
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        lock(&self.parts).iter().map(|part| lock(&part.members).len()).sum()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Queues `bytes` to every member. Members on the poller of this thread get it at once, by `here`, as they get
    /// direct writes: so both keep their order. Returns an error if a poller has not yet taken too many earlier
    /// bytes.
    pub(crate) fn send(
        &self,
        bytes: Arc<[u8]>,
        mut here: impl FnMut(Broadcast) -> Option<Broadcast>,
    ) -> Result<(), Error> {
        let number = self.sent.fetch_add(1, Ordering::AcqRel);
        let parts = lock(&self.parts).clone();
        let mut refused = 0;
        for part in parts {
            let (bytes, when_behind) = (bytes.clone(), self.when_behind);
            let Some(broadcast) = here(Broadcast { part, bytes, number, when_behind }) else { continue };
            refused += usize::from(!broadcast.post());
        }
        if refused == 0 { Ok(()) } else { Err(ErrorKind::Congested { pollers: refused, limit: MOST_POSTED }.into()) }
    }

    /// Calls `send` on a thread that is not a poller's.
    pub fn send_from_elsewhere(&self, bytes: Arc<[u8]>) -> Result<(), Error> {
        self.send(bytes, Some)
    }

    /// Removes the member of a connection that has ended. With its last member on a poller the group drops its reference to
    /// that poller, because the reference keeps the poller's descriptors open.
    pub(crate) fn forget(&self, remote: &Remote) -> bool {
        let mut parts = lock(&self.parts);
        let Some(at) = place_of(&parts, remote.poller()) else { return false };
        let mut members = lock(&parts[at].members);
        let was_member = members.remove(&remote.token()).is_some();
        let is_empty = members.is_empty();
        drop(members);
        if is_empty {
            parts.swap_remove(at);
        }
        was_member
    }
}

impl Part {
    fn new(poller: Arc<PollerHandle>) -> Self {
        Self { poller, members: Mutex::default(), posted: AtomicUsize::new(0) }
    }
}

fn place_of(parts: &[Arc<Part>], poller: &PollerHandle) -> Option<usize> {
    parts.iter().position(|part| std::ptr::eq(&raw const *part.poller, poller))
}

impl Broadcast {
    /// Whether its members are on this poller.
    pub fn is_for(&self, poller: &Arc<PollerHandle>) -> bool {
        Arc::ptr_eq(&self.part.poller, poller)
    }

    /// Posts the message to its poller; returns false if too many bytes are in the mailbox. A poller that has ended
    /// has no members, so a closed mailbox loses nothing.
    fn post(self) -> bool {
        let size = self.bytes.len();
        let waiting = self.part.posted.fetch_add(size, Ordering::Relaxed);
        if waiting > 0 && waiting + size > MOST_POSTED {
            self.part.posted.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        let poller = self.part.poller.clone();
        let _ = poller.post(Message::Broadcast(self));
        true
    }

    /// Notes that the poller took the message out of its mailbox.
    pub fn arrived(&self) {
        self.part.posted.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }

    /// Calls `give` for each member that joined before the message was sent.
    pub fn for_each(&self, mut give: impl FnMut(Token, &Arc<[u8]>)) {
        for (token, since) in &*lock(&self.part.members) {
            if *since <= self.number {
                give(*token, &self.bytes);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock is held cannot leave a table half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
