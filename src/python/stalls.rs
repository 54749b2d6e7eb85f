//! What is done about a callback that does not return: it is logged, with its Python stack, while it runs.
//!
//! As a rule it lets go of the interpreter lock now and then, and the logger `goev.stalls` gets a warning. One that does
//! not, in a C extension say, would hold up the log as well: then the warning goes to standard error without the lock,
//! and a signal makes the stuck thread write its stack there (faulthandler.register).

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::peer_text;
use crate::signal::stack_signal;
use crate::watchdog::Stall;

/// How long the logger may take for the interpreter lock. The lock's holder is asked to let go after 5 ms.
const PATIENCE: Duration = Duration::from_millis(250);

static DUMPS: AtomicBool = AtomicBool::new(false);

/// Makes the signal write the stack of the thread that gets it. Without that, because someone else uses the signal, a
/// warning that needs it has no stack.
pub fn prepare(py: Python<'_>) {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    // Nobody waits for another thread's turn: that one may want the interpreter lock.
    if BEGUN.swap(true, Ordering::Relaxed) {
        return;
    }
    let register = || -> PyResult<()> {
        let arguments = PyDict::new(py);
        arguments.set_item("all_threads", false)?;
        py.import("faulthandler")?.call_method("register", (stack_signal(), 2), Some(&arguments))?;
        Ok(())
    };
    DUMPS.store(is_unused(stack_signal()) && register().is_ok(), Ordering::Relaxed);
}

fn is_unused(signal: libc::c_int) -> bool {
    // SAFETY: only asks, into memory of ours.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_DFL
    }
}

/// Reports a stall once: by the log if that can be reached, else on standard error.
pub fn report(stall: &Stall<'_>) {
    let claimed = AtomicBool::new(false);
    thread::scope(|scope| {
        let (done, waiting) = channel();
        let claimed = &claimed;
        let logging = move || {
            Python::try_attach(|py| {
                if !claimed.swap(true, Ordering::AcqRel) {
                    // What cannot be logged is not worth another warning.
                    let _ = log(py, stall);
                }
            });
            // Nobody waits when it took too long.
            let _ = done.send(());
        };
        if thread::Builder::new().name("goev-stall-log".into()).spawn_scoped(scope, logging).is_err()
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
    format!("poller {poller} has been in {callback}{peer} for {lasted:.3} s (stall_warning={limit})")
}

fn log(py: Python<'_>, stall: &Stall<'_>) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("goev.stalls",))?;
    let stack = stack_of(py, stall)?;
    logger.call_method1("warning", ("%s\n%s", text_of(stall), stack))?;
    Ok(())
}

/// What the poller's thread is at, if it is still there: with the lock in hand nothing moves.
fn stack_of(py: Python<'_>, stall: &Stall<'_>) -> PyResult<String> {
    let ended = || "It has returned meanwhile.".to_owned();
    let Some(thread) = stall.with_thread(|thread| thread).filter(|_| stall.lasts()) else { return Ok(ended()) };
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    let frame = frames.call_method1("get", (thread,))?;
    if frame.is_none() {
        return Ok("It runs no Python code.".into());
    }
    let lines: Vec<String> = py.import("traceback")?.call_method1("format_stack", (frame,))?.extract()?;
    Ok(format!("Stack (most recent call last):\n{}", lines.concat().trim_end()))
}

fn write_to_stderr(stall: &Stall<'_>) {
    // Where it cannot be written, nobody can be told.
    let _ = writeln!(std::io::stderr(), "goev: {}, and holds the interpreter lock", text_of(stall));
    if DUMPS.load(Ordering::Relaxed) && stall.lasts() {
        stall.with_thread(|thread| {
            // SAFETY: the thread cannot end while this runs, and the signal has a handler, which only writes.
            unsafe { libc::pthread_kill(thread, stack_signal()) }
        });
    }
}
