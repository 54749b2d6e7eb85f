//! `goev.LengthPrefixed`, `goev.Delimited`, `goev.FixedSize`, and framings written in Python; the face of messages.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyType};

use super::{Called, Face};
use crate::error::Error;
use crate::poller::Poller;
use crate::protocols::Protocol;
use crate::protocols::framing::{Frames, Framing as Core, FramingError, Length};
use crate::python::callbacks::{Names, is_inherited_from};
use crate::python::connection::Connection;
use crate::python::contexts::Contexts;
use crate::python::values::arguments::{self, bytes_of, integer, size, type_name};
use crate::python::values::exceptions::{self, MessageTooLong};
use crate::python::values::objects::{bytes_object, or_keep};
use crate::slots::Token;

/// Base of the framings, which cut a stream into messages and put messages into a stream. Has no state: one object
/// serves any number of connections.
#[pyclass(subclass, frozen, module = "goev")]
pub struct Framing {
    core: Arc<Core>,
    text: String,
}

impl Framing {
    fn new(core: Result<Core, Error>, text: String) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Self { core: Arc::new(core?), text }))
    }
}

#[pymethods]
impl Framing {
    /// The frame of ``message``: its bytes in the stream.
    ///
    /// Raises ``MessageTooLong`` above ``max_size``, ``ValueError`` for a message that this framing cannot carry.
    fn frame<'py>(&self, py: Python<'py>, message: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        bytes_of(message, |message| {
            let (head, tail) = self.core.wrap(message)?;
            Ok(PyBytes::new(py, &[head.bytes(), message, tail].concat()))
        })
    }

    fn __repr__(&self) -> &str {
        &self.text
    }
}

/// Each message follows its length.
///
/// Args:
///     size: bytes of the length: 1, 2, 4 or 8; or ``"varint"`` for seven bits a byte, as in Protocol Buffers.
///     max_size: the largest message, bytes, 1 to 1 GiB. A longer one ends the connection with ``MessageTooLong`` as
///         soon as its length has arrived.
///     byteorder: ``"big"`` or ``"little"``.
///     includes_size: whether the length counts its own bytes too.
///
/// Go: none; similar to gnet's ``LengthFieldBasedFrameCodec``.
#[pyclass(extends = Framing, frozen, module = "goev")]
pub struct LengthPrefixed;

#[pymethods]
impl LengthPrefixed {
    #[new]
    #[pyo3(
        signature = (size = None, *, max_size = 1_048_576, byteorder = "big", includes_size = false),
        text_signature = "(size=4, *, max_size=1048576, byteorder='big', includes_size=False)"
    )]
    fn new(
        size: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = integer)] max_size: i64,
        byteorder: &str,
        includes_size: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        let little = match byteorder {
            "big" => false,
            "little" => true,
            _ => return Err(PyValueError::new_err(format!("byteorder must be 'big' or 'little', not {byteorder:?}"))),
        };
        let (length, shown) = match size {
            None => (Length::Fixed { width: 4, little, includes_itself: includes_size }, "4".to_owned()),
            Some(size) if size.is_instance_of::<PyString>() => {
                (varint(size.extract()?, little, includes_size)?, "'varint'".into())
            }
            Some(given) => {
                let width = size_of(given)?;
                (Length::Fixed { width, little, includes_itself: includes_size }, width.to_string())
            }
        };
        let includes = if includes_size { ", includes_size=True" } else { "" };
        let order = if little { ", byteorder='little'" } else { "" };
        let text = format!("goev.LengthPrefixed({shown}, max_size={max_size}{order}{includes})");
        let core = Core::prefixed(length, arguments::size("max_size", max_size)?);
        Ok(Framing::new(core, text)?.add_subclass(Self))
    }
}

fn varint(name: &str, little: bool, includes_size: bool) -> PyResult<Length> {
    if name != "varint" {
        return Err(PyValueError::new_err(format!("size must be 1, 2, 4, 8 or 'varint', not {name:?}")));
    }
    if little || includes_size {
        return Err(PyValueError::new_err("byteorder and includes_size have no meaning for size='varint'"));
    }
    Ok(Length::Varint)
}

fn size_of(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    size("size", integer(given)?)
}

/// Each message ends with a ``delimiter``, which is not part of it: lines, for example.
///
/// Args:
///     delimiter: 1 to 1024 bytes.
///     max_size: the largest message, bytes, 1 to 1 GiB. If no delimiter follows that many bytes, the connection ends with
///         ``MessageTooLong``.
///
/// Go: none; similar to gnet's ``DelimiterBasedFrameCodec``.
#[pyclass(extends = Framing, frozen, module = "goev")]
pub struct Delimited;

#[pymethods]
impl Delimited {
    #[new]
    #[pyo3(
        signature = (delimiter = None, *, max_size = 65_536),
        text_signature = "(delimiter=b'\\n', *, max_size=65536)"
    )]
    fn new(
        delimiter: Option<&Bound<'_, PyBytes>>,
        #[pyo3(from_py_with = integer)] max_size: i64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let delimiter = delimiter.map_or(&b"\n"[..], |delimiter| delimiter.as_bytes());
        let text = format!("goev.Delimited(b'{}', max_size={max_size})", delimiter.escape_ascii());
        Ok(Framing::new(Core::delimited(delimiter, size("max_size", max_size)?), text)?.add_subclass(Self))
    }
}

