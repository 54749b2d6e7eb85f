//! The limit of the machine: plaintext on bare level-triggered epoll, with no framework and no Python.
//!
//! One thread per poller, each with a listener (`SO_REUSEPORT`) and an epoll instance of its own. It does all that a
//! server must do: heads split over reads, and replies that a full socket takes only later.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::thread;

use epoll::{Epoll, check, is_temporary, set_option, stream_socket, with_loopback};

mod epoll;

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const READ_SIZE: usize = 64 * 1024;

struct Connection {
    stream: TcpStream,
    /// The beginning of an incomplete head.
    tail: Vec<u8>,
    /// Replies that the socket did not take yet; reading pauses until it takes them.
    unsent: Vec<u8>,
}

/// An error of these methods means that the connection has ended.
impl Connection {
    fn on_readable(&mut self, poll: &Epoll, buffer: &mut [u8], output: &mut Vec<u8>) -> Result<()> {
        let received = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => &buffer[..n],
            Err(error) if is_temporary(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        output.clear();
        if self.tail.is_empty() {
            let used = answer(received, output);
            self.tail.extend_from_slice(&received[used..]);
        } else {
            self.tail.extend_from_slice(received);
            let used = answer(&self.tail, output);
            self.tail.drain(..used);
        }
        self.send(output)?;
        if self.unsent.is_empty() { Ok(()) } else { self.wait_for(libc::EPOLLOUT, poll) }
    }

    fn on_writable(&mut self, poll: &Epoll) -> Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        self.send(&unsent)?;
        if self.unsent.is_empty() { self.wait_for(libc::EPOLLIN, poll) } else { Ok(()) }
    }

    fn send(&mut self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let sent = match self.stream.write(data) {
            Ok(n) => n,
            Err(error) if is_temporary(&error) => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(&data[sent..]);
        Ok(())
    }

    fn wait_for(&self, events: i32, poll: &Epoll) -> Result<()> {
        poll.control(libc::EPOLL_CTL_MOD, self.stream.as_raw_fd(), events)
    }
}

/// Appends one reply per complete head and returns how many bytes these heads take.
fn answer(input: &[u8], output: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while let Some(end) = find_end_of_head(&input[used..]) {
        used += end;
        output.extend_from_slice(RESPONSE);
    }
    used
}

/// The number of bytes up to the end of the first head.
fn find_end_of_head(input: &[u8]) -> Option<usize> {
    // SAFETY: both pointers are valid for their lengths, and memmem keeps neither.
    let found =
        unsafe { libc::memmem(input.as_ptr().cast(), input.len(), END_OF_HEAD.as_ptr().cast(), END_OF_HEAD.len()) };
    (!found.is_null()).then(|| found as usize - input.as_ptr() as usize + END_OF_HEAD.len())
}

/// A listener that shares its port with those of the other pollers.
fn listen(port: u16) -> Result<TcpListener> {
    let socket = stream_socket()?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1i32)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1i32)?;
    with_loopback(&socket, port, libc::bind)?;
    // SAFETY: `listen` takes no pointer.
    check(unsafe { libc::listen(socket.as_raw_fd(), 1024) })?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, poll: &Epoll) -> Result<Connection> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null means that no address is wanted; the stream owns the new fd from here on.
    let stream = unsafe {
        let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
        TcpStream::from_raw_fd(check(libc::accept4(listener.as_raw_fd(), address, length, flags))?)
    };
    poll.control(libc::EPOLL_CTL_ADD, stream.as_raw_fd(), libc::EPOLLIN)?;
    Ok(Connection { stream, tail: Vec::new(), unsent: Vec::new() })
}

/// Connections by file descriptor.
#[derive(Default)]
struct Connections(Vec<Option<Connection>>);

impl Connections {
    fn insert(&mut self, connection: Connection) {
        let fd = connection.stream.as_raw_fd() as usize;
        if self.0.len() <= fd {
            self.0.resize_with(fd + 1, || None);
        }
        self.0[fd] = Some(connection);
    }

    fn slot(&mut self, fd: RawFd) -> Option<&mut Option<Connection>> {
        self.0.get_mut(fd as usize)
    }
}

fn serve(listener: &TcpListener) -> Result<()> {
    let mut poll = Epoll::new()?;
    poll.control(libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN)?;
    let mut connections = Connections::default();
    let mut buffer = vec![0; READ_SIZE];
    let mut output = Vec::with_capacity(READ_SIZE);
    loop {
        for index in 0..poll.wait(None)? {
            let fd = poll.ready(index);
            if fd == listener.as_raw_fd() {
                while let Ok(connection) = accept(listener, &poll) {
                    connections.insert(connection);
                }
                continue;
            }
            let Some(slot) = connections.slot(fd) else {
                continue;
            };
            let Some(connection) = slot else { continue };
            let result = if connection.unsent.is_empty() {
                connection.on_readable(&poll, &mut buffer, &mut output)
            } else {
                connection.on_writable(&poll)
            };
            if result.is_err() {
                *slot = None; // closing the socket takes it out of the epoll set
            }
        }
    }
}

fn argument(name: &str, default: u16) -> u16 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number")))
}

fn main() -> Result<()> {
    let port = argument("--port", 8080);
    let listeners = (0..argument("--pollers", 2)).map(|_| listen(port)).collect::<Result<Vec<_>>>()?;
    println!("ready");
    let pollers: Vec<_> = listeners.into_iter().map(|listener| thread::spawn(move || serve(&listener))).collect();
    for poller in pollers {
        poller.join().expect("a poller panicked")?;
    }
    Ok(())
}
