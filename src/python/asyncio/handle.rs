//! A callback that is ready: the counterpart of `asyncio.Handle`, which is made for each step of each task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::python::contexts::{Context, run_in};

/// The positional arguments of a callback. Most have none or one.
pub enum Arguments {
    None,
    One(Py<PyAny>),
    Many(Box<[Py<PyAny>]>),
}

struct Call {
    callback: Py<PyAny>,
    arguments: Arguments,
}

/// A callback that `EventLoop.call_soon` has scheduled; see `asyncio.Handle`.
#[pyclass(frozen, weakref, module = "goev._core", name = "Handle")]
pub struct Handle {
    /// `None` once it runs, or was cancelled.
    call: Mutex<Option<Call>>,
    context: Context,
    is_cancelled: AtomicBool,
}

impl Handle {
    pub fn new(callback: Py<PyAny>, arguments: Arguments, context: Context) -> Self {
        Self { call: Mutex::new(Some(Call { callback, arguments })), context, is_cancelled: AtomicBool::new(false) }
    }

    /// Calls the callback in its context. An exception goes to the handler of the loop.
    pub fn run(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, handle) = (slf.py(), slf.get());
        let Some(call) = handle.lock().take() else { return Ok(()) };
        match run_in(handle.context.bind(py), || call.run(py)) {
            Err(error) if ends_program(py, &error) => Err(error),
            Err(error) => handle.report(py, &call, event_loop, error),
            Ok(_) => Ok(()),
        }
    }

    /// The callback, unless it has run.
    pub fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().as_ref().map(|call| call.callback.clone_ref(py))
    }

    /// Schedules the callback again, by the method of a loop that does not take handles now.
    pub fn schedule_by(&self, py: Python<'_>, event_loop: &Py<PyAny>) -> PyResult<()> {
        let Some(call) = self.lock().take() else { return Ok(()) };
        let mut all = call.arguments.list(py);
        all.insert(0, call.callback);
        let named = PyDict::new(py);
        named.set_item("context", &self.context)?;
        event_loop.call_method(py, "call_soon", PyTuple::new(py, all)?, Some(&named)).map(drop)
    }

    #[cold]
    fn report(&self, py: Python<'_>, call: &Call, event_loop: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let reports = py.import("goev.asyncio.reports")?;
        let stock = (call.callback.bind(py), call.arguments.list(py), event_loop, self.context.bind(py), error);
        reports.call_method1("report", stock).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Call>> {
        // A panic while the lock is held cannot leave the option half changed.
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether asyncio lets an exception of a callback end the loop.
pub fn ends_program(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

impl Call {
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let callback = self.callback.as_ptr();
        // SAFETY: the thread is attached, and the pointers are those of objects.
        unsafe {
            let result = match &self.arguments {
                Arguments::None => ffi::PyObject_CallNoArgs(callback),
                Arguments::One(argument) => ffi::PyObject_CallOneArg(callback, argument.as_ptr()),
                Arguments::Many(arguments) => {
                    // `Py` is a transparent pointer to an object.
                    let first = arguments.as_ptr().cast();
                    ffi::PyObject_Vectorcall(callback, first, arguments.len(), std::ptr::null_mut())
                }
            };
            Bound::from_owned_ptr_or_err(py, result)
        }
    }
}

impl Arguments {
    fn list(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        match self {
            Self::None => Vec::new(),
            Self::One(argument) => vec![argument.clone_ref(py)],
            Self::Many(arguments) => arguments.iter().map(|argument| argument.clone_ref(py)).collect(),
        }
    }
}

#[pymethods]
impl Handle {
    /// See `asyncio.Handle.cancel`.
    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        let call = self.lock().take();
        drop(call);
    }

    /// See `asyncio.Handle.cancelled`.
    fn cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// See `asyncio.Handle.get_context`.
    fn get_context(&self, py: Python<'_>) -> Context {
        self.context.clone_ref(py)
    }

    /// asyncio looks at it. It has one in debug mode only, and then the handle is its own.
    #[getter]
    fn _source_traceback(&self) {}

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let callback = self.callback(py);
        let state = if self.cancelled() { " cancelled" } else { "" };
        match callback {
            Some(callback) => Ok(format!("<Handle {}>", callback.bind(py).repr()?)),
            None => Ok(format!("<Handle{state}>")),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        if let Ok(Some(call)) = self.call.try_lock().as_deref() {
            visit.call(&call.callback)?;
            match &call.arguments {
                Arguments::None => {}
                Arguments::One(argument) => visit.call(argument)?,
                Arguments::Many(arguments) => arguments.iter().try_for_each(|argument| visit.call(argument))?,
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let call = self.lock().take();
        drop(call);
    }
}
