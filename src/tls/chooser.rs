//! Certificates that are found while clients wait: for names that the settings do not have.

use std::cell::Cell;

use rustls::server::Acceptor;

use crate::error::Error;
use crate::tls::certificates::Pem;

/// Finds certificates for names. Its methods are called on a thread beside the pollers, and may block.
pub trait Chooser: Send + Sync {
    /// The certificate and the key for a name: `Some(None)` for the default ones, `None` if there was no answer.
    fn choose(&self, name: &str) -> Option<Option<(Pem, Pem)>>;

    /// Tells the user of an answer that is of no use.
    fn complain(&self, name: &str, error: Error);
}

thread_local! {
    /// The name in the last handshake of this thread that had one.
    static ASKED: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Notes the name that a client asks for. rustls keeps it, but not for connections without buffers.
pub(super) fn note_asked(name: Option<&str>) {
    ASKED.set(name.map(Into::into));
}

/// The name that was noted last on this thread.
pub(super) fn take_asked() -> Option<Box<str>> {
    ASKED.take()
}

/// The name that a client asks for in the first message of its handshake. `None` while the message is not whole;
/// `Some(None)` if it has no name, or breaks a rule, of which the handshake will tell the client.
pub fn asked_name(mut ciphertext: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !ciphertext.is_empty() {
        if acceptor.read_tls(&mut ciphertext).is_err() {
            return Some(None);
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Some(accepted.client_hello().server_name().map(str::to_owned)),
            Err(_) => return Some(None),
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tls::certificates::tests::{certificate, key};
    use crate::tls::server::{ServerContext, ServerSettings};
    use rustls::ClientConnection;

    /// The same answer for every name.
    pub struct Always(pub Option<(Pem, Pem)>);

    impl Chooser for Always {
        fn choose(&self, _: &str) -> Option<Option<(Pem, Pem)>> {
            Some(self.0.clone())
        }

        fn complain(&self, name: &str, error: Error) {
            panic!("{name}: {error}");
        }
    }

    fn first_message(name: &'static str) -> Vec<u8> {
        let context = crate::tls::client::ClientContext::new(crate::tls::client::ClientSettings {
            ca: Some(certificate()),
            ..Default::default()
        });
        let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
        let mut client = ClientConnection::new(context.expect("valid").config(), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        bytes
    }

    #[test]
    fn the_name_is_known_with_the_last_byte_of_the_first_message() {
        let bytes = first_message("a.example");
        for end in 0..bytes.len() {
            assert_eq!(asked_name(&bytes[..end]), None, "{end}");
        }
        assert_eq!(asked_name(&bytes), Some(Some("a.example".into())));
        assert_eq!(asked_name(&first_message("127.0.0.1")), Some(None));
        assert_eq!(asked_name(b"GET / HTTP/1.1\r\n\r\n"), Some(None));
    }

    #[test]
    fn an_answer_of_no_use_is_told_and_asked_for_again() {
        struct Wrong(std::sync::Mutex<Vec<String>>);
        impl Chooser for Wrong {
            fn choose(&self, _: &str) -> Option<Option<(Pem, Pem)>> {
                Some(Some((Pem::bytes("certificate", *b"no PEM"), key())))
            }

            fn complain(&self, name: &str, error: Error) {
                self.0.lock().expect("no panic").push(format!("{name}: {error}"));
            }
        }
        let chooser = std::sync::Arc::new(Wrong(Default::default()));
        let mut settings = ServerSettings::new(certificate(), key());
        settings.chooser = Some(chooser.clone());
        let context = ServerContext::new(settings).expect("valid");
        context.choose("a.example");
        assert!(context.has_to_choose("a.example"));
        let told = chooser.0.lock().expect("no panic");
        assert!(matches!(&told[..], [text] if text.starts_with("a.example: certificate (bytes)")), "{told:?}");
    }
}
