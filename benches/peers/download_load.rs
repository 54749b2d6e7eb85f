//! Downloads the same body over several connections at a time, and discards it.
//!
//! Usage: `download_load PORT CONNECTIONS BYTES`, where BYTES is the length of each body. Prints one line of JSON: the
//! bytes of all bodies, and the seconds it took. A body of another length is an error.

use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Instant;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const BUFFER: usize = 256 * 1024;

/// Returns how many bytes came after the head until the server closed the connection.
fn download(port: u16) -> Result<u64> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(REQUEST)?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let end_of_head = loop {
        let n = stream.read(&mut buffer[filled..])?;
        if n == 0 {
            return Err(Error::other("closed before the head was complete"));
        }
        filled += n;
        if let Some(at) = memchr::memmem::find(&buffer[..filled], END_OF_HEAD) {
            break at + END_OF_HEAD.len();
        }
    };
    if !buffer.starts_with(b"HTTP/1.1 200 ") {
        return Err(Error::other("the status is not 200"));
    }
    let mut bytes = (filled - end_of_head) as u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes),
            n => bytes += n as u64,
        }
    }
}

fn argument(index: usize) -> u64 {
    let value = std::env::args().nth(index).expect("usage: download_load PORT CONNECTIONS BYTES");
    value.parse().expect("all arguments are numbers")
}

fn main() -> Result<()> {
    let port = u16::try_from(argument(1)).expect("PORT is at most 65535");
    let (connections, expected) = (argument(2), argument(3));
    let begin = Instant::now();
    let threads: Vec<_> = (0..connections).map(|_| thread::spawn(move || download(port))).collect();
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
