//! The core without Python: a reactor driven by Rust handlers, against real sockets.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use goev::data::Data;
use goev::error::{Error, ErrorKind, Reason};
use goev::handlers::{Context, Handler, Handlers};
use goev::options::AcceptorOptions;
use goev::poller::Poller;
use goev::protocols::Wire;
use goev::protocols::framing::{Frames, Framing};
use goev::protocols::http::{Event, Http, Limits, Then};
use goev::protocols::websocket::{Item, Opcode, Settings, WebSocket, close_payload, frame};
use goev::shared::acceptor::{Acceptor, Endpoint, Service};
use goev::sources::connector::Request;
use goev::system::address::{Address, Target};
use goev::timer::TimerId;
use socket2::{Domain, Socket, Type};

use common::{PATIENCE, Server, Teller, Told, defaults, name, receive_exactly, tell};

/// Echoes, and tells everything.
struct Echo(Teller);

impl Handler for Echo {
    fn on_open(&mut self, connection: &Context<'_>) {
        tell(&self.0, Told::Open(thread::current().id(), connection.token));
    }
    fn on_read(&mut self, connection: &Context<'_>) {
        let data = connection.read(|input| (input.to_vec(), input.len())).expect("open");
        connection.write(&data).expect("open");
        tell(&self.0, Told::Read(data));
    }
    fn on_eof(&mut self, connection: &Context<'_>) {
        tell(&self.0, Told::Eof);
        connection.close();
    }
    fn on_drain(&mut self, _: &Context<'_>) {
        tell(&self.0, Told::Drain);
    }
    fn on_timer(&mut self, _: &Context<'_>, _: TimerId) {
        tell(&self.0, Told::Timer);
    }
    fn on_connect_fail(&mut self, error: &Error) {
        tell(&self.0, Told::ConnectFail(error.to_string()));
    }
    fn on_close(&mut self, reason: Reason) {
        tell(&self.0, Told::Close(name(&reason)));
    }
}

fn echo_server(pollers: usize, address: &str, options: &AcceptorOptions) -> Server {
    Server::start(pollers, address, options, |teller, _| Box::new(Echo(teller)))
}

#[test]
fn an_echo_begins_with_open_and_ends_with_close() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let mut client = server.connect();
    client.write_all(b"hello").expect("sent");
    assert_eq!(receive_exactly(&mut client, 5), b"hello");
    client.shutdown(Shutdown::Write).expect("finished");
    assert_eq!(client.read_to_end(&mut Vec::new()).expect("orderly"), 0);
    server.opened();
    assert_eq!(server.until(&Told::Close("orderly")), [Told::Read(b"hello".to_vec()), Told::Eof]);
}

