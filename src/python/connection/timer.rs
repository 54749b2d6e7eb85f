//! The handle of a timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::error::Error;
use crate::python::tables::with_poller;
use crate::shared::handle::PollerHandle;
use crate::slots::Token;
use crate::system::fork;
use crate::timer::TimerId;

/// No timer has these bits, because generations are neither 0 nor `u32::MAX`.
const NOT_YET_SET: u64 = 0;
const CANCELLED: u64 = u64::MAX;

/// A timer that was set with ``schedule``. Dropping this object does not cancel it.
#[pyclass(frozen, module = "goev")]
pub struct Timer {
    poller: Arc<PollerHandle>,
    id: AtomicU64,
    /// The argument of ``schedule``, nanoseconds.
    delay: u64,
}

impl Timer {
    pub fn new(py: Python<'_>, poller: Arc<PollerHandle>, id: TimerId, delay: u64) -> PyResult<Py<Self>> {
        Self { poller, id: AtomicU64::new(id.to_bits()), delay }.untracked(py)
    }

    /// A timer that the poller sets when it reads its mailbox.
    pub fn posted(py: Python<'_>, poller: Arc<PollerHandle>, delay: u64) -> PyResult<Py<Self>> {
        Self { poller, id: AtomicU64::new(NOT_YET_SET), delay }.untracked(py)
    }

    /// Removes the object from the garbage collector, because it can be part of no cycle. PyO3 makes a tracked class
    /// of it, and a million tracked timers take twice the time to set.
    fn untracked(self, py: Python<'_>) -> PyResult<Py<Self>> {
        let timer = Py::new(py, self)?;
        // SAFETY: the object is of a collected type and is complete. It refers to no Python object but its type,
        // which the module keeps alive. Its deallocation untracks it again, which is harmless.
        unsafe { pyo3::ffi::PyObject_GC_UnTrack(timer.as_ptr().cast()) };
        Ok(timer)
    }

    /// Called on the poller: stores the id. Returns false if the timer was cancelled before it was set.
    pub fn is_wanted_as(&self, id: TimerId) -> bool {
        self.id.compare_exchange(NOT_YET_SET, id.to_bits(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[pymethods]
impl Timer {
    /// Cancel the timer: its callback will not be called again.
    ///
    /// May be called any number of times, from any thread, also inside the callback. From a thread other than the
    /// poller's it takes effect when the poller next reads its mailbox.
    fn cancel(&self) -> PyResult<()> {
        fork::check(self.poller.birth, "timer")?;
        let bits = self.id.swap(CANCELLED, Ordering::AcqRel);
        if bits != CANCELLED && bits != NOT_YET_SET {
            let id = Token::from_bits(bits);
            with_poller(&self.poller, |poller, tables| tables.cancel_timer(poller, id))
                .unwrap_or_else(|| self.poller.cancel_timer(id));
        }
        Ok(())
    }

    /// Start the delay anew: the next call comes as many seconds from now as ``schedule`` was given.
    ///
    /// A repeating timer counts its later calls from there, also when it is reset inside its own callback. A timer that has
    /// fired for the last time, was cancelled, or ended with its connection stays as it is; schedule a new one.
    ///
    /// Only on the thread of its poller, inside a callback: elsewhere it raises ``WrongThread``.
    ///
    /// Returns: whether the timer is set.
    ///
    /// Go: ``time.Timer.Reset``; unlike that, it does not start a timer that has fired.
    fn reset(&self) -> PyResult<bool> {
        fork::check(self.poller.birth, "timer")?;
        let reset = with_poller(&self.poller, |poller, _| match self.id.load(Ordering::Acquire) {
            CANCELLED | NOT_YET_SET => false,
            bits => poller.reset_timer(Token::from_bits(bits), poller.now() + self.delay),
        });
        reset.ok_or_else(|| Error::wrong_thread("reset()").into())
    }
}
