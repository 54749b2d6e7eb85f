//! Greenlets: several stacks of one thread. The callbacks of a batch run on one of them.
//!
//! While a callback waits, other greenlets of its thread run. A call of theirs is no part of the callback. So it is
//! treated like a call from another thread: posted, or refused by `WrongThread`.

use std::cell::{Cell, OnceCell, RefCell};

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The greenlets of one poller's thread.
pub struct Greenlets {
    /// `sys.modules`, and its size when it was last searched.
    modules: Option<Py<PyDict>>,
    searched: Cell<usize>,
    /// `greenlet.getcurrent`, once the program has imported greenlet.
    getcurrent: OnceCell<Py<PyAny>>,
    /// The greenlet of the current batch.
    own: RefCell<Option<Py<PyAny>>>,
}

impl Greenlets {
    pub fn new(py: Python<'_>) -> Self {
        let modules = py.import("sys").and_then(|sys| Ok(sys.getattr("modules")?.cast_into::<PyDict>()?.unbind()));
        Self { modules: modules.ok(), searched: Cell::new(0), getcurrent: OnceCell::new(), own: RefCell::default() }
    }

    /// Whether the program has imported greenlet, as far as known.
    #[inline]
    pub fn are_used(&self) -> bool {
        self.getcurrent.get().is_some()
    }

    /// Looks whether the program has imported greenlet.
    #[inline]
    pub fn look(&self, py: Python<'_>) {
        let Some(modules) = &self.modules else { return };
        let size = modules.bind(py).len();
        if self.searched.replace(size) != size && !self.are_used() {
            self.search(modules.bind(py));
        }
    }

    #[cold]
    fn search(&self, modules: &Bound<'_, PyDict>) {
        if let Ok(Some(module)) = modules.get_item("greenlet")
            && let Ok(getcurrent) = module.getattr("getcurrent")
        {
            self.getcurrent.get_or_init(|| getcurrent.unbind());
        }
    }

    /// Notes that a batch begins on the current greenlet.
    pub fn begin(&self, py: Python<'_>) {
        let now = self.getcurrent.get().and_then(|getcurrent| getcurrent.call0(py).ok());
        let before = self.own.replace(now);
        drop(before);
    }

    /// Notes that the batch is over.
    pub fn end(&self) {
        let own = self.own.take();
        drop(own);
    }

    /// Whether the caller is on another greenlet than the batch.
    #[inline]
    pub fn is_elsewhere(&self) -> bool {
        self.getcurrent.get().is_some_and(|getcurrent| self.is_not_own(getcurrent))
    }

    #[cold]
    fn is_not_own(&self, getcurrent: &Py<PyAny>) -> bool {
        Python::attach(|py| {
            let now = getcurrent.call0(py);
            let own = self.own.borrow();
            own.as_ref().is_some_and(|own| !now.is_ok_and(|now| now.is(own)))
        })
    }
}