#[test]
fn every_kind_of_address_serves() {
    let path = std::env::temp_dir().join(format!("goev-core-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    for address in ["127.0.0.1:0", ":0", "[::1]:0"] {
        let server = echo_server(1, address, &defaults());
        let mut target = server.address();
        if target.ip().is_unspecified() {
            target.set_ip([127, 0, 0, 1].into());
        }
        let mut client = TcpStream::connect(target).expect(address);
        client.write_all(b"x").expect("sent");
        assert_eq!(receive_exactly(&mut client, 1), b"x");
    }
    let server = echo_server(1, &unix, &defaults());
    let mut client = UnixStream::connect(&path).expect("connected");
    client.write_all(b"x").expect("sent");
    assert_eq!(receive_exactly(&mut client, 1), b"x");
    assert_eq!(server.stop(Duration::from_secs(1)), Ok(()));
    assert!(!path.exists(), "the path stays after the stop");
}

#[test]
fn much_data_comes_back_whole_through_back_pressure() {
    let mut options = defaults();
    options.socket.send_buffer_size = Some(8192);
    options.connection.high_water = 10_000;
    options.connection.low_water = 1000;
    let server = echo_server(1, "127.0.0.1:0", &options);
    let client = server.connect();
    let data: Vec<u8> = (0..10_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut sending, sent) = (client.try_clone().expect("a copy"), data.clone());
    let sender = thread::spawn(move || sending.write_all(&sent).expect("sent"));
    assert!(receive_exactly(&mut &client, data.len()) == data, "the echo differs");
    sender.join().expect("no panic");
    drop(client);
    assert!(server.until(&Told::Close("orderly")).contains(&Told::Drain), "there was no back-pressure");
}

#[test]
fn connections_are_dealt_in_turn_or_stay_where_they_were_accepted() {
    let server = echo_server(3, "127.0.0.1:0", &defaults());
    let clients: Vec<_> = (0..6).map(|_| server.connect()).collect();
    let mut threads: Vec<_> = clients.iter().map(|_| format!("{:?}", server.opened().0)).collect();
    threads.sort();
    let each: Vec<_> = threads.chunk_by(|a, b| a == b).map(<[String]>::len).collect();
    assert_eq!(each, [2, 2, 2]);

    for cpu_steering in [false, true] {
        let options = AcceptorOptions { reuse_port: true, cpu_steering, ..defaults() };
        let server = echo_server(2, "127.0.0.1:0", &options);
        for _ in 0..40 {
            let mut client = server.connect();
            client.write_all(b"x").expect("sent");
            assert_eq!(receive_exactly(&mut client, 1), b"x");
        }
    }
}

#[test]
fn another_reactor_may_own_the_connections() {
    let (sender, told) = channel();
    let (accepting, serving) = (Handlers::reactor(1).expect("one"), Handlers::reactor(2).expect("two"));
    let endpoints = vec![Endpoint::Address(Address::parse("127.0.0.1:0").expect("an address"))];
    let factory: goev::handlers::Factory = Box::new(move |_| Box::new(Echo(sender.clone())));
    let acceptor = Acceptor::open(
        accepting.handles(),
        Some(serving.handles()),
        endpoints,
        &defaults(),
        Service::plain(Box::new(factory)),
    )
    .expect("listening");
    accepting.start().expect("threads");
    serving.start().expect("threads");
    let address = acceptor.addresses[0].as_socket().expect("TCP");
    let _clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).expect("connected")).collect();
    for _ in 0..4 {
        assert!(matches!(told.recv_timeout(PATIENCE), Ok(Told::Open(..))));
    }
    let opened = |handle: &Arc<goev::shared::handle::PollerHandle>| handle.counters.accepted.get();
    assert_eq!(serving.handles().iter().map(opened).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(accepting.handles().iter().map(opened).sum::<u64>(), 0);
    accepting.stop(Duration::ZERO);
    serving.stop(Duration::ZERO);
}

#[test]
fn a_reset_delivers_what_came_before_it() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let mut client = server.connect();
    server.opened();
    client.write_all(b"last words").expect("sent");
    assert_eq!(server.next(), Told::Read(b"last words".to_vec()));
    // Unread input makes the kernel reset at close.
    thread::spawn(move || {
        client.peek(&mut [0]).expect("the echo");
        drop(client);
    });
    assert_eq!(server.until(&Told::Close("io")), []);
}

#[test]
fn input_that_nobody_reads_ends_the_connection_at_its_limit() {
    struct Deaf(Teller);
    impl Handler for Deaf {
        fn on_close(&mut self, reason: Reason) {
            tell(&self.0, Told::Close(name(&reason)));
        }
    }
    let mut options = defaults();
    options.connection.max_input = 1000;
    let server = Server::start(1, "127.0.0.1:0", &options, |teller, _| Box::new(Deaf(teller)));
    let mut client = server.connect();
    client.write_all(&[0; 999]).expect("sent");
    assert!(server.told.recv_timeout(Duration::from_millis(100)).is_err(), "ended below the limit");
    client.write_all(&[0; 2]).expect("sent");
    assert_eq!(server.next(), Told::Close("input overflow"));
}

/// Tells each line, and sends it back.
struct Lines(Teller);

