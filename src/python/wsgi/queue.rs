//! The requests that wait for threads, and the choice of the thread that is woken.
//!
//! The thread that became idle last is woken first, because its memory is still in the caches. One thread that finds
//! the next request when it has done the last one is faster than two that take the interpreter lock from one another.
//! So at first one thread is awake. Another one watches: when nothing was taken for [`PATIENCE`] although requests wait,
//! the application blocks or computes for long, and for [`EAGER`] each request wakes a thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The time without progress after which another thread begins to work.
const PATIENCE: Duration = Duration::from_micros(500);

/// The time for which each request wakes a thread then.
const EAGER: Duration = Duration::from_millis(100);

/// The order for a thread that waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Wait,
    Work,
    Watch,
}

/// The place where one thread waits.
pub struct Seat {
    order: Mutex<Order>,
    changed: Condvar,
}

/// A connection whose next request waits in its input, because the queue was full.
pub trait Held: Send + Sync {
    /// Notes that the queue resumes it later; false if that was noted.
    fn note_held(&self) -> bool;

    /// Has the connection hand out its next request; false if it has ended.
    fn resume(&self) -> bool;
}

struct State<J> {
    jobs: VecDeque<J>,
    /// The threads that wait, the last one on top.
    idle: Vec<Arc<Seat>>,
    /// The number of threads that work, or have an order to.
    awake: usize,
    /// Whether a thread watches.
    is_watched: bool,
    /// The number of requests taken so far.
    taken: u64,
    /// Until then each request wakes a thread.
    eager_until: Option<Instant>,
    is_closed: bool,
    held: VecDeque<Weak<dyn Held>>,
}

/// The requests that wait for the threads of one application.
pub struct Queue<J> {
    state: Mutex<State<J>>,
    len: AtomicUsize,
    most: usize,
    /// Whether threads run beside each other, without an interpreter lock.
    is_parallel: bool,
}

impl<J> Queue<J> {
    pub fn new(most: usize, is_parallel: bool) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            idle: Vec::new(),
            awake: 0,
            is_watched: false,
            taken: 0,
            eager_until: None,
            is_closed: false,
            held: VecDeque::new(),
        };
        Self { state: Mutex::new(state), len: AtomicUsize::new(0), most, is_parallel }
    }

    /// The number of requests that wait.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds a request, and wakes a thread if that is due. A closed queue drops the request, which answers it.
    pub fn push(&self, job: J) {
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            return drop(job);
        }
        state.jobs.push_back(job);
        self.len.store(state.jobs.len(), Ordering::Relaxed);
        let woken = self.next_to_wake(&mut state);
        drop(state);
        if let Some((seat, order)) = woken {
            seat.tell(order);
        }
    }

    fn next_to_wake(&self, state: &mut State<J>) -> Option<(Arc<Seat>, Order)> {
        let is_eager =
            state.awake == 0 || self.is_parallel || state.eager_until.is_some_and(|end| Instant::now() < end);
        if !is_eager && state.is_watched {
            return None;
        }
        let seat = state.idle.pop()?;
        if is_eager {
            state.awake += 1;
            return Some((seat, Order::Work));
        }
        state.is_watched = true;
        Some((seat, Order::Watch))
    }

    /// Takes the oldest request, for a thread that works.
    pub fn pop(&self) -> Option<J> {
        let mut state = self.lock();
        let job = state.jobs.pop_front()?;
        state.taken += 1;
        self.len.store(state.jobs.len(), Ordering::Relaxed);
        let has_held = !state.held.is_empty();
        drop(state);
        if has_held {
            self.refill();
        }
        Some(job)
    }

    /// Resumes connections that are held, as many as there is room for. Connections that have ended take no
    /// room, because otherwise nothing would resume the others.
    #[cold]
    pub fn refill(&self) {
        let mut resumed = 0;
        while let Some(held) = self.next_held(resumed) {
            resumed += usize::from(held.upgrade().is_some_and(|held| held.resume()));
        }
    }

    /// The connection that is held for longest, if there is room for it beside the `resumed` ones.
    fn next_held(&self, resumed: usize) -> Option<Weak<dyn Held>> {
        let mut state = self.lock();
        // Few are resumed at a time otherwise, and each wakes its poller.
        let has_room = resumed > 0 || state.jobs.len() <= self.most / 2;
        if has_room && state.jobs.len() + resumed < self.most { state.held.pop_front() } else { None }
    }

    /// Waits until there is a request for this thread to work on; false when the queue is closed. The thread must be
    /// detached. `is_new`: it has not worked before.
    pub fn wait(&self, seat: &Arc<Seat>, is_new: bool) -> bool {
        let mut state = self.lock();
        // Requests may have come before the first thread.
        state.awake += usize::from(is_new);
        if !state.jobs.is_empty() {
            return true;
        }
        state.awake -= 1;
        while !state.is_closed {
            seat.tell(Order::Wait);
            state.idle.push(seat.clone());
            drop(state);
            if seat.wait() == Order::Work || self.watch() {
                return true;
            }
            state = self.lock();
        }
        false
    }

    /// Watches until no request waits, or none was taken for a while. Returns whether this thread is to work then.
    fn watch(&self) -> bool {
        let mut before = self.lock().taken;
        loop {
            std::thread::sleep(PATIENCE);
            let mut state = self.lock();
            let is_stuck = state.taken == before && !state.jobs.is_empty();
            if state.is_closed || state.jobs.is_empty() || is_stuck {
                state.is_watched = false;
            }
            if is_stuck {
                state.eager_until = Some(Instant::now() + EAGER);
                let others = state.idle.len().saturating_sub(state.jobs.len() - 1);
                let woken = state.idle.split_off(others);
                state.awake += 1 + woken.len();
                drop(state);
                woken.iter().for_each(|seat| seat.tell(Order::Work));
                return true;
            }
            if !state.is_watched {
                return false;
            }
            before = state.taken;
        }
    }

    /// Whether the queue takes no request now. A connection that is refused is resumed later.
    #[inline]
    pub fn is_full<H: Held + 'static>(&self, connection: &Arc<H>) -> bool {
        self.len() >= self.most && self.hold(connection)
    }

    #[cold]
    fn hold<H: Held + 'static>(&self, connection: &Arc<H>) -> bool {
        let mut state = self.lock();
        let is_full = state.jobs.len() >= self.most;
        if is_full && connection.note_held() {
            let held: Weak<H> = Arc::downgrade(connection);
            state.held.push_back(held);
        }
        is_full
    }

    /// Ends the threads, as soon as each has done its request. Requests that wait are dropped, which answers them.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let (idle, jobs) = (std::mem::take(&mut state.idle), std::mem::take(&mut state.jobs));
        state.awake += idle.len();
        self.len.store(0, Ordering::Relaxed);
        drop(state);
        idle.iter().for_each(|seat| seat.tell(Order::Work));
        drop(jobs);
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // A panic while the lock is held cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { order: Mutex::new(Order::Wait), changed: Condvar::new() })
    }

    fn tell(&self, order: Order) {
        *self.lock() = order;
        self.changed.notify_one();
    }

    fn wait(&self) -> Order {
        let mut order = self.lock();
        while *order == Order::Wait {
            order = self.changed.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
        *order
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
