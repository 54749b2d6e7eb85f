//! Pipes of the kernel: bytes go from one socket to another without a copy in user space (splice(2)).
//!
//! A pipe is filled only while it is empty. So "would block" at a fill never means that the pipe is full, and at a drain
//! always that the socket is.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use socket2::Socket;

/// The bytes that a pipe takes. The kernel moves at most so many by one call, however few pages they need.
const SIZE: usize = 256 * 1024;

/// One pipe, and the number of bytes in it.
pub(crate) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

impl Pipe {
    pub fn new() -> io::Result<Self> {
        let mut ends: [RawFd; 2] = [-1; 2];
        // SAFETY: the call writes two descriptors into the array.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the two descriptors are open, and nobody else has them.
        let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        // SAFETY: the descriptor is open. The call fails if the user has many pipes; a smaller one is only slower.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, SIZE as libc::c_int) };
        Ok(Self { reader, writer, held: 0 })
    }

    /// The number of bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves bytes of a socket into the empty pipe. 0 is the end of the stream.
    ///
    /// "Would block" may also stand for an urgent byte (tcp(7)), which only a receive passes over.
    pub fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        self.held = splice(socket.as_raw_fd(), self.writer.as_raw_fd(), SIZE)?;
        Ok(self.held)
    }

    /// Moves at most `most` bytes to a socket.
    pub fn drain(&mut self, socket: &Socket, most: usize) -> io::Result<usize> {
        let moved = splice(self.reader.as_raw_fd(), socket.as_raw_fd(), self.held.min(most))?;
        self.held -= moved.min(self.held);
        Ok(moved)
    }
}

fn splice(from: RawFd, to: RawFd, most: usize) -> io::Result<usize> {
    let (nowhere, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE);
    // SAFETY: both descriptors are open for the length of the call, which uses no memory of ours.
    let moved = unsafe { libc::splice(from, nowhere, to, nowhere, most, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use socket2::{Domain, Type};

    use super::*;

    fn pair() -> (Socket, Socket) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair of sockets");
        ours.set_nonblocking(true).expect("a socket");
        theirs.set_nonblocking(true).expect("a socket");
        (ours, theirs)
    }

    #[test]
    fn bytes_pass_in_order_and_the_pipe_knows_how_many_it_holds() {
        let ((source, mut sender), (sink, mut receiver)) = (pair(), pair());
        let mut pipe = Pipe::new().expect("a pipe");
        let kind = |result: io::Result<usize>| result.map_err(|error| error.kind());
        assert_eq!(kind(pipe.fill(&source)), Err(io::ErrorKind::WouldBlock));
        sender.write_all(b"hello").expect("room");
        assert_eq!((kind(pipe.fill(&source)), pipe.held()), (Ok(5), 5));
        assert_eq!((kind(pipe.drain(&sink, 2)), pipe.held()), (Ok(2), 3));
        assert_eq!((kind(pipe.drain(&sink, 100)), pipe.held()), (Ok(3), 0));
        let mut buffer = [0; 8];
        assert_eq!((kind(receiver.read(&mut buffer)), &buffer[..5]), (Ok(5), &b"hello"[..]));
        drop(sender);
        assert_eq!((kind(pipe.fill(&source)), pipe.held()), (Ok(0), 0));
    }

    #[test]
    fn a_full_socket_leaves_the_rest_in_the_pipe() {
        let ((source, mut sender), (mut sink, receiver)) = (pair(), pair());
        while sink.write(&[0; 65_536]).is_ok() {}
        sender.write_all(b"rest").expect("room");
        let mut pipe = Pipe::new().expect("a pipe");
        assert_eq!(pipe.fill(&source).ok(), Some(4));
        assert_eq!(pipe.drain(&sink, 4).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!(pipe.held(), 4);
        drop(receiver);
        assert!(pipe.drain(&sink, 4).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock));
    }
}
