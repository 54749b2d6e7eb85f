//! The two hot paths of asyncio's socket transports: bytes that arrive, and `write`.
//!
//! All state stays in the transport of asyncio. Each path looks at it, handles the common case, and leaves any other to
//! asyncio's own method, which then finds the socket and the transport as it expects them. So does another version of
//! asyncio, in which the names are others.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::ptr;

use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{ffi, intern};

use super::handle::ends_program;
use crate::python::contexts::{Context, within};
use crate::python::values::errors::os_error;
use crate::python::values::objects::bytes_object;

/// The bytes that one read takes; as many as asyncio's `max_size`.
const MOST: usize = 256 * 1024;

/// The subclass of asyncio's transport, and what its reader looks like.
static KIND: PyOnceLock<Kind> = PyOnceLock::new();

struct Kind {
    class: Py<PyType>,
    /// `write` of the base class.
    write: Py<PyAny>,
    /// The methods of the base class that `add_reader` gets, and that it calls for a protocol without own buffers.
    ready: Py<PyAny>,
    received: Py<PyAny>,
    /// `socket.socket`.
    socket: Py<PyAny>,
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives `class`, a subclass of asyncio's socket transport, its faster paths.
#[pyfunction]
#[pyo3(name = "_speed_up")]
pub fn speed_up(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let base = class.getattr("__base__")?;
    let get = |name: &str| Ok::<_, PyErr>(base.getattr(name)?.unbind());
    let (write, ready, received) = (get("write")?, get("_read_ready")?, get("_read_ready__data_received")?);
    let socket = py.import("socket")?.getattr("socket")?.unbind();
    let kind = Kind { class: class.clone().unbind(), write, ready, received, socket };
    if KIND.set(py, kind).is_ok() {
        class.setattr("write", write_of(class)?)?;
    }
    Ok(())
}

fn write_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let method = Box::new(ffi::PyMethodDef {
        ml_name: c"write".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: write },
        ml_flags: ffi::METH_O,
        ml_doc: c"Write some data bytes to the transport; see ``asyncio.WriteTransport.write``.".as_ptr(),
    });
    // SAFETY: the thread is attached, the class is a type, and the definition is never freed, as the descriptor needs.
    unsafe {
        let made = ffi::PyDescr_NewMethod(class.as_type_ptr(), Box::leak(method));
        Bound::from_owned_ptr_or_err(class.py(), made)
    }
}

/// `write(self, data)`.
///
/// # Safety
/// Called by the interpreter only, by the convention of METH_O.
unsafe extern "C" fn write(this: *mut ffi::PyObject, data: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this attached, with two objects.
    let (transport, data) = unsafe {
        let py = Python::assume_attached();
        (Bound::from_borrowed_ptr(py, this), Bound::from_borrowed_ptr(py, data))
    };
    let written = match try_to_send(&transport, &data) {
        Ok(Sent::All) => Ok(()),
        Ok(Sent::Part(rest)) => write_by_asyncio(&transport, &rest),
        Ok(Sent::Nothing) => write_by_asyncio(&transport, &data),
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => transport.py().None().into_ptr(),
        Err(error) => {
            error.restore(transport.py());
            ptr::null_mut()
        }
    }
}

enum Sent<'py> {
    All,
    /// The rest was not sent.
    Part(Bound<'py, PyAny>),
    Nothing,
}

/// Sends bytes at once, if none wait before them.
fn try_to_send<'py>(transport: &Bound<'py, PyAny>, data: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
    let py = transport.py();
    let Ok(bytes) = data.cast_exact::<PyBytes>() else { return Ok(Sent::Nothing) };
    let all = bytes.as_bytes();
    let fd = if all.is_empty() { Ok(None) } else { plain(transport) };
    let Ok(Some(fd)) = fd else { return Ok(Sent::Nothing) };
    // SAFETY: the pointer and the length are those of bytes that live.
    let sent = unsafe { libc::send(fd, all.as_ptr().cast(), all.len(), libc::MSG_NOSIGNAL) };
    let failed = match usize::try_from(sent) {
        Ok(sent) if sent == all.len() => return Ok(Sent::All),
        Ok(sent) => match bytes_object(py, &all[sent..]) {
            Ok(rest) => return Ok(Sent::Part(rest.into_any())),
            Err(error) => error,
        },
        Err(_) => match io::Error::last_os_error() {
            error if is_for_now(&error) => return Ok(Sent::Nothing),
            error => os_error(None, &error),
        },
    };
    fail(transport, failed, "Fatal write error on socket transport").map(|()| Sent::All)
}

/// Whether the socket would have been of use a moment later.
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Ends a transport with an error, as asyncio does. The socket tells an error once, so asyncio would not find it again.
#[cold]
fn fail(transport: &Bound<'_, PyAny>, error: PyErr, text: &str) -> PyResult<()> {
    transport.call_method1(intern!(transport.py(), "_fatal_error"), (error, text)).map(drop)
}

