//! `goev.Datagram`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use socket2::{InterfaceIndexOrAddress, Socket};

use crate::error::{Error, Reason};
use crate::options::DatagramOptions;
use crate::poller::Poller;
use crate::python::callbacks::check_callbacks;
use crate::python::connection::event_handler::EventHandler;
use crate::python::connection::reactor::Reactor;
use crate::python::tables::{Caller, PyTask, Tables, Task, with_poller};
use crate::python::values::arguments::{
    address_object, bytes_of, inet, inet_object, inet_to_bind, integer, optional_integer, own_bound_socket, size,
};
use crate::slots::Token;
use crate::sources::datagram::{self, Ends, Opened};
use crate::system::address::{Inet, ip_text, parse_ip, zone_index};
use crate::system::fork;
use crate::system::packet_info::Own;

/// The callbacks of a datagram socket.
const CALLBACKS: [&str; 4] = ["on_open", "on_datagram", "on_error", "on_close"];

/// Called for each datagram of a UDP socket: subclass it and define ``on_datagram(data, address)``.
///
/// ``on_open`` comes first, when the socket is on its poller; ``on_close`` comes last. Each system call reads or sends many
/// datagrams (recvmmsg(2), sendmmsg(2)). No error closes the socket: ``on_error(error)`` reports ICMP messages
/// (``ConnectionRefusedError``), datagrams that could not be sent, and, as ``DatagramTruncated``, those larger than
/// ``max_size``. Datagrams that do not fit into the kernel's send queue are dropped and counted
/// (``datagrams_dropped`` in ``Reactor.stats()``), as UDP may drop them anyway.
///
/// ``bind`` may be called from any thread, everything else on the poller's thread only.
#[pyclass(extends = EventHandler, subclass, frozen, module = "goev")]
pub struct Datagram {
    /// The bits of the token; 0 before the socket is on its poller.
    token: AtomicU64,
}

impl Datagram {
    /// Notes that the socket is on its poller.
    pub fn bind_to(&self, token: Token) {
        self.token.store(token.to_bits(), Ordering::Release);
    }

    fn local<R>(
        slf: &Bound<'_, Self>,
        method: &'static str,
        work: impl FnOnce(&Poller, &Tables, Token) -> PyResult<R>,
    ) -> PyResult<R> {
        let token = Token::from_bits(slf.get().token.load(Ordering::Acquire));
        let base: &Bound<'_, EventHandler> = slf.as_super();
        let poller = base.get().poller().ok_or_else(Error::closed)?;
        fork::check(poller.birth, "datagram socket")?;
        with_poller(poller, |poller, tables| work(poller, tables, token))
            .unwrap_or_else(|| Err(Error::wrong_thread(method).into()))
    }

    fn queue(
        slf: &Bound<'_, Self>,
        method: &'static str,
        data: &Bound<'_, PyAny>,
        to: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        bytes_of(data, |data| {
            if data.len() > LARGEST {
                let text = format!("data must be at most {LARGEST} bytes, the largest datagram, not {}", data.len());
                return Err(PyValueError::new_err(text));
            }
            Self::local(slf, method, |poller, tables, token| {
                let to = to.map(|to| tables.ends_of(to, ends_of)).transpose()?;
                Ok(poller.send_datagram(token, data, to)?)
            })
        })
    }

    fn set(
        slf: &Bound<'_, Self>,
        method: &'static str,
        what: String,
        set: impl FnOnce(&Socket) -> std::io::Result<()>,
    ) -> PyResult<()> {
        Self::local(slf, method, |poller, _, token| {
            Ok(poller.with_datagram_socket(token, set)?.map_err(Error::io(what))?)
        })
    }
}

/// The most bytes of a datagram in an IPv4 packet, after the headers of IPv4 and UDP.
const LARGEST: usize = 65_507;

#[pymethods]
impl Datagram {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    #[classmethod]
    fn new(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        // The arguments of the subclass's `__init__`.
        let _ = (args, kwargs);
        check_callbacks(class, &CALLBACKS)?;
        Ok(PyClassInitializer::from(EventHandler::unused()).add_subclass(Self { token: AtomicU64::new(0) }))
    }

