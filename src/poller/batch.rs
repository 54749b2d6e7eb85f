//! One batch of callbacks: its times, its size, and their limits.

use std::time::Duration;

use super::call::Call;
use crate::options::ReactorOptions;
use crate::shared::counters::Counters;
use crate::shared::histogram::Measures;
use crate::shared::remote::Peer;
use crate::slots::Token;
use crate::system::clock::{Clock, ticks};

/// The calls that a batch begins with. Each kind comes first in turn, so that a flood of one delays no other for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Turns,
    Timers,
    Posted,
}

/// The processor's ticks for which [`Batch::glance`] takes a reading of the clock as that of now: some microseconds.
const GLANCE: u64 = 8192;

/// The result of [`Batch::clock_in`].
pub(super) struct Clocked {
    pub is_over: bool,
    /// The nanoseconds of the call before, if it ran for longer than `slow_callback`.
    pub slow: Option<u64>,
}

pub(super) struct Batch {
    /// The time when the poll returned. Timers due until then belong to the batch.
    pub now: u64,
    /// The last reading of the clock.
    pub latest: u64,
    /// The processor's ticks at the last glance that read the clock; `None` if each has to read it.
    glanced: Option<u64>,
    /// The time when the dispatch was called.
    asked: u64,
    /// The number of callbacks.
    made: usize,
    /// The time when the dispatch asked for the first call. An earlier start would count the dispatch's wait for its
    /// lock. That wait could use up the time of every batch before its first call.
    began: Option<u64>,
    pub calls: usize,
    /// The source of the last call.
    source: Option<Token>,
    pub first: First,
    /// A batch ends after this many calls, or this many nanoseconds, and is flushed. So no connection starves others.
    pub most_calls: usize,
    most_time: u64,
    /// The most steps of TLS handshakes in one batch.
    #[cfg(feature = "tls")]
    pub most_handshakes: usize,
    /// A callback that ran for longer than this counts as stalled.
    stall_limit: u64,
    /// A callback that ran for longer than this is reported when it has returned.
    slow_limit: u64,
    /// The lesser of the two limits.
    least_limit: u64,
    /// The last connection that has ended, and its peer. Kept only for reports, because the slot is free by then.
    closed: Option<(Token, Peer)>,
}

