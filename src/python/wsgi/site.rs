//! One application: everything that its connections and its threads share.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::exchange::Job;
use super::queue::Queue;

/// One application, for its connections and its threads.
pub struct Site {
    pub queue: Queue<Job>,
    pub app: Py<PyAny>,
    /// The part of each environment that belongs to no connection.
    pub environ: Py<PyDict>,
    pub file_wrapper: Py<PyType>,
    /// The root path, decoded.
    pub root: Vec<u8>,
    /// The process of its threads (`fork::generation`).
    pub birth: u32,
}
