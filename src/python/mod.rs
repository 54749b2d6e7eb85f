//! The Python face: the only place, with `lib.rs`, that knows PyO3.
//!
//! Handler objects are held in side tables of each poller's dispatch and called there; the classes here turn method
//! calls into calls of the core. Rules of order and limits are the core's.

mod acceptor;
mod arguments;
mod connection;
mod connector;
mod datagram;
mod dispatch;
mod errors;
mod event_handler;
mod fairness;
mod framing;
mod group;
mod headers;
mod http;
mod offload;
mod options;
mod reactor;
mod signals;
mod stalls;
mod timer;
mod websocket;

use pyo3::prelude::*;
use pyo3::types::PyModule;

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
    module.add_class::<http::Request>()?;
    module.add_class::<reactor::Reactor>()?;
    module.add_class::<reactor::StopReport>()?;
    module.add_class::<timer::Timer>()?;
    module.add_class::<websocket::WebSocketConnection>()?;
    module.add("WebSocketFraming", module.py().get_type::<websocket::WebSocketFraming>())?;
    errors::add_to(module)?;
    event_handler::add_constants_to(module)?;
    let stop = wrap_pyfunction!(reactor::stop_all, module)?;
    py.import("atexit")?.call_method1("register", (stop,))?;
    Ok(())
}
