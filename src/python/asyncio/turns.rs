//! The selector of `goev.asyncio.EventLoop`: `select` runs turns of a poller, and the callbacks of the loop between them.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::error::Error;
use crate::poller::Parked;
use crate::python::asyncio::handle::{Arguments, Handle};
use crate::python::asyncio::lent::Lent;
use crate::python::asyncio::ready::{Ready, set_running};
use crate::python::asyncio::transports;
use crate::python::connection::reactor::Reactor;
use crate::python::contexts::copy_of_current;
use crate::python::dispatch::PyDispatch;
use crate::python::running::signals::{wake_by, wake_no_more};
use crate::python::tables::{Dispatching, is_dispatching, set_current};
use crate::python::values::errors::of_outcome;
use crate::python::waiting::Owner;
use crate::reactor::{Outcome, Reactor as CoreReactor, Stepper};
use crate::sources::guest::{Guest, Guests};
use crate::system::fork;
use crate::system::signal::SignalPipe;

/// The bits of `selectors.EVENT_READ` and `selectors.EVENT_WRITE`.
const READ: u8 = 1;
const WRITE: u8 = 2;

/// The longest wait for the callbacks of a reactor whose loop is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// The longest part of that wait.
const PART: Duration = Duration::from_millis(20);

/// Callbacks of the loop between two turns of the poller.
const MOST: usize = 256;

/// Rounds in which callbacks of the loop may go before those of handlers.
const MOST_ROUNDS: usize = 4;

/// The name of asyncio's own part of a turn, in stall warnings.
const GUEST: &&str = &"a callback or task of asyncio";

/// Turns of a poller, for the selector of an event loop.
#[pyclass(subclass, frozen, module = "goev._core")]
pub struct Turns {
    /// `None` while it runs a turn, and after the end.
    stepper: Mutex<Option<Stepper<PyDispatch>>>,
    core: Option<Arc<CoreReactor<PyDispatch>>>,
    /// The descriptors of the loop, and the pipe that wakes the poll for a signal just before the wait; `None` after the
    /// end.
    watched: Mutex<Option<Watched>>,
    /// The callbacks of the loop.
    ready: Arc<Ready>,
    /// Rounds for which the handlers' callbacks have waited.
    rounds: AtomicUsize,
    /// The loop, while it runs.
    event_loop: Mutex<Option<Py<PyAny>>>,
    /// In debug mode asyncio keeps and calls all callbacks itself, and measures them.
    is_debug: AtomicBool,
    reactor: Py<PyAny>,
    /// The key of each guest, by its descriptor.
    keys: Py<PyDict>,
    birth: u32,
    /// Whether the loop of a thread was stopped, because the poller has ended.
    is_told: AtomicBool,
}

/// The descriptors that the loop watches beside the poller's own.
struct Watched {
    guests: Guests,
    signals: SignalPipe,
}

impl Turns {
    fn of(py: Python<'_>, stepper: Stepper<PyDispatch>, reactor: Py<PyAny>) -> PyResult<Self> {
        let signals = SignalPipe::new().map_err(Error::io("cannot open the signal pipe"))?;
        let guests = stepper.parked().poller.guests().map_err(Error::io("cannot copy the descriptor of the poller"))?;
        guests.add(signals.reader(), (true, false)).map_err(Error::io("cannot watch the signal pipe"))?;
        let (stepper, keys) = (Mutex::new(Some(stepper)), PyDict::new(py).unbind());
        Ok(Self {
            stepper,
            core: None,
            watched: Mutex::new(Some(Watched { guests, signals })),
            ready: Arc::default(),
            rounds: AtomicUsize::new(0),
            event_loop: Mutex::default(),
            is_debug: AtomicBool::new(false),
            reactor,
            keys,
            birth: fork::generation(),
            is_told: AtomicBool::new(false),
        })
    }

