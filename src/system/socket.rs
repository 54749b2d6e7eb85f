//! System calls for sockets: made, taken from the user, options, receive and send. Listeners and outgoing connections
//! share one list of options.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::error::Error;
use crate::options::{Keepalive, SocketOptions};
use crate::system::address::Inet;

/// Makes a socket that is to be bound to `address`, and returns the address to bind.
///
/// An IPv6 socket takes IPv4 peers only for [`Inet::Every`]. So "[::]" and ":port" can be bound side by side. On a
/// machine without IPv6, [`Inet::Every`] is every IPv4 address.
pub(crate) fn make(address: Inet, kind: Type) -> io::Result<(Socket, SocketAddr)> {
    let is_dual = matches!(address, Inet::Every(_));
    let address = address.to_socket_address();
    match Socket::new(Domain::for_address(address), kind.nonblocking(), None) {
        Err(error) if is_dual && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            make(Inet::One((Ipv4Addr::UNSPECIFIED, address.port()).into()), kind)
        }
        Ok(socket) if address.is_ipv6() => {
            socket.set_only_v6(!is_dual)?;
            Ok((socket, address))
        }
        made => made.map(|socket| (socket, address)),
    }
}

/// Returns an error that names `argument` unless a socket of the user has this type and one of these families.
pub(crate) fn check_kind(socket: &Socket, argument: &str, kind: Type, families: &[Domain]) -> Result<(), Error> {
    let refuse =
        |why: &str| Err(Error::argument(format!("{argument}: descriptor {} {why} [GOEV308]", socket.as_raw_fd())));
    let found = match socket.r#type() {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => return refuse("is no socket"),
        found => found.map_err(Error::io("cannot read the type of the given socket"))?,
    };
    match found {
        found if found == kind => {}
        Type::DGRAM => return refuse("is a datagram socket, which Datagram.bind() takes"),
        Type::STREAM => return refuse("is a stream socket, which Acceptor and Reactor.adopt() take"),
        _ => return refuse("is neither a stream nor a datagram socket"),
    }
    let family = socket.domain().map_err(Error::io("cannot read the family of the given socket"))?;
    match families.contains(&family) {
        true => Ok(()),
        false if families.contains(&Domain::UNIX) => refuse("is neither a TCP nor a Unix socket"),
        false => refuse("is no UDP socket"),
    }
}

/// Prepares a connected stream socket of the user, and returns the address of its peer.
pub fn take_connected(socket: &Socket, options: &SocketOptions) -> Result<SockAddr, Error> {
    check_kind(socket, "sock", Type::STREAM, &[Domain::IPV4, Domain::IPV6, Domain::UNIX])?;
    if socket.is_listener().unwrap_or(false) {
        return Err(Error::argument("sock: the socket listens; an Acceptor takes such sockets [GOEV308]".into()));
    }
    let peer = socket.peer_addr().map_err(|error| match socket.take_error() {
        // The peer has reset the connection already.
        Ok(Some(reset)) => Error::io("sock: the connection has ended")(reset),
        _ if error.raw_os_error() == Some(libc::ENOTCONN) => {
            Error::argument("sock: the socket is not connected [GOEV308]".into())
        }
        _ => Error::io("cannot read the peer's address of the given socket")(error),
    })?;
    let prepared = socket.set_nonblocking(true).and_then(|()| apply(options, socket));
    prepared.map_err(Error::io("cannot set the options of the given socket"))?;
    Ok(peer)
}

/// Whether a socket of the user has an address of its own.
pub(crate) fn is_bound(address: &SockAddr) -> bool {
    match address.as_socket() {
        Some(inet) => inet.port() != 0,
        None => address.as_pathname().is_some() || address.as_abstract_namespace().is_some(),
    }
}

/// Sets the options of a socket. Accepted connections inherit them from their listener on Linux, which saves system
/// calls for each of them.
pub(crate) fn apply(options: &SocketOptions, socket: &Socket) -> io::Result<()> {
    options.receive_buffer_size.map_or(Ok(()), |size| socket.set_recv_buffer_size(size))?;
    options.send_buffer_size.map_or(Ok(()), |size| socket.set_send_buffer_size(size))?;
    if socket.domain()? == Domain::UNIX {
        return Ok(());
    }
    socket.set_tcp_nodelay(options.nodelay)?;
    options.keepalive.map_or(Ok(()), |keepalive| socket.set_tcp_keepalive(&to_system(keepalive)))?;
    options.device.as_ref().map_or(Ok(()), |name| socket.bind_device(Some(name.as_bytes())))
}

fn to_system(keepalive: Keepalive) -> TcpKeepalive {
    TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval).with_retries(keepalive.count)
}

/// Receives into `buffer`, as recv(2). It avoids the C library's own recv: in a process of several threads that one
/// checks before and after each call for a cancellation of the thread, and goev cancels no threads.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    let nowhere = ptr::null_mut::<libc::c_void>();
    let (fd, flags) = (libc::c_long::from(socket.as_raw_fd()), libc::c_long::from(0));
    // SAFETY: the descriptor is open for the length of the call, which writes into the buffer only.
    let count =
        unsafe { libc::syscall(libc::SYS_recvfrom, fd, buffer.as_mut_ptr(), buffer.len(), flags, nowhere, nowhere) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends from `bytes`, as send(2), and avoids the C library's own send as well. A vanished peer raises no SIGPIPE.
pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    let nowhere = ptr::null::<libc::c_void>();
    let (fd, flags) = (libc::c_long::from(socket.as_raw_fd()), libc::c_long::from(libc::MSG_NOSIGNAL));
    // SAFETY: the descriptor is open for the length of the call, which reads the bytes only.
    let count = unsafe { libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, nowhere, 0_usize) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_the_ends_are_those_of_the_system() {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair of sockets");
        ours.set_nonblocking(true).expect("a socket");
        theirs.set_nonblocking(true).expect("a socket");
        let kind = |result: io::Result<usize>| result.map_err(|error| error.kind());
        let mut buffer = [0; 8];
        assert_eq!(kind(receive(&ours, &mut buffer)), Err(io::ErrorKind::WouldBlock));
        assert_eq!(kind(send(&theirs, b"hello")), Ok(5));
        assert_eq!((kind(receive(&ours, &mut buffer[..3])), &buffer[..3]), (Ok(3), &b"hel"[..]));
        assert_eq!((kind(receive(&ours, &mut buffer)), &buffer[..2]), (Ok(2), &b"lo"[..]));
        let full = loop {
            match send(&theirs, &[0; 65_536]) {
                Ok(count) => assert!(count > 0),
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(full, io::ErrorKind::WouldBlock);
        drop(theirs);
        while matches!(receive(&ours, &mut buffer), Ok(1..)) {}
        assert_eq!(kind(receive(&ours, &mut buffer)), Ok(0));
        assert_eq!(kind(send(&ours, b"x")), Err(io::ErrorKind::BrokenPipe));
    }
}
