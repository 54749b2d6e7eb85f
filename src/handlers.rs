//! Handlers written in Rust: a dispatch for programs without Python.
//!
//! Each connection has one boxed [`Handler`]. This module does for Rust values what `src/python/` does for Python
//! objects. The tests of the core and the Rust server of the benchmarks use it. It holds no borrow of its table while
//! it calls a handler, so a handler may call any method of the poller.

use std::cell::RefCell;
use std::sync::Arc;

use crate::data::Data;
use crate::error::{Error, Foreign, Reason};
use crate::options::{AcceptorOptions, ReactorOptions};
use crate::poller::call::Call;
use crate::poller::{Dispatch, Poller};
use crate::protocols::{Protocol, Wire};
use crate::reactor::Reactor;
use crate::shared::acceptor::{Acceptor, Endpoint, Service};
use crate::shared::remote::Remote;
use crate::slots::{Table, Token};
use crate::sources::connector;
use crate::system::address::Address;
use crate::timer::TimerId;

/// The callbacks of one connection. Each has a default that does nothing, except `on_eof` and `on_stopping`, which
/// close the connection.
pub trait Handler: Send {
    /// Called first, and once.
    fn on_open(&mut self, _connection: &Context<'_>) {}
    /// Called when there is new input, or unread input remains after `on_read` consumed some.
    fn on_read(&mut self, _connection: &Context<'_>) {}
    /// The connection's protocol ([`Context::speak`]) may have something to deliver; [`Context::with`] takes it out. Called
    /// again until nothing is left to take, so without an own `on_news` the connection fails.
    fn on_news(&mut self, connection: &Context<'_>) {
        connection.poller.fail(connection.token, Box::new("the handler speaks a protocol without an on_news"));
    }
    /// The peer has shut down its write side.
    fn on_eof(&mut self, connection: &Context<'_>) {
        connection.poller.finish(connection.token);
    }
    /// The output queue fell to the low-water mark.
    fn on_drain(&mut self, _connection: &Context<'_>) {}
    /// The reactor stops. A connection that stays open is aborted when the grace is over.
    fn on_stopping(&mut self, connection: &Context<'_>) {
        connection.close();
    }
    /// A timer of this connection fired.
    fn on_timer(&mut self, _connection: &Context<'_>, _timer: TimerId) {}
    /// The connect failed; no other callback is called.
    fn on_connect_fail(&mut self, _error: &Error) {}
    /// Called last, and once.
    fn on_close(&mut self, _reason: Reason) {}
}

/// Makes the handler of a new connection.
pub type Factory = Box<dyn Fn(&Arc<Remote>) -> Box<dyn Handler> + Send + Sync>;

/// A function posted to a poller.
pub type Task = Box<dyn FnOnce(&Poller) + Send>;

/// A message to a poller's mailbox that these handlers understand.
enum Posted {
    Task(Task),
    Connect(connector::Request, Box<dyn Handler>),
}

/// A connection, as its handler gets it in a callback.
pub struct Context<'a> {
    /// The poller, for all methods that `Context` does not have.
    pub poller: &'a Poller,
    /// The connection's token on that poller.
    pub token: Token,
    /// The handler that takes over, and its token.
    successor: RefCell<Option<(Token, Box<dyn Handler>)>>,
}

impl Context<'_> {
    /// The connection for other threads; `None` if it has ended.
    pub fn remote(&self) -> Option<Arc<Remote>> {
        self.poller.remote(self.token)
    }

    /// Hands the connection over to another handler: socket, unread input and queued output. When the callback has returned
    /// this handler gets `on_close`, then the other one gets `on_open`.
    pub fn hand_over(&self, other: Box<dyn Handler>) -> Result<Arc<Remote>, Error> {
        // The farewell of the old handler needs no task: `Handlers::with` gives it.
        let (remote, _timers) = self.poller.hand_over(self.token, |_marks| Box::new(()))?;
        self.successor.replace(Some((remote.token(), other)));
        Ok(remote)
    }

    /// Calls `look` with the unread input, and consumes the number of bytes that it returns.
    pub fn read<R>(&self, look: impl FnOnce(&[u8]) -> (R, usize)) -> Result<R, Error> {
        self.poller.read(self.token, look)
    }

    /// Queues a copy of `data`.
    pub fn write(&self, data: &[u8]) -> Result<(), Error> {
        self.poller.write(self.token, Data::Bytes(data))
    }

    /// Sets the protocol that reads the input from now on: [`Handler::on_news`] is called instead of
    /// [`Handler::on_read`].
    pub fn speak(&self, protocol: impl Protocol) -> Result<(), Error> {
        self.poller.set_protocol(self.token, protocol)
    }

    /// Calls `work` with the connection's protocol. Returns `None` if the protocol is not a `P`, or the connection
    /// has been closed.
    pub fn with<P: Protocol, R>(&self, work: impl FnOnce(&mut P, &mut dyn Wire) -> R) -> Option<R> {
        self.poller.with(self.token, work)
    }

    /// Closes the connection when its output is sent.
    pub fn close(&self) {
        self.poller.close(self.token);
    }
}

/// The dispatch of one poller: its table of handlers.
#[derive(Default)]
pub struct Handlers {
    table: RefCell<Table<Box<dyn Handler>>>,
}

impl Handlers {
    /// Makes a reactor of `pollers` pollers with this dispatch.
    pub fn reactor(pollers: usize) -> Result<Arc<Reactor<Self>>, Error> {
        Reactor::new(pollers, &ReactorOptions::default(), |_| Self::default())
    }

    /// Listens on `address`; `factory` makes the handler of each accepted connection.
    pub fn listen(
        reactor: &Reactor<Self>,
        address: &str,
        options: &AcceptorOptions,
        factory: Factory,
    ) -> Result<Arc<Acceptor>, Error> {
        let endpoints = vec![Endpoint::Address(Address::parse(address)?)];
        Acceptor::open(reactor.handles(), None, endpoints, options, Service::plain(Box::new(factory)))
    }

    /// Opens an outgoing connection on poller `index`.
    pub fn connect(
        reactor: &Reactor<Self>,
        index: usize,
        request: connector::Request,
        handler: Box<dyn Handler>,
    ) -> Result<(), Foreign> {
        Self::post(reactor, index, Posted::Connect(request, handler))
    }

    /// Calls `task` soon on poller `index`.
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

    /// Puts a handler that moved with its connection into the table.
    fn unpack(&self, token: Token, handler: Foreign) {
        if let Ok(handler) = handler.downcast::<Box<dyn Handler>>() {
            self.put(token, *handler);
        }
    }

    /// Calls a handler while it is out of the table, so that it may call any method of the poller.
    fn with(&self, poller: &Poller, token: Token, call: impl FnOnce(&mut dyn Handler, &Context<'_>)) {
        if let Some(mut handler) = self.take(token) {
            let context = Context { poller, token, successor: RefCell::default() };
            call(&mut *handler, &context);
            match context.successor.into_inner() {
                None => self.put(token, handler),
                Some((token, successor)) => {
                    handler.on_close(Reason::Orderly);
                    self.put(token, successor);
                }
            }
        }
    }

    fn call(&self, poller: &Poller, call: Call) {
        match call {
            Call::Accept(remote, acceptor) => {
                let Some(factory) = acceptor.factory.downcast_ref::<Factory>() else {
                    return poller.reject(remote.token());
                };
                self.put(remote.token(), factory(&remote));
                self.with(poller, remote.token(), |handler, connection| handler.on_open(connection));
            }
            Call::Open(remote) => self.with(poller, remote.token(), |handler, connection| handler.on_open(connection)),
            // Nobody hears of these; the counters tell.
            Call::ProxyRefused(..) | Call::Slow(_) => {}
            #[cfg(feature = "tls")]
            Call::HandshakeFailed(..) => {}
            Call::ConnectFailed(token, error) => {
                if let Some(mut handler) = self.take(token) {
                    handler.on_connect_fail(&error);
                }
            }
            Call::Read(token) => self.with(poller, token, |handler, connection| handler.on_read(connection)),
            Call::Departure(ticket) => {
                let Some(handler) = self.take(ticket.token) else { return ticket.decline() };
                if let Err(handler) = poller.depart(&ticket, Box::new(handler)) {
                    self.unpack(ticket.token, handler);
                }
            }
            Call::Arrived(token, handler) => self.unpack(token, handler),
            Call::News(token, _) => self.with(poller, token, |handler, connection| handler.on_news(connection)),
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
            // Its handlers never wait.
            Call::Cancel(_)
            | Call::Drained(_)
            | Call::Timer { .. }
            | Call::TimerCancelled(_)
            | Call::DescriptorReadable(_)
            | Call::DescriptorWritable(_)
            | Call::DescriptorRemoved(..)
            | Call::Datagram(..)
            | Call::DatagramError(..)
            | Call::AcceptFailed(..)
            | Call::Passed(..)
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
