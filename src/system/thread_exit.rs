//! A guard against pthread_exit(3) below frames of Rust.
//!
//! CPython before 3.14 calls it in a thread that wants the lock of a finalizing interpreter. The call unwinds the stack,
//! and the process ends with SIGABRT when that reaches a frame of Rust. With the guard the thread sleeps instead, as in
//! CPython 3.14, until the process ends.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// `struct _pthread_cleanup_buffer` of <pthread.h>.
#[repr(C)]
struct Buffer {
    routine: extern "C" fn(*mut c_void),
    argument: *mut c_void,
    cancel_type: c_int,
    before: *mut Buffer,
}

type Push = unsafe extern "C" fn(*mut Buffer, extern "C" fn(*mut c_void), *mut c_void);
type Pop = unsafe extern "C" fn(*mut Buffer, c_int);

static IS_ENDING: AtomicBool = AtomicBool::new(false);

thread_local! {
    static GUARD: Guard = Guard::new();
}

/// Guards the calling thread for the rest of its life.
#[inline]
pub fn guard() {
    // Fails only while the thread ends by itself.
    let _ = GUARD.try_with(|_| ());
}

/// Notes that the interpreter ends: from now on guarded threads sleep instead of exiting.
pub fn begin_end() {
    IS_ENDING.store(true, Ordering::Release);
}

/// Whether the interpreter ends.
pub fn is_ending() -> bool {
    IS_ENDING.load(Ordering::Acquire)
}

/// Sleeps until the process ends.
pub fn sleep() -> ! {
    loop {
        // SAFETY: pause has no conditions.
        unsafe { libc::pause() };
    }
}

extern "C" fn at_exit(_: *mut c_void) {
    if is_ending() {
        sleep();
    }
}

/// A registered handler of the calling thread.
struct Guard {
    /// On the heap: glibc calls the handlers of a frame when the unwinding leaves that frame, and takes a buffer below the
    /// stack for one of the innermost frame. So the handler runs before any frame of Rust is left.
    buffer: *mut Buffer,
}

impl Guard {
    fn new() -> Self {
        let (argument, before) = (std::ptr::null_mut(), std::ptr::null_mut());
        let buffer = Box::into_raw(Box::new(Buffer { routine: at_exit, argument, cancel_type: 0, before }));
        if let Some((push, _)) = functions() {
            // SAFETY: the buffer lives until `drop` has taken it out.
            unsafe { push(buffer, at_exit, argument) };
        }
        Self { buffer }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: the buffer is the one that `new` has pushed on this thread, since a thread-local value holds it.
        unsafe {
            if let Some((_, pop)) = functions() {
                pop(self.buffer, 0);
            }
            drop(Box::from_raw(self.buffer));
        }
    }
}

/// The functions of glibc, `None` elsewhere. musl has no need of them: there pthread_exit(3) does not unwind. They are
/// looked up at run time, because they have another version in each glibc.
fn functions() -> Option<(Push, Pop)> {
    static FOUND: OnceLock<Option<(Push, Pop)>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: the names are C strings. Functions of these names have these types in every glibc.
        unsafe {
            let push = libc::dlsym(libc::RTLD_DEFAULT, c"_pthread_cleanup_push".as_ptr());
            let pop = libc::dlsym(libc::RTLD_DEFAULT, c"_pthread_cleanup_pop".as_ptr());
            if !cfg!(target_env = "gnu") || push.is_null() || pop.is_null() {
                return None;
            }
            Some((transmute::<*mut c_void, Push>(push), transmute::<*mut c_void, Pop>(pop)))
        }
    })
}
