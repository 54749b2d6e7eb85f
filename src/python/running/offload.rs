//! Work off the poller: a function runs in an executor, and its result returns to the poller.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::python::contexts::Later;
use crate::python::tables::{PyTask, THEN};
use crate::python::values::arguments::{callable, type_name};
use crate::shared::handle::PollerHandle;
use crate::shared::remote::Remote;
use crate::system::fork;

/// The receiver of a finished future.
pub enum Recipient {
    Poller(Arc<PollerHandle>),
    /// The poller of a connection, while that is open.
    Connection(Arc<Remote>),
}

/// Submits `fn(*args)`, and has `then(future)` called on the poller when it is done.
pub fn run_in_executor<'py>(
    executor: Option<&Bound<'py, PyAny>>,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    then: &Bound<'py, PyAny>,
    recipient: Recipient,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    callable("fn", function)?;
    callable("then", then)?;
    let executor = executor.map_or_else(|| default_executor(py), |executor| Ok(executor.clone()))?;
    let submit = executor.getattr("submit").ok().filter(|_| executor.cast::<PyType>().is_err()).ok_or_else(|| {
        let got = executor.repr().map_or_else(|_| type_name(&executor), |text| text.to_string());
        PyTypeError::new_err(format!("executor must be a concurrent.futures.Executor or None, not {got}"))
    })?;
    let mut call = vec![function.clone()];
    call.extend(args.iter());
    // Captured before the function begins, which may be done at once.
    let then = Later::new(then)?;
    let future = submit.call1(PyTuple::new(py, call)?)?;
    when_done(&future, then, recipient)?;
    Ok(future)
}

/// Has `then(future)` called on the poller when the future is done.
pub fn when_done(future: &Bound<'_, PyAny>, then: Later, recipient: Recipient) -> PyResult<()> {
    let delivery = Delivery { recipient, then: Mutex::new(Some(then)) };
    future.call_method1("add_done_callback", (delivery,)).map(drop)
}

/// Brings a finished future to the poller. Called on the thread that finished it.
#[pyclass(frozen)]
struct Delivery {
    recipient: Recipient,
    /// Moved out together with the result. A future keeps its callbacks for ever, and a handler may keep its future,
    /// so a reference here would leak both.
    then: Mutex<Option<Later>>,
}

#[pymethods]
impl Delivery {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let args = PyTuple::new(py, [future])?.unbind();
        let then = self.then.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(function) = then else { return Ok(()) };
        let task = |owner| Box::new(PyTask::Call { name: THEN, owner, function, args });
        // Fails only on a poller that has ended, and that one runs no callbacks.
        match &self.recipient {
            Recipient::Poller(poller) => drop(poller.post_task(task(None))),
            Recipient::Connection(remote) => drop(remote.post_task(task(Some(remote.clone())))),
        }
        Ok(())
    }
}

/// The thread pool of the process, of the executor's default size. A forked child makes a new one, because it has
/// none of the threads.
fn default_executor(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static EXECUTOR: Mutex<Option<(u32, Py<PyAny>)>> = Mutex::new(None);
    // The lock is never held while Python code runs, so no fork can happen while it is held.
    let lock = || EXECUTOR.lock().unwrap_or_else(PoisonError::into_inner);
    let known = |kept: &Option<(u32, Py<PyAny>)>| {
        kept.as_ref()
            .filter(|(birth, _)| !fork::is_foreign(*birth))
            .map(|(_, known)| known.clone_ref(py).into_bound(py))
    };
    if let Some(known) = known(&lock()) {
        return Ok(known);
    }
    let arguments = PyDict::new(py);
    arguments.set_item("thread_name_prefix", "goev-executor")?;
    let class = py.import("concurrent.futures")?.getattr("ThreadPoolExecutor")?;
    let made = class.call((), Some(&arguments))?;
    // Another thread may have stored one meanwhile: looked at and stored under one lock, and dropped without it.
    let mut kept = lock();
    if let Some(known) = known(&kept) {
        drop(kept);
        return Ok(known);
    }
    let before = kept.replace((fork::generation(), made.clone().unbind()));
    drop(kept);
    drop(before);
    Ok(made)
}
