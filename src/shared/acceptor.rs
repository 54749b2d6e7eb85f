//! Listening sockets: bound and checked in the caller's thread, accepted from on their poller.
//!
//! An acceptor has one listener per address, or one per address and poller with `SO_REUSEPORT`. It knows which
//! pollers get its connections; it does not know what a handler is.

use std::any::Any;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::Error;
use crate::journal::Journal;
use crate::options::{AcceptorOptions, ConnectionOptions, WhenFull};
use crate::proxy::Trusted;
use crate::shared::admission::{Admission, Counted, Room};
use crate::shared::handle::{Message, PollerHandle};
use crate::shared::placement::{Place, Placer};
use crate::shared::remote::Peer;
use crate::system::address::{Address, Inet, UnixName};
use crate::system::socket::{self, check_kind, is_bound};
use crate::system::steering;
use crate::timer::TimerId;
#[cfg(feature = "tls")]
use crate::tls::server::ServerContext;

/// Nanoseconds between two warnings of one acceptor about a shortage of descriptors.
const TOLD_EVERY: u64 = 60_000_000_000;

/// A place where an acceptor listens.
pub enum Endpoint {
    /// An address to bind.
    Address(Address),
    /// A socket that is bound already. Other processes may share it, so it is never shut down.
    Bound(Socket),
}

/// The handlers of an acceptor, the TLS under them, and the proxies before it.
pub struct Service {
    /// The value from which the dispatch makes handlers.
    pub factory: Box<dyn Any + Send + Sync>,
    /// The TLS of the connections; `None` for plain bytes.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<ServerContext>>,
    /// The proxies that have to send a PROXY header first; `None` if clients connect by themselves.
    pub proxies: Option<Trusted>,
    /// The access log of the connections.
    pub journal: Option<Arc<Journal>>,
}

impl Service {
    /// Handlers on plain bytes.
    pub fn plain(factory: Box<dyn Any + Send + Sync>) -> Self {
        Self {
            factory,
            #[cfg(feature = "tls")]
            tls: None,
            proxies: None,
            journal: None,
        }
    }
}

/// The state that the listeners of one acceptor share.
pub struct Acceptor {
    /// The value from which the dispatch makes handlers.
    pub factory: Box<dyn Any + Send + Sync>,
    /// The addresses of the listeners, with the ports that the system chose.
    pub addresses: Vec<SockAddr>,
    connection: Arc<ConnectionOptions>,
    /// The gate for new connections.
    pub(crate) admission: Arc<Admission>,
    /// The TLS of the connections; `None` for plain bytes.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<ServerContext>>,
    /// The proxies that have to send a PROXY header first; `None` if clients connect by themselves.
    pub(crate) proxies: Option<Trusted>,
    when_full: WhenFull,
    /// Time of the last warning about a shortage of descriptors; 0 for never.
    told: AtomicU64,
    /// The choice among the takers; `None` if each connection stays with the poller that accepted it.
    placer: Option<Placer>,
    /// The pollers that get the connections.
    takers: Vec<Arc<PollerHandle>>,
    listening: Vec<Arc<PollerHandle>>,
    /// The sockets that the acceptor made; not those of the user.
    sockets: Vec<Weak<Socket>>,
    closed: AtomicBool,
}

impl Acceptor {
    /// Checks the settings, also against the addresses. It opens nothing.
    pub fn check(endpoints: &[Endpoint], options: &AcceptorOptions) -> Result<(), Error> {
        options.validate()?;
        if options.unix_mode.is_some() && !endpoints.iter().any(Endpoint::makes_a_file) {
            return Err(Error::argument("unix_mode is for Unix sockets with a path; address names none".into()));
        }
        Ok(())
    }

