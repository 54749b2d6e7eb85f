//! One loop, one epoll instance: wait → read → dispatch → flush.
//!
//! A poller owns its connections, listeners, descriptors and timers, and everything of theirs happens on its thread.
//! Waiting, reading and flushing are done without the dispatch, so a whole batch costs the language above one entry.
//! No borrow of the state outlives a call of this API, so callbacks may call back in. It never calls a handler.

mod accept;
mod calls;
mod close;
mod connect;
mod datagrams;
mod deadlines;
mod receive;
mod requests;
mod send;
mod websocket;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Waker};
use socket2::Socket;

use deadlines::{drop_guard, set_guard};

use crate::acceptor::{Acceptor, Listener};
use crate::buffer::{FileRange, Held, Pool};
use crate::clock::Clock;
use crate::codec::Protocol;
use crate::connection::{Connection, Phase};
use crate::connector::{Attempt, Dial, Request};
use crate::counters::Counters;
use crate::datagram::{Datagram, DatagramSocket, Landing};
use crate::descriptor::{Descriptor, Interests};
use crate::dispatch::{Call, Dispatch};
use crate::error::{Error, Foreign, Reason};
use crate::fork;
use crate::group::Group;
use crate::http::{Event, Then};
use crate::mailbox::Mailbox;
use crate::options::{ConnectionOptions, ReactorOptions};
use crate::remote::{Message, Payload, PollerHandle, Remote};
use crate::resolver::Resolver;
use crate::signal::SignalPipe;
use crate::slots::{Slots, Token};
use crate::steering;
use crate::timer::{TimerId, Timers};
use crate::watchdog::Pulse;
use crate::websocket::{Farewell, Item};

const WAKER: mio::Token = mio::Token(usize::MAX);
const SIGNALS: mio::Token = mio::Token(usize::MAX - 1);

/// How long a listener or a datagram socket rests when descriptors or memory ran out.
const REST: Duration = Duration::from_millis(100);

enum Source {
    Connection(Connection),
    Listener(Listener),
    Descriptor(Descriptor),
    Datagrams(Box<DatagramSocket>),
    /// What may become a connection, in this very place.
    Dial(Box<Dial>),
    Attempt(Attempt),
    /// A descriptor or a dial whose handler has yet to be told of the end. Until then nobody else gets its place.
    Leaving,
}

impl Source {
    /// What the poll watches it by.
    fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Connection(connection) => Some(connection.socket.as_raw_fd()),
            Self::Descriptor(descriptor) => Some(descriptor.fd),
            Self::Datagrams(datagrams) => Some(datagrams.socket.as_raw_fd()),
            Self::Listener(_) | Self::Dial(_) | Self::Attempt(_) | Self::Leaving => None,
        }
    }
}

/// What a timer was set for.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// A callback, of a connection or of nobody.
    Callback(Option<Token>),
    /// The earliest of the limits in time of a connection.
    Guard(Token),
    /// The end of a connection's lingering.
    Linger(Token),
    /// The end of an outgoing connection's time.
    Dial(Token),
    /// The next address of an outgoing connection.
    Stagger(Token),
    /// The end of the rest of a listener or a datagram socket.
    Rest(Token),
    /// The end of the grace of a stop.
    Stop,
}

/// What waits for its turn in the batch.
enum Turn {
    Accepted(Token, Arc<Acceptor>),
    Connection(Token),
    Descriptor(Token),
    Datagrams(Token),
    Removed(Token, Reason),
    AcceptFailed(Arc<Acceptor>, io::Error),
    ConnectFailed(Token, Error),
    Cancelled(TimerId),
    Task(Foreign),
    /// A message that was posted behind a task by the same thread, perhaps.
    Message(Message),
    Signal,
}

/// What is done to a socket when the batch is over, since each of these takes a system call.
enum Ending {
    Close(Socket),
    /// The peer is to see a reset.
    Reset(Socket),
    Linger(Token),
}

/// Why a poller ended other than by being stopped.
pub enum Failure {
    /// The poll itself failed.
    Io(io::Error),
    /// The dispatch gave up, with this.
    Halted(Foreign),
    /// This is a copy in a forked child.
    Forked,
}

