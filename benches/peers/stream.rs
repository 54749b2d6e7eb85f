//! The stream of a client that makes load: plain TCP, or TLS 1.3 over it.
//!
//! The client verifies nothing, so that most of the work of a handshake is the server's. It offers one group of keys,
//! X25519, and prefers AES-256-GCM, as OpenSSL in `wrk` does. So every server does the same cryptography.
#![allow(dead_code)] // each program uses a part of it

use std::io::{Error, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};

/// The settings and the session that a TLS client takes from one connection to the next.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// A client for full handshakes, or one that resumes the session of its last connection.
    pub fn new(resumes: bool) -> Self {
        let provider = CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
        let verifier = AcceptsAll(provider.signature_verification_algorithms.supported_schemes());
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = if resumes { Resumption::in_memory_sessions(1) } else { Resumption::disabled() };
        Self(config.into())
    }

    pub fn unbuffered(&self) -> Result<UnbufferedClientConnection> {
        UnbufferedClientConnection::new(Arc::clone(&self.0), name()).map_err(Error::other)
    }
}

fn name() -> ServerName<'static> {
    IpAddr::from(Ipv4Addr::LOCALHOST).into()
}

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Begins the handshake at the first read or write.
    pub fn new(socket: TcpStream, tls: Option<&Tls>) -> Result<Self> {
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let client = ClientConnection::new(Arc::clone(&tls.0), name()).map_err(Error::other)?;
        Ok(Self::Tls(StreamOwned::new(client, socket).into()))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    pub fn into_socket(self) -> TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.sock,
        }
    }

    /// Whether something that was written still has to go to the socket.
    pub fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.conn.wants_write())
    }

    pub fn is_resumed(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.conn.handshake_kind() == Some(HandshakeKind::Resumed))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(data),
            Self::Tls(stream) => stream.write(data),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[derive(Debug)]
struct AcceptsAll(Vec<SignatureScheme>);

impl ServerCertVerifier for AcceptsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
