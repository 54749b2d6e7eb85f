//! `goev.tls`: the contexts. `src/tls/` reads the files and checks the settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};

use crate::error::Error;
use crate::python::running::attach::attach;
use crate::python::running::logs::{self, About};
use crate::python::running::threads::Listed;
use crate::python::values::arguments::{bytes_of, each_item, type_name};
use crate::sources::connector::Secured;
use crate::system::address::Target;
use crate::system::resolver::NAME as RESOLVER;
use crate::tls::certificates::Pem;
use crate::tls::chooser::Chooser;
use crate::tls::client::{ClientContext as ClientCore, ClientSettings, name_of};
use crate::tls::server::{ClientCertificates, ServerContext as ServerCore, ServerSettings};
use crate::tls::settings::MinimumVersion;
use crate::tls::stream::{Facts, Stream};

/// The certificates and rules of a TLS server, for any number of acceptors.
///
/// Args:
///     certificate: the server's certificate and the chain to its root, in this order: the path of a PEM file, or its
///         contents as bytes. RSA, ECDSA and Ed25519.
///     key: the key of the certificate, likewise; it must not be encrypted.
///     client_ca: certificates of the CAs of clients, likewise.
///     client_certificates: ``"none"`` asks clients for no certificate, ``"optional"`` takes one, ``"required"`` refuses
///         clients without one. The last two need ``client_ca``.
///     alpn: names of protocols, str or bytes of 1 to 255 bytes, the best first (RFC 7301). A client that offers only
///         others is refused; one that offers none is not. Empty: no negotiation.
///     minimum_version: ``"TLSv1.2"`` or ``"TLSv1.3"``. TLS 1.0 and 1.1 are broken (RFC 8996).
///     names: certificates for names that clients ask for (SNI, RFC 6066): ``{"a.example": (certificate, key)}``. A name
///         ``"*.b.example"`` is for one level below. Other clients get ``certificate``. Or a callable that gets a name
///         and returns such a pair, or ``None``: called on a thread beside the pollers, while the handshake waits. Its
///         answers are kept until ``reload()``; an exception is logged, and the client gets ``certificate``.
///     tickets: whether clients may resume a session, by tickets (RFC 8446 section 2.2). The server keeps no sessions.
///     key_log: the path of a file to which the secrets of sessions are appended, in the format of NSS, for Wireshark;
///         ``"SSLKEYLOGFILE"`` is the file that this environment variable names, if it is set. ``None``: no secret is
///         written, whatever the environment has.
///
/// Raises:
///     OSError: a file cannot be read.
///     ValueError: a file is not PEM, holds nothing of use or an encrypted key; the key is of another certificate; a
///         value is wrong. The text names the argument, the file, and the line or the value.
///     TypeError: an argument has the wrong type.
///
/// A context never changes, apart from ``reload()``. It may be used from any thread, and is never written to a log.
///
/// Go: none; ``tls.Config`` of its standard library.
#[pyclass(frozen, module = "goev.tls")]
pub struct ServerContext {
    /// The collector does not look for a callable in it, because acceptors hold it too.
    core: Arc<ServerCore>,
}

impl ServerContext {
    /// The context of the core.
    pub fn core(&self) -> &Arc<ServerCore> {
        &self.core
    }
}

