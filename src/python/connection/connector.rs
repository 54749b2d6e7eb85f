//! `goev.Connector`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::error::Error;
use crate::options::ConnectorOptions;
use crate::poller::Poller;
use crate::proxy::{Announcement, Named, Version};
use crate::python::callbacks::CALLBACKS;
use crate::python::connection::Connection;
use crate::python::connection::claim::Claim;
use crate::python::connection::reactor::Reactor;
use crate::python::contexts::{Context, capture};
use crate::python::tables::{Caller, PyTask, Tables, Task, with_poller};
use crate::python::tls::secured;
use crate::python::values::arguments::{inet, seconds, type_name};
use crate::python::values::options::{set_option, take_keywords};
use crate::python::values::proxy::{end_of, version};
use crate::sources::connector::Request;
use crate::system::address::Target;

/// Makes outgoing connections on the pollers of ``reactor``.
///
/// Args:
///     reactor: its pollers own the connections.
///     local_address: our own end, ``"192.0.2.1:0"``, on a machine that has several; for TCP only.
///     proxy_protocol: 1 or 2: send a header of this version of the PROXY protocol first, before TLS too; ``None``: none.
///     nodelay, receive_buffer_size, send_buffer_size, keepalive, device, max_input, high_water, low_water, auto_pause,
///         max_output, linger_timeout, handshake_timeout, idle_timeout, receive_timeout, first_byte_timeout,
///         write_timeout, lifetime, min_rate, min_write_rate: as for ``Acceptor``.
///
/// Raises:
///     ValueError, TypeError: an argument is wrong; the text names it, its value and the limit.
///
/// Go: ``NewConnector``.
#[pyclass(frozen, module = "goev")]
pub struct Connector {
    reactor: Py<Reactor>,
    options: Arc<ConnectorOptions>,
    /// The version of the PROXY header that it sends.
    proxy_protocol: Option<Version>,
    turn: AtomicUsize,
}

#[pymethods]
impl Connector {
    #[new]
    #[pyo3(
        signature = (reactor, **options),
        text_signature = "(reactor, *, local_address=None, proxy_protocol=None, nodelay=True, receive_buffer_size=None, \
            send_buffer_size=None, keepalive=(60, 15, 4), device=None, max_input=1048576, high_water=65536, \
            low_water=16384, auto_pause=True, max_output=67108864, linger_timeout=2.0, handshake_timeout=10.0, \
            idle_timeout=None, receive_timeout=None, first_byte_timeout=None, write_timeout=60.0, lifetime=None, min_rate=None, \
            min_write_rate=None)"
    )]
    fn new(reactor: &Bound<'_, Reactor>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (options, proxy_protocol) = options_of(options)?;
        options.validate()?;
        reactor.get().open_handles()?;
        Ok(Self {
            reactor: reactor.clone().unbind(),
            options: options.into(),
            proxy_protocol,
            turn: AtomicUsize::new(0),
        })
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
    ///     tls: ``True`` means TLS with the system's certificates of CAs and the name of the address; or a
    ///         ``goev.tls.ClientContext``. ``on_open`` comes behind the handshake. A certificate that is refused is a
    ///         ``goev.tls.CertificateError`` for ``on_connect_fail``, any other failure a ``goev.tls.Error``.
    ///     proxy_for: the client for which this is a proxy: a connection, in one of its callbacks, or a pair ``(source,
    ///         destination)`` of addresses in the form of ``remote_address``. The PROXY header names them. ``None``: it names the
    ///         two ends of this connection. Goes with ``proxy_protocol`` of the connector.
    ///     timeout: seconds for the whole connect, > 0, including the lookup of names, every address and the TLS
    ///         handshake. They begin with the call, or with the start of the reactor.
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
    #[pyo3(signature = (address, handler, *, timeout = 10.0, tls = None, proxy_for = None))]
    fn connect(
        &self,
        address: &Bound<'_, PyAny>,
        handler: &Bound<'_, Connection>,
        timeout: f64,
        tls: Option<&Bound<'_, PyAny>>,
        proxy_for: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let targets = targets(address)?;
        self.reactor.get().check_class(&handler.get_type(), &CALLBACKS)?;
        let announcement = self.announcement(proxy_for)?;
        let tls = secured("tls", tls, &targets)?;
        let timeout = match seconds("timeout", timeout)? {
            none if none.is_zero() => {
                return Err(PyValueError::new_err(format!("timeout must be more than 0 seconds, not {timeout}")));
            }
            timeout => timeout,
        };
        let poller = self.reactor.get().next_in_turn(|| self.turn.fetch_add(1, Ordering::Relaxed))?;
        let (since, options) = (self.reactor.get().now_if_running(), self.options.clone());
        let request = Request { targets, timeout, since, options, announcement, tls };
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

impl Connector {
    /// The PROXY header of a connection, if one is to be sent.
    fn announcement(&self, proxy_for: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Announcement>> {
        let proxy_for = proxy_for.filter(|value| !value.is_none());
        match (self.proxy_protocol, proxy_for) {
            (None, Some(_)) => Err(PyValueError::new_err("proxy_for needs proxy_protocol=1 or 2 of the connector")),
            (None, None) => Ok(None),
            (Some(version), None) => Ok(Some(Announcement { version, ends: Named::Own })),
            (Some(version), Some(value)) => Ok(Some(Announcement { version, ends: Named::Given(ends_of(value)?) })),
        }
    }
}

/// The addresses that a PROXY header names: those of a connection, or a pair.
fn ends_of(value: &Bound<'_, PyAny>) -> PyResult<Option<(SocketAddr, SocketAddr)>> {
    if let Ok(connection) = value.cast::<Connection>() {
        return connection.get().ends();
    }
    let pair = value.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2);
    let Some(pair) = pair else {
        let text =
            format!("proxy_for must be a goev.Connection or a pair (source, destination), not {}", value.repr()?);
        return Err(PyTypeError::new_err(text));
    };
    let source = end_of("source", &pair.get_item(0)?)?;
    Ok(source.zip(end_of("destination", &pair.get_item(1)?)?))
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

fn options_of(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<(ConnectorOptions, Option<Version>)> {
    let (mut options, mut proxy_protocol) = (ConnectorOptions::default(), None);
    take_keywords("Connector", keywords, |name, value| {
        if name == "local_address" {
            let text: Option<String> = value.extract()?;
            options.local_address = text.map(|text| inet(name, &text)).transpose()?;
            return Ok(true);
        }
        if name == "proxy_protocol" {
            proxy_protocol = version(value)?;
            return Ok(true);
        }
        set_option(&mut options.socket, &mut options.connection, name, value)
    })?;
    Ok((options, proxy_protocol))
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
