//! `goev.Connector`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::error::Error;
use crate::options::ConnectorOptions;
use crate::poller::Poller;
use crate::python::connection::Connection;
use crate::python::connection::claim::Claim;
use crate::python::connection::reactor::Reactor;
use crate::python::contexts::{Context, capture};
use crate::python::tables::{Caller, PyTask, Tables, Task, with_poller};
use crate::python::values::arguments::{inet, seconds, type_name};
use crate::python::values::options::{set_option, take_keywords};
use crate::sources::connector::Request;
use crate::system::address::Target;

/// Makes outgoing connections on the pollers of ``reactor``.
///
/// Args:
///     reactor: its pollers own the connections.
///     local_address: our own end, ``"192.0.2.1:0"``, on a machine that has several; for TCP only.
///     nodelay, receive_buffer_size, send_buffer_size, keepalive, device, max_input, high_water, low_water, auto_pause,
///         max_output, linger_timeout, idle_timeout, receive_timeout, first_byte_timeout, write_timeout, lifetime,
///         min_rate, min_write_rate: as for ``Acceptor``.
///
/// Raises:
///     ValueError, TypeError: an argument is wrong; the text names it, its value and the limit.
///
/// Go: ``NewConnector``.
#[pyclass(frozen, module = "goev")]
pub struct Connector {
    reactor: Py<Reactor>,
    options: Arc<ConnectorOptions>,
    turn: AtomicUsize,
}

#[pymethods]
impl Connector {
    #[new]
    #[pyo3(
        signature = (reactor, **options),
        text_signature = "(reactor, *, local_address=None, nodelay=True, receive_buffer_size=None, \
            send_buffer_size=None, keepalive=(60, 15, 4), device=None, max_input=1048576, high_water=65536, \
            low_water=16384, auto_pause=True, max_output=67108864, linger_timeout=2.0, idle_timeout=None, \
            receive_timeout=None, first_byte_timeout=None, write_timeout=60.0, lifetime=None, min_rate=None, \
            min_write_rate=None)"
    )]
    fn new(reactor: &Bound<'_, Reactor>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = options_of(options)?;
        options.validate()?;
        reactor.get().open_handles()?;
        Ok(Self { reactor: reactor.clone().unbind(), options: options.into(), turn: AtomicUsize::new(0) })
    }

    /// The reactor that owns the connections.
    #[getter]
    fn reactor(&self, py: Python<'_>) -> Py<Reactor> {
        self.reactor.clone_ref(py)
    }

    /// Connect ``handler`` to ``address``: ``on_open`` or ``on_connect_fail(error)`` follows, exactly one of them, once,
    /// and never inside this call.
    ///
    /// Args:
    ///     address: ``"example.com:80"``, ``"127.0.0.1:80"``, ``"[::1]:80"``, ``"[fe80::1%eth0]:80"`` (an address of that
    ///         interface, RFC 4007), ``"unix:/path"``, ``"unix:@abstract"``, or a list of these in the order of
    ///         preference. A host name is looked up off the poller. All addresses are tried in the staggered order of
    ///         RFC 8305: the next one as soon as one has failed, or after 250 ms.
    ///     handler: an unused ``Connection``. After ``on_connect_fail``, also inside it, it may be connected again.
    ///     timeout: seconds for the whole connect, > 0, including the lookup of names and every address. They begin with
    ///         the call, or with the start of the reactor.
    ///
    /// Inside a callback of the reactor the connection is made on the same poller, otherwise on each poller in turn. May be
    /// called from any thread, before the reactor runs or while it does. The callbacks see the ``contextvars`` of the
    /// caller, in a copy.
    ///
    /// ``error`` is ``TimeoutError``, ``ConnectionRefusedError`` and the like with ``errno``, of the last address tried;
    /// ``socket.gaierror`` when the name has no address; ``ConnectionAbortedError`` when the reactor stops. A handler
    /// without its own ``on_connect_fail`` logs it (logger ``goev``).
    ///
    /// Go: ``Connect``.
    #[pyo3(signature = (address, handler, *, timeout = 10.0))]
    fn connect(&self, address: &Bound<'_, PyAny>, handler: &Bound<'_, Connection>, timeout: f64) -> PyResult<()> {
        let targets = targets(address)?;
        let timeout = match seconds("timeout", timeout)? {
            none if none.is_zero() => {
                return Err(PyValueError::new_err(format!("timeout must be more than 0 seconds, not {timeout}")));
            }
            timeout => timeout,
        };
        let poller = self.reactor.get().next_in_turn(|| self.turn.fetch_add(1, Ordering::Relaxed))?;
        let request =
            Request { targets, timeout, since: self.reactor.get().now_if_running(), options: self.options.clone() };
        let mut dial = Some(Dial { request, handler: Claim::new(handler)?, values: capture(address.py())? });
        let begun = with_poller(&poller, |poller, tables| dial.take()?.begin(address.py(), poller, tables).err());
        if let Some(Some((error, _))) = begun {
            return Err(error.into());
        }
        let Some(dial) = dial else { return Ok(()) };
        poller.post_task(PyTask::other(dial)).map_err(|_| Error::stopped().into())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reactor)
    }
}

/// A connection to make, as the mailbox carries it.
struct Dial {
    request: Request,
    handler: Claim,
    /// The context of the code that connects.
    values: Option<Context>,
}

impl Dial {
    /// Begins the connect on the poller; returns the handler when the reactor is stopping.
    fn begin(self, py: Python<'_>, poller: &Poller, tables: &Tables) -> Result<(), (Error, Py<PyAny>)> {
        match poller.connect(self.request) {
            Ok(token) => {
                let face = self.handler.face();
                tables.contexts.give(token, self.values);
                tables.put_handler(token, self.handler.keep(py), face);
                Ok(())
            }
            Err(error) => Err((error, self.handler.object(py))),
        }
    }
}

impl Task for Dial {
    fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        self.handler.show(see);
    }

    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        if let Err((_, handler)) = self.begin(py, poller, caller.tables()) {
            let error = io::Error::from_raw_os_error(libc::ECONNABORTED);
            let error = Error::io("cannot connect: the reactor stops")(error);
            caller.call_connect_fail(py, poller, handler.bind(py), error.into());
        }
    }
}

fn options_of(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<ConnectorOptions> {
    let mut options = ConnectorOptions::default();
    take_keywords("Connector", keywords, |name, value| {
        if name == "local_address" {
            let text: Option<String> = value.extract()?;
            options.local_address = text.map(|text| inet(name, &text)).transpose()?;
            return Ok(true);
        }
        set_option(&mut options.socket, &mut options.connection, name, value)
    })?;
    Ok(options)
}

fn targets(value: &Bound<'_, PyAny>) -> PyResult<Vec<Target>> {
    if let Ok(list) = value.cast::<PyList>() {
        if list.is_empty() {
            return Err(PyValueError::new_err("address must not be an empty list"));
        }
        return list.iter().map(|item| target(&item)).collect();
    }
    Ok(vec![target(value)?])
}

fn target(value: &Bound<'_, PyAny>) -> PyResult<Target> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(Target::parse(text.to_str()?)?),
        Err(_) => {
            let text = format!("address must be a str or a list of them, not {}", type_name(value));
            Err(PyTypeError::new_err(text))
        }
    }
}
