//! `goev.Acceptor`.

use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::error::Error;
use crate::options::AcceptorOptions;
use crate::poller::Poller;
use crate::python::callbacks::CALLBACKS;
use crate::python::connection::Connection;
use crate::python::connection::reactor::Reactor;
use crate::python::logs::{AccessLog, log_of};
use crate::python::tables::with_current;
use crate::python::tls::{ServerContext, server_context};
use crate::python::values::arguments::{
    address_object, callable, endpoint, endpoints, integer, optional_integer, size,
};
use crate::python::values::options::{placement_of, set_admission_option, set_option, take_keywords};
use crate::python::values::proxy::trusted;
use crate::shared::acceptor::{Acceptor as CoreAcceptor, Service, listen_for_others};
use crate::shared::admission::Counted;
use crate::system::fork;

/// Listen on ``address`` and make a handler by ``factory()`` for each connection.
///
/// Args:
///     reactor: its poller 0 accepts; with ``reuse_port`` each of its pollers does.
///     address: ``"127.0.0.1:8080"``, ``":8080"`` (every IPv4 address), ``"*:8080"`` (every address of both versions of
///         IP), ``"[::1]:8080"``, ``"[fe80::1%eth0]:8080"``, ``"unix:/path"``, ``"unix:@abstract"``, a bound
///         ``socket.socket``, or a list of these. Port 0 picks a free one. Of a socket goev uses a copy that shares its
///         mode, so the socket becomes non-blocking. It goes on listening until you and all other processes close theirs.
///     factory: a ``Connection`` subclass, or any callable that returns a fresh handler; it runs on the poller that
///         will own the connection.
///     reuse_port: one listener per poller (``SO_REUSEPORT``): no poller hands connections to another.
///     reuse_address: ``SO_REUSEADDR``.
///     cpu_steering: with ``reuse_port``, hand each connection to the poller of the CPU on which it arrived, and pin the
///         pollers. Not for a network card with a single queue, which would send everything to one poller.
///     placement: the poller that gets a connection, without ``reuse_port``. ``"auto"``: the one on the CPU on which its
///         packets arrive (``SO_INCOMING_CPU``, socket(7)), unless it would hold more than a fifth above the mean; else the
///         one with the fewest. ``"round_robin"``: each in turn. ``"least"``: the one with the fewest. ``"incoming_cpu"``:
///         the one on that CPU, however many it holds. ``"source_address"``: the same one for all connections from one IP
///         address. With ``"auto"`` a busy connection may move to another poller later, between two of its callbacks
///         (docs/threads.md says when); with the other ways it stays.
///     unix_mode: the permissions of the file of ``"unix:/path"``, ``0o660`` say, also while it is made; ``None``: those
///         that the umask leaves.
///     backlog: connections that the kernel queues until they are accepted, 1 to 65,535.
///     nodelay: ``TCP_NODELAY``.
///     receive_buffer_size, send_buffer_size: ``SO_RCVBUF`` and ``SO_SNDBUF`` in bytes.
///     keepalive: ``(idle, interval, count)``: probe a peer after ``idle`` seconds of silence, each ``interval`` seconds,
///         and end the connection after ``count`` unanswered probes (``SO_KEEPALIVE``, tcp(7)); whole seconds. With
///         ``None`` a vanished peer is never detected while nothing is written.
///     device: the name of a network interface (``SO_BINDTODEVICE``, socket(7)).
///     max_input: bytes of unread input at which reading pauses, so that the peer has to wait.
///     high_water, low_water: queued output in bytes above which reading pauses, and at which it resumes with
///         ``on_drain``.
///     auto_pause: whether output above ``high_water`` pauses reading of the same connection. ``False`` for a relay,
///         because its two directions are independent.
///     max_output: queued output in bytes above which the connection ends with ``OutputOverflow``.
///     linger_timeout: seconds for which a closed connection discards further input from the peer.
///     handshake_timeout: seconds, > 0, for a TLS handshake; then the socket is closed.
///     idle_timeout: seconds in which no byte moves either way, and no answer to an HTTP request is due; ends with
///         ``IdleTimeout``. This limit and the next five are ``None`` or more than 0. They hold for outgoing connections as
///         well, and ``set_limits`` may change them for one connection.
///     receive_timeout: seconds in which the peer sends nothing, whatever is sent to it; ends with ``ReceiveTimeout``.
///         Time does not count while reading is paused or an answer to an HTTP request is due.
///     first_byte_timeout: seconds until the peer's first byte; ends with ``FirstByteTimeout``.
///     write_timeout: seconds in which the peer takes none of the waiting output, after ``close()`` too; ends with
///         ``WriteTimeout``, at most a quarter later.
///     lifetime: seconds for which the connection may be open; ends with ``LifetimeExceeded``.
///     min_rate: ``(bytes per second, seconds)``: the least rate of the peer in each window of so many seconds, unless
///         reading is paused; ends with ``TooSlow``.
///     min_write_rate: ``(bytes per second, seconds)``: the least rate at which the peer takes output that waits, in each
///         window of so many seconds; ends with ``TooSlow``, at the latest when two windows are over.
///     max_connections: connections of this acceptor at once, lingering ones included. ``None`` is no limit.
///     when_full: ``"wait"``: further peers wait in the backlog; ``"refuse"``: they are accepted and closed.
///     max_connections_per_address: connections at once of one IPv4 address, or of one IPv6 network of 64 bits; further
///         ones are closed.
///     accept_rate: connections a second, those of one second at once; further ones wait in the backlog.
///     proxy_protocol: whether each peer has to send a header of the PROXY protocol first, version 1 or 2, before TLS and within
///         ``handshake_timeout``. ``remote_address`` and ``local_address`` are the client's then; ``proxy`` has the rest.
///     proxy_from: the proxies that are trusted, a list of addresses, networks (``"10.0.0.0/8"``) and ``"unix:"`` for all
///         peers of Unix sockets. Others are closed. It goes with ``proxy_protocol``, which needs it.
///     connection_reactor: another reactor, which owns the connections.
///     tls: a ``goev.tls.ServerContext``; ``None`` means plain bytes. ``on_open`` comes behind the handshake.
///     access_log: a ``goev.logs.AccessLog``, which gets a line for each request to a ``goev.http.Connection``.
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

