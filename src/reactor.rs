//! A fixed number of pollers as threads: started, stopped and joined together.
//!
//! Before a reactor runs, its pollers are parked here and whoever holds the lock may set timers and add descriptors.
//! From `run` or `start` on each poller belongs to its thread, and all others go through its mailbox. A reactor runs
//! once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::error::{Error, Foreign};
use crate::fork;
use crate::heap;
use crate::options::{ReactorOptions, within};
use crate::poller::{Failure, Poller};
use crate::remote::{Message, PollerHandle};
use crate::resolver::Resolver;
use crate::signal::BlockedSignals;
use crate::steering;
use crate::watchdog::Watchdog;

/// The most pollers a reactor may have.
pub const MAX_POLLERS: usize = 1024;

/// How long after the deadline of a stop a poller may take for its last callbacks before it counts as stuck.
const STOP_MARGIN: Duration = Duration::from_secs(1);

/// A poller that does not run yet, with its dispatch.
pub struct Parked<D> {
    /// The poller.
    pub poller: Poller,
    /// What will call its handlers.
    pub dispatch: D,
}

/// Several pollers.
pub struct Reactor<D: Dispatch> {
    name: String,
    handles: Vec<Arc<PollerHandle>>,
    parked: Vec<Mutex<Option<Parked<D>>>>,
    life: Mutex<Life>,
    changed: Condvar,
    clock: Clock,
    birth: u32,
    has_watchdog: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ready,
    /// Stopped before it ran: it will run for no time at all.
    StoppedEarly,
    Running,
    Stopped,
}

struct Life {
    status: Status,
    /// Pollers whose threads have not ended.
    running: usize,
    /// When everything should have ended, once a stop was asked for.
    deadline: Option<Instant>,
    /// Why it ended, if not by being asked to.
    failure: Option<Outcome>,
}

/// Why a reactor ended other than by being stopped.
pub enum Outcome {
    /// A fault of the reactor.
    Error(Error),
    /// What the dispatch halted it with.
    Halted(Foreign),
}

impl<D: Dispatch> Reactor<D> {
    /// A reactor of `pollers` pollers, each with the dispatch that `make` returns for it.
    pub fn new(
        pollers: usize,
        options: &ReactorOptions,
        mut make: impl FnMut(&Arc<PollerHandle>) -> D,
    ) -> Result<Arc<Self>, Error> {
        within("pollers", pollers, 1, MAX_POLLERS)?;
        options.validate(&steering::allowed_cpus().map_err(Error::io("cannot read the CPU affinity"))?)?;
        heap::keep_free_memory();
        let birth = fork::generation();
        let (clock, resolver) = (Clock::of_process(), Resolver::default());
        let mut handles = Vec::new();
        let mut parked = Vec::new();
        for index in 0..pollers {
            let poller = Poller::new(index, clock, resolver.clone(), options)
                .map_err(Error::io(format!("cannot open poller {index}")))?;
            handles.push(poller.handle().clone());
            let dispatch = make(poller.handle());
            parked.push(Mutex::new(Some(Parked { poller, dispatch })));
        }
        let life = Life { status: Status::Ready, running: 0, deadline: None, failure: None };
        let (name, life, changed) = (options.name.clone(), Mutex::new(life), Condvar::new());
        let has_watchdog = options.stall_warning.is_some();
        Ok(Arc::new(Self { name, handles, parked, life, changed, clock, birth, has_watchdog }))
    }

    /// The pollers, as other threads see them.
    pub fn handles(&self) -> &[Arc<PollerHandle>] {
        &self.handles
    }

    /// Nanoseconds on the clock of all pollers.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether its pollers run.
    pub fn is_running(&self) -> bool {
        self.lock().status == Status::Running
    }

    /// Whether it takes nothing more.
    pub fn is_stopped(&self) -> bool {
        let life = self.lock();
        life.status == Status::Stopped || life.deadline.is_some()
    }

    /// An error in a forked child, where the reactor is a copy that must not be touched.
    pub fn check_process(&self) -> Result<(), Error> {
        fork::check(self.birth, "reactor")
    }

    /// Whether callbacks that run for too long are reported.
    pub fn has_watchdog(&self) -> bool {
        self.has_watchdog
    }

    /// Works on poller `index` before the reactor runs; `None` once it does, or has ended.
    pub fn with_parked<R>(&self, index: usize, work: impl FnOnce(&Parked<D>) -> R) -> Option<R> {
        let parked = self.parked[index].lock().unwrap_or_else(PoisonError::into_inner);
        parked.as_ref().map(work)
    }

    /// Runs with the calling thread as poller 0; `before` is called on it just before, and `pause` now and then while it
    /// waits for the others at the end. Returns at once when a stop came first, so that a stop from elsewhere cannot
    /// come too early.
    pub fn run(
        self: &Arc<Self>,
        before: impl FnOnce(&Poller) -> Result<(), Outcome>,
        pause: &mut dyn FnMut() -> Result<(), Outcome>,
    ) -> Result<(), Outcome> {
        let mut parked = self.begin().map_err(Outcome::Error)?;
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
        self.drive(first)?;
        spawned.map_err(Outcome::Error)?;
        self.join(None, pause)
    }