impl Handler for Lines {
    fn on_open(&mut self, connection: &Context<'_>) {
        let lines = Framing::delimited(b"\n", 8).expect("it is valid");
        connection.speak(Frames::new(Arc::new(lines))).expect("open");
    }
    fn on_news(&mut self, connection: &Context<'_>) {
        let taken = connection.with::<Frames, _>(|frames, wire| frames.take(wire, <[u8]>::to_vec));
        let Some(message) = taken.flatten() else { return };
        connection.write(&[&message[..], b"\n"].concat()).expect("open");
        tell(&self.0, Told::Read(message));
    }
    fn on_close(&mut self, reason: Reason) {
        tell(&self.0, Told::Close(name(&reason)));
    }
}

#[test]
fn messages_come_whole_and_what_is_none_ends_the_connection_behind_the_answers() {
    let server = Server::start(1, "127.0.0.1:0", &defaults(), |teller, _| Box::new(Lines(teller)));
    let mut client = server.connect();
    client.write_all(b"one\ntw").expect("sent");
    assert_eq!(server.next(), Told::Read(b"one".to_vec()));
    client.write_all(b"o\nthis is too long").expect("sent");
    assert_eq!(server.next(), Told::Read(b"two".to_vec()));
    assert_eq!(server.next(), Told::Close("framing"));
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).expect("an end in order");
    assert_eq!(answers, b"one\ntwo\n");
}

/// Speaks a protocol, and has forgotten its `on_news`.
struct Forgetful(Teller);

impl Handler for Forgetful {
    fn on_open(&mut self, connection: &Context<'_>) {
        let lines = Framing::delimited(b"\n", 8).expect("it is valid");
        connection.speak(Frames::new(Arc::new(lines))).expect("open");
    }
    fn on_close(&mut self, reason: Reason) {
        tell(&self.0, Told::Close(name(&reason)));
    }
}

#[test]
fn a_handler_without_an_on_news_fails_instead_of_being_called_for_ever() {
    let server = Server::start(1, "127.0.0.1:0", &defaults(), |teller, _| Box::new(Forgetful(teller)));
    server.connect().write_all(b"one\n").expect("sent");
    assert_eq!(server.next(), Told::Close("raised"));
}

/// Hands its connection over to an [`Echo`] at the first byte, which it leaves unread.
struct HandsOver(Teller);

impl Handler for HandsOver {
    fn on_read(&mut self, connection: &Context<'_>) {
        let before = connection.remote().expect("open").token();
        let remote = connection.hand_over(Box::new(Echo(self.0.clone()))).expect("open");
        assert!(remote.token() != before && connection.remote().is_none());
        assert!(connection.hand_over(Box::new(Echo(self.0.clone()))).is_err());
    }
    fn on_close(&mut self, reason: Reason) {
        tell(&self.0, Told::Close(name(&reason)));
    }
}

#[test]
fn a_handler_hands_its_connection_over_with_the_input_that_waits() {
    let server = Server::start(1, "127.0.0.1:0", &defaults(), |teller, _| Box::new(HandsOver(teller)));
    let mut client = server.connect();
    client.write_all(b"x").expect("sent");
    assert_eq!(server.next(), Told::Close("orderly"));
    assert!(matches!(server.next(), Told::Open(..)));
    assert_eq!(server.next(), Told::Read(b"x".to_vec()));
    assert_eq!(receive_exactly(&mut client, 1), b"x");
    drop(client);
    assert_eq!(server.next(), Told::Eof);
}

/// Answers requests with what they asked for, but `/chat` by a WebSocket that echoes bytes.
struct Web(Teller);

const CLIENT: Settings = Settings { client: true, max_message: 1000, deflate: None };
const SERVER: Settings = Settings { client: false, ..CLIENT };

