//! Measures the replies to 50 pingers over TLS: first alone, then beside a storm of new TLS connections.
//!
//! Usage: `storm_load PORT SECONDS RATE`, where each of the two parts lasts SECONDS, and RATE is the number of new
//! connections per second. Prints one line of JSON: p99 of both parts in seconds, and the connections made per second.
//! Each pinger has a thread, asks every 10 ms, and waits for the reply. Eight threads make the new connections at even
//! distances: a full handshake, one request and reply, and a reset. They have a low priority, so that the pingers meet the
//! server's work and not the client's.

use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use stream::{Stream, Tls};

mod stream;

const PINGERS: u32 = 50;
const PERIOD: Duration = Duration::from_millis(10);
const CALLERS: u32 = 8;
const NICENESS: i32 = 10;
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const END_OF_REPLY: &[u8] = b"Hello, World!";

fn connect(port: u16, tls: &Tls) -> Result<Stream> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Stream::new(socket, Some(tls))
}

fn exchange(stream: &mut Stream) -> Result<()> {
    stream.write_all(REQUEST)?;
    let mut buffer = [0; 512];
    let mut filled = 0;
    while !buffer[..filled].ends_with(END_OF_REPLY) {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err(Error::other("closed before the reply was complete")),
            n => filled += n,
        }
    }
    Ok(())
}

/// Calls `action` every `period` from `begin` to `end`. A call that is late does not move the later ones.
fn repeat(begin: Instant, end: Instant, period: Duration, mut action: impl FnMut() -> Result<()>) -> Result<()> {
    let mut due = begin;
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if Instant::now() >= end {
            break;
        }
        action()?;
        due += period;
    }
    Ok(())
}

/// The time that each ping of one pinger took.
fn ping(stream: &mut Stream, begin: Instant, end: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    repeat(begin, end, PERIOD, || {
        let sent = Instant::now();
        exchange(stream)?;
        times.push(sent.elapsed());
        Ok(())
    })?;
    Ok(times)
}

/// Makes new connections, and returns how many.
fn call(port: u16, tls: &Tls, begin: Instant, end: Instant, period: Duration) -> Result<u32> {
    // SAFETY: the call takes no pointer; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    let mut made = 0;
    repeat(begin, end, period, || {
        let mut stream = connect(port, tls)?;
        exchange(&mut stream)?;
        socket2::SockRef::from(stream.socket()).set_linger(Some(Duration::ZERO))?;
        made += 1;
        Ok(())
    })?;
    Ok(made)
}

/// p99 of the pings of one part, and the number of connections made meanwhile.
fn measure(pingers: &mut [Stream], port: u16, tls: &Tls, time: Duration, rate: u32) -> Result<(Duration, u32)> {
    thread::scope(|scope| {
        let begin = Instant::now();
        let end = begin + time;
        let callers: Vec<_> = (0..if rate > 0 { CALLERS } else { 0 })
            .map(|index| {
                let period = Duration::from_secs(1) * CALLERS / rate;
                let first = begin + period * index / CALLERS;
                scope.spawn(move || call(port, tls, first, end, period))
            })
            .collect();
        let pingers: Vec<_> = (0..)
            .zip(pingers)
            .map(|(index, stream)| scope.spawn(move || ping(stream, begin + PERIOD * index / PINGERS, end)))
            .collect();
        let mut times = collect(pingers)?.concat();
        times.sort_unstable();
        Ok((times[times.len() * 99 / 100], collect(callers)?.iter().sum()))
    })
}

fn collect<T>(threads: Vec<ScopedJoinHandle<'_, Result<T>>>) -> Result<Vec<T>> {
    threads.into_iter().map(|thread| thread.join().expect("a thread panicked")).collect()
}

fn argument(index: usize) -> u32 {
    let value = std::env::args().nth(index).expect("usage: storm_load PORT SECONDS RATE");
    value.parse().expect("all arguments are numbers")
}

fn main() -> Result<()> {
    let port = u16::try_from(argument(1)).expect("PORT is at most 65535");
    let (time, rate) = (Duration::from_secs(argument(2).into()), argument(3));
    let tls = Tls::new(false);
    let mut pingers = (0..PINGERS).map(|_| connect(port, &tls)).collect::<Result<Vec<_>>>()?;
    for pinger in &mut pingers {
        exchange(pinger)?;
    }
    let (quiet, _) = measure(&mut pingers, port, &tls, time, 0)?;
    let (storm, made) = measure(&mut pingers, port, &tls, time, rate)?;
    let (quiet, storm, made) = (quiet.as_secs_f64(), storm.as_secs_f64(), f64::from(made) / time.as_secs_f64());
    println!(r#"{{"quiet": {quiet:.9}, "storm": {storm:.9}, "made": {made:.1}}}"#);
    Ok(())
}
