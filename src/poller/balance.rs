//! The busy connections of a poller, and the work of all pollers of its reactor between two looks at them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::home::Home;
use super::side::Side;
use crate::shared::handle::PollerHandle;
use crate::slots::Token;
use crate::system::clock::thread_nanos;

/// The time between two looks, in nanoseconds.
pub(super) const PERIOD: u64 = 50_000_000;

/// The time until a look at new connections, which comes before the others.
const EARLY: u64 = PERIOD / 5;

/// The part of a period from which the work of a poller counts.
const LEAST_WORK: u64 = PERIOD / 16;

/// The result of a look.
pub(super) struct Look {
    pub pollers: Vec<Arc<PollerHandle>>,
    /// The connections that this poller read since the last look.
    pub active: Vec<Token>,
    /// The CPU time of each poller since the last look.
    pub work: Vec<u64>,
    /// The time for which each poller has waited for a CPU since the last look.
    pub delays: Vec<u64>,
}

#[derive(Default)]
pub(super) struct Balance {
    /// Moves for which another poller was asked, and has not answered.
    pub asked: usize,
    pub side: Side,
    /// Whether an acceptor has its connections moved.
    is_on: bool,
    /// The time of the next look.
    due: u64,
    /// The time of the next look at new connections; 0 if there are none.
    early: u64,
    active: Vec<Token>,
    /// The CPU time of each poller at the last look, and the time for which it has waited for a CPU.
    spent: Vec<u64>,
    delayed: Vec<u64>,
    /// The number of looks in a row that found this poller working much more than another one.
    heavy: u8,
}

impl Balance {
    /// Whether it is time for a look.
    #[inline]
    pub fn is_due(&self, now: u64) -> bool {
        now >= self.due || self.is_early(now)
    }

    /// Whether it is time for a look at new connections.
    #[inline]
    pub fn is_early(&self, now: u64) -> bool {
        self.early != 0 && now >= self.early
    }

    /// Has the new connections looked at soon.
    pub fn hasten(&mut self, now: u64) {
        if self.early == 0 {
            self.early = now + EARLY;
        }
    }

    /// The connections that were noted, for a look at the new ones.
    pub fn begin_early(&mut self) -> Vec<Token> {
        self.early = 0;
        self.active.clone()
    }

    /// Whether busy connections are noted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Notes a connection that was read, once between two looks.
    pub fn note(&mut self, token: Token) {
        self.active.push(token);
    }

    /// Takes the connections that were noted.
    pub fn take_active(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.active)
    }

    /// Looks at the work of all pollers. `None` if no acceptor asks for it, or after a time without work, because the figures
    /// are those of another situation then.
    pub fn look(&mut self, now: u64, handle: &PollerHandle, active: Vec<Token>, home: Option<&Home>) -> Option<Look> {
        let is_late = now >= self.due + 3 * PERIOD;
        self.is_on = handle.load.balances.load(Ordering::Relaxed);
        self.due = now + PERIOD;
        if !self.is_on {
            return None;
        }
        handle.load.spent.store(thread_nanos(), Ordering::Relaxed);
        handle.load.busy.store(active.len(), Ordering::Relaxed);
        handle.load.delayed.store(home.map_or(0, Home::delayed), Ordering::Relaxed);
        let pollers = handle.siblings();
        let has_before = self.spent.len() == pollers.len();
        let work = advance(&mut self.spent, pollers.iter().map(|poller| &poller.load.spent));
        let delays = advance(&mut self.delayed, pollers.iter().map(|poller| &poller.load.delayed));
        if is_late || pollers.is_empty() || !has_before {
            self.heavy = 0;
            return None;
        }
        Some(Look { pollers, active, work, delays })
    }

    /// Notes whether this poller works much more than another one; returns whether that was so for as many looks as `lasting`.
    pub fn is_lasting(&mut self, is_heavy: bool, lasting: u8) -> bool {
        self.heavy = if is_heavy { self.heavy.saturating_add(1) } else { 0 };
        self.heavy >= lasting
    }
}

/// Reads the counters of all pollers; returns by how much each has grown.
fn advance<'a>(before: &mut Vec<u64>, counters: impl Iterator<Item = &'a AtomicU64>) -> Vec<u64> {
    let after: Vec<_> = counters.map(|counter| counter.load(Ordering::Relaxed)).collect();
    let before = std::mem::replace(before, after.clone());
    after.iter().zip(before).map(|(after, before)| after.saturating_sub(before)).collect()
}

impl Look {
    /// Whether another program keeps the CPU of poller `here` busy: it waits for its CPU for much of the time, and another
    /// poller does not.
    pub fn is_crowded(&self, here: usize) -> bool {
        let least = self.delays.iter().min().copied().unwrap_or_default();
        self.delays[here] > PERIOD / 4 && self.delays[here] > 2 * least
    }

    /// The poller that works least.
    pub fn least(&self) -> usize {
        (0..self.work.len()).min_by_key(|index| self.work[*index]).unwrap_or_default()
    }

    /// The connections of poller `here` that would work alike for `least`: none unless `here` works much more.
    pub fn surplus(&self, here: usize, least: usize) -> usize {
        let (mine, theirs) = (self.work[here], self.work[least]);
        if self.active.len() < 2 || mine < LEAST_WORK || mine <= 2 * theirs {
            return 0;
        }
        let surplus = self.active.len() as u64 * (mine - theirs) / (2 * mine);
        surplus.max(1) as usize
    }

    /// The number of busy connections of each poller. One without work has not looked since it had some.
    pub fn busy(&self) -> Vec<usize> {
        let busy = |(poller, work): (&Arc<PollerHandle>, &u64)| match work {
            0 => 0,
            _ => poller.load.busy.load(Ordering::Relaxed),
        };
        self.pollers.iter().zip(&self.work).map(busy).collect()
    }
}
