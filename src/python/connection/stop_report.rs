//! `goev.StopReport`.

use pyo3::prelude::*;

use crate::python::dispatch::PyDispatch;
use crate::reactor::Reactor;

/// The ends of the connections that were open when a reactor was stopped.
///
/// Attributes:
///     closed: the number of connections that were closed in order, with all their output sent.
///     aborted: the number of those that were not, because the grace was over or the peer was gone.
#[pyclass(frozen, eq, get_all, module = "goev")]
#[derive(PartialEq)]
pub struct StopReport {
    closed: u64,
    aborted: u64,
}

impl StopReport {
    pub fn of(reactor: &Reactor<PyDispatch>) -> Self {
        let (closed, aborted) = reactor.stop_report();
        Self { closed, aborted }
    }
}

#[pymethods]
impl StopReport {
    #[new]
    fn new(closed: u64, aborted: u64) -> Self {
        Self { closed, aborted }
    }

    fn __repr__(&self) -> String {
        format!("StopReport(closed={}, aborted={})", self.closed, self.aborted)
    }
}
