//! `goev.testing`: handlers without sockets, on a clock that only the test moves.
//!
//! A bench is a reactor with one poller. It runs turns only when the test asks, on the thread of the test. Its
//! connections have the memory transport ([`crate::connection::memory`]); everything above the transport is the code
//! that serves sockets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::Connection;
use super::reactor::Reactor;
use crate::connection::memory::{End, Memory};
use crate::options::ConnectionOptions;
use crate::poller::Poller;
use crate::python::callbacks::{CALLBACKS, check_coroutines};
use crate::python::dispatch::PyDispatch;
use crate::python::tables::Tables;
use crate::python::values::arguments::{bytes_of, inet, integer, nanoseconds, size};
use crate::python::values::errors::of_outcome;
use crate::python::values::options::{set_connection_option, take_keywords};
use crate::reactor::Stepper;
use crate::shared::remote::Peer;
use crate::slots::Token;

/// Number of turns after which handlers count as keeping one another busy for ever.
const MOST_TURNS: usize = 100_000;

/// The time at which a bench begins, so that earlier times are not negative.
const BEGINNING: u64 = 1_000_000_000;

/// A reactor that a test runs turn by turn, and its clock.
#[pyclass(frozen, module = "goev._core")]
pub struct Bench {
    time: Arc<AtomicU64>,
    reactor: Py<Reactor>,
    /// `None` while it runs a turn.
    stepper: Mutex<Option<Stepper<PyDispatch>>>,
}

impl Bench {
    /// Calls `work` with the poller, while no callback runs.
    fn with_poller<R>(&self, work: impl FnOnce(&Poller, &Tables) -> R) -> PyResult<R> {
        let stepper = lock(&self.stepper);
        let parked = stepper.as_ref().map(Stepper::parked).ok_or_else(busy)?;
        Ok(work(&parked.poller, parked.dispatch.tables()))
    }

    /// Runs turns until nothing is left to do at the current time.
    fn settle_now(&self) -> PyResult<()> {
        let mut stepper = lock(&self.stepper).take().ok_or_else(busy)?;
        let settled = stepper.settle(MOST_TURNS);
        *lock(&self.stepper) = Some(stepper);
        if settled.map_err(of_outcome)? {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!("handlers are still busy after {MOST_TURNS} turns of the poller")))
    }
}

#[pymethods]
impl Bench {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let time = Arc::new(AtomicU64::new(BEGINNING));
        let (reactor, stepper) = Reactor::by_hand(py, time.clone())?;
        Ok(Self { time, reactor, stepper: Mutex::new(Some(stepper)) })
    }

    /// The reactor of the handlers.
    #[getter]
    fn reactor(&self, py: Python<'_>) -> Py<Reactor> {
        self.reactor.clone_ref(py)
    }

    /// Seconds since the bench was made.
    #[getter]
    fn now(&self) -> f64 {
        (self.time.load(Ordering::Relaxed) - BEGINNING) as f64 / 1e9
    }

    /// Run callbacks that are due, and calls that other threads have posted.
    fn settle(&self) -> PyResult<()> {
        self.settle_now()
    }

    /// Let so many seconds pass, from timer to timer.
    fn advance(&self, seconds: f64) -> PyResult<()> {
        let until = self.time.load(Ordering::Relaxed) + nanoseconds("seconds", seconds)?;
        self.settle_now()?;
        while let Some(next) = self.with_poller(|poller, _| poller.next_deadline())?.filter(|next| *next <= until) {
            self.time.fetch_max(next, Ordering::Relaxed);
            self.settle_now()?;
        }
        self.time.store(until, Ordering::Relaxed);
        self.settle_now()
    }

    /// Open a connection for `handler`, as an acceptor would.
    #[pyo3(signature = (handler, remote_address, **options))]
    fn open(
        slf: &Bound<'_, Self>,
        handler: &Bound<'_, Connection>,
        remote_address: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<TestPeer> {
        let py = slf.py();
        check_coroutines(&handler.get_type(), &CALLBACKS, false)?;
        let mut settings = ConnectionOptions::default();
        take_keywords("open", options, |name, value| set_connection_option(&mut settings, name, value))?;
        settings.validate()?;
        let peer = Peer::Inet(inet("remote_address", remote_address)?);
        let memory = Arc::new(Memory::default());
        let this = slf.get();
        let first = {
            let name = this.with_poller(|_, tables| tables.names.prologue.clone_ref(py))?.into_bound(py);
            handler.get().face().map_or(Ok(None), |face| face.prologue(&name, handler))?
        };
        let object = first.unwrap_or_else(|| handler.clone().into_any());
        let connection = object.cast::<Connection>()?.get();
        connection.claim("handler: ")?;
        let face = connection.face();
        let ends = PyList::empty(py).unbind();
        let token = this.with_poller(|poller, tables| {
            let token = poller.open_memory(memory.clone(), peer, &settings);
            tables.put_handler(token, object.clone().unbind(), face);
            tables.observe(token, ends.clone_ref(py));
            token
        })?;
        this.settle_now()?;
        Ok(TestPeer { bench: slf.clone().unbind(), memory, token, ends })
    }
}

/// The peer of a connection in memory.
#[pyclass(frozen, module = "goev._core")]
pub struct TestPeer {
    bench: Py<Bench>,
    memory: Arc<Memory>,
    token: Token,
    /// The argument of `on_close`, once it was called.
    ends: Py<PyList>,
}

impl TestPeer {
    fn wake(&self, has_reset: bool, has_finished: bool) -> PyResult<()> {
        let bench = self.bench.get();
        bench.with_poller(|poller, tables| {
            poller.wake_memory(tables.observed(&self.ends).unwrap_or(self.token), has_reset, has_finished);
        })?;
        bench.settle_now()
    }
}

#[pymethods]
impl TestPeer {
    /// The peer sends ``data``.
    fn receive(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        bytes_of(data, |bytes| {
            self.memory.push(bytes);
            Ok(())
        })?;
        self.wake(false, false)
    }

    /// The peer shuts down its write side.
    fn eof(&self) -> PyResult<()> {
        self.memory.push_eof();
        self.wake(false, true)
    }

    /// The peer resets the connection.
    fn reset(&self) -> PyResult<()> {
        self.memory.push_reset();
        self.wake(true, true)
    }

    /// Takes all bytes that were sent to the peer since the last call.
    fn sent<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.memory.take())
    }

    /// The peer takes ``count`` more bytes, then none; ``None`` means no limit.
    fn take_only(&self, count: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let window = count.map_or(Ok(usize::MAX), |count| size("count", integer(count)?))?;
        self.memory.set_window(window);
        self.wake(false, false)
    }

    /// The end of the stream to the peer: ``"finished"``, ``"reset"``, or ``None``.
    #[getter]
    fn end(&self) -> Option<&'static str> {
        self.memory.end().map(|end| match end {
            End::Finished => "finished",
            End::Reset => "reset",
        })
    }

    /// Whether ``on_close`` was called.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        !self.ends.bind(py).is_empty()
    }

    /// The error that ``on_close`` got.
    #[getter]
    fn close_error<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.ends.bind(py).get_item(0) {
            Ok(error) => Ok(error),
            Err(_) => Err(PyRuntimeError::new_err("the connection has not ended")),
        }
    }
}

fn busy() -> PyErr {
    let text = "the clock is being turned: receive(), advance() and the like belong to the test, not to a callback";
    PyRuntimeError::new_err(text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock is held cannot leave the option half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
