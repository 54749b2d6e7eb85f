//! Uploads a body over one connection by TLS, with zeros.
//!
//! Usage: `upload_load PORT BYTES`. Prints one line of JSON: the bytes, and the seconds until the server had them. Some
//! servers answer before the body has come. So a second request follows behind the body, and its reply says that the
//! server has read everything.

use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use stream::{Stream, Tls};

mod stream;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const END_OF_REPLY: &[u8] = b"Hello, World!";
const BLOCK: usize = 64 * 1024;

fn upload(stream: &mut Stream, bytes: u64) -> Result<()> {
    let block = vec![0; BLOCK];
    write!(stream, "PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {bytes}\r\n\r\n")?;
    let mut left = bytes;
    while left > 0 {
        let size = left.min(BLOCK as u64);
        stream.write_all(&block[..size as usize])?;
        left -= size;
    }
    stream.write_all(REQUEST)?;
    stream.flush()
}

/// Takes the replies to both requests.
fn take_replies(stream: &mut Stream) -> Result<()> {
    let mut buffer = [0; 4096];
    let mut received = Vec::new();
    while memchr::memmem::find_iter(&received, END_OF_REPLY).count() < 2 {
        match stream.read(&mut buffer)? {
            0 => return Err(Error::other("closed before both replies had come")),
            n => received.extend_from_slice(&buffer[..n]),
        }
    }
    let proper = memchr::memmem::find_iter(&received, b"HTTP/1.1 200 ").count() == 2;
    if proper { Ok(()) } else { Err(Error::other("the status is not 200")) }
}

fn argument(index: usize) -> u64 {
    let value = std::env::args().nth(index).expect("usage: upload_load PORT BYTES");
    value.parse().expect("all arguments are numbers")
}

fn main() -> Result<()> {
    let port = u16::try_from(argument(1)).expect("PORT is at most 65535");
    let bytes = argument(2);
    let begin = Instant::now();
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nodelay(true)?;
    let mut stream = Stream::new(socket, Some(&Tls::new(false)))?;
    upload(&mut stream, bytes)?;
    take_replies(&mut stream)?;
    println!(r#"{{"bytes": {bytes}, "seconds": {:.6}}}"#, begin.elapsed().as_secs_f64());
    Ok(())
}
