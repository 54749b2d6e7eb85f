//! Objects of a size that a peer or a user chooses: `MemoryError` instead of a panic when memory runs out.

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A `bytes` object with a copy of `data`. Making it runs no code of the user's.
#[inline]
pub fn bytes_object<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: the function copies `len` bytes of a slice, and returns a new `bytes` object, or null with an exception. No
    // slice is longer than `isize::MAX`.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), data.len() as ffi::Py_ssize_t);
        Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked())
    }
}

/// Moves an error aside, for results that pass many hands on a hot path: an error is several words long.
#[inline]
pub fn or_keep<T>(made: PyResult<T>, failed: &mut Option<PyErr>) -> Option<T> {
    made.map_err(|error| *failed = Some(error)).ok()
}

/// A copy of `data`.
pub fn copied(data: &[u8]) -> PyResult<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(data.len())
        .map_err(|_| PyMemoryError::new_err(format!("no memory for {} bytes", data.len())))?;
    copy.extend_from_slice(data);
    Ok(copy)
}
