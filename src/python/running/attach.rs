//! The way of goev's threads into the interpreter, and out of it.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::system::thread_exit;

/// The most calls of goev that may be suspended on other greenlets and end within one batch.
const MOST_SUSPENDED: usize = 32;

/// Calls `work` attached to the interpreter. If the interpreter is finalizing, the thread sleeps until the process ends.
pub fn attach<R>(work: impl for<'py> FnOnce(Python<'py>) -> R) -> R {
    Python::try_attach(work).unwrap_or_else(|| thread_exit::sleep())
}

/// As [`attach`], in a thread whose other greenlets may be suspended inside calls of goev.
///
/// PyO3 counts the calls that a thread is in, and takes a thread with a count for attached. A call that is suspended when
/// the batch ends would count on, while the poller waits without the interpreter. So each batch gets a count of its own,
/// which nobody reads behind it. It begins high, because calls of earlier batches may end in this one.
pub fn attach_beside_greenlets(mut work: impl FnMut(Python<'_>)) {
    // SAFETY: attaches and detaches in pairs, whatever PyO3 counts. Between the two calls the thread is attached.
    unsafe {
        let state = ffi::PyGILState_Ensure();
        detached(Python::assume_attached(), || attach_often(MOST_SUSPENDED, &mut work));
        ffi::PyGILState_Release(state);
    }
}

fn attach_often(more: usize, work: &mut dyn FnMut(Python<'_>)) {
    attach(|py| if more == 0 { work(py) } else { attach_often(more - 1, work) });
}

/// Calls `work` on this thread, detached. It must hold no Python object that it uses.
pub fn detached<R>(py: Python<'_>, work: impl FnOnce() -> R) -> R {
    /// `detach` requires a `Send` closure, because a closure could bring Python objects along.
    struct Here<T>(T);
    // SAFETY: `detach` runs the closure on this very thread.
    unsafe impl<T> Send for Here<T> {}
    impl<F: FnOnce() -> R, R> Here<F> {
        fn run(self) -> Here<R> {
            Here((self.0)())
        }
    }
    let work = Here(work);
    py.detach(move || work.run()).0
}

/// The size of stack that `threading.stack_size` has set for new threads; `None` if it was not called.
pub fn wanted_stack() -> Option<usize> {
    // SAFETY: the function takes nothing and reads a number of the interpreter; `threading.stack_size()` would reset it.
    unsafe extern "C" {
        safe fn PyThread_get_stacksize() -> usize;
    }
    Some(attach(|_| PyThread_get_stacksize())).filter(|size| *size > 0)
}
