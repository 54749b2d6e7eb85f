//! Files to send: opened or copied as descriptors that goev owns, and checked at the call.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};

use super::arguments::{own_descriptor, size};
use super::errors::file_error;
use crate::data::FileRange;
use crate::error::Error;

/// Up to this size a part of a file is read at once, because each part that waits to be sent costs a descriptor.
pub const COPIED_TO: u64 = 16 * 1024;

/// The file to send: a descriptor, or an object that has one; with its facts.
pub fn regular_file(value: &Bound<'_, PyAny>) -> PyResult<(File, Metadata)> {
    let file = File::from(own_descriptor("file", value, "send")?);
    let metadata = file.metadata().map_err(Error::io("cannot send the file"))?;
    if !metadata.is_file() {
        let text = format!("file must be a regular file; descriptor {} is none", file.as_raw_fd());
        return Err(PyValueError::new_err(text));
    }
    Ok((file, metadata))
}

/// As [`regular_file`], also for a path: `str`, `bytes` or `os.PathLike`.
pub fn file_or_path(value: &Bound<'_, PyAny>) -> PyResult<(File, Metadata)> {
    if value.is_instance_of::<PyInt>() || value.hasattr("fileno")? {
        return regular_file(value);
    }
    let py = value.py();
    let path = py.import("os")?.call_method1("fsencode", (value,))?.cast_into::<PyBytes>()?;
    let name = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let opened = py.detach(|| open(name));
    let (file, metadata) = opened.map_err(|error| file_error(&error, value))?;
    if !metadata.is_file() {
        return Err(PyValueError::new_err(format!("file must be a regular file; {} is none", value.repr()?)));
    }
    Ok((file, metadata))
}

/// Opens a file for reading. Does not wait for the writer of a pipe.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() { Err(io::Error::from_raw_os_error(libc::EISDIR)) } else { Ok((file, metadata)) }
}

/// The part of a file of `length` bytes that `offset` and `count` name: where it begins, and its length.
pub fn part(length: u64, offset: i64, count: Option<i64>) -> PyResult<(u64, u64)> {
    let offset = size("offset", offset)? as u64;
    let rest = length.checked_sub(offset).ok_or_else(|| {
        PyValueError::new_err(format!("offset must be at most the file's {length} bytes, not {offset}"))
    })?;
    let count = count.map_or(Ok(rest), |count| size("count", count).map(|count| count as u64))?;
    if count > rest {
        let text = format!("count must be at most the {rest} bytes from offset on, not {count}");
        return Err(PyValueError::new_err(text));
    }
    Ok((offset, count))
}

/// A part of a file: read already if it is small.
pub enum Part {
    Read(Vec<u8>),
    Unread(FileRange),
}

impl Part {
    pub fn new(file: File, offset: u64, count: u64) -> PyResult<Self> {
        if count > COPIED_TO {
            return Ok(Self::Unread(FileRange { file: OwnedFd::from(file), offset, remaining: count }));
        }
        let mut bytes = vec![0; count as usize];
        file.read_exact_at(&mut bytes, offset).map_err(Error::io("cannot read the file to send"))?;
        Ok(Self::Read(bytes))
    }
}
