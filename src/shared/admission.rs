//! Limits on new connections: how many at once, how many from one address, how many a second; and their counters.
//!
//! All listeners of an acceptor share one [`Admission`]. This module uses no socket and no clock. A [`Room`] is held for
//! a connection that is about to be accepted. It becomes a [`Permit`], which stands for the connection until its socket
//! is closed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

use crate::capacity::room_for;
use crate::journal::Journal;
use crate::options::AdmissionOptions;
use crate::shared::placement::{Load, Place};

/// The burst above `accept_rate`: the connections of this many nanoseconds may come at once.
const BURST: u64 = 1_000_000_000;

/// The connections of one acceptor so far.
#[derive(Default)]
pub(crate) struct Tally {
    /// Connections that were accepted.
    accepted: AtomicU64,
    /// Accepted connections whose sockets were closed.
    ended: AtomicU64,
    /// Peers that were accepted and closed at once, because of a limit.
    refused: AtomicU64,
    /// Accepted connections that got no handler, because the factory raised.
    rejected: AtomicU64,
    /// Calls of accept(2) that failed for lack of descriptors or memory.
    failed: AtomicU64,
}

/// The counters of one acceptor at one moment.
pub struct Counted {
    /// Connections that were accepted, refused ones not included.
    pub accepted: u64,
    /// Accepted connections whose sockets are not closed yet.
    pub open: u64,
    /// Peers that were accepted and closed at once, because of a limit.
    pub refused: u64,
    /// Accepted connections that got no handler, because the factory raised.
    pub rejected: u64,
    /// Calls of accept(2) that failed for lack of descriptors or memory.
    pub failed: u64,
}

/// The gate of one acceptor.
pub(crate) struct Admission {
    options: AdmissionOptions,
    /// Connections that are open or about to be accepted; counted only if `max_connections` is set.
    open: AtomicUsize,
    tally: Tally,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// The time at which the next connection would be due at an even rate. It tells how far ahead of the rate the
    /// connections are.
    due: AtomicU64,
    /// Whether a listener found no room and waits for a message.
    awaited: AtomicBool,
    /// Whether the connections are being ended.
    stopping: AtomicBool,
    tell: Box<dyn Fn() + Send + Sync>,
    /// The access log of the connections. It is here because each connection has its permit, whatever handler it gets.
    journal: Option<Arc<Journal>>,
}

/// The room for one connection that is about to be accepted. Its drop makes the room free again.
pub(crate) struct Room(Option<Arc<Admission>>);

/// The permission for one connection to be open. The address is in a box, because most acceptors count none.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    address: Option<Box<IpAddr>>,
    /// Its place, if its poller was chosen among several.
    pub place: Option<Place>,
}

impl Permit {
    /// The access log of its acceptor.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.admission.journal.as_ref()
    }

    /// Whether its connection may move to another poller.
    pub fn moves(&self) -> bool {
        self.place.as_ref().is_some_and(Place::moves)
    }

    /// Counts its connection as one of another poller.
    pub fn move_to(&mut self, load: &Arc<Load>) {
        if let Some(place) = &mut self.place {
            place.move_to(load);
        }
    }

    /// Whether the connections of its acceptor are being ended.
    pub fn is_stopping(&self) -> bool {
        self.admission.stopping.load(Ordering::Relaxed)
    }

    /// Whether that gate gave it.
    pub fn is_of(&self, gate: &Arc<Admission>) -> bool {
        Arc::ptr_eq(&self.admission, gate)
    }
}

