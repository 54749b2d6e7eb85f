//! The callbacks of a connection, as its state asks for them.

/// The callback that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Open,
    Read,
    Drain,
    Stopping,
    Eof,
    /// A callback waits for [`Due::Drain`], which itself may have to wait for that callback.
    Drained,
    /// The callbacks that wait are to be cancelled.
    Cancel,
    /// The peer has gone away while callbacks wait: the connection ends.
    Desertion,
    Close,
}
