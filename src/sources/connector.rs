//! Outgoing connections: a staggered race over the addresses of the targets, until one connection is established.
//!
//! Order and pace are those of RFC 8305, "Happy Eyeballs": the families alternate. The next address is tried as soon
//! as an attempt has failed, or 250 ms after it began. This module decides which address is next and makes the
//! sockets. It never waits: the poller watches the sockets and keeps the time.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::connection::transport;
use crate::error::Error;
use crate::options::ConnectorOptions;
use crate::proxy::Announcement;
use crate::shared::remote::Peer;
use crate::slots::Token;
use crate::system::address::{Target, text_of};
use crate::system::socket;
use crate::timer::TimerId;

/// Time that an attempt has before the next address is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Pause before a Unix socket with a full backlog is tried again, because connect(2) does not wait for it.
const FULL_BACKLOG: Duration = Duration::from_millis(10);

/// A request to connect.
pub struct Request {
    /// The targets, tried in this order.
    pub targets: Vec<Target>,
    /// Time limit for the whole request, name lookups included.
    pub timeout: Duration,
    /// Start of the time limit, on the pollers' clock; if `None`, the moment when the poller takes the request.
    pub since: Option<u64>,
    /// Settings of the socket and the connection.
    pub options: Arc<ConnectorOptions>,
    /// The PROXY header that goes first, if there is one.
    pub announcement: Option<Announcement>,
    /// The TLS of the connection; `None` for plain bytes.
    #[cfg(feature = "tls")]
    pub tls: Option<Secured>,
}

/// The TLS of an outgoing connection.
#[cfg(feature = "tls")]
pub struct Secured {
    /// The settings.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate of the peer has to have.
    pub name: ServerName<'static>,
}

/// One connect request on its poller, until one of its attempts has won or all have failed.
pub(crate) struct Dial {
    pub options: Arc<ConnectorOptions>,
    /// The attempts under way.
    pub attempts: Vec<Token>,
    /// The time at which the last attempt began, on the poller's clock.
    pub began: u64,
    /// The timer of the request's time limit.
    pub deadline: Option<TimerId>,
    /// The timer that tries the next address.
    pub stagger: Option<TimerId>,
    /// Whether a name that is still being looked up had its turn.
    pub past_lookups: bool,
    /// Whether it is in the poller's ready list.
    pub listed: bool,
    /// Held while the lookups are wanted; the resolver holds weak references to it.
    pub alive: Arc<()>,
    /// One route for each target.
    routes: Vec<Route>,
    pub announcement: Option<Announcement>,
    #[cfg(feature = "tls")]
    pub tls: Option<Secured>,
    /// Addresses of Unix sockets with a full backlog.
    full: Vec<SockAddr>,
    /// The error of the last attempt that failed.
    failure: Option<Error>,
    targets: Vec<Target>,
    timeout: Duration,
}

/// The untried addresses of one target.
enum Route {
    LookingUp,
    Known(VecDeque<SockAddr>),
}

/// The next step of a dial.
pub(crate) enum Next {
    Try(SockAddr),
    /// The next target is a name that is still being looked up.
    Wait,
    Nothing,
}

/// One socket that is connecting.
pub(crate) struct Attempt {
    pub socket: Socket,
    pub dial: Token,
    address: SockAddr,
}

/// The result of the first step of an attempt.
pub(crate) enum Begun {
    /// The connect is under way or done; an event of the poll follows.
    Connecting(Attempt),
    /// The backlog of the Unix socket is full, and connect(2) does not wait for it.
    Full,
}