/// One event loop.
pub struct Poller {
    handle: Arc<PollerHandle>,
    poll: RefCell<(Poll, Events)>,
    registry: Registry,
    state: RefCell<State>,
    clock: Clock,
}

struct State {
    handle: Arc<PollerHandle>,
    clock: Clock,
    registry: Registry,
    sources: Slots<Source>,
    timers: Timers<Deadline>,
    pool: Pool,
    resolver: Resolver,
    arena: Box<[u8]>,
    /// The arena for datagrams; made when there is a socket for them.
    landing: Option<Box<Landing>>,
    /// Connections and listeners with unread readiness, in the order of their turns.
    ready: VecDeque<Token>,
    listeners: Vec<Token>,
    /// Listeners that rest until there are descriptors or memory again.
    short: Vec<Token>,
    /// Connections with output to flush.
    touched: Vec<Token>,
    endings: Vec<Ending>,
    /// Level-triggered descriptors whose handlers were called.
    rearm: Vec<Token>,
    turns: VecDeque<Turn>,
    /// How many of the turns are tasks and messages.
    posted_turns: usize,
    current: Option<Token>,
    batch: Batch,
    /// A batch ends after so many calls, or so many nanoseconds of them, and is flushed: no connection starves others.
    most_calls: usize,
    most_time: u64,
    /// A callback that ran for longer counts as stalled.
    stall_limit: u64,
    /// Where to run.
    cpu: Option<usize>,
    messages: Vec<Message>,
    signals: Option<Arc<SignalPipe>>,
    unpinned: Option<libc::cpu_set_t>,
    /// The end of the grace, once a stop was asked for.
    stopping: Option<u64>,
    failure: Option<Foreign>,
}

#[derive(Default)]
struct Batch {
    /// When the poll returned. Timers due until then belong to the batch.
    now: u64,
    /// The time as last read.
    latest: u64,
    /// When the dispatch was asked to begin.
    asked: u64,
    /// Callbacks made.
    made: usize,
    /// When the first call was asked for. Not before: the dispatch may have waited for its lock, and a batch whose time
    /// is over before its first call would never end.
    began: Option<u64>,
    calls: usize,
    /// Turns and timers take turns in coming first, so that neither can hold up the other for ever.
    timers_first: bool,
}

