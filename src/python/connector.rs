//! `goev.Connector`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::arguments::{inet, seconds, type_name};
use super::connection::{Claim, Connection};
use super::dispatch::{PyTask, with_poller};
use super::options::{set_connection_option, set_socket_option, take_keywords};
use super::reactor::Reactor;
use crate::address::Target;
use crate::connector::Request;
use crate::error::Error;
use crate::options::ConnectorOptions;

/// Makes outgoing connections on the pollers of ``reactor``.
///
/// Args:
///     reactor: whose pollers own the connections.
///     local_address: our own end, ``"192.0.2.1:0"``, on a machine that has several; for TCP only.
///     nodelay, receive_buffer_size, send_buffer_size, keepalive, device, max_input, high_water, low_water, auto_pause,
///         max_output, linger_timeout, idle_timeout, first_byte_timeout, write_timeout, lifetime, min_rate: as for
///         ``Acceptor``.
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
            first_byte_timeout=None, write_timeout=60.0, lifetime=None, min_rate=None)"
    )]
    fn new(reactor: &Bound<'_, Reactor>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = options_of(options)?;
        options.validate()?;
        reactor.get().open_handles()?;
        Ok(Self { reactor: reactor.clone().unbind(), options: options.into(), turn: AtomicUsize::new(0) })
    }

    /// Connect ``handler`` to ``address``: ``on_open`` or ``on_connect_fail(error)`` follows, exactly one of them, once,
    /// and never inside this call.
    ///
    /// Args:
    ///     address: ``"example.com:80"``, ``"127.0.0.1:80"``, ``"[::1]:80"``, ``"unix:/path"``, ``"unix:@abstract"``, or
    ///         a list of these in the order of preference. A host name is looked up off the poller. All addresses are
    ///         tried in the staggered order of RFC 8305: the next one as soon as one has failed, or after 250 ms.
    ///     handler: an unused ``Connection``. After ``on_connect_fail``, also inside it, it may be connected again.
    ///     timeout: seconds for all of it, names and every address included, > 0. They begin with the call, or with the
    ///         start of the reactor.
    ///
    /// Inside a callback of the reactor the connection is made on the same poller, else on each poller in turn. May be
    /// called from any thread, before the reactor runs or while it does.
    ///
    /// ``error`` is ``TimeoutError``, ``ConnectionRefusedError`` and the like with ``errno``, of the last address tried;
    /// ``socket.gaierror`` when the name has no address; ``ConnectionAbortedError`` when the reactor stops. Without an
    /// ``on_connect_fail`` of its own it is logged (logger ``goev``).
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
        let mut task = Some((request, Claim::new(handler)?));
        let begun = with_poller(&poller, |poller, dispatch| {
            let (request, handler) = task.take()?;
            dispatch.connect(address.py(), poller, request, handler).err()
        });
        if let Some(Some((error, _))) = begun {
            return Err(error.into());
        }
        let Some((request, handler)) = task else { return Ok(()) };
        let posted = poller.post_task(Box::new(PyTask::Connect { request, handler }));
        posted.map_err(|_| Error::stopped().into())
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
        Ok(set_socket_option(&mut options.socket, name, value)?
            || set_connection_option(&mut options.connection, name, value)?)
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