/// The descriptor of a transport, if it is open for writing and nothing waits to be sent.
fn plain(transport: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let py = transport.py();
    let is_false = |name| transport.getattr(name)?.is_truthy().map(|is| !is);
    let is_plain = is_false(intern!(py, "_buffer"))?
        && is_false(intern!(py, "_conn_lost"))?
        && is_false(intern!(py, "_eof"))?
        && transport.getattr(intern!(py, "_empty_waiter"))?.is_none();
    if is_plain { descriptor(transport) } else { Ok(None) }
}

/// The descriptor of the transport's socket; `None` if that has been closed behind its back, because the number may be
/// another socket's by now, or if a class of the user's may have methods of its own.
fn descriptor(transport: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let py = transport.py();
    let socket = transport.getattr(intern!(py, "_sock"))?;
    if !KIND.get(py).is_some_and(|kind| socket.get_type().is(&kind.socket)) {
        return Ok(None);
    }
    let fd: RawFd = transport.getattr(intern!(py, "_sock_fd"))?.extract()?;
    let now: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
    Ok((fd == now).then_some(fd))
}

fn write_by_asyncio(transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let kind = KIND.get(py).ok_or_else(|| PyRuntimeError::new_err("the transport is not one of asyncio's"))?;
    kind.write.call1(py, (transport, data)).map(drop)
}

/// Reads what has arrived for a transport, and passes it to the protocol, if `reader` is the handle of such a transport.
/// Returns false if asyncio has to call the reader.
pub fn receive(reader: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = reader.py();
    let Ok(Some(Receiver { transport, fd, protocol, context })) = receiver(reader) else { return Ok(false) };
    let data = match read(py, fd) {
        Ok(Read::Bytes(data)) => data,
        Ok(Read::Nothing) => return Ok(true),
        // The end of the stream stays in the socket, so asyncio reads it again.
        Ok(Read::End) => return Ok(false),
        Err(error) => return fail(&transport, error, "Fatal read error on socket transport").map(|()| true),
    };
    match within(py, Some(&context), || protocol.call_method1(intern!(py, "data_received"), (data,))) {
        Ok(_) => Ok(true),
        Err(error) if ends_program(py, &error) => Err(error),
        Err(error) => fail(&transport, error, "Fatal error: protocol.data_received() call failed.").map(|()| true),
    }
}

/// The parts of a transport that takes bytes.
struct Receiver<'py> {
    transport: Bound<'py, PyAny>,
    fd: RawFd,
    protocol: Bound<'py, PyAny>,
    context: Context,
}

fn receiver<'py>(reader: &Bound<'py, PyAny>) -> PyResult<Option<Receiver<'py>>> {
    let py = reader.py();
    let Some(transport) = transport_of(reader)? else { return Ok(None) };
    if transport.getattr(intern!(py, "_conn_lost"))?.is_truthy()? {
        return Ok(None);
    }
    let Some(fd) = descriptor(&transport)? else { return Ok(None) };
    let protocol = transport.getattr(intern!(py, "_protocol"))?;
    let context = reader.getattr(intern!(py, "_context"))?.unbind();
    Ok(Some(Receiver { fd, transport, protocol, context }))
}

/// The transport whose reader this is, if it is one with the fast paths, and its protocol takes bytes.
fn transport_of<'py>(reader: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = reader.py();
    let (Some(kind), Some(callback)) = (KIND.get(py), reader.getattr_opt(intern!(py, "_callback"))?) else {
        return Ok(None);
    };
    let transport = receiver_of(&callback, &kind.ready)?.filter(|transport| transport.get_type().is(&kind.class));
    let Some(transport) = transport else { return Ok(None) };
    let takes = transport.getattr(intern!(py, "_read_ready_cb"))?;
    Ok(receiver_of(&takes, &kind.received)?.map(|_| transport))
}

/// The object to which a method is bound, if it is this method.
fn receiver_of<'py>(bound: &Bound<'py, PyAny>, method: &Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = bound.py();
    match bound.getattr_opt(intern!(py, "__func__"))? {
        Some(function) if function.is(method) => bound.getattr(intern!(py, "__self__")).map(Some),
        _ => Ok(None),
    }
}

enum Read<'py> {
    Bytes(Bound<'py, PyBytes>),
    Nothing,
    End,
}

/// Reads once.
fn read<'py>(py: Python<'py>, fd: RawFd) -> PyResult<Read<'py>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let missing = MOST - scratch.len();
        scratch
            .try_reserve_exact(missing)
            .map_err(|_| PyMemoryError::new_err("no memory for the bytes of a transport"))?;
        scratch.resize(MOST, 0);
        // SAFETY: the pointer and the length are those of the scratch.
        let count = unsafe { libc::recv(fd, scratch.as_mut_ptr().cast(), scratch.len(), 0) };
        match usize::try_from(count) {
            Ok(0) => Ok(Read::End),
            Ok(count) => bytes_object(py, &scratch[..count]).map(Read::Bytes),
            Err(_) => match io::Error::last_os_error() {
                error if is_for_now(&error) => Ok(Read::Nothing),
                error => Err(os_error(None, &error)),
            },
        }
    })
}