impl Poller {
    /// A poller of its own epoll instance.
    pub(crate) fn new(index: usize, clock: Clock, resolver: Resolver, options: &ReactorOptions) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let handle = Arc::new(PollerHandle {
            index,
            counters: Counters::default(),
            pulse: Pulse::new(options.stall_warning)?,
            mailbox: Mailbox::new(Waker::new(poll.registry(), WAKER)?),
            birth: fork::generation(),
        });
        let state = State {
            handle: handle.clone(),
            clock,
            registry: registry.try_clone()?,
            sources: Slots::new(),
            timers: Timers::with_capacity(options.timer_capacity),
            pool: Pool::default(),
            resolver,
            arena: vec![0; options.read_buffer_size].into_boxed_slice(),
            landing: None,
            ready: VecDeque::new(),
            listeners: Vec::new(),
            short: Vec::new(),
            touched: Vec::new(),
            endings: Vec::new(),
            rearm: Vec::new(),
            turns: VecDeque::new(),
            posted_turns: 0,
            current: None,
            batch: Batch::default(),
            most_calls: options.batch_calls,
            most_time: options.batch_time.as_nanos() as u64,
            stall_limit: options.stall_warning.map_or(u64::MAX, |limit| limit.as_nanos() as u64),
            cpu: options.cpus.as_ref().map(|cpus| cpus[index % cpus.len()]),
            messages: Vec::new(),
            signals: None,
            unpinned: None,
            stopping: None,
            failure: None,
        };
        let poll = RefCell::new((poll, Events::with_capacity(1024)));
        Ok(Self { handle, poll, registry, state: RefCell::new(state), clock })
    }

    /// What other threads need of it.
    pub fn handle(&self) -> &Arc<PollerHandle> {
        &self.handle
    }

    /// Nanoseconds on the clock of all pollers.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Runs until stopped.
    pub fn run(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        let cpu = self.state.borrow().cpu;
        if let Some(cpu) = cpu {
            self.state.borrow_mut().pin(cpu);
        }
        self.handle.pulse.start();
        let result = self.turn_until_done(dispatch);
        if let Some(set) = self.state.borrow_mut().unpinned.take() {
            // The CPUs were allowed before, so this fails only if they were taken away meanwhile.
            let _ = steering::set_affinity(&set);
        }
        result
    }

    fn turn_until_done(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        while !self.state.borrow().is_done() {
            self.wait(dispatch)?;
            self.state.borrow_mut().expire();
            self.state.borrow_mut().fill();
            if self.has_turns() {
                self.dispatch_batch(dispatch)?;
            }
            self.state.borrow_mut().flush();
        }
        self.wind_up(dispatch)?;
        self.failure().map_or(Ok(()), |failure| Err(Failure::Halted(failure)))
    }

    /// Runs the tasks that were posted until now, refuses later ones, and drops what is foreign where it belongs.
    fn wind_up(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        let rest = self.handle.mailbox.close();
        self.state.borrow_mut().receive(rest);
        // Timers that are still set do not count: some would be due for ever.
        while self.has_work_to_finish() {
            self.dispatch_batch(dispatch)?;
            self.state.borrow_mut().flush();
        }
        Ok(())
    }

    fn has_work_to_finish(&self) -> bool {
        let state = &*self.state.borrow();
        !state.turns.is_empty() || state.pool.has_released()
    }

    fn dispatch_batch(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        self.begin_batch();
        dispatch.dispatch(self);
        if fork::is_foreign(self.handle.birth) {
            return Err(self.failure().map_or(Failure::Forked, Failure::Halted));
        }
        Ok(())
    }

    fn failure(&self) -> Option<Foreign> {
        self.state.borrow_mut().failure.take()
    }

    fn has_turns(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        !state.turns.is_empty() || state.timers.next_deadline().is_some_and(|deadline| deadline <= state.batch.now)
    }

    fn begin_batch(&self) {
        let state = &mut *self.state.borrow_mut();
        (state.batch.began, state.batch.calls, state.batch.made) = (None, 0, 0);
        state.batch.asked = self.now();
        state.batch.timers_first = !state.batch.timers_first;
    }

    fn wait(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        let mut timeout = self.timeout();
        if timeout != Some(Duration::ZERO) && self.state.borrow().pool.has_released() {
            // Nothing else may come for hours, and what is held has to be let go of. That may run code of the user's.
            self.dispatch_batch(dispatch)?;
            timeout = self.timeout();
        }
        let (poll, events) = &mut *self.poll.borrow_mut();
        match poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result.map_err(Failure::Io)?,
        }
        let state = &mut *self.state.borrow_mut();
        state.batch.now = self.now();
        state.batch.latest = state.batch.now;
        for event in &*events {
            match event.token() {
                WAKER => state.read_mailbox(),
                SIGNALS => state.read_signals(),
                token => state.note(Token::from_bits(token.0 as u64), event),
            }
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        self.state.borrow_mut().timeout()
    }

    // ---- what the dispatch asks -----------------------------------------------------------------------------------

    /// What to call next; `None` when the batch is over. The one place that decides which callback comes when.
    pub fn next_call(&self) -> Option<Call> {
        if fork::is_foreign(self.handle.birth) {
            // The last callback forked, and this is the child's copy: the sockets are the parent's.
            return None;
        }
        let now = self.now();
        let state = &mut *self.state.borrow_mut();
        let began = state.clock_in(now);
        let over = now - began > state.most_time || state.is_batch_full();
        let call = state.next_call(over);
        match &call {
            Some(call) => state.note_call(call, now),
            None => state.note_batch(began, now),
        }
        call
    }

    /// Held bytes that were sent or given up, to be dropped by whoever owns such values.
    pub fn take_released(&self) -> Vec<Box<dyn Held>> {
        self.state.borrow_mut().pool.take_released()
    }

    /// Forgets a connection that got no handler.
    pub fn reject(&self, token: Token) {
        self.state.borrow_mut().reject(token);
    }

    /// Stops the whole reactor because of something that is no connection's fault.
    pub fn halt(&self, failure: Foreign) {
        let later = self.state.borrow_mut().keep_failure(failure);
        // Dropping it may call back in, so not under the borrow.
        drop(later);
        if !fork::is_foreign(self.handle.birth) {
            self.state.borrow_mut().stop(self.now(), true);
        }
    }

    /// Begins to connect; the token is that of the connection it may become. Ends in [`Call::Open`] or
    /// [`Call::ConnectFailed`], never at once.
    pub fn connect(&self, request: Request) -> Result<Token, Error> {
        self.state.borrow_mut().dial(request, self.now())
    }

    // ---- connections ----------------------------------------------------------------------------------------------

    /// Whether the connection is open for its handler.
    pub fn is_open(&self, token: Token) -> bool {
        open(&mut self.state.borrow_mut().sources, token).is_some()
    }

    /// Whether the connection is open for its handler, and not about to end when the answers that are due are given.
    pub fn goes_on(&self, token: Token) -> bool {
        let state = &mut *self.state.borrow_mut();
        let connection = open(&mut state.sources, token);
        connection.is_some_and(|connection| !connection.http().is_some_and(|http| http.is_ending()))
    }

    /// Looks at the unread input and consumes as much as `look` says.
    pub fn read<R>(&self, token: Token, look: impl FnOnce(&[u8]) -> (R, usize)) -> Result<R, Error> {
        let state = &mut *self.state.borrow_mut();
        let Some(Source::Connection(connection)) = state.sources.get_mut(token) else { return Err(Error::Closed) };
        if !connection.is_raw() {
            return Err(Error::State("the input is read by the protocol of the connection".into()));
        }
        let (value, consumed) = look(connection.input.bytes(&state.arena));
        if consumed > 0 {
            connection.input.consume(consumed);
            connection.look_again(&state.arena);
            list_if_ready(connection, &mut state.ready, token);
            // Taken out of turn, it may leave a whole message at the front.
            queue_if_due(connection, &mut state.turns, token);
        }
        Ok(value)
    }

    /// From here on the input of a connection is cut so: [`Call::Message`] or [`Call::Request`] comes instead of
    /// [`Call::Read`].
    pub fn set_protocol(&self, token: Token, protocol: Protocol) -> Result<(), Error> {
        let state = &mut *self.state.borrow_mut();
        let connection = open(&mut state.sources, token).ok_or(Error::Closed)?;
        connection.set_protocol(protocol, &mut state.arena);
        Ok(())
    }

    /// Takes the next whole message out of the input; `None` when there is none, or it may not be delivered now.
    pub fn take_message<R>(&self, token: Token, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let state = &mut *self.state.borrow_mut();
        let connection = open(&mut state.sources, token)?;
        let value = connection.take_message(&mut state.arena, look)?;
        list_if_ready(connection, &mut state.ready, token);
        Some(value)
    }

    /// Takes all whole messages that are there, without a look at how long that takes.
    pub fn take_messages(&self, token: Token, mut show: impl FnMut(&[u8])) {
        let state = &mut *self.state.borrow_mut();
        let Some(connection) = open(&mut state.sources, token) else { return };
        while connection.take_message(&mut state.arena, &mut show).is_some() {}
        list_if_ready(connection, &mut state.ready, token);
    }

    /// Takes the next request, or a piece of the body of the last one, with the number of the request; `None` when there
    /// is nothing that may be handed out now.
    pub fn take_request<R>(&self, token: Token, show: impl FnOnce(u64, Event<'_>) -> R) -> Option<R> {
        self.state.borrow_mut().take_request(token, show)
    }

    /// Takes the next message of a WebSocket, a pong, or the peer's last word, behind which it is closed; `None` when there
    /// is nothing that may be handed out now. Pings are answered here.
    pub fn take_item<R>(&self, token: Token, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        self.state.borrow_mut().take_item(token, show)
    }

    /// Closes a WebSocket in order, with a last word.
    pub fn close_with(&self, token: Token, farewell: Farewell) {
        self.state.borrow_mut().close_with(token, farewell);
    }

    /// When the peer last sent something, unless that is not to be known, since reading is paused.
    pub fn last_heard(&self, token: Token) -> Option<u64> {
        self.connection(token, |connection| (!connection.facts().unread).then_some(connection.guards.last_heard()))?
    }

    /// Ends a connection whose peer is silent because of `reason`.
    pub fn give_up(&self, token: Token, reason: Reason) {
        self.state.borrow_mut().give_up(token, reason);
    }

    /// Answers a request, or gives a part of the answer. It goes out when those before it are given.
    pub fn answer<'a>(
        &self,
        token: Token,
        number: u64,
        parts: impl IntoIterator<Item = Data<'a>>,
        then: Then,
    ) -> Result<(), Error> {
        self.state.borrow_mut().answer(token, number, parts, then)
    }

    /// Whether the answer to this request is the only one that is due, and all of it has come.
    pub fn is_alone(&self, token: Token, number: u64) -> bool {
        let state = &mut *self.state.borrow_mut();
        let http = open(&mut state.sources, token).and_then(Connection::http);
        http.is_some_and(|http| {
            http.answers.due() == 1 && http.answers.last() == number && !http.requests.is_amid_body()
        })
    }

    /// Asks for the body of a request that expects it, unless it was answered.
    pub fn continue_body(&self, token: Token, number: u64) {
        self.state.borrow_mut().continue_body(token, number);
    }

    /// Closes in order when all answers are given; as [`Self::close`] where none is due.
    pub fn finish(&self, token: Token) {
        self.state.borrow_mut().finish_connection(token);
    }

    /// Queues output; above the high-water mark it is sent at once as far as the socket takes it.
    pub fn write(&self, token: Token, data: Data<'_>) -> Result<(), Error> {
        self.state.borrow_mut().write(token, data)
    }

    /// Queues parts of one whole: they count as a single write.
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

    /// Closes in order: what is queued goes out first. Harmless when it is closed already.
    pub fn close(&self, token: Token) {
        self.state.borrow_mut().close(token);
    }

    /// Ends a connection because of what its handler raised; what the handler had written goes out.
    pub fn fail(&self, token: Token, raised: Foreign) {
        let unused = self.state.borrow_mut().fail(token, raised);
        drop(unused);
    }

    /// Ends a connection because of what its handler raised for an HTTP request, which was answered so: when the answers before
    /// are given, and with `waits` when one is that was given elsewhere and is on its way.
    pub fn fail_answered(&self, token: Token, raised: Foreign, waits: bool) {
        let unused = self.state.borrow_mut().fail_answered(token, raised, waits);
        drop(unused);
    }

    /// Ends a connection at once; the peer gets a reset.
    pub fn abort(&self, token: Token) {
        self.state.borrow_mut().end(token, Reason::Aborted);
    }

    /// Sends what is queued, then the end of the stream; reading goes on.
    pub fn shutdown_write(&self, token: Token) -> Result<(), Error> {
        let state = &mut *self.state.borrow_mut();
        let connection = open(&mut state.sources, token).ok_or(Error::Closed)?;
        connection.write_shut = true;
        connection.remote.mark_write_shut();
        touch(connection, &mut state.touched, token);
        Ok(())
    }

    /// Pauses or resumes reading for the user.
    pub fn set_paused(&self, token: Token, paused: bool) -> Result<(), Error> {
        let state = &mut *self.state.borrow_mut();
        let connection = open(&mut state.sources, token).ok_or(Error::Closed)?;
        if paused {
            connection.paused = true;
        } else {
            connection.resume();
            list_if_ready(connection, &mut state.ready, token);
            queue_if_due(connection, &mut state.turns, token);
        }
        Ok(())
    }

    /// Moves socket, unread input and output to another handler, whose token is the returned one's; the timers of the
    /// old one are cancelled and returned. Before the new one's `on_open` the dispatch gets `farewell` as a task.
    pub fn hand_over(&self, token: Token, farewell: Foreign) -> Result<(Arc<Remote>, Vec<TimerId>), Error> {
        let state = &mut *self.state.borrow_mut();
        // Not before its own `on_open`: it would get an `on_close` without one.
        let connection = open(&mut state.sources, token).filter(|connection| connection.phase == Phase::Open);
        if let Some(http) = connection.ok_or(Error::Closed)?.http() {
            if http.answers.due() > 0 {
                return Err(Error::State("answers are due, and would be lost: give them before hand_over()".into()));
            }
            // RFC 9110 section 7.8; what is left of it would be taken for the other protocol.
            if http.requests.is_amid_request() {
                return Err(Error::State(
                    "the stream is in the middle of a request, which has to come whole first".into(),
                ));
            }
        }
        let renewed = state.sources.renew(token).ok_or(Error::Closed)?;
        let Some(connection) = open(&mut state.sources, renewed) else { return Err(Error::Closed) };
        let old = connection.remote.clone();
        connection.hand_over(Remote::new(old.handle.clone(), renewed, old.peer, &connection.options));
        old.hand_over(&connection.remote);
        old.leave_all();
        let interests = stream_interests(connection.watches_writes);
        let (fd, remote) = (connection.socket.as_raw_fd(), connection.remote.clone());
        list_if_ready(connection, &mut state.ready, renewed);
        touch(connection, &mut state.touched, renewed);
        // The guard's timer is set for the old token.
        drop_guard(connection, &mut state.timers);
        set_guard(connection, &mut state.timers, renewed);
        // During a stop the new handler is told as well, after its `on_open`.
        connection.stopping_due = state.stopping.is_some();
        let timers = std::mem::take(&mut connection.timers);
        let timers = state.cancel_all(timers);
        state.push_task(farewell);
        state.queue(renewed);
        if let Err(error) = self.registry.reregister(&mut SourceFd(&fd), mio_token(renewed), interests) {
            // The old handler is told of its end already; so the new one has both its callbacks.
            state.end(renewed, Reason::Io(error));
        }
        Ok((remote, timers))
    }

    /// The settings of one connection.
    pub fn options(&self, token: Token) -> Result<ConnectionOptions, Error> {
        self.connection(token, |connection| (*connection.options).clone()).ok_or(Error::Closed)
    }

    /// Replaces the settings of one connection.
    pub fn set_options(&self, token: Token, options: ConnectionOptions) -> Result<(), Error> {
        options.validate()?;
        self.state.borrow_mut().set_options(token, options)
    }

    /// How many bytes of input wait.
    pub fn pending_input(&self, token: Token) -> usize {
        self.connection(token, |connection| connection.input.len()).unwrap_or(0)
    }

    /// How many bytes of output wait, those of files included.
    pub fn pending_output(&self, token: Token) -> usize {
        self.connection(token, |connection| connection.queued()).unwrap_or(0)
    }

    /// Whether output rose above the high-water mark and has not yet fallen to the low one.
    pub fn over_high_water(&self, token: Token) -> bool {
        self.connection(token, |connection| connection.over_high).unwrap_or(false)
    }

    /// Calls `use_it` with the socket of a connection that has not ended.
    pub fn with_socket<R>(&self, token: Token, use_it: impl FnOnce(&Socket) -> R) -> Result<R, Error> {
        self.connection(token, |connection| use_it(&connection.socket)).ok_or(Error::Closed)
    }

    fn connection<R>(&self, token: Token, look: impl FnOnce(&Connection) -> R) -> Option<R> {
        match self.state.borrow().sources.get(token) {
            Some(Source::Connection(connection)) if connection.phase < Phase::Ended => Some(look(connection)),
            _ => None,
        }
    }

    // ---- timers ---------------------------------------------------------------------------------------------------

    /// Sets a timer for `deadline` on this poller's clock, and for each `every` nanoseconds after it unless 0.
    pub fn set_timer(&self, deadline: u64, every: u64, owner: Option<Token>) -> Result<TimerId, Error> {
        let state = &mut *self.state.borrow_mut();
        self.handle.counters.timers.set(state.timers.len() as u64 + 1);
        let Some(owner) = owner else {
            return Ok(state.timers.set(deadline, every, Deadline::Callback(None)));
        };
        let Some(Source::Connection(connection)) = state.sources.get_mut(owner) else { return Err(Error::Closed) };
        if connection.phase != Phase::Open {
            return Err(Error::Closed);
        }
        let timers = &mut state.timers;
        let id = timers.set(deadline, every, Deadline::Callback(Some(owner)));
        if connection.timers.len() == connection.timers.capacity() {
            connection.timers.retain(|id| timers.is_set(*id));
        }
        connection.timers.push(id);
        Ok(id)
    }

    /// Cancels a timer; false when it has fired or was cancelled.
    pub fn cancel_timer(&self, id: TimerId) -> bool {
        let state = &mut *self.state.borrow_mut();
        let cancelled = state.timers.cancel(id);
        self.handle.counters.timers.set(state.timers.len() as u64);
        cancelled
    }

    // ---- descriptors of event handlers ----------------------------------------------------------------------------

    /// Watches any descriptor; level-triggered unless `edge`.
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
        Ok(token)
    }

    /// Replaces what a descriptor is watched for; without any interest it is removed.
    pub fn set_interests(&self, token: Token, interests: Interests) -> Result<(), Error> {
        let state = &mut *self.state.borrow_mut();
        let Some(Source::Descriptor(descriptor)) = state.sources.get_mut(token) else { return Err(Error::Closed) };
        if interests.is_empty() {
            return state.remove_descriptor(token, Reason::Orderly).map_err(|_| Error::Closed);
        }
        descriptor.interests = interests;
        let fd = descriptor.fd;
        self.registry
            .reregister(&mut SourceFd(&fd), mio_token(token), interests.to_mio())
            .map_err(Error::io(format!("cannot watch descriptor {fd}")))
    }

    /// Stops watching a descriptor; `on_close` follows.
    pub fn remove_descriptor(&self, token: Token, reason: Reason) {
        if fork::is_foreign(self.handle.birth) {
            return;
        }
        let removed = self.state.borrow_mut().remove_descriptor(token, reason);
        // A reason that was not needed may call back in when it is dropped, so not under the borrow.
        drop(removed);
    }

    // ---- datagrams ------------------------------------------------------------------------------------------------

    /// Watches a datagram socket; datagrams of more than `max_size` bytes are reported instead of delivered.
    pub fn watch_datagrams(&self, socket: Socket, max_size: usize) -> Result<Token, Error> {
        self.state.borrow_mut().watch_datagrams(socket, max_size)
    }

    /// Looks at a datagram that a call has brought.
    pub fn with_datagram<R>(&self, datagram: &Datagram, look: impl FnOnce(&[u8]) -> R) -> R {
        let state = &*self.state.borrow();
        look(state.landing.as_ref().map_or(&[], |landing| datagram.bytes(landing)))
    }

    /// Queues a datagram for the end of the batch; `None` is the peer the socket is connected to.
    pub fn send_datagram(&self, token: Token, data: &[u8], to: Option<SocketAddr>) -> Result<(), Error> {
        self.state.borrow_mut().send_datagram(token, data, to)
    }

    /// Sends what is queued, then closes the socket; `on_close` follows.
    pub fn close_datagrams(&self, token: Token, reason: Reason) {
        if fork::is_foreign(self.handle.birth) {
            return;
        }
        let closed = self.state.borrow_mut().close_datagrams(token, reason);
        // As in `remove_descriptor`.
        drop(closed);
    }

    /// Calls `use_it` with a datagram socket that is open.
    pub fn with_datagram_socket<R>(&self, token: Token, use_it: impl FnOnce(&Socket) -> R) -> Result<R, Error> {
        match self.state.borrow().sources.get(token) {
            Some(Source::Datagrams(socket)) => Ok(use_it(&socket.socket)),
            _ => Err(Error::Closed),
        }
    }

    // ---- signals --------------------------------------------------------------------------------------------------

    /// A pipe that signal handlers may write a byte to; each byte becomes a [`Call::Signal`]. It may outlive the poller.
    pub fn watch_signals(&self) -> io::Result<Arc<SignalPipe>> {
        let pipe = Arc::new(SignalPipe::new()?);
        self.registry.register(&mut SourceFd(&pipe.reader()), SIGNALS, Interest::READABLE)?;
        self.state.borrow_mut().signals = Some(pipe.clone());
        Ok(pipe)
    }
}

