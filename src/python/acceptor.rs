//! `goev.Acceptor`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::arguments::{address_object, callable, endpoints, integer, optional_integer, size};
use super::connection::Connection;
use super::dispatch::{CALLBACKS, check_callbacks};
use super::options::{connection_options, keepalive_of, socket_options};
use super::reactor::Reactor;
use crate::acceptor::Acceptor as CoreAcceptor;
use crate::fork;
use crate::options::{AcceptorOptions, Keepalive};

/// Listen on ``address`` and make a handler by ``factory()`` for each connection.
///
/// Args:
///     reactor: whose poller 0 accepts; each of its pollers does with ``reuse_port``.
///     address: ``"127.0.0.1:8080"``, ``":8080"`` (every IPv4 address), ``"[::1]:8080"``, ``"unix:/path"``,
///         ``"unix:@abstract"``, a bound ``socket.socket``, or a list of these. Port 0 picks a free one.
///     factory: a ``Connection`` subclass, or any callable that returns a fresh handler; it runs on the poller that
///         will own the connection.
///     reuse_port: one listener per poller (``SO_REUSEPORT``): no poller hands connections to another.
///     reuse_address: ``SO_REUSEADDR``.
///     cpu_steering: with ``reuse_port``, hand each connection to the poller of the CPU it arrived on and pin the
///         pollers. Not for a network card with a single queue, which would send everything to one poller.
///     backlog: connections the kernel queues until they are accepted, 1 to 65,535.
///     nodelay: ``TCP_NODELAY``.
///     receive_buffer_size, send_buffer_size: ``SO_RCVBUF`` and ``SO_SNDBUF`` in bytes.
///     keepalive: ``(idle, interval, count)``: probe a peer after ``idle`` seconds of silence, each ``interval`` seconds,
///         and end the connection after ``count`` unanswered probes (``SO_KEEPALIVE``, tcp(7)); whole seconds.
///     device: the name of a network interface (``SO_BINDTODEVICE``, socket(7)).
///     max_input: bytes that may wait unread; reading pauses there, so the peer feels it.
///     high_water, low_water: queued output in bytes above which reading pauses, and at which it resumes with
///         ``on_drain``.
///     auto_pause: whether output above ``high_water`` pauses reading of the same connection. ``False`` for a relay, whose
///         two directions have nothing to do with each other.
///     max_output: queued output in bytes that ends the connection with ``OutputOverflow``.
///     linger_timeout: seconds for which a closed connection discards what the peer still sends.
///     connection_reactor: another reactor, whose pollers own the connections.
///
/// Raises:
///     OSError: the address cannot be bound; ``errno`` is kept.
///     ValueError, TypeError: an argument is wrong; the text names it, its value and the limit.
///     RuntimeError: the reactor has stopped.
///
/// The reactor owns its acceptors: they close when it stops. Go: ``NewAcceptor``.
#[pyclass(frozen, module = "goev")]
pub struct Acceptor {
    core: Arc<CoreAcceptor>,
    birth: u32,
}

#[pymethods]
impl Acceptor {
    #[new]
    #[pyo3(signature = (
        reactor, address, factory, *, reuse_port = false, reuse_address = true, cpu_steering = false, backlog = 1024,
        nodelay = true, receive_buffer_size = None, send_buffer_size = None, keepalive = None, device = None, max_input = 1048576, high_water = 65536,
        low_water = 16384, auto_pause = true, max_output = 67108864, linger_timeout = 2.0, connection_reactor = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword-only in Python, where it is the natural form")]
    fn new(
        py: Python<'_>,
        reactor: &Reactor,
        address: &Bound<'_, PyAny>,
        factory: &Bound<'_, PyAny>,
        reuse_port: bool,
        reuse_address: bool,
        cpu_steering: bool,
        #[pyo3(from_py_with = integer)] backlog: i64,
        nodelay: bool,
        #[pyo3(from_py_with = optional_integer)] receive_buffer_size: Option<i64>,
        #[pyo3(from_py_with = optional_integer)] send_buffer_size: Option<i64>,
        #[pyo3(from_py_with = keepalive_of)] keepalive: Option<Keepalive>,
        device: Option<String>,
        #[pyo3(from_py_with = integer)] max_input: i64,
        #[pyo3(from_py_with = integer)] high_water: i64,
        #[pyo3(from_py_with = integer)] low_water: i64,
        auto_pause: bool,
        #[pyo3(from_py_with = integer)] max_output: i64,
        linger_timeout: f64,
        connection_reactor: Option<&Reactor>,
    ) -> PyResult<Self> {
        callable("factory", factory)?;
        if let Ok(class) = factory.cast::<PyType>()
            && class.is_subclass_of::<Connection>()?
        {
            check_callbacks(class, &CALLBACKS)?;
        }
        let options = AcceptorOptions {
            reuse_port,
            reuse_address,
            cpu_steering,
            backlog: size("backlog", backlog)?,
            socket: socket_options(nodelay, receive_buffer_size, send_buffer_size, keepalive, device)?,
            connection: connection_options(max_input, high_water, low_water, auto_pause, max_output, linger_timeout)?,
        };
        let endpoints = endpoints(address)?;
        let accepting = reactor.open_handles()?;
        let serving = connection_reactor.map(Reactor::open_handles).transpose()?;
        let factory: Py<PyAny> = factory.clone().unbind();
        // Binding and listening may block for a moment, on a path in a slow file system say.
        let core = py.detach(|| CoreAcceptor::open(accepting, serving, endpoints, &options, Box::new(factory)))?;
        Ok(Self { core, birth: fork::generation() })
    }

    /// Where it listens, the port resolved; of several addresses the first.
    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        address_object(py, &self.core.addresses[0])
    }

    /// Where it listens, in the order given.
    #[getter]
    fn addresses(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.core.addresses.iter().map(|address| address_object(py, address)).collect()
    }

    /// Stop listening. Connections that were accepted go on. May be called any number of times, from any thread.
    fn close(&self) -> PyResult<()> {
        fork::check(self.birth, "acceptor")?;
        self.core.close();
        Ok(())
    }

    /// The factory often reaches the acceptor. Once no listener needs it, only this object keeps it alive.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if Arc::strong_count(&self.core) > 1 {
            return Ok(());
        }
        self.core.factory.downcast_ref::<Py<PyAny>>().map_or(Ok(()), |factory| visit.call(factory))
    }
}
