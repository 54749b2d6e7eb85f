//! A reactor: a fixed number of pollers as threads, which are started, stopped and joined together.
//!
//! Before a reactor runs, its pollers are parked here. A thread that holds the lock of a parked poller may set timers
//! and add descriptors. After `run` or `start` each poller belongs to its thread, and all other threads go through
//! its mailbox. A reactor runs once. It calls no handler: the dispatch of each poller does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Foreign, within};
use crate::options::ReactorOptions;
use crate::poller::watchdog::Watchdog;
use crate::poller::{Dispatch, Failure, Parked, Poller};
use crate::shared::handle::{Message, PollerHandle};
use crate::system::clock::Clock;
use crate::system::fork;
use crate::system::heap;
use crate::system::resolver::Resolver;
use crate::system::signal::BlockedSignals;
use crate::system::stack;
use crate::system::steering;

/// The most pollers a reactor may have.
pub const MAX_POLLERS: usize = 1024;

/// Time that a poller may take for its last callbacks after the deadline of a stop. After that it counts as stuck.
const STOP_MARGIN: Duration = Duration::from_secs(1);

/// The longest part of a wait for pollers between two pauses.
const PAUSE: Duration = Duration::from_millis(20);

/// The time for which a thread waits for pollers to end.
pub struct Patience {
    entered: Instant,
    until: Option<Instant>,
}

impl Patience {
    /// A wait of at most `timeout`, that begins now.
    pub fn new(timeout: Option<Duration>) -> Self {
        let entered = Instant::now();
        Self { entered, until: timeout.and_then(|timeout| entered.checked_add(timeout)) }
    }

    /// The time that is left, at most [`PAUSE`]; zero when the time is up, or that of a stop with this deadline.
    fn left(&self, deadline: Option<Instant>) -> Duration {
        // A wait that begins after the deadline still lasts as long as the margin.
        let stuck = deadline.map(|deadline| deadline.max(self.entered + STOP_MARGIN));
        let ends = [self.until, stuck].into_iter().flatten();
        ends.map(|end| end.saturating_duration_since(Instant::now())).fold(PAUSE, Duration::min)
    }
}

/// Several pollers that run and stop together.
pub struct Reactor<D: Dispatch> {
    name: String,
    handles: Vec<Arc<PollerHandle>>,
    parked: Vec<Mutex<Option<Box<Parked<D>>>>>,
    life: Mutex<Life>,
    changed: Condvar,
    clock: Clock,
    birth: u32,
    has_watchdog: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ready,
    /// Stopped before it ran: `run` returns at once.
    StoppedEarly,
    Running,
    Stopped,
}

struct Life {
    status: Status,
    /// The number of pollers that have not ended.
    running: usize,
    /// The time by which every poller should have ended; set by the first stop.
    deadline: Option<Instant>,
    /// The error that ended the reactor; `None` after a requested stop.
    failure: Option<Outcome>,
}

/// A reason other than a stop for which a reactor ended.
pub enum Outcome {
    /// A fault of the reactor.
    Error(Error),
    /// The value with which the dispatch halted the reactor.
    Halted(Foreign),
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(error) => Self::Error(Error::io("a poller failed")(error)),
            Failure::Halted(foreign) => Self::Halted(foreign),
            Failure::Forked => Self::Error(Error::state("this poller belongs to the parent process [GOEV103]".into())),
        }
    }
}

impl<D: Dispatch> Reactor<D> {
    /// A reactor of `pollers` pollers, each with the dispatch that `make` returns for it.
    pub fn new(
        pollers: usize,
        options: &ReactorOptions,
        make: impl FnMut(&Arc<PollerHandle>) -> D,
    ) -> Result<Arc<Self>, Error> {
        Self::with_clock(Clock::of_process(), pollers, options, make)
    }

