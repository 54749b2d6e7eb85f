//! The part of a journal that its lanes, its writer and its owner share: settings, counters, wishes.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::records::Records;
use super::target::{Place, Target};
use crate::system::clock::Clock;
use crate::system::fork;

/// The range of [`Settings::capacity`].
pub const CAPACITIES: RangeInclusive<usize> = 1024..=1 << 30;

/// The settings of a journal.
pub struct Settings {
    /// The file.
    pub place: Place,
    /// The most bytes of records that wait.
    pub capacity: usize,
    /// The share of records that is kept, more than 0, at most 1.
    pub sample: f64,
    /// The answer of [`crate::recorder::Recorder::needs`].
    pub needs: u8,
    /// The time for which records gather before they are written.
    pub linger: Duration,
}

impl Settings {
    /// The time for lines that no reader watches as they come.
    pub const LINGER: Duration = Duration::from_millis(100);
}

/// The counts of a journal so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Lines that the kernel has taken.
    pub written: u64,
    /// Lines that were lost.
    pub dropped: u64,
    /// Failures of the file.
    pub errors: u64,
    /// Bytes of records that wait.
    pub waiting: usize,
}

impl Counted {
    /// Each count with its name.
    pub fn each(&self) -> [(&'static str, u64); 4] {
        let Self { written, dropped, errors, waiting } = *self;
        [("written", written), ("dropped", dropped), ("errors", errors), ("waiting", waiting as u64)]
    }
}

/// The wishes of other threads, and the progress of the writer.
#[derive(Default)]
pub(super) struct State {
    /// So much waits that the writer shall not linger.
    pub is_urgent: bool,
    pub is_closing: bool,
    /// Rounds that were asked for, and the ones among them that are done.
    pub asked: u64,
    pub done: u64,
    /// The writer has ended.
    pub has_ended: bool,
    /// The file to change to.
    pub next: Option<Target>,
}

impl State {
    pub fn is_due(&self) -> bool {
        self.is_urgent || self.is_closing || self.asked > self.done
    }
}

/// See the head of the module.
pub(super) struct Shared {
    pub settings: Settings,
    pub clock: Clock,
    pub lanes: Mutex<Vec<Arc<Records>>>,
    pub state: Mutex<State>,
    /// The writer waits here.
    pub wake: Condvar,
    /// Everybody else waits here.
    pub progress: Condvar,
    /// The writer sleeps until a record comes.
    pub is_asleep: AtomicBool,
    pub is_closed: AtomicBool,
    /// The writer shall wait for its file no longer.
    pub gives_up: AtomicBool,
    /// Another file waits in [`State::next`].
    pub has_next: AtomicBool,
    /// Bytes of the records that wait.
    pub waiting: AtomicUsize,
    /// The position in the sequence that draws the sample.
    pub drawn: AtomicU64,
    pub written: AtomicU64,
    pub dropped: AtomicU64,
    pub errors: AtomicU64,
    pub birth: u32,
}

impl Shared {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            clock: Clock::of_process(),
            lanes: Mutex::default(),
            state: Mutex::default(),
            wake: Condvar::new(),
            progress: Condvar::new(),
            is_asleep: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            gives_up: AtomicBool::new(false),
            has_next: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            drawn: AtomicU64::new(0),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            birth: fork::generation(),
        }
    }

    pub fn counted(&self) -> Counted {
        Counted {
            written: self.written.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is a single assignment, so a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lanes(&self) -> MutexGuard<'_, Vec<Arc<Records>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the writer for a round, and waits until it is done. False if the time is over first.
    pub fn ask(&self, timeout: Duration) -> bool {
        let mut state = self.state();
        state.asked += 1;
        let asked = state.asked;
        self.wake.notify_one();
        let is_open = |state: &mut State| state.done < asked && !state.has_ended;
        let waited = self.progress.wait_timeout_while(state, timeout, is_open);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.done >= asked || state.has_ended
    }

    pub fn wait_for_end(&self, timeout: Duration) -> bool {
        let waited = self.progress.wait_timeout_while(self.state(), timeout, |state| !state.has_ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.has_ended
    }

    pub fn begin_close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.state().is_closing = true;
        self.wake.notify_one();
    }

    /// Waits until a round is due. Returns the number of rounds that were asked for, and whether it is the last.
    pub fn wait(&self) -> (u64, bool) {
        let mut state = self.state();
        if !state.is_due() {
            self.is_asleep.store(true, Ordering::SeqCst);
            // A record that came before the flag was set does not wake this thread.
            while self.is_asleep.load(Ordering::SeqCst) && !state.is_due() && self.is_empty() {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            self.is_asleep.store(false, Ordering::SeqCst);
            let waited = self.wake.wait_timeout_while(state, self.settings.linger, |state| !state.is_due());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_urgent = false;
        (state.asked, state.is_closing)
    }

    fn is_empty(&self) -> bool {
        self.lanes().iter().all(|records| records.are_empty())
    }

    /// Adds a number of lines to a counter.
    pub fn count(&self, counter: &AtomicU64, lines: &[u8]) {
        counter.fetch_add(memchr::memchr_iter(b'\n', lines).count() as u64, Ordering::Relaxed);
    }
}