    /// Open a UDP socket for this handler.
    ///
    /// Args:
    ///     reactor: inside one of its callbacks the socket belongs to the same poller, otherwise to poller 0.
    ///     address: ``":9999"`` (every IPv4 address), ``"*:9999"`` (every address of both versions of IP),
    ///         ``"127.0.0.1:9999"``, ``"[fe80::1%eth0]:9999"``, or a bound UDP ``socket.socket``. Port 0 picks a free one.
    ///         goev works on a copy of the socket's descriptor, so yours may be closed at any time, and ``close`` leaves it
    ///         open.
    ///     peer: connect the socket to this address: only datagrams of this peer come in, ``send`` needs no address,
    ///         and ICMP messages about it reach ``on_error``.
    ///     reuse_address, reuse_port: ``SO_REUSEADDR``, for several receivers of a multicast group, and
    ///         ``SO_REUSEPORT``, by which the kernel spreads the peers over several sockets. Not for a bound socket.
    ///     broadcast: ``SO_BROADCAST``.
    ///     receive_buffer_size, send_buffer_size: ``SO_RCVBUF`` and ``SO_SNDBUF`` in bytes.
    ///     max_size: bytes of the largest datagram that is delivered, 1 to 65,535.
    ///     device: the name of a network interface (``SO_BINDTODEVICE``).
    ///
    /// Raises:
    ///     OSError: the address cannot be bound; ``errno`` is kept.
    ///     ValueError, TypeError: an argument is wrong, or the handler was used before.
    ///     RuntimeError: the reactor has stopped.
    ///
    /// A socket for every address reports the address that each datagram was sent to, and an answer leaves from there:
    /// ``on_datagram`` gets a ``goev.DatagramAddress``, and ``send_to`` obeys it (IP_PKTINFO, ip(7)).
    #[pyo3(
        signature = (
            reactor, address = Place::default(), *, peer = None, reuse_address = false, reuse_port = false,
            broadcast = false, receive_buffer_size = None, send_buffer_size = None, max_size = 65535, device = None,
        ),
        text_signature = "($self, reactor, address=':0', *, peer=None, reuse_address=False, reuse_port=False, \
            broadcast=False, receive_buffer_size=None, send_buffer_size=None, max_size=65535, device=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "keyword-only in Python, where it is the natural form")]
    fn bind(
        slf: &Bound<'_, Self>,
        reactor: &Reactor,
        #[pyo3(from_py_with = place)] address: Place,
        peer: Option<&str>,
        reuse_address: bool,
        reuse_port: bool,
        broadcast: bool,
        #[pyo3(from_py_with = optional_integer)] receive_buffer_size: Option<i64>,
        #[pyo3(from_py_with = optional_integer)] send_buffer_size: Option<i64>,
        #[pyo3(from_py_with = integer)] max_size: i64,
        device: Option<String>,
    ) -> PyResult<()> {
        let options = DatagramOptions {
            reuse_address,
            reuse_port,
            broadcast,
            receive_buffer_size: receive_buffer_size.map(|bytes| size("receive_buffer_size", bytes)).transpose()?,
            send_buffer_size: send_buffer_size.map(|bytes| size("send_buffer_size", bytes)).transpose()?,
            max_size: size("max_size", max_size)?,
            device,
        };
        let peer = peer.map(|peer| inet("peer", peer)).transpose()?;
        reactor.handles_for_sources()?;
        reactor.check_class(&slf.get_type(), &CALLBACKS)?;
        let poller = reactor.nearest()?;
        let base: &Bound<'_, EventHandler> = slf.as_super();
        base.get().check_unused()?;
        // Before the first datagram, because a fork during the import of a class would leave a child without it.
        address_class(slf.py())?;
        let opened = match address {
            Place::Address(address) => datagram::open(address, peer, &options)?,
            Place::Socket(socket) => datagram::take(socket, peer, &options)?,
        };
        base.get().bind_to(poller.clone(), opened.socket.as_raw_fd())?;
        let task = Watch { opened, handler: slf.clone().unbind() };
        poller.post_task(PyTask::other(task)).map_err(|_| Error::stopped().into())
    }

    // ---- callbacks ------------------------------------------------------------------------------------------------

