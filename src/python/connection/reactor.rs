//! `goev.Reactor`.
//!
//! Longer than other files, because Python's methods of one class must be in one `#[pymethods]` block.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType, PyWeakrefReference};

use crate::error::Error;
use crate::options::ReactorOptions;
use crate::poller::Poller;
use crate::python::callbacks::{CALLBACKS, check_coroutines};
use crate::python::connection::Connection;
use crate::python::connection::adopt::{adopt, next_turn};
use crate::python::connection::at_exit;
use crate::python::connection::event_handler::{CALLBACKS_OF_DESCRIPTORS, Descriptors, EventHandler, Place, interests};
use crate::python::connection::stats::stats_of;
use crate::python::connection::stop_report::StopReport;
use crate::python::connection::timer::Timer;
use crate::python::contexts::Later;
use crate::python::dispatch::PyDispatch;
use crate::python::running::fairness::has_lock;
use crate::python::running::offload::{Recipient, run_in_executor, when_done};
use crate::python::running::signals::{StopSignals, WakeupFd};
use crate::python::running::stalls;
use crate::python::tables::{CALL_SOON, Caller, PyTask, Tables, Task, is_dispatching, with_current};
use crate::python::values::arguments::{
    callable, descriptor, integer, nanoseconds, optional_integer, period, seconds, size,
};
use crate::python::values::errors::of_outcome;
use crate::reactor::{Outcome, Patience, Reactor as CoreReactor, Stepper};
use crate::shared::handle::{PollerHandle, Waiting};
use crate::sources::descriptor::Interests;

/// A fixed number of pollers, each an OS thread with an epoll instance, started and stopped together. It runs once.
///
/// Args:
///     pollers: the number of pollers, 1 to 1,024. ``None`` means 1 with the interpreter lock. Without it (3.13t, 3.14t) it
///         means one for each CPU that the process may use, since pollers run Python side by side there.
///     name: prefix of the names of the pollers' threads; a dash and a number follow. Linux shows 15 bytes.
///     cpus: the CPUs to run on, one after the other: poller ``i`` on ``cpus[i % len(cpus)]`` and nowhere else
///         (sched_setaffinity(2)). ``None`` leaves the choice to the system.
///     read_buffer_size: bytes that one batch may read, 16 KiB to 64 MiB; each poller has such a buffer.
///     batch_calls: callbacks after which a batch ends and is flushed, 1 to 65,536.
///     batch_time: seconds of callbacks after which a batch ends and is flushed.
///     handshakes_per_batch: the most steps of TLS handshakes in one batch, 1 to 65,536. A step takes about 0.2 ms, so a
///         storm of new connections does not hold up those that are open.
///     timer_capacity: timers to reserve memory for in each poller, 0 to 100 million.
///     stall_warning: seconds after which a running callback is logged with its peer and its Python stack (logger
///         ``goev.stalls``), once, while it runs, by a thread that needs no interpreter lock; at least 0.001. ``None``
///         means never.
///     slow_callback: seconds, more than 0; a callback that returned after longer is logged with its peer (logger
///         ``goev.slow``), at most once a second for each poller. ``None`` means never.
///     measure: whether the pollers keep histograms of times, which ``stats()`` returns: of callbacks, of the wait before
///         they begin, of HTTP requests.
///     asyncio: whether each poller's thread runs an event loop of asyncio, which callbacks with ``async def`` need
///         (``goev.asyncio``).
///
/// As a context manager it stops and joins at the end of the block; it does not start by itself.
///
/// Go: ``NewReactor``.
#[pyclass(frozen, weakref, module = "goev")]
pub struct Reactor {
    core: Arc<CoreReactor<PyDispatch>>,
    descriptors: Arc<Descriptors>,
    /// Set when it begins to run or is stopped, always attached: from then on the garbage collector does not look at what
    /// it holds. The collector looks twice, and must see the same.
    is_in_use: AtomicBool,
    /// Whether event loops of asyncio drive its pollers.
    has_loops: bool,
}

impl Reactor {
    fn new_with(core: Arc<CoreReactor<PyDispatch>>, descriptors: Arc<Descriptors>) -> Self {
        Self { core, descriptors, is_in_use: AtomicBool::new(false), has_loops: false }
    }

    /// Refuses a handler class with coroutines, unless event loops run them.
    pub fn check_class(&self, class: &Bound<'_, PyType>, callbacks: &[&str]) -> PyResult<()> {
        check_coroutines(class, callbacks, self.has_loops)
    }

