//! The errors of TLS in plain English, with the alert of each.
//!
//! Texts may contain names that the peer chose. They are escaped, and at most a few of them are shown.

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, ExtendedKeyPurpose, InvalidMessage, PeerIncompatible};

use crate::error::{TlsFailure, TlsFailureKind};
use crate::tls::verify::is_of_ca;

/// The most names of a certificate that a text shows.
const MOST_NAMES: usize = 8;

/// The most numbers of an object identifier that a text shows.
const MOST_NUMBERS: usize = 20;

/// The most characters of one such name.
const LONGEST_NAME: usize = 100;

/// The end of a stream without close_notify.
pub fn truncated() -> TlsFailure {
    let text = "the peer ended the connection without close_notify: what it sent may have been cut".into();
    TlsFailure { kind: TlsFailureKind::Truncated, alert: None, text }
}

/// An error of rustls as a fault of TLS.
pub fn failure(error: &Error) -> TlsFailure {
    let (text, alert) = text_and_alert(error);
    TlsFailure { kind: kind(error), alert: alert.map(alert_name), text }
}

fn kind(error: &Error) -> TlsFailureKind {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_) => {
            TlsFailureKind::Certificate
        }
        Error::AlertReceived(
            Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::CertificateRequired,
        ) => TlsFailureKind::Certificate,
        _ => TlsFailureKind::Protocol,
    }
}

fn text_and_alert(error: &Error) -> (String, Option<AlertDescription>) {
    use AlertDescription as Alert;
    match error {
        Error::AlertReceived(alert) => (of_alert(*alert), Some(*alert)),
        Error::InvalidCertificate(_) if is_of_ca(error) => (
            "the certificate is one of a CA, which a server or client may not use as its own; make one without \
             basicConstraints CA:TRUE"
                .into(),
            Some(Alert::CertificateUnknown),
        ),
        Error::InvalidCertificate(fault) => (of_certificate(fault), Some(fault.clone().into())),
        Error::NoCertificatesPresented => ("the peer sent no certificate".into(), Some(Alert::CertificateRequired)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            ("the peer does not speak TLS".into(), Some(Alert::DecodeError))
        }
        Error::InvalidMessage(fault) => {
            (format!("the peer sent a malformed message: {}", words(fault)), Some((*fault).into()))
        }
        Error::PeerIncompatible(fault) => of_incompatible(fault),
        Error::PeerMisbehaved(fault) => {
            (format!("the peer broke a rule of TLS: {}", words(fault)), Some(Alert::IllegalParameter))
        }
        Error::InappropriateMessage { got_type, .. } => {
            (format!("the peer sent a record out of order: {}", words(got_type)), Some(Alert::UnexpectedMessage))
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            (format!("the peer sent a message out of order: {}", words(got_type)), Some(Alert::UnexpectedMessage))
        }
        Error::DecryptError => (
            "a record cannot be decrypted: it was changed on its way, or has another key".into(),
            Some(Alert::BadRecordMac),
        ),
        Error::PeerSentOversizedRecord => {
            ("the peer sent a record that is longer than 16 KiB".into(), Some(Alert::RecordOverflow))
        }
        Error::NoApplicationProtocol => {
            ("the peer offers none of the protocols in alpn".into(), Some(Alert::NoApplicationProtocol))
        }
        other => (other.to_string(), None),
    }
}

