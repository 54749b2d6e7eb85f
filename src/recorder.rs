//! The place for records of what protocols did, as the protocols see it.
//!
//! A protocol puts bytes into a [`Recorder`] and knows no file. The owner of the file turns them into lines by a [`Render`]
//! of that protocol, on a thread of its own, and does not know their meaning. Nothing here does any work.

/// Takes records. None of the methods waits or makes a system call, except to wake the thread that writes.
pub trait Recorder: Send + Sync {
    /// The time now: nanoseconds on the clock of the process.
    fn now(&self) -> u64;

    /// Whether the next record belongs to the sample.
    fn draws(&self) -> bool;

    /// The parts of a record that its renderer needs, as a set of bits that the protocol has defined.
    fn needs(&self) -> u8;

    /// Keeps a record, put together from its parts; drops it and counts that if there is no room.
    fn put(&self, parts: &[&[u8]]);
}

/// Makes lines of records.
pub trait Render: Send {
    /// Appends the line of a record, with its end.
    fn render(&mut self, record: &[u8], time: Time, out: &mut Vec<u8>);
}

/// The relation of the clock of the process to the time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Nanoseconds from 1970 to the zero of the clock.
    pub zero: u64,
    /// Seconds by which local time is ahead of UTC.
    pub east: i32,
}
