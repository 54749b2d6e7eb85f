//! The event loop of a poller, for the coroutines of its callbacks.
//!
//! Each coroutine runs its first step at once, as the current task of the loop. If it ends there, it has cost no task: the
//! task that stood in for it is a *spare*, which the next coroutine uses. If it waits, the spare becomes its task.

use std::cell::RefCell;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::bridge::{Bridge, Step, Waiting, go_on};
use super::call_soon::{caught, release};

/// The name of a task while the first step of a coroutine runs.
const FIRST_STEP: &str = "first step of a callback";

/// A task that has not begun.
pub struct Spare {
    task: Py<PyAny>,
    bridge: Py<Bridge>,
    /// Runs the first step of the task.
    step: Py<PyAny>,
    /// The references to the task while no code of the user's has any.
    references: isize,
    /// Whether asyncio knows it, as `all_tasks` shows.
    is_registered: bool,
}

/// The loop that drives a poller.
pub struct Loop {
    event_loop: Py<PyAny>,
    task: Py<PyAny>,
    /// The keyword arguments of `Task`.
    named: Py<PyDict>,
    /// The functions by which another loop or task may extend asyncio (its documentation, "Extending").
    enter: Py<PyAny>,
    leave: Py<PyAny>,
    register: Py<PyAny>,
    unregister: Py<PyAny>,
    spare: RefCell<Option<Spare>>,
}

impl Loop {
    pub fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let tasks = py.import("asyncio.tasks")?;
        let named = PyDict::new(py);
        named.set_item("loop", event_loop)?;
        named.set_item("name", FIRST_STEP)?;
        let get = |name: &str| Ok::<_, PyErr>(tasks.getattr(name)?.unbind());
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            task: get("Task")?,
            named: named.unbind(),
            enter: get("_enter_task")?,
            leave: get("_leave_task")?,
            register: get("_register_task")?,
            unregister: get("_unregister_task")?,
            spare: RefCell::default(),
        })
    }

    /// Runs the first step of a coroutine. If it waits, [`Self::go_on`] makes it a task of the returned spare.
    pub fn begin<'py>(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<(Step<'py>, Option<Spare>)> {
        let py = coroutine.py();
        let ready = self.spare.take();
        let spare = ready.map_or_else(|| self.make_spare(py), Ok)?;
        self.enter.call1(py, (&self.event_loop, &spare.task))?;
        let step = go_on(coroutine);
        self.leave.call1(py, (&self.event_loop, &spare.task))?;
        if matches!(step, Step::Waits(_)) {
            return Ok((step, Some(spare)));
        }
        match spare.is_untouched(py) {
            true => self.keep(py, spare)?,
            false => spare.end(py),
        }
        Ok((step, None))
    }

    /// Makes a coroutine that waits a task, and returns it.
    pub fn go_on(&self, py: Python<'_>, spare: Spare, name: &str, waiting: Waiting) -> PyResult<Py<PyAny>> {
        let Spare { task, bridge, step, is_registered, .. } = spare;
        if !is_registered {
            self.register.call1(py, (&task,))?;
        }
        task.call_method1(py, intern!(py, "set_name"), (name,))?;
        bridge.get().bind(waiting);
        step.call0(py)?;
        Ok(task)
    }

    /// Keeps a spare for the next coroutine, unknown to asyncio.
    fn keep(&self, py: Python<'_>, spare: Spare) -> PyResult<()> {
        if spare.is_registered {
            self.unregister.call1(py, (&spare.task,))?;
        }
        let before = self.spare.replace(Some(Spare { is_registered: false, ..spare }));
        drop(before);
        Ok(())
    }

    /// The event loop.
    pub fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Shows the garbage collector the loop.
    pub fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        see(&self.event_loop);
        see(self.named.as_any());
        if let Ok(spare) = self.spare.try_borrow()
            && let Some(Spare { task, step, .. }) = &*spare
        {
            see(task);
            see(step);
        }
    }

    /// Drops the task that is left, because the loop ends.
    pub fn close(&self, py: Python<'_>) {
        let spare = self.spare.take();
        if let Some(spare) = spare {
            spare.end(py);
        }
    }

    /// While a task is made, a finalizer or a handler of a signal may run, and schedule a callback of its own.
    fn make_spare(&self, py: Python<'_>) -> PyResult<Spare> {
        loop {
            let bridge = Py::new(py, Bridge::new())?;
            let arguments = PyTuple::new(py, [&bridge])?;
            let (task, handle) = caught(|| self.task.call(py, arguments, Some(self.named.bind(py))))?;
            if let Some(step) = handle.get().callback(py)
                && step.bind(py).getattr_opt(intern!(py, "__self__"))?.is_some_and(|owner| owner.is(&task))
            {
                drop(handle);
                let references = references_of(&task);
                return Ok(Spare { task, bridge, step, references, is_registered: true });
            }
            release(py, &self.event_loop, handle)?;
        }
    }
}

fn references_of(task: &Py<PyAny>) -> isize {
    // SAFETY: the caller has a reference to the object.
    unsafe { ffi::Py_REFCNT(task.as_ptr()) }
}

impl Spare {
    /// Whether another coroutine may use it: no code keeps it, and it was not cancelled.
    fn is_untouched(&self, py: Python<'_>) -> bool {
        let cancelling = || self.task.call_method0(py, intern!(py, "cancelling"))?.is_truthy(py);
        references_of(&self.task) == self.references && !cancelling().unwrap_or(true)
    }

    /// Ends the task, which has nothing to do.
    fn end(&self, py: Python<'_>) {
        // Without a coroutine its first step ends it. A task that was cancelled meanwhile is cancelled then.
        if let Err(error) = self.step.call0(py) {
            error.write_unraisable(py, None);
        }
    }
}