#[pymethods]
impl ServerContext {
    #[new]
    #[pyo3(
        signature = (
            certificate, key, *, client_ca = None, client_certificates = ClientCertificates::None, alpn = None,
            minimum_version = MinimumVersion::Tls12,
            names = None, tickets = true, key_log = None
        ),
        text_signature = "(certificate, key, *, client_ca=None, client_certificates='none', alpn=(), \
            minimum_version='TLSv1.2', names=None, tickets=True, key_log=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "they are Python's")]
    fn new(
        py: Python<'_>,
        certificate: &Bound<'_, PyAny>,
        key: &Bound<'_, PyAny>,
        client_ca: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = client_certificates_of)] client_certificates: ClientCertificates,
        alpn: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = version)] minimum_version: MinimumVersion,
        names: Option<&Bound<'_, PyAny>>,
        tickets: bool,
        key_log: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut settings = ServerSettings::new(pem("certificate", certificate)?, pem("key", key)?);
        settings.client_ca = client_ca.map(|value| pem("client_ca", value)).transpose()?;
        settings.client_certificates = client_certificates;
        settings.alpn = alpn.map_or(Ok(Vec::new()), protocols)?;
        settings.minimum_version = minimum_version;
        settings.tickets = tickets;
        settings.key_log = key_log.map(|value| path("key_log", value)).transpose()?;
        match names {
            Some(names) if names.is_callable() => settings.chooser = Some(Arc::new(Names(names.clone().unbind()))),
            Some(names) => settings.names = pairs(names)?,
            None => {}
        }
        let core = py.detach(|| ServerCore::new(settings))?;
        Ok(Self { core: core.into() })
    }

    /// Take all files anew for later handshakes; connections that exist stay as they are.
    ///
    /// Raises ``OSError`` and ``ValueError`` as the constructor does. After an error the old certificates stay in force.
    /// May be called from any thread. Clients may resume older sessions, unless the context asks them for certificates.
    ///
    /// Go: none.
    fn reload(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.core.reload())?)
    }

    fn __repr__(&self) -> String {
        let settings = self.core.settings();
        let mut shown = format!("<goev.tls.ServerContext {}", settings.certificate);
        if !settings.names.is_empty() {
            let names: Vec<_> = settings.names.iter().map(|(name, ..)| name.as_str()).collect();
            shown += &format!(" names={names:?}");
        }
        if settings.client_certificates != ClientCertificates::None {
            shown += &format!(" client_certificates={:?}", settings.client_certificates.name());
        }
        shown + ">"
    }
}

/// The callable that was given as `names`.
struct Names(Py<PyAny>);

impl Names {
    fn tell(&self, py: Python<'_>, name: &str, error: &PyErr) {
        let about = About { callback: Some("names"), ..About::default() };
        let logged =
            logs::log(py, "error", &about, ("exception in names of a ServerContext for %r", name), Some(error));
        // A thread beside the pollers has nobody to give Ctrl-C to.
        let _ = logs::settle(py, logged, Some(self.0.bind(py)));
    }
}

impl Chooser for Names {
    fn choose(&self, name: &str) -> Option<Option<(Pem, Pem)>> {
        let ask = |py: Python<'_>| {
            let _listed = Listed::new(py, RESOLVER);
            let answer = self.0.bind(py).call1((name,))?;
            if answer.is_none() { Ok(None) } else { pair_of(&format!("names({name:?})"), &answer).map(Some) }
        };
        attach(|py| ask(py).inspect_err(|error| self.tell(py, name, error)).ok())
    }

    fn complain(&self, name: &str, error: Error) {
        attach(|py| {
            let _listed = Listed::new(py, RESOLVER);
            self.tell(py, name, &error.into());
        });
    }
}

/// The certificates and rules of TLS clients, for any number of connections.
///
/// Args:
///     ca: certificates of the CAs to trust: the path of a PEM file, or its contents as bytes. A server's own certificate
///         will do as well. ``None``: the CAs of the system, or those that the environment names in ``SSL_CERT_FILE`` and
///         ``SSL_CERT_DIR``; they are read once.
///     certificate: our own certificate and the chain to its root, likewise, for servers that ask for one.
///     key: the key of that certificate, likewise; it must not be encrypted.
///     alpn: names of protocols, str or bytes of 1 to 255 bytes, the best first (RFC 7301).
///     verify: ``False`` accepts every certificate of any server: anyone between may read and change everything. It warns
///         once.
///     server_name: the host name or IP address that the server's certificate has to be for, and the name that the server
///         is asked for (RFC 6066). ``None``: the host of the address; a Unix socket has none.
///     minimum_version: ``"TLSv1.2"`` or ``"TLSv1.3"``. TLS 1.0 and 1.1 are broken (RFC 8996).
///     key_log: as for ``ServerContext``.
///
/// Raises:
///     OSError: a file cannot be read.
///     ValueError: a file is not PEM, holds nothing of use or an encrypted key; the key is of another certificate; a
///         value is wrong. The text names the argument, the file, and the line or the value.
///     RuntimeError: the system has no CAs.
///     TypeError: an argument has the wrong type.
///
/// A context never changes, and may be used from any thread. It remembers the sessions of its last 256 servers, so
/// connections of one context resume them.
///
/// Go: none; ``tls.Config`` of its standard library.
#[pyclass(frozen, module = "goev.tls")]
pub struct ClientContext {
    core: Arc<ClientCore>,
}

impl ClientContext {
    /// The context of the core.
    pub fn core(&self) -> &Arc<ClientCore> {
        &self.core
    }
}