    /// The socket is on its poller: called first.
    fn on_open(&self) {}

    /// A datagram with the bytes ``data`` has arrived from ``address``: ``(host, port)``, a 4-tuple for IPv6. ``False``
    /// closes the socket.
    ///
    /// On a socket for every address it is a ``goev.DatagramAddress``, a tuple that also has ``asked``, our address that
    /// the datagram was sent to.
    fn on_datagram(&self, data: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) {
        let _ = (data, address);
    }

    /// A datagram was lost: ``error`` is a ``DatagramTruncated``, or an ``OSError`` of the network. The socket stays open;
    /// ``False`` closes it.
    fn on_error(&self, error: &Bound<'_, PyAny>) {
        let _ = error;
    }

    // ---- output ---------------------------------------------------------------------------------------------------

    /// Send ``data``, at most 65,535 bytes, as a datagram at the end of the batch.
    ///
    /// ``address`` is the one that ``on_datagram`` got, or a tuple of that form, whose host may have a zone
    /// (``"fe80::1%eth0"``). A ``goev.DatagramAddress`` also says from which of our addresses the datagram leaves;
    /// otherwise the system chooses.
    ///
    /// Raises ``ValueError`` for too many bytes or a wrong address, ``ConnectionClosed`` before ``bind`` and after the end.
    fn send_to(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::queue(slf, "send_to()", data, Some(address))
    }

    /// Send ``data``, at most 65,535 bytes, as a datagram to the ``peer`` of ``bind``, at the end of the batch. Raises the
    /// same errors as ``send_to``.
    fn send(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::queue(slf, "send()", data, None)
    }

    /// Send the queued datagrams, then close; only ``on_close`` follows.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::local(slf, "close()", |poller, _, token| {
            poller.close_datagrams(token, Reason::Orderly);
            Ok(())
        })
    }

    // ---- the socket -----------------------------------------------------------------------------------------------

    /// Our own address, with the port that the system chose.
    #[getter]
    fn local_address(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::local(slf, "local_address", |poller, _, token| {
            let address = poller.with_datagram_socket(token, Socket::local_addr)?;
            address_object(slf.py(), &address.map_err(Error::io("cannot read the local address"))?)
        })
    }

    /// Receive the datagrams of a multicast ``group``, ``"239.1.2.3"`` or ``"ff02::1:3"``.
    ///
    /// ``interface`` is the name of a network interface; ``None`` lets the system choose.
    #[pyo3(signature = (group, interface = None))]
    fn join_group(slf: &Bound<'_, Self>, group: &str, interface: Option<&str>) -> PyResult<()> {
        let (group, index) = (multicast(group)?, interface_index(interface)?);
        Self::set(slf, "join_group()", format!("cannot join {group}"), |socket| match group {
            IpAddr::V4(group) => socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index)),
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
        })
    }

    /// Undo ``join_group`` with the same ``group`` and ``interface``.
    #[pyo3(signature = (group, interface = None))]
    fn leave_group(slf: &Bound<'_, Self>, group: &str, interface: Option<&str>) -> PyResult<()> {
        let (group, index) = (multicast(group)?, interface_index(interface)?);
        Self::set(slf, "leave_group()", format!("cannot leave {group}"), |socket| match group {
            IpAddr::V4(group) => socket.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index)),
            IpAddr::V6(group) => socket.leave_multicast_v6(&group, index),
        })
    }
}

/// A socket to watch, as the mailbox carries it.
struct Watch {
    opened: Opened,
    handler: Py<Datagram>,
}

impl Task for Watch {
    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        let (handler, opened) = (self.handler.bind(py), poller.watch_datagrams(self.opened));
        match opened {
            Ok(token) => {
                handler.get().bind_to(token);
                caller.tables().put_handler(token, handler.clone().into_any().unbind(), None);
                caller.open_datagrams(py, poller, token, handler);
            }
            Err(error) => {
                let reason = Reason::Raised(Box::new(PyErr::from(error)));
                caller.call_close(py, poller, handler, reason);
            }
        }
    }
}

/// The place of a datagram socket.
enum Place {
    Address(Inet),
    Socket(Socket),
}

