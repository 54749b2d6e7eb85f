//! Sends messages of 64 bytes, each after its length in four bytes, and one more message for each echo.
//!
//! Usage: `messages_load PORT SECONDS`. Prints one line of JSON: the echoes that came, and the seconds it took. Each of
//! 16 connections has 32 messages under way. Every message has a number, so each echo must be the message that is due.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 16;
const IN_FLIGHT: u64 = 32;
const SIZE: usize = 64;
const FRAME: usize = 4 + SIZE;

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    echoes: u64,
    sent: u64,
}

impl Client {
    fn new(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut client = Self { stream, input: Vec::new(), echoes: 0, sent: 0 };
        client.send()?;
        Ok(client)
    }

    /// Takes the echoes that have arrived, and sends the next message for each.
    fn exchange(&mut self) -> Result<()> {
        let mut buffer = [0; IN_FLIGHT as usize * FRAME];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let whole = self.input.len() / FRAME * FRAME;
        for frame in self.input[..whole].chunks_exact(FRAME) {
            if frame != make(self.echoes) {
                return Err(Error::other("an echo is not the message that is due"));
            }
            self.echoes += 1;
        }
        self.input.drain(..whole);
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        let frames: Vec<_> = (self.sent..self.echoes + IN_FLIGHT).map(make).collect();
        self.sent = self.echoes + IN_FLIGHT;
        // So few bytes always fit: the server took the earlier ones.
        self.stream.write_all(frames.as_flattened())
    }
}

fn make(number: u64) -> [u8; FRAME] {
    let mut frame = [7; FRAME];
    frame[..4].copy_from_slice(&(SIZE as u32).to_be_bytes());
    frame[4..12].copy_from_slice(&number.to_be_bytes());
    frame
}

/// Waits for input; returns for each client whether it has some.
fn wait(clients: &[Client]) -> Result<[bool; CONNECTIONS]> {
    let mut polled = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; CONNECTIONS];
    for (entry, client) in polled.iter_mut().zip(clients) {
        entry.fd = client.stream.as_raw_fd();
    }
    // SAFETY: the kernel writes only to the entries that exist.
    match unsafe { libc::poll(polled.as_mut_ptr(), CONNECTIONS as libc::nfds_t, 5_000) } {
        0 => Err(ErrorKind::TimedOut.into()),
        1.. => Ok(polled.map(|entry| entry.revents != 0)),
        _ => Err(Error::last_os_error()),
    }
}

fn argument(index: usize) -> u16 {
    let value = std::env::args().nth(index).expect("usage: messages_load PORT SECONDS");
    value.parse().expect("both arguments are numbers up to 65535")
}

fn main() -> Result<()> {
    let (port, time) = (argument(1), Duration::from_secs(argument(2).into()));
    let begin = Instant::now();
    let mut clients = (0..CONNECTIONS).map(|_| Client::new(port)).collect::<Result<Vec<_>>>()?;
    while begin.elapsed() < time {
        let ready = wait(&clients)?;
        for (client, ready) in clients.iter_mut().zip(ready) {
            if ready {
                client.exchange()?;
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let echoes: u64 = clients.iter().map(|client| client.echoes).sum();
    println!(r#"{{"echoes": {echoes}, "seconds": {seconds:.6}}}"#);
    Ok(())
}
