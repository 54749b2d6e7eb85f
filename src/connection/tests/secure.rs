//! TLS between a socket that takes and gives as little as a test likes, and a connection that holds its output.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use crate::connection::buffer::{Head, Received};
use crate::connection::secure::{Carrier, Secure};
use crate::tls::certificates::tests::{certificate, key};
use crate::tls::client::{ClientContext, ClientSettings};
use crate::tls::server::{ServerContext, ServerSettings};
use crate::tls::settings::MinimumVersion;
use crate::tls::stream::Stream;
use crate::tls::{Failure, FailureKind};

/// One end, over a socket in memory.
struct End {
    secure: Secure,
    socket: Fake,
}

struct Fake {
    incoming: RefCell<VecDeque<u8>>,
    outgoing: RefCell<Vec<u8>>,
    /// The most bytes that one call moves.
    most: Cell<usize>,
    /// Bytes that it takes before it is full.
    room: Cell<usize>,
    /// Whether the peer has sent its FIN.
    has_ended: Cell<bool>,
}

impl Carrier for Fake {
    fn fetch(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.borrow_mut();
        let count = room.len().min(incoming.len()).min(self.most.get());
        if count == 0 && !self.has_ended.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, from) in room.iter_mut().zip(incoming.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn deliver(&self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.most.get()).min(self.room.get());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room.set(self.room.get() - count);
        self.outgoing.borrow_mut().extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

impl End {
    fn new(stream: Stream, most: usize) -> Self {
        let (room, most) = (Cell::new(usize::MAX), Cell::new(most));
        let (incoming, outgoing, has_ended) = Default::default();
        Self { secure: Secure::new(stream), socket: Fake { incoming, outgoing, most, room, has_ended } }
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        self.secure.shake_hands(&self.socket)
    }

    /// Reads with so much room each time until nothing is left.
    fn read(&mut self, room: usize) -> Vec<u8> {
        let (mut all, mut part) = (Vec::new(), vec![0; room]);
        loop {
            match self.secure.receive(&self.socket, &mut part) {
                Ok(Received { bytes: 0, .. }) => return all,
                Ok(Received { bytes, .. }) => all.extend_from_slice(&part[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends as a connection does: what is not sent is offered again. Returns the bytes that the connection still holds.
    fn send<'a>(&mut self, mut plaintext: &'a [u8]) -> &'a [u8] {
        while !plaintext.is_empty() {
            match self.secure.send(&self.socket, Head::Bytes(&[io::IoSlice::new(plaintext)]), 0) {
                Ok(sent) => {
                    assert!(sent.bytes > 0 || !sent.all);
                    plaintext = &plaintext[sent.bytes..];
                    if !sent.all {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        plaintext
    }

    fn error(&mut self) -> io::Error {
        self.secure.receive(&self.socket, &mut [0; 100]).err().expect("an error")
    }
}

/// Moves the bytes that one end has sent to the other.
fn carry(from: &End, to: &End) -> usize {
    let bytes = std::mem::take(&mut *from.socket.outgoing.borrow_mut());
    to.socket.incoming.borrow_mut().extend(&bytes);
    bytes.len()
}

/// A client and a server before their handshake, whose sockets move at most so many bytes at a time.
fn ends(version: MinimumVersion, most: usize) -> (End, End) {
    let client = ClientContext::new(ClientSettings { ca: Some(certificate()), ..Default::default() }).expect("valid");
    let mut settings = ServerSettings::new(certificate(), key());
    settings.minimum_version = version;
    let server = ServerContext::new(settings).expect("valid");
    let name = client.name_for(Some("a.example")).expect("a name");
    let client = Stream::client(client.config(), name).expect("a client");
    (End::new(client, most), End::new(Stream::server(server.config()).expect("a server"), most))
}

fn connected(most: usize) -> (End, End) {
    let (mut client, mut server) = ends(MinimumVersion::Tls13, most);
    let is_over = |shaken: io::Result<()>| match shaken {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    };
    for _ in 0..10 {
        let over = is_over(client.shake_hands());
        carry(&client, &server);
        let both = over && is_over(server.shake_hands());
        if !over {
            is_over(server.shake_hands());
        }
        carry(&server, &client);
        if both {
            // Tickets.
            assert_eq!(client.read(100), b"");
            return (client, server);
        }
    }
    panic!("the handshake does not end");
}

fn noise(count: usize) -> Vec<u8> {
    (0..count).map(|at| ((at * at) >> 3) as u8).collect()
}

#[test]
fn bytes_arrive_whole_however_few_the_sockets_move_at_once() {
    for most in [1, 7, 4096, usize::MAX] {
        let (mut client, mut server) = connected(most);
        for count in [1, 100, 16_384, 16_385, 200_000] {
            let bytes = noise(count);
            assert_eq!(client.send(&bytes), b"");
            carry(&client, &server);
            assert_eq!(server.read(260 * 1024), bytes);
            assert_eq!(server.send(&bytes), b"");
            carry(&server, &client);
            assert_eq!(client.read(1000), bytes, "with little room");
        }
    }
}

#[test]
fn plaintext_stays_with_the_connection_until_its_ciphertext_is_sent() {
    let (mut client, mut server) = connected(usize::MAX);
    let bytes = noise(300_000);
    let mut rest = &bytes[..];
    let mut got = Vec::new();
    client.socket.room.set(0);
    assert_eq!(client.send(rest).len(), rest.len());
    while !rest.is_empty() {
        client.socket.room.set(1000);
        let before = rest.len();
        rest = client.send(rest);
        assert!(before - rest.len() <= 1000, "no more than the socket took");
        carry(&client, &server);
        got.extend(server.read(5000));
    }
    assert_eq!(got, bytes);
}

#[test]
fn a_full_socket_takes_the_last_word_later() {
    let (mut client, mut server) = connected(usize::MAX);
    client.socket.room.set(3);
    let finished = client.secure.finish(&client.socket);
    assert_eq!(finished.err().map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    client.socket.room.set(usize::MAX);
    client.secure.finish(&client.socket).expect("room");
    client.secure.finish(&client.socket).expect("once is enough");
    carry(&client, &server);
    server.socket.has_ended.set(true);
    let Received { bytes, drained } = server.secure.receive(&server.socket, &mut [0; 100]).expect("an end in order");
    assert_eq!((bytes, drained), (0, true));
    // The other direction goes on.
    assert_eq!(server.send(b"still here"), b"");
    carry(&server, &client);
    assert_eq!(client.read(100), b"still here");
}

#[test]
fn a_cut_stream_is_an_error_wherever_it_is_cut() {
    for cut in 0..2 {
        let (mut client, mut server) = connected(usize::MAX);
        client.send(b"hello");
        client.socket.outgoing.borrow_mut().truncate(cut * 10);
        carry(&client, &server);
        server.socket.has_ended.set(true);
        let error = server.error();
        assert!(matches!(Failure::of(&error), Some(Failure::Truncated)), "{error}");
        assert_eq!(FailureKind::of(&error), FailureKind::Cut);
    }
}

#[test]
fn a_changed_record_is_refused_with_an_alert() {
    let (mut client, mut server) = connected(usize::MAX);
    client.send(b"hello");
    *client.socket.outgoing.borrow_mut().last_mut().expect("a record") ^= 1;
    carry(&client, &server);
    let error = server.error();
    let failure = Failure::of(&error).expect("one of TLS").describe();
    assert_eq!(failure.alert, Some("bad_record_mac"));
    carry(&server, &client);
    let told = client.error();
    assert_eq!(Failure::of(&told).expect("one of TLS").describe().alert, Some("bad_record_mac"));
}

#[test]
fn bytes_that_are_no_tls_are_refused_with_an_alert() {
    let (_, mut server) = ends(MinimumVersion::Tls12, usize::MAX);
    server.socket.incoming.borrow_mut().extend(b"GET / HTTP/1.1\r\n\r\n");
    let error = server.shake_hands().expect_err("no TLS");
    assert_eq!(FailureKind::of(&error), FailureKind::Protocol);
    assert_eq!(server.socket.outgoing.borrow().first(), Some(&21), "an alert");
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let (mut client, mut server) = connected(usize::MAX);
    client.send(&noise(100_000));
    carry(&client, &server);
    server.read(100);
    for end in [&client, &server] {
        assert_eq!(end.secure.stream.owned_memory(), 0);
    }
}

#[test]
fn an_end_behind_data_is_told_although_the_socket_is_drained() {
    let (mut client, mut server) = connected(usize::MAX);
    client.send(b"hello");
    client.secure.finish(&client.socket).expect("room");
    carry(&client, &server);
    for expected in [(5, false), (0, true)] {
        let Received { bytes, drained } = server.secure.receive(&server.socket, &mut [0; 100]).expect("no fault");
        assert_eq!((bytes, drained), expected);
    }
}

#[test]
fn a_socket_is_drained_only_if_it_was_read() {
    let (mut client, mut server) = connected(usize::MAX);
    let bytes = noise(1_000_000);
    assert_eq!(client.send(&bytes), b"");
    carry(&client, &server);
    let (mut room, mut count) = (vec![0; 30_000], 0);
    while count < bytes.len() {
        let received = server.secure.receive(&server.socket, &mut room).expect("no fault");
        count += received.bytes;
        assert!(!received.drained || server.socket.incoming.borrow().is_empty());
    }
}

#[test]
fn a_message_in_records_of_a_byte_each_is_waited_for() {
    let (mut client, mut server) = ends(MinimumVersion::Tls13, usize::MAX);
    client.shake_hands().expect_err("the server has to answer");
    let hello = std::mem::take(&mut *client.socket.outgoing.borrow_mut());
    for byte in &hello[5..] {
        server.socket.incoming.borrow_mut().extend([22, 3, 3, 0, 1, *byte]);
        let error = server.shake_hands().expect_err("the client has to go on");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
    assert_eq!(server.socket.outgoing.borrow().first(), Some(&22), "an answer");
}

#[test]
fn plaintext_before_a_fault_arrives_and_one_alert_answers() {
    let (mut client, mut server) = connected(usize::MAX);
    client.send(b"hello");
    carry(&client, &server);
    server.socket.incoming.borrow_mut().extend([23, 3, 3, 0, 20]);
    server.socket.incoming.borrow_mut().extend([0; 20]);
    let Received { bytes, drained } = server.secure.receive(&server.socket, &mut [0; 100]).expect("no fault yet");
    assert_eq!((bytes, drained), (5, false));
    for _ in 0..3 {
        let error = server.error();
        assert_eq!(Failure::of(&error).expect("one of TLS").describe().alert, Some("bad_record_mac"));
    }
    server.secure.finish(&server.socket).expect("nothing to say");
    let alert = carry(&server, &client);
    assert_eq!(alert, 5 + 2 + 1 + 16, "one record: an alert, its type and its tag");
}
