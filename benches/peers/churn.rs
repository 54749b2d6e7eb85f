//! Connects as fast as it can: each connection sends one request, takes the reply, and resets.
//!
//! Usage: `churn PORT COUNT [full|resumed|kept]`. Prints one line of JSON: the replies that came, the connections that
//! were lost, how many of them resumed a session of TLS, and the seconds it took. Two threads hold 64 connections open
//! each; with `full`, `resumed` and `kept` they speak TLS, and hold 16. After five seconds without any event the open
//! connections and those not begun yet count as lost. A reset leaves no TIME_WAIT, so the ports do not run out.
//!
//! With `resumed` each connection resumes the session of the one before it in its place; the first 32 have none. With
//! `kept` all connections stay open until the standard input ends.

use std::collections::HashMap;
use std::io::{Error, Read, Result, Write, stdin};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use epoll::{Epoll, is_temporary, set_option, stream_socket, with_loopback};
use stream::{Stream, Tls};

mod epoll;
mod stream;

const USAGE: &str = "usage: churn PORT COUNT [full|resumed|kept]";
const THREADS: usize = 2;
const OPEN_AT_ONCE: usize = 64;
const SHAKING_AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const END_OF_REPLY: &[u8] = b"Hello, World!";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Full,
    Resumed,
    Kept,
}

/// The place of one connection at a time, with the session of the last one.
type Place = Option<Tls>;

impl Mode {
    fn places(self) -> Vec<Place> {
        match self {
            Self::Plain => vec![None; OPEN_AT_ONCE],
            Self::Full | Self::Kept => vec![Some(Tls::new(false)); SHAKING_AT_ONCE],
            Self::Resumed => (0..SHAKING_AT_ONCE).map(|_| Some(Tls::new(true))).collect(),
        }
    }
}

struct Connection {
    stream: Stream,
    place: Place,
    asked: bool,
    reply: Vec<u8>,
}

impl Connection {
    /// Begins to connect; the first event reports the end of that.
    fn open(port: u16, place: Place) -> Result<Self> {
        let socket = stream_socket()?;
        let reset_on_close = libc::linger { l_onoff: 1, l_linger: 0 };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_LINGER, reset_on_close)?;
        match with_loopback(&socket, port, libc::connect) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => {
                let stream = Stream::new(socket.into(), place.as_ref())?;
                Ok(Self { stream, place, asked: false, reply: Vec::new() })
            }
        }
    }

    fn fd(&self) -> RawFd {
        self.stream.socket().as_raw_fd()
    }

    /// Continues as far as the socket allows; `true` when the whole reply has arrived.
    fn advance(&mut self, buffer: &mut [u8]) -> Result<bool> {
        match self.exchange(buffer) {
            Err(error) if is_temporary(&error) => Ok(false),
            result => result,
        }
    }

    fn exchange(&mut self, buffer: &mut [u8]) -> Result<bool> {
        if !self.asked {
            self.stream.write_all(REQUEST)?;
            self.asked = true;
            return Ok(false);
        }
        while !self.reply.ends_with(END_OF_REPLY) {
            match self.stream.read(buffer)? {
                0 => return Err(Error::other("closed before the reply was complete")),
                n => self.reply.extend_from_slice(&buffer[..n]),
            }
        }
        Ok(true)
    }
}

#[derive(Default)]
struct Outcome {
    replies: usize,
    resumed: usize,
    kept: Vec<TcpStream>,
}

/// Makes `count` connections.
fn churn(port: u16, count: usize, mode: Mode) -> Result<Outcome> {
    let mut poll = Epoll::new()?;
    let mut open = HashMap::<RawFd, Connection>::with_capacity(OPEN_AT_ONCE);
    let mut buffer = [0; 512];
    let (mut begun, mut free) = (0, mode.places());
    let mut outcome = Outcome::default();
    while begun < count || !open.is_empty() {
        while begun < count
            && let Some(place) = free.pop()
        {
            begun += 1;
            let connection = Connection::open(port, place)?;
            let fd = connection.fd();
            poll.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET)?;
            open.insert(fd, connection);
        }
        let ready = poll.wait(Some(PATIENCE))?;
        if ready == 0 {
            break;
        }
        for index in 0..ready {
            let fd = poll.ready(index);
            let connection = open.get_mut(&fd).expect("an event of a closed connection");
            let result = connection.advance(&mut buffer);
            if let Ok(false) = result {
                continue;
            }
            let Connection { stream, place, .. } = open.remove(&fd).expect("it is open");
            free.push(place);
            outcome.replies += usize::from(result.is_ok());
            outcome.resumed += usize::from(stream.is_resumed());
            if mode == Mode::Kept {
                poll.control(libc::EPOLL_CTL_DEL, fd, 0)?;
                outcome.kept.push(stream.into_socket());
            }
        }
    }
    Ok(outcome)
}

fn argument(index: usize) -> usize {
    let value = std::env::args().nth(index).expect(USAGE);
    value.parse().expect("PORT and COUNT are numbers")
}

fn mode() -> Mode {
    match std::env::args().nth(3).as_deref() {
        None => Mode::Plain,
        Some("full") => Mode::Full,
        Some("resumed") => Mode::Resumed,
        Some("kept") => Mode::Kept,
        Some(_) => panic!("{USAGE}"),
    }
}

fn main() -> Result<()> {
    let port = u16::try_from(argument(1)).expect("PORT is at most 65535");
    let (count, mode) = (argument(2) / THREADS * THREADS, mode());
    let begin = Instant::now();
    let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(move || churn(port, count / THREADS, mode))).collect();
    let mut outcomes = Vec::new();
    for thread in threads {
        outcomes.push(thread.join().expect("a thread panicked")?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let replies: usize = outcomes.iter().map(|outcome| outcome.replies).sum();
    let resumed: usize = outcomes.iter().map(|outcome| outcome.resumed).sum();
    let lost = count - replies;
    println!(r#"{{"replies": {replies}, "lost": {lost}, "resumed": {resumed}, "seconds": {seconds:.6}}}"#);
    if mode == Mode::Kept {
        stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}