    /// Takes the stepper out for a turn; a panic in the turn leaves none.
    fn turn(&self, turn: impl FnOnce(&mut Stepper<PyDispatch>) -> Result<(), Outcome>) -> PyResult<()> {
        fork::check(self.birth, "event loop")?;
        let stepper = lock(&self.stepper).take();
        let mut stepper =
            stepper.ok_or_else(|| PyRuntimeError::new_err("the poller runs a turn, or has been closed"))?;
        let turned = turn(&mut stepper);
        if !stepper.has_ended() {
            stepper.parked().poller.begin_guest(GUEST);
        }
        *lock(&self.stepper) = Some(stepper);
        turned.map_err(of_outcome)
    }

    fn with<R>(&self, work: impl FnOnce(&Parked<PyDispatch>) -> R) -> Option<R> {
        lock(&self.stepper).as_ref().map(|stepper| work(stepper.parked()))
    }

    /// The guests that the poll has found ready, with their handles of this moment. Callbacks come before they are served,
    /// and may close a descriptor, use its number again, or set another reader.
    fn note<'py>(&self, py: Python<'py>, guests: Vec<Guest>) -> PyResult<Vec<Noted<'py>>> {
        let mut noted = Vec::new();
        for guest in guests {
            match self.keys.bind(py).get_item(guest.fd)? {
                Some(key) => noted.push(Noted { handles: handles_of(&key)?, guest }),
                None => self.drain_signals(guest.fd),
            }
        }
        Ok(noted)
    }

    /// Passes bytes on that have come for socket transports of asyncio. In debug mode asyncio does, and measures it.
    fn receive(&self, py: Python<'_>, noted: &mut [Noted<'_>]) -> PyResult<()> {
        if self.is_debug.load(Ordering::Relaxed) {
            return Ok(());
        }
        for one in noted {
            if let Some((_, came)) = self.came(py, one)?
                && came & READ != 0
                && transports::receive(&one.handles[0])?
            {
                one.guest.readable = false;
            }
        }
        Ok(())
    }

    /// The key of a guest and its events, if its handles are still those that were noted.
    fn came<'py>(&self, py: Python<'py>, noted: &Noted<'py>) -> PyResult<Option<(Bound<'py, PyAny>, u8)>> {
        let Some(key) = self.keys.bind(py).get_item(noted.guest.fd)? else { return Ok(None) };
        let wanted: u8 = key.get_item(2)?.extract()?;
        let now = handles_of(&key)?;
        let is = |at: usize, came: bool, bit: u8| if came && now[at].is(&noted.handles[at]) { wanted & bit } else { 0 };
        let came = is(0, noted.guest.readable, READ) | is(1, noted.guest.writable, WRITE);
        Ok((came != 0).then_some((key, came)))
    }

    /// The guests that are left for asyncio.
    fn list<'py>(&self, py: Python<'py>, noted: &[Noted<'py>]) -> PyResult<Bound<'py, PyList>> {
        let left = noted.iter().map(|one| self.came(py, one)).filter_map(Result::transpose);
        PyList::new(py, left.collect::<PyResult<Vec<_>>>()?)
    }
}

/// A guest that is ready, and its reader and writer when that was found.
struct Noted<'py> {
    guest: Guest,
    handles: [Bound<'py, PyAny>; 2],
}

/// The reader and the writer of a key. One that is no key of asyncio's has its data instead of both.
fn handles_of<'py>(key: &Bound<'py, PyAny>) -> PyResult<[Bound<'py, PyAny>; 2]> {
    let data = key.get_item(3)?;
    match data.cast::<PyTuple>() {
        Ok(handles) if handles.len() == 2 => Ok([handles.get_item(0)?, handles.get_item(1)?]),
        _ => Ok([data.clone(), data]),
    }
}

#[pymethods]
impl Turns {
    /// The turns of the only poller of a reactor, or of one that is lent.
    #[new]
    fn new(py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(lent) = source.cast::<Lent>() {
            let parked = lent.get().take::<PyDispatch>();
            let parked = parked.ok_or_else(|| PyRuntimeError::new_err("another loop drives this poller"))?;
            let reactor = parked.dispatch.tables().reactor(py).map_or_else(|| py.None(), Bound::unbind);
            return Self::of(py, Stepper::on_thread(parked), reactor);
        }
        let reactor = source.cast::<Reactor>()?;
        let stepper = Reactor::stepped(reactor)?;
        let turns = Self::of(py, stepper, reactor.clone().into_any().unbind())?;
        Ok(Self { core: Some(reactor.get().core().clone()), ..turns })
    }