    /// Binds, listens, and posts the listeners to the pollers in `accepting`.
    ///
    /// `serving` are the pollers of another reactor that is to own the connections.
    pub fn open(
        accepting: &[Arc<PollerHandle>],
        serving: Option<&[Arc<PollerHandle>]>,
        endpoints: Vec<Endpoint>,
        options: &AcceptorOptions,
        service: Service,
    ) -> Result<Arc<Self>, Error> {
        Self::check(&endpoints, options)?;
        let pollers = if options.reuse_port { accepting } else { &accepting[..1] };
        let mut sockets = Vec::new();
        for endpoint in endpoints {
            sockets.push(listen_everywhere(endpoint, options, pollers.len())?);
        }
        let addresses = sockets.iter().map(|group| group[0].socket.local_addr());
        let addresses = addresses.collect::<Result<_, _>>().map_err(Error::io("cannot read the bound address"))?;
        let ours = sockets.iter().flatten().filter(|bound| !bound.given);
        let several = (!options.reuse_port && accepting.len() > 1).then_some(accepting);
        let takers = serving.or(several).unwrap_or_default().to_vec();
        let loads = || takers.iter().map(|taker| taker.load.clone()).collect();
        let placer = (!takers.is_empty()).then(|| Placer::new(options.placement, loads()));
        let acceptor = Arc::new_cyclic(|acceptor: &Weak<Self>| Self {
            factory: service.factory,
            addresses,
            connection: Arc::new(options.connection.clone()),
            admission: Admission::new(options.admission, service.journal, tell_of_room(acceptor.clone())),
            #[cfg(feature = "tls")]
            tls: service.tls,
            proxies: service.proxies,
            when_full: options.admission.when_full,
            told: AtomicU64::new(0),
            placer,
            takers,
            listening: pollers.to_vec(),
            sockets: ours.map(|bound| Arc::downgrade(&bound.socket)).collect(),
            closed: AtomicBool::new(false),
        });
        for group in sockets {
            for (bound, poller) in group.into_iter().zip(pollers) {
                let listener =
                    Listener { bound, acceptor: acceptor.clone(), watched: false, listed: false, resting: None };
                poller.post(Message::Listen(listener)).map_err(|_| Error::stopped())?;
            }
        }
        Ok(acceptor)
    }

    /// Stops accepting at once. Accepted connections stay open. A socket of the user goes on listening for other
    /// processes, or until the user closes it.
    pub fn close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Relaxed);
        for socket in self.sockets.iter().filter_map(Weak::upgrade) {
            // On Linux this ends the listening even if another process holds a copy. It fails only if the listening
            // has ended already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for poller in &self.listening {
            // `post` fails only on a stopped poller, which has closed its listeners.
            let _ = poller.post(Message::Unlisten(self.clone()));
        }
    }

    /// The poller of an accepted connection, and its place there; `None` if the accepting poller keeps it.
    pub(crate) fn place(&self, socket: &Socket, address: Option<IpAddr>) -> Option<(&Arc<PollerHandle>, Place)> {
        let (index, place) = self.placer.as_ref()?.place(socket, address);
        Some((&self.takers[index], place))
    }

    /// Asks for room for the next connection.
    pub(crate) fn admit(&self, now: u64) -> Admitted {
        if self.closed.load(Ordering::Relaxed) {
            // `Message::Unlisten` is on its way.
            return Admitted::Full;
        }
        if let Some(until) = self.admission.too_fast(now) {
            return Admitted::TooFast(until);
        }
        match self.admission.reserve() {
            Some(room) => Admitted::In(room),
            None if self.when_full == WhenFull::Wait => Admitted::Full,
            None => Admitted::Refused,
        }
    }

    /// Whether a warning about a shortage is due: once a minute for all listeners of the acceptor together.
    pub(crate) fn tells_of_shortage(&self, now: u64) -> bool {
        let due = |told| (told == 0 || now.saturating_sub(told) >= TOLD_EVERY).then_some(now.max(1));
        self.told.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }

    /// The counters of its connections.
    pub fn counted(&self) -> Counted {
        self.admission.counted()
    }

    /// Counts a connection that got no handler.
    pub fn note_rejected(&self) {
        self.admission.note_rejected();
    }

    pub(crate) fn connection_options(&self) -> Arc<ConnectionOptions> {
        self.connection.clone()
    }
}

/// Makes the function that sends the listeners of an acceptor back to their backlogs.
fn tell_of_room(acceptor: Weak<Acceptor>) -> impl Fn() + Send + Sync {
    move || {
        let Some(acceptor) = acceptor.upgrade() else { return };
        for poller in &acceptor.listening {
            // `post` fails only on a poller that has ended, and that one accepts no more.
            let _ = poller.post(Message::Room(acceptor.clone()));
        }
    }
}

/// The decision about the next connection.
pub(crate) enum Admitted {
    /// Accept it into this room.
    In(Room),
    /// Accept it and close it.
    Refused,
    /// Leave it in the backlog until another connection ends; a message will come then.
    Full,
    /// Leave it in the backlog until this time.
    TooFast(u64),
}

/// One listening socket on its poller.
pub(crate) struct Listener {
    bound: Bound,
    pub acceptor: Arc<Acceptor>,
    /// Whether the poll reports its connections.
    pub watched: bool,
    /// Whether it is in the poller's ready list.
    pub listed: bool,
    /// The timer that ends its pause.
    pub resting: Option<TimerId>,
}