impl Handler for Web {
    fn on_open(&mut self, connection: &Context<'_>) {
        connection.speak(Http::new(Arc::new(Limits::default()), false)).expect("open");
    }
    fn on_news(&mut self, connection: &Context<'_>) {
        if connection.with::<Http, _>(answer_by_target) == Some(true) {
            connection.speak(WebSocket::new(Arc::new(SERVER))).expect("open");
        }
        let came = connection.with::<WebSocket, _>(|socket, wire| {
            socket.take(wire, |item| match item {
                Item::Text(text) => Some(text.as_bytes().to_vec()),
                Item::Binary(bytes) => Some(bytes.to_vec()),
                Item::Ping(_) | Item::Pong(_) | Item::Close { .. } => None,
            })
        });
        if let Some(Some(Some(message))) = came {
            connection.write(&framed(Opcode::Binary, &message, &SERVER)).expect("open");
            tell(&self.0, Told::Read(message));
        }
    }
    fn on_close(&mut self, reason: Reason) {
        tell(&self.0, Told::Close(name(&reason)));
    }
}

/// Answers the next request; true when a WebSocket follows.
fn answer_by_target(http: &mut Http, wire: &mut dyn Wire) -> bool {
    let came = http.take(wire, |number, event| match event {
        Event::Request { head, facts, body } => {
            (number, head[facts.method() + 1..facts.target()].to_vec(), body.unwrap_or_default().to_vec())
        }
        Event::Body(_) | Event::End => panic!("bodies come whole"),
    });
    let Some((number, target, body)) = came else { return false };
    if target == b"/chat" {
        let switch = Data::Bytes(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        http.answer(number, [switch], Then::Switch, wire).expect("open");
        return true;
    }
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", target.len()).into_bytes();
    answer.extend_from_slice(&target);
    answer.extend_from_slice(&body);
    http.answer(number, [Data::Bytes(&answer)], Then::Next, wire).expect("open");
    false
}

fn framed(opcode: Opcode, payload: &[u8], settings: &Settings) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(opcode, payload, settings, settings.client.then_some([1, 2, 3, 4]), &mut bytes);
    bytes
}

#[test]
fn requests_are_answered_and_one_begins_a_websocket() {
    let server = Server::start(1, "127.0.0.1:0", &defaults(), |teller, _| Box::new(Web(teller)));
    for (last, said, reason) in [
        (framed(Opcode::Close, &close_payload(3000, "bye"), &CLIENT), 3000_u16, "orderly"),
        (framed(Opcode::Binary, &[0; 1001], &CLIENT), 1009, "websocket"),
        (framed(Opcode::Text, b"not masked", &SERVER), 1002, "websocket"),
    ] {
        let mut client = server.connect();
        client.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let answers = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n/aHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n/b";
        assert_eq!(receive_exactly(&mut client, answers.len()), answers.as_bytes());
        let mut chat = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec();
        chat.extend(framed(Opcode::Text, b"right behind", &CLIENT));
        chat.extend(framed(Opcode::Ping, b"there?", &CLIENT));
        chat.extend(last);
        client.write_all(&chat).expect("sent");
        let mut expected = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        expected.extend(framed(Opcode::Binary, b"right behind", &SERVER));
        expected.extend(framed(Opcode::Pong, b"there?", &SERVER));
        assert_eq!(receive_exactly(&mut client, expected.len()), expected);
        let mut farewell = Vec::new();
        client.read_to_end(&mut farewell).expect("an end in order");
        assert_eq!((farewell[0], &farewell[2..4]), (0x88, &said.to_be_bytes()[..]));
        assert_eq!(server.next(), Told::Read(b"right behind".to_vec()));
        assert_eq!(server.next(), Told::Close(reason));
    }
}

#[test]
fn what_is_no_request_is_refused_behind_the_answers() {
    let server = Server::start(1, "127.0.0.1:0", &defaults(), |teller, _| Box::new(Web(teller)));
    let mut client = server.connect();
    client.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET  /b HTTP/1.1\r\n\r\n").expect("sent");
    let mut answers = String::new();
    client.read_to_string(&mut answers).expect("an end in order");
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n/aHTTP/1.1 400 Bad Request\r\n";
    assert!(answers.starts_with(both), "{answers}");
    assert_eq!(server.next(), Told::Close("http"));
}

