//! The settings of reactors, sockets, connections, acceptors and connectors: defaults, units and limits.
//!
//! Pure values: nothing here makes a system call. Sizes are bytes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::{Error, within};

/// The largest buffer size that may be set. The kernel doubles the value and stores it in a C int (socket(7)).
pub const MAX_SOCKET_BUFFER: usize = i32::MAX as usize / 2;

/// The arena of a poller counts as full when it has less room than this for a read.
pub const LEAST_READ: usize = 16 * 1024;

/// Settings of a reactor.
#[derive(Clone, Debug)]
pub struct ReactorOptions {
    /// The prefix of the thread names; a dash and the poller's number follow.
    pub name: String,
    /// The CPUs to which the pollers are pinned, one after the other; `None` leaves the choice to the system.
    pub cpus: Option<Vec<usize>>,
    /// The most bytes that one batch may read.
    pub read_buffer_size: usize,
    /// Number of callbacks after which a batch is flushed.
    pub batch_calls: usize,
    /// Time in callbacks after which a batch is flushed.
    pub batch_time: Duration,
    /// The most steps of TLS handshakes in one batch.
    pub handshakes_per_batch: usize,
    /// Number of timers to reserve memory for.
    pub timer_capacity: usize,
    /// A callback that runs for longer is reported while it runs.
    pub stall_warning: Option<Duration>,
    /// A callback that ran for longer is reported when it has returned.
    pub slow_callback: Option<Duration>,
    /// Whether the pollers keep histograms of times.
    pub measure: bool,
}

impl Default for ReactorOptions {
    fn default() -> Self {
        Self {
            name: "goev-poller".into(),
            cpus: None,
            read_buffer_size: 512 * 1024,
            batch_calls: 256,
            batch_time: Duration::from_millis(1),
            handshakes_per_batch: 4,
            timer_capacity: 0,
            stall_warning: Some(Duration::from_millis(100)),
            slow_callback: None,
            measure: false,
        }
    }
}

impl ReactorOptions {
    /// Checks every setting; `allowed` are the CPUs this process may use.
    pub fn validate(&self, allowed: &[usize]) -> Result<(), Error> {
        if self.name.contains('\0') {
            return Err(Error::argument(format!("name must not contain a zero byte, as {:?} does", self.name)));
        }
        within("read_buffer_size", self.read_buffer_size, LEAST_READ, 64 * 1024 * 1024)?;
        within("batch_calls", self.batch_calls, 1, 65_536)?;
        within("handshakes_per_batch", self.handshakes_per_batch, 1, 65_536)?;
        within("timer_capacity", self.timer_capacity, 0, 100_000_000)?;
        if let Some(limit) = self.stall_warning
            && limit < Duration::from_millis(1)
        {
            let seconds = limit.as_secs_f64();
            return Err(Error::argument(format!("stall_warning must be at least 0.001 seconds, not {seconds}")));
        }
        if self.slow_callback.is_some_and(|limit| limit.is_zero()) {
            return Err(Error::argument("slow_callback must be more than 0 seconds, not 0".into()));
        }
        match &self.cpus {
            Some(cpus) if cpus.is_empty() => Err(Error::argument("cpus must not be an empty list".into())),
            Some(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                Some(cpu) => {
                    Err(Error::argument(format!("cpus must be among those allowed here, {allowed:?}; {cpu} is not")))
                }
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// The probes of a silent peer (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds.
    pub idle: Duration,
    /// Time between probes; whole seconds.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub count: u32,
}

/// A vanished peer is detected after two minutes. A silent peer that still answers probes is never ended.
pub const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(15), count: 4 };

/// Settings of the stream sockets of accepted and outgoing connections. For Unix sockets, options that have no
/// meaning there are skipped.
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

/// The least rate at which a peer has to send, or to take what is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The mean rate over one window.
    pub bytes_per_second: f64,
    /// The length of the window.
    pub window: Duration,
}

impl Rate {
    /// Checks the rate of the setting `name`.
    pub fn validate(&self, name: &str) -> Result<(), Error> {
        let rate = self.bytes_per_second;
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(Error::argument(format!("the rate of {name} must be more than 0 bytes a second, not {rate}")));
        }
        if self.window.is_zero() {
            return Err(Error::argument(format!("the window of {name} must be more than 0 seconds, not 0")));
        }
        Ok(())
    }
}

