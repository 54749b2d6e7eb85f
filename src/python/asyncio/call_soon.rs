//! `EventLoop.call_soon`: asyncio calls it for each step of each task.
//!
//! While the loop runs, a callback is queued here, and `Turns.select` calls it. Otherwise, and in debug mode, the method of
//! asyncio keeps it. And the first step of a new task can be caught, to run it at once.

use std::cell::RefCell;
use std::ptr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::handle::{Arguments, Handle};
use super::ready::running;
use crate::python::contexts::{Context, copy_of_current};

/// Arguments of `call_soon` for which no memory is reserved: the loop, the callback, its arguments, the context.
const USUAL: usize = 8;

/// The method of the base class.
static BASE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The handle that the next `call_soon` of this thread would schedule.
enum Catch {
    Off,
    Armed,
    Caught(Py<Handle>),
}

thread_local! {
    static CATCH: RefCell<Catch> = const { RefCell::new(Catch::Off) };
}

/// Calls `work`, and returns the handle of the callback that it passes to `call_soon` first, instead of scheduling it.
pub fn caught<R>(work: impl FnOnce() -> PyResult<R>) -> PyResult<(R, Py<Handle>)> {
    CATCH.replace(Catch::Armed);
    let result = work();
    match (result, CATCH.replace(Catch::Off)) {
        (result, Catch::Caught(handle)) => Ok((result?, handle)),
        (result, _) => {
            result.and_then(|_| Err(PyRuntimeError::new_err("the task was not scheduled on the loop that runs")))
        }
    }
}

/// Schedules a handle that was caught, and was not the one to be caught.
pub fn release(py: Python<'_>, event_loop: &Py<PyAny>, handle: Py<Handle>) -> PyResult<()> {
    match running(event_loop.as_ptr()) {
        Some(ready) => ready.push(handle),
        None => handle.get().schedule_by(py, event_loop),
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
        let named = if names.is_null() { 0 } else { ffi::PyTuple_Size(names) };
        let given = std::slice::from_raw_parts(args, (count + named) as usize);
        let Some((&callback, rest)) = given.split_first().filter(|_| count > 0) else {
            return call_base(py, this, given, count as usize, names);
        };
        let (arguments, named) = rest.split_at(count as usize - 1);
        let (is_caught, ready) = (is_armed(), running(this));
        let context = if is_caught || ready.is_some() { context_of(py, names, named) } else { None };
        let Some(context) = context else {
            return call_base(py, this, given, count as usize, names);
        };
        let made = make(py, callback, arguments, context);
        let scheduled = made.and_then(|handle| match (catches(py, &handle), ready) {
            (true, _) => Ok(Some(handle)),
            (false, Some(ready)) => ready.push(handle.clone_ref(py)).map(|()| Some(handle)),
            // A finalizer has come in between, and its handle was caught.
            (false, None) => Ok(None),
        });
        match scheduled {
            Ok(Some(handle)) => handle.into_ptr(),
            Ok(None) => call_base(py, this, given, count as usize, names),
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    }
}

/// The context to call in: that of the only keyword argument, or a copy of the current one. `None`: the method of asyncio
/// has to decide.
///
/// # Safety
/// `names` is null, or a tuple of the names of as many arguments.
unsafe fn context_of(py: Python<'_>, names: *mut ffi::PyObject, named: &[*mut ffi::PyObject]) -> Option<Context> {
    // SAFETY: the thread is attached, and the arguments are objects.
    unsafe {
        let copy = || copy_of_current(py).ok().map(Bound::unbind);
        match named {
            [] => copy(),
            &[context]
                if ffi::PyUnicode_CompareWithASCIIString(ffi::PyTuple_GetItem(names, 0), c"context".as_ptr()) == 0 =>
            {
                if context == ffi::Py_None() {
                    return copy();
                }
                let is_context = ffi::PyContext_CheckExact(context) != 0;
                is_context.then(|| Bound::from_borrowed_ptr(py, context).unbind())
            }
            _ => None,
        }
    }
}

/// # Safety
/// The thread is attached, and all pointers are those of objects.
unsafe fn make(
    py: Python<'_>,
    callback: *mut ffi::PyObject,
    arguments: &[*mut ffi::PyObject],
    context: Context,
) -> PyResult<Py<Handle>> {
    // SAFETY: as above.
    let owned = |object: *mut ffi::PyObject| unsafe { Bound::from_borrowed_ptr(py, object) }.unbind();
    let arguments = match arguments {
        [] => Arguments::None,
        &[one] => Arguments::One(owned(one)),
        many => Arguments::Many(many.iter().copied().map(owned).collect()),
    };
    Py::new(py, Handle::new(owned(callback), arguments, context))
}

/// # Safety
/// As for [`call_soon`].
unsafe fn call_base(
    py: Python<'_>,
    this: *mut ffi::PyObject,
    given: &[*mut ffi::PyObject],
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let Some(base) = BASE.get(py) else { return ptr::null_mut() };
    with_first(this, given, |all| {
        // SAFETY: as above, with the receiver as one more argument.
        unsafe { ffi::PyObject_Vectorcall(base.as_ptr(), all.as_ptr(), count + 1, names) }
    })
}

fn is_armed() -> bool {
    CATCH.with_borrow(|catch| matches!(catch, Catch::Armed))
}

/// Catches a handle, if one is to be caught.
fn catches(py: Python<'_>, handle: &Py<Handle>) -> bool {
    CATCH.with_borrow_mut(|catch| {
        let is_armed = matches!(catch, Catch::Armed);
        if is_armed {
            *catch = Catch::Caught(handle.clone_ref(py));
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
