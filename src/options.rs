//! The settings of sockets, connections, acceptors and connectors: defaults, units and limits.
//!
//! Pure. Sizes are bytes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Error;

/// The kernel doubles what is asked for, and counts in a C int (socket(7)).
pub const MAX_SOCKET_BUFFER: usize = i32::MAX as usize / 2;

/// With less room than this for a read the arena of a poller counts as full.
pub const LEAST_READ: usize = 16 * 1024;

/// Settings of a reactor.
#[derive(Clone, Debug)]
pub struct ReactorOptions {
    /// The threads of the pollers are called so, with a dash and a number.
    pub name: String,
    /// The CPUs on which the pollers run, one after the other; wherever the system likes when not given.
    pub cpus: Option<Vec<usize>>,
    /// How much one batch may read.
    pub read_buffer_size: usize,
    /// Callbacks after which a batch is flushed.
    pub batch_calls: usize,
    /// Time in callbacks after which a batch is flushed.
    pub batch_time: Duration,
    /// Timers to reserve memory for.
    pub timer_capacity: usize,
    /// A callback that runs for longer is reported while it does.
    pub stall_warning: Option<Duration>,
}

impl Default for ReactorOptions {
    fn default() -> Self {
        Self {
            name: "goev-poller".into(),
            cpus: None,
            read_buffer_size: 512 * 1024,
            batch_calls: 256,
            batch_time: Duration::from_millis(1),
            timer_capacity: 0,
            stall_warning: Some(Duration::from_millis(100)),
        }
    }
}

impl ReactorOptions {
    /// Checks every setting; `allowed` are the CPUs this process may use.
    pub fn validate(&self, allowed: &[usize]) -> Result<(), Error> {
        if self.name.contains('\0') {
            return Err(Error::Argument(format!("name must not contain a zero byte, as {:?} does", self.name)));
        }
        within("read_buffer_size", self.read_buffer_size, LEAST_READ, 64 * 1024 * 1024)?;
        within("batch_calls", self.batch_calls, 1, 65_536)?;
        within("timer_capacity", self.timer_capacity, 0, 100_000_000)?;
        if let Some(limit) = self.stall_warning
            && limit < Duration::from_millis(1)
        {
            let seconds = limit.as_secs_f64();
            return Err(Error::Argument(format!("stall_warning must be at least 0.001 seconds, not {seconds}")));
        }
        match &self.cpus {
            Some(cpus) if cpus.is_empty() => Err(Error::Argument("cpus must not be an empty list".into())),
            Some(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                Some(cpu) => {
                    Err(Error::Argument(format!("cpus must be among those allowed here, {allowed:?}; {cpu} is not")))
                }
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// When a silent peer is probed (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds.
    pub idle: Duration,
    /// Time between probes; whole seconds.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub count: u32,
}

/// A peer that is gone without a word is noticed after two minutes; one that lives is never ended.
pub const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(15), count: 4 };

/// Settings of the stream sockets of accepted and outgoing connections. What has no meaning for Unix sockets is left out
/// there.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// `TCP_NODELAY`.
    pub nodelay: bool,
    /// `SO_RCVBUF`; the system's default when not given.
    pub receive_buffer_size: Option<usize>,
    /// `SO_SNDBUF`; the system's default when not given.
    pub send_buffer_size: Option<usize>,
    /// `SO_KEEPALIVE`.
    pub keepalive: Option<Keepalive>,
    /// `SO_BINDTODEVICE`: the name of a network interface.
    pub device: Option<String>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            receive_buffer_size: None,
            send_buffer_size: None,
            keepalive: Some(KEEPALIVE),
            device: None,
        }
    }
}

impl SocketOptions {
    fn validate(&self) -> Result<(), Error> {
        check_buffers(self.receive_buffer_size, self.send_buffer_size)?;
        check_device(self.device.as_deref())
    }
}

/// How fast a peer has to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The mean over a window.
    pub bytes_per_second: f64,
    /// Its length.
    pub window: Duration,
}

/// Settings of each connection of an acceptor or connector; each may be replaced while it is open.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Unread input that may wait; reading pauses there.
    pub max_input: usize,
    /// Queued output above which reading pauses and writes go out at once.
    pub high_water: usize,
    /// Queued output at which reading resumes and `on_drain` comes.
    pub low_water: usize,
    /// Whether output above the high-water mark pauses reading of the same connection. Not for a relay, whose two
    /// directions have nothing to do with each other.
    pub auto_pause: bool,
    /// Queued output that ends the connection.
    pub max_output: usize,
    /// How long a closed connection discards what still arrives, so that the peer reads all before a reset.
    pub linger_timeout: Duration,
    /// How long no byte may move either way.
    pub idle_timeout: Option<Duration>,
    /// How long the peer may take to send its first byte.
    pub first_byte_timeout: Option<Duration>,
    /// How long the peer may take nothing of the output that waits.
    pub write_timeout: Option<Duration>,
    /// How long the connection may be open.
    pub lifetime: Option<Duration>,
    /// How fast the peer has to send.
    pub min_rate: Option<Rate>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            max_input: 1024 * 1024,
            high_water: 64 * 1024,
            low_water: 16 * 1024,
            auto_pause: true,
            max_output: 64 * 1024 * 1024,
            linger_timeout: Duration::from_secs(2),
            idle_timeout: None,
            first_byte_timeout: None,
            write_timeout: Some(Duration::from_secs(60)),
            lifetime: None,
            min_rate: None,
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
        within("low_water", self.low_water, 0, self.high_water)?;
        let times = [
            ("idle_timeout", self.idle_timeout),
            ("first_byte_timeout", self.first_byte_timeout),
            ("write_timeout", self.write_timeout),
            ("lifetime", self.lifetime),
            ("the window of min_rate", self.min_rate.map(|rate| rate.window)),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            return Err(Error::Argument(format!("{name} must be more than 0 seconds, not 0")));
        }
        match self.min_rate {
            Some(rate) if !(rate.bytes_per_second > 0.0 && rate.bytes_per_second.is_finite()) => {
                let rate = rate.bytes_per_second;
                Err(Error::Argument(format!("the rate of min_rate must be more than 0 bytes a second, not {rate}")))
            }
            _ => Ok(()),
        }
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
    /// Who may come in.
    pub admission: AdmissionOptions,
    /// Settings of the sockets.
    pub socket: SocketOptions,
    /// Settings of the connections.
    pub connection: ConnectionOptions,
}

