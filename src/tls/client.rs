//! The settings of TLS clients.
//!
//! A [`ClientContext`] serves any number of connections and threads. It remembers the sessions of its last 256 servers,
//! so a program that keeps one context resumes sessions.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;
use crate::tls::certificates::{Pem, pair, roots};
use crate::tls::key_log::KeyLogFile;
use crate::tls::settings::{MinimumVersion, check_alpn, provider};
use crate::tls::verify::{AnyCertificate, OwnCertificates};

/// The values from which a [`ClientContext`] is made.
#[derive(Clone)]
pub struct ClientSettings {
    /// The CAs of servers; `None` means those of the system.
    pub ca: Option<Pem>,
    /// Our own certificate, and the chain to its root.
    pub certificate: Option<Pem>,
    /// The key of that certificate.
    pub key: Option<Pem>,
    /// The names of protocols, the best first; empty for no negotiation (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// Whether the server's certificate is checked.
    pub verify: bool,
    /// The name that the server's certificate has to be for; `None` means the host of the address.
    pub server_name: Option<String>,
    /// The oldest version of TLS.
    pub minimum_version: MinimumVersion,
    /// The file for the secrets of sessions, or [`crate::tls::key_log::VARIABLE`].
    pub key_log: Option<PathBuf>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            ca: None,
            certificate: None,
            key: None,
            alpn: Vec::new(),
            verify: true,
            server_name: None,
            minimum_version: MinimumVersion::default(),
            key_log: None,
        }
    }
}

/// The settings of TLS clients.
pub struct ClientContext {
    settings: ClientSettings,
    server_name: Option<ServerName<'static>>,
    config: Arc<ClientConfig>,
}

impl ClientContext {
    /// Reads all files, and checks every setting.
    pub fn new(settings: ClientSettings) -> Result<Self, Error> {
        check_alpn(&settings.alpn)?;
        if settings.ca.is_some() && !settings.verify {
            return Err(Error::argument("ca has no use with verify=False, which accepts every certificate".into()));
        }
        let server_name = settings.server_name.as_deref().map(|name| name_of("server_name", name)).transpose()?;
        let key_log = settings.key_log.as_deref().map_or(Ok(None), KeyLogFile::open)?;
        let builder = ClientConfig::builder_with_provider(provider().clone())
            .with_protocol_versions(settings.minimum_version.versions())
            .map_err(|error| Error::state(format!("cannot make a TLS context: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier(&settings)?);
        let mut config = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair(certificate, key)?)))
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(pem), None) => return Err(Error::argument(format!("{pem} needs its key"))),
            (None, Some(pem)) => return Err(Error::argument(format!("{pem} needs its certificate"))),
        };
        config.alpn_protocols.clone_from(&settings.alpn);
        if let Some(key_log) = key_log {
            config.key_log = key_log;
        }
        Ok(Self { settings, server_name, config: config.into() })
    }

    /// The context of `tls=True`: the defaults, made once and then shared, so that sessions are resumed.
    pub fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: Mutex<Option<Arc<ClientContext>>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = &*shared {
            return Ok(context.clone());
        }
        let context = Arc::new(Self::new(ClientSettings::default())?);
        *shared = Some(context.clone());
        Ok(context)
    }

    /// The settings that the context was made from.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// The configuration for a new handshake.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name that the server's certificate has to be for.
    ///
    /// `host` is the host of the address, a name or an IP address without brackets; `None` for a Unix socket.
    pub fn name_for(&self, host: Option<&str>) -> Result<ServerName<'static>, Error> {
        match (&self.server_name, host) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(host)) => name_of("the host of address", host),
            (None, None) => {
                let text = "TLS needs the name of the server here: server_name, of the call or of the ClientContext";
                Err(Error::argument(text.into()))
            }
        }
    }
}

/// A host name without the dot of the root (RFC 6066 section 3), or an IP address without its zone.
pub fn name_of(argument: &str, host: &str) -> Result<ServerName<'static>, Error> {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Ok(address.into());
    }
    ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned()).map_err(|_| {
        let hint = if host.is_ascii() { "" } else { "; write the form with \"xn--\" of a name that is not ASCII" };
        Error::argument(format!("{argument} must be a host name or an IP address, not {host:?}{hint}"))
    })
}

/// The check of servers' certificates.
fn verifier(settings: &ClientSettings) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    if !settings.verify {
        return Ok(Arc::new(AnyCertificate));
    }
    let build = |store, what: &dyn std::fmt::Display| {
        let builder = WebPkiServerVerifier::builder_with_provider(store, provider().clone());
        builder.build().map_err(|error| Error::argument(format!("{what}: {error}")))
    };
    match &settings.ca {
        None => Ok(build(system_roots()?, &"the CAs of the system")?),
        Some(pem) => {
            let roots = roots(pem)?;
            Ok(Arc::new(OwnCertificates::new(build(roots.store, pem)?, roots.certificates)))
        }
    }
}

/// The roots of the system. They are read when the first context needs them, and then kept.
fn system_roots() -> Result<Arc<RootCertStore>, Error> {
    static ROOTS: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);
    let mut kept = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(roots) = &*kept {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
        return Err(Error::state(format!(
            "the system has no certificates of CAs{why}; install ca-certificates, set SSL_CERT_FILE, or give ca [GOEV706]"
        )));
    }
    let roots = Arc::new(roots);
    *kept = Some(roots.clone());
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificates::tests::{certificate, key};

    fn context(server_name: Option<&str>) -> Result<ClientContext, Error> {
        let server_name = server_name.map(str::to_owned);
        ClientContext::new(ClientSettings { ca: Some(certificate()), server_name, ..Default::default() })
    }

    fn name(server_name: Option<&str>, host: Option<&str>) -> String {
        context(server_name).expect("valid").name_for(host).expect("valid").to_str().into_owned()
    }

    #[test]
    fn the_name_is_the_one_given_or_the_host() {
        assert_eq!(name(None, Some("example.org")), "example.org");
        assert_eq!(name(None, Some("example.org.")), "example.org");
        assert_eq!(name(None, Some("127.0.0.1")), "127.0.0.1");
        assert_eq!(name(None, Some("fe80::1%eth0")), "fe80::1");
        assert_eq!(name(Some("a.example"), Some("127.0.0.1")), "a.example");
        assert_eq!(name(Some("a.example"), None), "a.example");
        assert_eq!(name(Some("::1"), None), "::1");
    }

    #[test]
    fn what_is_no_name_is_an_error_that_shows_it() {
        let context = context(None).expect("valid");
        assert!(context.name_for(None).expect_err("refused").to_string().contains("server_name"));
        for host in ["", ".", "a b", "a..b", "[::1]", "münchen.example", "a%b"] {
            let error = context.name_for(Some(host)).expect_err("refused").to_string();
            assert!(error.contains(&format!("{host:?}")), "{error}");
        }
    }

    #[test]
    fn a_certificate_and_its_key_come_together() {
        let only =
            |certificate, key| ClientSettings { ca: None, certificate, key, verify: false, ..Default::default() };
        let error = |settings| ClientContext::new(settings).err().expect("refused").to_string();
        assert!(error(only(Some(certificate()), None)).contains("needs its key"));
        assert!(error(only(None, Some(key()))).contains("needs its certificate"));
        ClientContext::new(only(Some(certificate()), Some(key()))).expect("valid");
    }
}
