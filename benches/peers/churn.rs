//! Connects as fast as it can: each connection sends one request, takes the reply, and resets.
//!
//! Usage: `churn PORT COUNT`. Prints one line of JSON: the replies that came, the connections that were lost, and the
//! seconds it took. Two threads hold 64 connections open each. After five seconds without any event the open
//! connections and those not begun yet count as lost. A reset leaves no TIME_WAIT, so the ports do not run out.

use std::collections::HashMap;
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use epoll::{Epoll, is_temporary, set_option, stream_socket, with_loopback};

mod epoll;

const THREADS: usize = 2;
const OPEN_AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const END_OF_REPLY: &[u8] = b"Hello, World!";

struct Connection {
    stream: TcpStream,
    asked: bool,
    reply: Vec<u8>,
}

impl Connection {
    /// Begins to connect; the first event reports the end of that.
    fn open(port: u16) -> Result<Self> {
        let socket = stream_socket()?;
        let reset_on_close = libc::linger { l_onoff: 1, l_linger: 0 };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_LINGER, reset_on_close)?;
        match with_loopback(&socket, port, libc::connect) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Self { stream: socket.into(), asked: false, reply: Vec::new() }),
        }
    }

    /// Continues as far as the socket allows; `true` when the whole reply has arrived.
    fn advance(&mut self, buffer: &mut [u8]) -> Result<bool> {
        if !self.asked {
            self.stream.write_all(REQUEST)?;
            self.asked = true;
            return Ok(false);
        }
        match self.stream.read(buffer) {
            Ok(0) => Err(Error::other("closed before the reply was complete")),
            Ok(n) => {
                self.reply.extend_from_slice(&buffer[..n]);
                Ok(self.reply.ends_with(END_OF_REPLY))
            }
            Err(error) if is_temporary(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Makes `count` connections and returns how many of them got a reply.
fn churn(port: u16, count: usize) -> Result<usize> {
    let mut poll = Epoll::new()?;
    let mut open = HashMap::<RawFd, Connection>::with_capacity(OPEN_AT_ONCE);
    let mut buffer = [0; 512];
    let (mut begun, mut replies) = (0, 0);
    while begun < count || !open.is_empty() {
        while begun < count && open.len() < OPEN_AT_ONCE {
            begun += 1;
            let connection = Connection::open(port)?;
            let fd = connection.stream.as_raw_fd();
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
            replies += usize::from(result.is_ok());
            open.remove(&fd);
        }
    }
    Ok(replies)
}

fn argument(index: usize) -> usize {
    let value = std::env::args().nth(index).expect("usage: churn PORT COUNT");
    value.parse().expect("PORT and COUNT are numbers")
}

fn main() -> Result<()> {
    let port = u16::try_from(argument(1)).expect("PORT is at most 65535");
    let count = argument(2) / THREADS * THREADS;
    let begin = Instant::now();
    let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(move || churn(port, count / THREADS))).collect();
    let mut replies = 0;
    for thread in threads {
        replies += thread.join().expect("a thread panicked")?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(r#"{{"replies": {replies}, "lost": {}, "seconds": {seconds:.6}}}"#, count - replies);
    Ok(())
}
