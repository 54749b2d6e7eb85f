//! `goev.wsgi`: the handler class, and its face. Threads answer its requests by an application.
//!
//! A class that defines no callback of requests has its requests taken in the poller's read phase, without the
//! interpreter. In a class with an `on_request` of its own the handler is asked first, like any handler of HTTP; by
//! `super().on_request(request)` it gives a request to the application.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};

use super::http::{self, HttpConnection};
use super::request::Request;
use super::{Called, Face};
use crate::poller::Poller;
use crate::protocols::Protocol;
use crate::protocols::http::Http;
use crate::python::callbacks::{Names, is_inherited_from};
use crate::python::connection::Connection;
use crate::python::contexts::Contexts;
use crate::python::wsgi::feed::{Feed, Tap};
use crate::python::wsgi::line::Line;
use crate::python::wsgi::pool::Pool;
use crate::slots::Token;

/// One connection of an HTTP/1.1 server with a WSGI application; see ``goev.wsgi.Connection``.
#[pyclass(name = "WsgiConnection", extends = HttpConnection, subclass, frozen, module = "goev._core")]
pub struct WsgiConnection {
    feed: OnceLock<Arc<Feed>>,
}

#[pymethods]
impl WsgiConnection {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    #[classmethod]
    fn new(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        // The subclass's __init__ takes them.
        let _ = (args, kwargs);
        Ok(HttpConnection::with_face(class, &FACE)?.add_subclass(Self { feed: OnceLock::new() }))
    }

    /// Give ``request`` to the application. A subclass may answer some requests by itself, and call this for the others.
    fn on_request(&self, request: &Bound<'_, Request>) -> PyResult<()> {
        let feed = self.feed.get().ok_or_else(|| PyRuntimeError::new_err("the connection is not open"))?;
        let taken = request.get().take_over(request.py());
        let (head, facts, answer) = taken.ok_or_else(|| PyRuntimeError::new_err("the request was answered before"))?;
        feed.request(&head, facts, answer);
        Ok(())
    }

    /// Give ``data``, a piece of the body, to the application, if it has the ``request``.
    fn on_body(&self, request: &Bound<'_, Request>, data: &Bound<'_, PyBytes>) {
        let _ = request;
        match (self.feed.get(), data.as_bytes()) {
            (Some(feed), b"") => feed.end(),
            (Some(feed), piece) => feed.piece(piece),
            (None, _) => {}
        }
    }
}

static FACE: &dyn Face = &Apps;

/// The face of WSGI: the face of HTTP, with a sink of requests beside it.
struct Apps;

impl Face for Apps {
    fn below(&self) -> Option<&'static dyn Face> {
        Some(http::FACE)
    }

    fn set_up(&self, poller: &Poller, names: &Names, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = handler.py();
        let wsgi = handler.cast::<WsgiConnection>()?;
        let http = wsgi.as_super();
        let pool = handler.call_method0(intern!(py, "_pool"))?;
        let pool = pool.cast::<Pool>().map_err(|_| PyTypeError::new_err("_pool() must return a pool"))?;
        let remote = http.as_super().get().remote()?.clone();
        let environ = pool.get().site.environ.bind(py).copy()?;
        handler.call_method1(intern!(py, "_describe"), (&environ, remote.is_secure))?;
        let feed = Feed::new(pool.get().site.clone(), Line::new(remote, environ.unbind()));
        let is_plain = is_inherited_from::<WsgiConnection>(handler, names.on_request.bind(py))
            && is_inherited_from::<WsgiConnection>(handler, names.on_body.bind(py))
            && is_inherited_from::<HttpConnection>(handler, names.on_answered.bind(py))
            && is_inherited_from::<Connection>(handler, names.on_drain.bind(py));
        // The requests of a connection are called for one after the other.
        let mut machine = Http::new(http::limits_of_one(handler)?, true);
        machine.pour_into(Box::new(Tap(feed.clone())), is_plain);
        let _ = wsgi.get().feed.set(feed);
        http::speak(poller, names, token, handler, machine)
    }

    fn call<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        contexts: &Contexts,
        token: Token,
        handler: &Bound<'py, PyAny>,
    ) -> Option<Called<'a, 'py>> {
        // The turn came amid a batch.
        let delivered = poller.with::<Http, _>(token, |http, wire| {
            let delivers = http.delivers();
            if delivers {
                http.deliver(wire);
            }
            delivers
        })?;
        if delivered { None } else { http::FACE.call(poller, names, contexts, token, handler) }
    }
}
