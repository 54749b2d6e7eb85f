//! Handshakes between the contexts, in memory: each setting does what it says.

use std::io;
use std::sync::Arc;

use rustls::{ClientConnection, Error as TlsError, HandshakeKind, ProtocolVersion, ServerConnection};

use crate::error::{TlsFailure, TlsFailureKind};
use crate::tls::certificates::tests::{certificate, key, wildcard};
use crate::tls::chooser::tests::Always;
use crate::tls::client::{ClientContext, ClientSettings};
use crate::tls::server::{ClientCertificates, ServerContext, ServerSettings};
use crate::tls::settings::MinimumVersion;
use crate::tls::text;

/// The two ends of a connection.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
}

fn server(change: impl FnOnce(&mut ServerSettings)) -> ServerContext {
    let mut settings = ServerSettings::new(certificate(), key());
    change(&mut settings);
    ServerContext::new(settings).expect("valid")
}

fn client(change: impl FnOnce(&mut ClientSettings)) -> ClientContext {
    let mut settings = ClientSettings { ca: Some(certificate()), ..Default::default() };
    change(&mut settings);
    ClientContext::new(settings).expect("valid")
}

/// Moves what one end has to send to the other one, and returns the error of that one.
fn step(
    mut send: impl FnMut(&mut dyn io::Write) -> io::Result<usize>,
    mut receive: impl FnMut(&mut dyn io::Read) -> Result<(), TlsError>,
) -> Result<bool, TlsError> {
    let mut bytes = Vec::new();
    while send(&mut bytes).expect("memory takes everything") > 0 {}
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        receive(&mut rest)?;
    }
    Ok(!bytes.is_empty())
}

/// A handshake for a host, or the errors of the client and of the server.
fn shake(client: &ClientContext, server: &ServerContext, host: &str) -> Result<Pair, [Option<TlsFailure>; 2]> {
    let name = client.name_for(Some(host)).expect("valid");
    let mut client = ClientConnection::new(client.config(), name).expect("valid");
    let mut server = ServerConnection::new(server.config()).expect("valid");
    let (mut failed, mut moved) = ([None, None], true);
    while moved {
        let to_server = step(
            |to| client.write_tls(to),
            |from| {
                server.read_tls(from).expect("memory");
                server.process_new_packets().map(drop)
            },
        );
        let to_client = step(
            |to| server.write_tls(to),
            |from| {
                client.read_tls(from).expect("memory");
                client.process_new_packets().map(drop)
            },
        );
        moved = to_client.as_ref().is_ok_and(|moved| *moved) || to_server.as_ref().is_ok_and(|moved| *moved);
        failed[0] = failed[0].take().or(to_client.err());
        failed[1] = failed[1].take().or(to_server.err());
        if failed.iter().all(Option::is_some) {
            break;
        }
    }
    match failed {
        [None, None] => Ok(Pair { client, server }),
        failed => Err(failed.map(|error| error.map(|error| text::failure(&error)))),
    }
}

/// The error of the client.
fn client_error(client: &ClientContext, server: &ServerContext, host: &str) -> TlsFailure {
    let [error, _] = shake(client, server, host).err().expect("refused");
    error.expect("the client has an error")
}

