//! The PROXY protocol without Python and without TLS: an acceptor of Rust handlers behind a proxy, and a connector that is
//! one.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use goev::handlers::{Context, Factory, Handler, Handlers};
use goev::proxy::{Announcement, Named, Trusted, Version};
use goev::reactor::Reactor;
use goev::shared::acceptor::{Acceptor, Endpoint, Service};
use goev::shared::remote::Remote;
use goev::sources::connector::Request;
use goev::system::address::{Address, Target};

use common::{PATIENCE, Teller, Told, defaults, receive_exactly, tell};

/// Tells of its input.
struct Reads(Teller);

impl Handler for Reads {
    fn on_read(&mut self, connection: &Context<'_>) {
        let data = connection.read(|input| (input.to_vec(), input.len())).expect("open");
        tell(&self.0, Told::Read(data));
    }
}

/// A server behind proxies.
struct Behind {
    reactor: Arc<Reactor<Handlers>>,
    acceptor: Arc<Acceptor>,
    peers: Receiver<Option<SocketAddr>>,
    told: Receiver<Told>,
}

impl Behind {
    fn start(trusted: &str) -> Self {
        let reactor = Handlers::reactor(1).expect("a reactor");
        let ((sender, peers), (teller, told)) = (channel(), channel());
        let factory: Factory = Box::new(move |remote: &Arc<Remote>| {
            let _ = sender.send(remote.peer().inet());
            Box::new(Reads(teller.clone()))
        });
        let proxies = Some(Trusted::parse([trusted]).expect("an address"));
        let service = Service { proxies, ..Service::plain(Box::new(factory)) };
        let endpoints = vec![Endpoint::Address(Address::parse("127.0.0.1:0").expect("an address"))];
        let acceptor = Acceptor::open(reactor.handles(), None, endpoints, &defaults(), service).expect("listening");
        reactor.start().expect("threads");
        Self { reactor, acceptor, peers, told }
    }

    fn address(&self) -> SocketAddr {
        self.acceptor.addresses[0].as_socket().expect("TCP")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.reactor.stop(Duration::ZERO);
    }
}

#[test]
fn a_handler_has_the_client_for_its_peer() {
    let server = Behind::start("127.0.0.1");
    server.connect().write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\nhello").expect("sent");
    let peer = server.peers.recv_timeout(PATIENCE).expect("a handler");
    assert_eq!(peer, Some("192.0.2.1:12345".parse().expect("an address")));
    assert_eq!(server.told.recv_timeout(PATIENCE), Ok(Told::Read(b"hello".to_vec())));
}

#[test]
fn a_peer_that_is_not_trusted_or_sends_something_else_is_closed() {
    for (trusted, sent) in [("127.0.0.2", &b"PROXY UNKNOWN\r\n"[..]), ("127.0.0.1", b"GET / HTTP/1.1\r\n")] {
        let server = Behind::start(trusted);
        let mut client = server.connect();
        // The server may have closed before.
        let _ = client.write_all(sent);
        assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
        assert!(server.peers.try_recv().is_err());
    }
}

#[test]
fn a_connector_names_another_client() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let target = listener.local_addr().expect("bound").to_string();
    let ends = Named::Given(Some(("[2001:db8::1]:1".parse().expect("v6"), "192.0.2.2:80".parse().expect("v4"))));
    let request = Request {
        targets: vec![Target::parse(&target).expect("a target")],
        timeout: PATIENCE,
        since: None,
        options: Arc::default(),
        announcement: Some(Announcement { version: Version::One, ends }),
        #[cfg(feature = "tls")]
        tls: None,
    };
    let server = Behind::start("127.0.0.1");
    let (teller, _told) = channel();
    assert!(Handlers::connect(&server.reactor, 0, request, Box::new(Reads(teller))).is_ok());
    let (mut peer, _) = listener.accept().expect("accepted");
    let line = b"PROXY TCP6 2001:db8::1 ::ffff:c000:202 1 80\r\n";
    assert_eq!(receive_exactly(&mut peer, line.len()), line);
}