impl Drop for Poller {
    /// Also a poller that never ran refuses messages from here on, and closes the listeners among those it has.
    fn drop(&mut self) {
        // In a forked child the lock may have been held by a thread that does not exist there.
        if !fork::is_foreign(self.handle.birth) {
            drop(self.handle.mailbox.close());
            self.handle.pulse.end();
        }
    }
}

/// What to send, as a caller on the poller's thread has it.
pub enum Data<'a> {
    /// Bytes to copy.
    Bytes(&'a [u8]),
    /// Bytes that were copied before.
    Own(Vec<u8>),
    /// Bytes to send from where they are.
    Held(Box<dyn Held>),
    /// A part of a file.
    File(FileRange),
}

impl From<Payload> for Data<'_> {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Copied(bytes) => Self::Own(bytes),
            Payload::Held(held) => Self::Held(held),
        }
    }
}

impl State {
    /// A call is asked for, so the one before it is over. Returns when the batch's first was asked for.
    fn clock_in(&mut self, now: u64) -> u64 {
        let counters = &self.handle.counters;
        if self.batch.began.is_none() {
            counters.attaching.add(now.saturating_sub(self.batch.asked));
        } else if now - self.batch.latest > self.stall_limit {
            counters.stalls.add(1);
        }
        self.batch.calls += 1;
        self.batch.latest = now;
        *self.batch.began.get_or_insert(now)
    }

