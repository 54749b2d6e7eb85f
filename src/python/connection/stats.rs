//! The counters of a poller as a dict, for `Reactor.stats()`.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyList};

use crate::proxy::Refusal;
use crate::shared::counters::{Counter, Counters};
use crate::shared::handle::PollerHandle;
use crate::shared::histogram::{Histogram, Measures};
use crate::tls::FailureKind;

/// The names of the classes of answers, by the first digit of the status.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The handshakes that failed, by the kind of reason.
fn failed_handshakes(counters: &Counters) -> impl Iterator<Item = (&'static str, u64)> {
    FailureKind::NAMES.into_iter().zip(counters.handshakes.iter().map(Counter::get))
}

/// The counters of one poller.
pub fn stats_of<'py>(py: Python<'py>, handle: &PollerHandle) -> PyResult<Bound<'py, PyDict>> {
    let counters = &handle.counters;
    // `closed` and `moved_away` are read first: read later, they could exceed the number of opened connections.
    let closed_by = counters.closed.each();
    let closed: u64 = closed_by.iter().map(|(_, count)| count).sum();
    let moved_away = counters.moved_away.get();
    let (accepted, connected) = (counters.accepted.get(), counters.connected.get());
    let moved_here = counters.moved_here.get();
    let stats = PyDict::new(py);
    stats.set_item("accepted", accepted)?;
    stats.set_item("connected", connected)?;
    stats.set_item("moved_here", moved_here)?;
    stats.set_item("moved_away", moved_away)?;
    stats.set_item("open", (accepted + connected + moved_here).saturating_sub(closed + moved_away))?;
    stats.set_item("closed", closed)?;
    stats.set_item("closed_by", closed_by.into_py_dict(py)?)?;
    stats.set_item("refused", counters.refused.get())?;
    let refused = Refusal::NAMES.iter().zip(counters.proxies_refused.each_ref().map(Counter::get));
    stats.set_item("proxy_refused", refused.into_py_dict(py)?)?;
    stats.set_item("handshakes_failed", failed_handshakes(counters).into_py_dict(py)?)?;
    stats.set_item("handshakes", counters.secured.get())?;
    stats.set_item("handshakes_resumed", counters.resumed.get())?;
    stats.set_item("answers", CLASSES.iter().zip(counters.answers.each_ref().map(Counter::get)).into_py_dict(py)?)?;
    stats.set_item("websockets", counters.sessions.get())?;
    stats.set_item("group_sent", counters.group_sent.get())?;
    stats.set_item("group_skipped", counters.group_skipped.get())?;
    stats.set_item("bytes_in", counters.bytes_in.get())?;
    stats.set_item("bytes_out", counters.bytes_out.get())?;
    stats.set_item("datagrams_dropped", counters.datagrams_dropped.get())?;
    let sizes: Vec<_> = counters.batches.each().collect();
    stats.set_item("batches", sizes.iter().map(|(_, count)| count).sum::<u64>())?;
    stats.set_item("batch_sizes", sizes.into_py_dict(py)?)?;
    stats.set_item("callbacks", counters.callbacks.get())?;
    stats.set_item("stalls", counters.stalls.get())?;
    stats.set_item("slow_callbacks", counters.slow.get())?;
    stats.set_item("python_time", counters.calling.get() as f64 / 1e9)?;
    stats.set_item("attach_wait", counters.attaching.get() as f64 / 1e9)?;
    stats.set_item("timers", counters.timers.get())?;
    stats.set_item("mailbox", handle.mailbox_depth())?;
    stats.set_item("histograms", histograms_of(py, handle.measures.as_deref())?)?;
    Ok(stats)
}

/// The histograms of one poller; none if it does not measure.
fn histograms_of<'py>(py: Python<'py>, measures: Option<&Measures>) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    if let Some(measures) = measures {
        all.set_item("callback_seconds", histogram_of(py, &measures.callbacks)?)?;
        all.set_item("attach_seconds", histogram_of(py, &measures.attaching)?)?;
        all.set_item("answer_seconds", histogram_of(py, &measures.answers)?)?;
    }
    Ok(all)
}

fn histogram_of<'py>(py: Python<'py>, histogram: &Histogram) -> PyResult<Bound<'py, PyDict>> {
    let reading = histogram.read();
    let found = PyDict::new(py);
    found.set_item("classes", PyList::new(py, reading.classes)?)?;
    found.set_item("sum", reading.sum)?;
    Ok(found)
}