/// Settings of each connection of an acceptor or connector; each may be replaced while it is open.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Unread input at which reading pauses.
    pub max_input: usize,
    /// Queued output above which reading pauses and writes go out at once.
    pub high_water: usize,
    /// Queued output at which reading resumes and `on_drain` comes.
    pub low_water: usize,
    /// Whether output above the high-water mark pauses reading of the same connection. Switch it off for a relay,
    /// because its two directions are independent.
    pub auto_pause: bool,
    /// Queued output above which the connection fails.
    pub max_output: usize,
    /// Time for which a closed connection reads and discards input, so that the peer can read all output before a
    /// reset.
    pub linger_timeout: Duration,
    /// Time within which a handshake of TLS has to end.
    pub handshake_timeout: Duration,
    /// Time after which a connection expires if no byte moved either way.
    pub idle_timeout: Option<Duration>,
    /// Time after which a connection expires if the peer sent nothing, whatever was sent to it.
    pub receive_timeout: Option<Duration>,
    /// Time within which the peer has to send its first byte.
    pub first_byte_timeout: Option<Duration>,
    /// Time after which a connection expires if the peer took none of the waiting output.
    pub write_timeout: Option<Duration>,
    /// The longest time for which the connection may be open.
    pub lifetime: Option<Duration>,
    /// The least rate at which the peer has to send.
    pub min_rate: Option<Rate>,
    /// The least rate at which the peer has to take output that waits.
    pub min_write_rate: Option<Rate>,
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
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: None,
            receive_timeout: None,
            first_byte_timeout: None,
            write_timeout: Some(Duration::from_secs(60)),
            lifetime: None,
            min_rate: None,
            min_write_rate: None,
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
            ("receive_timeout", self.receive_timeout),
            ("first_byte_timeout", self.first_byte_timeout),
            ("write_timeout", self.write_timeout),
            ("lifetime", self.lifetime),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            return Err(Error::argument(format!("{name} must be more than 0 seconds, not 0")));
        }
        for (name, rate) in [("min_rate", self.min_rate), ("min_write_rate", self.min_write_rate)] {
            rate.map_or(Ok(()), |rate| rate.validate(name))?;
        }
        Ok(())
    }
}

/// Settings of an acceptor.
#[derive(Clone, Debug)]
pub struct AcceptorOptions {
    /// `SO_REUSEPORT` with one listener per poller.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`: bind even if old connections of the address are still in TIME_WAIT.
    pub reuse_address: bool,
    /// Hand each connection to the poller of the CPU on which it arrived; needs `reuse_port`.
    pub cpu_steering: bool,
    /// The choice of the poller, where the kernel does not make it.
    pub placement: Placement,
    /// Connections that the kernel queues until they are accepted.
    pub backlog: usize,
    /// The permissions of the files of Unix sockets; those that the umask leaves when not given.
    pub unix_mode: Option<u32>,
    /// Limits on the connections that are let in.
    pub admission: AdmissionOptions,
    /// Settings of the sockets.
    pub socket: SocketOptions,
    /// Settings of the connections.
    pub connection: ConnectionOptions,
}

/// The choice of the poller for a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The poller on the CPU on which its packets arrive, unless that one holds more than its share; else the poller with
    /// the fewest connections. A connection moves later if that CPU changes, or if one poller works more than the others.
    #[default]
    Auto,
    /// Each poller in turn.
    RoundRobin,
    /// The poller with the fewest connections.
    Least,
    /// The poller on the CPU on which its packets arrive, however many it has.
    IncomingCpu,
    /// One poller for all connections from one address.
    SourceAddress,
}

/// Limits on the connections that an acceptor lets in.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmissionOptions {
    /// Connections that may be open at once.
    pub max_connections: Option<usize>,
    /// The treatment of connections above `max_connections`.
    pub when_full: WhenFull,
    /// Connections that may be open at once from one address.
    pub max_connections_per_address: Option<usize>,
    /// Connections that may be accepted in a second.
    pub accept_rate: Option<f64>,
}

