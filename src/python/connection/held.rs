//! `bytes` objects that are sent without a copy.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::data::Held;

/// Size from which a `bytes` object is held by reference until it is sent; a smaller one is cheaper to copy.
const HELD_FROM: usize = 4096;

/// A `bytes` object that is being sent.
pub struct HeldBytes {
    bytes: *const [u8],
    _owner: Py<PyBytes>,
}

// SAFETY: the memory of a bytes object neither moves nor changes while the owner holds a reference to it, and reading
// it needs no interpreter. The reference itself is `Send`.
unsafe impl Send for HeldBytes {}

impl HeldBytes {
    pub fn new(owner: &Bound<'_, PyBytes>) -> Self {
        Self { bytes: owner.as_bytes(), _owner: owner.clone().unbind() }
    }
}

impl Held for HeldBytes {
    fn bytes(&self) -> &[u8] {
        // SAFETY: as above; the owner lives as long as `self`.
        unsafe { &*self.bytes }
    }
}

/// The `bytes` object, if holding it is cheaper than copying.
pub fn held<'a, 'py>(data: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyBytes>> {
    data.cast_exact::<PyBytes>().ok().filter(|bytes| bytes.as_bytes().len() >= HELD_FROM)
}
