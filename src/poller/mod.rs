//! One loop, one epoll instance: wait → read → dispatch → flush.
//!
//! A poller owns its connections, listeners, descriptors and timers; everything that concerns them happens on its
//! thread. It waits, reads and flushes without the dispatch, so the layer above is entered once per batch. It never
//! calls a handler; [`call`] is the seam to the code that does.
//!
//! | file | holds |
//! |---|---|
//! | `call` | the calls that a dispatch is asked to make |
//! | `api` | the operations of a callback: connections, timers, descriptors, datagrams, signals |
//! | `state`, `queues`, `batch` | the state of a poller; its queues; the limits of a batch |
//! | `receive` `calls` `send` | the three phases |
//! | `deliver` | turns of protocols that need no handler |
//! | `close` `hand_over` `deadlines` `accept` `arrivals` `connect` `handshakes` `datagrams` | ends, upgrades, time limits, the kinds of sources |
//! | `moves` `ticket` | connections that move to another poller |
//! | `spread` `balance` | the choice of those connections; the work of all pollers |
//! | `home` | the CPU to which a poller returns |
//! | `guests` | the descriptors and the turns of a loop around the poller |
//! | `relay` | connections that hand their input to others |
//! | `waits` | callbacks that have returned and have not ended |
//! | `accepted` | the end of the connections of one acceptor |
//! | `start_tls` | TLS that begins amid a conversation |
//! | `pace` | log lines that peers cause: how often |
//! | `watchdog` `slow` | reports of callbacks that do not return, and of those that returned late |
//!
//! One rule: no borrow of the state outlives a call of the API, so a callback may call the API.

mod accept;
mod accepted;
mod api;
mod arrivals;
mod balance;
mod batch;
pub mod call;
mod calls;
mod close;
mod connect;
mod datagrams;
mod deadlines;
mod deliver;
mod guests;
mod hand_over;
#[cfg(feature = "tls")]
mod handshakes;
mod home;
mod moves;
mod pace;
mod queues;
mod receive;
mod relay;
mod send;
mod side;
mod slow;
mod spread;
#[cfg(feature = "tls")]
mod start_tls;
mod state;
pub mod ticket;
mod token;
mod waits;
pub mod watchdog;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mio::{Events, Poll, Registry, Waker};

use call::Call;
use state::State;
use token::{SIGNALS, WAKER};

use crate::error::Foreign;
use crate::options::ReactorOptions;
use crate::shared::counters::Counters;
use crate::shared::handle::PollerHandle;
use crate::shared::histogram::Measures;
use crate::shared::mailbox::Mailbox;
use crate::shared::placement::Load;
use crate::shared::pulse::Pulse;
use crate::slots::Token;
use crate::system::clock::Clock;
use crate::system::fork;
use crate::system::resolver::Resolver;

/// The most events that one look at the poll takes.
const EVENTS: usize = 1024;

/// One event loop.
pub struct Poller {
    handle: Arc<PollerHandle>,
    poll: RefCell<(Poll, Events)>,
    registry: Registry,
    state: RefCell<State>,
    clock: Clock,
}

/// The reason for which a poller ended without a stop.
pub enum Failure {
    /// The poll failed.
    Io(io::Error),
    /// The dispatch halted the reactor with this value.
    Halted(Foreign),
    /// The poller is a copy in a forked child.
    Forked,
}

/// A poller with its dispatch. Both live on the heap, because a callback may switch to another stack of its thread.
pub struct Parked<D> {
    /// The poller.
    pub poller: Poller,
    /// Calls its handlers.
    pub dispatch: D,
}

impl<D: Dispatch> Parked<D> {
    /// Runs the poller on this thread, which is called `name`, until the poller has ended.
    pub fn run(&self, name: Option<&str>) -> Result<(), Failure> {
        let mut result = Ok(());
        self.dispatch.on_thread(name, &mut || result = self.poller.run(&self.dispatch));
        result
    }
}

