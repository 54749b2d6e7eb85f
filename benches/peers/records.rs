//! The records of a download over TLS 1.3: shakes hands, asks, decrypts the beginning, and only counts what follows.
//!
//! So the client costs little more than a plain one, and the server's work decides how long a download takes. The key of
//! the records stays the same, as it does in all servers here for many gigabytes.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::stream::Tls;

const INCOMING: usize = 256 * 1024;
const RECORD: usize = 17 * 1024; // room for one
const HEADER: usize = 5;
const OVERHEAD: u64 = 17; // the type and the tag behind the plaintext

pub struct Download {
    socket: TcpStream,
    client: UnbufferedClientConnection,
    incoming: Vec<u8>,
    filled: usize,
}

impl Download {
    pub fn new(socket: TcpStream, tls: &Tls) -> Result<Self> {
        Ok(Self { socket, client: tls.unbuffered()?, incoming: vec![0; INCOMING], filled: 0 })
    }

    /// Sends `request` behind the handshake, and returns the plaintext of the first record of the answer.
    pub fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let mut outgoing = Vec::new();
        let mut asked = false;
        loop {
            let mut reads = false;
            let UnbufferedStatus { discard, state, .. } =
                self.client.process_tls_records(&mut self.incoming[..self.filled]);
            let mut answer = None;
            match state.map_err(Error::other)? {
                ConnectionState::EncodeTlsData(mut state) => {
                    append(&mut outgoing, |room| state.encode(room).map_err(Error::other))?;
                }
                ConnectionState::TransmitTlsData(state) => {
                    self.socket.write_all(&outgoing)?;
                    outgoing.clear();
                    state.done();
                }
                ConnectionState::WriteTraffic(mut state) if !asked => {
                    append(&mut outgoing, |room| state.encrypt(request, room).map_err(Error::other))?;
                    self.socket.write_all(&outgoing)?;
                    outgoing.clear();
                    asked = true;
                }
                ConnectionState::ReadTraffic(mut state) => {
                    if let Some(record) = state.next_record() {
                        answer = Some(record.map_err(Error::other)?.payload.to_vec());
                    }
                }
                ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => reads = true,
                _ => return Err(ErrorKind::UnexpectedEof.into()),
            }
            self.incoming.copy_within(discard..self.filled, 0);
            self.filled -= discard;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if reads {
                match self.socket.read(&mut self.incoming[self.filled..])? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    n => self.filled += n,
                }
            }
        }
    }

    /// Reads on until `expected` bytes of plaintext have come, or some more, and returns how many. Some servers wait for
    /// the client's end of TLS before they close, so their close is not waited for.
    pub fn count(mut self, expected: u64) -> Result<u64> {
        let (mut bytes, mut left) = (0, 0); // `left`: bytes of the record that is being skipped
        let mut header = Vec::with_capacity(HEADER);
        loop {
            let mut input = &self.incoming[..self.filled];
            while !input.is_empty() {
                let skipped = left.min(input.len());
                left -= skipped;
                input = &input[skipped..];
                if left == 0 && bytes >= expected {
                    return Ok(bytes);
                }
                let (first, rest) = input.split_at(input.len().min(HEADER - header.len()));
                header.extend_from_slice(first);
                input = rest;
                if let [_, _, _, high, low] = header[..] {
                    left = usize::from(u16::from_be_bytes([high, low]));
                    bytes += (left as u64).saturating_sub(OVERHEAD);
                    header.clear();
                }
            }
            self.filled = self.socket.read(&mut self.incoming)?;
            if self.filled == 0 {
                return Err(Error::other(format!("closed after {bytes} of {expected} bytes")));
            }
        }
    }
}

/// Appends a record that `encode` writes.
fn append(outgoing: &mut Vec<u8>, encode: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<()> {
    let end = outgoing.len();
    outgoing.resize(end + RECORD, 0);
    let size = encode(&mut outgoing[end..])?;
    outgoing.truncate(end + size);
    Ok(())
}
