//! The operations of a callback on its poller.
//!
//! Sorted by subject. Each method borrows the state only while it runs. A value whose drop may run user code is dropped
//! after that borrow.

use std::any::Any;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use mio::Interest;
use mio::unix::SourceFd;
use socket2::Socket;

use super::Poller;
use super::state::{Deadline, Source, State};
use super::token::{SIGNALS, mio_token};
use crate::connection::memory::Memory;
use crate::connection::transport::Transport;
use crate::connection::{Connection, Progress, Readiness};
use crate::data::{Data, Held};
use crate::error::{Error, Foreign, Reason};
use crate::journal::Lane;
use crate::options::ConnectionOptions;
use crate::protocols::{Protocol, Wire};
use crate::shared::group::Group;
use crate::shared::remote::{Peer, Remote};
use crate::slots::Token;
use crate::sources::connector::Request;
use crate::sources::datagram::{Datagram, Ends, Opened};
use crate::sources::descriptor::{Descriptor, Interests};
use crate::system::fork;
use crate::system::signal::SignalPipe;
use crate::timer::TimerId;
#[cfg(feature = "tls")]
use crate::tls::stream::{Facts, Stream};

impl Poller {
    // ---- handlers -------------------------------------------------------------------------------------------------

    /// Held bytes that were sent or dropped from the output. The caller drops them where their owner can be dropped.
    pub fn take_released(&self) -> Vec<Box<dyn Held>> {
        self.state.borrow_mut().supplies.pool.take_released()
    }

    /// Removes a connection that got no handler.
    pub fn reject(&self, token: Token) {
        self.state.borrow_mut().reject(token);
    }

    /// Begins to connect; the token is that of the later connection. [`super::call::Call::Open`] or
    /// [`super::call::Call::ConnectFailed`] follows, never before this method returns.
    pub fn connect(&self, request: Request) -> Result<Token, Error> {
        self.state.borrow_mut().dial(request, self.clock.now())
    }

    /// Makes a connection of a connected socket of the user. [`super::call::Call::Open`] follows, never before this
    /// method returns.
    pub fn adopt(&self, socket: Socket, peer: Peer, options: Arc<ConnectionOptions>) -> Result<Token, Error> {
        self.state.borrow_mut().adopt_shared(socket, peer, options)
    }

    /// A connection that has not ended, for other threads.
    pub fn remote(&self, token: Token) -> Option<Arc<Remote>> {
        self.look(token, |connection| connection.remote.clone())
    }

    /// Moves socket, unread input and output to another handler; the returned [`Remote`] has its token. The timers of
    /// the old handler are cancelled and returned. Before the new handler's `on_open` the dispatch gets, as a task, what
    /// `farewell` makes of the marks of the old handler's output.
    pub fn hand_over(
        &self,
        token: Token,
        farewell: impl FnOnce(Vec<Foreign>) -> Foreign,
    ) -> Result<(Arc<Remote>, Vec<TimerId>), Error> {
        self.state.borrow_mut().hand_over(token, farewell)
    }

    // ---- input ----------------------------------------------------------------------------------------------------

    /// Calls `look` with the unread input and consumes as much as it says.
    pub fn read<R>(&self, token: Token, look: impl FnOnce(&[u8]) -> (R, usize)) -> Result<R, Error> {
        let State { sources, queues, supplies, .. } = &mut *self.state.borrow_mut();
        let Some(Source::Connection(connection)) = sources.get_mut(token) else { return Err(Error::closed()) };
        if connection.protocol().is_some_and(|protocol| !protocol.allows_bytes()) {
            return Err(Error::state("the input is read by the protocol of the connection [GOEV407]".into()));
        }
        let (value, consumed) = look(connection.input.bytes(&supplies.arena));
        if consumed > 0 {
            connection.consume(consumed, &mut supplies.arena);
            queues.place(token, connection);
        }
        Ok(value)
    }