impl Acceptor {
    fn here<R>(&self, method: &'static str, work: impl FnOnce(&Poller) -> R) -> PyResult<R> {
        fork::check(self.birth, "acceptor")?;
        Ok(with_current(|poller, _| work(poller)).ok_or_else(|| Error::wrong_thread(method))?)
    }
}

#[pymethods]
impl Acceptor {
    #[new]
    #[pyo3(
        signature = (reactor, address, factory, **options),
        text_signature = "(reactor, address, factory, *, reuse_port=False, reuse_address=True, cpu_steering=False, \
            placement='auto', backlog=1024, unix_mode=None, nodelay=True, receive_buffer_size=None, \
            send_buffer_size=None, keepalive=(60, 15, 4), device=None, max_input=1048576, high_water=65536, low_water=16384, auto_pause=True, max_output=67108864, \
            linger_timeout=2.0, handshake_timeout=10.0, idle_timeout=None, receive_timeout=None, \
            first_byte_timeout=None, write_timeout=60.0, lifetime=None, min_rate=None, min_write_rate=None, \
            max_connections=None, when_full='wait', max_connections_per_address=None, accept_rate=None, \
            proxy_protocol=False, proxy_from=None, connection_reactor=None, tls=None, access_log=None)"
    )]
    fn new(
        py: Python<'_>,
        reactor: &Reactor,
        address: &Bound<'_, PyAny>,
        factory: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        callable("factory", factory)?;
        let Wanted { options, connection_reactor, tls, access_log, proxy_protocol, proxy_from } = options_of(options)?;
        if let Ok(class) = factory.cast::<PyType>()
            && class.is_subclass_of::<Connection>()?
        {
            connection_reactor.as_ref().map_or(reactor, |reactor| reactor.get()).check_class(class, &CALLBACKS)?;
        }
        let proxies = trusted(proxy_protocol, proxy_from.as_ref())?;
        let endpoints = endpoints(address)?;
        let accepting = reactor.handles_for_sources()?;
        let serving = connection_reactor.as_ref().map(|reactor| reactor.get().handles_for_sources()).transpose()?;
        let factory = Box::new(factory.clone().unbind());
        let journal = access_log.map(|log| log.get().journal()).transpose()?;
        let service = Service { factory, tls: tls.map(|context| context.get().core().clone()), proxies, journal };
        // Binding and listening may block for a moment, for example on a path in a slow file system.
        let core = py.detach(|| CoreAcceptor::open(accepting, serving, endpoints, &options, service))?;
        Ok(Self { core, birth: fork::generation() })
    }

    /// Raises what the constructor would raise about these arguments, and opens nothing. `goev check` calls it.
    #[staticmethod]
    #[pyo3(signature = (address, **options))]
    fn _check(address: &Bound<'_, PyAny>, options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let wanted = options_of(options)?;
        trusted(wanted.proxy_protocol, wanted.proxy_from.as_ref())?;
        Ok(CoreAcceptor::check(&endpoints(address)?, &wanted.options)?)
    }

    /// The address it listens on, with the port that the system chose; of several addresses the first. ``"*:8080"`` is
    /// ``("::", 8080, 0, 0)``, and on a machine without IPv6 ``("0.0.0.0", 8080)``.
    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        address_object(py, &self.core.addresses[0])
    }

    /// The addresses it listens on, in the order given.
    #[getter]
    fn addresses(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.core.addresses.iter().map(|address| address_object(py, address)).collect()
    }

    /// The counters of this acceptor's connections, on whatever pollers they are. From any thread, also after ``close``.
    ///
    /// ``accepted`` is ``open`` + ``closed`` at all times. A connection is ``open`` until its socket is closed, so one that
    /// lingers is, and so is one that another handler took over. ``refused`` counts peers that were closed at once
    /// because of ``max_connections`` or ``max_connections_per_address``; ``accepted`` does not. ``rejected`` are
    /// accepted connections that got no handler, because the factory raised. ``errors`` counts calls of accept(2) that
    /// failed for lack of descriptors or memory: the peers wait in the backlog.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        fork::check(self.birth, "acceptor")?;
        let Counted { accepted, open, refused, rejected, failed } = self.core.counted();
        [
            ("accepted", accepted),
            ("open", open),
            ("closed", accepted - open),
            ("refused", refused),
            ("rejected", rejected),
            ("errors", failed),
        ]
        .into_py_dict(py)
    }

    /// Stop listening. Accepted connections stay open. May be called any number of times, from any thread.
    ///
    /// Of a ``socket.socket`` of yours only goev's copy is closed: other processes that share the socket go on accepting.
    fn close(&self) -> PyResult<()> {
        fork::check(self.birth, "acceptor")?;
        self.core.close();
        Ok(())
    }

    /// Ends its connections on this thread's poller as a stop of the reactor does: each gets ``on_stopping``, or closes.
    fn _stop(&self) -> PyResult<()> {
        self.here("_stop()", |poller| poller.stop_accepted(&self.core))
    }

    /// Aborts its connections on this thread's poller.
    fn _abort(&self) -> PyResult<()> {
        self.here("_abort()", |poller| poller.abort_accepted(&self.core))
    }

    /// The number of its connections on this thread's poller that have handlers.
    fn _served(&self) -> PyResult<usize> {
        self.here("_served()", |poller| poller.served(&self.core))
    }

    /// The factory often refers to the acceptor. Once no listener needs it, only this object keeps it alive.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if Arc::strong_count(&self.core) > 1 {
            return Ok(());
        }
        self.core.factory.downcast_ref::<Py<PyAny>>().map_or(Ok(()), |factory| visit.call(factory))
    }
}