fn of_incompatible(fault: &PeerIncompatible) -> (String, Option<AlertDescription>) {
    use PeerIncompatible as Fault;
    let (text, alert) = match fault {
        Fault::ServerDoesNotSupportTls12Or13
        | Fault::ServerTlsVersionIsDisabledByOurConfig
        | Fault::SupportedVersionsExtensionRequired
        | Fault::Tls12NotOffered
        | Fault::Tls12NotOfferedOrEnabled => (
            "no version of TLS in common with the peer; minimum_version is one bound",
            AlertDescription::ProtocolVersion,
        ),
        Fault::SignatureAlgorithmsExtensionRequired => {
            ("the peer names no signature algorithms: it speaks TLS 1.1 or older", AlertDescription::HandshakeFailure)
        }
        Fault::NoCipherSuitesInCommon => ("no cipher in common with the peer", AlertDescription::HandshakeFailure),
        Fault::NoKxGroupsInCommon => ("no key exchange in common with the peer", AlertDescription::HandshakeFailure),
        Fault::NoSignatureSchemesInCommon | Fault::NoCertificateRequestSignatureSchemesInCommon => {
            ("the peer takes no signature of this kind of key", AlertDescription::HandshakeFailure)
        }
        other => {
            let text = format!("nothing in common with the peer: {}", words(other));
            return (text, Some(AlertDescription::HandshakeFailure));
        }
    };
    (text.into(), Some(alert))
}

fn of_certificate(fault: &CertificateError) -> String {
    use CertificateError as Fault;
    match fault {
        Fault::BadEncoding => "the certificate is malformed".into(),
        Fault::Expired => "the certificate has expired".into(),
        Fault::ExpiredContext { not_after, .. } => format!("the certificate expired on {}", date(*not_after)),
        Fault::NotValidYet => "the certificate is not valid yet".into(),
        Fault::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", date(*not_before))
        }
        Fault::Revoked => "the certificate was revoked".into(),
        Fault::UnknownRevocationStatus => "it is not known whether the certificate was revoked".into(),
        Fault::ExpiredRevocationList => "the list of revoked certificates has expired".into(),
        Fault::ExpiredRevocationListContext { next_update, .. } => {
            format!("the list of revoked certificates expired on {}", date(*next_update))
        }
        Fault::UnhandledCriticalExtension => "the certificate has a critical extension that is not known".into(),
        Fault::UnknownIssuer => {
            "the issuer of the certificate is unknown: no trusted CA, or the chain lacks an intermediate certificate"
                .into()
        }
        Fault::BadSignature => {
            "a signature of the certificate, or of the handshake, is wrong; the trusted CA may have the name of the \
             issuer, but another key"
                .into()
        }
        Fault::UnsupportedSignatureAlgorithmContext { .. }
        | Fault::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the certificate, or the handshake, has a signature of a kind that is not supported".into()
        }
        Fault::NotValidForName => "the certificate is for other names".into(),
        Fault::NotValidForNameContext { expected, presented } => {
            format!("the certificate is not for {:?}, but for {}", expected.to_str(), names(presented))
        }
        Fault::InvalidPurpose => "the certificate is for another use".into(),
        Fault::InvalidPurposeContext { required, presented } => {
            format!("the certificate is not for {required}, but for {}", purposes(presented))
        }
        Fault::ApplicationVerificationFailure => "the certificate is valid, but was refused".into(),
        Fault::InvalidOcspResponse => "the OCSP response of the certificate is invalid".into(),
        other => format!("the certificate is wrong: {}", words(other)),
    }
}

/// The names of a certificate. webpki shows them as `DnsName("a.example")` and `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, inside)| inside.strip_suffix(')')).unwrap_or(name);
        let start: String = inside.trim_matches('"').chars().take(LONGEST_NAME).collect();
        start.escape_debug().to_string()
    };
    listed(presented.iter().map(plain), "no name at all (a subjectAltName is missing)")
}

fn purposes(presented: &[ExtendedKeyPurpose]) -> String {
    let plain = |purpose: &ExtendedKeyPurpose| match purpose {
        // An object identifier, which rustls shows with commas.
        ExtendedKeyPurpose::Other(numbers) => {
            numbers.iter().take(MOST_NUMBERS).map(ToString::to_string).collect::<Vec<_>>().join(".")
        }
        known => known.to_string(),
    };
    listed(presented.iter().map(plain), "no use that is known")
}

