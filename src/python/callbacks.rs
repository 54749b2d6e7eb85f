//! The callbacks of handler classes: their names, whether a class defines its own, and their possible answers.
//!
//! This module names no handler class; each class passes itself.

use pyo3::PyTypeInfo;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyType};

use crate::python::values::arguments::type_name;

/// The `co_flags` that a callback must not have (inspect.CO_GENERATOR, CO_ASYNC_GENERATOR), because a call would run
/// nothing.
const GENERATOR: u32 = 0x20 | 0x200;

/// The `co_flags` of a coroutine (inspect.CO_COROUTINE, CO_ITERABLE_COROUTINE). A coroutine needs an event loop.
const COROUTINE: u32 = 0x80 | 0x100;

/// The callbacks of a connection.
pub const CALLBACKS: [&str; 15] = [
    "on_open",
    "on_read",
    "on_message",
    "on_messages",
    "on_request",
    "on_body",
    "on_answered",
    "on_handshake",
    "on_pong",
    "on_eof",
    "on_drain",
    "on_stopping",
    "on_timeout",
    "on_connect_fail",
    "on_close",
];

/// The names of callbacks and attributes, made once with the reactor. A name that a callback makes at its first use
/// could be half made when another thread forks. A child that needs the name would then wait for ever.
pub struct Names {
    pub framing: Py<PyString>,
    pub on_close: Py<PyString>,
    pub on_connect_fail: Py<PyString>,
    pub on_datagram: Py<PyString>,
    pub on_drain: Py<PyString>,
    pub on_eof: Py<PyString>,
    pub on_message: Py<PyString>,
    pub on_messages: Py<PyString>,
    pub on_request: Py<PyString>,
    pub on_body: Py<PyString>,
    pub on_answered: Py<PyString>,
    pub on_pong: Py<PyString>,
    pub on_error: Py<PyString>,
    pub on_open: Py<PyString>,
    pub on_read: Py<PyString>,
    pub on_stopping: Py<PyString>,
    pub on_write: Py<PyString>,
    pub prologue: Py<PyString>,
    pub timer_callback: Py<PyString>,
}

impl Names {
    pub fn new(py: Python<'_>) -> Self {
        let name = |text| PyString::intern(py, text).unbind();
        Self {
            framing: name("framing"),
            on_close: name("on_close"),
            on_connect_fail: name("on_connect_fail"),
            on_datagram: name("on_datagram"),
            on_drain: name("on_drain"),
            on_eof: name("on_eof"),
            on_message: name("on_message"),
            on_messages: name("on_messages"),
            on_request: name("on_request"),
            on_body: name("on_body"),
            on_answered: name("on_answered"),
            on_pong: name("on_pong"),
            prologue: name("_prologue"),
            on_error: name("on_error"),
            on_open: name("on_open"),
            on_read: name("on_read"),
            on_stopping: name("on_stopping"),
            on_write: name("on_write"),
            timer_callback: name("timer callback"),
        }
    }
}

/// Refuses a class if a call of one of its callbacks would run nothing, and warns of methods that look like callbacks
/// and are none. Returns whether a callback is a coroutine. Each class is checked once.
pub fn check_callbacks(class: &Bound<'_, PyType>, callbacks: &[&str]) -> PyResult<bool> {
    let mark = "_goev_checked";
    // A subclass inherits the mark, so the mark holds the address of the class that it was set on, beside the result.
    let address = class.as_ptr() as usize;
    if let Ok(marked) = class.getattr(mark).and_then(|mark| mark.extract::<usize>())
        && marked & !1 == address
    {
        return Ok(marked & 1 == 1);
    }
    for name in callbacks {
        // A generator that `types.coroutine` marks is a coroutine.
        let flags = flags_of(class, name);
        if flags & GENERATOR != 0 && flags & COROUTINE == 0 {
            let class = class.name()?;
            let text = format!(
                "{class}.{name} must be a function or async def, not a generator, which is never run [GOEV203]"
            );
            return Err(PyTypeError::new_err(text));
        }
    }
    let has_coroutine = coroutine_of(class, callbacks).is_some();
    class.py().import("goev.spelling")?.call_method1("check", (class,))?;
    class.setattr(mark, address | usize::from(has_coroutine))?;
    Ok(has_coroutine)
}

