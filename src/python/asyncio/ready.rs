//! The callbacks of a loop that are ready, in their order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::PyTraverseError;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::handle::Handle;
use crate::capacity::room_for;

/// The handles of one loop.
#[derive(Default)]
pub struct Ready {
    handles: Mutex<VecDeque<Py<Handle>>>,
    /// Whether asyncio has something to do, so that `select` has to return.
    is_interrupted: AtomicBool,
}

thread_local! {
    /// The loop that runs on this thread, and its callbacks.
    static RUNNING: RefCell<Option<(Py<PyAny>, Arc<Ready>)>> = const { RefCell::new(None) };
}

/// Sets the loop that runs on this thread.
pub fn set_running(running: Option<(Py<PyAny>, Arc<Ready>)>) {
    let before = RUNNING.replace(running);
    drop(before);
}

/// The callbacks of `event_loop`, if it is the loop that runs on this thread.
pub fn running(event_loop: *mut ffi::PyObject) -> Option<Arc<Ready>> {
    RUNNING.with_borrow(|running| match running {
        Some((running, ready)) if running.as_ptr() == event_loop => Some(ready.clone()),
        _ => None,
    })
}

impl Ready {
    /// Notes that asyncio has something to do.
    pub fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Release);
    }

    /// Whether asyncio has something to do, which is told once.
    pub fn was_interrupted(&self) -> bool {
        self.is_interrupted.swap(false, Ordering::Acquire)
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Adds a handle; an error if there is no memory.
    pub fn push(&self, handle: Py<Handle>) -> PyResult<()> {
        let handles = &mut *self.lock();
        handles.try_reserve(1).map_err(|_| PyMemoryError::new_err("no memory for a callback"))?;
        handles.push_back(handle);
        Ok(())
    }

    pub fn pop(&self) -> Option<Py<Handle>> {
        let handles = &mut *self.lock();
        let handle = handles.pop_front();
        if let Some(room) = room_for(handles.len(), handles.capacity()) {
            handles.shrink_to(room);
        }
        handle
    }

    /// Drops all.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    /// Shows the garbage collector the handles.
    pub fn show(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(handles) = self.handles.try_lock() else { return Ok(()) };
        handles.iter().try_for_each(|handle| visit.call(handle))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Py<Handle>>> {
        // A panic while the lock is held cannot leave the queue half changed.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