    fn with_clock(
        clock: Clock,
        pollers: usize,
        options: &ReactorOptions,
        mut make: impl FnMut(&Arc<PollerHandle>) -> D,
    ) -> Result<Arc<Self>, Error> {
        within("pollers", pollers, 1, MAX_POLLERS)?;
        options.validate(&steering::allowed_cpus().map_err(Error::io("cannot read the CPU affinity"))?)?;
        heap::keep_free_memory();
        let birth = fork::generation();
        let resolver = Resolver::default();
        let mut handles = Vec::new();
        let mut parked = Vec::new();
        for index in 0..pollers {
            let poller = Poller::new(index, clock.clone(), resolver.clone(), options)
                .map_err(Error::io(format!("cannot open poller {index}")))?;
            handles.push(poller.handle().clone());
            let dispatch = make(poller.handle());
            parked.push(Mutex::new(Some(Box::new(Parked { poller, dispatch }))));
        }
        for handle in &handles {
            let _ = handle.siblings.set(handles.iter().map(Arc::downgrade).collect());
        }
        let life = Life { status: Status::Ready, running: 0, deadline: None, failure: None };
        let (name, life, changed) = (options.name.clone(), Mutex::new(life), Condvar::new());
        let has_watchdog = options.stall_warning.is_some();
        Ok(Arc::new(Self { name, handles, parked, life, changed, clock, birth, has_watchdog }))
    }

    /// The parts of the pollers that other threads may use.
    pub fn handles(&self) -> &[Arc<PollerHandle>] {
        &self.handles
    }

    /// Nanoseconds on the clock of all pollers.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether the pollers run.
    pub fn is_running(&self) -> bool {
        self.lock().status == Status::Running
    }

    /// Whether the reactor accepts no more work, because all its pollers have ended or it was stopped before it ran.
    pub fn has_ended(&self) -> bool {
        matches!(self.lock().status, Status::Stopped | Status::StoppedEarly)
    }

    /// Whether a stop was requested. Until its grace is over, the connections may still use the reactor.
    pub fn is_stopping(&self) -> bool {
        self.lock().deadline.is_some()
    }

    /// Returns an error in a forked child, because the reactor there is a copy that must not be touched.
    pub fn check_process(&self) -> Result<(), Error> {
        fork::check(self.birth, "reactor")
    }

    /// Whether callbacks that run for too long are reported.
    pub fn has_watchdog(&self) -> bool {
        self.has_watchdog
    }

    /// Calls `work` with poller `index` before the reactor runs. Returns `None` when the reactor runs or has ended.
    pub fn with_parked<R>(&self, index: usize, work: impl FnOnce(&Parked<D>) -> R) -> Option<R> {
        let parked = self.parked[index].lock().unwrap_or_else(PoisonError::into_inner);
        parked.as_deref().map(work)
    }

    /// Calls `look` with each poller that waits for the reactor to run.
    pub fn each_parked(&self, mut look: impl FnMut(&Parked<D>)) {
        for index in 0..self.parked.len() {
            self.with_parked(index, &mut look);
        }
    }

    /// Runs the reactor with the calling thread as poller 0, until every poller has ended.
    ///
    /// `before` is called on poller 0 just before its loop starts. `pause` is called from time to time while this
    /// thread waits for the other pollers at the end. If `stop` was called before `run`, `run` returns at once: a
    /// stop from another thread is never too early.
    pub fn run(
        self: &Arc<Self>,
        before: impl FnOnce(&Poller) -> Result<(), Outcome>,
        pause: &mut dyn FnMut() -> Result<(), Outcome>,
    ) -> Result<(), Outcome> {
        let parked = self.begin().map_err(Outcome::Error)?;
        self.lead(parked, before)?;
        self.join(None, pause)
    }

