//! `goev.EventHandler`: a handler for any descriptor.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyTuple, PyType};

use crate::error::Error;
use crate::python::callbacks::check_callbacks;
use crate::python::tables::with_poller;
use crate::shared::handle::PollerHandle;
use crate::slots::Token;
use crate::sources::descriptor::Interests;

/// The values of EPOLLIN, EPOLLOUT and EPOLLET (epoll_ctl(2)).
const EV_IN: i64 = libc::EPOLLIN as i64;
const EV_OUT: i64 = libc::EPOLLOUT as i64;
const EV_ET: i64 = 1 << 31;

/// The callbacks of a descriptor.
pub const CALLBACKS_OF_DESCRIPTORS: [&str; 3] = ["on_read", "on_write", "on_close"];

pub fn add_constants_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("EV_IN", EV_IN)?;
    module.add("EV_OUT", EV_OUT)?;
    module.add("EV_ET", EV_ET)
}

/// The interests for `events`; at least one of EV_IN and EV_OUT.
pub fn interests(events: i64) -> PyResult<Interests> {
    if events & !(EV_IN | EV_OUT | EV_ET) != 0 || events & (EV_IN | EV_OUT) == 0 {
        let text = format!("events must be EV_IN, EV_OUT or both, with EV_ET or without, not {events:#x}");
        return Err(PyValueError::new_err(text));
    }
    Ok(Interests { readable: events & EV_IN != 0, writable: events & EV_OUT != 0, edge: events & EV_ET != 0 })
}

/// The descriptors of one reactor, and the place of each, so that methods find them by number.
#[derive(Default)]
pub struct Descriptors(Mutex<HashMap<RawFd, Place>>);

/// A descriptor on a poller.
#[derive(Clone, Copy)]
pub struct Place {
    pub poller: usize,
    pub token: Token,
    pub interests: Interests,
}

impl Descriptors {
    pub fn get(&self, fd: RawFd) -> Option<Place> {
        self.lock().get(&fd).copied()
    }

    pub fn put(&self, fd: RawFd, place: Place) {
        self.lock().insert(fd, place);
    }

    pub fn remove(&self, token: Token, poller: usize) {
        self.lock().retain(|_, place| place.token != token || place.poller != poller);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RawFd, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called when a descriptor is ready: a pipe, a UDP socket, inotify, a serial line, anything epoll takes.
///
/// Add it with ``reactor.add(handler, fd, goev.EV_IN)``. Level-triggered: called for as long as the descriptor is
/// ready, unless ``EV_ET`` is given. ``on_read`` and ``on_write`` may return ``False`` to remove the handler. The
/// descriptor stays the user's: goev never reads, writes or closes it.
///
/// Go: ``EvHandler`` with ``AddEvHandler``.
#[pyclass(subclass, frozen, module = "goev")]
pub struct EventHandler {
    place: OnceLock<(Arc<PollerHandle>, RawFd)>,
}

impl EventHandler {
    pub fn bind_to(&self, poller: Arc<PollerHandle>, fd: RawFd) -> PyResult<()> {
        self.place.set((poller, fd)).map_err(|_| used_twice())
    }

    /// An object for a subclass, not added yet.
    pub fn unused() -> Self {
        Self { place: OnceLock::new() }
    }

    /// The poller to which it was added.
    pub fn poller(&self) -> Option<&Arc<PollerHandle>> {
        self.place.get().map(|(poller, _)| poller)
    }

    pub fn check_unused(&self) -> PyResult<()> {
        self.place.get().map_or(Ok(()), |_| Err(used_twice()))
    }
}

fn used_twice() -> PyErr {
    PyValueError::new_err("an event handler watches one descriptor, once; this one has been used")
}

#[pymethods]
impl EventHandler {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    #[classmethod]
    fn new(class: &Bound<'_, PyType>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let _ = (args, kwargs);
        check_callbacks(class, &CALLBACKS_OF_DESCRIPTORS)?;
        Ok(Self::unused())
    }

    /// The descriptor is readable, or at its end. ``False`` removes the handler.
    fn on_read(&self) {}

    /// The descriptor is writable. ``False`` removes the handler.
    fn on_write(&self) {}

    /// The handler was removed: called last and once. ``error`` is ``None``, or the exception that was the reason.
    fn on_close(&self, error: &Bound<'_, PyAny>) {
        let _ = error;
    }

    /// The descriptor, or -1 before ``add``.
    fn fileno(&self) -> RawFd {
        self.place.get().map_or(-1, |(_, fd)| *fd)
    }

    /// The reactor that calls this handler; only inside a callback.
    #[getter]
    fn reactor<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let place = self.place.get();
        let reactor = place.and_then(|(poller, _)| with_poller(poller, |_, tables| tables.reactor(py)));
        reactor.flatten().ok_or_else(|| Error::wrong_thread("reactor").into())
    }
}
