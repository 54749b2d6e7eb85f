//! The settings of TLS servers.
//!
//! A [`ServerContext`] serves any number of acceptors and threads. Each handshake takes the configuration that is
//! current, and keeps it: a reload changes later handshakes only.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};

use crate::error::Error;
use crate::tls::certificates::{Pem, pair, roots};
use crate::tls::chooser::Chooser;
use crate::tls::key_log::KeyLogFile;
use crate::tls::names::{Names, check};
use crate::tls::settings::{MinimumVersion, check_alpn, provider};

/// The certificates that clients have to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Clients are asked for none.
    #[default]
    None,
    /// Clients are asked for one, and may have none.
    Optional,
    /// Clients without a certificate are refused.
    Required,
}

impl ClientCertificates {
    /// The value by its name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Self::None),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => {
                let text = format!("client_certificates must be \"none\", \"optional\" or \"required\", not {text:?}");
                Err(Error::argument(text))
            }
        }
    }

    /// The name of the value.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// The values from which a [`ServerContext`] is made.
#[derive(Clone)]
pub struct ServerSettings {
    /// The default certificate, and the chain to its root.
    pub certificate: Pem,
    /// The key of that certificate.
    pub key: Pem,
    /// Certificates for names, each with its chain and key; `*.b.example` is for one level.
    pub names: Vec<(String, Pem, Pem)>,
    /// Finds the certificates of other names.
    pub chooser: Option<Arc<dyn Chooser>>,
    /// The CAs of clients.
    pub client_ca: Option<Pem>,
    /// The certificates that clients have to show.
    pub client_certificates: ClientCertificates,
    /// The names of protocols, the best first; empty for no negotiation (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// The oldest version of TLS.
    pub minimum_version: MinimumVersion,
    /// Whether clients may resume sessions: by tickets only, so the server keeps no sessions.
    pub tickets: bool,
    /// The file for the secrets of sessions, or [`crate::tls::key_log::VARIABLE`].
    pub key_log: Option<PathBuf>,
}

impl ServerSettings {
    /// The settings with one certificate, and the defaults of all others.
    pub fn new(certificate: Pem, key: Pem) -> Self {
        Self {
            certificate,
            key,
            names: Vec::new(),
            chooser: None,
            client_ca: None,
            client_certificates: ClientCertificates::None,
            alpn: Vec::new(),
            minimum_version: MinimumVersion::default(),
            tickets: true,
            key_log: None,
        }
    }
}

/// The settings of TLS servers.
pub struct ServerContext {
    settings: ServerSettings,
    key_log: Option<Arc<KeyLogFile>>,
    current: RwLock<Current>,
    /// Held for a whole reload, so that of two reloads the later one is in force.
    reloading: Mutex<()>,
}

/// The configuration and certificates of handshakes until the next reload.
struct Current {
    config: Arc<ServerConfig>,
    names: Arc<Names>,
}

impl ServerContext {
    /// Reads all files, and checks every setting.
    pub fn new(settings: ServerSettings) -> Result<Self, Error> {
        check_alpn(&settings.alpn)?;
        check_clients(&settings)?;
        for (name, ..) in &settings.names {
            check(name)?;
        }
        let key_log = settings.key_log.as_deref().map_or(Ok(None), KeyLogFile::open)?;
        let ticketer = if settings.tickets { Some(new_ticketer()?) } else { None };
        let current = load(&settings, key_log.clone(), ticketer)?.into();
        Ok(Self { settings, key_log, current, reloading: Mutex::new(()) })
    }

