//! The coroutines of applications: the first step runs at once, and only a coroutine that waits becomes a task.
//!
//! They belong to no connection: a coroutine that has given its answer may work on, and the next request does not wait.
//! The stop of the loop waits for them, as for a coroutine of `on_close`.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::poller::Poller;
use crate::python::asyncio::bridge::{Step, Waiting, is_cancelled, is_coroutine};
use crate::python::asyncio::tasks::Spare;
use crate::python::protocols::request::Request;
use crate::python::tables::{Caller, PyTask, Tables, Task, with_current};
use crate::python::values::arguments::type_name;
use crate::python::waiting::Owner;

/// The name of the tasks.
const NAME: &str = "goev.asgi";

/// Runs a coroutine; `end` gets its result.
pub fn run(coroutine: &Bound<'_, PyAny>, end: impl FnOnce(Python<'_>, PyResult<Py<PyAny>>) + Send + 'static) {
    let py = coroutine.py();
    if !is_coroutine(coroutine) {
        let text = format!("an ASGI application must be async def; the call returned {}", type_name(coroutine));
        return end(py, Err(PyTypeError::new_err(text)));
    }
    let mut end = Some(end);
    let begun = with_current(|_, tables| {
        let event_loop = tables.event_loop()?;
        match event_loop.begin(coroutine) {
            Ok((Step::Ended(result), _)) => end.take().map(|end| end(py, result.map(Bound::unbind))),
            Ok((Step::Waits(first), Some(spare))) => end.take().map(|end| wait(tables, coroutine, &first, spare, end)),
            // Another task runs: a handler's own coroutine has called.
            Ok((Step::Waits(_), None)) | Err(_) => None,
        }
    });
    if let (None, Some(end)) = (begun.flatten(), end) {
        run_later(coroutine, end);
    }
}

fn wait(
    tables: &Tables,
    coroutine: &Bound<'_, PyAny>,
    first: &Bound<'_, PyAny>,
    spare: Spare,
    end: impl FnOnce(Python<'_>, PyResult<Py<PyAny>>) + Send + 'static,
) {
    let (py, number) = (coroutine.py(), tables.waiting.number());
    let done = Box::new(move |py: Python<'_>, result| {
        // Its loop runs on the thread of its poller.
        let last = with_current(|_, tables| tables.waiting.remove(Owner::Ended, number));
        drop(last);
        end(py, result);
    });
    let context = tables.contexts.take_away(py);
    let (first, coroutine) = (Some(first.clone().unbind()), coroutine.clone().unbind());
    let Some(event_loop) = tables.event_loop() else { return };
    match event_loop.go_on(py, spare, NAME, Waiting { coroutine, context, first, done }) {
        // One that was cancelled in its first step has ended by now.
        Ok(task) if task.call_method0(py, intern!(py, "done")).and_then(|done| done.is_truthy(py)).unwrap_or(false) => {
        }
        Ok(task) => tables.waiting.add(Owner::Ended, number, task),
        // Memory runs out.
        Err(error) => error.write_unraisable(py, None),
    }
}

/// Makes the coroutine a task of its own.
fn run_later(coroutine: &Bound<'_, PyAny>, end: impl FnOnce(Python<'_>, PyResult<Py<PyAny>>) + Send + 'static) {
    let py = coroutine.py();
    let made = || {
        let named = pyo3::types::PyDict::new(py);
        named.set_item("name", NAME)?;
        let create = py.import("asyncio")?.getattr(intern!(py, "create_task"))?;
        create.call((coroutine,), Some(&named))
    };
    let task = match made() {
        Ok(task) => task,
        Err(error) => {
            // Otherwise Python would warn that it was never awaited.
            let _ = coroutine.call_method0(intern!(py, "close"));
            return end(py, Err(error));
        }
    };
    let end = std::sync::Mutex::new(Some(end));
    let done = PyCFunction::new_closure(py, None, None, move |args, _| {
        let end = end.lock().ok().and_then(|mut end| end.take());
        if let (Some(end), Ok(task)) = (end, args.get_item(0)) {
            end(args.py(), task.call_method0(intern!(args.py(), "result")).map(Bound::unbind));
        }
    });
    if let Err(error) = done.and_then(|done| task.call_method1(intern!(py, "add_done_callback"), (done,))) {
        error.write_unraisable(py, None);
    }
}

/// An application that has failed.
struct Failed {
    handler: Py<PyAny>,
    error: PyErr,
    /// The request, unless it was answered.
    request: Option<Py<Request>>,
}

impl Task for Failed {
    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        let Self { handler, error, request } = *self;
        if !is_cancelled(py, &error) {
            caller.report(py, poller, handler.bind(py), "app", error);
        }
        if let Some(request) = request {
            Request::fail_with(request.bind(py));
        }
    }
}

/// Reports the exception of an application. A `request` without an answer gets 500.
pub fn report(handler: &Bound<'_, PyAny>, error: PyErr, request: Option<Py<Request>>) {
    let failed = PyTask::other(Failed { handler: handler.clone().unbind(), error, request });
    with_current(|poller, _| poller.push_task(failed));
}
