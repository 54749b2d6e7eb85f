//! The checks of a server's certificate that are not rustls's own.
//!
//! Both check the signature of the handshake as usual: the server has the key of the certificate that it shows.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::tls::settings::provider;

/// Accepts every certificate of any server: `verify=False`.
#[derive(Debug)]
pub(super) struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts the certificates of given CAs, and each given certificate itself.
///
/// `openssl req -x509` marks a self-signed certificate as one of a CA, and rustls takes none of those for a server's
/// own. A user who gives this very certificate as `ca` trusts it; OpenSSL and browsers accept it as well.
#[derive(Debug)]
pub(super) struct OwnCertificates {
    inner: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl OwnCertificates {
    pub(super) fn new(inner: Arc<WebPkiServerVerifier>, given: Vec<CertificateDer<'static>>) -> Self {
        Self { inner, given }
    }
}

impl ServerCertVerifier for OwnCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // rustls judges the time before this, but the name after it.
            Err(error) if is_of_ca(&error) && self.given.iter().any(|given| given == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whether the only fault was that a CA's own certificate was used as a server's.
///
/// The error is one of webpki, which rustls hands on by its name only.
pub(super) fn is_of_ca(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.to_string() == "CaUsedAsEndEntity")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::certificates::{roots, tests::certificate};

    /// The answer to the certificate of the tests, which is marked as one of a CA.
    fn verify(given: bool, name: &str, year: u64) -> Result<(), Error> {
        let mut roots = roots(&certificate()).expect("valid");
        let own = roots.certificates[0].clone();
        if !given {
            roots.certificates.clear();
        }
        let builder = WebPkiServerVerifier::builder_with_provider(roots.store, provider().clone());
        let verifier = OwnCertificates::new(builder.build().expect("valid"), roots.certificates);
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
        verifier.verify_server_cert(&own, &[], &ServerName::try_from(name).expect("valid"), &[], now).map(drop)
    }

    #[test]
    fn a_certificate_that_was_given_is_accepted_itself_within_its_time_and_for_its_name() {
        verify(true, "a.example", 2030).expect("valid");
        assert!(is_of_ca(&verify(false, "a.example", 2030).expect_err("refused")));
        let of_certificate = |error| match error {
            Error::InvalidCertificate(error) => error,
            other => panic!("{other}"),
        };
        let error = of_certificate(verify(true, "b.example", 2030).expect_err("refused"));
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }));
        let error = of_certificate(verify(true, "a.example", 2020).expect_err("refused"));
        assert!(matches!(error, CertificateError::NotValidYetContext { .. }));
        let error = of_certificate(verify(true, "a.example", 2130).expect_err("refused"));
        assert!(matches!(error, CertificateError::ExpiredContext { .. }));
    }
}
