//! Deadlines of a poller that is turned by hand, whose connections have their peers in memory and whose clock stands still
//! until a test moves it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goev::connection::memory::{End, Memory};
use goev::error::Reason;
use goev::options::{ConnectionOptions, ReactorOptions};
use goev::poller::call::Call;
use goev::poller::{Dispatch, Poller};
use goev::reactor::{Reactor, Stepper};
use goev::shared::remote::Peer;
use goev::slots::Token;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000 * SECOND;
const HOUR: u64 = 3600 * SECOND;

/// Sets timers in `on_open`, and notes how each connection ended and how many of its timers were cancelled by that.
#[derive(Default)]
struct Timed {
    one_shots: u64,
    repeating: u64,
    fired: Cell<u64>,
    ended: RefCell<Vec<(String, usize)>>,
}

impl Timed {
    fn call(&self, poller: &Poller, call: Call) {
        match call {
            Call::Open(remote) => {
                for n in 0..self.one_shots {
                    poller.set_timer(START + HOUR + n, 0, Some(remote.token())).expect("it is open");
                }
                for n in 0..self.repeating {
                    poller.set_timer(START + HOUR + n, HOUR, Some(remote.token())).expect("it is open");
                }
            }
            Call::Timer { .. } => self.fired.set(self.fired.get() + 1),
            Call::Eof(token) => poller.close(token),
            Call::Close { reason, timers, .. } => {
                let reason = match reason {
                    Reason::Orderly => "orderly".into(),
                    Reason::Aborted => "aborted".into(),
                    Reason::Io(error) => error.kind().to_string(),
                    Reason::Expired(expired) => expired.to_string(),
                    _ => "another".into(),
                };
                self.ended.borrow_mut().push((reason, timers.len()));
            }
            _ => {}
        }
    }
}

impl Dispatch for Timed {
    fn dispatch(&self, poller: &Poller) {
        while let Some(call) = poller.next_call() {
            self.call(poller, call);
        }
    }
}

/// One poller with one connection.
struct World {
    time: Arc<AtomicU64>,
    stepper: Stepper<Timed>,
    peer: Arc<Memory>,
    token: Token,
}

impl World {
    fn new(one_shots: u64, repeating: u64, options: &ConnectionOptions) -> Self {
        let time = Arc::new(AtomicU64::new(START));
        let make = |_: &Arc<_>| Timed { one_shots, repeating, ..Timed::default() };
        let Ok(stepper) =
            Reactor::by_hand(time.clone(), &ReactorOptions::default(), make).and_then(|reactor| reactor.stepped())
        else {
            panic!("the reactor has no poller");
        };
        let peer = Arc::new(Memory::default());
        let parked = stepper.parked();
        let token = parked.poller.open_memory(peer.clone(), Peer::Unix, options);
        let mut world = Self { time, stepper, peer, token };
        world.settle();
        world
    }

    fn poller(&self) -> &Poller {
        &self.stepper.parked().poller
    }

    fn settle(&mut self) {
        assert!(matches!(self.stepper.settle(100), Ok(true)), "the poller does not come to rest");
    }

    /// Time passes, and the poller does what is due.
    fn pass(&mut self, nanoseconds: u64) {
        self.time.fetch_add(nanoseconds, Ordering::SeqCst);
        self.settle();
    }

    fn finish(&mut self) {
        self.peer.push_eof();
        self.poller().wake_memory(self.token, false, true);
        self.settle();
    }

    /// The end of the connection, and how many of its timers were cancelled by it.
    fn ended(&self) -> Vec<(String, usize)> {
        self.stepper.parked().dispatch.ended.borrow().clone()
    }

    fn fired(&self) -> u64 {
        self.stepper.parked().dispatch.fired.get()
    }
}

/// Limits in time that come before the timers, and after them.
fn limited() -> ConnectionOptions {
    ConnectionOptions {
        idle_timeout: Some(Duration::from_secs(1800)),
        lifetime: Some(Duration::from_secs(7200)),
        ..ConnectionOptions::default()
    }
}

#[test]
fn the_timers_and_limits_of_a_connection_are_deadlines_while_it_is_open() {
    let world = World::new(1, 0, &ConnectionOptions::default());
    assert_eq!(world.poller().next_deadline(), Some(START + HOUR));
    let world = World::new(1, 0, &limited());
    assert_eq!(world.poller().next_deadline(), Some(START + HOUR / 2));
}

