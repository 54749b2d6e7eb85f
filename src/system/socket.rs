//! System calls for stream sockets: options, receive and send. Listeners and outgoing connections share one list of
//! options.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{Domain, Socket, TcpKeepalive};

use crate::options::{Keepalive, SocketOptions};

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
    use socket2::Type;

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