#[pymethods]
impl ClientContext {
    #[new]
    #[pyo3(
        signature = (
            *, ca = None, certificate = None, key = None, alpn = None, verify = true, server_name = None,
            minimum_version = MinimumVersion::Tls12, key_log = None
        ),
        text_signature = "(*, ca=None, certificate=None, key=None, alpn=(), verify=True, server_name=None, \
            minimum_version='TLSv1.2', key_log=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "they are Python's")]
    fn new(
        py: Python<'_>,
        ca: Option<&Bound<'_, PyAny>>,
        certificate: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        alpn: Option<&Bound<'_, PyAny>>,
        verify: bool,
        server_name: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = version)] minimum_version: MinimumVersion,
        key_log: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let settings = ClientSettings {
            ca: ca.map(|value| pem("ca", value)).transpose()?,
            certificate: certificate.map(|value| pem("certificate", value)).transpose()?,
            key: key.map(|value| pem("key", value)).transpose()?,
            alpn: alpn.map_or(Ok(Vec::new()), protocols)?,
            verify,
            server_name: server_name.map(|value| text("server_name", value)).transpose()?,
            minimum_version,
            key_log: key_log.map(|value| path("key_log", value)).transpose()?,
        };
        let core = py.detach(|| ClientCore::new(settings))?;
        if !verify {
            warn_unverified(py)?;
        }
        Ok(Self { core: core.into() })
    }

    fn __repr__(&self) -> String {
        let settings = self.core.settings();
        let mut shown = String::from("<goev.tls.ClientContext");
        match &settings.ca {
            _ if !settings.verify => shown += " verify=False",
            Some(ca) => shown += &format!(" {ca}"),
            None => shown += " ca=None",
        }
        if let Some(certificate) = &settings.certificate {
            shown += &format!(" {certificate}");
        }
        if let Some(name) = &settings.server_name {
            shown += &format!(" server_name={name:?}");
        }
        shown + ">"
    }
}

/// Warns once in the life of the process, unless the warning was raised as an error.
fn warn_unverified(py: Python<'_>) -> PyResult<()> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if WARNED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let text = c"verify=False accepts every certificate: anyone between may read and change what is sent";
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), text, 1)?;
    WARNED.store(true, Ordering::Relaxed);
    Ok(())
}

/// A PEM file by its path, or PEM in bytes.
fn pem(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Pem> {
    if value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyMemoryView>()
    {
        return bytes_of(value, |bytes| Ok(Pem::bytes(argument, bytes)));
    }
    if let Ok(text) = value.cast::<PyString>()
        && text.to_string_lossy().contains("-----BEGIN ")
    {
        return Err(PyTypeError::new_err(format!("{argument} must be a path or bytes; encode() the str of PEM")));
    }
    Ok(Pem::file(argument, path(argument, value)?))
}

/// A path: str or os.PathLike.
fn path(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let wrong = || {
        let bytes = if argument == "key_log" { "" } else { ", or PEM in bytes" };
        PyTypeError::new_err(format!("{argument} must be a path{bytes}, not {}", type_name(value)))
    };
    if !value.is_instance_of::<PyString>() && !value.hasattr("__fspath__")? {
        return Err(wrong());
    }
    let path: PathBuf = value.extract()?;
    if path.as_os_str().is_empty() {
        return Err(PyValueError::new_err(format!("{argument} must be a path, not an empty str")));
    }
    Ok(path)
}

fn text(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.to_owned()),
        Err(_) => Err(PyTypeError::new_err(format!("{argument} must be a str, not {}", type_name(value)))),
    }
}

fn client_certificates_of(value: &Bound<'_, PyAny>) -> PyResult<ClientCertificates> {
    Ok(ClientCertificates::parse(&text("client_certificates", value)?)?)
}

fn version(value: &Bound<'_, PyAny>) -> PyResult<MinimumVersion> {
    Ok(MinimumVersion::parse(&text("minimum_version", value)?)?)
}

/// The names of protocols, from a list or a tuple.
fn protocols(value: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
    let name_of = |name: Bound<'_, PyAny>| -> PyResult<Vec<u8>> {
        if let Ok(bytes) = name.cast::<PyBytes>() {
            return Ok(bytes.as_bytes().to_vec());
        }
        match name.cast::<PyString>() {
            Ok(text) => Ok(text.to_str()?.as_bytes().to_vec()),
            Err(_) => Err(PyTypeError::new_err(format!("alpn must hold str or bytes, not {}", type_name(&name)))),
        }
    };
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().map(name_of).collect();
    }
    match value.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().map(name_of).collect(),
        Err(_) => Err(PyTypeError::new_err(format!("alpn must be a list or a tuple, not {}", type_name(value)))),
    }
}

