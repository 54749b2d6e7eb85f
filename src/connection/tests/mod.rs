//! Connections whose peers are in memory, without a poller: a test calls the methods that a poller calls.
//!
//! | file | holds |
//! |---|---|
//! | `life` | the callback that is due in each state, and the ends of a connection |
//! | `input` | readiness, reads and pauses |
//! | `output` | flushes, the water marks, and failed writes |
//! | `line` | the wire that a protocol writes by |
//! | `relay` | input that goes on to another connection |
//! | `secure` | TLS between a socket and a connection |

mod input;
mod life;
mod line;
mod output;
mod relay;
#[cfg(feature = "tls")]
mod secure;

use std::any::Any;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mio::{Poll, Token, Waker};

use super::buffer::Pool;
use super::memory::Memory;
use super::phase::{Event, Phase};
use super::transport::Transport;
use super::*;
use crate::data::{Data, Held};
use crate::error::{Expired, ViolationKind};
use crate::shared::counters::Counters;
use crate::shared::handle::PollerHandle;
use crate::shared::mailbox::Mailbox;
use crate::shared::placement::Load;
use crate::shared::pulse::Pulse;
use crate::shared::remote::Peer as Name;
use crate::slots::Token as Slot;
use crate::system::fork;

/// The time at which everything happens, unless a test says otherwise.
const NOW: u64 = 1_000_000_000;

const NOTHING: Readiness =
    Readiness { readable: false, read_closed: false, writable: false, write_closed: false, error: false };
const READABLE: Readiness = Readiness { readable: true, ..NOTHING };
const WRITABLE: Readiness = Readiness { writable: true, ..NOTHING };
const FINISHED: Readiness = Readiness { readable: true, read_closed: true, ..NOTHING };
const HUNG_UP: Readiness = Readiness { write_closed: true, ..FINISHED };
const FAILED: Readiness = Readiness { error: true, ..NOTHING };

/// A connection, its peer, and the memory that a poller has for it.
struct Bench {
    peer: Arc<Memory>,
    connection: Connection,
    pool: Pool,
    arena: Vec<u8>,
}

impl Bench {
    /// A connection that is open for its handler.
    fn open(options: ConnectionOptions) -> Self {
        let mut bench = Self::unopened(options);
        assert_eq!(bench.connection.take_due(), Some(Due::Open));
        bench
    }

    /// A connection that has a handler, which was not called yet.
    fn unopened(options: ConnectionOptions) -> Self {
        let (peer, options) = (Arc::new(Memory::default()), Arc::new(options));
        let transport = Transport::Memory(peer.clone());
        let connection = Connection::new(transport, remote(&options), options, NOW).outgoing();
        Self { peer, connection, pool: Pool::default(), arena: vec![0; 64 * 1024] }
    }

    /// A connection in `phase`.
    fn in_phase(phase: Phase) -> Self {
        let mut bench = Self::unopened(ConnectionOptions::default());
        let events: &[Event] = match phase {
            Phase::Accepted | Phase::New => &[],
            Phase::Doomed => &[Event::End],
            Phase::Open => &[Event::Open],
            Phase::Flushing => &[Event::Open, Event::Close],
            Phase::Ended => &[Event::Open, Event::End],
            Phase::Lingering => &[Event::Open, Event::Tell],
            Phase::Gone => &[Event::Open, Event::Remove],
        };
        if phase == Phase::Accepted {
            let options = bench.connection.options.clone();
            let transport = Transport::Memory(bench.peer.clone());
            bench.connection = Connection::new(transport, remote(&options), options, NOW);
        }
        for event in events {
            assert!(bench.connection.step(*event));
        }
        assert_eq!(bench.connection.phase(), phase);
        bench
    }

    /// Gives the connection a protocol that answers as the returned rules say.
    fn speak(&mut self) -> Arc<Mutex<Rules>> {
        let rules = Arc::new(Mutex::new(Rules::default()));
        self.connection.set_protocol(Box::new(Scripted(rules.clone())), &mut self.arena);
        rules
    }

    /// The peer sends `bytes`, and the connection reads once.
    fn come(&mut self, bytes: &[u8]) -> usize {
        self.peer.push(bytes);
        self.connection.note(READABLE);
        self.read()
    }

