//! Signals during `run()` on the main thread: every signal wakes its poller, and SIGINT and SIGTERM stop the reactor.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::Error;
use crate::poller::{Dispatch, Poller};
use crate::reactor::Reactor as CoreReactor;
use crate::system::fork;
use crate::system::signal::SignalPipe;

/// Points the interpreter's wake-up descriptor at a poller that runs on the main thread. So a signal just before the
/// wait is not lost (signal.set_wakeup_fd).
pub struct WakeupFd {
    before: Option<RawFd>,
    /// Kept open until the interpreter no longer writes to it.
    _pipe: Arc<SignalPipe>,
}

impl WakeupFd {
    pub fn set(py: Python<'_>, poller: &Poller) -> PyResult<Self> {
        let pipe = poller.watch_signals().map_err(Error::io("cannot open the signal pipe"))?;
        // Without the descriptor signals are handled later: at the next event.
        Ok(Self { before: set_wakeup_fd(py, pipe.writer()).ok().flatten(), _pipe: pipe })
    }

    pub fn restore(self, py: Python<'_>) -> PyResult<()> {
        let Some(before) = self.before else { return Ok(()) };
        py.import("signal")?.call_method1("set_wakeup_fd", (before,))?;
        Ok(())
    }
}

/// Has signals write to the pipe of `writer` (signal.set_wakeup_fd), on the main thread and unless other code has set a
/// descriptor.
pub fn wake_by(py: Python<'_>, writer: RawFd) -> PyResult<()> {
    match set_wakeup_fd(py, writer)? {
        Some(before) if before >= 0 => set_wakeup_fd(py, before).map(drop),
        _ => Ok(()),
    }
}

/// Ends the work of [`wake_by`], unless other code has set another descriptor since.
pub fn wake_no_more(py: Python<'_>, writer: RawFd) -> PyResult<()> {
    match set_wakeup_fd(py, -1)? {
        Some(now) if now >= 0 && now != writer => set_wakeup_fd(py, now).map(drop),
        _ => Ok(()),
    }
}

/// Sets the descriptor, and returns the one before; `None` on a thread that is not the main one.
fn set_wakeup_fd(py: Python<'_>, fd: RawFd) -> PyResult<Option<RawFd>> {
    if !is_main_thread(py)? {
        return Ok(None);
    }
    let arguments = PyDict::new(py);
    arguments.set_item("warn_on_full_buffer", false)?;
    match py.import("signal")?.call_method("set_wakeup_fd", (fd,), Some(&arguments)) {
        Ok(before) => before.extract().map(Some),
        // `threading` was imported first by another thread, and takes that for the main one.
        Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    Ok(threading.call_method0("current_thread")?.is(&threading.call_method0("main_thread")?))
}

/// The handlers of SIGINT and SIGTERM as they were before a run.
#[derive(Default)]
pub struct StopSignals(Vec<(i32, Py<PyAny>)>);

impl StopSignals {
    /// Makes both signals stop `core`: the first within `grace`, a second one at once. A handler of the user is not
    /// replaced. On a thread other than the main one this does nothing.
    pub fn set<D: Dispatch>(py: Python<'_>, core: &Arc<CoreReactor<D>>, grace: Duration) -> PyResult<Self> {
        let mut replaced = Self::default();
        if !is_main_thread(py)? {
            return Ok(replaced);
        }
        let core = core.clone();
        let stop: Box<dyn Fn(Duration) + Send + Sync> = Box::new(move |grace| core.stop(grace));
        let stop = Bound::new(py, Stop { stop, grace, again: AtomicBool::new(false), birth: fork::generation() })?;
        let module = py.import("signal")?;
        for (number, default) in [(libc::SIGINT, "default_int_handler"), (libc::SIGTERM, "SIG_DFL")] {
            let current = module.call_method1("getsignal", (number,))?;
            if current.eq(module.getattr(default)?)? || is_of_the_parent(&current) {
                match module.call_method1("signal", (number, &stop)) {
                    Ok(before) => replaced.0.push((number, before.unbind())),
                    // threading may take another thread for the main one: the one that has imported it.
                    Err(error) if error.is_instance_of::<PyValueError>(py) => return Ok(replaced),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(replaced)
    }

    pub fn restore(self, py: Python<'_>) -> PyResult<()> {
        for (number, before) in self.0 {
            py.import("signal")?.call_method1("signal", (number, before))?;
        }
        Ok(())
    }
}

/// The handler of a signal that stops a reactor: the first time within the grace, a second time at once.
#[pyclass(frozen)]
struct Stop {
    stop: Box<dyn Fn(Duration) + Send + Sync>,
    grace: Duration,
    again: AtomicBool,
    birth: u32,
}

#[pymethods]
impl Stop {
    #[pyo3(signature = (*args))]
    fn __call__(&self, args: &Bound<'_, PyTuple>) {
        let grace = if self.again.swap(true, Ordering::Relaxed) { Duration::ZERO } else { self.grace };
        args.py().detach(|| (self.stop)(grace));
    }
}

/// Whether a child has this handler from a `run()` of its parent, in which it was forked.
fn is_of_the_parent(handler: &Bound<'_, PyAny>) -> bool {
    handler.cast::<Stop>().is_ok_and(|stop| fork::is_foreign(stop.get().birth))
}