/// Calls handlers. Each poller has one, which moves to the poller's thread.
pub trait Dispatch: Send + 'static {
    /// Runs `body`, the whole life of the poller's thread. An implementation may attach the thread to an interpreter.
    /// `name` is the thread's, unless the thread is the caller's of `run`.
    fn on_thread(&self, name: Option<&str>, body: &mut dyn FnMut()) {
        let _ = name;
        body();
    }

    /// Runs a poller on its thread until the poller has ended. An implementation may run it turn by turn.
    #[allow(clippy::boxed_local, reason = "another implementation passes the box on")]
    fn drive(parked: Box<Parked<Self>>, name: Option<&str>) -> Result<(), Failure>
    where
        Self: Sized,
    {
        parked.run(name)
    }

    /// Runs a part of the loop that calls no handler. An implementation may detach the thread meanwhile.
    fn apart(&self, poller: &Poller, work: &mut dyn FnMut()) {
        let _ = poller;
        work();
    }

    /// The bytes of stack for the poller's thread; `None` for as much as a main thread has.
    fn stack_size(&self) -> Option<usize> {
        None
    }

    /// Runs the callbacks of one batch: `while let Some(call) = poller.next_call() { … }`.
    ///
    /// It also has to drop the values of [`Poller::take_released`]; they may be the only reason for the call.
    fn dispatch(&self, poller: &Poller);

    /// Reports a callback of any poller that has run for longer than `stall_warning` and still runs. Called on a thread
    /// of its own, once for each such callback.
    fn stalled(stall: &watchdog::Stall<'_>)
    where
        Self: Sized,
    {
        let _ = stall;
    }
}