/// The treatment of a peer that connects when `max_connections` are open.
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
                Err(Error::argument(format!("accept_rate must be from 0.001 to 1000000000 a second, not {rate}")))
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
            placement: Placement::default(),
            backlog: 1024,
            unix_mode: None,
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
        if let Some(mode) = self.unix_mode.filter(|mode| *mode > 0o777) {
            return Err(Error::argument(format!("unix_mode must be from 0o000 to 0o777, not {mode:#o}")));
        }
        if self.cpu_steering && !self.reuse_port {
            return Err(Error::argument("cpu_steering=True needs reuse_port=True: it steers between listeners".into()));
        }
        self.admission.validate()?;
        self.socket.validate()?;
        self.connection.validate()
    }
}

/// Settings of a connector.
#[derive(Clone, Debug, Default)]
pub struct ConnectorOptions {
    /// The local address to bind, for a machine that has several; port 0 lets the system choose.
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

/// The most bytes that a UDP datagram can hold.
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
    /// The largest datagram that is accepted; a larger one is dropped.
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
            Err(Error::argument(format!("device must be the name of a network interface, 1 to 15 bytes, not {name:?}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Setting<'a, O> = &'a dyn Fn(&mut O);

    /// Each row is a setting that is refused, with a part of the text that says why.
    fn refuses<O: Clone>(good: &O, check: impl Fn(&O) -> Result<(), Error>, rows: &[(&str, Setting<'_, O>)]) {
        assert!(check(good).is_ok());
        for (why, set) in rows {
            let mut options = good.clone();
            set(&mut options);
            let error = check(&options).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    /// Each row is a setting at the edge of its range.
    fn takes<O: Clone>(good: &O, check: impl Fn(&O) -> Result<(), Error>, rows: &[Setting<'_, O>]) {
        for (row, set) in rows.iter().enumerate() {
            let mut options = good.clone();
            set(&mut options);
            assert!(check(&options).is_ok(), "row {row}");
        }
    }

    #[test]
    fn the_limits_of_a_reactor() {
        let (good, check) = (ReactorOptions::default(), |options: &ReactorOptions| options.validate(&[0, 2]));
        refuses(
            &good,
            check,
            &[
                ("zero byte", &|options| options.name = "a\0b".into()),
                ("read_buffer_size must be from 16384 to 67108864, not 16383", &|options| {
                    options.read_buffer_size = 16_383;
                }),
                ("read_buffer_size", &|options| options.read_buffer_size = 67_108_865),
                ("batch_calls", &|options| options.batch_calls = 0),
                ("timer_capacity", &|options| options.timer_capacity = 100_000_001),
                ("stall_warning must be at least 0.001 seconds, not 0.000999", &|options| {
                    options.stall_warning = Some(Duration::from_micros(999));
                }),
                ("cpus must not be an empty list", &|options| options.cpus = Some(vec![])),
                ("[0, 2]; 1 is not", &|options| options.cpus = Some(vec![0, 1])),
            ],
        );
        takes(
            &good,
            check,
            &[
                &|options| options.read_buffer_size = 16_384,
                &|options| options.read_buffer_size = 67_108_864,
                &|options| options.stall_warning = Some(Duration::from_millis(1)),
                &|options| options.stall_warning = None,
                &|options| options.cpus = Some(vec![2, 0]),
            ],
        );
    }

    #[test]
    fn the_limits_of_a_connection() {
        let good = ConnectionOptions {
            min_rate: Some(Rate { bytes_per_second: 1.0, window: Duration::from_secs(1) }),
            ..ConnectionOptions::default()
        };
        let rate = |bytes_per_second| Some(Rate { bytes_per_second, window: Duration::from_secs(1) });
        refuses(
            &good,
            ConnectionOptions::validate,
            &[
                ("max_input must be from 1 to 1073741824, not 0", &|options| options.max_input = 0),
                ("max_input", &|options| options.max_input = (1 << 30) + 1),
                ("max_output", &|options| options.max_output = usize::MAX / 4 + 1),
                ("high_water", &|options| options.high_water = options.max_output + 1),
                ("low_water", &|options| options.low_water = options.high_water + 1),
                ("idle_timeout", &|options| options.idle_timeout = Some(Duration::ZERO)),
                ("receive_timeout", &|options| options.receive_timeout = Some(Duration::ZERO)),
                ("first_byte_timeout", &|options| options.first_byte_timeout = Some(Duration::ZERO)),
                ("write_timeout", &|options| options.write_timeout = Some(Duration::ZERO)),
                ("lifetime", &|options| options.lifetime = Some(Duration::ZERO)),
                ("the window of min_rate", &|options| {
                    options.min_rate = Some(Rate { bytes_per_second: 1.0, window: Duration::ZERO });
                }),
                ("not 0", &|options| options.min_rate = rate(0.0)),
                ("not -1", &|options| options.min_rate = rate(-1.0)),
                ("not inf", &|options| options.min_rate = rate(f64::INFINITY)),
                ("not NaN", &|options| options.min_rate = rate(f64::NAN)),
                ("the rate of min_write_rate", &|options| options.min_write_rate = rate(0.0)),
            ],
        );
        takes(
            &good,
            ConnectionOptions::validate,
            &[
                &|options| options.max_input = 1 << 30,
                &|options| options.max_output = usize::MAX / 4,
                &|options| options.high_water = options.max_output,
                &|options| options.low_water = options.high_water,
                &|options| options.lifetime = Some(Duration::from_nanos(1)),
                &|options| options.min_rate = None,
            ],
        );
    }

    #[test]
    fn the_limits_of_an_acceptor() {
        let refused = Duration::ZERO;
        refuses(
            &AcceptorOptions::default(),
            AcceptorOptions::validate,
            &[
                ("backlog", &|options| options.backlog = 0),
                ("cpu_steering=True needs reuse_port=True", &|options| options.cpu_steering = true),
                ("max_connections", &|options| options.admission.max_connections = Some(0)),
                ("max_connections_per_address", &|options| options.admission.max_connections_per_address = Some(0)),
                ("accept_rate must be from 0.001", &|options| options.admission.accept_rate = Some(0.0009)),
                ("accept_rate", &|options| options.admission.accept_rate = Some(1.1e9)),
                ("receive_buffer_size", &|options| options.socket.receive_buffer_size = Some(0)),
                ("idle_timeout", &|options| options.connection.idle_timeout = Some(refused)),
            ],
        );
        takes(
            &AcceptorOptions::default(),
            AcceptorOptions::validate,
            &[
                &|options| options.reuse_port = true,
                &|options| (options.reuse_port, options.cpu_steering) = (true, true),
                &|options| options.admission.accept_rate = Some(0.001),
                &|options| options.admission.max_connections = Some(1),
            ],
        );
    }

    #[test]
    fn the_limits_of_a_connector_and_its_sockets() {
        let most = 1_073_741_823;
        refuses(
            &ConnectorOptions::default(),
            ConnectorOptions::validate,
            &[
                ("send_buffer_size must be from 1 to 1073741823", &|options| {
                    options.socket.send_buffer_size = Some(most + 1);
                }),
                ("device must be the name", &|options| options.socket.device = Some(String::new())),
                ("not \"0123456789abcdef\"", &|options| options.socket.device = Some("0123456789abcdef".into())),
                ("device", &|options| options.socket.device = Some("a\0b".into())),
                ("idle_timeout", &|options| options.connection.idle_timeout = Some(Duration::ZERO)),
            ],
        );
        takes(
            &ConnectorOptions::default(),
            ConnectorOptions::validate,
            &[&|options| options.socket.send_buffer_size = Some(most), &|options| {
                options.socket.device = Some("0123456789abcde".into())
            }],
        );
    }

    #[test]
    fn the_limits_of_a_datagram_socket() {
        let good = DatagramOptions {
            reuse_address: false,
            reuse_port: false,
            broadcast: false,
            receive_buffer_size: None,
            send_buffer_size: None,
            max_size: MAX_DATAGRAM,
            device: None,
        };
        refuses(
            &good,
            DatagramOptions::validate,
            &[
                ("max_size must be from 1 to 65535, not 65536", &|options| options.max_size = 65_536),
                ("receive_buffer_size", &|options| options.receive_buffer_size = Some(0)),
                ("device", &|options| options.device = Some(String::new())),
            ],
        );
    }
}
