//! The coroutine of a task that goes on with a coroutine which has run its first step already.
//!
//! The dispatch runs the first step itself, because most coroutines end there. Only one that waits costs a task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, intern};

use crate::python::contexts::{Context, within};

/// Called once with the result of a coroutine.
pub type Done = Box<dyn FnOnce(Python<'_>, PyResult<Py<PyAny>>) + Send>;

/// The result of a step of a coroutine.
pub enum Step<'py> {
    /// It waits for this.
    Waits(Bound<'py, PyAny>),
    /// It has ended.
    Ended(PyResult<Bound<'py, PyAny>>),
}

/// A coroutine that waits.
pub struct Waiting {
    pub coroutine: Py<PyAny>,
    /// The context of all its steps.
    pub context: Option<Context>,
    /// The object that its first step waits for, until the task has got it.
    pub first: Option<Py<PyAny>>,
    pub done: Done,
}

enum State {
    /// It has no coroutine yet; a step ends the task.
    Idle,
    Waiting(Waiting),
    Running,
    Ended,
}

/// See the module.
#[pyclass(frozen, weakref, module = "goev._core")]
pub struct Bridge {
    state: Mutex<State>,
}

impl Bridge {
    pub fn new() -> Self {
        Self { state: Mutex::new(State::Idle) }
    }

    pub fn bind(&self, waiting: Waiting) {
        *self.lock() = State::Waiting(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, py: Python<'_>, resume: Resume<'_, '_>) -> PyResult<Option<Py<PyAny>>> {
        let before = std::mem::replace(&mut *self.lock(), State::Running);
        let mut waiting = match before {
            State::Waiting(waiting) => waiting,
            State::Running => return Err(PyRuntimeError::new_err("the coroutine is running already")),
            other => {
                *self.lock() = other;
                return Ok(None);
            }
        };
        if let Some(first) = waiting.first.take() {
            if matches!(resume, Resume::Send) {
                *self.lock() = State::Waiting(waiting);
                return Ok(Some(first));
            }
            // As a task does when it is cancelled while it waits.
            let _ = first.call_method0(py, intern!(py, "cancel"));
        }
        match within(py, waiting.context.as_ref(), || resume.run(waiting.coroutine.bind(py))) {
            Step::Waits(next) => {
                *self.lock() = State::Waiting(waiting);
                Ok(Some(next.unbind()))
            }
            Step::Ended(result) => {
                *self.lock() = State::Ended;
                self.end(py, waiting, result.map(Bound::unbind))
            }
        }
    }

    /// Passes the result on. The task itself only tells whether the coroutine was cancelled.
    fn end(&self, py: Python<'_>, waiting: Waiting, result: PyResult<Py<PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let cancelled = result.as_ref().err().filter(|error| is_cancelled(py, error)).map(|error| error.clone_ref(py));
        (waiting.done)(py, result);
        cancelled.map_or(Ok(None), Err)
    }
}

#[pymethods]
impl Bridge {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.step(py, Resume::Send)
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let next = self.step(value.py(), Resume::Send)?;
        next.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (*error))]
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        let next = self.step(error.py(), Resume::Throw(error))?;
        next.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let before = std::mem::replace(&mut *self.lock(), State::Ended);
        match before {
            State::Waiting(waiting) => waiting.coroutine.call_method0(py, intern!(py, "close")).map(drop),
            _ => Ok(()),
        }
    }

    /// The attributes of the coroutine: those by which asyncio shows where a task waits.
    fn __getattr__(&self, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
        let py = name.py();
        let coroutine = match &*self.lock() {
            State::Waiting(waiting) => Some(waiting.coroutine.clone_ref(py)),
            _ => None,
        };
        match coroutine {
            Some(coroutine) => coroutine.getattr(py, name),
            None => Err(pyo3::exceptions::PyAttributeError::new_err(name.clone().unbind())),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.state.try_lock().as_deref() {
            Ok(State::Waiting(waiting)) => {
                visit.call(&waiting.coroutine)?;
                visit.call(&waiting.context)?;
                visit.call(&waiting.first)
            }
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let before = std::mem::replace(&mut *self.lock(), State::Ended);
        drop(before);
    }
}

/// The way in which a coroutine goes on.
enum Resume<'a, 'py> {
    Send,
    Throw(&'a Bound<'py, PyTuple>),
}

impl<'py> Resume<'_, 'py> {
    fn run<'b>(self, coroutine: &Bound<'b, PyAny>) -> Step<'b> {
        match self {
            Self::Send => go_on(coroutine),
            Self::Throw(error) => {
                let error = error.clone().unbind().into_bound(coroutine.py());
                match coroutine.call_method1(intern!(coroutine.py(), "throw"), error) {
                    Ok(next) => Step::Waits(next),
                    Err(stop) if stop.is_instance_of::<PyStopIteration>(coroutine.py()) => {
                        Step::Ended(stop.value(coroutine.py()).getattr(intern!(coroutine.py(), "value")))
                    }
                    Err(error) => Step::Ended(Err(error)),
                }
            }
        }
    }
}

/// Runs the next step of a coroutine (PyIter_Send).
pub fn go_on<'py>(coroutine: &Bound<'py, PyAny>) -> Step<'py> {
    let (py, mut result) = (coroutine.py(), std::ptr::null_mut());
    // SAFETY: the thread is attached. The call sets `result` to a new reference, unless it raises an exception.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), py.None().as_ptr(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Step::Waits(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => Step::Ended(Ok(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Step::Ended(Err(PyErr::fetch(py))),
        }
    }
}

/// Whether an object is a coroutine: one of `async def`, or another with its methods (`collections.abc.Coroutine`).
pub fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the thread is attached, and the object is one.
    if unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) } != 0 {
        return true;
    }
    // A cheap look first, because most other answers are those of functions that were posted, and mean nothing.
    if !object.hasattr(intern!(object.py(), "__await__")).unwrap_or(false) {
        return false;
    }
    let class = object.py().import("collections.abc").and_then(|module| module.getattr("Coroutine"));
    class.is_ok_and(|class| object.is_instance(&class).unwrap_or(false))
}

/// Whether an exception is an `asyncio.CancelledError`. Nothing has raised one if the module was never imported.
pub fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    let modules = PyModule::import(py, "sys").and_then(|sys| sys.getattr("modules"));
    let module = modules.and_then(|modules| modules.get_item("asyncio.exceptions"));
    module.and_then(|module| module.getattr("CancelledError")).is_ok_and(|class| error.is_instance(py, &class))
}
