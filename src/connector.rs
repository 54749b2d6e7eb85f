//! Outgoing connections: the addresses of one target are tried in a staggered race until one connection stands.
//!
//! The order and the pace are those of RFC 8305, "Happy Eyeballs": families alternate, and the next address is tried
//! as soon as an attempt has failed or 250 ms after it began. This file decides what is tried next and makes sockets;
//! the poller watches them and keeps the time.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::{Address, Target};
use crate::error::Error;
use crate::options::ConnectorOptions;
use crate::remote::Peer;
use crate::slots::Token;
use crate::socket;
use crate::timer::TimerId;

/// How long an attempt has before the next address is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How soon a Unix socket whose backlog is full is tried again; connect(2) does not wait for it.
const FULL_BACKLOG: Duration = Duration::from_millis(10);

/// What somebody wants to be connected to.
pub struct Request {
    /// Tried in this order.
    pub targets: Vec<Target>,
    /// How long all of it may take, looking up names included.
    pub timeout: Duration,
    /// When the time began, on the pollers' clock; when the poller takes the request in if not given.
    pub since: Option<u64>,
    /// Settings of the socket and the connection.
    pub options: Arc<ConnectorOptions>,
}

/// One request on its poller, until one of its attempts has won or all have failed.
pub(crate) struct Dial {
    pub options: Arc<ConnectorOptions>,
    /// Attempts under way.
    pub attempts: Vec<Token>,
    /// When the last attempt began, on the poller's clock.
    pub began: u64,
    /// When it has failed.
    pub deadline: Option<TimerId>,
    /// When the next address is tried.
    pub stagger: Option<TimerId>,
    /// Whether a name that is being looked up had its turn.
    pub past_lookups: bool,
    /// In the poller's ready list.
    pub listed: bool,
    /// Gone when nobody waits for the lookups any more.
    pub alive: Arc<()>,
    /// One for each target.
    routes: Vec<Route>,
    /// Unix sockets whose backlog was full.
    full: Vec<SockAddr>,
    /// Why the last attempt failed.
    failure: Option<Error>,
    targets: Vec<Target>,
    timeout: Duration,
}

/// The addresses of one target that were not tried yet.
enum Route {
    LookingUp,
    Known(VecDeque<SockAddr>),
}

/// What to do next.
pub(crate) enum Next {
    Try(SockAddr),
    /// It is the turn of a name that is being looked up.
    Wait,
    Nothing,
}

/// One socket that is connecting.
pub(crate) struct Attempt {
    pub socket: Socket,
    pub dial: Token,
    address: SockAddr,
}

/// What became of the first step of an attempt.
pub(crate) enum Begun {
    /// It is under way, or done: an event will tell.
    Connecting(Attempt),
    /// A Unix socket's backlog is full, and connect(2) does not wait for it.
    Full,
}

impl Dial {
    /// A dial of all targets; those that are names have to be looked up.
    pub fn new(request: Request) -> Self {
        let Request { targets, timeout, options, .. } = request;
        let mut dial = Self {
            options,
            attempts: Vec::new(),
            began: 0,
            deadline: None,
            stagger: None,
            past_lookups: false,
            listed: false,
            alive: Arc::default(),
            routes: Vec::new(),
            full: Vec::new(),
            failure: None,
            targets: Vec::new(),
            timeout,
        };
        for target in targets {
            let route = match &target {
                Target::Address(Address::Inet(address)) => Route::Known([(*address).into()].into()),
                Target::Address(Address::Unix(name)) => match name.to_system() {
                    Ok(address) => Route::Known([address].into()),
                    Err(error) => dial.no_route(Error::io(format!("cannot connect to {target}"))(error)),
                },
                Target::Host { .. } => Route::LookingUp,
            };
            dial.routes.push(route);
            dial.targets.push(target);
        }
        dial
    }

    /// The names to look up, each with the number of its target and its port.
    pub fn names(&self) -> Vec<(usize, String, u16)> {
        let name = |(index, target): (usize, &Target)| match target {
            Target::Host { name, port } => Some((index, name.clone(), *port)),
            Target::Address(_) => None,
        };
        self.targets.iter().enumerate().filter_map(name).collect()
    }

    /// Takes in what the lookup of a target's name found.
    pub fn resolved(&mut self, target: usize, answer: Result<Vec<SocketAddr>, Error>) {
        self.routes[target] = match answer {
            Ok(addresses) => Route::Known(alternate(addresses).into_iter().map(SockAddr::from).collect()),
            Err(error) => self.no_route(error),
        };
    }

    fn no_route(&mut self, error: Error) -> Route {
        self.failure = Some(error);
        Route::Known(VecDeque::new())
    }

    /// The address whose turn it is.
    pub fn next(&mut self) -> Next {
        for route in &mut self.routes {
            match route {
                Route::Known(addresses) => {
                    if let Some(address) = addresses.pop_front() {
                        return Next::Try(address);
                    }
                }
                Route::LookingUp if self.past_lookups => {}
                Route::LookingUp => return Next::Wait,
            }
        }
        Next::Nothing
    }

