//! The options of stream sockets, applied: one list for listeners and outgoing connections.

use std::io;

use socket2::{Domain, Socket, TcpKeepalive};

use crate::options::{Keepalive, SocketOptions};

/// Linux hands these options of a listener on to the connections it accepts, which saves system calls for each.
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