    fn note_call(&mut self, call: &Call, now: u64) {
        self.batch.made += 1;
        self.handle.counters.callbacks.add(1);
        let descriptor = || call.token().and_then(|token| self.sources.get(token)).and_then(Source::descriptor);
        self.handle.pulse.begin(now, call, descriptor);
    }

    fn note_batch(&mut self, began: u64, now: u64) {
        let counters = &self.handle.counters;
        counters.calling.add(now - began);
        counters.batches.note(self.batch.made);
        self.handle.pulse.rest();
    }

    fn is_batch_full(&self) -> bool {
        self.batch.calls > self.most_calls
    }

    /// What takes system calls, for a batch that is over: outputs, endings, registrations.
    fn flush(&mut self) {
        if let Some(Turn::Datagrams(_) | Turn::Descriptor(_)) = self.turns.front() {
            // It had its time in this batch; the others come first now.
            self.turns.rotate_left(1);
        }
        self.flush_touched();
        self.rearm_descriptors();
        self.finish_endings();
        self.settle();
        self.settle_datagrams();
        self.handle.counters.timers.set(self.timers.len() as u64);
    }

    /// Keeps the first failure; gives a later one back.
    fn keep_failure(&mut self, failure: Foreign) -> Option<Foreign> {
        if self.failure.is_some() {
            return Some(failure);
        }
        self.failure = Some(failure);
        None
    }