    /// The reactor of the poller.
    #[getter]
    fn reactor(&self, py: Python<'_>) -> Py<PyAny> {
        self.reactor.clone_ref(py)
    }

    /// The keys of the descriptors that are watched.
    #[getter]
    fn keys(&self, py: Python<'_>) -> Py<PyDict> {
        self.keys.clone_ref(py)
    }

    /// Whether the poller has ended, and with it the last callbacks of its handlers.
    #[getter]
    fn ended(&self) -> bool {
        let stepper = lock(&self.stepper);
        stepper.as_ref().is_some_and(|stepper| {
            stepper.has_ended() && !stepper.parked().dispatch.tables().waiting.has_some(Owner::Ended)
        })
    }

    /// Whether coroutines of callbacks wait.
    #[getter]
    fn waits(&self) -> bool {
        let waits = || self.with(|parked| !parked.dispatch.tables().waiting.is_empty());
        !fork::is_foreign(self.birth) && waits().unwrap_or(false)
    }

    fn watch(&self, fd: RawFd, events: u8) -> PyResult<()> {
        fork::check(self.birth, "event loop")?;
        self.watched(|watched| Ok(watched.guests.add(fd, of_bits(events))?))
    }

    fn rewatch(&self, fd: RawFd, events: u8) -> PyResult<()> {
        fork::check(self.birth, "event loop")?;
        self.watched(|watched| Ok(watched.guests.change(fd, of_bits(events))?))
    }

    /// In a forked child it does nothing, because the poll is the parent's.
    fn unwatch(&self, fd: RawFd) -> PyResult<()> {
        match fork::is_foreign(self.birth) {
            true => Ok(()),
            false => self.watched(|watched| Ok(watched.guests.remove(fd)?)),
        }
    }

