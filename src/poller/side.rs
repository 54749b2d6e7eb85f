//! The side of a poller: the CPU on which the packets of its connections arrive.
//!
//! With clients on the same machine that is often not the CPU of the poller for a while, because the scheduler moves the
//! clients' threads. The connections of one thread move with it, and belong together on each CPU. So a connection is judged by
//! the others of its poller: it strays if its packets arrive apart from theirs, and on the side of another poller.

use crate::slots::Token;

/// The looks in a row after which a poller stands for its own CPU, though its packets arrive on another one. A network card
/// never moves its packets to the CPU of a poller, so the connections have to.
const LASTING: u8 = 10;

/// A connection, and the CPU on which its last packets arrived.
pub(super) type Sighting = (Token, usize);

#[derive(Default)]
pub(super) struct Side {
    /// The number of looks in a row that found the packets of this poller on another CPU than its own.
    elsewhere: u8,
}

impl Side {
    /// The side at this look, by that of most packets; `None` if it is the poller's `own` CPU.
    pub fn judge(&mut self, of_most: Option<usize>, own: usize) -> Option<usize> {
        let is_elsewhere = of_most.is_some_and(|cpu| cpu != own);
        self.elsewhere = if is_elsewhere { self.elsewhere.saturating_add(1) } else { 0 };
        of_most.filter(|_| self.elsewhere <= LASTING)
    }
}

/// The CPU on which the packets of at least two thirds of the connections arrive, if there is one.
pub(super) fn side_of(sightings: &[Sighting]) -> Option<usize> {
    // A majority is left over when each pair of two different CPUs is crossed out (Boyer and Moore, 1981).
    let (mut side, mut lead) = (None, 0_usize);
    for (_, cpu) in sightings {
        if lead == 0 {
            side = Some(*cpu);
        }
        lead = if side == Some(*cpu) { lead + 1 } else { lead - 1 };
    }
    let count = sightings.iter().filter(|(_, cpu)| side == Some(*cpu)).count();
    side.filter(|_| 3 * count >= 2 * sightings.len())
}

/// Another poller on whose side packets of this CPU arrive. `None` if they arrive on that of the poller `here`.
pub(super) fn poller_of(cpu: usize, sides: &[usize], here: usize) -> Option<usize> {
    if sides[here] == cpu { None } else { sides.iter().position(|side| *side == cpu) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side(cpus: &[usize]) -> Option<usize> {
        let token = Token::from_bits(1);
        side_of(&cpus.iter().map(|cpu| (token, *cpu)).collect::<Vec<_>>())
    }

    #[test]
    fn the_side_is_the_cpu_of_two_thirds_of_the_connections() {
        assert_eq!(side(&[]), None);
        assert_eq!(side(&[3]), Some(3));
        assert_eq!(side(&[0, 1, 1]), Some(1));
        assert_eq!(side(&[1, 0, 1, 0, 1]), None);
        assert_eq!(side(&[0, 1, 2]), None);
    }

    #[test]
    fn connections_of_a_thread_that_changes_its_cpu_stay_together() {
        let mut here = Side::default();
        let (mine, strayed) = ([1, 1, 1, 1], 0);
        let own = here.judge(side(&[&mine[..], &[strayed]].concat()), 0);
        assert_eq!(own, Some(1), "most packets arrive on CPU 1 for now");
        assert_eq!(poller_of(1, &[1, 0], 0), None);
        assert_eq!(poller_of(strayed, &[1, 0], 0), Some(1), "the other poller has the packets of CPU 0");
    }

    #[test]
    fn a_side_that_lasts_on_another_cpu_ends_and_the_connections_stray() {
        let mut here = Side::default();
        for _ in 0..LASTING {
            assert_eq!(here.judge(Some(1), 0), Some(1));
        }
        assert_eq!(here.judge(Some(1), 0), None);
        assert_eq!(here.judge(Some(0), 0), Some(0));
        assert_eq!(here.judge(Some(1), 0), Some(1), "it counts anew");
    }

    #[test]
    fn packets_on_the_side_of_no_poller_stay() {
        assert_eq!(poller_of(2, &[0, 0], 1), None);
        assert_eq!(poller_of(0, &[0, 0], 1), None, "both pollers have that side");
    }

    proptest! {
        #[test]
        fn a_cpu_is_the_side_if_and_only_if_two_thirds_arrive_there(cpus in prop::collection::vec(0..3_usize, 1..40)) {
            let of = |cpu| cpus.iter().filter(|other| **other == cpu).count();
            let expected = (0..3).find(|cpu| 3 * of(*cpu) >= 2 * cpus.len());
            prop_assert_eq!(side(&cpus), expected);
        }
    }
}
