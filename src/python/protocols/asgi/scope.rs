//! The scope of a request.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::protocols::http::{Lines, Version};
use crate::python::protocols::request::Request;

/// Names of fields that most requests have: their objects are made once.
const COMMON: [&[u8]; 36] = [
    b"host",
    b"user-agent",
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"connection",
    b"cookie",
    b"content-length",
    b"content-type",
    b"authorization",
    b"cache-control",
    b"pragma",
    b"referer",
    b"origin",
    b"upgrade-insecure-requests",
    b"sec-fetch-dest",
    b"sec-fetch-mode",
    b"sec-fetch-site",
    b"sec-fetch-user",
    b"sec-ch-ua",
    b"sec-ch-ua-mobile",
    b"sec-ch-ua-platform",
    b"if-none-match",
    b"if-modified-since",
    b"range",
    b"te",
    b"dnt",
    b"priority",
    b"expect",
    b"transfer-encoding",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-real-ip",
    b"x-request-id",
    b"via",
];

/// The parts of scopes that all requests of a connection have in common.
pub struct Scopes {
    app: Py<PyAny>,
    template: Py<PyDict>,
    root_path: String,
    /// Whether proxies are trusted, so that their fields name the client.
    has_proxies: bool,
}

impl Scopes {
    /// The scopes of a handler, by its class.
    pub fn of(handler: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = handler.py();
        let made = py.import("goev.asgi.scopes")?.call_method1("template", (handler,))?;
        let (app, template, root_path, has_proxies) = made.extract()?;
        Ok(Self { app, template, root_path, has_proxies })
    }

    /// Shows the collector of garbage the objects that an application may reach.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.app)?;
        visit.call(&self.template)
    }

    pub fn app<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.app.bind(py)
    }

    /// The scope of a request.
    pub fn of_request<'py>(
        &self,
        py: Python<'py>,
        handler: &Bound<'py, PyAny>,
        request: &Bound<'py, Request>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.template.bind(py).copy()?;
        let this = request.get();
        let (path, query) = this.path_and_query();
        let (text, raw) = (self.path_text(py, path)?, PyBytes::new(py, path.as_bytes()));
        if this.facts().version == Version::Http10 {
            scope.set_item(intern!(py, "http_version"), intern!(py, "1.0"))?;
        }
        scope.set_item(intern!(py, "method"), method_text(py, &this.head()[..this.facts().method()]))?;
        scope.set_item(intern!(py, "path"), text)?;
        match self.root_path.is_empty() {
            true => scope.set_item(intern!(py, "raw_path"), raw)?,
            false => {
                let raw = [self.root_path.as_bytes(), path.as_bytes()].concat();
                scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, &raw))?;
            }
        }
        if !query.is_empty() {
            scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query.as_bytes()))?;
        }
        let (headers, has_trailers) = headers(py, this.head())?;
        scope.set_item(intern!(py, "headers"), headers)?;
        copy_of(&scope, intern!(py, "state"))?;
        let extensions = copy_of(&scope, intern!(py, "extensions"))?;
        if has_trailers && this.facts().version == Version::Http11 {
            extensions.set_item(intern!(py, "http.response.trailers"), PyDict::new(py))?;
        }
        if self.has_proxies {
            py.import("goev.asgi.forwarded")?.call_method1("apply", (handler, &scope))?;
        }
        Ok(scope)
    }

    fn path_text<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyAny>> {
        let decoded = match path.contains('%') {
            false => PyString::new(py, path).into_any(),
            true => py.import(intern!(py, "urllib.parse"))?.call_method1(intern!(py, "unquote"), (path,))?,
        };
        match self.root_path.is_empty() {
            true => Ok(decoded),
            false => PyString::new(py, &self.root_path).add(decoded),
        }
    }
}

/// Replaces a dict of a scope by a copy, so that each request has its own.
fn copy_of<'py>(scope: &Bound<'py, PyDict>, key: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyDict>> {
    let own = match scope.get_item(key)? {
        Some(shared) => shared.cast::<PyDict>()?.copy()?,
        None => PyDict::new(scope.py()),
    };
    scope.set_item(key, &own)?;
    Ok(own)
}

fn method_text<'py>(py: Python<'py>, method: &[u8]) -> Bound<'py, PyString> {
    match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        // The parser accepts only a token, which is ASCII.
        _ => PyString::new(py, &String::from_utf8_lossy(method).to_ascii_uppercase()),
    }
}

/// The fields as pairs of bytes, in their order, with names in lower case; and whether the peer takes trailers.
pub fn headers<'py>(py: Python<'py>, head: &[u8]) -> PyResult<(Bound<'py, PyList>, bool)> {
    let (mut pairs, mut has_trailers) = (Vec::with_capacity(16), false);
    for (name, value) in Lines::of(head) {
        has_trailers |= name.eq_ignore_ascii_case(b"te") && says_trailers(value);
        let pair = [name_object(py, name), PyBytes::new(py, value)];
        pairs.push(PyTuple::new(py, pair)?);
    }
    Ok((PyList::new(py, pairs)?, has_trailers))
}

/// RFC 9110 section 10.1.4
fn says_trailers(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|each| each.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn name_object<'py>(py: Python<'py>, name: &[u8]) -> Bound<'py, PyBytes> {
    static OBJECTS: PyOnceLock<Vec<Py<PyBytes>>> = PyOnceLock::new();
    let objects = OBJECTS.get_or_init(py, || COMMON.iter().map(|name| PyBytes::new(py, name).unbind()).collect());
    match COMMON.iter().position(|common| common.eq_ignore_ascii_case(name)) {
        Some(at) => objects[at].bind(py).clone(),
        None => PyBytes::new(py, &name.to_ascii_lowercase()),
    }
}
