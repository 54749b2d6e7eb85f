//! An accepted socket before its connection: a trusted proxy has to name its client first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::connection::transport;
use crate::proxy::{self, Header, Refusal};
use crate::shared::acceptor::Acceptor;
use crate::shared::admission::Permit;
use crate::shared::remote::Peer;
use crate::timer::TimerId;

/// One such socket on its poller.
pub(crate) struct Arrival {
    pub socket: Socket,
    /// The proxy.
    pub peer: Peer,
    pub acceptor: Arc<Acceptor>,
    pub permit: Permit,
    /// The timer of its time limit.
    pub deadline: Option<TimerId>,
    /// Whether it is in the poller's ready list.
    pub listed: bool,
    /// The part of the header that has come; empty for most, since a header comes in one packet.
    held: Vec<u8>,
}

impl Arrival {
    pub fn new(socket: Socket, peer: Peer, acceptor: Arc<Acceptor>, permit: Permit) -> Self {
        Self { socket, peer, acceptor, permit, deadline: None, listed: false, held: Vec::new() }
    }

    /// The time within which the header has to come.
    pub fn time_limit(&self) -> Duration {
        self.acceptor.connection_options().handshake_timeout
    }

    /// Reads the header and nothing behind it; `None` if it is not whole yet.
    pub fn read(&mut self) -> Result<Option<Header>, Refusal> {
        let mut room = [0; proxy::MOST];
        loop {
            let held = self.held.len();
            room[..held].copy_from_slice(&self.held);
            let came = match transport::peek(&self.socket, &mut room[held..]) {
                Ok(0) => return Err(Refusal::Cut(None)),
                Ok(came) => held + came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Refusal::Cut(Some(error))),
            };
            let parsed = proxy::parse(&room[..came])?;
            let end = parsed.as_ref().map_or(came, |(_, length)| *length);
            transport::receive_exactly(&self.socket, &mut room[held..end])
                .map_err(|error| Refusal::Cut(Some(error)))?;
            match parsed {
                Some((header, _)) => return Ok(Some(header)),
                None => self.held = room[..came].to_vec(),
            }
        }
    }
}