impl Poller {
    /// Makes a poller with its own epoll instance.
    pub(crate) fn new(index: usize, clock: Clock, resolver: Resolver, options: &ReactorOptions) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let measures = options.measure.then(|| Box::new(Measures::new(clock.clone())));
        let handle = Arc::new(PollerHandle {
            index,
            counters: Counters::default(),
            measures,
            pulse: Pulse::new(options.stall_warning)?,
            mailbox: Mailbox::new(Waker::new(poll.registry(), WAKER)?),
            birth: fork::generation(),
            stopping: AtomicBool::new(false),
            load: Arc::new(Load::new()),
            siblings: OnceLock::new(),
        });
        let state = State::new(handle.clone(), registry.try_clone()?, clock.clone(), resolver, options);
        let poll = RefCell::new((poll, Events::with_capacity(EVENTS)));
        Ok(Self { handle, poll, registry, state: RefCell::new(state), clock })
    }

    /// The part of the poller that other threads use.
    pub fn handle(&self) -> &Arc<PollerHandle> {
        &self.handle
    }

    /// The time in nanoseconds on the clock that all pollers share.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The last time that was read from the clock: before a batch when it was asked for, after it when it was over.
    pub fn latest(&self) -> u64 {
        self.state.borrow().batch.latest
    }

    // ---- the loop -------------------------------------------------------------------------------------------------

    /// Runs until the poller is stopped.
    pub fn run(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        self.state.borrow_mut().settle_on_cpu();
        self.handle.pulse.start();
        self.handle.mailbox.serve();
        let result = self.turn_until_done(dispatch);
        self.handle.mailbox.leave();
        self.state.borrow_mut().leave_cpu();
        result
    }

    fn turn_until_done(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        loop {
            let mut has_batch = Ok(false);
            dispatch.apart(self, &mut || has_batch = self.turn_until_batch());
            if !has_batch.map_err(Failure::Io)? {
                break;
            }
            self.dispatch_batch(dispatch)?;
        }
        self.wind_up(dispatch)?;
        self.take_failure().map_or(Ok(()), |failure| Err(Failure::Halted(failure)))
    }

    /// Flushes, waits and reads until there is something to dispatch. Returns false when the poller is done.
    fn turn_until_batch(&self) -> io::Result<bool> {
        loop {
            self.state.borrow_mut().flush();
            if self.state.borrow().is_done() {
                return Ok(false);
            }
            if self.collect(None)? {
                self.begin_batch();
                return Ok(true);
            }
        }
    }

    /// Waits for events, no longer than `at_most` if that is given, and reads. Returns whether there is something to
    /// dispatch.
    fn collect(&self, at_most: Option<Duration>) -> io::Result<bool> {
        let wait = self.state.borrow_mut().timeout();
        if wait != Some(Duration::ZERO) && self.state.borrow().supplies.pool.has_released() {
            // The next event may be hours away, and dropping held bytes may run user code, so the dispatch drops them
            // now.
            return Ok(true);
        }
        self.wait(wait, at_most)?;
        let state = &mut *self.state.borrow_mut();
        if state.queues.have_messages() {
            state.read_mailbox();
        }
        state.fill();
        state.expire();
        if state.balance.is_due(state.batch.now) {
            state.spread();
        }
        if state.queues.may_deliver {
            state.deliver();
        }
        // At the end of a stop there is no wait, so held bytes have no other batch.
        Ok(state.has_turns() || (state.is_done() && state.supplies.pool.has_released()))
    }

    /// Runs the tasks that were posted before, refuses later ones, and has the dispatch drop the remaining foreign
    /// values.
    pub(crate) fn wind_up(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        let rest = self.handle.mailbox.close();
        self.state.borrow_mut().read_last(rest);
        // Timers that are still set do not count, because a repeating one is due again and again.
        while self.has_work_to_finish() {
            self.begin_batch();
            self.dispatch_batch(dispatch)?;
            dispatch.apart(self, &mut || self.state.borrow_mut().flush());
        }
        self.state.borrow_mut().has_ended = true;
        Ok(())
    }

    /// Whether the dispatch is to be called once more. Obeys the messages that need no dispatch.
    fn has_work_to_finish(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        state.obey_first();
        state.queues.have_messages() || state.queues.have_turns() || state.supplies.pool.has_released()
    }

    /// Notes that the dispatch is to be called: from now on it may wait for its lock.
    fn begin_batch(&self) {
        self.state.borrow_mut().batch.begin(self.clock.now());
    }

    fn dispatch_batch(&self, dispatch: &dyn Dispatch) -> Result<(), Failure> {
        self.state.borrow_mut().leave_home();
        dispatch.dispatch(self);
        if fork::is_foreign(self.handle.birth) {
            return Err(self.take_failure().map_or(Failure::Forked, Failure::Halted));
        }
        Ok(())
    }

    /// Takes out the value with which the dispatch halted the reactor.
    pub(crate) fn take_failure(&self) -> Option<Foreign> {
        self.state.borrow_mut().failure.take()
    }

    fn wait(&self, wait: Option<Duration>, at_most: Option<Duration>) -> io::Result<()> {
        let has_deadline = wait.is_some();
        let wait = at_most.map_or(wait, |most| Some(wait.map_or(most, |wait| wait.min(most))));
        let (poll, events) = &mut *self.poll.borrow_mut();
        if wait != Some(Duration::ZERO) {
            self.state.borrow_mut().enter_home();
        }
        match poll.poll(events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        let state = &mut *self.state.borrow_mut();
        state.note_cpu();
        state.guests.clear();
        state.batch.now = self.clock.now();
        state.batch.latest = state.batch.now;
        // A deadline is judged by what arrived before now, so everything that arrived has to be known.
        if note_all(state, events) || (has_deadline && state.is_due()) {
            poll_again(poll, events, state)?;
        }
        Ok(())
    }

    // ---- the seam -------------------------------------------------------------------------------------------------

    /// The next call; `None` when the batch is over. The order of all callbacks is decided here.
    pub fn next_call(&self) -> Option<Call> {
        if fork::is_foreign(self.handle.birth) {
            // The last callback forked, and this is the copy in the child: the sockets belong to the parent.
            return None;
        }
        let now = self.clock.now();
        let state = &mut *self.state.borrow_mut();
        let is_over = self.clock_in(state, now);
        let call = state.next_call(is_over);
        match &call {
            Some(call) => {
                state.batch.note_call(&self.handle.counters);
                let descriptor = |token| state.sources.get(token).and_then(|source| source.descriptor());
                if let Some(source) = state.batch.new_source(call) {
                    self.handle.pulse.point_to(source.and_then(descriptor));
                }
                self.handle.pulse.begin(now, call.name());
            }
            None => {
                state.batch.end(now, &self.handle.counters);
                self.handle.pulse.rest();
            }
        }
        call
    }

    /// Whether the next call is [`Call::News`] again, for the connection of the last one. If so, the caller makes it, without
    /// [`Self::next_call`]. So a dispatch finds the handler of many messages once.
    pub fn has_more_news(&self, token: Token) -> bool {
        if fork::is_foreign(self.handle.birth) {
            return false;
        }
        let state = &mut *self.state.borrow_mut();
        let now = state.batch.glance(&self.clock);
        if state.batch.ends_at(now) {
            return false;
        }
        let Some(callback) = state.next_news(token) else { return false };
        self.clock_in(state, now);
        state.batch.note_call(&self.handle.counters);
        self.handle.pulse.begin(now, callback);
        true
    }

    /// Notes that the dispatch asks for a call. True if the batch's time or size is used up.
    #[inline(always)]
    fn clock_in(&self, state: &mut State, now: u64) -> bool {
        let clocked = state.batch.clock_in(now, &self.handle.counters, self.handle.measures.as_deref());
        if let Some(took) = clocked.slow {
            state.note_slow(took, now);
        }
        clocked.is_over
    }

    /// Tells the watchdog more about the task that runs: its name, and its connection.
    pub fn describe_task(&self, name: &'static &'static str, owner: Option<Token>) {
        let state = &mut *self.state.borrow_mut();
        let source = owner.and_then(|owner| state.sources.get(owner));
        self.handle.pulse.point_to(source.and_then(|source| source.descriptor()));
        self.handle.pulse.rename(name);
        state.batch.set_source(owner);
    }

    /// Stops the whole reactor because of a failure that is no single connection's fault.
    pub fn halt(&self, failure: Foreign) {
        let later = self.state.borrow_mut().keep_failure(failure);
        // Dropping the value may call the API, so the state must not be borrowed.
        drop(later);
        if !fork::is_foreign(self.handle.birth) {
            self.state.borrow_mut().stop(self.clock.now(), None, true);
        }
    }
}