/// Opens listening sockets for other processes: ``count`` of a TCP address, one of a Unix socket or of a bound socket,
/// and returns their descriptors. With ``alone`` an address that another socket listens on is refused. ``**options`` are
/// those of ``Acceptor``, and all are checked.
#[pyfunction]
#[pyo3(name = "_listen", signature = (address, *, count, alone, **options))]
pub fn listen(
    py: Python<'_>,
    address: &Bound<'_, PyAny>,
    count: usize,
    alone: bool,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Vec<RawFd>> {
    let Wanted { options, proxy_protocol, proxy_from, .. } = options_of(options)?;
    trusted(proxy_protocol, proxy_from.as_ref())?;
    let endpoint = endpoint(address)?;
    let opened = py.detach(|| listen_for_others(endpoint, &options, count, alone))?;
    let copies = opened.iter().map(|socket| socket.try_clone()).collect::<std::io::Result<Vec<_>>>();
    let copies = copies.map_err(Error::io("cannot copy a listening socket"))?;
    Ok(copies.into_iter().map(IntoRawFd::into_raw_fd).collect())
}

/// The keyword arguments.
#[derive(Default)]
struct Wanted<'py> {
    options: AcceptorOptions,
    connection_reactor: Option<Py<Reactor>>,
    tls: Option<Py<ServerContext>>,
    access_log: Option<Py<AccessLog>>,
    proxy_protocol: bool,
    proxy_from: Option<Bound<'py, PyAny>>,
}

fn options_of<'py>(keywords: Option<&Bound<'py, PyDict>>) -> PyResult<Wanted<'py>> {
    let mut wanted = Wanted::default();
    let Wanted { options, connection_reactor, tls, access_log, proxy_protocol, proxy_from } = &mut wanted;
    take_keywords("Acceptor", keywords, |name, value| {
        match name {
            "reuse_port" => options.reuse_port = value.extract()?,
            "reuse_address" => options.reuse_address = value.extract()?,
            "cpu_steering" => options.cpu_steering = value.extract()?,
            "placement" => options.placement = placement_of(value.extract()?)?,
            "backlog" => options.backlog = size(name, integer(value)?)?,
            "unix_mode" => options.unix_mode = unix_mode_of(value)?,
            "connection_reactor" => *connection_reactor = value.extract()?,
            "proxy_protocol" => *proxy_protocol = value.extract()?,
            "proxy_from" => *proxy_from = Some(value.clone()),
            "tls" => *tls = server_context(name, value)?,
            "access_log" => *access_log = log_of(name, value)?,
            _ => {
                return Ok(set_option(&mut options.socket, &mut options.connection, name, value)?
                    || set_admission_option(&mut options.admission, name, value)?);
            }
        }
        Ok(true)
    })?;
    Ok(wanted)
}

/// `None`, or a mode; one that is far too large becomes one that the check of the options refuses.
fn unix_mode_of(value: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
    let Some(mode) = optional_integer(value)? else { return Ok(None) };
    Ok(Some(size("unix_mode", mode)?.try_into().unwrap_or(u32::MAX)))
}