impl Batch {
    /// `glances` if the time may be some microseconds late within a batch.
    pub fn new(options: &ReactorOptions, glances: bool) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let stall_limit = options.stall_warning.map_or(u64::MAX, nanos);
        let slow_limit = options.slow_callback.map_or(u64::MAX, nanos);
        Self {
            now: 0,
            latest: 0,
            glanced: ticks().filter(|_| glances),
            asked: 0,
            made: 0,
            began: None,
            calls: 0,
            source: None,
            first: First::Posted,
            most_calls: options.batch_calls,
            most_time: nanos(options.batch_time),
            #[cfg(feature = "tls")]
            most_handshakes: options.handshakes_per_batch,
            stall_limit,
            slow_limit,
            least_limit: stall_limit.min(slow_limit),
            closed: None,
        }
    }

    /// Notes that the dispatch is called.
    pub fn begin(&mut self, now: u64) {
        (self.began, self.calls, self.made, self.source) = (None, 0, 0, None);
        (self.asked, self.latest) = (now, now);
        self.first = match self.first {
            First::Turns => First::Timers,
            First::Timers => First::Posted,
            First::Posted => First::Turns,
        };
    }

    /// The time, which may be as late as [`GLANCE`] allows: a message takes less time than ten readings of the clock.
    #[inline(always)]
    pub fn glance(&mut self, clock: &Clock) -> u64 {
        match (&mut self.glanced, ticks()) {
            (Some(before), Some(ticks)) if ticks.wrapping_sub(*before) < GLANCE => return self.latest,
            (Some(before), Some(ticks)) => *before = ticks,
            _ => {}
        }
        clock.now()
    }

    /// Notes that the dispatch asks for a call, so the call before it is over; that one may have been long. `is_over` if
    /// the batch's time or size is used up.
    #[inline(always)]
    pub fn clock_in(&mut self, now: u64, counters: &Counters, measures: Option<&Measures>) -> Clocked {
        let mut long = None;
        if self.began.is_none() {
            counters.attaching.add(now.saturating_sub(self.asked));
        } else if now - self.latest > self.least_limit {
            long = self.note_long(now - self.latest, counters);
        }
        if let Some(measures) = measures {
            self.measure(now, measures);
        }
        let is_over = self.ends_at(now);
        self.calls += 1;
        self.latest = now;
        self.began.get_or_insert(now);
        Clocked { is_over, slow: long }
    }

    /// Whether the batch has no time or no room for another call.
    #[inline(always)]
    pub fn ends_at(&self, now: u64) -> bool {
        now - self.began.unwrap_or(now) > self.most_time || self.calls >= self.most_calls
    }

    /// Counts a callback that took so many nanoseconds; returns them if it is to be reported.
    #[cold]
    fn note_long(&self, took: u64, counters: &Counters) -> Option<u64> {
        if took > self.stall_limit {
            counters.stalls.add(1);
        }
        let is_slow = took > self.slow_limit;
        counters.slow.add(is_slow.into());
        is_slow.then_some(took)
    }

    /// Notes the time of the call that is over, or the wait before the first.
    fn measure(&self, now: u64, measures: &Measures) {
        match self.began {
            None => measures.attaching.note(now.saturating_sub(self.asked)),
            Some(_) => measures.callbacks.note(now - self.latest),
        }
        measures.begin(now);
    }

    /// The source of the last call.
    pub fn source(&self) -> Option<Token> {
        self.source
    }

    /// Sets the source of the running call, which was not known when the call began.
    pub fn set_source(&mut self, source: Option<Token>) {
        self.source = source;
    }

    /// Whether reports need the peers of connections that have ended.
    pub fn reports_slow(&self) -> bool {
        self.slow_limit != u64::MAX
    }

    /// Keeps the peer of a connection that has ended; its `on_close` follows.
    pub fn keep_closed(&mut self, token: Token, peer: Peer) {
        self.closed = Some((token, peer));
    }

    /// The peer that was kept for this token.
    pub fn take_closed(&mut self, token: Token) -> Option<Peer> {
        self.closed.take_if(|(closed, _)| *closed == token).map(|(_, peer)| peer)
    }

    /// The source of a call; `None` if its descriptor is the one of the call before it. A connection that is closed has
    /// lost its descriptor.
    #[inline]
    pub fn new_source(&mut self, call: &Call) -> Option<Option<Token>> {
        let source = call.token();
        let is_same = source.is_some() && source == self.source && !matches!(call, Call::Close { .. });
        self.source = source;
        (!is_same).then_some(source)
    }

    /// Counts a callback.
    pub fn note_call(&mut self, counters: &Counters) {
        self.made += 1;
        counters.callbacks.add(1);
    }

    /// Counts the batch, which is over.
    pub fn end(&self, now: u64, counters: &Counters) {
        counters.calling.add(now - self.began.unwrap_or(now));
        counters.batches.note(self.made);
    }

    pub fn is_full(&self) -> bool {
        self.calls > self.most_calls
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn glances_see_that_time_passes_and_never_run_ahead_of_the_clock() {
        let clock = Clock::of_process();
        let mut batch = Batch::new(&ReactorOptions::default(), true);
        let begin = clock.now();
        while batch.latest < begin + 1_000_000 {
            let seen = batch.glance(&clock);
            assert!(batch.latest <= seen && seen <= clock.now());
            batch.latest = seen;
            assert!(clock.now() < begin + 10_000_000_000, "a millisecond passes unseen");
        }
    }

    #[test]
    fn each_glance_reads_a_clock_that_has_to_be_exact() {
        let time = Arc::new(AtomicU64::new(5));
        let clock = Clock::by_hand(time.clone());
        let mut batch = Batch::new(&ReactorOptions::default(), false);
        assert_eq!(batch.glance(&clock), 5);
        time.store(6, Ordering::Relaxed);
        assert_eq!(batch.glance(&clock), 6);
    }
}