    /// Whether it holds what it will run with, in this process.
    fn is_waiting(&self) -> bool {
        !self.is_in_use.load(Ordering::Relaxed) && self.core.check_process().is_ok()
    }

    /// Waits until every poller has ended. Detaches only between the handlers of signals, which may switch greenlets.
    fn join_all(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<()> {
        let patience = Patience::new(timeout);
        loop {
            match py.detach(|| self.core.join_briefly(&patience)) {
                Some(result) => return result.map_err(of_outcome),
                None => py.check_signals()?,
            }
        }
    }

    fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        self.core.each_parked(|parked| parked.dispatch.tables().show(see));
        let mut seen = Vec::new();
        for handle in self.core.handles() {
            handle.each_waiting(&mut |waiting| match waiting {
                Waiting::Task(task) => {
                    if let Some(task) = task.downcast_ref::<PyTask>() {
                        task.show(see);
                    }
                }
                Waiting::Acceptor(acceptor) => {
                    let is_new = !seen.contains(&Arc::as_ptr(acceptor));
                    seen.push(Arc::as_ptr(acceptor));
                    if let Some(factory) = acceptor.factory.downcast_ref::<Py<PyAny>>().filter(|_| is_new) {
                        see(factory);
                    }
                }
            });
        }
    }

    fn prepare_watchdog(&self, py: Python<'_>) {
        if self.core.has_watchdog() {
            stalls::prepare(py);
        }
    }

    /// The pollers of a reactor that may still get work: until the grace of a stop is over.
    pub fn open_handles(&self) -> PyResult<&[Arc<PollerHandle>]> {
        self.core.check_process()?;
        if self.core.has_ended() {
            return Err(Error::stopped().into());
        }
        Ok(self.core.handles())
    }

    /// The pollers of a reactor that may still get new sources of events. A stop closes those, and takes no others.
    pub fn handles_for_sources(&self) -> PyResult<&[Arc<PollerHandle>]> {
        if self.core.is_stopping() {
            return Err(Error::stopped().into());
        }
        self.open_handles()
    }

    /// The poller for a new connection: inside a callback the same poller, otherwise one poller after the other.
    pub fn next_in_turn(&self, turn: impl FnOnce() -> usize) -> PyResult<Arc<PollerHandle>> {
        let handles = self.open_handles()?;
        let next = || {
            let (before, behind) = handles.split_at(turn() % handles.len());
            first_open(behind.iter().chain(before))
        };
        Ok(self.current(handles).or_else(next).ok_or_else(Error::stopped)?)
    }

    /// The time on the pollers' clock; `None` if the reactor does not run.
    pub fn now_if_running(&self) -> Option<u64> {
        self.core.is_running().then(|| self.core.now())
    }

    /// A reactor of one poller that runs turns only when the caller asks; its clock shows `time`.
    pub fn by_hand(py: Python<'_>, time: Arc<AtomicU64>) -> PyResult<(Py<Self>, Stepper<PyDispatch>)> {
        let descriptors = Arc::new(Descriptors::default());
        // Such a clock stands still during a callback, so there is no stall to detect.
        let options = ReactorOptions { stall_warning: None, ..ReactorOptions::default() };
        let make = |handle: &Arc<PollerHandle>| PyDispatch::by_hand(py, handle, &descriptors);
        let core = CoreReactor::by_hand(time, &options, make)?;
        let stepper = core.stepped()?;
        let reactor = Bound::new(py, Self::new_with(core, descriptors))?;
        reactor.get().is_in_use.store(true, Ordering::Relaxed);
        stepper.parked().dispatch.tables().set_reactor(PyWeakrefReference::new(&reactor)?.unbind());
        Ok((reactor.unbind(), stepper))
    }

    /// Has its only poller run turn by turn, by a loop on the thread that holds the result.
    pub fn stepped(slf: &Bound<'_, Self>) -> PyResult<Stepper<PyDispatch>> {
        let this = slf.get();
        this.core.check_process()?;
        if !this.has_loops {
            return Err(Error::state("a loop drives a Reactor(asyncio=True) [GOEV109]".into()).into());
        }
        Self::introduce(slf)?;
        this.prepare_watchdog(slf.py());
        this.is_in_use.store(true, Ordering::Relaxed);
        Ok(slf.py().detach(|| this.core.stepped())?)
    }