    /// Gives the connection a turn if a callback is due.
    fn queue(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get_mut(token) {
            queue_if_due(connection, &mut self.turns, token);
        }
    }

    fn is_done(&self) -> bool {
        self.stopping.is_some() && self.sources.is_empty() && self.turns.is_empty()
    }

    /// How long to wait: not at all while there is work left over from the last turn.
    fn timeout(&mut self) -> Option<Duration> {
        let flushed = self.touched.is_empty() && self.endings.is_empty() && self.rearm.is_empty();
        if !(flushed && self.turns.is_empty() && self.ready.is_empty()) || self.is_done() {
            return Some(Duration::ZERO);
        }
        self.timers.next_deadline().map(|deadline| Duration::from_nanos(deadline.saturating_sub(self.clock.now())))
    }
}

/// The connection, while its handler may still act on it.
fn open(sources: &mut Slots<Source>, token: Token) -> Option<&mut Connection> {
    match sources.get_mut(token) {
        Some(Source::Connection(connection)) if connection.phase <= Phase::Open && connection.early_end.is_none() => {
            Some(connection)
        }
        _ => None,
    }
}

fn mio_token(token: Token) -> mio::Token {
    mio::Token(token.to_bits() as usize)
}

fn stream_interests(watches_writes: bool) -> Interest {
    if watches_writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

#[inline]
fn list_if_ready(connection: &mut Connection, ready: &mut VecDeque<Token>, token: Token) {
    // Mostly there is nothing to read, and it was asked for at every step of a turn.
    if connection.readable && !connection.listed && connection.wants_read() {
        connection.listed = true;
        ready.push_back(token);
    }
}

fn queue_if_due(connection: &mut Connection, turns: &mut VecDeque<Turn>, token: Token) {
    if !connection.queued && connection.has_due() {
        connection.queued = true;
        turns.push_back(Turn::Connection(token));
    }
}

fn list_listener(listener: &mut Listener, ready: &mut VecDeque<Token>, token: Token) {
    if !listener.listed && listener.resting.is_none() {
        listener.listed = true;
        ready.push_back(token);
    }
}

fn touch(connection: &mut Connection, touched: &mut Vec<Token>, token: Token) {
    if !connection.touched {
        connection.touched = true;
        touched.push(token);
    }
}
