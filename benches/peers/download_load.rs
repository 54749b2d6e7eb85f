//! Downloads the same body over several connections at a time, and discards it.
//!
//! Usage: `download_load PORT CONNECTIONS BYTES [tls]`, where BYTES is the length of each body. Prints one line of JSON:
//! the bytes of all bodies, and the seconds it took. A body of another length is an error.

use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Instant;

use records::Download;
use stream::Tls;

mod records;
mod stream;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const BUFFER: usize = 256 * 1024;

/// Returns how many bytes came after the head: until the server closed the connection, or over TLS until all had come.
fn download(port: u16, expected: u64, tls: Option<&Tls>) -> Result<u64> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    if let Some(tls) = tls {
        let mut stream = Download::new(socket, tls)?;
        let beginning = stream.ask(REQUEST)?;
        let begun = behind_head(&beginning)?.ok_or_else(cut_head)? as u64;
        return Ok(begun + stream.count(expected.saturating_sub(begun))?);
    }
    socket.write_all(REQUEST)?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let mut bytes = loop {
        match socket.read(&mut buffer[filled..])? {
            0 => return Err(cut_head()),
            n => filled += n,
        }
        if let Some(bytes) = behind_head(&buffer[..filled])? {
            break bytes as u64;
        }
    };
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(bytes),
            n => bytes += n as u64,
        }
    }
}

/// The number of bytes behind the head, once it is complete.
fn behind_head(beginning: &[u8]) -> Result<Option<usize>> {
    let Some(at) = memchr::memmem::find(beginning, END_OF_HEAD) else { return Ok(None) };
    let proper = beginning.starts_with(b"HTTP/1.1 200 ");
    if proper { Ok(Some(beginning.len() - at - END_OF_HEAD.len())) } else { Err(Error::other("the status is not 200")) }
}

fn cut_head() -> Error {
    Error::other("the head did not come as a whole")
}

fn argument(index: usize) -> u64 {
    let value = std::env::args().nth(index).expect("usage: download_load PORT CONNECTIONS BYTES [tls]");
    value.parse().expect("all arguments are numbers")
}

fn main() -> Result<()> {
    let port = u16::try_from(argument(1)).expect("PORT is at most 65535");
    let (connections, expected) = (argument(2), argument(3));
    let tls = std::env::args().nth(4).map(|_| Tls::new(false));
    let begin = Instant::now();
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let tls = tls.clone();
            thread::spawn(move || download(port, expected, tls.as_ref()))
        })
        .collect();
    for thread in threads {
        let bytes = thread.join().expect("a thread panicked")?;
        if bytes != expected {
            return Err(Error::other(format!("a body has {bytes} bytes instead of {expected}")));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(r#"{{"bytes": {}, "seconds": {seconds:.6}}}"#, connections * expected);
    Ok(())
}
