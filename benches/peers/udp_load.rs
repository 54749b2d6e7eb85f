//! Sends datagrams of 64 bytes to an echo server, and one more datagram for each echo.
//!
//! Usage: `udp_load PORT SECONDS`. Prints one line of JSON: the echoes that came, the datagrams that were lost, and the
//! seconds it took. Each of 16 sockets has 8 datagrams under way. A datagram that is not back in time is lost, and sent
//! again with another number, so that a late echo does not count as the new one. Each echo must equal its datagram.

use std::io::{Error, ErrorKind, Result};
use std::mem::zeroed;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const SOCKETS: usize = 16;
const IN_FLIGHT: usize = 8;
const SIZE: usize = 64;
const IN_TIME: Duration = Duration::from_millis(200);

type Datagrams = [[u8; SIZE]; IN_FLIGHT];

/// A socket and its datagrams. The index fills the first half of each, its number of eight bytes the second half.
struct Client {
    socket: UdpSocket,
    numbers: [u64; IN_FLIGHT],
    sent: [Instant; IN_FLIGHT],
    echoes: u64,
    lost: u64,
}

impl Client {
    fn new(port: u16) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nonblocking(true)?;
        let mut client =
            Self { socket, numbers: [0; IN_FLIGHT], sent: [Instant::now(); IN_FLIGHT], echoes: 0, lost: 0 };
        let all: [usize; IN_FLIGHT] = std::array::from_fn(|index| index);
        client.send(&all)?;
        Ok(client)
    }

    /// Takes the echoes that have arrived, and sends the next datagram for each.
    fn exchange(&mut self) -> Result<()> {
        let mut datagrams: Datagrams = [[0; SIZE]; IN_FLIGHT];
        let count = transfer(&self.socket, &mut datagrams, receive_messages)?;
        let mut answered = Vec::with_capacity(IN_FLIGHT);
        for datagram in &datagrams[..count] {
            let index = usize::from(datagram[0]);
            if index < IN_FLIGHT && *datagram == make(index, self.numbers[index]) {
                self.echoes += 1;
                self.numbers[index] += 1;
                answered.push(index);
            } else if index >= IN_FLIGHT || *datagram != make(index, number_of(datagram)) {
                return Err(Error::other("an echo is not what was sent"));
            }
        }
        self.send(&answered)
    }

    fn send_lost_again(&mut self) -> Result<()> {
        let overdue: Vec<_> = (0..IN_FLIGHT).filter(|&index| self.sent[index].elapsed() > IN_TIME).collect();
        self.lost += overdue.len() as u64;
        for &index in &overdue {
            self.numbers[index] += 1;
        }
        self.send(&overdue)
    }

    /// A datagram that a full socket refuses counts as lost, and is sent again like a lost one.
    fn send(&mut self, indices: &[usize]) -> Result<()> {
        let mut datagrams: Datagrams = [[0; SIZE]; IN_FLIGHT];
        let now = Instant::now();
        for (datagram, &index) in datagrams.iter_mut().zip(indices) {
            *datagram = make(index, self.numbers[index]);
            self.sent[index] = now;
        }
        transfer(&self.socket, &mut datagrams[..indices.len()], send_messages).map(drop)
    }
}

fn make(index: usize, number: u64) -> [u8; SIZE] {
    let mut datagram = [index as u8; SIZE];
    for part in datagram[SIZE / 2..].chunks_exact_mut(8) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    datagram
}

fn number_of(datagram: &[u8; SIZE]) -> u64 {
    let (_, last) = datagram.split_last_chunk().expect("it is longer than a number");
    u64::from_le_bytes(*last)
}

type Transfer = unsafe fn(i32, *mut libc::mmsghdr, u32) -> i32;

unsafe fn send_messages(socket: i32, messages: *mut libc::mmsghdr, count: u32) -> i32 {
    // SAFETY: the caller keeps the conditions of sendmmsg.
    unsafe { libc::sendmmsg(socket, messages, count, libc::MSG_DONTWAIT) }
}

unsafe fn receive_messages(socket: i32, messages: *mut libc::mmsghdr, count: u32) -> i32 {
    // SAFETY: the caller keeps the conditions of recvmmsg; null means no time limit.
    unsafe { libc::recvmmsg(socket, messages, count, libc::MSG_DONTWAIT, std::ptr::null_mut()) }
}

/// Sends or receives as many of the datagrams as the socket allows, and returns their number.
fn transfer(socket: &UdpSocket, datagrams: &mut [[u8; SIZE]], call: Transfer) -> Result<usize> {
    // SAFETY: both are plain C structures, and zero is a valid value of them.
    let (mut parts, mut messages): ([libc::iovec; IN_FLIGHT], [libc::mmsghdr; IN_FLIGHT]) = unsafe { zeroed() };
    for ((datagram, part), message) in datagrams.iter_mut().zip(&mut parts).zip(&mut messages) {
        *part = libc::iovec { iov_base: datagram.as_mut_ptr().cast(), iov_len: SIZE };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: `datagrams.len()` messages point to parts, and these to datagrams; all of them live and stay in place.
    let count = unsafe { call(socket.as_raw_fd(), messages.as_mut_ptr(), datagrams.len() as u32) };
    if count >= 0 {
        let whole = messages[..count as usize].iter().all(|message| message.msg_len as usize == SIZE);
        return if whole { Ok(count as usize) } else { Err(Error::other("an echo is shorter than what was sent")) };
    }
    let error = Error::last_os_error();
    if error.kind() == ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}

/// Waits for datagrams; returns for each client whether it has some.
fn wait(clients: &[Client]) -> Result<[bool; SOCKETS]> {
    let mut polled = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; SOCKETS];
    for (entry, client) in polled.iter_mut().zip(clients) {
        entry.fd = client.socket.as_raw_fd();
    }
    let milliseconds = IN_TIME.as_millis() as i32;
    // SAFETY: the kernel writes only to the entries that exist.
    if unsafe { libc::poll(polled.as_mut_ptr(), SOCKETS as libc::nfds_t, milliseconds) } < 0 {
        return Err(Error::last_os_error());
    }
    Ok(polled.map(|entry| entry.revents != 0))
}

fn argument(index: usize) -> u16 {
    let value = std::env::args().nth(index).expect("usage: udp_load PORT SECONDS");
    value.parse().expect("both arguments are numbers up to 65535")
}

fn main() -> Result<()> {
    let (port, time) = (argument(1), Duration::from_secs(argument(2).into()));
    let begin = Instant::now();
    let mut clients = (0..SOCKETS).map(|_| Client::new(port)).collect::<Result<Vec<_>>>()?;
    let mut looked = begin;
    while begin.elapsed() < time {
        let ready = wait(&clients)?;
        for (client, ready) in clients.iter_mut().zip(ready) {
            if ready {
                client.exchange()?;
            }
        }
        if looked.elapsed() > IN_TIME / 4 {
            looked = Instant::now();
            clients.iter_mut().try_for_each(Client::send_lost_again)?;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let echoes: u64 = clients.iter().map(|client| client.echoes).sum();
    let lost: u64 = clients.iter().map(|client| client.lost).sum();
    println!(r#"{{"echoes": {echoes}, "lost": {lost}, "seconds": {seconds:.6}}}"#);
    Ok(())
}