    /// The peer finishes, and the connection reads once.
    fn finish(&mut self) -> usize {
        self.peer.push_eof();
        self.connection.note(FINISHED);
        self.read()
    }

    fn read(&mut self) -> usize {
        self.connection.receive(&mut self.arena, 0, NOW)
    }

    fn unread(&self) -> &[u8] {
        self.connection.input.bytes(&self.arena)
    }

    fn consume(&mut self, count: usize) {
        self.connection.consume(count, &mut self.arena);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.connection.push(Data::Bytes(bytes), &mut self.pool);
    }

    fn flush(&mut self) -> Flushed {
        self.connection.flush(&mut self.pool, NOW).expect("the peer takes output")
    }
}

fn remote(options: &ConnectionOptions) -> Arc<Remote> {
    let poll = Poll::new().expect("a poll");
    let handle = PollerHandle {
        index: 0,
        counters: Counters::default(),
        measures: None,
        pulse: Pulse::new(None).expect("no timer"),
        mailbox: Mailbox::new(Waker::new(poll.registry(), Token(0)).expect("a waker")),
        birth: fork::generation(),
        stopping: AtomicBool::new(false),
        load: Arc::new(Load::new()),
        siblings: OnceLock::new(),
    };
    Remote::new(Arc::new(handle), Slot::from_bits(1 << 32), Name::Unix, options)
}

/// The answers of a protocol to its connection, and a record of its calls.
#[derive(Default)]
struct Rules {
    /// [`Protocol::look`] consumes so many bytes, or all of fewer.
    done: usize,
    has_news: bool,
    missing: usize,
    longest: usize,
    holds_eof: bool,
    is_waited_for: bool,
    is_broken: bool,
    reason: Option<Reason>,
    /// The input at each look.
    looks: Vec<Vec<u8>>,
    looks_again: Vec<Vec<u8>>,
    forgotten: usize,
}

struct Scripted(Arc<Mutex<Rules>>);

fn lock(rules: &Mutex<Rules>) -> MutexGuard<'_, Rules> {
    rules.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scripted {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.0)
    }
}

impl Protocol for Scripted {
    fn look(&mut self, input: &mut [u8]) -> usize {
        let mut rules = self.rules();
        rules.looks.push(input.to_vec());
        rules.done.min(input.len())
    }
    fn has_news(&self) -> bool {
        self.rules().has_news
    }
    fn missing(&self, _: &[u8]) -> usize {
        self.rules().missing
    }
    fn longest(&self) -> usize {
        self.rules().longest
    }
    fn callback(&self) -> &'static &'static str {
        &"on_news"
    }
    fn forget(&mut self) {
        self.rules().forgotten += 1;
    }
    fn violation(&self) -> Option<Violation> {
        let violation = Violation { protocol: "scripted", kind: ViolationKind::Protocol, text: String::new() };
        self.rules().is_broken.then_some(violation)
    }
    fn look_again(&mut self, input: &mut [u8]) {
        self.rules().looks_again.push(input.to_vec());
    }
    fn holds_eof(&self, _: usize) -> bool {
        self.rules().holds_eof
    }
    fn is_waited_for(&self) -> bool {
        self.rules().is_waited_for
    }
    fn take_reason(&mut self) -> Option<Reason> {
        self.rules().reason.take()
    }
}

struct Kept(Vec<u8>);

impl Held for Kept {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A word for a reason.
fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::Orderly => "orderly",
        Reason::Io(_) => "io",
        Reason::Aborted => "aborted",
        Reason::InputOverflow { .. } => "input overflow",
        Reason::OutputOverflow { .. } => "output overflow",
        Reason::Raised(_) => "raised",
        Reason::Given(_) => "given",
        Reason::NoMemory => "no memory",
        Reason::Unframed(_) => "unframed",
        Reason::Expired(_) => "expired",
        Reason::Protocol(_) => "protocol",
    }
}

fn expired() -> Reason {
    Reason::Expired(Expired::Idle(std::time::Duration::from_secs(1)))
}

fn raised() -> Reason {
    let value: Box<dyn Any + Send> = Box::new(());
    Reason::Raised(value)
}