fn listed(items: impl ExactSizeIterator<Item = String>, none: &str) -> String {
    let more = items.len().saturating_sub(MOST_NAMES);
    let shown: Vec<_> = items.take(MOST_NAMES).collect();
    match (shown.is_empty(), more) {
        (true, _) => none.into(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A time as HTTP writes it. A date after the year 9999 has no such form.
fn date(time: UnixTime) -> String {
    const LAST: u64 = 253_402_300_799;
    match time.as_secs() {
        seconds @ ..=LAST => httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)),
        seconds => format!("second {seconds} since 1970"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let name = alert_name(alert);
    let text = match alert {
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown => {
            "the peer refused our certificate"
        }
        Alert::CertificateExpired => "the peer refused our certificate: it has expired, or is not valid yet",
        Alert::CertificateRevoked => "the peer refused our certificate: it was revoked",
        Alert::UnknownCA => "the peer does not know the issuer of our certificate",
        Alert::NoCertificate | Alert::CertificateRequired => "the peer needs a certificate of ours",
        Alert::AccessDenied => "the peer denied us access",
        Alert::UnrecognisedName => "the peer has no certificate for the name that we asked for",
        Alert::NoApplicationProtocol => "the peer speaks none of the protocols in our alpn",
        Alert::ProtocolVersion => "the peer speaks no version of TLS that we offer",
        Alert::HandshakeFailure => "the peer found nothing in common with us",
        _ => "the peer ended TLS with an alert",
    };
    format!("{text} (alert {name})")
}

/// The name of an alert in RFC 8446 section 6, or in the older RFC that it is from.
pub fn alert_name(alert: AlertDescription) -> &'static str {
    use AlertDescription as Alert;
    match alert {
        Alert::CloseNotify => "close_notify",
        Alert::UnexpectedMessage => "unexpected_message",
        Alert::BadRecordMac => "bad_record_mac",
        Alert::DecryptionFailed => "decryption_failed",
        Alert::RecordOverflow => "record_overflow",
        Alert::DecompressionFailure => "decompression_failure",
        Alert::HandshakeFailure => "handshake_failure",
        Alert::NoCertificate => "no_certificate",
        Alert::BadCertificate => "bad_certificate",
        Alert::UnsupportedCertificate => "unsupported_certificate",
        Alert::CertificateRevoked => "certificate_revoked",
        Alert::CertificateExpired => "certificate_expired",
        Alert::CertificateUnknown => "certificate_unknown",
        Alert::IllegalParameter => "illegal_parameter",
        Alert::UnknownCA => "unknown_ca",
        Alert::AccessDenied => "access_denied",
        Alert::DecodeError => "decode_error",
        Alert::DecryptError => "decrypt_error",
        Alert::ExportRestriction => "export_restriction",
        Alert::ProtocolVersion => "protocol_version",
        Alert::InsufficientSecurity => "insufficient_security",
        Alert::InternalError => "internal_error",
        Alert::InappropriateFallback => "inappropriate_fallback",
        Alert::UserCanceled => "user_canceled",
        Alert::NoRenegotiation => "no_renegotiation",
        Alert::MissingExtension => "missing_extension",
        Alert::UnsupportedExtension => "unsupported_extension",
        Alert::CertificateUnobtainable => "certificate_unobtainable",
        Alert::UnrecognisedName => "unrecognized_name",
        Alert::BadCertificateStatusResponse => "bad_certificate_status_response",
        Alert::BadCertificateHashValue => "bad_certificate_hash_value",
        Alert::UnknownPSKIdentity => "unknown_psk_identity",
        Alert::CertificateRequired => "certificate_required",
        Alert::NoApplicationProtocol => "no_application_protocol",
        Alert::EncryptedClientHelloRequired => "ech_required",
        _ => "unknown",
    }
}

/// The name of a variant in words: `NoKxGroupsInCommon` as "no kx groups in common".
fn words(value: &impl std::fmt::Debug) -> String {
    let name = format!("{value:?}");
    let mut words = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for letter in name.chars().take(LONGEST_NAME) {
        if letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        before = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::ServerName;
    use rustls::{OtherError, PeerMisbehaved};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn certificate(fault: CertificateError) -> TlsFailure {
        failure(&Error::InvalidCertificate(fault))
    }

    #[test]
    fn a_fault_of_a_certificate_says_what_is_wrong_with_it() {
        let expected = ServerName::try_from("c.example").expect("valid");
        let presented =
            vec!["DnsName(\"a.example\")".into(), "DnsName(\"*.b.example\")".into(), "IpAddress(::1)".into()];
        let (time, purpose) = (at(0), ExtendedKeyPurpose::ServerAuth);
        for (fault, text, alert) in [
            (CertificateError::UnknownIssuer, "issuer of the certificate is unknown", "unknown_ca"),
            (CertificateError::Revoked, "revoked", "certificate_revoked"),
            (
                CertificateError::ExpiredContext { time, not_after: at(784_111_777) },
                "expired on Sun, 06 Nov 1994 08:49:37 GMT",
                "certificate_expired",
            ),
            (
                CertificateError::NotValidYetContext { time, not_before: at(784_111_777) },
                "not valid before Sun, 06 Nov 1994 08:49:37 GMT",
                "certificate_expired",
            ),
            (
                CertificateError::ExpiredContext { time, not_after: at(u64::MAX) },
                "18446744073709551615",
                "certificate_expired",
            ),
            (
                CertificateError::NotValidForNameContext { expected: expected.clone(), presented },
                "not for \"c.example\", but for a.example, *.b.example, ::1",
                "bad_certificate",
            ),
            (
                CertificateError::NotValidForNameContext { expected, presented: Vec::new() },
                "subjectAltName is missing",
                "bad_certificate",
            ),
            (
                CertificateError::InvalidPurposeContext {
                    required: purpose,
                    presented: vec![ExtendedKeyPurpose::ClientAuth, ExtendedKeyPurpose::Other(vec![1, 2])],
                },
                "not for server authentication, but for client authentication, 1.2",
                "unsupported_certificate",
            ),
        ] {
            let failure = certificate(fault);
            assert!(failure.text.contains(text), "{}", failure.text);
            assert_eq!((failure.kind, failure.alert), (TlsFailureKind::Certificate, Some(alert)));
        }
    }

    #[test]
    fn names_that_a_peer_chose_are_escaped_and_few() {
        let names: Vec<_> = (0..1000).map(|_| format!("DnsName(\"\n{}\")", "x".repeat(10_000))).collect();
        let expected = ServerName::try_from("c.example").expect("valid");
        let text = certificate(CertificateError::NotValidForNameContext { expected, presented: names }).text;
        assert!(text.len() < 1000 && !text.contains('\n') && text.ends_with(" and 992 more"), "{text}");
    }

    #[test]
    fn a_certificate_of_a_ca_is_told_from_other_faults() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Webpki(&'static str);
        let text = |name| certificate(CertificateError::Other(OtherError(std::sync::Arc::new(Webpki(name))))).text;
        assert!(text("CaUsedAsEndEntity").contains("CA:TRUE"));
        assert!(!text("PathLenConstraintViolated").contains("CA:TRUE"));
    }

    #[test]
    fn other_faults_have_their_alert() {
        for (error, text, alert) in [
            (Error::AlertReceived(AlertDescription::UnknownCA), "(alert unknown_ca)", Some("unknown_ca")),
            (Error::AlertReceived(AlertDescription::Unknown(200)), "(alert unknown)", Some("unknown")),
            (Error::DecryptError, "decrypted", Some("bad_record_mac")),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS", Some("decode_error")),
            (Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered), "minimum_version", Some("protocol_version")),
            (Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon), "key exchange", Some("handshake_failure")),
            (
                Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests),
                "too many key update requests",
                Some("illegal_parameter"),
            ),
            (Error::FailedToGetRandomBytes, "random", None),
        ] {
            let failure = failure(&error);
            assert!(failure.text.contains(text), "{}", failure.text);
            assert_eq!(failure.alert, alert);
        }
        assert_eq!(failure(&Error::AlertReceived(AlertDescription::UnknownCA)).kind, TlsFailureKind::Certificate);
        assert_eq!(failure(&Error::DecryptError).kind, TlsFailureKind::Protocol);
        assert_eq!(truncated().kind, TlsFailureKind::Truncated);
    }
}