#[test]
fn timers_fire_on_the_poller_in_order_and_never_early() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let _client = server.connect();
    let (_, token) = server.opened();
    let began = Instant::now();
    server.call(0, move |poller| {
        for delay in [30u64, 10, 20] {
            poller.set_timer(poller.now() + delay * 1_000_000, 0, Some(token)).expect("open");
        }
    });
    for least in [10, 20, 30] {
        assert_eq!(server.next(), Told::Timer);
        assert!(began.elapsed() >= Duration::from_millis(least));
    }
}

#[test]
fn a_stop_sends_what_is_queued_and_closes_everything() {
    struct Talks(Teller);
    impl Handler for Talks {
        fn on_open(&mut self, connection: &Context<'_>) {
            connection.write(&vec![b'x'; 5_000_000]).expect("open");
            tell(&self.0, Told::Open(thread::current().id(), connection.token));
        }
        fn on_close(&mut self, reason: Reason) {
            tell(&self.0, Told::Close(name(&reason)));
        }
    }
    let server = Server::start(2, "127.0.0.1:0", &defaults(), |teller, _| Box::new(Talks(teller)));
    let (mut reader, _sleeper) = (server.connect(), server.connect());
    server.opened();
    server.opened();
    server.reactor.stop(Duration::from_millis(500));
    assert_eq!(receive_exactly(&mut reader, 5_000_000).len(), 5_000_000);
    let mut ends = [server.until(&Told::Close("orderly")).len(), server.until(&Told::Close("aborted")).len()];
    ends.sort_unstable();
    assert_eq!(ends, [0, 0]);
    drop(reader);
    assert_eq!(server.join(), Ok(()));
    assert!(TcpListener::bind(server.address()).is_ok(), "somebody still listens");
}

#[test]
fn a_panic_ends_the_reactor_and_is_reported() {
    let server = echo_server(2, "127.0.0.1:0", &defaults());
    server.call(0, |_| panic!("of the test"));
    let reported = server.join();
    assert_eq!(reported, Err("a poller panicked: of the test".into()));
}

/// A later poller may have the memory of the one that panicked here.
#[test]
fn a_thread_that_has_run_a_poller_until_a_panic_wakes_the_next_ones() {
    for _ in 0..10 {
        let reactor = Handlers::reactor(1).expect("a reactor");
        assert!(Handlers::call_soon(&reactor, 0, Box::new(|_: &Poller| panic!("of the test"))).is_ok());
        assert!(reactor.run(|_| Ok(()), &mut || Ok(())).is_err());
        drop(reactor);
        let server = echo_server(1, "127.0.0.1:0", &defaults());
        let _client = server.connect();
        server.opened();
        (0..10).for_each(|_| server.ask(0, |_| ()));
    }
}

#[test]
fn a_callback_that_does_not_return_makes_join_give_up() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let (release, released) = channel::<()>();
    server.call(0, move |_| {
        let _ = released.recv_timeout(PATIENCE);
    });
    let reported = server.stop(Duration::ZERO);
    assert_eq!(reported, Err("1 of 1 pollers have not stopped in time".into()));
    drop(release);
    assert_eq!(server.join(), Ok(()));
}

#[test]
fn a_reactor_runs_once() {
    let reactor = Handlers::reactor(1).expect("a reactor");
    reactor.start().expect("threads");
    assert!(reactor.start().is_err_and(|error| matches!(error.kind(), ErrorKind::State(_))));
    reactor.stop(Duration::ZERO);
    assert!(reactor.join(Some(PATIENCE), &mut || Ok(())).is_ok());
    assert!(reactor.start().is_err_and(|error| matches!(error.kind(), ErrorKind::State(_))));
    assert!(Handlers::listen(&reactor, "127.0.0.1:0", &defaults(), Box::new(|_| unreachable!())).is_err());
}

#[test]
fn pollers_are_counted_from_1_to_1024() {
    for pollers in [0, 1025] {
        let error = Handlers::reactor(pollers).err().map(|error| error.to_string());
        assert_eq!(error, Some(format!("pollers must be from 1 to 1024, not {pollers}")));
    }
}