/// Notes the events that have come since the last look, without a wait.
#[cold]
fn poll_again(poll: &mut Poll, events: &mut Events, state: &mut State) -> io::Result<()> {
    // A source has few new events meanwhile, so more rounds than these would only note what arrived later.
    for _ in 0..=state.sources.len() / EVENTS {
        // Guests are level-triggered, so this look finds them again.
        state.guests.clear();
        match poll.poll(events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        if !note_all(state, events) {
            break;
        }
    }
    Ok(())
}

/// Notes events; returns whether they filled the room for events.
#[inline]
fn note_all(state: &mut State, events: &Events) -> bool {
    let mut count = 0;
    for event in events {
        count += 1;
        match event.token() {
            WAKER => state.queues.has_mail = true,
            SIGNALS => state.read_signals(),
            token => state.note(Token::from_bits(token.0 as u64), event),
        }
    }
    count == EVENTS
}

impl Drop for Poller {
    /// Refuses later messages, also if the poller never ran. Listeners among the waiting messages are closed.
    fn drop(&mut self) {
        // In a forked child, the mailbox's lock may be held by a thread that does not exist there.
        if !fork::is_foreign(self.handle.birth) {
            drop(self.handle.mailbox.close());
            self.handle.pulse.end();
        }
        // After a panic in a turn nobody else does, and a later mailbox may have its address.
        self.handle.mailbox.leave();
    }
}
