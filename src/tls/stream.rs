//! The records of one connection: a machine over rustls, without a socket and without I/O.
//!
//! Ciphertext goes in and plaintext comes out, and the other way round. The machine owns memory only for the part of a
//! record that has come so far, for plaintext that had no room, and for ciphertext that the socket has not taken. An idle
//! connection has none of them.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig, SupportedCipherSuite};

use super::chooser::take_asked;
use super::outgoing::Outgoing;

/// The most bytes of a record: header, plaintext and what protects it (RFC 8446 section 5.2).
pub const RECORD: usize = 5 + 16_384 + 256;

/// The machine of one connection.
pub struct Stream {
    side: Side,
    /// The name that the client asks for.
    server_name: Option<Box<str>>,
    /// Ciphertext that is not decrypted: a part of a record, or records whose plaintext has no room.
    incoming: Vec<u8>,
    /// Whether the records in `incoming` wait for others: they are parts of one message of the handshake.
    is_waiting: bool,
    sink: Sink,
    /// Whether we have said that we send no more.
    has_said_close: bool,
    /// The error that ended the stream. Nothing goes in or out behind it.
    failure: Option<rustls::Error>,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// The results of rustls: plaintext of the peer, and ciphertext for the peer.
#[derive(Default)]
struct Sink {
    /// Plaintext that had no room, of which the first `taken` bytes are taken.
    plaintext: Vec<u8>,
    taken: usize,
    /// Ciphertext for the socket.
    outgoing: Outgoing,
    /// Whether the peer has said that it sends no more.
    is_closed: bool,
}

/// A wish of ours, for the state of rustls in which it is possible.
#[derive(Clone, Copy)]
enum Wish<'a> {
    /// To hear of what the peer sent.
    Listen,
    Encrypt(&'a [u8]),
    SayClose,
}

/// The result of one step of rustls.
struct Step {
    /// Bytes of ciphertext at the front that are done.
    done: usize,
    /// Bytes of plaintext that were placed.
    placed: usize,
    next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another step may bring more.
    Step,
    /// The wish was fulfilled.
    Fulfilled,
    /// Only more ciphertext helps.
    Input,
}

/// The properties of a connection after its handshake.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The name of the cipher suite in the registry of the IANA.
    pub cipher: String,
    /// The protocol that both sides agreed on (ALPN, RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for (SNI, RFC 6066 section 3).
    pub server_name: Option<String>,
    /// The certificates of the peer in DER, its own first.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Stream {
    /// The machine of a server, before the handshake.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::of(Side::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// The machine of a client, before the handshake with the server of this name.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        let server_name = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().into()),
            _ => None,
        };
        let stream = Self::of(Side::Client(UnbufferedClientConnection::new(config, name)?));
        Ok(Self { server_name, ..stream })
    }

    fn of(side: Side) -> Self {
        Self {
            side,
            server_name: None,
            incoming: Vec::new(),
            is_waiting: false,
            sink: Sink::default(),
            has_said_close: false,
            failure: None,
        }
    }

    /// Whether the handshake is not over.
    pub fn is_handshaking(&self) -> bool {
        match &self.side {
            Side::Server(server) => server.is_handshaking(),
            Side::Client(client) => client.is_handshaking(),
        }
    }

    /// Whether the peer has said that it sends no more (close_notify).
    pub fn is_closed(&self) -> bool {
        self.sink.is_closed
    }

    /// Whether the stream has failed, so that the last bytes for the peer are an alert.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Ciphertext that came before and is not decrypted.
    pub fn incoming(&self) -> &[u8] {
        &self.incoming
    }

    /// Keeps ciphertext behind that which came before, without decrypting it.
    pub fn hold(&mut self, ciphertext: &[u8]) {
        self.incoming.extend_from_slice(ciphertext);
    }

    /// Whether there is something to take, to decrypt or to tell without a read of the socket.
    pub fn holds_input(&self) -> bool {
        let is_new = !self.is_waiting && has_record(&self.incoming);
        is_new || !self.sink.plaintext.is_empty() || self.failure.is_some()
    }

    // ---- input ----------------------------------------------------------------------------------------------------

    /// Takes plaintext that had no room before; returns the number of bytes.
    pub fn take(&mut self, room: &mut [u8]) -> usize {
        let waiting = &self.sink.plaintext[self.sink.taken..];
        let count = waiting.len().min(room.len());
        room[..count].copy_from_slice(&waiting[..count]);
        self.sink.taken += count;
        if self.sink.taken == self.sink.plaintext.len() {
            (self.sink.plaintext, self.sink.taken) = (Vec::new(), 0);
        }
        count
    }

    /// Decrypts records from the front of `ciphertext` until `room` is full, and keeps the rest. Returns the number of
    /// bytes of plaintext. `ciphertext` begins with [`Self::incoming`].
    ///
    /// After an error the outgoing ciphertext ends with the alert for the peer. Plaintext before it comes first: then the
    /// next call returns the error.
    pub fn decrypt(&mut self, ciphertext: &mut [u8], room: &mut [u8]) -> Result<usize, rustls::Error> {
        (self.incoming, self.is_waiting) = (Vec::new(), false);
        let (mut at, mut count) = (0, 0);
        // The last part of a handshake may be ours, so the steps go on behind its end.
        let is_handshaking = self.is_handshaking();
        while self.sink.plaintext.is_empty() && (count < room.len() || is_handshaking) {
            let step = match self.step(&mut ciphertext[at..], &mut room[count..], Wish::Listen) {
                Err(_) if count > 0 => return Ok(count),
                step => step?,
            };
            (at, count) = (at + step.done, count + step.placed);
            if step.next == Next::Input {
                self.is_waiting = true;
                break;
            }
        }
        // No memory is kept for a rest of nothing, because an idle connection owns none.
        self.incoming = ciphertext[at..].to_vec();
        Ok(count)
    }

    fn step(&mut self, ciphertext: &mut [u8], room: &mut [u8], wish: Wish<'_>) -> Result<Step, rustls::Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let stepped = self.process(ciphertext, room, wish);
        if let Err(error) = &stepped {
            self.failure = Some(error.clone());
            // Without input, because rustls would judge the same input again, and send a second alert.
            while self.common().wants_write() && self.process(&mut [], &mut [], Wish::Listen).is_ok() {}
        }
        stepped
    }

    /// One step of rustls.
    fn process(&mut self, ciphertext: &mut [u8], room: &mut [u8], wish: Wish<'_>) -> Result<Step, rustls::Error> {
        match &mut self.side {
            Side::Server(server) => {
                let is_handshaking = server.is_handshaking();
                let status = server.process_tls_records(ciphertext);
                if is_handshaking && let Some(name) = take_asked() {
                    self.server_name = Some(name);
                }
                self.sink.obey(status, room, wish)
            }
            Side::Client(client) => self.sink.obey(client.process_tls_records(ciphertext), room, wish),
        }
    }

    // ---- output ---------------------------------------------------------------------------------------------------

    /// Encrypts `plaintext` into the outgoing ciphertext.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<(), rustls::Error> {
        self.fulfil(Wish::Encrypt(plaintext))
    }

    /// Says once that we send no more (close_notify), in the outgoing ciphertext.
    pub fn say_close(&mut self) -> Result<(), rustls::Error> {
        if std::mem::replace(&mut self.has_said_close, true) || self.is_handshaking() || self.failure.is_some() {
            return Ok(());
        }
        self.fulfil(Wish::SayClose)
    }

    fn fulfil(&mut self, wish: Wish<'_>) -> Result<(), rustls::Error> {
        // rustls may have messages of its own before, and looks at the input that it knows.
        let mut known = std::mem::take(&mut self.incoming);
        let mut at = 0;
        let result = loop {
            match self.step(&mut known[at..], &mut [], wish) {
                Ok(Step { next: Next::Fulfilled, .. }) => break Ok(()),
                Ok(Step { next: Next::Step, done, .. }) => at += done,
                Ok(Step { next: Next::Input, .. }) => break Err(rustls::Error::HandshakeNotComplete),
                Err(error) => break Err(error),
            }
        };
        known.drain(..at);
        self.incoming = known;
        result
    }

    /// Ciphertext for the socket.
    pub fn outgoing(&self) -> &[u8] {
        self.sink.outgoing.bytes()
    }

    /// Lends memory for the outgoing ciphertext, of which there is none.
    pub fn lend(&mut self, memory: Vec<u8>) {
        self.sink.outgoing.lend(memory);
    }

    /// Notes that the socket took the first `count` bytes of the outgoing ciphertext.
    pub fn sent(&mut self, count: usize) {
        self.sink.outgoing.sent(count);
    }

    /// Returns lent memory; the ciphertext that is left moves to memory of its own.
    pub fn give_back(&mut self) -> Option<Vec<u8>> {
        self.sink.outgoing.give_back()
    }

    /// Bytes of memory that hold plaintext and ciphertext.
    #[cfg(test)]
    pub fn owned_memory(&self) -> usize {
        self.incoming.capacity() + self.sink.plaintext.capacity() + self.sink.outgoing.owned_memory()
    }

    // ---- facts ----------------------------------------------------------------------------------------------------

    /// The properties of the connection; `None` before the end of the handshake.
    pub fn facts(&self) -> Option<Facts> {
        facts_of(self.common(), self.server_name.as_deref().map(str::to_owned))
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn common(&self) -> &rustls::CommonState {
        match &self.side {
            Side::Server(server) => server,
            Side::Client(client) => client,
        }
    }
}