impl Listener {
    pub fn socket(&self) -> &Socket {
        &self.bound.socket
    }

    /// The CPU on which its poller has to run.
    pub fn cpu(&self) -> Option<usize> {
        self.bound.cpu
    }

    /// Takes one connection out of the backlog: non-blocking, close-on-exec.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let listener = self.bound.socket.as_raw_fd();
        // SAFETY: accept4 writes at most `len` bytes of a socket address and the length it has.
        let (fd, address) = unsafe {
            SockAddr::try_init(|storage, len| match libc::accept4(listener, storage.cast(), len, flags) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(fd),
            })
        }?;
        // SAFETY: the descriptor is new and has no other owner.
        let socket = unsafe { Socket::from_raw_fd(fd) };
        Ok((socket, Peer::of(&address)))
    }
}

/// Whether `accept` failed because of the one connection at the head of the backlog (accept(2)).
pub(crate) fn is_of_the_peer(error: &io::Error) -> bool {
    const ERRORS: [i32; 11] = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPERM,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENONET,
        libc::EOPNOTSUPP,
    ];
    error.raw_os_error().is_some_and(|code| ERRORS.contains(&code))
}

impl Endpoint {
    fn makes_a_file(&self) -> bool {
        matches!(self, Self::Address(Address::Unix(UnixName::Path(_))))
    }
}

/// A listening socket, and the file that its path made.
struct Bound {
    socket: Arc<Socket>,
    /// Whether it is the user's.
    given: bool,
    /// Held for its `Drop`, which removes the file.
    _file: Option<SocketFile>,
    cpu: Option<usize>,
}

/// The file of a Unix socket. The inode tells it from a later file of the same name.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    birth: u32,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours && !crate::system::fork::is_foreign(self.birth) {
            // A failure does no harm: the next listener finds that the file has no listener, and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen_everywhere(endpoint: Endpoint, options: &AcceptorOptions, pollers: usize) -> Result<Vec<Bound>, Error> {
    match endpoint {
        Endpoint::Address(Address::Inet(address)) => listen_inet_everywhere(address, options, pollers),
        Endpoint::Address(_) | Endpoint::Bound(_) if options.reuse_port => {
            let text = "reuse_port=True is for TCP addresses only, not for Unix or bound sockets";
            Err(Error::argument(text.into()))
        }
        Endpoint::Address(Address::Unix(name)) => Ok(vec![listen_unix(name, options)?]),
        Endpoint::Bound(socket) => Ok(vec![take_over(socket, options)?]),
    }
}

fn listen_inet_everywhere(mut address: Inet, options: &AcceptorOptions, pollers: usize) -> Result<Vec<Bound>, Error> {
    let mut group = Vec::new();
    for _ in 0..pollers {
        let bound = listen_inet(address, options)?;
        // With port 0 the first listener gets a port, and the others use the same.
        let chosen = bound.socket.local_addr().ok().and_then(|bound| bound.as_socket());
        address = chosen.map_or(address, |chosen| address.with_port(chosen.port()));
        group.push(bound);
    }
    if options.cpu_steering {
        let cpus = steering::allowed_cpus().map_err(Error::io("cannot read the CPU affinity"))?;
        steering::steer(&group[0].socket, &cpus, pollers).map_err(Error::io("cannot attach the steering program"))?;
        for (index, bound) in group.iter_mut().enumerate() {
            bound.cpu = cpus.get(index % cpus.len()).copied();
        }
    }
    Ok(group)
}

/// Listening sockets for other processes, which share them: `count` of a TCP address, each of them with a backlog of its
/// own, and one of any other endpoint. The file of a Unix socket stays until somebody removes it.
///
/// With `alone` a TCP address that another socket listens on is refused, although both have `SO_REUSEPORT`.
pub fn listen_for_others(
    endpoint: Endpoint,
    options: &AcceptorOptions,
    count: usize,
    alone: bool,
) -> Result<Vec<Arc<Socket>>, Error> {
    options.validate()?;
    let mut options = options.clone();
    options.reuse_port = matches!(endpoint, Endpoint::Address(Address::Inet(_)));
    if !endpoint.makes_a_file() {
        options.unix_mode = None;
    }
    if let Endpoint::Address(Address::Inet(address)) = &endpoint
        && alone
    {
        check_free(*address, &options)?;
    }
    let sockets = listen_everywhere(endpoint, &options, count)?.into_iter().map(|mut bound| {
        // Its `Drop` would remove the file.
        std::mem::forget(bound._file.take());
        bound.socket
    });
    Ok(sockets.collect())
}

