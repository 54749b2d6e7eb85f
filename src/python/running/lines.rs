//! `goev._core._LineLog`: the thread behind `goev.logs.StderrHandler`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict};

use crate::journal::{CAPACITIES, Counted, Journal, Lane, Place, Settings};
use crate::python::running::at_end;
use crate::python::values::arguments::{seconds, size_within};
use crate::recorder::{Recorder, Render, Time};

/// Lines that are the records themselves.
struct Plain;

impl Render for Plain {
    fn render(&mut self, record: &[u8], _: Time, out: &mut Vec<u8>) {
        out.extend_from_slice(record);
        out.push(b'\n');
    }
}

/// Lines on their way to standard error. They are written as they come, by a thread.
#[pyclass(frozen, name = "_LineLog", module = "goev._core")]
pub struct LineLog {
    /// `None` if standard error is closed.
    open: Option<(Arc<Journal>, Arc<Lane>)>,
    /// Lines that had nowhere to go.
    lost: AtomicU64,
}

#[pymethods]
impl LineLog {
    #[new]
    fn new(capacity: i64) -> PyResult<Self> {
        let capacity = size_within("capacity", capacity, CAPACITIES)?;
        let settings = Settings { place: Place::Error, capacity, sample: 1.0, needs: 0, linger: Duration::ZERO };
        // A report of lost lines would go the same way.
        let journal = Journal::open(settings, Box::new(Plain), Box::new(|_| ())).ok();
        let open = journal.map(|journal| {
            at_end::close_log(&journal);
            let lane = journal.lane(0);
            (journal, lane)
        });
        Ok(Self { open, lost: AtomicU64::new(0) })
    }

    fn put(&self, line: &Bound<'_, PyBytes>) {
        match &self.open {
            Some((_, lane)) => lane.put(&[line.as_bytes()]),
            None => _ = self.lost.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn flush(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = seconds("timeout", timeout)?;
        let flush = |(journal, _): &(Arc<Journal>, _)| py.detach(|| journal.flush(timeout));
        Ok(self.open.as_ref().is_none_or(flush))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let lost = Counted { dropped: self.lost.load(Ordering::Relaxed), ..Counted::default() };
        let counted = self.open.as_ref().map_or(lost, |(journal, _)| journal.counted());
        counted.each().into_py_dict(py)
    }
}
