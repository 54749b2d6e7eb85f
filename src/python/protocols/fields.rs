//! The fields of an answer, as a handler or an application gives them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::string::PyStringData;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple};

use crate::protocols::http::Unfit;
use crate::python::values::arguments::{bytes_of, each_item, type_name};

/// Calls `note` with each field of a mapping, or of an iterable of pairs.
pub fn each_field(headers: &Bound<'_, PyAny>, mut note: impl FnMut(&[u8], &[u8]) -> Result<(), Unfit>) -> PyResult<()> {
    if let Ok(headers) = headers.cast_exact::<PyDict>() {
        return each_item(headers, "headers", |name, value| with_field(name, value, &mut note));
    }
    let pairs = match headers.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => headers.clone(),
    };
    let wrong = |what: &Bound<'_, PyAny>| {
        PyTypeError::new_err(format!("headers must be a mapping or pairs of str, not {}", type_name(what)))
    };
    for item in pairs.try_iter().map_err(|_| wrong(headers))? {
        let item = item?;
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract().map_err(|_| wrong(&item))?;
        with_field(&name, &value, &mut note)?;
    }
    Ok(())
}

/// Calls `note` with the texts of a field.
pub fn with_field(
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    note: impl FnOnce(&[u8], &[u8]) -> Result<(), Unfit>,
) -> PyResult<()> {
    with_latin1(name, "a field name", |name_bytes| with_latin1(value, name, |value| Ok(note(name_bytes, value)?)))
}

/// Calls `use_it` with a text of a field in ISO-8859-1 (RFC 9110 section 5.5).
pub fn with_latin1<R>(
    text: &Bound<'_, PyAny>,
    whose: impl std::fmt::Display,
    use_it: impl FnOnce(&[u8]) -> PyResult<R>,
) -> PyResult<R> {
    let Ok(text) = text.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("{whose}: must be str, not {}", type_name(text))));
    };
    let encoded;
    // SAFETY: the call reads the bits of the object that tell its form, which PyO3 knows for each version of CPython. The
    // text is not changed while its bytes are borrowed, because no `str` ever is.
    let bytes = match unsafe { text.data() }? {
        // A text without a character above U+00FF is stored as one byte for each, its number: ISO-8859-1.
        PyStringData::Ucs1(bytes) if text.is_exact_instance_of::<PyString>() || bytes.is_ascii() => bytes,
        _ => {
            encoded = encoded_latin1(text, &whose)?;
            encoded.as_bytes()
        }
    };
    use_it(bytes)
}

/// The bytes of a text as it encodes itself: a class of the user's may do so, and `str` raises for other characters.
#[cold]
fn encoded_latin1<'py>(text: &Bound<'py, PyString>, whose: &dyn std::fmt::Display) -> PyResult<Bound<'py, PyBytes>> {
    let encoded = text.call_method1("encode", ("latin-1",));
    let encoded = encoded.map_err(|_| PyValueError::new_err(format!("{whose}: not ISO-8859-1: {text:?}")))?;
    Ok(encoded.cast_into::<PyBytes>()?)
}

/// As [`each_field`], for an iterable of pairs of bytes (ASGI).
pub fn each_bytes_field(
    headers: &Bound<'_, PyAny>,
    mut note: impl FnMut(&[u8], &[u8]) -> Result<(), Unfit>,
) -> PyResult<()> {
    let mut pair = |name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>| {
        if let (Ok(name), Ok(value)) = (name.cast_exact::<PyBytes>(), value.cast_exact::<PyBytes>()) {
            return Ok(note(name.as_bytes(), value.as_bytes())?);
        }
        bytes_of(name, |name_bytes| bytes_of(value, |value| Ok(note(name_bytes, value)?)))
    };
    let mut item = |item: &Bound<'_, PyAny>| {
        let wrong = || {
            let text = format!("headers must be pairs of bytes, not {} {}", type_name(item), item.repr()?);
            Ok::<_, PyErr>(PyTypeError::new_err(text))
        };
        let parts: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = match item.cast_exact::<PyTuple>() {
            Ok(tuple) if tuple.len() == 2 => Some((tuple.get_item(0)?, tuple.get_item(1)?)),
            _ => pair_of(item),
        };
        let Some((name, value)) = parts else { return Err(wrong()?) };
        match pair(&name, &value) {
            Err(error) if error.is_instance_of::<PyTypeError>(item.py()) => Err(wrong()?),
            result => result,
        }
    };
    if let Ok(list) = headers.cast_exact::<PyList>() {
        return list.iter().try_for_each(|each| item(&each));
    }
    headers.try_iter()?.try_for_each(|each| item(&each?))
}

/// The two items of a list or another sequence; text is none.
fn pair_of<'py>(item: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if item.is_instance_of::<PyString>() || item.is_instance_of::<PyBytes>() || item.len().ok()? != 2 {
        return None;
    }
    Some((item.get_item(0).ok()?, item.get_item(1).ok()?))
}