impl Default for Place {
    fn default() -> Self {
        Self::Address(Inet::One((Ipv4Addr::UNSPECIFIED, 0).into()))
    }
}

fn place(value: &Bound<'_, PyAny>) -> PyResult<Place> {
    match value.cast::<PyString>() {
        Ok(text) => inet_to_bind("address", text.to_str()?).map(Place::Address),
        Err(_) => own_bound_socket(value, "a str or a bound socket", "bind").map(Place::Socket),
    }
}

// ---- addresses of peers -----------------------------------------------------------------------------------------------

/// `goev.DatagramAddress`.
fn address_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "goev.datagrams", "DatagramAddress")
}

/// The peer of a datagram in the form of the socket module, with our address that it asked.
pub fn peer_object<'py>(py: Python<'py>, tables: &Tables, ends: &Ends) -> PyResult<Bound<'py, PyAny>> {
    tables.peer_object(py, ends, || {
        let peer = inet_object(py, &ends.peer)?;
        let Some(own) = ends.own else { return Ok(peer) };
        let peer = address_class(py)?.call1((peer,))?;
        peer.setattr(intern!(py, "asked"), ip_text(own.ip, own.interface))?;
        Ok(peer.unbind())
    })
}

/// Reads an address in the form of the socket module. A `goev.DatagramAddress` also has the source of the answer.
fn ends_of(address: &Bound<'_, PyAny>) -> PyResult<Ends> {
    let wrong = || PyTypeError::new_err("address must be a tuple of host and port, as on_datagram gets it");
    let tuple = address.cast::<PyTuple>().map_err(|_| wrong())?;
    if !matches!(tuple.len(), 2 | 4) {
        return Err(wrong());
    }
    let host = tuple.get_item(0)?;
    let host: &str = host.extract().map_err(|_| wrong())?;
    let number = |index: usize, what: &str, most: u32| -> PyResult<u32> {
        let value = integer(&tuple.get_item(index)?).map_err(|_| wrong())?;
        let fits = u32::try_from(value).ok().filter(|value| *value <= most);
        let text = || format!("address must have a {what} from 0 to {most}, not {value}");
        fits.ok_or_else(|| PyValueError::new_err(text()))
    };
    let port = number(1, "port", u32::from(u16::MAX))? as u16;
    let (ip, zone) = ip_of("an IP address as its host", host)?;
    let mut peer = SocketAddr::new(ip, port);
    if let SocketAddr::V6(v6) = &mut peer {
        v6.set_scope_id(zone);
        if tuple.len() == 4 {
            v6.set_flowinfo(number(2, "flow info", 0xf_ffff)?);
            let scope = number(3, "scope", u32::MAX)?;
            v6.set_scope_id(if scope == 0 { zone } else { scope });
        }
    }
    let own = if address.is_instance(address_class(address.py())?)? { asked(address)? } else { None };
    Ok(Ends { peer, own })
}

fn asked(address: &Bound<'_, PyAny>) -> PyResult<Option<Own>> {
    let asked: String = address.getattr(intern!(address.py(), "asked"))?.extract()?;
    let (ip, interface) = ip_of("an IP address as asked", &asked)?;
    Ok(Some(Own { ip, interface }))
}

fn ip_of(what: &str, text: &str) -> PyResult<(IpAddr, u32)> {
    let wrong = || PyValueError::new_err(format!("address must have {what}, not {text:?}"));
    Ok(parse_ip(text).ok_or_else(wrong)?.map_err(Error::io(format!("address {text:?}: no such network interface")))?)
}

fn multicast(text: &str) -> PyResult<IpAddr> {
    let group = text.parse::<Ipv4Addr>().map(IpAddr::V4).or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6));
    group.ok().filter(IpAddr::is_multicast).ok_or_else(|| {
        PyValueError::new_err(format!("group must be a multicast address, \"239.1.2.3\" say, not {text:?}"))
    })
}

fn interface_index(name: Option<&str>) -> PyResult<u32> {
    let Some(name) = name else { return Ok(0) };
    if name.contains('\0') {
        return Err(PyValueError::new_err("interface must not contain a zero"));
    }
    Ok(zone_index(name).map_err(Error::io(format!("no interface {name:?}")))?)
}
