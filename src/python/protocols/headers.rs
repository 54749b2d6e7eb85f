//! `request.headers`: the fields of a head, parsed on demand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyMapping, PyString};

use crate::protocols::http::Lines;

/// The fields of a request or an answer: a read-only mapping of ``str`` to ``str``; a name matches in any case.
///
/// Iteration gives each name once, in lower case. The values of a repeated name are joined by ``", "``, those of
/// ``Cookie`` by ``"; "`` (RFC 6265 section 5.4); ``get_all`` returns them separately. Bytes are read as ISO-8859-1
/// (RFC 9110 section 5.5).
#[pyclass(frozen, mapping, module = "goev.http")]
pub struct Headers {
    head: Arc<[u8]>,
}

impl Headers {
    pub fn new(head: Arc<[u8]>) -> Self {
        Self { head }
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        Lines::of(&self.head).filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The first value of `name`; empty if there is none.
    pub fn first(&self, name: &str) -> String {
        self.values(name).next().map(latin1).unwrap_or_default()
    }

    fn joined(&self, name: &str) -> Option<Vec<u8>> {
        // A comma may be a part of a cookie's value (RFC 9113 section 8.2.3).
        let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b", " };
        let mut values = self.values(name);
        let mut joined = values.next()?.to_vec();
        for value in values {
            joined.extend_from_slice(separator);
            joined.extend_from_slice(value);
        }
        Some(joined)
    }

    /// The names in lower case, each once, with their values.
    fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.names().into_iter().map(|name| {
            let value = self.joined(&name).unwrap_or_default();
            (name, latin1(&value))
        })
    }

    fn names(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let names = Lines::of(&self.head).map(|(name, _)| latin1(name).to_ascii_lowercase());
        names.filter(|name| seen.insert(name.clone())).collect()
    }
}

#[pymethods]
impl Headers {
    /// The fields of a head of any message, with its first line.
    #[staticmethod]
    fn _of(head: &[u8]) -> Self {
        Self::new(head.into())
    }

    fn __getitem__(&self, name: &Bound<'_, PyAny>) -> PyResult<String> {
        let text = name.cast::<PyString>().ok().and_then(|name| name.to_str().ok());
        let value = text.and_then(|name| self.joined(name));
        value.map(|value| latin1(&value)).ok_or_else(|| PyKeyError::new_err(name.clone().unbind()))
    }

    /// The value of ``name``, or ``default``.
    #[pyo3(signature = (name, default = None, /))]
    fn get<'py>(&self, name: &Bound<'py, PyAny>, default: Option<Bound<'py, PyAny>>) -> Option<Bound<'py, PyAny>> {
        let value = self.__getitem__(name).ok();
        value.map_or(default, |value| Some(PyString::new(name.py(), &value).into_any()))
    }

    /// All values of ``name``, in the order of arrival.
    fn get_all(&self, name: &str) -> Vec<String> {
        self.values(name).map(latin1).collect()
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        self.__getitem__(name).is_ok()
    }

    fn __len__(&self) -> usize {
        self.names().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.names())?.try_iter()
    }

    /// The names, in lower case, each once.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "KeysView")
    }

    /// The values; those of one name are joined.
    #[pyo3(name = "values")]
    fn all_values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "ValuesView")
    }

    /// Names and values.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "ItemsView")
    }

    /// Equal to any mapping with the same items, in whatever case its names are.
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<PyMapping>() else { return Ok(false) };
        let Ok(others) = other.items()?.extract::<Vec<(String, String)>>() else { return Ok(false) };
        let others: HashMap<_, _> =
            others.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        Ok(others == self.pairs().collect())
    }

    fn __repr__(&self) -> String {
        format!("<goev.http.Headers {:?}>", self.pairs().collect::<Vec<_>>())
    }
}

/// One of the views of `collections.abc`.
fn view<'py>(headers: &Bound<'py, Headers>, kind: &str) -> PyResult<Bound<'py, PyAny>> {
    headers.py().import("collections.abc")?.call_method1(kind, (headers,))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