    /// Sets the protocol that cuts the input from now on: [`super::call::Call::News`] replaces
    /// [`super::call::Call::Read`].
    pub fn set_protocol(&self, token: Token, protocol: impl Protocol) -> Result<(), Error> {
        let protocol = Box::new(protocol);
        let state = &mut *self.state.borrow_mut();
        state.queues.may_deliver |= protocol.delivers();
        let set = state.with_open(token, |connection, supplies| {
            connection.set_protocol(protocol, &mut supplies.arena);
        });
        set.ok_or_else(Error::closed)
    }

    /// Calls `work` with the protocol of a connection and its wire. `None` if the connection is not open or has another
    /// protocol. An end that the protocol asks for follows after `work` has returned.
    #[inline]
    pub fn with<P: Protocol, R>(&self, token: Token, work: impl FnOnce(&mut P, &mut dyn Wire) -> R) -> Option<R> {
        // Beside the values that the steps below return, because each would copy it.
        let mut result = None;
        self.state.borrow_mut().with_protocol(token, |protocol, wire| {
            let protocol = (protocol as &mut dyn Any).downcast_mut::<P>()?;
            result = Some(work(protocol, wire));
            Some(())
        });
        result
    }

    /// The place for the records of a connection, if its acceptor has an access log.
    pub fn lane(&self, token: Token) -> Option<Arc<Lane>> {
        let state = self.state.borrow();
        let journal = state.connection(token)?.permit()?.journal()?;
        Some(journal.lane(state.handle.index))
    }

    /// The properties of the TLS of a connection; `None` for plain bytes.
    #[cfg(feature = "tls")]
    pub fn tls_facts(&self, token: Token) -> Option<Facts> {
        self.state.borrow().connection(token)?.transport.tls_facts()
    }

    /// Begins TLS on a connection of plain bytes, behind its output. The dispatch gets `done`, as a task, when the
    /// handshake is over, or the connection has ended before.
    #[cfg(feature = "tls")]
    pub fn start_tls(&self, token: Token, stream: Stream, done: Option<Foreign>) -> Result<(), Error> {
        // Dropped behind the borrow, because that may run user code.
        let refused = self.state.borrow_mut().start_tls(token, stream, done);
        refused.map_err(|(error, _)| error)
    }

    /// Pauses or resumes reading for the user.
    pub fn set_paused(&self, token: Token, paused: bool) -> Result<(), Error> {
        let set = self
            .state
            .borrow_mut()
            .with_open(token, |connection, _| if paused { connection.pause() } else { connection.resume() });
        set.ok_or_else(Error::closed)
    }

    /// The number of bytes of unread input.
    pub fn pending_input(&self, token: Token) -> usize {
        self.look(token, |connection| connection.input.len()).unwrap_or(0)
    }

    /// The time when the peer last sent something. `None` while reading is paused, because input may wait in the
    /// kernel.
    pub fn last_heard(&self, token: Token) -> Option<u64> {
        self.look(token, |connection| (!connection.facts().unread).then_some(connection.guards.last_heard()))?
    }

    // ---- output ---------------------------------------------------------------------------------------------------

    /// Queues output; above the high-water mark it is sent at once, as far as the socket takes it.
    pub fn write(&self, token: Token, data: Data<'_>) -> Result<(), Error> {
        self.state.borrow_mut().write(token, data)
    }

    /// Queues a copy of each part. They count as a single write.
    pub fn write_copies(&self, token: Token, parts: [&[u8]; 3]) -> Result<(), Error> {
        self.state.borrow_mut().write_copies(token, parts)
    }

    /// The progress of the output of a connection that has not ended.
    pub fn progress(&self, token: Token) -> Option<Progress> {
        self.look(token, Connection::progress)
    }

