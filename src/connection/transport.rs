//! The layer between a socket and the buffers of a connection: plain bytes, or the memory of a test.
//!
//! Only this file receives from stream sockets and sends to them. A transport reports the number of bytes and whether
//! the socket is drained. It owns no buffer, and never decides when to do I/O.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;

use super::buffer::{Head, Received, Sent};
use super::memory::Memory;
#[cfg(feature = "tls")]
use super::secure::{self, Secure};
#[cfg(feature = "tls")]
use crate::error::Foreign;
use crate::system::pipe::Pipe;
use crate::system::{fork, socket};
#[cfg(feature = "tls")]
use crate::timer::TimerId;
#[cfg(feature = "tls")]
use crate::tls::stream::{Facts, Stream};

/// The place of `tcpi_snd_wnd` in the `tcp_info` of Linux 5.4 and later (linux/tcp.h); libc does not have it.
const SND_WND: Range<usize> = 228..232;

/// Looks at the bytes that a socket holds, and leaves them there.
pub(crate) fn peek(socket: &Socket, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the bytes stay initialised, because recv(2) writes nothing else over them.
    socket.peek(unsafe { &mut *(std::ptr::from_mut(room) as *mut [MaybeUninit<u8>]) })
}

/// Receives bytes that the socket is known to hold.
pub(crate) fn receive_exactly(socket: &Socket, mut room: &mut [u8]) -> io::Result<()> {
    while !room.is_empty() {
        match socket::receive(socket, room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => room = &mut room[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends a header before the stream, by one call. A socket that was just connected has room for it.
pub(crate) fn send_header(socket: &Socket, header: &[u8]) -> io::Result<()> {
    let sent = loop {
        match socket::send(socket, header) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => break sent?,
        }
    };
    if sent == header.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The transport of one connection.
pub(crate) enum Transport {
    /// Plain bytes, by a socket.
    Plain(Socket),
    /// Plain bytes, by a copy of a socket that the user may keep open.
    Shared(Socket),
    /// TLS, over a socket.
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
    /// The memory of a test, without a socket.
    Memory(Arc<Memory>),
}

/// A socket, and the TLS over it.
#[cfg(feature = "tls")]
pub(crate) struct Tls {
    pub socket: Socket,
    pub secure: Secure,
    /// Whether the user may keep a copy of the socket open.
    is_shared: bool,
    /// The handshake amid a conversation that is not over.
    upgrade: Option<Upgrade>,
}

/// A handshake amid a conversation.
#[cfg(feature = "tls")]
pub(crate) struct Upgrade {
    /// The timer of its time limit.
    pub deadline: TimerId,
    /// A value for the dispatch when it is over.
    pub done: Option<Foreign>,
}

#[cfg(feature = "tls")]
impl secure::Carrier for Socket {
    fn fetch(&self, room: &mut [u8]) -> io::Result<usize> {
        socket::receive(self, room)
    }

    fn deliver(&self, bytes: &[u8]) -> io::Result<usize> {
        socket::send(self, bytes)
    }
}

impl Transport {
    /// TLS over a socket, before its handshake.
    #[cfg(feature = "tls")]
    pub fn secured(socket: Socket, stream: Stream) -> Self {
        Self::Tls(Box::new(Tls { socket, secure: Secure::new(stream), is_shared: false, upgrade: None }))
    }

    /// The socket, if the bytes are plain.
    pub fn plain_socket(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) | Self::Shared(socket) => Some(socket),
            #[cfg(feature = "tls")]
            Self::Tls(_) => None,
            Self::Memory(_) => None,
        }
    }

    /// Whether the bytes are plain, and those of a socket.
    pub fn is_plain(&self) -> bool {
        self.plain_socket().is_some()
    }

    /// Puts TLS over a plain socket. Other transports stay as they are.
    #[cfg(feature = "tls")]
    pub fn upgraded(self, stream: Stream, upgrade: Upgrade) -> Self {
        let is_shared = matches!(self, Self::Shared(_));
        match self {
            Self::Plain(socket) | Self::Shared(socket) => {
                let (secure, upgrade) = (Secure::new(stream), Some(upgrade));
                Self::Tls(Box::new(Tls { socket, secure, is_shared, upgrade }))
            }
            other => other,
        }
    }

    /// Whether TLS protects the bytes.
    pub fn is_secure(&self) -> bool {
        !matches!(self, Self::Plain(_) | Self::Shared(_) | Self::Memory(_))
    }

    /// Whether the peer was told by an alert why the stream ends.
    pub fn has_said_why(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.secure.stream.has_failed(),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => false,
        }
    }

    /// Whether a handshake amid a conversation is not over.
    #[inline]
    pub fn is_upgrading(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.upgrade.is_some(),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => false,
        }
    }

    /// Ends the handshake amid a conversation.
    #[cfg(feature = "tls")]
    pub fn end_upgrade(&mut self) -> Option<Upgrade> {
        match self {
            Self::Tls(tls) => tls.upgrade.take(),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => None,
        }
    }

    /// The properties of the TLS; `None` for plain bytes.
    #[cfg(feature = "tls")]
    pub fn tls_facts(&self) -> Option<Facts> {
        match self {
            Self::Tls(tls) => tls.secure.stream.facts(),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => None,
        }
    }

    /// Whether its TLS resumed an earlier session.
    #[cfg(feature = "tls")]
    pub fn is_resumed(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.secure.stream.is_resumed(),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => false,
        }
    }

    /// Receives the first message of a client, and returns the name that it asks for. `WouldBlock` until it is whole.
    #[cfg(feature = "tls")]
    pub fn asked_name(&mut self) -> io::Result<Option<String>> {
        match self {
            Self::Tls(tls) => tls.secure.asked_name(&tls.socket),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => Ok(None),
        }
    }

    /// Goes on with the handshake that comes before the stream. `WouldBlock` if the peer has to send or read first.
    #[cfg(feature = "tls")]
    pub fn shake_hands(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.secure.shake_hands(&tls.socket),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// Receives once into `room`.
    #[inline(always)]
    pub fn receive(&mut self, room: &mut [u8]) -> io::Result<Received> {
        let bytes = match self {
            Self::Plain(socket) | Self::Shared(socket) => socket::receive(socket, room),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => return tls.secure.receive(&tls.socket, room),
            Self::Memory(memory) => memory.receive(room),
        }?;
        Ok(Received { bytes, drained: bytes < room.len() })
    }

    /// Receives once into uninitialised memory.
    pub fn receive_uninit(&mut self, room: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
        if let Self::Plain(socket) | Self::Shared(socket) = self {
            let bytes = socket.recv(room)?;
            return Ok(Received { bytes, drained: bytes < room.len() });
        }
        // These write into memory that is initialised.
        room.fill(MaybeUninit::new(0));
        // SAFETY: all bytes of the slice were just written.
        self.receive(unsafe { &mut *(std::ptr::from_mut(room) as *mut [u8]) })
    }

    /// Moves bytes into an empty pipe. Only a plain socket can. It never tells whether the socket is drained.
    pub fn fill(&self, pipe: &mut Pipe) -> io::Result<Received> {
        let socket = self.plain_socket().ok_or(io::ErrorKind::Unsupported)?;
        pipe.fill(socket).map(|bytes| Received { bytes, drained: false })
    }

    /// Sends the head of a queue by one system call; at most `file_budget` bytes of a file or a pipe.
    pub fn send(&mut self, head: Head<'_>, file_budget: usize) -> io::Result<Sent> {
        match self {
            Self::Plain(socket) | Self::Shared(socket) => send(socket, head, file_budget),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.secure.send(&tls.socket, head, file_budget),
            Self::Memory(memory) => memory.send(head, file_budget),
        }
    }

    /// Sends what belongs behind the last output. `WouldBlock` if the socket is full.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.secure.finish(&tls.socket),
            Self::Plain(_) | Self::Shared(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// Shuts down our side of the stream.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        // Fails only on a socket that is full or has failed, and then the peer learns of the end by that.
        let _ = self.finish();
        match self {
            Self::Plain(socket) | Self::Shared(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.socket.shutdown(Shutdown::Write),
            Self::Memory(memory) => {
                memory.finish();
                Ok(())
            }
        }
    }

    /// The pending error of the socket.
    pub fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Plain(socket) | Self::Shared(socket) => socket.take_error().ok().flatten(),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.socket.take_error().ok().flatten(),
            Self::Memory(memory) => memory.take_error(),
        }
    }

    /// Bytes that the kernel holds for the peer (SIOCOUTQ, tcp(7) and unix(7)). If they are not known, the result is
    /// as if the peer had taken none.
    pub fn unsent(&self) -> usize {
        let Some(socket) = self.socket() else { return 0 };
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open for the length of the call, which writes only one int of ours.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if result == 0 { usize::try_from(bytes).unwrap_or(usize::MAX) } else { usize::MAX }
    }

    /// The bytes for which the peer has room beyond those that it has acknowledged: its receive window (TCP_INFO, tcp(7)).
    /// 0 if it is not known, as on a Unix socket.
    pub fn window(&self) -> usize {
        let Some(socket) = self.socket() else { return 0 };
        let mut info = [0_u8; SND_WND.end];
        let mut length = info.len() as libc::socklen_t;
        // SAFETY: the descriptor is open for the length of the call, which writes at most `length` bytes into `info`.
        let result = unsafe {
            let info = (&raw mut info).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info, &raw mut length)
        };
        // The field keeps its zeroes if the call fails, or if the kernel is too old to know it.
        let window = info[SND_WND].try_into().map(u32::from_ne_bytes).unwrap_or(0);
        if result == 0 { window as usize } else { 0 }
    }

    /// The socket; `None` in a test.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) | Self::Shared(socket) => Some(socket),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Some(&tls.socket),
            Self::Memory(_) => None,
        }
    }

    /// The descriptor that the poll watches.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.socket().map(AsRawFd::as_raw_fd)
    }

    /// Makes the poll report input, and with `writes` also room for output, under `token`.
    pub fn register(&self, registry: &Registry, token: Token, writes: bool) -> io::Result<()> {
        let Some(fd) = self.descriptor() else { return Ok(()) };
        registry.register(&mut SourceFd(&fd), token, interests(writes))
    }

    /// As [`Self::register`], for a transport that is registered already.
    pub fn reregister(&self, registry: &Registry, token: Token, writes: bool) -> io::Result<()> {
        let Some(fd) = self.descriptor() else { return Ok(()) };
        registry.reregister(&mut SourceFd(&fd), token, interests(writes))
    }

    /// Closes in order, and leaves the poll. The drop closes the descriptor afterwards, so no event can reach a later
    /// socket with the same number.
    pub fn close(&mut self, registry: &Registry) {
        let _ = self.finish();
        match self {
            Self::Plain(_) | Self::Shared(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.secure.discard_late_input(&tls.socket),
            Self::Memory(memory) => return memory.finish(),
        }
        self.deregister(registry);
        if let Some(socket) = self.socket().filter(|_| self.has_copies()) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// As [`Self::close`], but resets the peer, so that it does not take the end for an orderly one (RFC 9293 section
    /// 3.10.5).
    pub fn reset(&self, registry: &Registry) {
        if let Self::Memory(memory) = self {
            return memory.reset();
        }
        self.deregister(registry);
        if let Some(socket) = self.socket() {
            reset(socket, self.has_copies());
        }
    }

    /// Whether others may hold copies of the socket: children of a fork, or the user. Then closing our copy does not
    /// notify the peer.
    fn has_copies(&self) -> bool {
        let is_shared = match self {
            Self::Plain(_) | Self::Memory(_) => false,
            Self::Shared(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.is_shared,
        };
        is_shared || fork::has_children()
    }

    /// Leaves the poll.
    pub fn deregister(&self, registry: &Registry) {
        if let Some(fd) = self.descriptor() {
            // Fails only if it is not registered, which is the goal.
            let _ = registry.deregister(&mut SourceFd(&fd));
        }
    }
}

fn interests(writes: bool) -> Interest {
    if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

/// Makes the close of a socket a reset. Each way fails only on a socket that has failed already, or on a Unix socket,
/// which has no resets.
fn reset(socket: &Socket, has_copies: bool) {
    if !has_copies {
        let _ = socket.set_linger(Some(Duration::ZERO));
    } else if disconnect(socket).is_err() {
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// Resets a TCP connection, even if other processes hold copies of its socket (connect(2), AF_UNSPEC).
fn disconnect(socket: &Socket) -> io::Result<()> {
    // SAFETY: the address is zeroed memory of ours, of the given length; AF_UNSPEC needs only the family of it.
    let result = unsafe {
        let mut nowhere: libc::sockaddr = std::mem::zeroed();
        nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
        libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn send(socket: &Socket, head: Head<'_>, file_budget: usize) -> io::Result<Sent> {
    match head {
        Head::Bytes([one]) => {
            socket::send(socket, one).map(|bytes| Sent { bytes, all: bytes == one.len(), from_file: false })
        }
        Head::Bytes(slices) => {
            let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
            socket.send_vectored_with_flags(slices, libc::MSG_NOSIGNAL).map(|bytes| Sent {
                bytes,
                all: bytes == wanted,
                from_file: false,
            })
        }
        Head::File(range) => {
            let count = usize::try_from(range.remaining).unwrap_or(usize::MAX).min(file_budget);
            let mut offset = range.offset as libc::off_t;
            // SAFETY: both descriptors are open for the length of the call, and the call writes only our own
            // `offset`.
            let sent = unsafe { libc::sendfile(socket.as_raw_fd(), range.file.as_raw_fd(), &raw mut offset, count) };
            match sent {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was being sent")),
                1.. => Ok(Sent { bytes: sent as usize, all: false, from_file: true }),
                _ => Err(io::Error::last_os_error()),
            }
        }
        // Like a file it is never offered whole: only a full socket ends the attempts.
        Head::Piped(pipe) => match pipe.drain(socket, file_budget)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            bytes => Ok(Sent { bytes, all: false, from_file: true }),
        },
    }
}
