//! The choice of the poller for a new connection.
//!
//! A [`Placer`] belongs to an acceptor whose listeners serve several pollers. The pollers themselves move connections later.
//! Nothing here waits, and the only system call asks a socket for the CPU on which its packets arrive.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use socket2::Socket;

use crate::options::Placement;
use crate::system::steering;

/// The facts about a poller on which the choice depends. The poller owns them, and stores its CPU.
pub(crate) struct Load {
    /// Accepted connections that were placed on it and have not ended, those on their way included.
    connections: AtomicUsize,
    /// Whether an acceptor asks for the CPU.
    wants_cpu: AtomicBool,
    /// The CPU on which it last ran.
    cpu: AtomicUsize,
    /// The CPU on which the packets of its busy connections arrived at its last look; `usize::MAX` before the first.
    side: AtomicUsize,
    /// Whether an acceptor has its connections move.
    pub balances: AtomicBool,
    /// The CPU time of the poller's thread at its last look at the balance, in nanoseconds.
    pub spent: AtomicU64,
    /// The connections that it read between its last two looks.
    pub busy: AtomicUsize,
    /// The time for which the thread has waited for a CPU, at its last look, in nanoseconds.
    pub delayed: AtomicU64,
}

impl Load {
    pub fn new() -> Self {
        Self {
            connections: AtomicUsize::new(0),
            wants_cpu: AtomicBool::new(false),
            cpu: AtomicUsize::new(usize::MAX),
            side: AtomicUsize::new(usize::MAX),
            balances: AtomicBool::new(false),
            spent: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            delayed: AtomicU64::new(0),
        }
    }

    /// The number of connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The CPU on which it last ran.
    pub fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    /// The CPU of its connections' packets; before it has looked, its own.
    pub fn side(&self) -> usize {
        match self.side.load(Ordering::Relaxed) {
            usize::MAX => self.cpu(),
            side => side,
        }
    }

    /// Notes the CPU of its connections' packets.
    pub fn note_side(&self, cpu: usize) {
        self.side.store(cpu, Ordering::Relaxed);
    }

    /// Notes and returns the CPU on which the calling thread, that of the poller, runs, if an acceptor asks for it.
    #[inline]
    pub fn note_cpu(&self) -> Option<usize> {
        let is_wanted = self.wants_cpu.load(Ordering::Relaxed);
        let cpu = is_wanted.then(steering::current_cpu);
        if let Some(cpu) = cpu {
            self.cpu.store(cpu, Ordering::Relaxed);
        }
        cpu
    }
}

/// A place on a poller. It counts as one of its connections until it is dropped.
pub(crate) struct Place {
    load: Arc<Load>,
    /// Whether the connection may move to another poller.
    moves: bool,
}

impl Place {
    fn on(load: &Arc<Load>, moves: bool) -> Self {
        load.connections.fetch_add(1, Ordering::Relaxed);
        Self { load: load.clone(), moves }
    }

    /// Whether the connection may move to another poller.
    pub fn moves(&self) -> bool {
        self.moves
    }