impl Admission {
    /// Makes the gate; `tell` is called when there is room again.
    pub fn new(
        options: AdmissionOptions,
        journal: Option<Arc<Journal>>,
        tell: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            options,
            open: AtomicUsize::new(0),
            tally: Tally::default(),
            addresses: Mutex::default(),
            due: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            tell: Box::new(tell),
            journal,
        })
    }

    /// Reserves room for one connection. If there is none, `tell` is called as soon as room becomes free.
    pub fn reserve(self: &Arc<Self>) -> Option<Room> {
        self.try_reserve().or_else(|| {
            self.awaited.store(true, Ordering::SeqCst);
            // Room may have become free just before the flag was set.
            self.try_reserve()
        })
    }

    fn try_reserve(self: &Arc<Self>) -> Option<Room> {
        if let Some(most) = self.options.max_connections {
            let more = |open| (open < most).then_some(open + 1);
            self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        }
        Some(Room(Some(self.clone())))
    }

    /// Notes that the connections are being ended.
    pub fn note_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Frees the room of one connection.
    fn free(&self) {
        if self.options.max_connections.is_some() {
            self.open.fetch_sub(1, Ordering::SeqCst);
            if self.awaited.swap(false, Ordering::SeqCst) {
                (self.tell)();
            }
        }
    }

    /// Counts a peer that was closed at once.
    pub fn note_refused(&self) {
        self.tally.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that got no handler.
    pub fn note_rejected(&self) {
        self.tally.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an accept that failed.
    pub fn note_failed(&self) {
        self.tally.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters.
    pub fn counted(&self) -> Counted {
        let Tally { accepted, ended, refused, rejected, failed } = &self.tally;
        // Read first: read later, it could exceed the number of accepted connections.
        let ended = ended.load(Ordering::Acquire);
        let accepted = accepted.load(Ordering::Acquire);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            accepted,
            open: accepted.saturating_sub(ended),
            refused: of(refused),
            rejected: of(rejected),
            failed: of(failed),
        }
    }

    /// The time at which the rate allows the next connection; `None` if it allows it `now`.
    pub fn too_fast(&self, now: u64) -> Option<u64> {
        self.options.accept_rate?;
        let ahead = self.due.load(Ordering::Relaxed).saturating_sub(BURST);
        (ahead > now).then_some(ahead)
    }

    /// Counts a connection toward the rate.
    pub fn note_accepted(&self, now: u64) {
        if let Some(rate) = self.options.accept_rate {
            let step = (1e9 / rate) as u64;
            let _ = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(due.max(now) + step));
        }
    }

    /// Counts one more connection from an address; `None` if there are `most` already.
    fn enter(&self, address: IpAddr, most: usize) -> Option<Box<IpAddr>> {
        let mut addresses = self.lock();
        let open = addresses.entry(address).or_insert(0);
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(Box::new(address))
    }

    fn leave(&self, address: &IpAddr) {
        let mut addresses = self.lock();
        match addresses.get_mut(address) {
            Some(open) if *open > 1 => *open -= 1,
            _ => {
                addresses.remove(address);
                if let Some(room) = room_for(addresses.len(), addresses.capacity()) {
                    addresses.shrink_to(room);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // A panic while the lock is held cannot leave the map half changed.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Counts the connection that was accepted into the room. Returns `None` if the limit allows no further connection
    /// from its address.
    pub fn admit(mut self, address: Option<IpAddr>) -> Option<Permit> {
        let admission = self.0.as_ref()?;
        let address = match (admission.options.max_connections_per_address, address) {
            (Some(most), Some(address)) => Some(admission.enter(network(address), most)?),
            _ => None,
        };
        let admission = self.0.take()?;
        admission.tally.accepted.fetch_add(1, Ordering::Release);
        Some(Permit { admission, address, place: None })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.free();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            self.admission.leave(address);
        }
        self.admission.tally.ended.fetch_add(1, Ordering::Release);
        self.admission.free();
    }
}

/// The unit that counts as one address: of IPv6 the first 64 bits, because one host has all addresses below them (RFC
/// 4291 section 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn gate(options: AdmissionOptions) -> (Arc<Admission>, Arc<AtomicUsize>) {
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        let tell = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        (Admission::new(options, None, tell), told)
    }

    #[test]
    fn without_limits_there_is_always_room() {
        let (gate, told) = gate(AdmissionOptions::default());
        let inside: Vec<_> = (0..1000).filter_map(|_| gate.reserve()?.admit(None)).collect();
        assert_eq!((inside.len(), gate.too_fast(0)), (1000, None));
        drop(inside);
        assert_eq!(told.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn it_counts_what_was_accepted_and_room_without_a_connection_not() {
        let (gate, _) = gate(AdmissionOptions { max_connections: Some(2), ..Default::default() });
        let (first, second) = (gate.reserve().and_then(|room| room.admit(None)), gate.reserve());
        let Counted { accepted, open, refused, rejected, failed } = gate.counted();
        assert_eq!((accepted, open, refused, rejected, failed), (1, 1, 0, 0, 0));
        drop((first, second));
        for note in [Admission::note_refused, Admission::note_rejected, Admission::note_failed] {
            note(&gate);
        }
        let Counted { accepted, open, refused, rejected, failed } = gate.counted();
        assert_eq!((accepted, open, refused, rejected, failed), (1, 0, 1, 1, 1));
    }

    #[test]
    fn room_that_comes_free_is_told_once_to_who_found_none() {
        let (gate, told) = gate(AdmissionOptions { max_connections: Some(2), ..Default::default() });
        let (first, second) = (gate.reserve(), gate.reserve());
        assert!(first.is_some() && second.is_some() && gate.reserve().is_none());
        drop(first);
        drop(second);
        assert_eq!(told.load(Ordering::SeqCst), 1);
        assert!(gate.reserve().is_some());
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn each_address_has_its_share_and_a_host_of_ipv6_one() {
        let (gate, _) = gate(AdmissionOptions { max_connections_per_address: Some(1), ..Default::default() });
        let enter = |address: &str| gate.reserve()?.admit(Some(address.parse().ok()?));
        let (a, b, c) = (enter("192.0.2.1"), enter("192.0.2.2"), enter("2001:db8::1"));
        assert!(a.is_some() && b.is_some() && c.is_some());
        assert!(enter("192.0.2.1").is_none() && enter("2001:db8::ffff:1").is_none());
        assert!(enter("::ffff:192.0.2.1").is_none());
        drop(a);
        assert!(enter("192.0.2.1").is_some());
        drop((b, c));
        assert!(gate.lock().is_empty());
    }

    #[test]
    fn an_address_may_have_several_connections_and_each_end_makes_room_for_one() {
        let (gate, _) = gate(AdmissionOptions { max_connections_per_address: Some(3), ..Default::default() });
        let address = IpAddr::from([192, 0, 2, 1]);
        let enter = || gate.reserve()?.admit(Some(address));
        let mut inside: Vec<_> = (0..3).filter_map(|_| enter()).collect();
        assert_eq!((inside.len(), gate.lock().get(&address)), (3, Some(&3)));
        assert!(enter().is_none());
        inside.truncate(1);
        assert_eq!(gate.lock().get(&address), Some(&1));
        assert!(enter().is_some());
    }

    #[test]
    fn a_gate_counts_each_connection_until_it_ends() {
        let (gate, _) = gate(AdmissionOptions { max_connections: Some(3), ..Default::default() });
        let mut inside: Vec<_> = (0..3).filter_map(|_| gate.reserve()).collect();
        assert_eq!((inside.len(), gate.open.load(Ordering::SeqCst)), (3, 3));
        inside.truncate(1);
        assert_eq!(gate.open.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn of_an_ipv6_address_the_first_half_counts_and_of_a_mapped_one_the_ipv4_address() {
        for (address, counted) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
        ] {
            assert_eq!(network(address.parse().expect(address)).to_string(), counted);
        }
    }

    #[test]
    fn a_rate_lets_the_connections_of_a_second_in_at_once_and_then_one_at_a_time() {
        let (gate, _) = gate(AdmissionOptions { accept_rate: Some(10.0), ..Default::default() });
        let start = 5 * BURST;
        for _ in 0..11 {
            assert_eq!(gate.too_fast(start), None);
            gate.note_accepted(start);
        }
        let next = gate.too_fast(start).expect("the burst is used up");
        assert_eq!(next, start + BURST / 10);
        assert_eq!(gate.too_fast(next), None);
    }
}

/// Tries every order of steps, as the models of the mailbox do.
#[cfg(all(test, loom))]
mod models {
    use loom::sync::Notify;
    use loom::thread;

    use super::*;

    #[test]
    fn who_found_no_room_is_told_when_there_is_some_and_never_are_there_too_many() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let bell = loom::sync::Arc::new(Notify::new());
            let told = bell.clone();
            let options = AdmissionOptions { max_connections: Some(1), ..Default::default() };
            let gate = Admission::new(options, None, move || told.notify());
            let inside = gate.reserve().expect("there is room");
            let leaving = thread::spawn(move || drop(inside));
            // A listener asks again each time that `tell` is called.
            let permit = loop {
                if let Some(permit) = gate.reserve() {
                    break permit;
                }
                // If `tell` is not called for free room, the model ends here: loom fails when all threads sleep.
                bell.wait();
            };
            assert!(gate.reserve().is_none());
            leaving.join().expect("it ends well");
            drop(permit);
            assert!(gate.reserve().is_some());
        });
    }
}
