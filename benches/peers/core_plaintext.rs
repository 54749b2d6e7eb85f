//! The yardstick: the plaintext server on goev's own core with a handler in Rust, without Python.
//!
//! Flags: `--port N`, `--pollers N`, `--reuse-port`, `--cpu-steering`. Prints `ready`; ends on SIGTERM.

use std::error::Error;
use std::process::ExitCode;

use goev::handlers::{Context, Factory, Handler, Handlers};
use goev::options::AcceptorOptions;

const END: &[u8] = b"\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

struct Plain;

impl Handler for Plain {
    fn on_read(&mut self, connection: &Context<'_>) {
        let heads = connection.read(|input| {
            let mut consumed = 0;
            let mut heads = 0;
            while let Some(at) = memchr::memmem::find(&input[consumed..], END) {
                consumed += at + END.len();
                heads += 1;
            }
            (heads, consumed)
        });
        match heads {
            Ok(0) | Err(_) => {}
            // A closed connection needs no answer.
            Ok(1) => drop(connection.write(RESPONSE)),
            Ok(heads) => drop(connection.write(&RESPONSE.repeat(heads))),
        }
    }
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("core_plaintext: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let pollers = value("--pollers").map_or(Ok(1), |text| text.parse())?;
    let port: u16 = value("--port").map_or(Ok(8080), |text| text.parse())?;
    let options = AcceptorOptions {
        reuse_port: flag("--reuse-port") || flag("--cpu-steering"),
        cpu_steering: flag("--cpu-steering"),
        ..AcceptorOptions::default()
    };
    let reactor = Handlers::reactor(pollers)?;
    let factory: Factory = Box::new(|_| Box::new(Plain));
    Handlers::listen(&reactor, &format!("127.0.0.1:{port}"), &options, factory)?;
    println!("ready");
    reactor.run(|_| Ok(()), &mut || Ok(())).map_err(|_| "the reactor failed")?;
    Ok(())
}