    /// Turns of the poller: wait, read, callbacks, flush; with the callbacks of the loop. They go on until asyncio has
    /// something to do itself. Returns its ready descriptors, each as its key and its events.
    ///
    /// Callbacks of handlers come when none of the loop is ready any more, or after some rounds: those of the loop were there
    /// first. Otherwise the first step of a coroutine could take a lock or a pooled object from a task that was woken for it.
    #[pyo3(signature = (timeout = None))]
    fn select<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        // A time of many years is as good as none.
        let at_most = timeout.map(|timeout| Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX));
        let until = at_most.and_then(|at_most| Instant::now().checked_add(at_most));
        let is_pressed = at_most == Some(Duration::ZERO);
        loop {
            let list = self.round(py, is_pressed, until)?;
            // The interpreter does it behind Python code only.
            py.check_signals()?;
            if self.is_over() {
                // The loop of a thread ends with the poller.
                self.stop_loop(py)?;
            }
            let is_late = || until.is_some_and(|until| until <= Instant::now());
            let has_more = self.ready.was_interrupted() || self.is_debug.load(Ordering::Relaxed);
            if has_more || !list.is_empty() || is_late() {
                return Ok(list);
            }
        }
    }

    /// Has `select` return, because asyncio has something to do.
    fn interrupt(&self) {
        self.ready.interrupt();
    }

    /// The loop begins to run on this thread.
    fn begin(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        slf.get().with(|parked| parked.dispatch.tables().set_event_loop(event_loop)).unwrap_or(Ok(()))?;
        slf.get().enter(py)?;
        *lock(&slf.get().event_loop) = Some(event_loop.clone().unbind());
        slf.get().take_callbacks(py);
        let woken = slf.get().watched(|watched| Ok(watched.signals.writer())).and_then(|writer| wake_by(py, writer));
        // A signal may interrupt it.
        woken.inspect_err(|_| slf.get().leave_loop(py))
    }

    /// The loop has ended, or pauses.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.leave_loop(py);
        let writer = self.watched(|watched| Ok(watched.signals.writer()))?;
        // If a signal interrupts it, the second time does it.
        wake_no_more(py, writer).or_else(|error| wake_no_more(py, writer).and(Err(error)))
    }

    /// Schedules a callback of any thread, and returns its handle; `None`: asyncio has to.
    fn schedule<'py>(
        &self,
        callback: Bound<'py, PyAny>,
        arguments: &Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Py<Handle>>> {
        let py = callback.py();
        if self.is_debug.load(Ordering::Relaxed) || lock(&self.event_loop).is_none() {
            return Ok(None);
        }
        let context = context.map_or_else(|| copy_of_current(py), Ok)?;
        let arguments = Arguments::Many(arguments.iter().map(Bound::unbind).collect());
        let handle = Py::new(py, Handle::new(callback.unbind(), arguments, context.unbind()))?;
        self.ready.push(handle.clone_ref(py))?;
        Ok(Some(handle))
    }

    /// Debug mode begins or ends; see `asyncio.loop.set_debug`.
    fn set_debug(&self, py: Python<'_>, enabled: bool) {
        self.is_debug.store(enabled, Ordering::Relaxed);
        self.take_callbacks(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reactor)?;
        visit.call(&self.keys)?;
        self.ready.show(&visit)?;
        let mut result = Ok(());
        // A loop that runs a turn, or is about to, is no garbage.
        if let Ok(Some(stepper)) = self.stepper.try_lock().as_deref() {
            stepper.parked().dispatch.tables().show(&mut |object| {
                if result.is_ok() {
                    result = visit.call(object);
                }
            });
        }
        result
    }

    /// Ends the connections that are left, and the poller.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if fork::is_foreign(self.birth) {
            // The sockets belong to the parent, and so does the poll.
            std::mem::forget(lock(&self.stepper).take());
            return Ok(());
        }
        if let Some(core) = &self.core
            && lock(&self.stepper).is_some()
        {
            py.detach(|| core.stop(Duration::ZERO));
            // The caller may be a callback or a coroutine of another loop.
            let other = Dispatching::pause();
            let turned = self.enter(py).and_then(|()| {
                let turned = self.turn_to_the_end();
                self.leave(py);
                turned
            });
            drop(other);
            turned?;
        }
        let stepper = lock(&self.stepper).take();
        if let Some(stepper) = stepper {
            let tables = stepper.parked().dispatch.tables();
            if let Some(event_loop) = tables.event_loop() {
                event_loop.close(py);
            }
            tables.forget_everything();
        }
        self.ready.clear();
        drop(lock(&self.watched).take());
        Ok(())
    }
}

impl Turns {
    /// Marks this thread as the poller's.
    fn enter(&self, py: Python<'_>) -> PyResult<()> {
        fork::check(self.birth, "event loop")?;
        if is_dispatching() {
            return Err(PyRuntimeError::new_err(
                "an event loop cannot run in a callback, nor while another loop is running [GOEV106]",
            ));
        }
        let begun = self.with(|parked| {
            let tables = parked.dispatch.tables();
            tables.contexts.begin_open(py);
            tables.greenlets.look(py);
            // SAFETY: the box stays where it is until `close`, which `end` comes before.
            unsafe { set_current(Some((&parked.poller, tables))) };
            parked.poller.begin_turns();
        });
        begun.ok_or_else(|| PyRuntimeError::new_err("the event loop is closed, or runs on another thread [GOEV109]"))
    }

    /// The loop does not run any more.
    fn leave_loop(&self, py: Python<'_>) {
        set_running(None);
        let event_loop = lock(&self.event_loop).take();
        drop(event_loop);
        self.leave(py);
    }

    fn leave(&self, py: Python<'_>) {
        // SAFETY: nothing is marked.
        unsafe { set_current(None) };
        self.with(|parked| {
            parked.dispatch.tables().contexts.end(py);
            parked.poller.end_turns();
        });
    }

