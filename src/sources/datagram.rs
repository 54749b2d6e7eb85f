//! Datagram sockets: each system call reads or sends many datagrams (recvmmsg(2), sendmmsg(2)).
//!
//! This module reads and writes its socket when the poller asks for it; it never calls a handler. No error ends a
//! datagram socket, because an ICMP message about one peer says nothing about the others. A full send queue drops
//! datagrams and counts them, as UDP may drop them anyway. On a socket for every address an answer leaves from the
//! address that was asked.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Error, ErrorKind};
use crate::options::{DatagramOptions, MAX_DATAGRAM};
use crate::system::address::{Inet, inet_text, mapped, text_of, unmapped};
use crate::system::packet_info::{Control, Own, asked, report_to};
use crate::system::socket::{self, check_kind, is_bound};

/// Number of datagrams that one system call takes.
const BATCH: usize = 32;
/// Queued output above which the queue is sent at once.
const HIGH_WATER: usize = 64 * 1024;
/// Number of queued datagrams up to which the memory is kept.
const MOST_KEPT: usize = 1024;

/// The two ends of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The address of the peer.
    pub peer: SocketAddr,
    /// Our address that the peer asked, on a socket for every address. `None` leaves the choice to the system.
    pub own: Option<Own>,
}

/// A datagram that waits for its callback.
pub struct Datagram {
    /// The sender, and the address that it asked.
    pub from: Ends,
    place: Place,
}

enum Place {
    /// In the poller's [`Landing`].
    Landed {
        at: usize,
        len: usize,
    },
    Own(Vec<u8>),
}

/// The buffer into which datagrams are read: one per poller, used again in each read phase. Pages that no datagram
/// reached stay untouched.
pub(crate) struct Landing {
    bytes: Box<[u8]>,
    /// The number of places that hold a datagram.
    used: usize,
    addresses: Box<[libc::sockaddr_storage; BATCH]>,
    controls: Box<[Control; BATCH]>,
}

impl Default for Landing {
    fn default() -> Self {
        Self {
            bytes: vec![0; BATCH * MAX_DATAGRAM].into_boxed_slice(),
            used: 0,
            // SAFETY: all zeroes is a valid value of this C structure: an address of no family.
            addresses: Box::new(unsafe { std::mem::zeroed() }),
            controls: Box::new([Control::EMPTY; BATCH]),
        }
    }
}

impl Landing {
    /// Whether no more datagrams can be read in this turn.
    pub fn is_full(&self) -> bool {
        self.used == BATCH
    }