/// The certificates and keys for names, from a dict.
fn pairs(value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Pem, Pem)>> {
    let Ok(dict) = value.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!("names must be a dict or callable, not {}", type_name(value))));
    };
    let mut pairs = Vec::with_capacity(dict.len());
    each_item(dict, "names", |name, pair| {
        let name = text("each key of names", name)?;
        let (certificate, key) = pair_of(&format!("names[{name:?}]"), pair)?;
        pairs.push((name, certificate, key));
        Ok(())
    })?;
    Ok(pairs)
}

/// A certificate and its key, from a tuple of two: a value of `names`, or an answer of the callable.
pub fn pair_of(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<(Pem, Pem)> {
    match value.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => Ok((
            pem(&format!("certificate of {argument}"), &pair.get_item(0)?)?,
            pem(&format!("key of {argument}"), &pair.get_item(1)?)?,
        )),
        Ok(tuple) => {
            let text = format!("{argument} must be a pair of certificate and key, not a tuple of {}", tuple.len());
            Err(PyTypeError::new_err(text))
        }
        Err(_) => {
            let text = format!("{argument} must be a pair of certificate and key, not {}", type_name(value));
            Err(PyTypeError::new_err(text))
        }
    }
}

/// The context for a server; `None` for plain bytes.
pub fn server_context(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<ServerContext>>> {
    if value.is_none() {
        return Ok(None);
    }
    let context = value.cast::<ServerContext>();
    let wrong = |_| PyTypeError::new_err(format!("{name} must be a goev.tls.ServerContext, not {}", type_name(value)));
    Ok(Some(context.map_err(wrong)?.clone().unbind()))
}

/// The machine of one connection, whose side is that of the context.
pub fn stream(name: &str, value: &Bound<'_, PyAny>, server_name: Option<&str>) -> PyResult<Stream> {
    let failed = |error: rustls::Error| PyRuntimeError::new_err(format!("cannot begin TLS: {error}"));
    if let Ok(context) = value.cast::<ServerContext>() {
        if server_name.is_some() {
            return Err(PyTypeError::new_err("server_name is for clients; a server learns the name from its client"));
        }
        return Stream::server(context.get().core().config()).map_err(failed);
    }
    let context = client_context(name, value)?.ok_or_else(|| wrong_context(name, value))?;
    let name = match server_name {
        Some(given) => name_of("server_name", given)?,
        None => context.name_for(None)?,
    };
    Stream::client(context.config(), name).map_err(failed)
}

/// The context of a client: its own, or the shared one for `True`; `None` for `False`.
fn client_context(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Arc<ClientCore>>> {
    match (value.extract::<bool>(), value.cast::<ClientContext>()) {
        (Ok(false), _) => Ok(None),
        (Ok(true), _) => Ok(Some(ClientCore::shared()?)),
        (_, Ok(context)) => Ok(Some(context.get().core().clone())),
        _ => Err(wrong_context(name, value)),
    }
}

fn wrong_context(name: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let kinds = if name == "tls" { "a bool or a" } else { "a goev.tls.ServerContext, True or a" };
    PyTypeError::new_err(format!("{name} must be {kinds} goev.tls.ClientContext, not {}", type_name(value)))
}

/// The TLS of a connection to these targets; `None` for plain bytes.
pub fn secured(name: &str, value: Option<&Bound<'_, PyAny>>, targets: &[Target]) -> PyResult<Option<Secured>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    let Some(context) = client_context(name, value)? else { return Ok(None) };
    let host = targets.first().and_then(Target::host);
    Ok(Some(Secured { config: context.config(), name: context.name_for(host.as_deref())? }))
}

/// The `goev.tls.Session` of a connection.
pub fn session(py: Python<'_>, facts: Facts) -> PyResult<Py<PyAny>> {
    let Facts { version, cipher, alpn, server_name, peer_certificates, resumed } = facts;
    let alpn = alpn.map(|alpn| String::from_utf8_lossy(&alpn).into_owned());
    let certificates = PyTuple::new(py, peer_certificates.iter().map(|each| PyBytes::new(py, each)))?;
    let class = py.import("goev.tls")?.getattr("Session")?;
    Ok(class.call1((version, cipher, alpn, server_name, certificates, resumed))?.unbind())
}
