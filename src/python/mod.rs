//! The Python side of goev: the only part, with `lib.rs`, that knows PyO3.
//!
//! Handler objects are in side tables of each poller, and its dispatch calls them. The classes here turn method calls
//! into calls of the core. Rules of order and limits are the core's. The parts, from high to low:
//!
//! * `dispatch`: calls handlers; `connection/reactor`: the class that runs it
//! * `protocols`: a handler class and a face for each protocol
//! * `wsgi`: the threads that call WSGI applications, and their requests
//! * `connection`: the other classes
//! * `tls`, `logs`: the contexts of TLS, and the logs
//! * `asyncio`: asyncio around a poller, and the coroutines of callbacks
//! * `running`: the interpreter and its lock, signals, stalls, logs, threads, executors
//! * `tables`, `contexts`, `greenlets`, `callbacks`, `waiting`: objects of a poller; its contextvars; the stacks of its
//!   thread; names and answers of callbacks; coroutines that wait
//! * `values`: arguments, options, exceptions
//!
//! The imports of the files form no circle, but they also lead upwards: `connection/mod`, `connection/claim` and
//! `tables` import the trait `Face` of `protocols/mod`. `connection/group` imports the framings of `protocols`;
//! `connection/reactor` and `connection/testing` import the dispatch.

mod asyncio;
mod callbacks;
mod connection;
mod contexts;
mod dispatch;
mod greenlets;
mod logs;
mod protocols;
mod running;
mod tables;
mod tls;
mod values;
mod waiting;
mod wsgi;

use pyo3::prelude::*;
use pyo3::types::PyModule;

use asyncio::{call_soon, handle, lent, transports, turns};
use connection::{acceptor, at_exit, connector, datagram, event_handler, group, reactor, stop_report, testing, timer};
use protocols::{asgi, framing, headers, http, request, websocket, websocket_peer};
use running::{intake, lines};
use values::exceptions;
use wsgi::pool;

/// Fills the module `goev._core`.
pub fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<acceptor::Acceptor>()?;
    module.add_class::<connection::Connection>()?;
    module.add_class::<connector::Connector>()?;
    module.add_class::<datagram::Datagram>()?;
    module.add_class::<event_handler::EventHandler>()?;
    module.add_class::<framing::Framing>()?;
    module.add_class::<framing::LengthPrefixed>()?;
    module.add_class::<framing::Delimited>()?;
    module.add_class::<framing::FixedSize>()?;
    module.add_class::<group::Group>()?;
    module.add_class::<headers::Headers>()?;
    module.add_class::<http::HttpConnection>()?;
    module.add_class::<http::Limits>()?;
    module.add_class::<asgi::AsgiConnection>()?;
    module.add_class::<asgi::exchange::Exchange>()?;
    module.add_class::<asgi::ready::Ready>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<protocols::wsgi::WsgiConnection>()?;
    module.add_class::<pool::Pool>()?;
    module.add_class::<reactor::Reactor>()?;
    module.add_class::<stop_report::StopReport>()?;
    module.add_class::<testing::Bench>()?;
    module.add_class::<testing::TestPeer>()?;
    module.add_class::<timer::Timer>()?;
    module.add_class::<lent::Lent>()?;
    module.add_class::<turns::Turns>()?;
    module.add_class::<handle::Handle>()?;
    module.add_function(wrap_pyfunction!(acceptor::listen, module)?)?;
    module.add_function(wrap_pyfunction!(callbacks::has_coroutine, module)?)?;
    module.add_function(wrap_pyfunction!(call_soon::call_soon_of, module)?)?;
    module.add_function(wrap_pyfunction!(transports::speed_up, module)?)?;
    module.add_class::<websocket::WebSocketConnection>()?;
    module.add_class::<websocket_peer::ClientFrames>()?;
    module.add("WebSocketFraming", module.py().get_type::<websocket::WebSocketFraming>())?;
    module.add_class::<logs::AccessLog>()?;
    module.add_class::<lines::LineLog>()?;
    module.add_class::<intake::Intake>()?;
    module.add_function(wrap_pyfunction!(logs::current_poller, module)?)?;
    module.add_class::<tls::ServerContext>()?;
    module.add_class::<tls::ClientContext>()?;
    exceptions::add_to(module)?;
    event_handler::add_constants_to(module)?;
    let stop = wrap_pyfunction!(at_exit::stop_all, module)?;
    py.import("atexit")?.call_method1("register", (stop,))?;
    Ok(())
}