/// Refuses a class with a coroutine among its callbacks, unless an event loop runs it.
pub fn check_coroutines(class: &Bound<'_, PyType>, callbacks: &[&str], has_loop: bool) -> PyResult<()> {
    if !check_callbacks(class, callbacks)? || has_loop {
        return Ok(());
    }
    let (class, name) = (class.name()?, coroutine_of(class, callbacks).unwrap_or("a callback"));
    let text = format!(
        "{class}.{name} is async def, which needs an event loop: use Reactor(asyncio=True), or goev.asyncio.reactor() \
         inside goev.asyncio.run() [GOEV108]"
    );
    Err(PyTypeError::new_err(text))
}

/// Whether an object is a class of connections with a coroutine among its callbacks.
#[pyfunction]
#[pyo3(name = "_has_coroutine")]
pub fn has_coroutine(factory: &Bound<'_, PyAny>) -> bool {
    factory.cast::<PyType>().is_ok_and(|class| coroutine_of(class, &CALLBACKS).is_some())
}

/// The first callback of a class that is a coroutine.
pub fn coroutine_of<'a>(class: &Bound<'_, PyType>, callbacks: &[&'a str]) -> Option<&'a str> {
    // A class may run coroutines by itself: those of an application.
    if class.hasattr("_needs_loop").unwrap_or(false) {
        return Some("app");
    }
    callbacks.iter().copied().find(|name| flags_of(class, name) & COROUTINE != 0)
}

/// The `co_flags` of a callback. A builtin or a callable object has no code object, and so no flags.
fn flags_of(class: &Bound<'_, PyType>, name: &str) -> u32 {
    let code = class.getattr(name).and_then(|callback| callback.getattr("__code__"));
    code.and_then(|code| code.getattr("co_flags")?.extract()).unwrap_or(0)
}

/// Whether the handler's class inherits the callback from `Base`, the class that introduces it.
pub fn is_inherited_from<Base: PyTypeInfo>(handler: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> bool {
    let own = handler.get_type().getattr(name);
    let base = Base::type_object(handler.py()).getattr(name);
    matches!((own, base), (Ok(own), Ok(base)) if own.is(&base))
}

/// Whether a callback answered `None`, as most do: then there is nothing to act on.
#[inline]
pub fn is_nothing(answer: &PyResult<Bound<'_, PyAny>>) -> bool {
    matches!(answer, Ok(answer) if answer.is_none())
}

/// Reads the answer of a callback that decides: `None` and `True` continue, `False` ends.
#[inline]
pub fn goes_on(name: &Bound<'_, PyString>, answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    if answer.is_none() { Ok(true) } else { bool_of(name, answer) }
}

fn bool_of(name: &Bound<'_, PyString>, answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    match answer.cast::<PyBool>() {
        Ok(answer) => Ok(answer.is_true()),
        Err(_) => {
            let text = format!(
                "{name} must return None, True or False, not {} {} [GOEV204]",
                type_name(answer),
                answer.repr()?
            );
            Err(PyTypeError::new_err(text))
        }
    }
}

/// Whether the answer of a function that was passed as an argument is `False`, the only answer that means something:
/// the function may be any callable, and return what it likes.
pub fn is_false(answer: &Bound<'_, PyAny>) -> bool {
    answer.cast::<PyBool>().is_ok_and(|answer| !answer.is_true())
}

/// Checks the answer of a callback that decides nothing: it must be `None`.
pub fn is_none(name: &Bound<'_, PyString>, answer: &Bound<'_, PyAny>) -> PyResult<()> {
    if answer.is_none() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{name} must return None, not {} [GOEV204]", answer.repr()?)))
}
