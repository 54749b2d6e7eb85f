//! The claim of a handler object for a connection. A handler object serves one connection, once.

use pyo3::prelude::*;

use super::Connection;
use crate::python::protocols::FaceRef;

/// A handler object that is claimed for a connection. If the connection is never made, the drop makes the object free
/// again.
pub struct Claim(Option<Py<Connection>>);

impl Claim {
    pub fn new(handler: &Bound<'_, Connection>) -> PyResult<Self> {
        handler.get().face().map_or(Ok(()), |face| face.check_connect())?;
        handler.get().claim("handler: ")?;
        Ok(Self(Some(handler.clone().unbind())))
    }

    /// The connection is made: keeps the claim, and returns the object.
    pub fn keep(mut self, py: Python<'_>) -> Py<PyAny> {
        let object = self.object(py);
        self.0 = None;
        object
    }

    /// The face of the handler's class.
    pub fn face(&self) -> Option<FaceRef> {
        self.0.as_ref().and_then(|handler| handler.get().face())
    }

    pub fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.as_ref().map_or_else(|| py.None(), |handler| handler.clone_ref(py).into_any())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(handler) = &self.0 {
            handler.get().release();
        }
    }
}