/// Messages of ``size`` bytes each, 1 to 1 GiB, one after the other.
///
/// Go: none; similar to gnet's ``FixedLengthFrameCodec``.
#[pyclass(extends = Framing, frozen, module = "goev")]
pub struct FixedSize;

#[pymethods]
impl FixedSize {
    #[new]
    fn new(#[pyo3(from_py_with = integer)] size: i64) -> PyResult<PyClassInitializer<Self>> {
        let bytes = arguments::size("size", size)?;
        let text = format!("goev.FixedSize({size})");
        Ok(Framing::new(Core::fixed(bytes), text)?.add_subclass(Self))
    }
}

/// Messages that the list of a batch has room for at the start.
const USUAL_BATCH: usize = 64;

/// The face of handlers without a protocol of their own: messages if they have a framing, else bytes.
pub static FACE: &dyn Face = &Messages;

struct Messages;

impl Face for Messages {
    fn set_up(&self, poller: &Poller, names: &Names, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = handler.py();
        if let Wanted::Native(framing) = wanted_by(handler, names.framing.bind(py))? {
            poller.set_protocol(token, Frames::new(framing.clone()))?;
            let in_batches = !is_inherited_from::<Connection>(handler, names.on_messages.bind(py));
            handler.cast::<Connection>()?.get().set_framing(framing, in_batches);
        }
        Ok(())
    }

    /// Calls the handler with the next message, or with all that have arrived if it defines `on_messages`.
    fn call<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        contexts: &Contexts,
        token: Token,
        handler: &Bound<'py, PyAny>,
    ) -> Option<Called<'a, 'py>> {
        let py = handler.py();
        contexts.enter(py, token);
        // SAFETY: the dispatch calls a face for the handlers of connections only, and each came into the tables as one: from a
        // factory, a connector, an adoption, a hand-over or a test.
        let connection = unsafe { handler.cast_unchecked::<Connection>() };
        if connection.get().takes_batches() {
            call_with_all(poller, names, token, handler)
        } else {
            call_with_next(poller, names, token, handler)
        }
    }
}

fn call_with_next<'a, 'py>(
    poller: &Poller,
    names: &'a Names,
    token: Token,
    handler: &Bound<'py, PyAny>,
) -> Option<Called<'a, 'py>> {
    let py = handler.py();
    let mut failed = None;
    // Making bytes runs no Python code, so the input may stay borrowed.
    let made = |message: &[u8]| or_keep(bytes_object(py, message), &mut failed);
    let (message, more) =
        poller.with(token, |frames: &mut Frames, wire| (frames.take(wire, made), frames.has_news()))?;
    let name = &names.on_message;
    let answer = match message? {
        Some(message) => handler.call_method1(name.bind(py), (message,)),
        None => Err(failed?),
    };
    Some(Called::of(name, answer, more))
}

fn call_with_all<'a, 'py>(
    poller: &Poller,
    names: &'a Names,
    token: Token,
    handler: &Bound<'py, PyAny>,
) -> Option<Called<'a, 'py>> {
    let py = handler.py();
    let (mut messages, mut failed) = (Vec::with_capacity(USUAL_BATCH), None);
    // As above. Making a list may run some, by a garbage collection.
    poller.with(token, |frames: &mut Frames, wire| {
        frames.take_each(wire, |message| {
            let made = or_keep(bytes_object(py, message), &mut failed);
            made.map(|message| messages.push(message)).is_some()
        });
    })?;
    let messages = match failed {
        None if messages.is_empty() => return None,
        None => PyList::new(py, messages),
        Some(error) => Err(error),
    };
    let name = &names.on_messages;
    let answer = messages.and_then(|messages| handler.call_method1(name, (messages,)));
    Some(Called::of(name, answer, false))
}

/// The framing that a handler wants.
enum Wanted {
    /// None: the handler reads bytes.
    Nothing,
    /// A framing of goev.
    Native(Arc<Core>),
    /// An object with ``feed`` and ``frame``. If it was made from a class, it belongs to this handler alone.
    Own,
}

impl From<FramingError> for PyErr {
    fn from(error: FramingError) -> Self {
        let text = error.to_string();
        match error {
            FramingError::TooLong { .. } | FramingError::Endless { .. } => MessageTooLong::new_err(text + " [GOEV405]"),
            FramingError::Short { .. } | FramingError::Varint => exceptions::FramingError::new_err(text + " [GOEV404]"),
            FramingError::Unfit(_) => PyValueError::new_err(text),
        }
    }
}

/// The framing that a handler wants. A class is called to make a framing for this connection, which replaces the class
/// in the handler.
fn wanted_by(handler: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<Wanted> {
    let mut framing = handler.getattr(name)?;
    if framing.is_none() {
        return Ok(Wanted::Nothing);
    }
    if framing.is_instance_of::<PyType>() {
        framing = framing.call0()?;
        handler.setattr(name, &framing)?;
    }
    if let Ok(native) = framing.cast::<Framing>() {
        return Ok(Wanted::Native(native.get().core.clone()));
    }
    for method in ["feed", "frame"] {
        if !framing.getattr(method).is_ok_and(|method| method.is_callable()) {
            let text = format!(
                "framing must be one of goev's, or have feed(data) and frame(message); {} has no {method}",
                type_name(&framing)
            );
            return Err(PyTypeError::new_err(text));
        }
    }
    Ok(Wanted::Own)
}
