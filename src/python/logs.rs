//! `goev.logs.AccessLog`.

use std::path::{PathBuf, absolute};
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use crate::error::Error;
use crate::journal::{CAPACITIES, Journal, Place, Settings};
use crate::protocols::http::access::{Format, Lines};
use crate::python::running::at_end;
use crate::python::running::attach::attach;
use crate::python::running::logs::{About, log, settle};
use crate::python::tables::with_current;
use crate::python::values::arguments::{seconds, size_within, type_name};
use crate::system::thread_exit;

/// A log with a line for each request, given as ``Acceptor(access_log=...)``, to any number of acceptors.
///
/// Args:
///     path: a file, to which lines are appended; ``"-"`` is standard output. Several processes may share a file.
///     format: ``"common"``, ``"combined"``, ``"json"``, or a text with values in braces: ``"{peer} {status} {seconds}"``.
///         ``{{`` and ``}}`` are braces themselves.
///     sample: the share of requests that get a line, more than 0, at most 1. Answers of 500 and above always get one.
///     capacity: bytes of records that may wait for the writer, 1,024 to 1 GiB; further ones are dropped and counted.
///     worker: the number of this worker process, for ``{worker}``.
///
/// Raises:
///     OSError: the file cannot be opened; ``errno`` is kept.
///     ValueError, TypeError: an argument is wrong; for a wrong name in ``format`` the text lists all names.
///
/// A thread in Rust writes whole lines, at most 0.1 seconds after the request while the file takes them. No poller waits
/// for it. A log that fails drops lines, counts them, tells the logger ``goev`` once a minute, and goes on when it can. When
/// nothing refers to the log any more, and when the interpreter ends, the rest is written. In a forked child its methods
/// raise ``RuntimeError``.
#[pyclass(frozen, module = "goev.logs")]
pub struct AccessLog {
    journal: Arc<Journal>,
}

impl AccessLog {
    /// The log for an acceptor.
    pub fn journal(&self) -> PyResult<Arc<Journal>> {
        self.journal.check_process()?;
        Ok(self.journal.clone())
    }
}

#[pymethods]
impl AccessLog {
    #[new]
    #[pyo3(
        signature = (path, *, format = "combined", sample = 1.0, capacity = 4_194_304, worker = None),
        text_signature = "(path, *, format='combined', sample=1.0, capacity=4194304, worker=None)"
    )]
    fn new(
        py: Python<'_>,
        path: &Bound<'_, PyAny>,
        format: &str,
        sample: f64,
        capacity: i64,
        worker: Option<u32>,
    ) -> PyResult<Self> {
        let place = place_of(path)?;
        let format =
            Format::parse(format).map_err(|error| PyValueError::new_err(format!("format {format:?} {error}")))?;
        if !(sample > 0.0 && sample <= 1.0) {
            return Err(PyValueError::new_err(format!("sample must be more than 0 and at most 1, not {sample}")));
        }
        let capacity = size_within("capacity", capacity, CAPACITIES)?;
        let settings = Settings { place, capacity, sample, needs: format.needs(), linger: Settings::LINGER };
        let lines = Box::new(Lines::new(format, worker, std::process::id()));
        let journal = py.detach(|| Journal::open(settings, lines, Box::new(tell)))?;
        at_end::close_log(&journal);
        Ok(Self { journal })
    }

    /// The path, absolute; ``"-"`` for standard output.
    #[getter]
    fn path(&self) -> PathBuf {
        self.journal.path().cloned().unwrap_or_else(|| "-".into())
    }

    /// The counts since the log was opened, a dict: ``written`` and ``dropped`` lines, ``errors`` of the file, and
    /// ``waiting``, the bytes that the writer has not written yet. From any thread.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.journal.check_process()?;
        self.journal.counted().each().into_py_dict(py)
    }

    /// Wait until every line so far is written or dropped; ``False`` if that takes more than ``timeout`` seconds.
    #[pyo3(signature = (timeout = 5.0))]
    fn flush(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        self.journal.check_process()?;
        let timeout = seconds("timeout", timeout)?;
        Ok(py.detach(|| self.journal.flush(timeout)))
    }

    /// Open the path anew and go on in that file, after ``logrotate`` has moved the old one away. No line is lost.
    ///
    /// Raises:
    ///     OSError: the file cannot be opened; the log goes on in the old one.
    ///     RuntimeError: the log is closed.
    fn reopen(&self, py: Python<'_>) -> PyResult<()> {
        self.journal.check_process()?;
        Ok(py.detach(|| self.journal.reopen())?)
    }

    /// Write what waits, and end. Lines that come later are dropped and counted.
    ///
    /// Returns: whether the file took everything within ``timeout`` seconds. May be called any number of times.
    #[pyo3(signature = (timeout = 5.0))]
    fn close(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        self.journal.check_process()?;
        let timeout = seconds("timeout", timeout)?;
        Ok(py.detach(|| self.journal.close(timeout)))
    }

    fn __repr__(&self) -> String {
        format!("<goev.logs.AccessLog {}>", self.path().display())
    }
}

/// The value of the option `access_log`.
pub fn log_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<AccessLog>>> {
    if value.is_none() {
        return Ok(None);
    }
    let wrong = |_| PyTypeError::new_err(format!("{name} must be a goev.logs.AccessLog, not {}", type_name(value)));
    Ok(Some(value.cast::<AccessLog>().map_err(wrong)?.clone().unbind()))
}

/// The place of a log. A path is made absolute, so a later change of the folder does not move the log.
fn place_of(path: &Bound<'_, PyAny>) -> PyResult<Place> {
    let wrong = |_| PyTypeError::new_err(format!("path must be a str or os.PathLike, not {}", type_name(path)));
    let path: PathBuf = path.extract().map_err(wrong)?;
    if path.as_os_str() == "-" {
        return Ok(Place::Output);
    }
    let path = absolute(path).map_err(Error::io("path must name a file"))?;
    Ok(Place::Path(path))
}

/// Warns that lines were lost.
fn tell(text: &str) {
    if thread_exit::is_ending() {
        return;
    }
    thread_exit::guard();
    attach(|py| {
        let logged = log(py, "warning", &About::default(), ("%s", text), None);
        // Nobody is there to take a Ctrl-C: the main thread gets it by itself.
        let _ = settle(py, logged, None);
    });
}

/// The number of the poller whose callback runs on this thread; ``None`` elsewhere.
#[pyfunction]
#[pyo3(name = "_current_poller")]
pub fn current_poller() -> Option<usize> {
    with_current(|poller, _| poller.handle().index)
}