    /// Counts the connection as one of another poller.
    pub fn move_to(&mut self, load: &Arc<Load>) {
        *self = Self::on(load, self.moves);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Distributes connections among pollers.
pub(crate) struct Placer {
    placement: Placement,
    loads: Vec<Arc<Load>>,
    turn: AtomicUsize,
    hasher: RandomState,
}

impl Placer {
    /// Distributes among the pollers with these loads; there is at least one.
    pub fn new(placement: Placement, loads: Vec<Arc<Load>>) -> Self {
        if matches!(placement, Placement::Auto | Placement::IncomingCpu) {
            loads.iter().for_each(|load| load.wants_cpu.store(true, Ordering::Relaxed));
        }
        if placement == Placement::Auto && loads.len() > 1 {
            loads.iter().for_each(|load| load.balances.store(true, Ordering::Relaxed));
        }
        Self { placement, loads, turn: AtomicUsize::new(0), hasher: RandomState::new() }
    }

    /// The place of an accepted connection, and the index of its poller. A Unix socket has no address.
    pub fn place(&self, socket: &Socket, address: Option<IpAddr>) -> (usize, Place) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.loads.len();
        let counts = || self.loads.iter().map(|load| load.connections()).collect::<Vec<_>>();
        let index = match self.placement {
            Placement::RoundRobin => turn,
            Placement::Least => least(&counts(), turn),
            Placement::IncomingCpu => {
                let counts = counts();
                self.of_cpu(socket, &counts).unwrap_or_else(|| least(&counts, turn))
            }
            Placement::Auto => {
                let counts = counts();
                fair(&counts, self.of_cpu(socket, &counts), turn)
            }
            Placement::SourceAddress => address.map_or(turn, |address| self.of_address(address)),
        };
        (index, Place::on(&self.loads[index], self.placement == Placement::Auto))
    }

    /// The poller that runs on the CPU on which the packets of the connection arrive; of several the one with the fewest
    /// connections.
    fn of_cpu(&self, socket: &Socket, counts: &[usize]) -> Option<usize> {
        let cpu = steering::incoming_cpu(socket)?;
        let here = |index: &usize| self.loads[*index].cpu() == cpu;
        (0..self.loads.len()).filter(here).min_by_key(|index| counts[*index])
    }

    fn of_address(&self, address: IpAddr) -> usize {
        (self.hasher.hash_one(address) % self.loads.len() as u64) as usize
    }
}

/// The poller with the fewest connections; of several the one with the next turn.
fn least(loads: &[usize], turn: usize) -> usize {
    let from_turn = (turn..loads.len()).chain(0..turn);
    from_turn.min_by_key(|index| loads[*index]).unwrap_or(turn)
}

/// The wanted poller, unless it would hold more than a fifth above the mean: of two pollers none has more than 60 %.
fn fair(loads: &[usize], wanted: Option<usize>, turn: usize) -> usize {
    let least = least(loads, turn);
    let Some(wanted) = wanted else { return least };
    let all = loads.iter().sum::<usize>() + 1;
    if has_room(loads, wanted, all) || loads[wanted] == loads[least] { wanted } else { least }
}

/// Whether a poller may get one of the connections of another one.
pub(crate) fn is_fair(loads: &[usize], wanted: usize) -> bool {
    has_room(loads, wanted, loads.iter().sum())
}

/// Counts a connection of one poller as one of another. A count that is a little old may miss it.
pub(crate) fn shift(loads: &mut [usize], from: usize, to: usize) {
    loads[to] += 1;
    loads[from] = loads[from].saturating_sub(1);
}

/// Whether one connection more leaves a poller within a fifth above the mean of `all`.
fn has_room(loads: &[usize], wanted: usize, all: usize) -> bool {
    5 * loads.len() * (loads[wanted] + 1) <= 6 * all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The loads after connections that want these pollers.
    fn placed(pollers: usize, wanted: impl IntoIterator<Item = Option<usize>>) -> Vec<usize> {
        let mut loads = vec![0; pollers];
        for (count, wanted) in wanted.into_iter().enumerate() {
            let index = fair(&loads, wanted, count % pollers);
            loads[index] += 1;
        }
        loads
    }

    #[test]
    fn connections_that_all_want_one_poller_are_split_at_worst_sixty_to_forty() {
        for count in 1..1000 {
            let loads = placed(2, std::iter::repeat_n(Some(1), count));
            assert!(loads[1] - loads[0] <= (count / 5).max(1), "{loads:?}");
        }
        assert_eq!(placed(2, [Some(1); 100]), [40, 60]);
    }

    #[test]
    fn two_connections_never_share_a_poller() {
        assert_eq!(placed(2, [Some(0), Some(0)]), [1, 1]);
        assert_eq!(placed(2, [Some(1), Some(0)]), [1, 1]);
        assert_eq!(placed(2, [None, None]), [1, 1]);
    }

    #[test]
    fn each_gets_the_poller_that_it_wants_while_the_loads_are_even() {
        assert_eq!(fair(&[5, 5], Some(1), 0), 1);
        assert_eq!(fair(&[10, 11], Some(1), 0), 1);
        assert_eq!(fair(&[4, 6], Some(1), 0), 0);
    }

    #[test]
    fn equal_loads_take_turns() {
        assert_eq!([0, 1, 2].map(|turn| least(&[3, 3, 3], turn)), [0, 1, 2]);
        assert_eq!([0, 1, 2].map(|turn| least(&[3, 2, 3], turn)), [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn no_poller_holds_more_than_a_fifth_above_the_mean_and_one_more(
            pollers in 1..8_usize, wanted in prop::collection::vec(prop::option::of(0..8_usize), 0..300),
        ) {
            let wanted: Vec<_> = wanted.into_iter().map(|wanted| wanted.map(|wanted| wanted % pollers)).collect();
            let count = wanted.len();
            let loads = placed(pollers, wanted);
            prop_assert_eq!(loads.iter().sum::<usize>(), count);
            prop_assert!(loads.iter().all(|load| 5 * pollers * (load - load.min(&1)) <= 6 * count), "{:?}", loads);
        }
    }
}
