//! Counters of one poller. Only the poller writes them; any thread reads them without disturbing it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Expired, Reason};
use crate::proxy::Refusal;

/// A number that one thread adds to and all threads may read.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call it, because it is a plain load and store without a locked
    /// instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the number. Only the owning thread may call it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The current number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ended connections by reason. The names are those of the exceeded options, and these:
///
/// * `in_order`: closed by either side, also with an error of the handler's own
/// * `failed`: a system call on the socket failed, for example after a reset by the peer
/// * `aborted`: by `abort()` or at the end of a stop's grace
/// * `raised`: by an exception in a callback
/// * `rejected`: never had a handler, because the factory raised or the reactor stopped
#[derive(Default)]
pub struct Closed {
    in_order: Counter,
    failed: Counter,
    aborted: Counter,
    raised: Counter,
    framing: Counter,
    rejected: Counter,
    max_input: Counter,
    max_output: Counter,
    idle_timeout: Counter,
    receive_timeout: Counter,
    first_byte_timeout: Counter,
    write_timeout: Counter,
    ping_timeout: Counter,
    lifetime: Counter,
    min_rate: Counter,
    min_write_rate: Counter,
}

impl Closed {
    /// Counts a connection that ended for `reason`.
    pub(crate) fn note(&self, reason: &Reason) {
        let counter = match reason {
            Reason::Orderly | Reason::Given(_) => &self.in_order,
            Reason::Io(_) | Reason::NoMemory => &self.failed,
            Reason::Aborted => &self.aborted,
            Reason::Protocol(_) | Reason::Unframed(_) => &self.framing,
            Reason::Raised(_) => &self.raised,
            Reason::InputOverflow { .. } => &self.max_input,
            Reason::OutputOverflow { .. } => &self.max_output,
            Reason::Expired(Expired::Idle(_)) => &self.idle_timeout,
            Reason::Expired(Expired::Receive(_)) => &self.receive_timeout,
            Reason::Expired(Expired::FirstByte(_)) => &self.first_byte_timeout,
            Reason::Expired(Expired::Write(_)) => &self.write_timeout,
            Reason::Expired(Expired::Ping(_)) => &self.ping_timeout,
            Reason::Expired(Expired::Lifetime(_)) => &self.lifetime,
            Reason::Expired(Expired::TooSlow { .. }) => &self.min_rate,
            Reason::Expired(Expired::TakesTooSlowly { .. }) => &self.min_write_rate,
        };
        counter.add(1);
    }

    /// Counts a connection that never had a handler.
    pub(crate) fn note_rejected(&self) {
        self.rejected.add(1);
    }

    /// Each reason with its count.
    pub fn each(&self) -> [(&'static str, u64); 16] {
        [
            ("in_order", &self.in_order),
            ("failed", &self.failed),
            ("aborted", &self.aborted),
            ("raised", &self.raised),
            ("framing", &self.framing),
            ("rejected", &self.rejected),
            ("max_input", &self.max_input),
            ("max_output", &self.max_output),
            ("idle_timeout", &self.idle_timeout),
            ("receive_timeout", &self.receive_timeout),
            ("first_byte_timeout", &self.first_byte_timeout),
            ("write_timeout", &self.write_timeout),
            ("ping_timeout", &self.ping_timeout),
            ("lifetime", &self.lifetime),
            ("min_rate", &self.min_rate),
            ("min_write_rate", &self.min_write_rate),
        ]
        .map(|(name, counter)| (name, counter.get()))
    }
}

/// A histogram of sizes by powers of two.
#[derive(Default)]
pub struct Sizes([Counter; 10]);

impl Sizes {
    /// Counts one occurrence of `size`.
    pub(crate) fn note(&self, size: usize) {
        let power = usize::BITS - size.leading_zeros();
        self.0[(power as usize).min(self.0.len() - 1)].add(1);
    }

    /// The least size of each class with its count; a class ends where the next begins.
    pub fn each(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.iter().enumerate().map(|(power, counter)| (1_usize << power >> 1, counter.get()))
    }
}

/// The counters of one poller.
#[derive(Default)]
pub struct Counters {
    /// Connections that were accepted, whether or not they got a handler.
    pub accepted: Counter,
    /// Outgoing connections that were established.
    pub connected: Counter,
    /// Connections that came from another poller of the reactor.
    pub moved_here: Counter,
    /// Connections that went to another poller of the reactor.
    pub moved_away: Counter,
    /// Peers that were accepted and closed at once, because a limit of the acceptor was reached. No other counter
    /// includes them.
    pub refused: Counter,
    /// Accepted and outgoing connections that have ended, by reason.
    pub closed: Closed,
    /// Handshakes of TLS on accepted sockets that failed, by the kind of failure. Such a socket never was a connection.
    #[cfg(feature = "tls")]
    pub handshakes: [Counter; crate::tls::FailureKind::COUNT],
    /// Handshakes of TLS on accepted sockets that succeeded, and those of them that resumed an earlier session.
    pub secured: Counter,
    /// See [`Self::secured`].
    pub resumed: Counter,
    /// Accepted sockets that were closed because no trusted proxy sent a PROXY header there, by reason. Such a socket never
    /// was a connection.
    pub proxies_refused: [Counter; Refusal::COUNT],
    /// Whole answers of protocols with requests, by the first digit of their status; unknown ones at 0.
    pub answers: [Counter; 6],
    /// Connections whose protocol had a handshake of its own, which succeeded. The layer above counts them.
    pub sessions: Counter,
    /// Messages of groups that were queued to a member, one for each member.
    pub group_sent: Counter,
    /// Messages of groups that a member did not get, because its output was above the high-water mark.
    pub group_skipped: Counter,
    /// Bytes read from sockets.
    pub bytes_in: Counter,
    /// Bytes sent to sockets.
    pub bytes_out: Counter,
    /// Datagrams that were dropped because a send queue was full.
    pub datagrams_dropped: Counter,
    /// Batches of callbacks, by their size.
    pub batches: Sizes,
    /// Callbacks.
    pub callbacks: Counter,
    /// Callbacks that ran for longer than `stall_warning`.
    pub stalls: Counter,
    /// Callbacks that ran for longer than `slow_callback`.
    pub slow: Counter,
    /// Nanoseconds spent in callbacks.
    pub calling: Counter,
    /// Nanoseconds of waiting before callbacks could begin, for example for the interpreter lock.
    pub attaching: Counter,
    /// Connections that were open when a stop began and were closed in order since.
    pub stopped_in_order: Counter,
    /// Connections that were open when a stop began and were not closed in order, because the grace was over or the
    /// peer was gone.
    pub stopped_aborted: Counter,
    /// Timers that are set, those of the poller itself included.
    pub timers: Counter,
}
