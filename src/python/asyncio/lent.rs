//! The poller of a thread, on its way to the event loop that drives it.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::poller::{Dispatch, Parked};

/// A poller that an event loop takes over, once.
#[pyclass(frozen, module = "goev._core")]
pub struct Lent(Mutex<Option<Box<dyn std::any::Any + Send>>>);

impl Lent {
    pub fn new<D: Dispatch>(py: Python<'_>, parked: Box<Parked<D>>) -> PyResult<Py<Self>> {
        Py::new(py, Self(Mutex::new(Some(parked))))
    }

    pub fn take<D: Dispatch>(&self) -> Option<Box<Parked<D>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?.downcast().ok()
    }
}