    /// Keeps the address of a Unix socket whose backlog is full for later.
    pub fn note_full(&mut self, address: SockAddr) {
        self.full.push(address);
    }

    /// Tries those again that were full.
    pub fn retry_full(&mut self) {
        let full = std::mem::take(&mut self.full);
        // Behind the routes of the targets there is at most one more.
        match self.routes.get_mut(self.targets.len()) {
            Some(Route::Known(addresses)) => addresses.extend(full),
            _ => self.routes.push(Route::Known(full.into())),
        }
    }

    /// How long to wait before trying on, if there is anything to try.
    pub fn pause(&self) -> Option<Duration> {
        match self.full.is_empty() || !self.attempts.is_empty() {
            true if self.has_more() => Some(STAGGER),
            true => None,
            false => Some(FULL_BACKLOG),
        }
    }

    fn has_more(&self) -> bool {
        let is_waiting = |route: &Route| matches!(route, Route::Known(addresses) if !addresses.is_empty());
        !self.full.is_empty() || self.routes.iter().any(is_waiting)
    }

    /// Whether nothing is left to try or to wait for.
    pub fn is_lost(&self) -> bool {
        let is_looked_up = |route: &Route| matches!(route, Route::LookingUp);
        self.attempts.is_empty() && !self.has_more() && !self.routes.iter().any(is_looked_up)
    }

    /// Notes why an attempt failed.
    pub fn note_failure(&mut self, address: &SockAddr, error: io::Error) {
        self.failure = Some(Error::io(format!("cannot connect to {}", text_of(address)))(error));
    }

    /// Why it failed when nothing is left.
    pub fn into_failure(self) -> Error {
        let text = self.text();
        self.failure.unwrap_or_else(|| Error::io(format!("cannot connect to {text}"))(io_error(libc::EADDRNOTAVAIL)))
    }

    /// The failure of one that has used up its time.
    pub fn timed_out(&self) -> Error {
        let context = format!("cannot connect to {} within {} s", self.text(), self.timeout.as_secs_f64());
        Error::io(context)(io_error(libc::ETIMEDOUT))
    }

    /// The failure of one that the reactor's stop has cut short.
    pub fn stopped(&self) -> Error {
        Error::io(format!("cannot connect to {}: the reactor stops", self.text()))(io_error(libc::ECONNABORTED))
    }

    fn text(&self) -> String {
        self.targets.iter().map(Target::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl Attempt {
    /// Makes a socket and begins to connect it.
    pub fn begin(address: &SockAddr, dial: Token, options: &ConnectorOptions) -> io::Result<Begun> {
        match connect(address, options) {
            Ok(socket) => Ok(Begun::Connecting(Self { socket, dial, address: address.clone() })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Begun::Full),
            Err(error) => Err(error),
        }
    }

    /// What came of it, once the socket was reported ready: `None` if nothing yet.
    pub fn result(&self) -> Option<io::Result<()>> {
        if let Some(error) = self.socket.take_error().transpose() {
            return Some(Err(error.unwrap_or_else(|error| error)));
        }
        match self.socket.peer_addr() {
            // A port of our own that nobody listens on may connect to itself (RFC 9293 section 3.5, simultaneous open).
            Ok(peer) if self.socket.local_addr().is_ok_and(|own| is_same(&own, &peer)) => {
                Some(Err(io_error(libc::ECONNREFUSED)))
            }
            Ok(_) => Some(Ok(())),
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The address it is for.
    pub fn address(&self) -> &SockAddr {
        &self.address
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        Peer::of(&self.address)
    }
}

fn connect(address: &SockAddr, options: &ConnectorOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM.nonblocking(), None)?;
    socket::apply(&options.socket, &socket)?;
    if let (Some(local), true) = (options.local_address, address.as_socket().is_some()) {
        // Else a port of ours would rest in TIME_WAIT after each connection.
        socket.set_reuse_address(local.port() != 0)?;
        socket.bind(&local.into())?;
    }
    match socket.connect(address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// The families in turns, beginning with that of the first address (RFC 8305 section 4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut merged = Vec::new();
    loop {
        let before = merged.len();
        merged.extend(first.next());
        merged.extend(second.next());
        if merged.len() == before {
            return merged;
        }
    }
}

fn is_same(own: &SockAddr, peer: &SockAddr) -> bool {
    own.as_socket().is_some() && own.as_socket() == peer.as_socket()
}

fn io_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn text_of(address: &SockAddr) -> String {
    match (address.as_socket(), address.as_pathname(), address.as_abstract_namespace()) {
        (Some(inet), ..) => inet.to_string(),
        (_, Some(path), _) => format!("unix:{}", path.display()),
        (.., Some(name)) => format!("unix:@{}", String::from_utf8_lossy(name)),
        _ => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_keep_their_order() {
        let addresses =
            |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect::<Vec<SocketAddr>>();
        let mixed = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]);
        assert_eq!(alternate(mixed), addresses(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]));
        assert_eq!(alternate(addresses(&["1.0.0.1:1"])), addresses(&["1.0.0.1:1"]));
        assert_eq!(alternate(Vec::new()), Vec::new());
    }
}
