//! Keyword arguments that are settings of the core: their names, and the checks of their values.
//!
//! Several classes take the same keywords, so they are read by name. The core defines defaults and limits.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::options::{AdmissionOptions, ConnectionOptions, Keepalive, Placement, Rate, SocketOptions, WhenFull};
use crate::python::values::arguments::{
    each_item, integer, optional_integer, seconds, size, size_within, whole_seconds,
};

/// Passes each keyword argument to `take`, which returns whether it knows the name.
pub fn take_keywords<'py>(
    function: &str,
    keywords: Option<&Bound<'py, PyDict>>,
    mut take: impl FnMut(&str, &Bound<'py, PyAny>) -> PyResult<bool>,
) -> PyResult<()> {
    let Some(keywords) = keywords else { return Ok(()) };
    each_item(keywords, "keyword arguments", |name, value| {
        let name: String = name.extract()?;
        if take(&name, value).map_err(|error| naming(value.py(), &name, error))? {
            return Ok(());
        }
        Err(PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'")))
    })
}

/// Adds the argument's name to the error of a wrong type, as for arguments that a signature names.
fn naming(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(py) {
        return PyTypeError::new_err(format!("argument '{name}': {}", error.value(py)));
    }
    error
}

/// Sets an option of a socket or of its connection. Returns false for another name.
pub fn set_option(
    socket: &mut SocketOptions,
    connection: &mut ConnectionOptions,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    Ok(set_socket_option(socket, name, value)? || set_connection_option(connection, name, value)?)
}

fn set_socket_option(options: &mut SocketOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match name {
        "nodelay" => options.nodelay = value.extract()?,
        "receive_buffer_size" => options.receive_buffer_size = optional_size(name, value)?,
        "send_buffer_size" => options.send_buffer_size = optional_size(name, value)?,
        "keepalive" => options.keepalive = keepalive_of(value)?,
        "device" => options.device = value.extract()?,
        _ => return Ok(false),
    }
    Ok(true)
}

pub fn set_connection_option(options: &mut ConnectionOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match name {
        "max_input" => options.max_input = size(name, integer(value)?)?,
        "high_water" => options.high_water = size(name, integer(value)?)?,
        "low_water" => options.low_water = size(name, integer(value)?)?,
        "auto_pause" => options.auto_pause = value.extract()?,
        "max_output" => options.max_output = size(name, integer(value)?)?,
        "linger_timeout" => options.linger_timeout = seconds(name, value.extract()?)?,
        "handshake_timeout" => options.handshake_timeout = positive_seconds(name, value)?,
        "idle_timeout" => options.idle_timeout = optional_seconds(name, value)?,
        "receive_timeout" => options.receive_timeout = optional_seconds(name, value)?,
        "first_byte_timeout" => options.first_byte_timeout = optional_seconds(name, value)?,
        "write_timeout" => options.write_timeout = optional_seconds(name, value)?,
        "lifetime" => options.lifetime = optional_seconds(name, value)?,
        "min_rate" => options.min_rate = rate_of(name, value)?,
        "min_write_rate" => options.min_write_rate = rate_of(name, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

pub fn set_admission_option(options: &mut AdmissionOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match name {
        "max_connections" => options.max_connections = optional_size(name, value)?,
        "when_full" => options.when_full = when_full_of(value.extract()?)?,
        "max_connections_per_address" => options.max_connections_per_address = optional_size(name, value)?,
        "accept_rate" => options.accept_rate = value.extract()?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn optional_size(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    optional_integer(value)?.map(|value| size(name, value)).transpose()
}

fn positive_seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    match seconds(name, value.extract()?)? {
        none if none.is_zero() => Err(PyValueError::new_err(format!("{name} must be more than 0 seconds, not 0"))),
        time => Ok(time),
    }
}

pub fn optional_seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    value.extract::<Option<f64>>()?.map(|value| seconds(name, value)).transpose()
}

/// One of the ways to choose a poller.
pub fn placement_of(name: &str) -> PyResult<Placement> {
    match name {
        "auto" => Ok(Placement::Auto),
        "round_robin" => Ok(Placement::RoundRobin),
        "least" => Ok(Placement::Least),
        "incoming_cpu" => Ok(Placement::IncomingCpu),
        "source_address" => Ok(Placement::SourceAddress),
        _ => Err(PyValueError::new_err(format!(
            "placement must be 'auto', 'round_robin', 'least', 'incoming_cpu' or 'source_address', not {name:?}"
        ))),
    }
}

fn when_full_of(name: &str) -> PyResult<WhenFull> {
    match name {
        "wait" => Ok(WhenFull::Wait),
        "refuse" => Ok(WhenFull::Refuse),
        _ => Err(PyValueError::new_err(format!("when_full must be 'wait' or 'refuse', not {name:?}"))),
    }
}

/// `None`, or `(bytes per second, window)`.
pub fn rate_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Rate>> {
    if value.is_none() {
        return Ok(None);
    }
    let wrong = || PyTypeError::new_err("must be None or a tuple (bytes per second, seconds of the window)");
    let (bytes_per_second, window): (f64, f64) = value.extract().map_err(|_| wrong())?;
    Ok(Some(Rate { bytes_per_second, window: seconds(&format!("the window of {name}"), window)? }))
}

/// `None`, or `(idle, interval, count)`.
fn keepalive_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Keepalive>> {
    if value.is_none() {
        return Ok(None);
    }
    let wrong = || PyTypeError::new_err("keepalive must be None or a tuple (idle, interval, count)");
    let tuple = value.cast::<PyTuple>().ok().filter(|tuple| tuple.len() == 3).ok_or_else(wrong)?;
    let time = |name: &str, index: usize| -> PyResult<Duration> {
        whole_seconds(name, tuple.get_item(index)?.extract().map_err(|_| wrong())?)
    };
    Ok(Some(Keepalive {
        idle: time("keepalive idle", 0)?,
        interval: time("keepalive interval", 1)?,
        count: size_within("keepalive count", integer(&tuple.get_item(2)?).map_err(|_| wrong())?, 1..=127)? as u32,
    }))
}