    /// The first step of [`Reactor::run`]: takes the pollers. There are none if `stop` was called before.
    pub fn begin(&self) -> Result<Vec<Box<Parked<D>>>, Error> {
        let mut life = self.lock();
        match life.status {
            Status::Ready => life.status = Status::Running,
            Status::StoppedEarly => {
                life.status = Status::Stopped;
                return Ok(Vec::new());
            }
            Status::Running => return Err(Error::state("the reactor is running already [GOEV105]".into())),
            Status::Stopped => {
                return Err(Error::state("the reactor has stopped; a reactor runs once [GOEV105]".into()));
            }
        }
        life.running = self.handles.len();
        drop(life);
        Ok(self.parked.iter().filter_map(unpark).collect())
    }

    /// The second step of [`Reactor::run`]: runs the first poller on this thread until it ends, the others beside it.
    pub fn lead(
        self: &Arc<Self>,
        mut parked: Vec<Box<Parked<D>>>,
        before: impl FnOnce(&Poller) -> Result<(), Outcome>,
    ) -> Result<(), Outcome> {
        if parked.is_empty() {
            return Ok(());
        }
        let first = parked.remove(0);
        if let Err(outcome) = before(&first.poller) {
            self.stop(Duration::ZERO);
            self.abandon(parked.len() + 1);
            return Err(outcome);
        }
        let spawned = self.spawn(parked, 1);
        self.drive(first, None)?;
        spawned.map_err(Outcome::Error)
    }

    /// Runs every poller in a new thread.
    pub fn start(self: &Arc<Self>) -> Result<(), Error> {
        let parked = self.begin()?;
        self.spawn(parked, 0)
    }

    /// Makes a reactor of one poller for tests: its clock shows `time` in nanoseconds.
    pub fn by_hand(
        time: Arc<AtomicU64>,
        options: &ReactorOptions,
        make: impl FnMut(&Arc<PollerHandle>) -> D,
    ) -> Result<Arc<Self>, Error> {
        Self::with_clock(Clock::by_hand(time), 1, options, make)
    }

    /// Has the only poller of a reactor run turn by turn, on the thread that holds the [`Stepper`].
    pub fn stepped(self: &Arc<Self>) -> Result<Stepper<D>, Error> {
        let count = self.handles.len();
        if count != 1 {
            return Err(Error::state(format!("a loop drives a reactor of one poller, not of {count} [GOEV109]")));
        }
        let parked = self.begin()?.pop().ok_or_else(Error::stopped)?;
        self.watch();
        Ok(Stepper { reactor: Some(self.clone()), parked, has_ended: false, has_batch: false })
    }

    /// Asks all pollers to stop. Listeners close at once; connections close when their output is sent, and are
    /// aborted at the deadline.
    pub fn stop(&self, grace: Duration) {
        self.stop_draining(grace, Duration::ZERO);
    }