    /// The settings that the context was made from.
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// The configuration for a new handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current().config.clone()
    }

    /// Takes all files anew for later handshakes, and forgets the names that were learned.
    ///
    /// After an error everything remains as it was.
    pub fn reload(&self) -> Result<(), Error> {
        let _one_by_one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let ticketer = match (self.settings.tickets, self.settings.client_certificates) {
            (false, _) => None,
            // Clients may resume what they began before. They prove nothing that has changed meanwhile.
            (true, ClientCertificates::None) => Some(self.config().ticketer.clone()),
            // A ticket holds the client's certificate, which may be one of a CA that is no longer trusted.
            (true, ClientCertificates::Optional | ClientCertificates::Required) => Some(new_ticketer()?),
        };
        let new = load(&self.settings, self.key_log.clone(), ticketer)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether a handshake has to wait until [`Self::choose`] has found the certificate of this name.
    pub fn has_to_choose(&self, name: &str) -> bool {
        self.chooses() && !self.current().names.knows(name)
    }

    /// Whether certificates are found for names that the settings do not have.
    pub fn chooses(&self) -> bool {
        self.settings.chooser.is_some()
    }

    /// Finds the certificate of a name for this handshake and later ones; may block. Without an answer the handshake
    /// gets the default certificate, and a later one asks again.
    ///
    /// At most 10,000 names of each kind are remembered, because clients choose the names.
    pub fn choose(&self, name: &str) {
        let Some(chooser) = &self.settings.chooser else { return };
        // A reload meanwhile forgets the answer.
        let names = self.current().names.clone();
        match chooser.choose(name) {
            None => {}
            Some(None) => names.learn(name, None),
            Some(Some((certificate, key))) => match pair(&certificate, &key) {
                Ok(certificate) => names.learn(name, Some(certificate)),
                Err(error) => chooser.complain(name, error),
            },
        }
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns an error unless the CAs of clients and the demand for certificates come together.
fn check_clients(settings: &ServerSettings) -> Result<(), Error> {
    let demand = settings.client_certificates;
    let text = match (&settings.client_ca, demand) {
        (None, ClientCertificates::Optional | ClientCertificates::Required) => {
            format!("client_certificates={:?} needs client_ca, the CAs of the clients", demand.name())
        }
        (Some(_), ClientCertificates::None) => {
            "client_ca has no use with client_certificates=\"none\"; \"optional\" or \"required\" asks clients for one"
                .into()
        }
        _ => return Ok(()),
    };
    Err(Error::argument(text))
}

fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, Error> {
    Ticketer::new().map_err(|error| Error::state(format!("cannot make a key for tickets: {error}")))
}

/// Reads all files.
fn load(
    settings: &ServerSettings,
    key_log: Option<Arc<KeyLogFile>>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
) -> Result<Current, Error> {
    let mut names = Names::new(pair(&settings.certificate, &settings.key)?);
    for (name, certificate, key) in &settings.names {
        names.add(name, pair(certificate, key)?);
    }
    let names = Arc::new(names);
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(settings.minimum_version.versions())
        .map_err(|error| Error::state(format!("cannot make a TLS context: {error}")))?
        .with_client_cert_verifier(verifier(settings)?)
        .with_cert_resolver(names.clone());
    config.alpn_protocols.clone_from(&settings.alpn);
    // The strongest cipher in common; the order of rustls.
    config.ignore_client_order = true;
    // Tickets need no memory of ours, and no lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match ticketer {
        Some(ticketer) => config.ticketer = ticketer,
        None => config.send_tls13_tickets = 0,
    }
    if let Some(key_log) = key_log {
        config.key_log = key_log;
    }
    Ok(Current { config: config.into(), names })
}

/// The check of clients' certificates.
fn verifier(settings: &ServerSettings) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let Some(pem) = &settings.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let builder = WebPkiClientVerifier::builder_with_provider(roots(pem)?.store, provider().clone());
    let builder = match settings.client_certificates {
        ClientCertificates::Required => builder,
        ClientCertificates::None | ClientCertificates::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| Error::argument(format!("{pem}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificates::tests::{certificate, key};
    use crate::tls::chooser::tests::Always;

    #[test]
    fn a_reload_forgets_learned_names_and_keeps_the_keys_of_tickets() {
        let mut settings = ServerSettings::new(certificate(), key());
        settings.chooser = Some(Arc::new(Always(None)));
        let context = ServerContext::new(settings).expect("valid");
        let before = context.config();
        context.choose("a.example");
        assert!(!context.has_to_choose("a.example"));
        context.reload().expect("valid");
        assert!(context.has_to_choose("a.example"));
        assert!(!Arc::ptr_eq(&before, &context.config()));
        assert!(Arc::ptr_eq(&before.ticketer, &context.config().ticketer));
    }

    #[test]
    fn a_reload_changes_the_keys_of_tickets_that_hold_clients_certificates() {
        let mut settings = ServerSettings::new(certificate(), key());
        settings.client_ca = Some(certificate());
        settings.client_certificates = ClientCertificates::Optional;
        let context = ServerContext::new(settings).expect("valid");
        let before = context.config();
        context.reload().expect("valid");
        assert!(!Arc::ptr_eq(&before.ticketer, &context.config().ticketer));
    }

    #[test]
    fn without_tickets_no_session_is_resumed() {
        let mut settings = ServerSettings::new(certificate(), key());
        settings.tickets = false;
        let config = ServerContext::new(settings).expect("valid").config();
        assert_eq!(config.send_tls13_tickets, 0);
        assert!(!config.ticketer.enabled() && !config.session_storage.can_cache());
    }

    #[test]
    fn early_data_is_off() {
        let config = ServerContext::new(ServerSettings::new(certificate(), key())).expect("valid").config();
        assert_eq!(config.max_early_data_size, 0);
    }
}