    /// Makes all places free again; no datagram may refer to them any more.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

/// A bound socket that no poller watches yet.
pub struct Opened {
    /// The socket.
    pub socket: Socket,
    max_size: usize,
    is_v6: bool,
    /// Whether the system reports the address that each datagram was sent to.
    reports_own: bool,
}

/// Opens a socket bound to `address`, and connected to `peer` if there is one.
pub fn open(address: Inet, peer: Option<SocketAddr>, options: &DatagramOptions) -> Result<Opened, Error> {
    options.validate()?;
    let bind = || -> io::Result<Socket> {
        let (socket, address) = socket::make(address, Type::DGRAM)?;
        socket.set_reuse_address(options.reuse_address)?;
        socket.set_reuse_port(options.reuse_port)?;
        apply(options, &socket)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let socket = bind().map_err(Error::io(format!("cannot bind {address}")))?;
    prepare(socket, &address.to_string(), peer, options)
}

/// Takes a bound socket of the user. Its file may be shared with other processes, so it is never shut down.
pub fn take(socket: Socket, peer: Option<SocketAddr>, options: &DatagramOptions) -> Result<Opened, Error> {
    options.validate()?;
    check_kind(&socket, "address", Type::DGRAM, &[Domain::IPV4, Domain::IPV6])?;
    let address = socket.local_addr().map_err(Error::io("cannot read the address of the given socket"))?;
    if !is_bound(&address) {
        return Err(Error::argument("address: the socket is not bound".into()));
    }
    for (name, is_set) in [("reuse_address", options.reuse_address), ("reuse_port", options.reuse_port)] {
        if is_set {
            return Err(Error::argument(format!("{name}=True comes too late for a socket that is bound already")));
        }
    }
    apply(options, &socket).map_err(Error::io("cannot set the options of the given socket"))?;
    prepare(socket, &text_of(&address), peer, options)
}

fn apply(options: &DatagramOptions, socket: &Socket) -> io::Result<()> {
    if options.broadcast {
        socket.set_broadcast(true)?;
    }
    options.receive_buffer_size.map_or(Ok(()), |size| socket.set_recv_buffer_size(size))?;
    options.send_buffer_size.map_or(Ok(()), |size| socket.set_send_buffer_size(size))?;
    options.device.as_ref().map_or(Ok(()), |name| socket.bind_device(Some(name.as_bytes())))
}

/// Connects a bound socket if it is to have a peer, and asks for the addresses that answers have to leave from.
fn prepare(socket: Socket, name: &str, peer: Option<SocketAddr>, options: &DatagramOptions) -> Result<Opened, Error> {
    let bound = socket.local_addr().map_err(Error::io("cannot read the bound address"))?.as_socket();
    let is_v6 = bound.is_some_and(|address| address.is_ipv6());
    if let Some(peer) = peer {
        let to = if is_v6 { mapped(peer) } else { peer };
        let context = format!("cannot connect {name} to {}", inet_text(&peer));
        socket.connect(&to.into()).map_err(Error::io(context))?;
    }
    let reports_own = bound.is_some_and(|address| address.ip().is_unspecified()) && socket.peer_addr().is_err();
    if reports_own {
        report_to(&socket, is_v6).map_err(Error::io("cannot ask for the addresses of datagrams"))?;
    }
    Ok(Opened { socket, max_size: options.max_size, is_v6, reports_own })
}

/// The datagram socket of one event handler.
pub(crate) struct DatagramSocket {
    pub socket: Socket,
    max_size: usize,
    is_v6: bool,
    reports_own: bool,
    received: VecDeque<Datagram>,
    /// Errors to report, mostly of an earlier datagram.
    errors: VecDeque<Error>,
    output: Vec<u8>,
    /// The end of each datagram in `output`, and its destination.
    queued_to: Vec<(usize, Option<Ends>)>,
    pub readable: bool,
    /// Whether the system was short of memory at the last read.
    pub short: bool,
    pub listed: bool,
    pub queued: bool,
    pub touched: bool,
    /// Whether a callback waits and keeps the next one back.
    pub held: bool,
}

/// The next thing to report to the handler.
pub(crate) enum Due {
    Datagram(Datagram),
    Error(Error),
}

impl DatagramSocket {
    pub fn new(opened: Opened) -> Self {
        let Opened { socket, max_size, is_v6, reports_own } = opened;
        Self {
            socket,
            max_size,
            is_v6,
            reports_own,
            received: VecDeque::new(),
            errors: VecDeque::new(),
            output: Vec::new(),
            queued_to: Vec::new(),
            readable: true,
            short: false,
            listed: false,
            queued: false,
            touched: false,
            held: false,
        }
    }

    /// Reads what is there, as far as there is room; returns the number of bytes.
    pub fn receive(&mut self, landing: &mut Landing) -> usize {
        match self.receive_many(landing) {
            Ok(bytes) => bytes,
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => self.readable = false,
                    _ => {
                        (self.short, self.readable) = (is_shortage(&error), !is_shortage(&error));
                        self.errors.push_back(Error::io("the last datagrams were lost")(error));
                    }
                }
                0
            }
        }
    }

