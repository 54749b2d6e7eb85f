//! The way of one poller to its records: the sample, the bound, and the wake of the writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::records::{PREFIX, Records};
use super::shared::Shared;
use crate::recorder::Recorder;
use crate::system::fork;

/// Bytes that wait from which the writer does not linger.
const URGENT: usize = 64 * 1024;
/// The step of a sequence that fills the range of `u64` evenly, in each of its parts: the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// The way to the records of one poller.
pub struct Lane {
    shared: Arc<Shared>,
    records: Arc<Records>,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, records: Arc<Records>) -> Self {
        Self { shared, records }
    }

    /// Reserves room; returns the bytes that waited before, or `None` if it does not fit.
    fn reserve(&self, len: usize) -> Option<usize> {
        let before = self.shared.waiting.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) <= self.shared.settings.capacity {
            return Some(before);
        }
        self.shared.waiting.fetch_sub(len, Ordering::Relaxed);
        None
    }

    #[cold]
    fn drop_one(&self) {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes the writer if it sleeps, or if so much waits that it shall not linger.
    #[inline]
    fn wake(&self, before: usize, len: usize) {
        let is_urgent = before < URGENT && before + len >= URGENT;
        let sleeps = self.shared.is_asleep.load(Ordering::Relaxed);
        if is_urgent || (sleeps && self.shared.is_asleep.swap(false, Ordering::SeqCst)) {
            self.wake_now(is_urgent);
        }
    }

    #[cold]
    fn wake_now(&self, is_urgent: bool) {
        self.shared.state().is_urgent |= is_urgent;
        self.shared.wake.notify_one();
    }
}

impl Recorder for Lane {
    fn now(&self) -> u64 {
        self.shared.clock.now()
    }

    fn draws(&self) -> bool {
        let share = self.shared.settings.sample;
        share >= 1.0 || {
            let drawn = self.shared.drawn.fetch_add(GOLDEN, Ordering::Relaxed);
            (drawn as f64) < share * (u64::MAX as f64)
        }
    }

    fn needs(&self) -> u8 {
        self.shared.settings.needs
    }

    fn put(&self, parts: &[&[u8]]) {
        if fork::is_foreign(self.shared.birth) {
            return;
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let Ok(prefix) = u32::try_from(len) else { return self.drop_one() };
        let Some(before) = self.reserve(PREFIX + len) else { return self.drop_one() };
        let mut records = self.records.lock();
        // Looked at under the lock, so the last round of the writer comes behind every record that was kept.
        if self.shared.is_closed.load(Ordering::SeqCst) {
            drop(records);
            self.shared.waiting.fetch_sub(PREFIX + len, Ordering::Relaxed);
            return self.drop_one();
        }
        records.reserve(PREFIX + len);
        records.extend_from_slice(&prefix.to_le_bytes());
        for part in parts {
            records.extend_from_slice(part);
        }
        drop(records);
        self.wake(before, PREFIX + len);
    }
}
