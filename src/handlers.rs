//! Handlers written in Rust: the other side of the seam for programs without Python.
//!
//! One boxed [`Handler`] per connection. What `src/python/` does for Python objects, this does for Rust values; the
//! tests of the core and the benchmark's yardstick stand on it.

use std::cell::RefCell;
use std::sync::Arc;

use crate::acceptor::{Acceptor, Endpoint};
use crate::address::Address;
use crate::connector;
use crate::dispatch::{Call, Dispatch};
use crate::error::{Error, Foreign, Reason};
use crate::http::{Event, Facts};
use crate::options::{AcceptorOptions, ReactorOptions};
use crate::poller::{Data, Poller};
use crate::reactor::Reactor;
use crate::remote::Remote;
use crate::slots::{Table, Token};
use crate::timer::TimerId;
use crate::websocket::Item;

/// What happens to one connection. All methods have a default that does nothing, but the end of input and a stop close.
pub trait Handler: Send {
    /// First and once.
    fn on_open(&mut self, _connection: &Context<'_>) {}
    /// There is input that was not offered before, or more than was left.
    fn on_read(&mut self, _connection: &Context<'_>) {}
    /// A message came, for a connection that has a framing ([`Poller::set_protocol`]).
    fn on_message(&mut self, _connection: &Context<'_>, _message: Vec<u8>) {}
    /// A request came whole, for a connection that speaks HTTP; [`Poller::answer`] answers it.
    fn on_request(&mut self, _connection: &Context<'_>, _number: u64, _request: Request) {}
    /// The peer has finished sending.
    fn on_eof(&mut self, connection: &Context<'_>) {
        connection.poller.finish(connection.token);
    }
    /// Output fell to the low-water mark.
    fn on_drain(&mut self, _connection: &Context<'_>) {}
    /// The reactor stops; who stays open is aborted when the grace is over.
    fn on_stopping(&mut self, connection: &Context<'_>) {
        connection.close();
    }
    /// A timer of this connection fired.
    fn on_timer(&mut self, _connection: &Context<'_>, _timer: TimerId) {}
    /// The connection could not be made; nothing else is called.
    fn on_connect_fail(&mut self, _error: &Error) {}
    /// Last and once.
    fn on_close(&mut self, _reason: Reason) {}
}

/// An HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its head, as it came.
    pub head: Vec<u8>,
    /// What is in it.
    pub facts: Facts,
    /// Its body.
    pub body: Vec<u8>,
}

/// Makes the handler of a new connection.
pub type Factory = Box<dyn Fn(&Arc<Remote>) -> Box<dyn Handler> + Send + Sync>;

/// A function posted to a poller.
pub type Task = Box<dyn FnOnce(&Poller) + Send>;

/// What a poller's mailbox carries for these handlers.
enum Posted {
    Task(Task),
    Connect(connector::Request, Box<dyn Handler>),
}

/// A connection, as its handler sees it during a callback.
pub struct Context<'a> {
    /// The poller, for everything that is not below.
    pub poller: &'a Poller,
    /// The connection's name there.
    pub token: Token,
}

impl Context<'_> {
    /// Consumes as much of the unread input as `look` says.
    pub fn read<R>(&self, look: impl FnOnce(&[u8]) -> (R, usize)) -> Result<R, Error> {
        self.poller.read(self.token, look)
    }

    /// Queues a copy of `data`.
    pub fn write(&self, data: &[u8]) -> Result<(), Error> {
        self.poller.write(self.token, Data::Bytes(data))
    }

    /// Closes when the output is sent.
    pub fn close(&self) {
        self.poller.close(self.token);
    }
}

/// The dispatch of one poller.
#[derive(Default)]
pub struct Handlers {
    table: RefCell<Table<Box<dyn Handler>>>,
}

impl Handlers {
    /// A reactor of such pollers.
    pub fn reactor(pollers: usize) -> Result<Arc<Reactor<Self>>, Error> {
        Reactor::new(pollers, &ReactorOptions::default(), |_| Self::default())
    }

    /// Listens on `address` for handlers that `factory` makes.
    pub fn listen(
        reactor: &Reactor<Self>,
        address: &str,
        options: &AcceptorOptions,
        factory: Factory,
    ) -> Result<Arc<Acceptor>, Error> {
        let endpoints = vec![Endpoint::Address(Address::parse(address)?)];
        Acceptor::open(reactor.handles(), None, endpoints, options, Box::new(factory))
    }

    /// Connects on poller `index`.
    pub fn connect(
        reactor: &Reactor<Self>,
        index: usize,
        request: connector::Request,
        handler: Box<dyn Handler>,
    ) -> Result<(), Foreign> {
        Self::post(reactor, index, Posted::Connect(request, handler))
    }

    /// Posts a function to poller `index`.
    pub fn call_soon(reactor: &Reactor<Self>, index: usize, task: Task) -> Result<(), Foreign> {
        Self::post(reactor, index, Posted::Task(task))
    }

    fn post(reactor: &Reactor<Self>, index: usize, posted: Posted) -> Result<(), Foreign> {
        reactor.handles()[index].post_task(Box::new(posted))
    }

    fn put(&self, token: Token, handler: Box<dyn Handler>) {
        let before = self.table.borrow_mut().put(token, handler);
        drop(before);
    }

    fn take(&self, token: Token) -> Option<Box<dyn Handler>> {
        self.table.borrow_mut().take(token)
    }

    /// Calls a handler while it is out of the table, so that it may do anything to the poller.
    fn with(&self, poller: &Poller, token: Token, call: impl FnOnce(&mut dyn Handler, &Context<'_>)) {
        if let Some(mut handler) = self.take(token) {
            call(&mut *handler, &Context { poller, token });
            self.put(token, handler);
        }
    }

    fn call(&self, poller: &Poller, call: Call) {
        match call {
            Call::Accept(remote, acceptor) => {
                let Some(factory) = acceptor.factory.downcast_ref::<Factory>() else {
                    return poller.reject(remote.token);
                };
                self.put(remote.token, factory(&remote));
                self.with(poller, remote.token, |handler, connection| handler.on_open(connection));
            }
            Call::Open(remote) => self.with(poller, remote.token, |handler, connection| handler.on_open(connection)),
            Call::ConnectFailed(token, error) => {
                if let Some(mut handler) = self.take(token) {
                    handler.on_connect_fail(&error);
                }
            }
            Call::Read(token) => self.with(poller, token, |handler, connection| handler.on_read(connection)),
            Call::Item(token) => {
                let taken = poller.take_item(token, |item| match item {
                    Item::Text(text) => Some(text.as_bytes().to_vec()),
                    Item::Binary(bytes) => Some(bytes.to_vec()),
                    Item::Ping(_) | Item::Pong(_) | Item::Close { .. } => None,
                });
                if let Some(message) = taken.flatten() {
                    self.with(poller, token, |handler, connection| handler.on_message(connection, message));
                }
            }
            Call::Message(token) => {
                if let Some(message) = poller.take_message(token, <[u8]>::to_vec) {
                    self.with(poller, token, |handler, connection| handler.on_message(connection, message));
                }
            }
            Call::Request(token) => {
                let taken = poller.take_request(token, |number, event| match event {
                    Event::Request { head, facts, body } => {
                        Some((number, Request { head: head.to_vec(), facts, body: body.unwrap_or_default().to_vec() }))
                    }
                    Event::Body(_) | Event::End => None,
                });
                if let Some((number, request)) = taken.flatten() {
                    self.with(poller, token, |handler, connection| handler.on_request(connection, number, request));
                }
            }
            Call::Eof(token) => self.with(poller, token, |handler, connection| handler.on_eof(connection)),
            Call::Drain(token) => self.with(poller, token, |handler, connection| handler.on_drain(connection)),
            Call::Stopping(token) => self.with(poller, token, |handler, connection| handler.on_stopping(connection)),
            Call::Close { token, reason, .. } => {
                if let Some(mut handler) = self.take(token) {
                    handler.on_close(reason);
                }
            }
            Call::Timer { id, owner: Some(owner), .. } if poller.is_open(owner) => {
                self.with(poller, owner, |handler, connection| handler.on_timer(connection, id));
            }
            Call::Task(task) => {
                let Ok(posted) = task.downcast::<Posted>() else { return };
                match *posted {
                    Posted::Task(task) => task(poller),
                    Posted::Connect(request, mut handler) => match poller.connect(request) {
                        Ok(token) => self.put(token, handler),
                        Err(error) => handler.on_connect_fail(&error),
                    },
                }
            }
            Call::Timer { .. }
            | Call::TimerCancelled(_)
            | Call::DescriptorReadable(_)
            | Call::DescriptorWritable(_)
            | Call::DescriptorRemoved(..)
            | Call::Datagram(..)
            | Call::DatagramError(..)
            | Call::AcceptFailed(..)
            | Call::Signal => {}
        }
    }
}

impl Dispatch for Handlers {
    fn dispatch(&self, poller: &Poller) {
        drop(poller.take_released());
        while let Some(call) = poller.next_call() {
            self.call(poller, call);
        }
    }
}