/// Fails if another socket listens on the address: two services that share the connections by accident.
fn check_free(address: Inet, options: &AcceptorOptions) -> Result<(), Error> {
    let try_bind = || -> io::Result<()> {
        let (socket, address) = socket::make(address, Type::STREAM)?;
        socket.set_reuse_address(options.reuse_address)?;
        socket::apply(&options.socket, &socket)?;
        socket.bind(&address.into())
    };
    try_bind().map_err(Error::io(format!("cannot listen on {address}")))
}

fn listen_inet(address: Inet, options: &AcceptorOptions) -> Result<Bound, Error> {
    let try_listen = || -> io::Result<Socket> {
        let (socket, address) = socket::make(address, Type::STREAM)?;
        socket.set_reuse_address(options.reuse_address)?;
        socket.set_reuse_port(options.reuse_port)?;
        socket::apply(&options.socket, &socket)?;
        socket.bind(&address.into())?;
        socket.listen(options.backlog as i32)?;
        Ok(socket)
    };
    let socket = try_listen().map_err(Error::io(format!("cannot listen on {address}")))?;
    Ok(Bound { socket: socket.into(), given: false, _file: None, cpu: None })
}

fn listen_unix(name: UnixName, options: &AcceptorOptions) -> Result<Bound, Error> {
    let try_listen = || -> io::Result<Bound> {
        let address = name.to_system()?;
        let path = match &name {
            UnixName::Path(path) => Some(path),
            UnixName::Abstract(_) => None,
        };
        if let Some(path) = path {
            remove_stale(path, &address)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket::apply(&options.socket, &socket)?;
        let mode = options.unix_mode.filter(|_| path.is_some());
        if let Some(mode) = mode {
            limit_mode(&socket, mode)?;
        }
        socket.bind(&address)?;
        let _file = path.map(|path| socket_file(path)).transpose()?;
        if let (Some(file), Some(mode)) = (&_file, mode) {
            file.widen_to(mode)?;
        }
        socket.listen(options.backlog as i32)?;
        Ok(Bound { socket: socket.into(), given: false, _file, cpu: None })
    };
    try_listen().map_err(|error| Error::io(format!("cannot listen on {}", Address::Unix(name)))(error))
}

/// Limits the mode of the file that a bind of the socket will make: the kernel takes the mode of the socket, less the
/// umask. So the file is at no moment more open than `mode`, and the umask of the process stays as it is.
fn limit_mode(socket: &Socket, mode: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call.
    match unsafe { libc::fchmod(socket.as_raw_fd(), mode) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl SocketFile {
    /// Adds the permissions that the umask took away.
    fn widen_to(&self, mode: u32) -> io::Result<()> {
        // The descriptor stands for this file, so another file that takes its path meanwhile is left alone.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(&self.path)?;
        let found = file.metadata()?;
        if (found.dev(), found.ino()) != self.inode || found.mode() & 0o777 == mode {
            return Ok(());
        }
        fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(mode))
    }
}

fn socket_file(path: &Path) -> io::Result<SocketFile> {
    let metadata = fs::symlink_metadata(path)?;
    let inode = (metadata.dev(), metadata.ino());
    Ok(SocketFile { path: path.into(), inode, birth: crate::system::fork::generation() })
}

/// Removes the file of a Unix socket without a listener. Any other file stays, and makes `bind` fail.
fn remove_stale(path: &Path, name: &SockAddr) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}

/// Takes a bound socket of the user, which may listen already.
fn take_over(socket: Socket, options: &AcceptorOptions) -> Result<Bound, Error> {
    check_kind(&socket, "address", Type::STREAM, &[Domain::IPV4, Domain::IPV6, Domain::UNIX])?;
    if socket.peer_addr().is_ok() {
        return Err(Error::argument(
            "address: the socket is connected; Reactor.adopt() takes such sockets [GOEV308]".into(),
        ));
    }
    let address = socket.local_addr().map_err(Error::io("cannot read the address of the given socket"))?;
    if !is_bound(&address) {
        return Err(Error::argument("address: the socket is not bound [GOEV308]".into()));
    }
    let prepare = || -> io::Result<()> {
        socket.set_nonblocking(true)?;
        socket::apply(&options.socket, &socket)?;
        socket.listen(options.backlog as i32)
    };
    prepare().map_err(Error::io("cannot listen on the given socket"))?;
    Ok(Bound { socket: socket.into(), given: true, _file: None, cpu: None })
}