fn facts_of(state: &rustls::CommonState, server_name: Option<String>) -> Option<Facts> {
    let version = match state.protocol_version()? {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let cipher = state.negotiated_cipher_suite().map(name_of)?;
    let alpn = state.alpn_protocol().map(<[u8]>::to_vec);
    let peer_certificates = state.peer_certificates().unwrap_or_default().to_vec();
    let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    Some(Facts { version, cipher, alpn, server_name, peer_certificates, resumed })
}

/// The name in the registry: `TLS_AES_128_GCM_SHA256`, where rustls has `TLS13_AES_128_GCM_SHA256`.
fn name_of(suite: SupportedCipherSuite) -> String {
    suite.suite().as_str().map_or_else(String::new, |name| name.replacen("TLS13_", "TLS_", 1))
}

/// Whether a whole record is at the front.
fn has_record(ciphertext: &[u8]) -> bool {
    match ciphertext {
        [_, _, _, high, low, rest @ ..] => rest.len() >= usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

impl Sink {
    /// Does what rustls asks for.
    fn obey<Data>(
        &mut self,
        status: UnbufferedStatus<'_, '_, Data>,
        room: &mut [u8],
        wish: Wish<'_>,
    ) -> Result<Step, rustls::Error> {
        let UnbufferedStatus { discard, state } = status;
        let mut step = Step { done: discard, placed: 0, next: Next::Step };
        match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    step.done += record.discard;
                    let now = record.payload.len().min(room.len() - step.placed);
                    room[step.placed..step.placed + now].copy_from_slice(&record.payload[..now]);
                    self.plaintext.extend_from_slice(&record.payload[now..]);
                    step.placed += now;
                }
            }
            ConnectionState::EncodeTlsData(mut data) => self.outgoing.append(|room| match data.encode(room) {
                Err(EncodeError::InsufficientSize(error)) => Err(EncryptError::InsufficientSize(error)),
                encoded => Ok(encoded.unwrap_or(0)),
            })?,
            // The bytes are in our memory, from which they go out in order.
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => self.is_closed = true,
            ConnectionState::WriteTraffic(traffic) => step.next = self.write(traffic, wish)?,
            // 0-RTT does not come, because no configuration of ours allows it.
            _ => step.next = Next::Input,
        }
        Ok(step)
    }

    fn write<Data>(&mut self, mut traffic: WriteTraffic<'_, Data>, wish: Wish<'_>) -> Result<Next, rustls::Error> {
        match wish {
            Wish::Listen => return Ok(Next::Input),
            Wish::Encrypt(plaintext) => self.outgoing.append(|room| traffic.encrypt(plaintext, room))?,
            Wish::SayClose => self.outgoing.append(|room| traffic.queue_close_notify(room))?,
        }
        Ok(Next::Fulfilled)
    }
}
