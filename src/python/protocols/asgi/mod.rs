//! `goev.asgi`: applications behind HTTP. Each request begins a call of the application, on the event loop.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the handler class, and its face: the face of HTTP with two differences |
//! | `exchange` | one request: `receive` and `send` |
//! | `body` `answer` | the body for `receive`; the stage of the answer of `send` |
//! | `scope` | the scope of a request |
//! | `calls` | the coroutine of an application: its first step at once, a task only if it waits |
//! | `ready` | an awaitable that does not wait |
//!
//! One rule: no lock of an exchange is held while an object is made or dropped, because that may run other code.

mod answer;
mod body;
mod calls;
pub mod exchange;
pub mod ready;
mod scope;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};

use self::exchange::Exchange;
use self::scope::Scopes;
use super::Face;
use super::http::{self, HttpConnection, limits_of_one, speak};
use super::request::Request;
use crate::poller::Poller;
use crate::protocols::Protocol;
use crate::protocols::http::Http;
use crate::python::callbacks::Names;
use crate::python::tables::with_poller_of;
use crate::slots::Token;

/// One connection of a server with an application of ASGI; ``goev.asgi.Connection`` has the attributes.
#[pyclass(name = "AsgiConnection", extends = HttpConnection, subclass, frozen, module = "goev._core")]
pub struct AsgiConnection {
    /// The parts of scopes that are the same for all requests.
    scopes: OnceLock<Scopes>,
    /// The last request that was given to the application.
    current: Mutex<Option<Py<Exchange>>>,
}

impl AsgiConnection {
    fn lock(&self) -> MutexGuard<'_, Option<Py<Exchange>>> {
        // A panic while the lock is held cannot leave the reference half changed.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self, py: Python<'_>) -> Option<Py<Exchange>> {
        self.lock().as_ref().map(|exchange| exchange.clone_ref(py))
    }

    fn set_current(&self, exchange: Option<Py<Exchange>>) {
        let before = std::mem::replace(&mut *self.lock(), exchange);
        drop(before);
    }

    fn scopes<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Scopes> {
        if let Some(scopes) = slf.get().scopes.get() {
            return Ok(scopes);
        }
        let made = Scopes::of(slf.as_any())?;
        Ok(slf.get().scopes.get_or_init(|| made))
    }

    /// Forgets a request when its application has ended.
    fn forget(&self, exchange: &Py<Exchange>) {
        let gone = self.lock().take_if(|current| current.is(exchange));
        drop(gone);
    }

    /// Tells the application that the peer has gone away.
    fn lose(&self, py: Python<'_>) {
        if let Some(exchange) = self.current(py) {
            exchange.get().lose(py);
        }
    }
}

#[pymethods]
impl AsgiConnection {
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
        let this = Self { scopes: OnceLock::new(), current: Mutex::default() };
        Ok(HttpConnection::with_face(class, &FACE)?.add_subclass(this))
    }

    /// Applications are coroutines: a reactor without event loops refuses the class.
    #[classattr]
    fn _needs_loop() -> bool {
        true
    }

    /// Begin the application for ``request``. A class that answers some requests by itself calls this for the others.
    fn on_request(slf: &Bound<'_, Self>, request: &Bound<'_, Request>) -> PyResult<()> {
        let py = slf.py();
        let scopes = Self::scopes(slf)?;
        if request.get().facts().may_switch {
            let begin = py.import(intern!(py, "goev.asgi.sockets"))?.getattr(intern!(py, "begin"))?;
            if begin.call1((slf, request))?.is_truthy()? {
                return Ok(());
            }
        }
        let scope = scopes.of_request(py, slf.as_any(), request)?;
        let exchange = Bound::new(py, Exchange::of(request))?;
        slf.get().set_current(Some(exchange.clone().unbind()));
        let receive = exchange.getattr(intern!(py, "receive"))?;
        let send = exchange.getattr(intern!(py, "send"))?;
        match scopes.app(py).call1((scope, receive, send)) {
            Ok(coroutine) => {
                let (handler, exchange) = (slf.clone().unbind(), exchange.unbind());
                calls::run(&coroutine, move |py, result| {
                    exchange.get().finish(py, handler.bind(py).as_any(), result);
                    handler.get().forget(&exchange);
                });
            }
            Err(error) => exchange.get().finish(py, slf.as_any(), Err(error)),
        }
        Ok(())
    }

    /// A piece of the body of ``request`` came, ``data``: ``receive`` gives it to the application.
    fn on_body(slf: &Bound<'_, Self>, request: &Bound<'_, Request>, data: &Bound<'_, PyBytes>) {
        let current = slf.get().current(slf.py());
        if let Some(exchange) = current.filter(|exchange| exchange.get().is_of(request)) {
            exchange.get().feed(data);
        }
    }

    /// The peer has finished sending: the application hears ``http.disconnect``. The answer that is due is sent.
    fn on_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().lose(slf.py());
        let remote = slf.as_super().as_super().get().remote()?;
        with_poller_of(remote, |poller, _| poller.finish(remote.token()));
        Ok(())
    }

    /// Watch an exchange: it hears when the peer goes away.
    fn _watch(slf: &Bound<'_, Self>, exchange: &Bound<'_, Exchange>) {
        slf.get().set_current(Some(exchange.clone().unbind()));
    }

    /// The scope of a request.
    fn _scope<'py>(slf: &Bound<'py, Self>, request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyDict>> {
        Self::scopes(slf)?.of_request(slf.py(), slf.as_any(), request)
    }

    /// Run the coroutine of an application. ``done(error)`` is called at its end, and an exception that it returns is reported.
    fn _run(slf: &Bound<'_, Self>, coroutine: &Bound<'_, PyAny>, done: &Bound<'_, PyAny>) {
        let (handler, done) = (slf.clone().unbind(), done.clone().unbind());
        calls::run(coroutine, move |py, result| {
            let error = result.err().map(|error| error.into_value(py));
            match done.call1(py, (error,)) {
                Ok(nothing) if nothing.is_none(py) => {}
                Ok(error) => calls::report(handler.bind(py), PyErr::from_value(error.into_bound(py)), None),
                Err(error) => calls::report(handler.bind(py), error, None),
            }
        });
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.scopes.get().map_or(Ok(()), |scopes| scopes.traverse(&visit))?;
        match self.current.try_lock().as_deref() {
            Ok(Some(exchange)) => visit.call(exchange),
            _ => Ok(()),
        }
    }

    /// The scopes stay, because requests read them without a lock. Another object of a circle is cleared.
    fn __clear__(&self) {
        self.set_current(None);
    }
}

static FACE: &dyn Face = &Requests;

/// The face of HTTP, for applications.
struct Requests;

impl Face for Requests {
    fn below(&self) -> Option<&'static dyn Face> {
        Some(http::FACE)
    }

    /// Bodies come in pieces, and requests one after the other.
    fn set_up(&self, poller: &Poller, names: &Names, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut http = Http::new(limits_of_one(handler)?, true);
        http.keep_empty_whole();
        speak(poller, names, token, handler, http)
    }

    fn end(&self, handler: &Bound<'_, PyAny>, protocol: Option<Box<dyn Protocol>>) {
        http::FACE.end(handler, protocol);
        if let Ok(connection) = handler.cast::<AsgiConnection>() {
            connection.get().lose(handler.py());
            connection.get().set_current(None);
        }
    }
}