    /// One round: the callbacks of the loop that are ready, and a turn of the poller if there are none, or have been for
    /// some rounds.
    fn round<'py>(&self, py: Python<'py>, is_pressed: bool, until: Option<Instant>) -> PyResult<Bound<'py, PyList>> {
        // They wait for the loop if it does not run.
        let count = if lock(&self.event_loop).is_some() { self.ready.len() } else { 0 };
        let is_busy = is_pressed || count > 0;
        let rounds = if is_busy { self.rounds.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let is_enough = rounds >= MOST_ROUNDS;
        if count > 0 && !is_pressed && !is_enough {
            self.run_ready(py, count)?;
            return Ok(PyList::empty(py));
        }
        let at_most = match is_busy {
            false => until.map(|until| until.saturating_duration_since(Instant::now())),
            true => Some(Duration::ZERO),
        };
        let (mut guests, mut is_due) = (Vec::new(), false);
        self.turn(|stepper| {
            let looked = stepper.look(at_most);
            stepper.parked().poller.take_guests(&mut guests);
            is_due = looked?;
            Ok(())
        })?;
        let mut noted = self.note(py, guests)?;
        self.run_ready(py, count)?;
        self.receive(py, &mut noted)?;
        let list = self.list(py, &noted)?;
        let is_idle = !is_pressed && self.ready.is_empty() && list.is_empty();
        if !(is_idle || is_enough) {
            return Ok(list);
        }
        self.rounds.store(0, Ordering::Relaxed);
        if is_due {
            self.turn(|stepper| stepper.turn(Some(Duration::ZERO)))?;
        }
        // Anew, because the callbacks of handlers may have changed what is watched.
        if list.is_empty() { Ok(list) } else { self.list(py, &noted) }
    }

    /// Sets whether the callbacks of the loop, which runs, come here: unless in debug mode.
    fn take_callbacks(&self, py: Python<'_>) {
        if let Some(event_loop) = lock(&self.event_loop).as_ref().map(|event_loop| event_loop.clone_ref(py)) {
            let takes = !self.is_debug.load(Ordering::Relaxed);
            set_running(takes.then(|| (event_loop, self.ready.clone())));
        }
    }

    /// Calls the first callbacks of the loop. Those that they schedule come later.
    fn run_ready(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        let Some(event_loop) = lock(&self.event_loop).as_ref().map(|event_loop| event_loop.clone_ref(py)) else {
            return Ok(());
        };
        for number in 1..=count {
            let Some(handle) = self.ready.pop() else { break };
            Handle::run(handle.bind(py), event_loop.bind(py))?;
            if number.is_multiple_of(MOST) {
                self.turn(|stepper| stepper.turn(Some(Duration::ZERO)))?;
            }
        }
        Ok(())
    }

    fn watched<R>(&self, work: impl FnOnce(&Watched) -> PyResult<R>) -> PyResult<R> {
        let closed = || PyRuntimeError::new_err("the event loop is closed");
        lock(&self.watched).as_ref().map_or_else(|| Err(closed()), work)
    }

    /// Empties the pipe of signals, if `fd` is its end. The interpreter calls the handlers as soon as `select` returns.
    fn drain_signals(&self, fd: RawFd) {
        if let Some(Watched { signals, .. }) = &*lock(&self.watched)
            && signals.reader() == fd
        {
            signals.drain();
            self.ready.interrupt();
        }
    }

    /// Whether the poller of a thread has ended, which is told once.
    fn is_over(&self) -> bool {
        self.core.is_none() && self.ended() && !self.is_told.swap(true, Ordering::Relaxed)
    }

    fn stop_loop(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.with(|parked| parked.dispatch.tables().event_loop().map(|running| running.object(py)));
        event_loop.flatten().map_or(Ok(()), |event_loop| event_loop.call_method0(py, "stop").map(drop))
    }

    fn turn_to_the_end(&self) -> PyResult<()> {
        let until = Instant::now() + CLOSING;
        while !self.ended() && Instant::now() < until {
            self.turn(|stepper| stepper.turn(Some(PART)))?;
        }
        Ok(())
    }
}

fn of_bits(events: u8) -> (bool, bool) {
    (events & READ != 0, events & WRITE != 0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock is held cannot leave the option half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
