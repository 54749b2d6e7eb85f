//! The certificate for the name that a client asks for (SNI, RFC 6066 section 3).
//!
//! A name of its own comes before a wildcard, and that before what was learned. A client that asks for no name, or for
//! an unknown one, gets the default certificate.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rustls::pki_types::DnsName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::chooser::note_asked;
use crate::error::Error;

/// The most names of each kind that are remembered as learned, because clients choose the names.
const MOST_LEARNED: usize = 10_000;

/// The certificates of a server.
#[derive(Debug)]
pub(super) struct Names {
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// The certificate of `*.b.example` is under `b.example`.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
    learned: RwLock<Learned>,
}

/// The answers for names that were not known from the start.
#[derive(Debug, Default)]
struct Learned {
    certificates: Recent<Arc<CertifiedKey>>,
    /// The names that have no certificate of their own. They cannot push out those that have one.
    none: Recent<()>,
}

impl Names {
    pub(super) fn new(default: Arc<CertifiedKey>) -> Self {
        Self { default, exact: HashMap::new(), wildcards: HashMap::new(), learned: RwLock::default() }
    }

    /// Adds the certificate of a name that [`check`] has accepted.
    pub(super) fn add(&mut self, name: &str, certificate: Arc<CertifiedKey>) {
        let name = normal(name);
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcards.insert(parent.into(), certificate),
            None => self.exact.insert(name, certificate),
        };
    }

    /// Remembers the certificate of a name, or that it has none of its own.
    pub(super) fn learn(&self, name: &str, certificate: Option<Arc<CertifiedKey>>) {
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        match certificate {
            Some(certificate) => learned.certificates.put(normal(name), certificate),
            None => learned.none.put(normal(name), ()),
        }
    }

    /// Whether the answer for this name is known, be it the default certificate.
    pub(super) fn knows(&self, name: &str) -> bool {
        let name = normal(name);
        self.find(&name).is_some() || self.learned().none.get(&name).is_some()
    }

    /// The certificate for a name in its normal form.
    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        let known = self.exact.get(name).or_else(wildcard);
        known.cloned().or_else(|| self.learned().certificates.get(name).cloned())
    }

    fn learned(&self) -> RwLockReadGuard<'_, Learned> {
        self.learned.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        note_asked(hello.server_name());
        let own = hello.server_name().and_then(|name| self.find(&normal(name)));
        Some(own.unwrap_or_else(|| self.default.clone()))
    }
}

/// A map that forgets the entries which came first: two halves, and a full one replaces the other.
#[derive(Debug)]
struct Recent<V> {
    young: HashMap<String, V>,
    old: HashMap<String, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V> Recent<V> {
    fn put(&mut self, name: String, value: V) {
        if self.young.len() >= MOST_LEARNED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, value);
    }

    fn get(&self, name: &str) -> Option<&V> {
        self.young.get(name).or_else(|| self.old.get(name))
    }
}

/// A name as it is compared: in lower case and without the dot of the root.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Returns an error unless this is a host name, or a wildcard for one level below a host name.
pub(super) fn check(name: &str) -> Result<(), Error> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    if DnsName::try_from(host).is_ok() {
        return Ok(());
    }
    let hint = match name {
        _ if !name.is_ascii() => "; write the form with \"xn--\" of a name that is not ASCII",
        _ if host.contains('*') => "; a \"*\" may stand only for the whole first label",
        _ if host.parse::<std::net::IpAddr>().is_ok() => "; clients ask for host names only, never for addresses",
        _ => "",
    };
    Err(Error::argument(format!("names must be host names or \"*.\" and a host name, not {name:?}{hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificates::pair;
    use crate::tls::certificates::tests::{certificate, key};

    fn some() -> Arc<CertifiedKey> {
        pair(&certificate(), &key()).expect("valid")
    }

    fn is(names: &Names, name: &str, expected: &Arc<CertifiedKey>) -> bool {
        names.find(&normal(name)).is_some_and(|found| Arc::ptr_eq(&found, expected))
    }

    #[test]
    fn a_name_comes_before_a_wildcard_which_is_for_one_level_only() {
        let mut names = Names::new(some());
        let (own, wild) = (some(), some());
        names.add("A.B.example", own.clone());
        names.add("*.b.example", wild.clone());
        assert!(is(&names, "a.b.example", &own));
        assert!(is(&names, "A.b.EXAMPLE.", &own));
        assert!(is(&names, "c.b.example", &wild));
        assert!(names.find("b.example").is_none());
        assert!(names.find("d.c.b.example").is_none());
        assert!(names.find("example").is_none());
    }

    #[test]
    fn names_are_learned_with_a_certificate_and_without() {
        let names = Names::new(some());
        assert!(!names.knows("a.example"));
        let learned = some();
        names.learn("A.example", Some(learned.clone()));
        names.learn("b.example", None);
        assert!(names.knows("a.EXAMPLE") && names.knows("b.example."));
        assert!(is(&names, "a.example", &learned));
        assert!(names.find("b.example").is_none());
    }

    #[test]
    fn unknown_names_push_out_one_another_and_no_certificate() {
        let names = Names::new(some());
        names.learn("a.example", Some(some()));
        for number in 0..3 * MOST_LEARNED {
            names.learn(&format!("{number}.example"), None);
        }
        let learned = names.learned();
        assert!(learned.none.young.len() + learned.none.old.len() <= MOST_LEARNED);
        drop(learned);
        assert!(names.knows("a.example") && !names.knows("0.example"));
        assert!(names.knows(&format!("{}.example", 3 * MOST_LEARNED - 1)));
    }

    #[test]
    fn only_host_names_and_wildcards_of_one_level_are_names() {
        for name in ["a.example", "*.a.example", "localhost", "*.example", "xn--mnchen-3ya.example", "a_b.example"] {
            check(name).expect("valid");
        }
        for name in
            ["", "*", "*.", "a*.example", "*a.example", "*.*.example", "a.*.example", "127.0.0.1", "::1", "a b", "-a"]
        {
            let error = check(name).expect_err("refused").to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
        assert!(check("münchen.example").expect_err("refused").to_string().contains("xn--"));
    }
}