/// Who may come in.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmissionOptions {
    /// Connections that may be open at once.
    pub max_connections: Option<usize>,
    /// What becomes of more.
    pub when_full: WhenFull,
    /// Connections that may be open at once from one address.
    pub max_connections_per_address: Option<usize>,
    /// Connections that may come in a second.
    pub accept_rate: Option<f64>,
}

/// What becomes of a peer for whom there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits in the backlog.
    #[default]
    Wait,
    /// It is accepted and closed.
    Refuse,
}

impl AdmissionOptions {
    fn validate(&self) -> Result<(), Error> {
        let most = u32::MAX as usize;
        self.max_connections.map_or(Ok(()), |limit| within("max_connections", limit, 1, most))?;
        let per_address = self.max_connections_per_address;
        per_address.map_or(Ok(()), |limit| within("max_connections_per_address", limit, 1, most))?;
        match self.accept_rate {
            Some(rate) if !(0.001..=1e9).contains(&rate) => {
                Err(Error::Argument(format!("accept_rate must be from 0.001 to 1000000000 a second, not {rate}")))
            }
            _ => Ok(()),
        }
    }
}

impl Default for AcceptorOptions {
    fn default() -> Self {
        Self {
            reuse_port: false,
            reuse_address: true,
            cpu_steering: false,
            backlog: 1024,
            admission: AdmissionOptions::default(),
            socket: SocketOptions::default(),
            connection: ConnectionOptions::default(),
        }
    }
}

impl AcceptorOptions {
    /// Checks every setting.
    pub fn validate(&self) -> Result<(), Error> {
        within("backlog", self.backlog, 1, 65_535)?;
        if self.cpu_steering && !self.reuse_port {
            return Err(Error::Argument("cpu_steering=True needs reuse_port=True: it steers between listeners".into()));
        }
        self.admission.validate()?;
        self.socket.validate()?;
        self.connection.validate()
    }
}

/// Settings of a connector.
#[derive(Clone, Debug, Default)]
pub struct ConnectorOptions {
    /// Our own address, for a machine that has several; port 0 lets the system choose.
    pub local_address: Option<SocketAddr>,
    /// Settings of the sockets.
    pub socket: SocketOptions,
    /// Settings of the connections.
    pub connection: ConnectionOptions,
}

impl ConnectorOptions {
    /// Checks every setting.
    pub fn validate(&self) -> Result<(), Error> {
        self.socket.validate()?;
        self.connection.validate()
    }
}

/// The most a UDP datagram can hold, and room for it.
pub const MAX_DATAGRAM: usize = 65_535;

/// Settings of a datagram socket.
#[derive(Clone, Debug)]
pub struct DatagramOptions {
    /// `SO_REUSEADDR`: several sockets may listen to one multicast address.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`: the kernel spreads the peers over several sockets.
    pub reuse_port: bool,
    /// `SO_BROADCAST`: sending to broadcast addresses is allowed.
    pub broadcast: bool,
    /// `SO_RCVBUF`; the system's default when not given.
    pub receive_buffer_size: Option<usize>,
    /// `SO_SNDBUF`; the system's default when not given.
    pub send_buffer_size: Option<usize>,
    /// The largest datagram that is taken.
    pub max_size: usize,
    /// `SO_BINDTODEVICE`: the name of a network interface.
    pub device: Option<String>,
}

impl DatagramOptions {
    /// Checks every setting.
    pub fn validate(&self) -> Result<(), Error> {
        within("max_size", self.max_size, 1, MAX_DATAGRAM)?;
        check_buffers(self.receive_buffer_size, self.send_buffer_size)?;
        check_device(self.device.as_deref())
    }
}

fn check_buffers(receive: Option<usize>, send: Option<usize>) -> Result<(), Error> {
    for (name, size) in [("receive_buffer_size", receive), ("send_buffer_size", send)] {
        size.map_or(Ok(()), |size| within(name, size, 1, MAX_SOCKET_BUFFER))?;
    }
    Ok(())
}

fn check_device(device: Option<&str>) -> Result<(), Error> {
    match device {
        Some(name) if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') => {
            Err(Error::Argument(format!("device must be the name of a network interface, 1 to 15 bytes, not {name:?}")))
        }
        _ => Ok(()),
    }
}

/// An argument error unless `least <= value <= most`.
pub fn within(name: &str, value: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Argument(format!("{name} must be from {least} to {most}, not {value}")))
}