/// Connects an `Echo` to the first of `targets` that answers; what it is told comes out of the receiver.
fn dial(server: &Server, targets: &[String], timeout: Duration) -> Receiver<Told> {
    let (sender, told) = channel();
    let targets = targets.iter().map(|target| Target::parse(target).expect("a target")).collect();
    let request = Request {
        targets,
        timeout,
        since: None,
        options: Arc::default(),
        announcement: None,
        #[cfg(feature = "tls")]
        tls: None,
    };
    let handler = Box::new(Echo(sender));
    assert!(Handlers::connect(&server.reactor, 0, request, handler).is_ok());
    told
}

/// An address that never answers: a listener whose backlog is full drops what else arrives.
fn black_hole() -> (Socket, Vec<TcpStream>, String) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("bound");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound").as_socket().expect("TCP");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    (listener, queued, address.to_string())
}

fn nobody() -> String {
    // Bound and not listening: refused for as long as it is held.
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    socket.local_addr().expect("bound").to_string()
}

#[test]
fn an_outgoing_connection_lives_like_an_accepted_one() {
    let server = echo_server(2, "127.0.0.1:0", &defaults());
    for target in [server.address().to_string(), format!("localhost:{}", server.address().port())] {
        let told = dial(&server, &[target], PATIENCE);
        assert!(matches!(told.recv_timeout(PATIENCE), Ok(Told::Open(..))));
        let Told::Open(_, _) = server.next() else { panic!("the other end opens first") };
    }
}

#[test]
fn a_connection_that_cannot_be_made_is_told_once_and_why() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let address = nobody();
    for (target, why) in [
        (address.clone(), format!("cannot connect to {address}: Connection refused")),
        ("unix:/nonexistent/socket".into(), "cannot connect to unix:/nonexistent/socket: No such file".into()),
        ("no-such-host.invalid:80".into(), "cannot look up no-such-host.invalid: ".into()),
    ] {
        let told = dial(&server, &[target], PATIENCE);
        let Ok(Told::ConnectFail(error)) = told.recv_timeout(PATIENCE) else { panic!("it fails") };
        assert!(error.starts_with(&why), "{error}");
        assert!(told.recv().is_err(), "the handler is let go of, and nothing else is called");
    }
}

#[test]
fn who_does_not_answer_is_given_up_in_time() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let (_listener, _queued, address) = black_hole();
    let (timeout, began) = (Duration::from_millis(300), Instant::now());
    let told = dial(&server, std::slice::from_ref(&address), timeout);
    let failure = told.recv_timeout(PATIENCE);
    let late = began.elapsed().saturating_sub(timeout);
    let expected = format!("cannot connect to {address} within 0.3 s: Connection timed out (os error 110)");
    assert_eq!(failure, Ok(Told::ConnectFail(expected)));
    assert!(began.elapsed() >= timeout && late < Duration::from_millis(50), "{late:?} late");
}

#[test]
fn the_next_address_is_tried_at_once_after_a_failure_and_soon_beside_a_silent_one() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let (_listener, _queued, silent) = black_hole();
    let good = server.address().to_string();
    for (first, at_least, at_most) in [(nobody(), 0, 100), (silent, 250, 400)] {
        let began = Instant::now();
        let told = dial(&server, &[first, good.clone()], PATIENCE);
        assert!(matches!(told.recv_timeout(PATIENCE), Ok(Told::Open(..))));
        let taken = began.elapsed().as_millis();
        assert!((at_least..at_most).contains(&taken), "{taken} ms");
    }
}

#[test]
fn a_stop_tells_who_is_still_connecting() {
    let server = echo_server(1, "127.0.0.1:0", &defaults());
    let (_listener, _queued, silent) = black_hole();
    let told = dial(&server, &[silent], PATIENCE);
    server.reactor.stop(Duration::from_secs(1));
    let Ok(Told::ConnectFail(error)) = told.recv_timeout(PATIENCE) else { panic!("it is told") };
    assert!(error.contains("the reactor stops"), "{error}");
}
