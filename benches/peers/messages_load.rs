//! Sends messages of 64 bytes, each after its length in four bytes, and one more message for each echo.
//!
//! Usage: `messages_load PORT SECONDS CONNECTIONS IN_FLIGHT`. Prints one line of JSON: the echoes that came, the
//! seconds it took, and the median and the 99th percentile of the time to an echo. Each connection has IN_FLIGHT
//! messages under way. Every message has a number, so each echo must be the message that is due.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use latencies::{Latencies, Sent};

mod latencies;

const SIZE: usize = 64;
const FRAME: usize = 4 + SIZE;

struct Client {
    stream: TcpStream,
    in_flight: u64,
    input: Vec<u8>,
    echoes: u64,
    sent: u64,
    under_way: Sent,
}

impl Client {
    fn new(port: u16, in_flight: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (input, under_way) = (Vec::new(), Sent::default());
        let mut client = Self { stream, in_flight: in_flight.into(), input, echoes: 0, sent: 0, under_way };
        client.send()?;
        Ok(client)
    }

    /// Takes the echoes that have arrived, and sends the next message for each.
    fn exchange(&mut self, latencies: &mut Latencies) -> Result<()> {
        let mut buffer = [0; 32 * FRAME];
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
        self.under_way.echoed((whole / FRAME) as u64, latencies);
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        let end = self.echoes + self.in_flight;
        let frames: Vec<_> = (self.sent..end).map(make).collect();
        self.under_way.sent(end - self.sent);
        self.sent = end;
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
fn wait(clients: &[Client]) -> Result<Vec<bool>> {
    let watch = |client: &Client| libc::pollfd { fd: client.stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<_> = clients.iter().map(watch).collect();
    // SAFETY: the kernel writes only to the entries that exist.
    match unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 5_000) } {
        0 => Err(ErrorKind::TimedOut.into()),
        1.. => Ok(polled.iter().map(|entry| entry.revents != 0).collect()),
        _ => Err(Error::last_os_error()),
    }
}

fn argument(index: usize) -> u16 {
    let value = std::env::args().nth(index).expect("usage: messages_load PORT SECONDS CONNECTIONS IN_FLIGHT");
    value.parse().expect("all arguments are numbers up to 65535")
}

fn main() -> Result<()> {
    let (port, time) = (argument(1), Duration::from_secs(argument(2).into()));
    let (connections, in_flight) = (argument(3), argument(4));
    let mut latencies = Latencies::new();
    let begin = Instant::now();
    let mut clients = (0..connections).map(|_| Client::new(port, in_flight)).collect::<Result<Vec<_>>>()?;
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
