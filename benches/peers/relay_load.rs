//! Sends through a relay as fast as it can: source, relay, sink; four connections, all in one direction.
//!
//! Usage: `relay_load RELAY_PORT SINK_PORT SECONDS`, where the relay connects to SINK_PORT for each connection. Prints
//! one line of JSON: the bytes that arrived at the sinks, and the seconds from the first byte sent to the last one that
//! arrived. A byte that does not arrive is an error. The sources stay open until then, since some relays discard the
//! bytes that they hold for one end when the other end closes.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 4;
const BLOCK: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);
const STILL_SENDING: u64 = u64::MAX;

/// Sends for `time`, then stores the number of bytes in `sent` for the sink.
fn send(mut source: TcpStream, time: Duration, sent: &AtomicU64) -> Result<TcpStream> {
    let block = vec![b'x'; BLOCK];
    let begin = Instant::now();
    let mut bytes = 0;
    while begin.elapsed() < time {
        source.write_all(&block)?;
        bytes += BLOCK as u64;
    }
    sent.store(bytes, Ordering::Release);
    Ok(source)
}

/// Takes all bytes that are sent, and returns their number and when the last one came.
fn receive(mut sink: TcpStream, sent: &AtomicU64) -> Result<(u64, Instant)> {
    sink.set_read_timeout(Some(Duration::from_millis(100)))?; // to check `sent` meanwhile
    let mut buffer = vec![0; BLOCK];
    let (mut bytes, mut last) = (0, Instant::now());
    while bytes != sent.load(Ordering::Acquire) {
        match sink.read(&mut buffer) {
            Ok(0) => return Err(Error::other("the relay closed a connection before all had arrived")),
            Ok(n) => {
                bytes += n as u64;
                last = Instant::now();
            }
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Err(error),
            Err(_) if last.elapsed() < PATIENCE => {}
            Err(_) => return Err(Error::other("not all that was sent has arrived")),
        }
    }
    Ok((bytes, last))
}

fn argument(index: usize) -> u16 {
    let value = std::env::args().nth(index).expect("usage: relay_load RELAY_PORT SINK_PORT SECONDS");
    value.parse().expect("all arguments are numbers up to 65535")
}

fn main() -> Result<()> {
    let relay = (Ipv4Addr::LOCALHOST, argument(1));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, argument(2)))?;
    let time = Duration::from_secs(argument(3).into());
    let pairs =
        (0..CONNECTIONS).map(|_| Ok((TcpStream::connect(relay)?, listener.accept()?.0))).collect::<Result<Vec<_>>>()?;

    let begin = Instant::now();
    let threads: Vec<_> = pairs
        .into_iter()
        .map(|(source, sink)| {
            let sent = Arc::new(AtomicU64::new(STILL_SENDING));
            let seen = Arc::clone(&sent);
            (thread::spawn(move || send(source, time, &sent)), thread::spawn(move || receive(sink, &seen)))
        })
        .collect();
    let (mut bytes, mut end) = (0, begin);
    for (source, sink) in threads {
        let (received, last) = sink.join().expect("a sink panicked")?;
        source.join().expect("a source panicked")?;
        bytes += received;
        end = end.max(last);
    }
    println!(r#"{{"bytes": {bytes}, "seconds": {:.6}}}"#, (end - begin).as_secs_f64());
    Ok(())
}
