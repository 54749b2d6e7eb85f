//! The parts that few connections have, in one box: an idle connection is to be small.

use super::waits::Waits;
use crate::error::Reason;
use crate::timer::TimerId;

#[derive(Default)]
pub(super) struct Rare {
    /// Timers that its handler set.
    pub timers: Vec<TimerId>,
    /// The callbacks that have returned and have not ended.
    pub waits: Option<Box<Waits>>,
    /// The reason with which the connection ends right after `on_open`, in [`super::phase::Phase::Doomed`].
    pub early_end: Option<Box<Reason>>,
}