#[test]
fn a_handshake_uses_the_newest_version_and_the_first_protocol_in_common() {
    let server = server(|settings| settings.alpn = vec![b"http/1.1".into(), b"echo".into()]);
    let client = client(|settings| settings.alpn = vec![b"h2".into(), b"echo".into(), b"http/1.1".into()]);
    let pair = shake(&client, &server, "a.example").expect("agreed");
    assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(pair.server.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(pair.server.server_name(), Some("a.example"));
}

#[test]
fn no_protocol_in_common_is_an_error_of_both() {
    let server = server(|settings| settings.alpn = vec![b"echo".into()]);
    let client = client(|settings| settings.alpn = vec![b"h2".into()]);
    let [client, server] = shake(&client, &server, "a.example").err().expect("refused");
    for failure in [client.expect("an alert"), server.expect("an error")] {
        assert_eq!((failure.kind, failure.alert), (TlsFailureKind::Protocol, Some("no_application_protocol")));
        assert!(failure.text.contains("alpn"), "{}", failure.text);
    }
}

#[test]
fn the_key_exchange_withstands_quantum_computers() {
    let pair = shake(&client(|_| ()), &server(|_| ()), "a.example").expect("agreed");
    let group = pair.client.negotiated_key_exchange_group().expect("of TLS 1.3").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn a_certificate_for_another_name_is_refused_with_its_names() {
    let failure = client_error(&client(|_| ()), &server(|_| ()), "c.example");
    assert_eq!(failure.text, "the certificate is not for \"c.example\", but for a.example");
    assert_eq!((failure.kind, failure.alert), (TlsFailureKind::Certificate, Some("bad_certificate")));
    let named = client(|settings| settings.server_name = Some("a.example".into()));
    shake(&named, &server(|_| ()), "127.0.0.1").expect("the name that was given");
}

#[test]
fn an_unknown_issuer_is_refused_unless_nothing_is_verified() {
    let stranger = client(|settings| settings.ca = Some(wildcard()));
    let failure = client_error(&stranger, &server(|_| ()), "a.example");
    assert_eq!(failure.kind, TlsFailureKind::Certificate);
    let credulous = client(|settings| (settings.ca, settings.verify) = (None, false));
    for version in [MinimumVersion::Tls12, MinimumVersion::Tls13] {
        let server = server(|settings| settings.minimum_version = version);
        shake(&credulous, &server, "c.example").expect("anything goes");
    }
}

#[test]
fn the_certificate_is_that_of_the_name_asked_for() {
    let server = server(|settings| settings.names = vec![("*.b.example".into(), wildcard(), key())]);
    let wild = client(|settings| settings.ca = Some(wildcard()));
    shake(&wild, &server, "A.b.example").expect("one level below");
    assert!(shake(&wild, &server, "a.a.b.example").is_err());
    shake(&client(|_| ()), &server, "a.example").expect("the default");
    let learner =
        client(|settings| (settings.ca, settings.server_name) = (Some(wildcard()), Some("c.b.example".into())));
    let chooser = Arc::new(Always(Some((wildcard(), key()))));
    let choosing = self::server(|settings| settings.chooser = Some(chooser));
    assert!(shake(&learner, &choosing, "c.b.example").is_err());
    choosing.choose("c.b.example");
    shake(&learner, &choosing, "c.b.example").expect("chosen");
}

#[test]
fn only_tickets_resume_sessions_also_behind_a_reload() {
    for (tickets, kind) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)] {
        let (client, server) = (client(|_| ()), server(|settings| settings.tickets = tickets));
        let first = shake(&client, &server, "a.example").expect("agreed");
        assert_ne!(first.client.handshake_kind(), Some(HandshakeKind::Resumed));
        server.reload().expect("valid");
        let second = shake(&client, &server, "a.example").expect("agreed");
        assert_eq!(second.client.handshake_kind(), Some(kind));
    }
}

#[test]
fn clients_show_their_certificates_when_they_have_to() {
    let with = client(|settings| (settings.certificate, settings.key) = (Some(certificate()), Some(key())));
    let without = client(|_| ());
    let ask =
        |demand| server(|settings| (settings.client_ca, settings.client_certificates) = (Some(certificate()), demand));
    shake(&without, &ask(ClientCertificates::Optional), "a.example").expect("none is needed");
    let [client, server] = shake(&without, &ask(ClientCertificates::Required), "a.example").err().expect("refused");
    for failure in [client.expect("an alert"), server.expect("an error")] {
        assert_eq!((failure.kind, failure.alert), (TlsFailureKind::Certificate, Some("certificate_required")));
    }
    // The certificate of the tests is one of a CA.
    let [_, server] = shake(&with, &ask(ClientCertificates::Required), "a.example").err().expect("refused");
    assert!(server.expect("an error").text.contains("CA:TRUE"));
}

#[test]
fn secrets_are_logged_on_request() {
    let path = std::env::temp_dir().join(format!("goev-handshake-{}", std::process::id()));
    let server = server(|settings| settings.key_log = Some(path.clone()));
    shake(&client(|_| ()), &server, "a.example").expect("agreed");
    let text = std::fs::read_to_string(&path).expect("written");
    std::fs::remove_file(&path).expect("removed");
    assert!(text.lines().any(|line| line.starts_with("SERVER_TRAFFIC_SECRET_0 ")), "{text}");
}

#[test]
fn a_shared_context_is_made_once() {
    // Without the certificates of a system there is none.
    if let (Ok(one), Ok(other)) = (ClientContext::shared(), ClientContext::shared()) {
        assert!(Arc::ptr_eq(&one, &other));
    }
}
