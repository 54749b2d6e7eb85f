//! Reports a callback that does not return: it is logged, with its Python stack, while it runs.
//!
//! Most such callbacks release the interpreter lock now and then, and the logger `goev.stalls` gets a warning. A
//! callback that does not release it, for example in a C extension, would block the logger too. Then the warning goes
//! to standard error without the lock, and a signal makes the stuck thread write its stack there
//! (faulthandler.register).

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::poller::watchdog::Stall;
use crate::python::running::logs::{About, log_to};
use crate::python::values::arguments::peer_text;
use crate::system::signal::{handler_of, stack_signal};
use crate::system::{stack, thread_exit};

/// Time that the logger may take for the interpreter lock. The interpreter asks the lock's holder to release it after
/// 5 ms.
const PATIENCE: Duration = Duration::from_millis(250);

/// The address of the handler that writes stacks; 0 for none.
static DUMPS: AtomicUsize = AtomicUsize::new(0);

/// Makes the signal write the stack of the thread that gets it. If other code uses that signal, a warning that needs
/// it has no stack.
pub fn prepare(py: Python<'_>) {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    // Does not wait while another thread does this, because that thread may need the interpreter lock.
    if BEGUN.swap(true, Ordering::Relaxed) {
        return;
    }
    let register = || -> PyResult<()> {
        let arguments = PyDict::new(py);
        arguments.set_item("all_threads", false)?;
        py.import("faulthandler")?.call_method("register", (stack_signal(), 2), Some(&arguments))?;
        Ok(())
    };
    if handler_of(stack_signal()) == Some(libc::SIG_DFL) && register().is_ok() {
        DUMPS.store(handler_of(stack_signal()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Reports a stall once: by the logger if it can be reached, otherwise on standard error.
pub fn report(stall: &Stall<'_>) {
    if thread_exit::is_ending() {
        return;
    }
    let claimed = AtomicBool::new(false);
    thread::scope(|scope| {
        let (done, waiting) = channel();
        let claimed = &claimed;
        let logging = move || {
            thread_exit::guard();
            Python::try_attach(|py| {
                if !claimed.swap(true, Ordering::AcqRel) {
                    // A failure of the logger is not worth another warning.
                    let _ = log(py, stall);
                }
            });
            // Fails only if the receiver has given up waiting.
            let _ = done.send(());
        };
        let builder = thread::Builder::new().name("goev-stall-log".into()).stack_size(stack::usual_size());
        if builder.spawn_scoped(scope, logging).is_err()
            || waiting.recv_timeout(PATIENCE).is_err() && !claimed.swap(true, Ordering::AcqRel)
        {
            write_to_stderr(stall);
        }
    });
}

fn text_of(stall: &Stall<'_>) -> String {
    let peer = stall.peer.as_ref().map_or(String::new(), |peer| format!(" with {}", peer_text(peer)));
    let (lasted, limit) = (stall.lasted.as_secs_f64(), stall.limit.as_secs_f64());
    let (poller, callback) = (stall.poller, stall.callback);
    format!("poller {poller} has been in {callback}{peer} for {lasted:.3} s (stall_warning={limit}) [GOEV206]")
}

fn log(py: Python<'_>, stall: &Stall<'_>) -> PyResult<()> {
    let about = About { peer: stall.peer.as_ref().map(peer_text), callback: Some(stall.callback), seconds: None };
    let stack = stack_of(py, stall)?;
    log_to(py, "goev.stalls", "warning", &about, ("%s\n%s", text_of(stall), stack), None)
}

/// The stack of the poller's thread, if the callback still runs. It cannot move on, because this thread holds the
/// interpreter lock.
fn stack_of(py: Python<'_>, stall: &Stall<'_>) -> PyResult<String> {
    let ended = || "It has returned meanwhile.".to_owned();
    let Some(thread) = stall.with_thread(|thread| thread).filter(|_| stall.lasts()) else { return Ok(ended()) };
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    // The name of a thread in Python is this number.
    let frame = frames.call_method1("get", (thread as usize,))?;
    if frame.is_none() {
        return Ok("It runs no Python code.".into());
    }
    let lines: Vec<String> = py.import("traceback")?.call_method1("format_stack", (frame,))?.extract()?;
    Ok(format!("Stack (most recent call last):\n{}", lines.concat().trim_end()))
}

fn write_to_stderr(stall: &Stall<'_>) {
    // If standard error cannot be written, no place for the warning is left.
    let (text, patience) = (text_of(stall), PATIENCE.as_secs_f64());
    let _ = writeln!(std::io::stderr(), "goev: {text}; the interpreter lock was not to be had for {patience} s");
    let dumps = DUMPS.load(Ordering::Relaxed);
    // The program may have given the signal another handler, or none: then it would end the process.
    if dumps != 0 && handler_of(stack_signal()) == Some(dumps) && stall.lasts() {
        stall.with_thread(|thread| {
            // SAFETY: the thread cannot end while this runs, and the handler of the signal only writes.
            unsafe { libc::pthread_kill(thread, stack_signal()) }
        });
    }
}
