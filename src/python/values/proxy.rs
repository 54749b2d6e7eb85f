//! The PROXY protocol in Python: objects of `goev.Proxy`, and the arguments of acceptors and connectors.

use std::net::SocketAddr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyList, PyString, PyTuple};

use super::arguments::{inet_object, integer, type_name, unix_object};
use crate::proxy::{Command, Header, Place, Proxied, Trusted, Version, kind};
use crate::system::address::{parse_ip, unmapped};

// ---- objects ----------------------------------------------------------------------------------------------------------

/// The `goev.Proxy` of a connection.
pub fn proxy_object(py: Python<'_>, proxied: &Proxied) -> PyResult<Py<PyAny>> {
    let Proxied { header, proxy } = proxied;
    let version = if header.version == Version::One { 1 } else { 2 };
    let command = if header.command == Command::Local { "LOCAL" } else { "PROXY" };
    let ends = header.ends.as_ref();
    let source = ends.map(|(source, _)| place_object(py, source)).transpose()?;
    let destination = ends.map(|(_, destination)| place_object(py, destination)).transpose()?;
    let address = proxy.map_or_else(|| unix_object(py, b""), |address| inet_object(py, &address))?;
    let text = |kind| header.field(kind).map(String::from_utf8_lossy);
    let unique_id = header.field(kind::UNIQUE_ID).map(|id| PyBytes::new(py, id));
    let fields = header.fields.iter().map(|(kind, value)| (*kind, PyBytes::new(py, value)));
    let fields = PyTuple::new(py, fields.map(|field| field.into_pyobject(py)).collect::<PyResult<Vec<_>>>()?)?;
    let (alpn, authority, namespace) = (text(kind::ALPN), text(kind::AUTHORITY), text(kind::NAMESPACE));
    let tls = tls_object(py, header)?;
    let args = (version, command, source, destination, address, alpn, authority, unique_id, namespace, tls, fields);
    let class = py.import("goev.proxy")?.getattr("Proxy")?;
    Ok(class.call1(args)?.unbind())
}

fn tls_object(py: Python<'_>, header: &Header) -> PyResult<Option<Py<PyAny>>> {
    let Some(tls) = header.tls() else { return Ok(None) };
    let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
    let class = py.import("goev.proxy")?.getattr("ProxyTls")?;
    let args = (
        text(tls.version),
        text(tls.cipher),
        text(tls.common_name),
        text(tls.signature_algorithm),
        text(tls.key_algorithm),
        tls.has_certificate(),
        tls.is_verified(),
    );
    Ok(Some(class.call1(args)?.unbind()))
}

/// An address that a header names.
pub fn place_object(py: Python<'_>, place: &Place) -> PyResult<Py<PyAny>> {
    match place {
        Place::Inet(address) => inet_object(py, address),
        Place::Unix(name) => unix_object(py, name),
    }
}

// ---- arguments --------------------------------------------------------------------------------------------------------

/// The proxies that an acceptor trusts, from its options `proxy_protocol` and `proxy_from`.
pub fn trusted(is_spoken: bool, from: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Trusted>> {
    let Some(from) = from.filter(|from| !from.is_none()) else {
        if is_spoken {
            let text = "proxy_protocol=True needs proxy_from, the addresses and networks of the proxies, for example \
                        [\"10.0.0.0/8\", \"::1\"]: any other peer could claim any address";
            return Err(PyValueError::new_err(text));
        }
        return Ok(None);
    };
    let entries = match (from.cast::<PyList>(), from.cast::<PyTuple>()) {
        (Ok(list), _) => list.iter().map(|entry| text("each entry of proxy_from", &entry)).collect(),
        (_, Ok(tuple)) => tuple.iter().map(|entry| text("each entry of proxy_from", &entry)).collect(),
        _ => Err(PyTypeError::new_err(format!("proxy_from must be a list or a tuple of str, not {}", type_name(from)))),
    };
    let entries: Vec<String> = entries?;
    let trusted = Trusted::parse(entries.iter().map(String::as_str))?;
    if !is_spoken {
        return Err(PyValueError::new_err(format!("proxy_from={entries:?} needs proxy_protocol=True")));
    }
    Ok(Some(trusted))
}

fn text(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.to_owned()),
        Err(_) => Err(PyTypeError::new_err(format!("{argument} must be a str, not {}", type_name(value)))),
    }
}

/// The version of the header that a connector sends; `None` for no header.
pub fn version(value: &Bound<'_, PyAny>) -> PyResult<Option<Version>> {
    if value.is_none() {
        return Ok(None);
    }
    if value.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err("must be None or the version of the header to send, 1 or 2, not bool"));
    }
    match integer(value)? {
        1 => Ok(Some(Version::One)),
        2 => Ok(Some(Version::Two)),
        other => Err(PyValueError::new_err(format!("proxy_protocol must be 1 or 2, not {other}"))),
    }
}

/// One address of a pair `proxy_for`; `None` for that of a Unix socket.
pub fn end_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<SocketAddr>> {
    if value.is_instance_of::<PyString>() {
        return Ok(None);
    }
    let wrong = || {
        let shown = value.repr().map_or_else(|_| type_name(value), |text| text.to_string());
        PyValueError::new_err(format!("the {name} of proxy_for must be an IP address and a port, not {shown}"))
    };
    let tuple = value.cast::<PyTuple>().ok().filter(|tuple| matches!(tuple.len(), 2 | 4)).ok_or_else(wrong)?;
    let host: String = tuple.get_item(0)?.extract().map_err(|_| wrong())?;
    let port: u16 = tuple.get_item(1)?.extract().map_err(|_| wrong())?;
    let (ip, _) = parse_ip(&host).and_then(Result::ok).ok_or_else(wrong)?;
    Ok(Some(unmapped(SocketAddr::new(ip, port))))
}