    /// Runs in threads of its own.
    pub fn start(self: &Arc<Self>) -> Result<(), Error> {
        let parked = self.begin()?;
        self.spawn(parked, 0)
    }

    /// Asks all pollers to stop: listeners close at once, connections when their output is sent, or at the deadline.
    pub fn stop(&self, grace: Duration) {
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
                // Taken out first and then dropped: what it holds may call back when it goes.
                let poller = unpark(slot);
                drop(poller);
            } else {
                // A closed mailbox means that it has stopped.
                let _ = handle.post(Message::Stop { deadline, at_once: grace.is_zero() });
            }
        }
        self.changed.notify_all();
    }

    /// Waits until every poller has ended. `pause` is called now and then and may end the waiting with an error.
    ///
    /// After a stop it waits no longer than the grace and a second: then a callback has not returned.
    pub fn join(
        &self,
        timeout: Option<Duration>,
        pause: &mut dyn FnMut() -> Result<(), Outcome>,
    ) -> Result<(), Outcome> {
        let entered = Instant::now();
        let until = timeout.map(|timeout| entered + timeout);
        let mut life = self.lock();
        while life.running > 0 {
            let now = Instant::now();
            // Who asks late still waits for the length of the margin.
            let stuck = life.deadline.is_some_and(|deadline| now > deadline.max(entered + STOP_MARGIN));
            if stuck || until.is_some_and(|until| now > until) {
                let text = format!("{} of {} pollers have not stopped in time", life.running, self.handles.len());
                return Err(Outcome::Error(Error::StopTimeout(text)));
            }
            drop(life);
            pause()?;
            life = self.lock();
            if life.running > 0 {
                life = self
                    .changed
                    .wait_timeout(life, Duration::from_millis(20))
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(life, _)| life);
            }
        }
        life.failure.take().map_or(Ok(()), Err)
    }

    /// How many of the connections that were open when a stop began were closed in order since, and how many were not.
    pub fn stop_report(&self) -> (u64, u64) {
        let counters = self.handles.iter().map(|handle| &handle.counters);
        counters.fold((0, 0), |(in_order, aborted), counters| {
            (in_order + counters.stopped_in_order.get(), aborted + counters.stopped_aborted.get())
        })
    }

    fn begin(&self) -> Result<Vec<Parked<D>>, Error> {
        let mut life = self.lock();
        match life.status {
            Status::Ready => life.status = Status::Running,
            Status::StoppedEarly => {
                life.status = Status::Stopped;
                return Ok(Vec::new());
            }
            Status::Running => return Err(Error::State("the reactor is running already".into())),
            Status::Stopped => return Err(Error::State("the reactor has stopped; a reactor runs once".into())),
        }
        life.running = self.handles.len();
        drop(life);
        Ok(self.parked.iter().filter_map(unpark).collect())
    }

    fn spawn(self: &Arc<Self>, parked: Vec<Parked<D>>, first: usize) -> Result<(), Error> {
        let _blocked = BlockedSignals::new();
        self.watch();
        let mut left = parked.len();
        for (index, poller) in parked.into_iter().enumerate() {
            let reactor = self.clone();
            let name = format!("{}-{}", self.name, index + first);
            let spawned = thread::Builder::new().name(name).spawn(move || drop(reactor.drive(poller)));
            if let Err(error) = spawned {
                self.abandon(left);
                self.stop(Duration::ZERO);
                return Err(Error::io("cannot start the threads of the pollers")(error));
            }
            left -= 1;
        }
        Ok(())
    }

    /// Starts the watchdog. Without a thread for it there are no warnings, and nothing else is lost.
    fn watch(&self) {
        if self.has_watchdog
            && let Ok(watchdog) = Watchdog::new(self.handles.clone(), self.clock)
        {
            let watch = || watchdog.watch(D::stalled);
            drop(thread::Builder::new().name(format!("{}-watch", self.name)).spawn(watch));
        }
    }

    /// The life of one poller's thread. Whatever happens in it, it is counted as ended. An error in a forked child only:
    /// there nobody else can be told.
    fn drive(self: &Arc<Self>, parked: Parked<D>) -> Result<(), Outcome> {
        let mut result = Ok(());
        let lived = catch_unwind(AssertUnwindSafe(|| {
            parked.dispatch.on_thread(&mut || result = parked.poller.run(&parked.dispatch));
            drop(parked);
        }));
        let outcome = match (lived, result) {
            (Ok(()), Ok(()) | Err(Failure::Forked)) => None,
            (Ok(()), Err(Failure::Halted(foreign))) => Some(Outcome::Halted(foreign)),
            (Ok(()), Err(Failure::Io(error))) => Some(Outcome::Error(Error::io("a poller failed")(error))),
            (Err(panic), _) => Some(Outcome::Error(Error::State(format!("a poller panicked: {}", text_of(&*panic))))),
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
        // A panic while the lock is held cannot leave the fields at odds.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unpark<D>(slot: &Mutex<Option<Parked<D>>>) -> Option<Parked<D>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
