//! The life of a connection as rules and one table.
//!
//! Pure. The table keeps these rules of the contract:
//!
//! * `on_open` comes first and once: only [`Phase::Open`] has other callbacks, and `on_open` is the only way into it.
//! * `on_close` comes last and once: every way out of `Open` leads through [`Event::Tell`], which is possible once.
//! * A connection without a handler ends without a callback: `Accepted` goes straight to [`Phase::Gone`].
//! * A handler of a connection that ends before its `on_open` gets both callbacks: `New` becomes `Doomed`, not `Ended`.
//! * No phase comes twice: the phases are in the order of a life. Only a handler that takes over starts again.

/// The phases of a connection, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It has no handler yet.
    Accepted,
    /// It has a handler; `on_open` is due.
    New,
    /// As `New`, but the connection ends right after `on_open`.
    Doomed,
    /// Callbacks run.
    Open,
    /// Closed; the waiting output still goes out.
    Flushing,
    /// `on_close` is due.
    Ended,
    /// `on_close` was called; input is discarded until the peer has read everything.
    Lingering,
    /// Removed from the poller's tables.
    Gone,
}

/// The events that move a connection from one phase to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The dispatch gets `on_open`; for an accepted connection it makes the handler too.
    Open,
    /// An orderly end: the output is sent first.
    Close,
    /// An end at once. Also the moment when a closed connection has sent its output.
    End,
    /// The dispatch gets `on_close`; the peer may still be sending.
    Tell,
    /// Another handler takes over.
    HandOver,
    /// The socket is no longer needed.
    Remove,
}

impl Phase {
    /// Every phase, in their order.
    #[cfg(test)]
    pub const ALL: [Self; 8] =
        [Self::Accepted, Self::New, Self::Doomed, Self::Open, Self::Flushing, Self::Ended, Self::Lingering, Self::Gone];

    /// The table: the next phase, or `None` if the event changes nothing.
    pub fn after(self, event: Event) -> Option<Self> {
        use Event::{Close, End, HandOver, Open, Remove, Tell};
        Some(match (self, event) {
            (Self::Accepted | Self::New | Self::Doomed, Open) => Self::Open,
            (Self::Accepted, Close | End) => Self::Gone,
            (Self::New, Close | End) | (Self::Doomed, End) => Self::Doomed,
            (Self::Open, Close) => Self::Flushing,
            (Self::Open | Self::Flushing, End) => Self::Ended,
            (Self::Open, HandOver) => Self::New,
            // An open connection with a vanished peer gets `on_close` directly.
            (Self::Open | Self::Ended, Tell) => Self::Lingering,
            (Self::Accepted | Self::Open | Self::Ended | Self::Lingering, Remove) => Self::Gone,
            _ => return None,
        })
    }

    /// Whether the handler, or the one that is being made, may still act on the connection.
    #[inline]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Accepted | Self::New | Self::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 6] = [Event::Open, Event::Close, Event::End, Event::Tell, Event::HandOver, Event::Remove];

    /// The table again as a picture: a row for each phase, a column for each event, `-` for no change.
    const PICTURE: &str = "
        .          Open  Close     End     Tell       HandOver  Remove
        Accepted   Open  Gone      Gone    -          -         Gone
        New        Open  Doomed    Doomed  -          -         -
        Doomed     Open  -         Doomed  -          -         -
        Open       -     Flushing  Ended   Lingering  New       Gone
        Flushing   -     -         Ended   -          -         -
        Ended      -     -         -       Lingering  -         Gone
        Lingering  -     -         -       -          -         Gone
        Gone       -     -         -       -          -         -";

    #[test]
    fn every_pair_of_phase_and_event_is_as_in_the_picture() {
        let rows: Vec<Vec<&str>> = PICTURE.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let columns: Vec<String> = EVENTS.iter().map(|event| format!("{event:?}")).collect();
        assert_eq!(rows[0][1..], columns);
        for (row, phase) in rows[1..].iter().zip(Phase::ALL) {
            assert_eq!(row[0], format!("{phase:?}"));
            for (cell, event) in row[1..].iter().zip(EVENTS) {
                let after = phase.after(event).map_or("-".into(), |after| format!("{after:?}"));
                assert_eq!(after, *cell, "{phase:?} after {event:?}");
            }
        }
    }

    /// Every walk of up to eight events that ends a connection with a handler.
    #[test]
    fn on_open_comes_first_and_once_and_on_close_last_and_once_on_every_walk() {
        let mut walks = vec![(Phase::New, 0, 0)];
        for _ in 0..8 {
            let mut longer = Vec::new();
            for (phase, opens, tells) in walks {
                for event in EVENTS {
                    let Some(after) = phase.after(event) else { continue };
                    // The callbacks of the next handler are counted anew.
                    let (opens, tells) = if event == Event::HandOver { (0, 0) } else { (opens, tells) };
                    let opens = opens + u32::from(event == Event::Open);
                    let tells = tells + u32::from(event == Event::Tell);
                    assert!(opens <= 1 && tells <= opens, "{phase:?} after {event:?}");
                    assert!(after >= phase || event == Event::HandOver, "{phase:?} after {event:?}");
                    longer.push((after, opens, tells));
                }
            }
            longer.sort_unstable();
            longer.dedup();
            walks = longer;
        }
    }
}
