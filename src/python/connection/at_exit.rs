//! Reactors that run must end before the interpreter does, and access logs must be written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pyo3::prelude::*;

use crate::python::dispatch::PyDispatch;
use crate::python::running::at_end::close_all_logs;
use crate::reactor::Reactor;
use crate::system::thread_exit;

/// Reactors that have run, also those in daemon threads. Their threads keep them alive.
static RUNNING: Mutex<Vec<Weak<Reactor<PyDispatch>>>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Weak<Reactor<PyDispatch>>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a reactor stopped when the interpreter ends.
pub fn stop(reactor: &Arc<Reactor<PyDispatch>>) {
    let mut running = running();
    running.retain(|reactor| reactor.strong_count() > 0);
    running.push(Arc::downgrade(reactor));
}

/// Stop all reactors, and write what waits for the access logs. Registered with atexit.
#[pyfunction]
#[pyo3(name = "_stop_all")]
pub fn stop_all(py: Python<'_>) {
    let reactors = std::mem::take(&mut *running());
    py.detach(|| {
        let reactors = reactors.iter().filter_map(Weak::upgrade);
        let reactors: Vec<_> = reactors.filter(|reactor| reactor.check_process().is_ok()).collect();
        reactors.iter().for_each(|reactor| reactor.stop(Duration::ZERO));
        for reactor in reactors {
            // A callback that does not return must not keep the process from ending.
            let _ = reactor.join(None, &mut || Ok(()));
        }
        // Behind the reactors, whose connections have last lines.
        close_all_logs();
    });
    thread_exit::begin_end();
}
