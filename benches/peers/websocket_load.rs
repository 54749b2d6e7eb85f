//! Sends WebSocket messages to an echo server, and one more message for each echo.
//!
//! Usage: `websocket_load PORT SECONDS SIZE [tls]`. Prints one line of JSON: the echoes that came, the seconds it took,
//! and the median and the 99th percentile of the time to an echo. Each of 16 connections has four binary messages of
//! SIZE bytes under way, in one masked frame each. Every message has a number in its first eight bytes, so each echo
//! must be the one frame that is due.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use latencies::{Latencies, Sent};
use stream::{Stream, Tls};

mod latencies;
mod stream;

const CONNECTIONS: usize = 16;
const IN_FLIGHT: usize = 4;
const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const FINAL_BINARY: u8 = 0x82;

/// A message as a frame of one end, made once; only its number changes.
struct Frame {
    bytes: Vec<u8>,
    payload: usize, // where the payload begins
    mask: u64,      // for the number; zero means no mask
}

impl Frame {
    fn new(size: usize, mask: Option<[u8; 4]>) -> Self {
        let masked = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![FINAL_BINARY];
        match size {
            0..126 => bytes.push(masked | size as u8),
            126..0x1_0000 => {
                bytes.push(masked | 126);
                bytes.extend((size as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend((size as u64).to_be_bytes());
            }
        }
        bytes.extend(mask.into_iter().flatten());
        let payload = bytes.len();
        let [a, b, c, d] = mask.unwrap_or_default();
        bytes.extend([a, b, c, d].iter().cycle().take(size).map(|key| key ^ 7));
        Self { bytes, payload, mask: u64::from_be_bytes([a, b, c, d, a, b, c, d]) }
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        self.bytes[self.payload..][..8].copy_from_slice(&(number ^ self.mask).to_be_bytes());
        &self.bytes
    }
}

struct Client {
    stream: Stream,
    message: Frame,
    echo: Frame,
    input: Box<[u8]>, // room for all that can be under way
    filled: usize,
    output: Vec<u8>,
    echoes: u64,
    sent: u64,
    under_way: Sent,
}

impl Client {
    fn new(port: u16, size: usize, tls: Option<&Tls>) -> Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nodelay(true)?;
        let mut stream = Stream::new(socket, tls)?;
        shake_hands(&mut stream)?;
        stream.socket().set_nonblocking(true)?;
        let (message, echo) = (Frame::new(size, Some(MASK)), Frame::new(size, None));
        let input = vec![0; IN_FLIGHT * echo.bytes.len()].into();
        let (output, under_way) = (Vec::new(), Sent::default());
        let mut client = Self { stream, message, echo, input, filled: 0, output, echoes: 0, sent: 0, under_way };
        client.send()?;
        Ok(client)
    }

    /// Takes the echoes that have arrived, and sends the next message for each.
    fn exchange(&mut self, latencies: &mut Latencies) -> Result<()> {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let size = self.echo.bytes.len();
        let whole = self.filled / size * size;
        for frame in self.input[..whole].chunks_exact(size) {
            if frame != self.echo.numbered(self.echoes) {
                return Err(Error::other("an echo is not the message that is due"));
            }
            self.echoes += 1;
        }
        self.input.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        self.under_way.echoed((whole / size) as u64, latencies);
        self.send()
    }

    /// Sends as much as the socket takes; the rest waits in the output.
    fn send(&mut self) -> Result<()> {
        self.under_way.sent(self.echoes + IN_FLIGHT as u64 - self.sent);
        while self.sent < self.echoes + IN_FLIGHT as u64 {
            self.output.extend_from_slice(self.message.numbered(self.sent));
            self.sent += 1;
        }
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.output.drain(..written);
        Ok(())
    }

    fn awaited(&self) -> libc::c_short {
        let writes = !self.output.is_empty() || self.stream.wants_write();
        if writes { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN }
    }
}

/// Reads byte by byte, so that no byte after the head is taken.
fn shake_hands(stream: &mut Stream) -> Result<()> {
    stream.write_all(HANDSHAKE)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    if head.starts_with(b"HTTP/1.1 101 ") { Ok(()) } else { Err(Error::other("the server accepts no WebSocket")) }
}

/// Waits until a client can read or write; returns for each client whether it can.
fn wait(clients: &[Client]) -> Result<[bool; CONNECTIONS]> {
    let mut polled = [libc::pollfd { fd: -1, events: 0, revents: 0 }; CONNECTIONS];
    for (entry, client) in polled.iter_mut().zip(clients) {
        (entry.fd, entry.events) = (client.stream.socket().as_raw_fd(), client.awaited());
    }
    // SAFETY: the kernel writes only to the entries that exist.
    match unsafe { libc::poll(polled.as_mut_ptr(), CONNECTIONS as libc::nfds_t, 5_000) } {
        0 => Err(ErrorKind::TimedOut.into()),
        1.. => Ok(polled.map(|entry| entry.revents != 0)),
        _ => Err(Error::last_os_error()),
    }
}

fn argument(index: usize) -> usize {
    let value = std::env::args().nth(index).expect("usage: websocket_load PORT SECONDS SIZE [tls]");
    value.parse().expect("all arguments are numbers")
}

fn main() -> Result<()> {
    let port = u16::try_from(argument(1)).expect("PORT is at most 65535");
    let (time, size) = (Duration::from_secs(argument(2) as u64), argument(3));
    assert!(size >= 8, "SIZE is at least 8: a message has its number");
    let tls = std::env::args().nth(4).map(|_| Tls::new(false));
    let mut latencies = Latencies::new();
    let begin = Instant::now();
    let mut clients = (0..CONNECTIONS).map(|_| Client::new(port, size, tls.as_ref())).collect::<Result<Vec<_>>>()?;
    while begin.elapsed() < time {
        let ready = wait(&clients)?;
        for (client, ready) in clients.iter_mut().zip(ready) {
            if ready {
                client.exchange(&mut latencies)?;
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let echoes: u64 = clients.iter().map(|client| client.echoes).sum();
    let (p50, p99) = (latencies.quantile(0.5), latencies.quantile(0.99));
    println!(r#"{{"echoes": {echoes}, "seconds": {seconds:.6}, "p50": {p50:.6}, "p99": {p99:.6}}}"#);
    Ok(())
}