    /// The reactor below.
    pub fn core(&self) -> &Arc<CoreReactor<PyDispatch>> {
        &self.core
    }

    fn current(&self, handles: &[Arc<PollerHandle>]) -> Option<Arc<PollerHandle>> {
        let current = with_current(|poller, _| {
            poller.bind_current();
            poller.handle().clone()
        });
        current.filter(|current| handles.iter().any(|handle| Arc::ptr_eq(handle, current)))
    }

    /// Calls `work` with a poller that belongs to this thread: the one that is dispatching on it, or poller 0 before
    /// the reactor runs. Returns `None` in any other case.
    fn on_own_poller<R>(&self, work: impl FnOnce(&Poller, &Tables) -> R) -> Option<R> {
        let mut work = Some(work);
        let mut run = |poller: &Poller, tables: &Tables| work.take().map(|work| work(poller, tables));
        let in_callback = with_current(|poller, tables| {
            let ours = self.core.handles().iter().any(|handle| Arc::ptr_eq(handle, poller.handle()));
            poller.bind_current();
            if ours { run(poller, tables) } else { None }
        });
        if let Some(result) = in_callback.flatten() {
            return Some(result);
        }
        self.core.with_parked(0, |parked| run(&parked.poller, parked.dispatch.tables())).flatten()
    }

    /// The poller that gets a call from this thread.
    pub fn nearest(&self) -> PyResult<Arc<PollerHandle>> {
        let handles = self.open_handles()?;
        Ok(self.current(handles).or_else(|| first_open(handles.iter())).ok_or_else(Error::stopped)?)
    }

    fn find(&self, fd: RawFd) -> PyResult<Place> {
        let missing = || std::io::Error::from_raw_os_error(libc::ENOENT);
        let place = self.descriptors.get(fd);
        Ok(place.ok_or_else(|| Error::io(format!("descriptor {fd} was not added"))(missing()))?)
    }

    fn change(&self, fd: RawFd, method: &'static str, change: impl Fn(Interests) -> Interests) -> PyResult<()> {
        self.open_handles()?;
        let changed = self.on_own_poller(|poller, _| -> PyResult<()> {
            let mut place = self.find(fd)?;
            if place.poller != poller.handle().index {
                return Err(Error::wrong_thread(method).into());
            }
            place.interests = change(place.interests);
            poller.set_interests(place.token, place.interests)?;
            if place.interests.is_empty() {
                self.descriptors.remove(place.token, place.poller);
            } else {
                self.descriptors.put(fd, place);
            }
            Ok(())
        });
        changed.unwrap_or_else(|| Err(Error::wrong_thread(method).into()))
    }

    /// Gives the callbacks a reference to this Python object. The reference is weak, because this object holds the
    /// pollers.
    fn introduce(slf: &Bound<'_, Self>) -> PyResult<()> {
        let weak = PyWeakrefReference::new(slf)?;
        for index in 0..slf.get().core.handles().len() {
            let weak = weak.clone().unbind();
            slf.get().core.with_parked(index, |parked| parked.dispatch.tables().set_reactor(weak));
        }
        Ok(())
    }
}

/// The first poller that has not ended. During a stop, one without connections ends before the others.
fn first_open<'a>(mut handles: impl Iterator<Item = &'a Arc<PollerHandle>>) -> Option<Arc<PollerHandle>> {
    handles.find(|handle| handle.is_open()).cloned()
}

/// A call of `schedule` from another thread.
struct Schedule {
    deadline: u64,
    every: u64,
    callback: Later,
    timer: Py<Timer>,
}

impl Task for Schedule {
    fn run(self: Box<Self>, _py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        let (tables, Self { deadline, every, callback, timer }) = (caller.tables(), *self);
        // Without an owner, setting a timer cannot fail.
        let Ok(id) = tables.set_timer(poller, deadline, every, None, callback) else { return };
        if !timer.get().is_wanted_as(id) {
            tables.cancel_timer(poller, id);
        }
    }
}

/// A call of `cache_set`, for one poller.
struct CacheSet {
    key: Py<PyAny>,
    value: Py<PyAny>,
}

impl Task for CacheSet {
    fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        see(&self.key);
        see(&self.value);
    }

    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        if let Err(error) = caller.tables().set_cached(py, &self.key, &self.value) {
            caller.report(py, poller, self.key.bind(py), "cache_set", error);
        }
    }
}

