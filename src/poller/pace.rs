//! The pace of log lines that peers cause.

/// Nanoseconds between two lines of the same kind.
const TOLD_EVERY: u64 = 1_000_000_000;

/// The times of the last lines, by their kinds; 0 for never.
pub(super) struct Pace<const KINDS: usize>([u64; KINDS]);

impl<const KINDS: usize> Default for Pace<KINDS> {
    fn default() -> Self {
        Self([0; KINDS])
    }
}

impl<const KINDS: usize> Pace<KINDS> {
    /// Whether a line is due, which is written then.
    pub fn is_due(&mut self, kind: usize, now: u64) -> bool {
        let told = &mut self.0[kind];
        let is_due = *told == 0 || now.saturating_sub(*told) >= TOLD_EVERY;
        if is_due {
            *told = now.max(1);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_line_a_second() {
        let mut pace = Pace::<2>::default();
        let due: Vec<_> = [0, 1, 999_999_999, TOLD_EVERY + 1, TOLD_EVERY + 2].map(|now| pace.is_due(0, now)).into();
        assert_eq!(due, [true, false, false, true, false]);
        assert!(pace.is_due(1, TOLD_EVERY + 2));
    }
}
