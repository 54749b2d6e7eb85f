//! The frames of a WebSocket client in a test, written and read by the state machine of real clients.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::protocols::websocket::{Item, Messages, Opcode, Settings, frame};
use crate::python::values::arguments::bytes_of;
use crate::system::random;

/// The largest message that a test may receive.
const MOST: usize = 1 << 30;

/// Both directions of one WebSocket client.
#[pyclass(frozen, module = "goev._core")]
pub struct ClientFrames {
    settings: Arc<Settings>,
    inside: Mutex<(Messages, Vec<u8>)>,
}

#[pymethods]
impl ClientFrames {
    #[new]
    fn new() -> Self {
        let settings = Arc::new(Settings { client: true, max_message: MOST, deflate: None });
        Self { inside: Mutex::new((Messages::new(settings.clone()), Vec::new())), settings }
    }

    /// The frame of a message or of a control frame.
    fn frame<'py>(&self, kind: &str, payload: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let opcode = match kind {
            "text" => Opcode::Text,
            "binary" => Opcode::Binary,
            "close" => Opcode::Close,
            "ping" => Opcode::Ping,
            "pong" => Opcode::Pong,
            _ => return Err(PyValueError::new_err(format!("no kind of frame: {kind:?}"))),
        };
        let (key, mut bytes) = (random::four()?, Vec::new());
        let mut write = |payload: &[u8]| frame(opcode, payload, &self.settings, Some(key), &mut bytes);
        match payload.cast::<PyString>() {
            Ok(text) => write(text.to_str()?.as_bytes()),
            Err(_) => bytes_of(payload, |payload| {
                write(payload);
                Ok(())
            })?,
        }
        Ok(PyBytes::new(payload.py(), &bytes))
    }

    /// The messages and control frames that `data` completes.
    fn feed<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let items = PyList::empty(py);
        let (messages, unread) = &mut *self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        unread.extend_from_slice(data);
        loop {
            let done = messages.look(unread);
            unread.drain(..done);
            let Some((item, done)) = messages.take(unread, |item| object_of(py, item)) else { break };
            unread.drain(..done);
            items.append(item?)?;
        }
        match messages.violation() {
            Some(violation) => Err(PyAssertionError::new_err(format!("the handler sent {violation}"))),
            None => Ok(items),
        }
    }
}

fn object_of<'py>(py: Python<'py>, item: Item<'_>) -> PyResult<Bound<'py, PyAny>> {
    let bytes = |kind, payload| (kind, PyBytes::new(py, payload)).into_pyobject(py).map(Bound::into_any);
    match item {
        Item::Text(text) => Ok(("text", text).into_pyobject(py)?.into_any()),
        Item::Binary(payload) => bytes("binary", payload),
        Item::Ping(payload) => bytes("ping", payload),
        Item::Pong(payload) => bytes("pong", payload),
        Item::Close { code, reason } => Ok(("close", (code, reason)).into_pyobject(py)?.into_any()),
    }
}
