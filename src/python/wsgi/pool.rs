//! `goev.wsgi.Pool`: the threads that call one application.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::call::serve;
use super::queue::{Queue, Seat};
use super::site::Site;
use crate::python::running::attach::detached;
use crate::python::running::fairness::has_lock;
use crate::python::values::arguments::{callable, integer, size};
use crate::system::{fork, thread_exit};

/// The requests for one application; ``work`` is the life of each of its threads.
#[pyclass(frozen, name = "WsgiPool", module = "goev._core")]
pub struct Pool {
    pub site: Arc<Site>,
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (app, environ, *, file_wrapper, root_path, max_waiting))]
    fn new(
        py: Python<'_>,
        app: Bound<'_, PyAny>,
        environ: Bound<'_, PyDict>,
        file_wrapper: Bound<'_, PyType>,
        root_path: &[u8],
        #[pyo3(from_py_with = integer)] max_waiting: i64,
    ) -> PyResult<Self> {
        callable("app", &app)?;
        let most = size("max_waiting", max_waiting)?;
        if most == 0 {
            return Err(PyValueError::new_err("max_waiting must be at least 1, not 0"));
        }
        let root = root_path.to_vec();
        let queue = Queue::new(most, !has_lock(py));
        let (app, environ, file_wrapper) = (app.unbind(), environ.unbind(), file_wrapper.unbind());
        let birth = fork::generation();
        Ok(Self { site: Arc::new(Site { queue, app, environ, file_wrapper, root, birth }) })
    }

    /// Call the application with one request after the other, until the pool is closed.
    fn work(&self, py: Python<'_>) {
        thread_exit::guard();
        let (site, seat) = (&self.site, Seat::new());
        let mut is_new = true;
        while detached(py, || site.queue.wait(&seat, is_new)) {
            is_new = false;
            while let Some(job) = site.queue.pop() {
                serve(py, site, &job);
                if fork::is_foreign(site.birth) {
                    // The application has forked, and the child came back: no request ever reaches its queue. With
                    // the end of this thread, its only one, the child ends.
                    return;
                }
            }
        }
    }

    /// Have each thread end when it has done its request. Requests that wait get 500.
    fn close(&self) {
        self.site.queue.close();
    }

    /// The number of requests that wait for a thread.
    #[getter]
    fn waiting(&self) -> usize {
        self.site.queue.len()
    }

    /// Whether its threads are in this process, and not in the one that forked it.
    #[getter]
    fn is_here(&self) -> bool {
        !fork::is_foreign(self.site.birth)
    }
}