impl Dial {
    /// Makes the dial of all targets; host names among them have to be looked up.
    pub fn new(request: Request) -> Self {
        let mut dial = Self {
            announcement: request.announcement,
            #[cfg(feature = "tls")]
            tls: request.tls,
            options: request.options,
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
            timeout: request.timeout,
        };
        for target in request.targets {
            let route = match &target {
                Target::Address(address) => match address.to_system() {
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

    /// The names to look up, each with the index of its target and its port.
    pub fn names(&self) -> Vec<(usize, String, u16)> {
        let name = |(index, target): (usize, &Target)| match target {
            Target::Host { name, port } => Some((index, name.clone(), *port)),
            Target::Address(_) => None,
        };
        self.targets.iter().enumerate().filter_map(name).collect()
    }

    /// Stores the result of the lookup for a target.
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

    /// Decides the next step: the address to try, or a wait.
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

    /// Stores the address of a Unix socket with a full backlog for a later attempt.
    pub fn note_full(&mut self, address: SockAddr) {
        self.full.push(address);
    }

    /// Makes the addresses with a full backlog available again.
    pub fn retry_full(&mut self) {
        let full = std::mem::take(&mut self.full);
        // At most one more route follows the routes of the targets.
        match self.routes.get_mut(self.targets.len()) {
            Some(Route::Known(addresses)) => addresses.extend(full),
            _ => self.routes.push(Route::Known(full.into())),
        }
    }

    /// Time until the next attempt; `None` if there is nothing to try.
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

    /// Stores the error of an attempt.
    pub fn note_failure(&mut self, address: &SockAddr, error: io::Error) {
        self.failure = Some(Error::io(format!("cannot connect to {}", text_of(address)))(error));
    }

    /// The error of a dial when no address is left.
    pub fn into_failure(self) -> Error {
        let text = self.text();
        self.failure.unwrap_or_else(|| Error::io(format!("cannot connect to {text}"))(io_error(libc::EADDRNOTAVAIL)))
    }

    /// The error of a dial that has used up its time limit.
    pub fn timed_out(&self) -> Error {
        let context = format!("cannot connect to {} within {} s", self.text(), self.timeout.as_secs_f64());
        Error::io(context)(io_error(libc::ETIMEDOUT))
    }

    /// The error of a dial that the stop of the reactor cuts short.
    pub fn stopped(&self) -> Error {
        Error::io(format!("cannot connect to {}: the reactor stops", self.text()))(io_error(libc::ECONNABORTED))
    }

    /// The targets, for texts.
    pub fn text(&self) -> String {
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

    /// The result of the connect after the socket was reported ready; `None` if it is still under way.
    pub fn result(&self) -> Option<io::Result<()>> {
        if let Some(error) = self.socket.take_error().transpose() {
            return Some(Err(error.unwrap_or_else(|error| error)));
        }
        match self.socket.peer_addr() {
            // A connect to a local port without a listener may connect to itself (RFC 9293 section 3.5, simultaneous
            // open).
            Ok(peer) if self.socket.local_addr().is_ok_and(|own| is_same(&own, &peer)) => {
                Some(Err(io_error(libc::ECONNREFUSED)))
            }
            Ok(_) => Some(Ok(())),
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Sends the PROXY header, if there is one.
    pub fn announce(&self, announcement: Option<&Announcement>) -> io::Result<()> {
        let Some(announcement) = announcement else { return Ok(()) };
        let own = self.socket.local_addr()?.as_socket().zip(self.address.as_socket());
        transport::send_header(&self.socket, &announcement.bytes(|| own))
    }

    /// The address of the attempt.
    pub fn address(&self) -> &SockAddr {
        &self.address
    }

    /// The peer of the attempt.
    pub fn peer(&self) -> Peer {
        Peer::of(&self.address)
    }
}

fn connect(address: &SockAddr, options: &ConnectorOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM.nonblocking(), None)?;
    socket::apply(&options.socket, &socket)?;
    if let (Some(local), true) = (options.local_address, address.as_socket().is_some()) {
        // Otherwise a fixed local port would be unusable in TIME_WAIT after each connection.
        socket.set_reuse_address(local.port() != 0)?;
        socket.bind(&local.into())?;
    }
    match socket.connect(address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Makes the families alternate, beginning with that of the first address (RFC 8305 section 4).
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