/// The useful number of pollers: one under the interpreter lock, because callbacks run one at a time.
fn default_pollers(py: Python<'_>) -> i64 {
    if has_lock(py) { 1 } else { std::thread::available_parallelism().map_or(1, |count| count.get() as i64) }
}

#[pymethods]
impl Reactor {
    #[new]
    #[pyo3(
        signature = (
            pollers = None, *, name = "goev-poller", cpus = None, read_buffer_size = 524288, batch_calls = 256,
            batch_time = 0.001, handshakes_per_batch = 4, timer_capacity = 0, stall_warning = Some(0.1),
            slow_callback = None, measure = false, asyncio = false,
        ),
        text_signature = "(pollers=None, *, name='goev-poller', cpus=None, read_buffer_size=524288, batch_calls=256, \
            batch_time=0.001, handshakes_per_batch=4, timer_capacity=0, stall_warning=0.1, slow_callback=None, measure=False, \
            asyncio=False)"
    )]
    #[allow(clippy::too_many_arguments, reason = "keyword-only in Python, where it is the natural form")]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = optional_integer)] pollers: Option<i64>,
        name: &str,
        cpus: Option<Vec<i64>>,
        #[pyo3(from_py_with = integer)] read_buffer_size: i64,
        #[pyo3(from_py_with = integer)] batch_calls: i64,
        batch_time: f64,
        #[pyo3(from_py_with = integer)] handshakes_per_batch: i64,
        #[pyo3(from_py_with = integer)] timer_capacity: i64,
        stall_warning: Option<f64>,
        slow_callback: Option<f64>,
        measure: bool,
        asyncio: bool,
    ) -> PyResult<Self> {
        let pollers = pollers.unwrap_or_else(|| default_pollers(py));
        let pollers = usize::try_from(pollers).map_err(|_| {
            Error::argument(format!("pollers must be from 1 to {}, not {pollers}", crate::reactor::MAX_POLLERS))
        })?;
        let descriptors = Arc::new(Descriptors::default());
        let cpus = cpus.map(|cpus| cpus.into_iter().map(|cpu| size("cpus", cpu)).collect()).transpose()?;
        let options = ReactorOptions {
            name: name.into(),
            cpus,
            read_buffer_size: size("read_buffer_size", read_buffer_size)?,
            batch_calls: size("batch_calls", batch_calls)?,
            batch_time: seconds("batch_time", batch_time)?,
            handshakes_per_batch: size("handshakes_per_batch", handshakes_per_batch)?,
            timer_capacity: size("timer_capacity", timer_capacity)?,
            stall_warning: stall_warning.map(|limit| seconds("stall_warning", limit)).transpose()?,
            slow_callback: slow_callback.map(|limit| seconds("slow_callback", limit)).transpose()?,
            measure,
        };
        let driver = asyncio.then(|| py.import("goev.asyncio.loop")?.getattr("drive")).transpose()?;
        let driver = driver.map(|driver| Arc::new(driver.unbind()));
        let make = |handle: &Arc<PollerHandle>| PyDispatch::new(py, handle, &descriptors, driver.as_ref());
        let core = CoreReactor::new(pollers, &options, make)?;
        Ok(Self { has_loops: asyncio, ..Self::new_with(core, descriptors) })
    }

    /// The number of pollers.
    #[getter]
    fn pollers(&self) -> usize {
        self.core.handles().len()
    }

    /// Whether the pollers run.
    #[getter]
    fn running(&self) -> PyResult<bool> {
        self.core.check_process()?;
        Ok(self.core.is_running())
    }

    /// Whether event loops of asyncio drive the pollers.
    #[getter]
    fn _has_loops(&self) -> bool {
        self.has_loops
    }

    /// Run until stopped; the calling thread is poller 0.
    ///
    /// On the main thread SIGINT and SIGTERM stop it: the first one within ``grace`` seconds, as ``stop(grace)`` does, a
    /// second one at once. A handler that the program has set for one of them is left alone; with ``signals=False``
    /// both are left alone. Then an exception from a handler, for example ``KeyboardInterrupt``, stops the reactor and
    /// comes out here. An exception from a callback that is no ``Exception`` does the same. On other threads signals
    /// are left alone.
    ///
    /// Returns at once when ``stop()`` was called before. Raises ``RuntimeError`` when it has run before or when
    /// called inside a callback, ``StopTimeout`` when a callback of another poller does not return after a stop.
    ///
    /// Go: ``Run``.
    #[pyo3(signature = (*, signals = true, grace = 5.0))]
    fn run(slf: &Bound<'_, Self>, signals: bool, grace: f64) -> PyResult<StopReport> {
        let grace = seconds("grace", grace)?;
        let (py, core) = (slf.py(), &slf.get().core);
        core.check_process()?;
        if is_dispatching() {
            return Err(Error::state("run() was called inside a callback [GOEV106]".into()).into());
        }
        Self::introduce(slf)?;
        slf.get().prepare_watchdog(py);
        at_exit::stop(core);
        let stopping = if signals { StopSignals::set(py, core, grace)? } else { StopSignals::default() };
        slf.get().is_in_use.store(true, Ordering::Relaxed);
        let mut wakeup = None;
        let prepare = |poller: &Poller| {
            let set = WakeupFd::set(py, poller).map(|set| wakeup = Some(set));
            // A signal that came before the descriptor was set has not woken the poller.
            set.and_then(|()| py.check_signals()).map_err(|error| Outcome::Halted(Box::new(error)))
        };
        let pollers = py.detach(|| core.begin()).map_err(Outcome::Error);
        let result = pollers.and_then(|pollers| core.lead(pollers, prepare));
        let result = result.map_err(of_outcome).and_then(|()| slf.get().join_all(py, None));
        let restored = wakeup.map_or(Ok(()), |wakeup| wakeup.restore(py)).and(stopping.restore(py));
        result?;
        restored?;
        Ok(StopReport::of(core))
    }

    /// Run in new threads. They end with the process, and do not keep the program alive.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = &slf.get().core;
        core.check_process()?;
        Self::introduce(slf)?;
        slf.get().prepare_watchdog(slf.py());
        slf.get().is_in_use.store(true, Ordering::Relaxed);
        slf.py().detach(|| core.start())?;
        at_exit::stop(core);
        Ok(())
    }

    /// Stop: listeners close at once; each connection gets ``on_stopping``, or closes when its output is sent. After
    /// ``grace`` seconds the remaining connections are aborted. With ``grace=0`` no connection gets ``on_stopping``.
    /// Every ``on_close`` runs. From any thread, a callback or a signal handler; twice is harmless, and the shorter
    /// grace counts. A reactor that was stopped before it ran calls nothing.
    ///
    /// Until the grace is over, callbacks may use the reactor as before: ``connect``, ``call_soon``, ``schedule``,
    /// ``run_in_executor``, ``cache_set``. A connection that is opened meanwhile gets ``on_stopping`` when the last of the
    /// others has ended, and without any connection ``connect`` is refused. New acceptors, datagram sockets and
    /// descriptors are refused.
    ///
    /// ``drain`` is a part of ``grace``: for so many seconds an HTTP connection without its own ``on_stopping`` stays open
    /// for one more request, and the answer says ``Connection: close``. A client that has just sent a request gets its
    /// answer. Sockets that were accepted before the stop are served as well. Connections that are left then close.
    #[pyo3(signature = (grace = 5.0, *, drain = 0.0))]
    fn stop(&self, py: Python<'_>, grace: f64, drain: f64) -> PyResult<()> {
        let (grace, drain) = (seconds("grace", grace)?, seconds("drain", drain)?);
        self.core.check_process()?;
        self.is_in_use.store(true, Ordering::Relaxed);
        py.detach(|| self.core.stop_draining(grace, drain));
        Ok(())
    }

    /// Wait until every poller has ended, at most ``timeout`` seconds; return how the connections ended.
    ///
    /// Raises the exception that stopped the reactor, if it was not ``stop()``; ``StopTimeout`` when time is up, or when a
    /// callback has not returned a second after the grace of a stop.
    #[pyo3(signature = (timeout = None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<StopReport> {
        let timeout = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
        self.core.check_process()?;
        if is_dispatching() {
            return Err(Error::state("join() was called inside a callback [GOEV106]".into()).into());
        }
        self.join_all(py, timeout)?;
        Ok(StopReport::of(&self.core))
    }

    /// Call ``fn(*args)`` on a poller: inside a callback on the same poller, otherwise on poller 0. From any thread.
    ///
    /// Calls of one thread keep their order. An exception is logged.
    #[pyo3(signature = (r#fn, *args))]
    fn call_soon(&self, r#fn: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        callable("fn", r#fn)?;
        let task =
            PyTask::Call { name: CALL_SOON, owner: None, function: Later::new(r#fn)?, args: args.clone().unbind() };
        let posted = self.nearest()?.post_task(Box::new(task));
        posted.map_err(|_| Error::stopped().into())
    }

    /// Calls ``fn(index)`` on each poller that has not ended, with its number. From any thread.
    fn _call_on_each(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<()> {
        callable("fn", r#fn)?;
        for handle in self.open_handles()? {
            let args = (handle.index,).into_pyobject(r#fn.py())?.unbind();
            let task = PyTask::Call { name: CALL_SOON, owner: None, function: Later::new(r#fn)?, args };
            // A poller that has ended needs no call.
            drop(handle.post_task(Box::new(task)));
        }
        Ok(())
    }

    /// Call ``callback()`` after ``delay`` seconds: inside a callback on the same poller, otherwise on poller 0.
    ///
    /// ``delay`` is in seconds, >= 0: never early, on an idle reactor at most 2 ms late. ``every`` is the time between
    /// later calls in seconds, counted from deadline to deadline; missed deadlines make one call. Returning ``False``
    /// ends a repeating timer; an exception also ends it, and is logged. From any thread, before the reactor runs or
    /// while it does.
    ///
    /// Go: ``ScheduleTimer``.
    #[pyo3(signature = (delay, callback, *, every = None))]
    fn schedule(
        &self,
        py: Python<'_>,
        delay: f64,
        callback: &Bound<'_, PyAny>,
        every: Option<f64>,
    ) -> PyResult<Py<Timer>> {
        let (delay, every) = (nanoseconds("delay", delay)?, period(every)?);
        callable("callback", callback)?;
        self.core.check_process()?;
        let (deadline, mut callback) = (self.core.now() + delay, Some(Later::of_timer(callback, every)?));
        let set = self.on_own_poller(|poller, tables| {
            let id = tables.set_timer(poller, deadline, every, None, callback.take()?);
            Some((poller.handle().clone(), id))
        });
        if let Some((poller, id)) = set.flatten() {
            // Made outside of the closure: making an object may run other code, which may need the lock of a parked
            // poller.
            return Timer::new(py, poller, id?, delay);
        }
        let poller = self.nearest()?;
        let timer = Timer::posted(py, poller.clone(), delay)?;
        if let Some(callback) = callback {
            let task = Schedule { deadline, every, callback, timer: timer.clone_ref(py) };
            poller.post_task(PyTask::other(task)).map_err(|_| Error::stopped())?;
        }
        Ok(timer)
    }

    /// Run ``fn(*args)`` in ``executor`` and call ``then(future)`` on a poller when it is done: inside a callback on
    /// the same poller, otherwise on poller 0.
    ///
    /// ``executor`` is a ``concurrent.futures.Executor``; ``None`` means goev's own thread pool. ``then`` gets the finished
    /// future: ``future.result()`` returns the result of ``fn`` or raises its exception. If the reactor ends first,
    /// ``then`` is not called. From any thread. Returns the future.
    #[pyo3(signature = (executor, r#fn, *args, then))]
    fn run_in_executor<'py>(
        &self,
        executor: Option<&Bound<'py, PyAny>>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        then: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        run_in_executor(executor, r#fn, args, then, Recipient::Poller(self.nearest()?))
    }

    /// Run ``fn(*args)`` in ``executor``, as ``run_in_executor`` does, and wait for its result.
    ///
    /// For coroutines on an event loop that drives a poller of this reactor (``goev.asyncio``). Raises what ``fn`` raises;
    /// ``WrongThread``: another event loop runs here.
    #[pyo3(signature = (executor, r#fn, *args))]
    fn run_in_executor_async<'py>(
        slf: &Bound<'py, Self>,
        executor: Option<&Bound<'py, PyAny>>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        callable("fn", r#fn)?;
        let awaiting = slf.py().import("goev.asyncio.awaiting")?;
        awaiting.call_method1("run_in_executor", (slf, executor, r#fn, args))
    }

    /// Calls ``then(future)`` when the future is done, on the poller that ``run_in_executor`` would use.
    fn _when_done(&self, future: &Bound<'_, PyAny>, then: &Bound<'_, PyAny>) -> PyResult<()> {
        when_done(future, Later::new(then)?, Recipient::Poller(self.nearest()?))
    }

    /// Set ``key`` to ``value`` in the cache of every poller, where ``connection.cache`` reads it without a lock.
    ///
    /// From any thread; each poller sees the values in the order set.
    ///
    /// Go: ``PollSyncOpt`` with ``PollSyncCache``.
    fn cache_set(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        key.hash()?;
        let mut is_set = false;
        for handle in self.open_handles()? {
            let task = CacheSet { key: key.clone().unbind(), value: value.clone().unbind() };
            // During a stop, a poller without connections has ended already.
            is_set |= handle.post_task(PyTask::other(task)).is_ok();
        }
        if is_set { Ok(()) } else { Err(Error::stopped().into()) }
    }

    /// The counters of each poller: a list of dicts. Reading them costs the pollers nothing.
    ///
    /// ``accepted`` + ``connected`` + ``moved_here`` is ``open`` + ``closed`` + ``moved_away`` at all times; a connection on its
    /// way from one poller to another is in none. ``closed`` is the sum of ``closed_by``.
    /// That one counts by reason: ``in_order``, ``failed`` (a system call on the socket), ``aborted``, ``raised`` (a
    /// callback), ``framing`` (the input is no message), ``rejected`` (without a handler), and the limits by their
    /// names. ``refused`` counts peers that were closed at once because of a limit of the acceptor. ``proxy_refused``
    /// counts those that were no trusted proxy or sent no PROXY header: ``untrusted``, ``timeout``, ``cut`` (the peer
    /// left), ``malformed``. ``handshakes_failed`` counts TLS handshakes of accepted sockets that failed, by the kind of
    /// reason: ``cut`` (the peer left), ``timeout``, ``certificate``, ``incompatible`` (no version, cipher or protocol in
    /// common), ``protocol`` (no TLS, or against its rules). ``bytes_in`` and ``bytes_out`` count the handlers' bytes, of
    /// TLS too. Times are seconds:
    /// ``python_time`` in callbacks, ``attach_wait`` until they could begin. ``batch_sizes`` maps the least size of
    /// each class to the number of batches with so many callbacks. ``stalls`` counts callbacks that ran for longer
    /// than ``stall_warning``. ``mailbox`` is the number of messages from other threads that the poller has not read.
    /// ``answers`` counts HTTP answers that were given whole, by the class of their status (``"2xx"``; ``"other"`` is none of
    /// the five), ``websockets`` those that have opened. ``handshakes`` counts TLS handshakes of accepted sockets that
    /// succeeded, ``handshakes_resumed`` those of them that resumed a session. ``group_sent`` counts the messages of groups
    /// that were queued to a member, ``group_skipped`` those that a member did not get because it was behind.
    /// ``slow_callbacks`` counts callbacks that ran for longer than ``slow_callback``. ``histograms`` is empty without
    /// ``measure``, else it has ``callback_seconds``, ``attach_seconds`` and ``answer_seconds``: each a dict of ``classes``,
    /// pairs of a limit in seconds and the number of times up to it and above the limit before, and ``sum`` in seconds. The
    /// time of an answer is from the callback that got the request until the answer is whole and its turn has come.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.core.check_process()?;
        let all = PyList::empty(py);
        for handle in self.core.handles() {
            all.append(stats_of(py, handle)?)?;
        }
        Ok(all)
    }

    /// Make ``handler`` the handler of a connected socket, as an acceptor would: ``on_open`` follows, never inside
    /// this call.
    ///
    /// Args:
    ///     handler: an unused ``Connection``; a ``goev.websocket.Connection`` waits for the client's handshake.
    ///     sock: a connected TCP or Unix stream socket: one end of ``socket.socketpair()``, an inherited or received
    ///         one. Also its descriptor. goev works on a copy that shares its mode, so the socket becomes
    ///         non-blocking; close yours at any time. The end of the connection shuts the socket down, whether yours
    ///         is open or not.
    ///     **options: the keyword arguments of ``Connector``, without ``local_address`` and ``proxy_protocol``.
    ///
    /// Inside a callback of the reactor the connection is made on the same poller, otherwise on each poller in turn. May be
    /// called from any thread, before the reactor runs or while it does. ``on_connect_fail(error)`` comes instead of
    /// ``on_open`` when the reactor stops meanwhile. ``stats()`` counts the connection as accepted.
    ///
    /// Raises:
    ///     ValueError, TypeError: a wrong argument: the socket is not connected, listens (``Acceptor`` takes those), is for
    ///         datagrams (``Datagram.bind``), or belongs to ``ssl``; the handler has been used.
    ///     OSError: the connection has ended already; ``errno`` is kept.
    ///     RuntimeError: the reactor has stopped.
    #[pyo3(
        signature = (handler, sock, **options),
        text_signature = "($self, handler, sock, *, nodelay=True, receive_buffer_size=None, send_buffer_size=None, \
            keepalive=(60, 15, 4), device=None, max_input=1048576, high_water=65536, low_water=16384, auto_pause=True, \
            max_output=67108864, linger_timeout=2.0, handshake_timeout=10.0, idle_timeout=None, receive_timeout=None, \
            first_byte_timeout=None, write_timeout=60.0, lifetime=None, min_rate=None, min_write_rate=None)"
    )]
    fn adopt(
        &self,
        handler: &Bound<'_, Connection>,
        sock: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.check_class(&handler.get_type(), &CALLBACKS)?;
        adopt(&self.next_in_turn(next_turn)?, handler, sock, options)
    }

    /// Watch a descriptor, and call ``handler`` when it is ready.
    ///
    /// Args:
    ///     handler: an unused ``EventHandler``.
    ///     fd: a descriptor, or an object with ``fileno()``; it stays yours.
    ///     events: ``EV_IN``, ``EV_OUT`` or both, with ``EV_ET`` for edge-triggered.
    ///
    /// Before the reactor runs from any thread, then on poller 0. Inside a callback on the same poller. Any other call
    /// raises ``WrongThread``. Raises ``OSError`` when the descriptor is closed, was added already, or is of a kind
    /// that epoll does not take (a regular file).
    ///
    /// Go: ``AddEvHandler``.
    fn add(
        &self,
        handler: &Bound<'_, EventHandler>,
        fd: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = integer)] events: i64,
    ) -> PyResult<()> {
        let (fd, interests) = (descriptor("fd", fd)?, interests(events)?);
        self.open_handles()?;
        self.check_class(&handler.get_type(), &CALLBACKS_OF_DESCRIPTORS)?;
        handler.get().check_unused()?;
        let added = self.on_own_poller(|poller, tables| -> PyResult<()> {
            let token = poller.add_descriptor(fd, interests)?;
            handler.get().bind_to(poller.handle().clone(), fd)?;
            tables.put_handler(token, handler.clone().into_any().unbind(), None);
            self.descriptors.put(fd, Place { poller: poller.handle().index, token, interests });
            Ok(())
        });
        added.unwrap_or_else(|| Err(Error::wrong_thread("add()").into()))
    }

    /// Watch ``fd``, which was added before, for more ``events``. Inside a callback of its poller.
    ///
    /// Raises ``OSError`` for a descriptor that was not added, ``ValueError`` for wrong ``events``.
    ///
    /// Go: ``AppendEvent``.
    fn append_events(&self, fd: &Bound<'_, PyAny>, #[pyo3(from_py_with = integer)] events: i64) -> PyResult<()> {
        let (fd, more) = (descriptor("fd", fd)?, interests(events)?);
        self.change(fd, "append_events()", |now| Interests {
            readable: now.readable || more.readable,
            writable: now.writable || more.writable,
            edge: now.edge || more.edge,
        })
    }

    /// Watch ``fd`` no more for ``events``. When none is left the handler is removed and gets ``on_close(None)``.
    ///
    /// Raises the same errors as ``append_events``.
    ///
    /// Go: ``RemoveEvent``.
    fn remove_events(&self, fd: &Bound<'_, PyAny>, #[pyo3(from_py_with = integer)] events: i64) -> PyResult<()> {
        let (fd, less) = (descriptor("fd", fd)?, interests(events)?);
        self.change(fd, "remove_events()", |now| Interests {
            readable: now.readable && !less.readable,
            writable: now.writable && !less.writable,
            edge: now.edge && !less.edge,
        })
    }

    /// A reactor that never ran may hold an object that refers to it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        if self.is_waiting() {
            self.show(&mut |object| {
                if result.is_ok() {
                    result = visit.call(object);
                }
            });
        }
        result
    }

    fn __clear__(&self) {
        if self.is_waiting() {
            self.is_in_use.store(true, Ordering::Relaxed);
            self.core.stop(Duration::ZERO);
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, error, traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (kind, error, traceback);
        self.stop(py, 5.0, 0.0)?;
        self.join(py, None)?;
        Ok(())
    }
}