#[test]
fn no_deadline_of_a_connection_outlives_it() {
    type EndIt = fn(&mut World);
    let ends: [(&str, EndIt); 4] = [
        ("orderly", World::finish),
        ("aborted", |world| world.poller().abort(world.token)),
        ("connection reset", |world| {
            world.peer.push_reset();
            world.poller().wake_memory(world.token, true, false);
        }),
        ("no byte moved either way for idle_timeout=1800 seconds", |world| world.pass(HOUR / 2)),
    ];
    for (reason, end) in ends {
        for (one_shots, repeating) in [(1, 0), (0, 1), (100, 100)] {
            let mut world = World::new(one_shots, repeating, &limited());
            assert!(world.poller().next_deadline().is_some());
            end(&mut world);
            world.settle();
            assert_eq!(world.ended(), [(reason.to_owned(), (one_shots + repeating) as usize)]);
            if reason.starts_with("no byte") {
                // The peer may still read: the connection lingers.
                let linger = START + HOUR / 2 + 2 * SECOND;
                assert_eq!(world.poller().next_deadline(), Some(linger));
                world.finish();
            }
            assert_eq!(world.poller().next_deadline(), None, "{reason}");
            world.pass(10 * HOUR);
            assert_eq!((world.fired(), world.ended().len()), (0, 1), "{reason}");
        }
    }
}

#[test]
fn a_closed_connection_lingers_without_its_limits_and_its_timers() {
    // The limit would come before the end of lingering, and the timer behind it.
    let options = ConnectionOptions { idle_timeout: Some(Duration::from_secs(1)), ..ConnectionOptions::default() };
    for peer_finishes in [false, true] {
        let mut world = World::new(1, 0, &options);
        world.poller().close(world.token);
        world.settle();
        assert_eq!(world.ended(), [("orderly".to_owned(), 1)]);
        assert_eq!(world.peer.end(), Some(End::Finished));
        assert_eq!(world.poller().next_deadline(), Some(START + 2 * SECOND));
        if peer_finishes {
            world.finish();
        } else {
            world.pass(2 * SECOND);
        }
        assert_eq!(world.poller().next_deadline(), None);
    }
}

#[test]
fn a_new_handler_inherits_no_timer_and_its_limits_are_set_once() {
    let mut world = World::new(3, 2, &limited());
    let handed = world.poller().hand_over(world.token, |_| Box::new(()));
    let (remote, cancelled) = handed.expect("it is open");
    assert_eq!((cancelled.len(), world.poller().next_deadline()), (5, Some(START + HOUR / 2)));
    // In its on_open it sets timers of its own.
    world.settle();
    world.poller().abort(remote.token());
    world.settle();
    assert_eq!(world.poller().next_deadline(), None);

    let mut world = World::new(0, 0, &limited());
    assert!(world.poller().hand_over(world.token, |_| Box::new(())).is_ok());
    world.pass(HOUR / 2);
    assert_eq!(world.ended(), [("no byte moved either way for idle_timeout=1800 seconds".to_owned(), 0)]);
}

#[test]
fn a_connection_that_gets_no_handler_leaves_no_deadline() {
    let mut world = World::new(3, 2, &limited());
    world.poller().reject(world.token);
    assert_eq!(world.poller().next_deadline(), None);
    world.settle();
    assert_eq!(world.ended(), []);
}

#[test]
fn a_timer_fires_at_its_deadline_and_then_is_none() {
    let mut world = World::new(1, 0, &ConnectionOptions::default());
    world.pass(HOUR - 1);
    assert_eq!((world.fired(), world.poller().next_deadline()), (0, Some(START + HOUR)));
    world.pass(1);
    assert_eq!((world.fired(), world.poller().next_deadline()), (1, None));
}

#[test]
fn input_that_arrived_is_read_before_a_limit_is_judged() {
    let second = Some(Duration::from_secs(1));
    for options in [
        ConnectionOptions { first_byte_timeout: second, ..ConnectionOptions::default() },
        ConnectionOptions { idle_timeout: second, ..ConnectionOptions::default() },
        ConnectionOptions { receive_timeout: second, ..ConnectionOptions::default() },
    ] {
        let mut world = World::new(0, 0, &options);
        world.peer.push(b"in time");
        world.poller().wake_memory(world.token, false, false);
        world.pass(2 * SECOND);
        assert_eq!(world.ended(), []);
    }
}

#[test]
fn a_lifetime_ends_a_connection_although_its_input_never_ends() {
    let options = ConnectionOptions { lifetime: Some(Duration::from_secs(1)), ..ConnectionOptions::default() };
    let mut world = World::new(0, 0, &options);
    world.peer.push(&vec![0; 600_000]);
    world.poller().wake_memory(world.token, false, false);
    world.pass(SECOND);
    assert_eq!(world.ended().len(), 1);
}
