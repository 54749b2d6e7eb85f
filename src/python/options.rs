//! Keyword arguments that several classes take, as the core's settings.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arguments::{integer, seconds, size, size_within, whole_seconds};
use crate::options::{ConnectionOptions, Keepalive, SocketOptions};

pub fn socket_options(
    nodelay: bool,
    receive_buffer_size: Option<i64>,
    send_buffer_size: Option<i64>,
    keepalive: Option<Keepalive>,
    device: Option<String>,
) -> PyResult<SocketOptions> {
    Ok(SocketOptions {
        nodelay,
        receive_buffer_size: receive_buffer_size.map(|bytes| size("receive_buffer_size", bytes)).transpose()?,
        send_buffer_size: send_buffer_size.map(|bytes| size("send_buffer_size", bytes)).transpose()?,
        keepalive,
        device,
    })
}

pub fn connection_options(
    max_input: i64,
    high_water: i64,
    low_water: i64,
    auto_pause: bool,
    max_output: i64,
    linger_timeout: f64,
) -> PyResult<ConnectionOptions> {
    Ok(ConnectionOptions {
        max_input: size("max_input", max_input)?,
        high_water: size("high_water", high_water)?,
        low_water: size("low_water", low_water)?,
        auto_pause,
        max_output: size("max_output", max_output)?,
        linger_timeout: seconds("linger_timeout", linger_timeout)?,
    })
}

/// `None`, or `(idle, interval, count)`.
pub fn keepalive_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Keepalive>> {
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
