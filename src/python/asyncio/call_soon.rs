//! `EventLoop.call_soon`: that of asyncio, which also gives the poller its turns.
//!
//! asyncio calls everything that is ready before it selects again, and that may be thousands of callbacks. So a turn of
//! the poller is put between each so many of them. And the first step of a new task can be caught, to run it at once.

use std::cell::{Cell, RefCell};
use std::ptr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// Callbacks of asyncio between two turns of the poller.
const MOST: u32 = 256;

/// Arguments of `call_soon` for which no memory is reserved: the loop, the callback, its arguments, the context.
const USUAL: usize = 8;

/// The method of the base class.
static BASE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A callback that the next `call_soon` of this thread would schedule.
enum Catch {
    Off,
    Armed,
    Caught(Py<PyAny>),
}

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static CATCH: RefCell<Catch> = const { RefCell::new(Catch::Off) };
    /// Runs a turn of the poller that this thread's loop drives.
    static TURN: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
}

/// Sets the function that runs a turn, while the loop of this thread runs.
pub fn set_turn(turn: Option<Py<PyAny>>) {
    let before = TURN.replace(turn);
    drop(before);
}

/// Counts anew, because the loop selects.
pub fn begin_turn() {
    COUNT.set(0);
}

/// Calls `work`, and returns the callback that it passes to `call_soon` first, instead of scheduling it.
pub fn caught<R>(py: Python<'_>, work: impl FnOnce() -> PyResult<R>) -> PyResult<(R, Py<PyAny>)> {
    CATCH.replace(Catch::Armed);
    let result = work();
    match (result, CATCH.replace(Catch::Off)) {
        (result, Catch::Caught(callback)) => Ok((result?, callback)),
        (result, _) => {
            let _ = py;
            result.and_then(|_| Err(PyRuntimeError::new_err("the task was not scheduled on the loop that runs")))
        }
    }
}

/// Makes the method for `class`, a subclass of the loop of asyncio with `base`, its own method.
#[pyfunction]
#[pyo3(name = "_call_soon_of")]
pub fn call_soon_of<'py>(class: &Bound<'py, PyType>, base: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    BASE.get_or_init(py, || base.clone().unbind());
    let method = Box::new(ffi::PyMethodDef {
        ml_name: c"call_soon".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: call_soon },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: c"Call ``callback(*args)`` soon, as ``asyncio.AbstractEventLoop.call_soon`` does.".as_ptr(),
    });
    // SAFETY: the thread is attached, the class is a type, and the definition is never freed, as the descriptor needs.
    unsafe {
        let made = ffi::PyDescr_NewMethod(class.as_type_ptr(), Box::leak(method));
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// `call_soon(self, callback, *args, context=None)`.
///
/// # Safety
/// Called by the interpreter only, by the convention of METH_FASTCALL | METH_KEYWORDS: `args` holds `count` arguments and
/// behind them one for each name.
unsafe extern "C" fn call_soon(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this attached, with arguments as described above.
    unsafe {
        let py = Python::assume_attached();
        if count > 0 && catches(py, *args) {
            return py.None().into_ptr();
        }
        let Some(base) = BASE.get(py) else { return ptr::null_mut() };
        let named = if names.is_null() { 0 } else { ffi::PyTuple_Size(names) };
        let given = std::slice::from_raw_parts(args, (count + named) as usize);
        let result = with_first(this, given, |all| {
            ffi::PyObject_Vectorcall(base.as_ptr(), all.as_ptr(), count as usize + 1, names)
        });
        let next = COUNT.get() + 1;
        COUNT.set(next);
        if next.is_multiple_of(MOST) && !result.is_null() {
            add_turn(py, this, base);
        }
        result
    }
}

/// Catches a callback, if one is to be caught.
fn catches(py: Python<'_>, callback: *mut ffi::PyObject) -> bool {
    CATCH.with_borrow_mut(|catch| {
        let is_armed = matches!(catch, Catch::Armed);
        if is_armed {
            // SAFETY: it is an argument of a call that runs, so it is an object.
            *catch = Catch::Caught(unsafe { Bound::from_borrowed_ptr(py, callback) }.unbind());
        }
        is_armed
    })
}

fn with_first<R>(
    first: *mut ffi::PyObject,
    rest: &[*mut ffi::PyObject],
    call: impl FnOnce(&[*mut ffi::PyObject]) -> R,
) -> R {
    let mut few = [first; USUAL];
    match few.get_mut(1..=rest.len()) {
        Some(room) => {
            room.copy_from_slice(rest);
            call(&few[..=rest.len()])
        }
        None => call(&[&[first], rest].concat()),
    }
}

/// Puts a turn of the poller behind the callbacks that were scheduled.
#[cold]
fn add_turn(py: Python<'_>, this: *mut ffi::PyObject, base: &Py<PyAny>) {
    let Some(turn) = TURN.with_borrow(|turn| turn.as_ref().map(|turn| turn.clone_ref(py))) else { return };
    // SAFETY: it is the receiver of a call that runs, so it is an object.
    let this = unsafe { Bound::from_borrowed_ptr(py, this) };
    if let Err(error) = base.call1(py, (this, turn)) {
        error.write_unraisable(py, None);
    }
}
