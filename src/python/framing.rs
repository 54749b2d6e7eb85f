//! `goev.LengthPrefixed`, `goev.Delimited`, `goev.FixedSize`; and the framings that users write in Python.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyType};

use super::arguments::{bytes_of, integer, size, type_name};
use crate::error::Error;
use crate::framing::{Framing as Core, Length};

/// Base of the ways to cut a stream into messages, and to put messages into one. Has no state: one object serves any number
/// of connections.
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
    /// The bytes that stand for ``message`` in the stream.
    ///
    /// Raises ``MessageTooLong`` above ``max_size``, ``ValueError`` when it cannot be framed so.
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

/// Each message behind its length.
///
/// Args:
///     size: bytes of the length: 1, 2, 4 or 8; or ``"varint"`` for seven bits a byte, as Protocol Buffers have it.
///     max_size: the largest message, bytes, 1 to 1 GiB. A longer one ends the connection with ``MessageTooLong`` as soon as
///         its length is there.
///     byteorder: ``"big"`` or ``"little"``.
///     includes_size: whether the length counts its own bytes too.
///
/// Go: none; the like of gnet's ``LengthFieldBasedFrameCodec``.
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
        let core = Core::prefixed(length, super::arguments::size("max_size", max_size)?);
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

/// Each message before a ``delimiter``, which is no part of it: lines, say.
///
/// Args:
///     delimiter: 1 to 1024 bytes.
///     max_size: the largest message, bytes, 1 to 1 GiB. So many bytes without a delimiter behind them end the connection
///         with ``MessageTooLong``.
///
/// Go: none; the like of gnet's ``DelimiterBasedFrameCodec``.
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

/// Messages of ``size`` bytes each, 1 to 1 GiB, one behind the other.
///
/// Go: none; the like of gnet's ``FixedLengthFrameCodec``.
#[pyclass(extends = Framing, frozen, module = "goev")]
pub struct FixedSize;

#[pymethods]
impl FixedSize {
    #[new]
    fn new(#[pyo3(from_py_with = integer)] size: i64) -> PyResult<PyClassInitializer<Self>> {
        let bytes = super::arguments::size("size", size)?;
        let text = format!("goev.FixedSize({size})");
        Ok(Framing::new(Core::fixed(bytes), text)?.add_subclass(Self))
    }
}

/// What a handler's ``framing`` is.
pub enum Wanted {
    /// None: bytes.
    Nothing,
    /// One of ours.
    Native(Arc<Core>),
    /// An object with ``feed`` and ``frame``, which this handler alone has if it was made from a class.
    Own,
}

/// Finds out what framing a handler wants. A class is called: it makes the framing of this one connection, and takes its
/// own place in the handler.
pub fn wanted_by(handler: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<Wanted> {
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