    /// As [`Reactor::stop`]. For the time `drain`, which is a part of the grace, connections whose protocol asks for it may
    /// go on: [`crate::protocols::Protocol::drains`].
    pub fn stop_draining(&self, grace: Duration, drain: Duration) {
        let drained = self.now().saturating_add(u64::try_from(drain.min(grace).as_nanos()).unwrap_or(u64::MAX / 2));
        let drained = (!drain.min(grace).is_zero()).then_some(drained);
        let deadline = self.now().saturating_add(u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX / 2));
        let mut life = self.lock();
        let by = Instant::now() + grace.min(Duration::from_secs(86_400 * 365)) + STOP_MARGIN;
        life.deadline = Some(life.deadline.map_or(by, |earlier| earlier.min(by)));
        let parked = life.status == Status::Ready;
        if parked {
            life.status = Status::StoppedEarly;
        }
        drop(life);
        for (handle, slot) in self.handles.iter().zip(&self.parked) {
            if parked {
                // Two statements, so that the slot's lock is released first: a value that the poller holds may call
                // back when it is dropped.
                let poller = unpark(slot);
                drop(poller);
            } else {
                handle.stopping.store(true, Ordering::Relaxed);
                // `post` fails only on a closed mailbox, and then the poller has stopped.
                let _ = handle.post(Message::Stop { deadline, drained, at_once: grace.is_zero() });
            }
        }
        self.changed.notify_all();
    }

    /// Waits until every poller has ended. `pause` is called from time to time and may end the wait with an error.
    ///
    /// After a stop it waits for the grace and one second more; then it reports that a callback has not returned.
    pub fn join(
        &self,
        timeout: Option<Duration>,
        pause: &mut dyn FnMut() -> Result<(), Outcome>,
    ) -> Result<(), Outcome> {
        let patience = Patience::new(timeout);
        loop {
            if let Some(result) = self.join_briefly(&patience) {
                return result;
            }
            pause()?;
        }
    }

    /// The part of [`Reactor::join`] between two pauses. Returns `None` if there is more to wait for.
    pub fn join_briefly(&self, patience: &Patience) -> Option<Result<(), Outcome>> {
        let mut life = self.lock();
        if life.running > 0 {
            let left = patience.left(life.deadline);
            let waited = self.changed.wait_timeout(life, left);
            life = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(life, _)| life);
        }
        if life.running == 0 {
            return Some(life.failure.take().map_or(Ok(()), Err));
        }
        patience.left(life.deadline).is_zero().then(|| {
            let text = format!("{} of {} pollers have not stopped in time", life.running, self.handles.len());
            Err(Outcome::Error(Error::stop_timeout(text)))
        })
    }

    /// Of the connections that were open when a stop began: the number that have closed in order since, and the
    /// number that have not.
    pub fn stop_report(&self) -> (u64, u64) {
        let counters = self.handles.iter().map(|handle| &handle.counters);
        counters.fold((0, 0), |(in_order, aborted), counters| {
            (in_order + counters.stopped_in_order.get(), aborted + counters.stopped_aborted.get())
        })
    }

    fn spawn(self: &Arc<Self>, parked: Vec<Box<Parked<D>>>, first: usize) -> Result<(), Error> {
        self.watch();
        let mut left = parked.len();
        for (index, poller) in parked.into_iter().enumerate() {
            let reactor = self.clone();
            let name = format!("{}-{}", self.name, index + first);
            let stack = poller.dispatch.stack_size().unwrap_or_else(stack::usual_size);
            let builder = thread::Builder::new().name(name.clone()).stack_size(stack);
            // It blocks the signals that this thread blocks, as threads of Python do. The kernel gives a signal to the main
            // thread as long as that one takes it (signal(7)).
            let spawned = builder.spawn(move || drop(reactor.drive(poller, Some(&name))));
            if let Err(error) = spawned {
                self.abandon(left);
                self.stop(Duration::ZERO);
                return Err(Error::io("cannot start the threads of the pollers")(error));
            }
            left -= 1;
        }
        Ok(())
    }

    /// Starts the watchdog. If its thread cannot be started there are no stall warnings; everything else works.
    fn watch(&self) {
        if self.has_watchdog
            && let Ok(watchdog) = Watchdog::new(self.handles.clone(), self.clock.clone())
        {
            let _blocked = BlockedSignals::new();
            let watch = || watchdog.watch(D::stalled);
            drop(thread::Builder::new().name(format!("{}-watch", self.name)).spawn(watch));
        }
    }

    /// Runs one poller until it ends. The poller is counted as ended even if the loop panics. Returns an error only
    /// in a forked child, where no other thread exists that could receive it.
    fn drive(self: &Arc<Self>, parked: Box<Parked<D>>, name: Option<&str>) -> Result<(), Outcome> {
        let mut result = Ok(());
        let lived = catch_unwind(AssertUnwindSafe(|| result = D::drive(parked, name)));
        let outcome = match (lived, result) {
            (Ok(()), Ok(()) | Err(Failure::Forked)) => None,
            (Ok(()), Err(failure)) => Some(failure.into()),
            (Err(panic), _) => Some(Outcome::Error(Error::state(format!("a poller panicked: {}", text_of(&*panic))))),
        };
        if let Err(foreign) = self.check_process() {
            return Err(outcome.unwrap_or(Outcome::Error(foreign)));
        }
        let failed = outcome.is_some();
        let mut life = self.lock();
        if life.failure.is_none() {
            life.failure = outcome;
        }
        drop(life);
        if failed {
            self.stop(Duration::ZERO);
        }
        self.abandon(1);
        Ok(())
    }

    fn abandon(&self, pollers: usize) {
        let mut life = self.lock();
        life.running -= pollers;
        if life.running == 0 {
            life.status = Status::Stopped;
        }
        drop(life);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        // A panic while the lock is held cannot leave the fields inconsistent.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poller that runs turns on the thread that holds this, and only when asked: for tests, and for a loop around it.
pub struct Stepper<D: Dispatch> {
    /// The reactor that waits for the end of the poller; `None` once it was told.
    reactor: Option<Arc<Reactor<D>>>,
    parked: Box<Parked<D>>,
    /// Whether the poller has ended. A loop around it goes on with its own descriptors.
    has_ended: bool,
    /// Whether the first half of a turn has found something to dispatch.
    has_batch: bool,
}

impl<D: Dispatch> Stepper<D> {
    /// Steps the poller of a thread that belongs to a reactor, which notes the end of that thread itself.
    pub fn on_thread(parked: Box<Parked<D>>) -> Self {
        Self { reactor: None, parked, has_ended: false, has_batch: false }
    }

    /// The poller and its dispatch.
    pub fn parked(&self) -> &Parked<D> {
        &self.parked
    }

    /// Whether the poller has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Runs one turn, which waits no longer than `at_most`.
    pub fn turn(&mut self, at_most: Option<Duration>) -> Result<(), Outcome> {
        if !self.look(at_most)? {
            return Ok(());
        }
        let Parked { poller, dispatch } = &*self.parked;
        self.has_batch = false;
        poller.act(dispatch)?;
        self.conclude()
    }

    /// Runs the first half of a turn: waits no longer than `at_most`, and reads. Returns whether there is something to
    /// dispatch, which the next turn does first.
    pub fn look(&mut self, at_most: Option<Duration>) -> Result<bool, Outcome> {
        let Parked { poller, dispatch } = &*self.parked;
        if self.has_ended {
            poller.turn_for_guests(dispatch, at_most)?;
        } else if !self.has_batch {
            self.has_batch = poller.gather(dispatch, at_most)?;
            if !self.has_batch {
                self.conclude()?;
            }
        }
        Ok(self.has_batch)
    }

    fn conclude(&mut self) -> Result<(), Outcome> {
        let Parked { poller, dispatch } = &*self.parked;
        if let Some(halted) = poller.take_failure() {
            return Err(Outcome::Halted(halted));
        }
        if poller.is_done() {
            self.has_ended = true;
            poller.wind_up(dispatch)?;
            self.tell_end();
        }
        Ok(())
    }

    /// Runs turns until nothing is left to do before an event arrives or time passes, at most `most` turns. Returns
    /// false if that was not enough.
    pub fn settle(&mut self, most: usize) -> Result<bool, Outcome> {
        for _ in 0..most {
            self.turn(Some(Duration::ZERO))?;
            if self.has_ended || self.parked.poller.is_idle() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn tell_end(&mut self) {
        if let Some(reactor) = self.reactor.take() {
            reactor.abandon(1);
        }
    }
}

impl<D: Dispatch> Drop for Stepper<D> {
    fn drop(&mut self) {
        if self.reactor.as_ref().is_some_and(|reactor| reactor.check_process().is_ok()) {
            self.tell_end();
        }
    }
}

fn unpark<D>(slot: &Mutex<Option<Box<Parked<D>>>>) -> Option<Box<Parked<D>>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