    /// Queues several parts, which count as a single write.
    pub fn write_parts<'a>(&self, token: Token, parts: impl IntoIterator<Item = Data<'a>>) -> Result<(), Error> {
        self.state.borrow_mut().write_parts(token, parts)
    }

    /// Queues a message to all members of a group.
    pub fn broadcast(&self, group: &Group, bytes: Arc<[u8]>) -> Result<(), Error> {
        group.send(bytes, |broadcast| {
            if !broadcast.is_for(&self.handle) {
                return Some(broadcast);
            }
            self.state.borrow_mut().broadcast(&broadcast);
            None
        })
    }

    /// Half-closes: sends the queued output, then a FIN; reading continues.
    pub fn shutdown_write(&self, token: Token) -> Result<(), Error> {
        let shut = self.state.borrow_mut().with_open(token, |connection, _| {
            if connection.feeder.is_some() && connection.takes_output() {
                return Err(Error::state(
                    "another connection is piped to this one, and its end ends the output".into(),
                ));
            }
            connection.shut_write();
            Ok(())
        });
        shut.unwrap_or_else(|| Err(Error::closed()))
    }

    /// Has all further input of a connection go to another one, without its handler.
    pub fn pipe_to(&self, token: Token, to: Token) -> Result<(), Error> {
        self.state.borrow_mut().pipe_to(token, to)
    }

    /// The number of bytes of queued output, those of files included.
    pub fn pending_output(&self, token: Token) -> usize {
        self.look(token, Connection::waiting).unwrap_or(0)
    }

    /// Tells the protocol of a connection that the output has fallen to the low-water mark.
    pub fn tell_drained(&self, token: Token) {
        self.state.borrow_mut().tell_drained(token);
    }

    /// Whether output rose above the high-water mark and has not yet fallen to the low one.
    pub fn over_high_water(&self, token: Token) -> bool {
        self.look(token, Connection::is_over_high).unwrap_or(false)
    }

    // ---- ends -----------------------------------------------------------------------------------------------------

    /// Whether the connection is open for its handler.
    pub fn is_open(&self, token: Token) -> bool {
        self.state.borrow().open(token).is_some()
    }

    /// Whether the connection is open for its handler, and will stay open after the answers that are due.
    pub fn goes_on(&self, token: Token) -> bool {
        let state = self.state.borrow();
        let connection = state.open(token);
        connection.is_some_and(|connection| !connection.protocol().is_some_and(Protocol::is_ending))
    }

    /// Closes in order: sends the queued output first. Does nothing if the connection is closed already.
    pub fn close(&self, token: Token) {
        self.state.borrow_mut().close(token);
    }

    /// As [`Self::close`]; `on_close` gets `reason`. The reason is given back if the connection is closed already.
    pub fn close_because(&self, token: Token, reason: Reason) -> Option<Reason> {
        let state = &mut *self.state.borrow_mut();
        if state.open(token).is_none() {
            return Some(reason);
        }
        state.close_because(token, reason);
        None
    }

    /// Closes in order when every answer that is due has been given; at once, like [`Self::close`], without a protocol
    /// that has answers.
    pub fn finish(&self, token: Token) {
        self.state.borrow_mut().finish(token);
    }

    /// As [`Self::finish`], because the reactor stops: a drain leaves the connection open for a while if its protocol asks
    /// for that.
    pub fn finish_stopping(&self, token: Token) {
        self.state.borrow_mut().finish_stopping(token);
    }

    /// Fails a connection because its handler raised; output that the handler had written is sent.
    pub fn fail(&self, token: Token, raised: Foreign) {
        let unused = self.state.borrow_mut().fail(token, raised);
        drop(unused);
    }

    /// Ends a connection for `reason`, because its peer is silent.
    pub fn give_up(&self, token: Token, reason: Reason) {
        self.state.borrow_mut().give_up(token, reason);
    }

    /// Ends a connection at once; the peer gets a reset.
    pub fn abort(&self, token: Token) {
        self.state.borrow_mut().end(token, Reason::Aborted);
    }

    // ---- settings and the socket ----------------------------------------------------------------------------------

    /// The settings of one connection.
    pub fn options(&self, token: Token) -> Result<ConnectionOptions, Error> {
        self.look(token, |connection| (*connection.options).clone()).ok_or_else(Error::closed)
    }

    /// Replaces the settings of one connection.
    pub fn set_options(&self, token: Token, options: ConnectionOptions) -> Result<(), Error> {
        options.validate()?;
        self.state.borrow_mut().set_options(token, options)
    }

    /// Calls `use_it` with the socket of a connection that has not ended; `None` for a connection in memory, which has
    /// none.
    pub fn with_socket<R>(&self, token: Token, use_it: impl FnOnce(&Socket) -> R) -> Result<Option<R>, Error> {
        self.look(token, |connection| connection.transport.socket().map(use_it)).ok_or_else(Error::closed)
    }

    fn look<R>(&self, token: Token, look: impl FnOnce(&Connection) -> R) -> Option<R> {
        self.state.borrow().connection(token).filter(|connection| connection.is_alive()).map(look)
    }

    // ---- connections in memory ------------------------------------------------------------------------------------

    /// Opens a connection to a peer in memory. Its handler must be in the table before the next dispatch.
    pub fn open_memory(&self, memory: Arc<Memory>, peer: Peer, options: &ConnectionOptions) -> Token {
        let state = &mut *self.state.borrow_mut();
        let (handle, options, now) = (self.handle.clone(), Arc::new(options.clone()), self.clock.now());
        let token = state.sources.insert_with(|token| {
            let remote = Remote::new(handle, token, peer, &options);
            Source::Connection(Connection::new(Transport::Memory(memory), remote, options, now).outgoing())
        });
        state.guard(token);
        token
    }

    /// Notes new input from a peer in memory, its end, or room for output.
    pub fn wake_memory(&self, token: Token, has_reset: bool, has_finished: bool) {
        let ready = Readiness {
            readable: true,
            writable: true,
            read_closed: has_finished || has_reset,
            write_closed: has_reset,
            error: has_reset,
        };
        self.state.borrow_mut().with(token, |connection, _| connection.note(ready));
    }

    /// Whether nothing is left to do before something happens or time passes.
    pub fn is_idle(&self) -> bool {
        self.handle.mailbox_depth() == 0 && self.state.borrow_mut().is_idle()
    }

    /// The time when the earliest timer is due, on the poller's clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.state.borrow_mut().supplies.timers.next_deadline()
    }

    // ---- timers ---------------------------------------------------------------------------------------------------

    /// Sets a timer for `deadline` on this poller's clock. It repeats each `every` nanoseconds, unless that is 0.
    pub fn set_timer(&self, deadline: u64, every: u64, owner: Option<Token>) -> Result<TimerId, Error> {
        let state = &mut *self.state.borrow_mut();
        self.handle.counters.timers.set(state.supplies.timers.len() as u64 + 1);
        match owner {
            Some(token) => state.set_timer_of(token, deadline, every, Deadline::Callback(owner)),
            None => Ok(state.supplies.timers.set(deadline, every, Deadline::Callback(None))),
        }
    }

    /// Sets a timer by which a face keeps a connection going. It does not keep the connection on its poller:
    /// [`Poller::depart`] cancels it, and the face sets it anew.
    pub fn set_upkeep(&self, deadline: u64, token: Token) -> Result<TimerId, Error> {
        self.state.borrow_mut().set_timer_of(token, deadline, 0, Deadline::Upkeep(token))
    }

    /// Moves a timer to a new deadline; false if it has fired for the last time or was cancelled.
    pub fn reset_timer(&self, id: TimerId, deadline: u64) -> bool {
        self.state.borrow_mut().supplies.timers.reset(id, deadline)
    }

    /// Cancels a timer; false if it has fired or was cancelled.
    pub fn cancel_timer(&self, id: TimerId) -> bool {
        let state = &mut *self.state.borrow_mut();
        let cancelled = state.supplies.timers.cancel(id);
        self.handle.counters.timers.set(state.supplies.timers.len() as u64);
        cancelled
    }

    // ---- descriptors of event handlers ----------------------------------------------------------------------------

    /// Watches a descriptor of any kind; level-triggered unless `edge`.
    pub fn add_descriptor(&self, fd: RawFd, interests: Interests) -> Result<Token, Error> {
        let state = &mut *self.state.borrow_mut();
        if state.stopping.is_some() {
            return Err(Error::stopped());
        }
        let token = state.sources.insert_with(|_| Source::Descriptor(Descriptor::new(fd, interests)));
        let registered = self.registry.register(&mut SourceFd(&fd), mio_token(token), interests.to_mio());
        if let Err(error) = registered {
            state.sources.remove(token);
            return Err(Error::io(format!("cannot watch descriptor {fd}"))(error));
        }
        if let Some(before) = state.descriptors.insert(fd, token) {
            // The poll takes a number twice only if the first descriptor was closed.
            state.forget_descriptor(before, Reason::Io(io::Error::from_raw_os_error(libc::EBADF)));
        }
        Ok(token)
    }

    /// Replaces the events for which a descriptor is watched; removes the descriptor if there are none.
    pub fn set_interests(&self, token: Token, interests: Interests) -> Result<(), Error> {
        let state = &mut *self.state.borrow_mut();
        let Some(Source::Descriptor(descriptor)) = state.sources.get_mut(token) else { return Err(Error::closed()) };
        if interests.is_empty() {
            return state.remove_descriptor(token, Reason::Orderly).map_err(|_| Error::closed());
        }
        descriptor.interests = interests;
        let watched = descriptor
            .still_open()
            .and_then(|fd| self.registry.reregister(&mut SourceFd(&fd), mio_token(token), interests.to_mio()));
        watched.map_err(Error::io(format!("cannot watch descriptor {}", descriptor.fd())))
    }

    /// Stops watching a descriptor; `on_close` follows.
    pub fn remove_descriptor(&self, token: Token, reason: Reason) {
        if fork::is_foreign(self.handle.birth) {
            return;
        }
        let unused = self.state.borrow_mut().remove_descriptor(token, reason);
        drop(unused);
    }

    // ---- datagrams ------------------------------------------------------------------------------------------------

    /// Watches a datagram socket.
    pub fn watch_datagrams(&self, opened: Opened) -> Result<Token, Error> {
        self.state.borrow_mut().watch_datagrams(opened)
    }

    /// Calls `look` with the bytes of a datagram that a call has brought.
    pub fn with_datagram<R>(&self, datagram: &Datagram, look: impl FnOnce(&[u8]) -> R) -> R {
        let state = &*self.state.borrow();
        look(state.landing.as_ref().map_or(&[], |landing| datagram.bytes(landing)))
    }

    /// Queues a datagram for the end of the batch; sends the queue at once if it is long. `None` is the peer that the
    /// socket is connected to.
    pub fn send_datagram(&self, token: Token, data: &[u8], to: Option<Ends>) -> Result<(), Error> {
        self.state.borrow_mut().send_datagram(token, data, to)
    }

    /// Sends the queued datagrams, then closes the socket; `on_close` follows.
    pub fn close_datagrams(&self, token: Token, reason: Reason) {
        if fork::is_foreign(self.handle.birth) {
            return;
        }
        let unused = self.state.borrow_mut().close_datagrams(token, reason);
        drop(unused);
    }

    /// Calls `use_it` with the socket of `token`, if it is an open datagram socket.
    pub fn with_datagram_socket<R>(&self, token: Token, use_it: impl FnOnce(&Socket) -> R) -> Result<R, Error> {
        match self.state.borrow().sources.get(token) {
            Some(Source::Datagrams(socket)) => Ok(use_it(&socket.socket)),
            _ => Err(Error::closed()),
        }
    }

    // ---- signals --------------------------------------------------------------------------------------------------

    /// A pipe for signal handlers: each byte that they write becomes a [`super::call::Call::Signal`]. The pipe may
    /// outlive the poller.
    pub fn watch_signals(&self) -> io::Result<Arc<SignalPipe>> {
        let pipe = Arc::new(SignalPipe::new()?);
        self.registry.register(&mut SourceFd(&pipe.reader()), SIGNALS, Interest::READABLE)?;
        self.state.borrow_mut().signals = Some(pipe.clone());
        Ok(pipe)
    }
}
