//! A server of Rust handlers on real sockets, as the tests of the core share it.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use goev::error::Reason;
use goev::handlers::{Handler, Handlers, Task};
use goev::options::AcceptorOptions;
use goev::poller::Poller;
use goev::reactor::{Outcome, Reactor};
use goev::shared::acceptor::Acceptor;
use goev::shared::remote::Remote;
use goev::slots::Token;

/// The longest that a test waits for something that has to come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An event that a handler reports to its test.
#[derive(Debug, PartialEq)]
pub enum Told {
    Open(thread::ThreadId, Token),
    Read(Vec<u8>),
    Eof,
    Drain,
    Timer,
    ConnectFail(String),
    Close(&'static str),
}

pub type Teller = Sender<Told>;

pub fn tell(teller: &Teller, told: Told) {
    // A test that has seen enough drops its end.
    let _ = teller.send(told);
}

/// A word for a reason; that of a protocol is the protocol's name.
pub fn name(reason: &Reason) -> &'static str {
    match reason {
        Reason::Orderly => "orderly",
        Reason::Io(_) => "io",
        Reason::Aborted => "aborted",
        Reason::InputOverflow { .. } => "input overflow",
        Reason::OutputOverflow { .. } => "output overflow",
        Reason::Raised(_) => "raised",
        Reason::Given(_) => "given",
        Reason::Unframed(_) => "unframed",
        Reason::Expired(_) => "expired",
        Reason::NoMemory => "no memory",
        Reason::Protocol(violation) => violation.protocol,
    }
}

/// A running reactor, stopped at the end of the test.
pub struct Server {
    pub reactor: Arc<Reactor<Handlers>>,
    acceptor: Arc<Acceptor>,
    pub told: Receiver<Told>,
}

impl Server {
    /// Listens on `address` for handlers that `make` makes of a connection's address.
    pub fn start(
        pollers: usize,
        address: &str,
        options: &AcceptorOptions,
        make: impl Fn(Teller, &Arc<Remote>) -> Box<dyn Handler> + Send + Sync + 'static,
    ) -> Self {
        let (teller, told) = channel();
        let reactor = Handlers::reactor(pollers).expect("a reactor");
        let factory = Box::new(move |remote: &Arc<_>| make(teller.clone(), remote));
        let acceptor = Handlers::listen(&reactor, address, options, factory).expect("listening");
        reactor.start().expect("threads");
        Self { reactor, acceptor, told }
    }

    pub fn address(&self) -> SocketAddr {
        self.acceptor.addresses[0].as_socket().expect("TCP")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// The next thing that a handler told.
    pub fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("nothing more was told")
    }

    pub fn opened(&self) -> (thread::ThreadId, Token) {
        match self.next() {
            Told::Open(thread, token) => (thread, token),
            other => panic!("{other:?} before open"),
        }
    }

    /// Everything that was told before `wanted`.
    pub fn until(&self, wanted: &Told) -> Vec<Told> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                told if told == *wanted => return before,
                told => before.push(told),
            }
        }
    }

    /// Runs `task` on a poller, soon.
    pub fn call(&self, poller: usize, task: impl FnOnce(&Poller) + Send + 'static) {
        let task: Task = Box::new(task);
        assert!(Handlers::call_soon(&self.reactor, poller, task).is_ok(), "the reactor has stopped");
    }

    /// Runs `task` on a poller, behind everything that this thread posted before, and returns its value.
    pub fn ask<R: Send + 'static>(&self, poller: usize, task: impl FnOnce(&Poller) -> R + Send + 'static) -> R {
        let (sender, answer) = channel();
        self.call(poller, move |poller| drop(sender.send(task(poller))));
        answer.recv_timeout(PATIENCE).expect("the poller lives")
    }

    pub fn stop(&self, grace: Duration) -> Result<(), String> {
        self.reactor.stop(grace);
        self.join()
    }

    pub fn join(&self) -> Result<(), String> {
        self.reactor.join(Some(PATIENCE), &mut || Ok(())).map_err(|outcome| match outcome {
            Outcome::Error(error) => error.to_string(),
            Outcome::Halted(_) => "halted".into(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.reactor.stop(Duration::ZERO);
    }
}

pub fn defaults() -> AcceptorOptions {
    AcceptorOptions::default()
}

pub fn receive_exactly(stream: &mut impl Read, n: usize) -> Vec<u8> {
    let mut data = vec![0; n];
    stream.read_exact(&mut data).expect("all of it");
    data
}