    fn receive_many(&mut self, landing: &mut Landing) -> io::Result<usize> {
        let first = landing.used;
        // SAFETY: all zeroes is a valid value of these C structures: null pointers and no lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        for index in first..BATCH {
            let place = &mut landing.bytes[index * MAX_DATAGRAM..][..self.max_size];
            vectors[index] = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
            let header = &mut headers[index].msg_hdr;
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut landing.addresses[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            if self.reports_own {
                landing.controls[index].receive_by(header);
            }
        }
        let room = &mut headers[first..];
        // SAFETY: the headers, vectors, places, addresses and control messages are ours and outlive the call, and their
        // lengths are true. MSG_TRUNC makes the kernel report the whole length of a datagram that did not fit.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                room.as_mut_ptr(),
                room.len() as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_TRUNC) as _,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        let (count, mut bytes) = (count as usize, 0);
        landing.used += count;
        // A socket that returned fewer datagrams than asked was empty; the next datagram makes a new edge.
        self.readable = landing.is_full();
        for (index, header) in (first..).zip(room.iter().take(count)) {
            let size = header.msg_len as usize;
            // Only sockets of these two families are opened.
            let Some(peer) = address_at(&landing.addresses[index], header.msg_hdr.msg_namelen) else { continue };
            let peer = unmapped(peer);
            if size > self.max_size {
                self.errors.push_back(ErrorKind::Truncated { from: peer, size, limit: self.max_size }.into());
                continue;
            }
            // SAFETY: the call above has filled in the header and its control messages.
            let own = if self.reports_own { unsafe { asked(&header.msg_hdr) } } else { None };
            bytes += size;
            let place = Place::Landed { at: index * MAX_DATAGRAM, len: size };
            self.received.push_back(Datagram { from: Ends { peer, own }, place });
        }
        Ok(bytes)
    }

    pub fn has_due(&self) -> bool {
        !self.received.is_empty() || !self.errors.is_empty()
    }

    /// Takes out the next item. Errors come first, because they are about earlier datagrams.
    pub fn take_due(&mut self) -> Option<Due> {
        let error = self.errors.pop_front().map(Due::Error);
        error.or_else(|| self.received.pop_front().map(Due::Datagram))
    }

    /// Copies the datagrams that are still in the landing buffer, before the buffer is used again.
    pub fn settle(&mut self, landing: &Landing) {
        for datagram in &mut self.received {
            if let Place::Landed { .. } = datagram.place {
                datagram.place = Place::Own(datagram.bytes(landing).to_vec());
            }
        }
    }

    /// Queues a datagram for the end of the batch; returns true if the queue is so long that it should be sent at
    /// once.
    pub fn push(&mut self, data: &[u8], to: Option<Ends>) -> bool {
        self.output.extend_from_slice(data);
        self.queued_to.push((self.output.len(), to));
        self.output.len() > HIGH_WATER || self.queued_to.len() >= MOST_KEPT
    }

    /// Sends the queue; returns the number of bytes sent and the number of datagrams dropped.
    pub fn flush(&mut self) -> (usize, usize) {
        let (mut sent, mut done) = (0, 0);
        while done < self.queued_to.len() {
            match self.send_many(done) {
                Ok(count) => {
                    sent += self.bytes_of(done, done + count);
                    done += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => break,
                // The error is about the first datagram, or it is an ICMP answer to an earlier one. The first is lost
                // either way.
                Err(error) => {
                    let to = self.queued_to[done].1.map_or_else(|| "the peer".into(), |to| inet_text(&to.peer));
                    self.errors.push_back(Error::io(format!("a datagram to {to} was lost"))(error));
                    done += 1;
                }
            }
        }
        let dropped = self.queued_to.len() - done;
        self.output.clear();
        self.output.shrink_to(HIGH_WATER);
        self.queued_to.clear();
        self.queued_to.shrink_to(MOST_KEPT);
        (sent, dropped)
    }

    fn bytes_of(&self, from: usize, to: usize) -> usize {
        self.start_of(to) - self.start_of(from)
    }

    /// The place in the output where a queued datagram begins.
    fn start_of(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.queued_to[index - 1].0 }
    }

    fn send_many(&self, first: usize) -> io::Result<usize> {
        let count = BATCH.min(self.queued_to.len() - first);
        // SAFETY: all zeroes is a valid value of these C structures.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        let mut addresses: [MaybeUninit<SockAddr>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
        let mut controls = [Control::EMPTY; BATCH];
        for offset in 0..count {
            let index = first + offset;
            let (end, to) = self.queued_to[index];
            let data = &self.output[self.start_of(index)..end];
            vectors[offset] = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
            let header = &mut headers[offset].msg_hdr;
            header.msg_iov = &raw mut vectors[offset];
            header.msg_iovlen = 1;
            if let Some(Ends { peer, own }) = to {
                let address = addresses[offset].write(if self.is_v6 { mapped(peer).into() } else { peer.into() });
                header.msg_name = address.as_ptr().cast_mut().cast();
                header.msg_namelen = address.len();
                if let Some(own) = own.filter(|own| own.ip.is_ipv4() == peer.is_ipv4()) {
                    controls[offset].send_from(own, header);
                }
            }
        }
        // SAFETY: headers, vectors, data, addresses and control messages outlive the call, and the kernel only reads
        // what they point to.
        let sent = unsafe {
            // musl has another type for the flags.
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
            libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, flags)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

impl Datagram {
    /// The content of the datagram.
    pub(crate) fn bytes<'a>(&'a self, landing: &'a Landing) -> &'a [u8] {
        match &self.place {
            Place::Landed { at, len } => &landing.bytes[*at..][..*len],
            Place::Own(bytes) => bytes,
        }
    }
}

fn address_at(storage: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    // SAFETY: the kernel wrote an address of this length there; it fits because the types are the same.
    let address = unsafe {
        SockAddr::try_init(|to, to_length| {
            ptr::copy_nonoverlapping(ptr::from_ref(storage), to.cast(), 1);
            *to_length = length;
            Ok(())
        })
    };
    address.ok()?.1.as_socket()
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}

/// Whether the queue of the socket or of the device has no room (sendmmsg(2)).
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}
