//! The claim of a handler object for a connection. A handler object serves one connection, once.

use pyo3::prelude::*;
use pyo3::types::PyString;

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

    /// Claims the handler of an accepted connection: `handler`, or the handshake that comes before it. The method
    /// `prologue` makes that.
    pub fn for_accepted(handler: &Bound<'_, Connection>, prologue: &Bound<'_, PyString>) -> PyResult<Self> {
        let first = handler.get().face().map_or(Ok(None), |face| face.prologue(prologue, handler))?;
        let first = first.map_or_else(|| Ok(handler.clone()), |first| first.cast_into::<Connection>())?;
        first.get().claim("handler: ")?;
        Ok(Self(Some(first.unbind())))
    }

    /// The connection is made: keeps the claim, and returns the object.
    pub fn keep(mut self, py: Python<'_>) -> Py<PyAny> {
        let object = self.object(py);
        self.0 = None;
        object
    }

    /// Shows the garbage collector the object.
    pub fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        if let Some(handler) = &self.0 {
            see(handler.as_any());
        }
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
