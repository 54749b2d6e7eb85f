//! The settings of connections and acceptors: defaults, units and limits.
//!
//! Pure. Sizes are bytes.

use std::time::Duration;

use crate::error::Error;

/// The kernel doubles what is asked for, and counts in a C int (socket(7)).
pub const MAX_SOCKET_BUFFER: usize = i32::MAX as usize / 2;

/// Settings of each connection of an acceptor.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Unread input that may wait; reading pauses there.
    pub max_input: usize,
    /// Queued output above which reading pauses and writes go out at once.
    pub high_water: usize,
    /// Queued output at which reading resumes and `on_drain` comes.
    pub low_water: usize,
    /// Queued output that ends the connection.
    pub max_output: usize,
    /// How long a closed connection discards what still arrives, so that the peer reads all before a reset.
    pub linger_timeout: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            max_input: 1024 * 1024,
            high_water: 64 * 1024,
            low_water: 16 * 1024,
            max_output: 64 * 1024 * 1024,
            linger_timeout: Duration::from_secs(2),
        }
    }
}

impl ConnectionOptions {
    /// Checks the limits against each other and against what the buffers can count.
    pub fn validate(&self) -> Result<(), Error> {
        let most = 1 << 30;
        within("max_input", self.max_input, 1, most)?;
        within("max_output", self.max_output, 1, usize::MAX / 4)?;
        within("high_water", self.high_water, 0, self.max_output)?;
        within("low_water", self.low_water, 0, self.high_water)
    }
}

/// Settings of an acceptor.
#[derive(Clone, Debug)]
pub struct AcceptorOptions {
    /// `SO_REUSEPORT` with one listener per poller.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`: bind although old connections of the address linger in TIME_WAIT.
    pub reuse_address: bool,
    /// Hand each connection to the poller of the CPU it arrived on; needs `reuse_port`.
    pub cpu_steering: bool,
    /// Connections the kernel queues until they are accepted.
    pub backlog: usize,
    /// `TCP_NODELAY` on each connection.
    pub nodelay: bool,
    /// `SO_RCVBUF`; the system's default when not given.
    pub receive_buffer_size: Option<usize>,
    /// `SO_SNDBUF`; the system's default when not given.
    pub send_buffer_size: Option<usize>,
    /// Settings of the connections.
    pub connection: ConnectionOptions,
}

impl Default for AcceptorOptions {
    fn default() -> Self {
        Self {
            reuse_port: false,
            reuse_address: true,
            cpu_steering: false,
            backlog: 1024,
            nodelay: true,
            receive_buffer_size: None,
            send_buffer_size: None,
            connection: ConnectionOptions::default(),
        }
    }
}

impl AcceptorOptions {
    /// Checks every setting.
    pub fn validate(&self) -> Result<(), Error> {
        within("backlog", self.backlog, 1, 65_535)?;
        for (name, size) in
            [("receive_buffer_size", self.receive_buffer_size), ("send_buffer_size", self.send_buffer_size)]
        {
            size.map_or(Ok(()), |size| within(name, size, 1, MAX_SOCKET_BUFFER))?;
        }
        if self.cpu_steering && !self.reuse_port {
            return Err(Error::Argument("cpu_steering=True needs reuse_port=True: it steers between listeners".into()));
        }
        self.connection.validate()
    }
}

/// An argument error unless `least <= value <= most`.
pub fn within(name: &str, value: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Argument(format!("{name} must be from {least} to {most}, not {value}")))
}
