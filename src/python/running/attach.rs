//! The way of goev's threads into the interpreter, and out of it.

use pyo3::prelude::*;

use crate::system::thread_exit;

/// Calls `work` attached to the interpreter. If the interpreter is finalizing, the thread sleeps until the process ends.
pub fn attach<R>(work: impl for<'py> FnOnce(Python<'py>) -> R) -> R {
    Python::try_attach(work).unwrap_or_else(|| thread_exit::sleep())
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
