//! CPU steering: a new connection goes to the listener of the poller that runs on the CPU on which it arrived.
//!
//! A classic-BPF program on the SO_REUSEPORT group (socket(7), SO_ATTACH_REUSEPORT_CBPF) maps the CPU to the index of
//! a listener. The index is the order in which the listeners began to listen. Pollers are pinned to match. Steering
//! is off by default: a network card with a single queue raises all its interrupts on one CPU, and one poller would
//! get everything.

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// The BPF instruction `ld A, [SKF_AD_OFF + SKF_AD_CPU]` of linux/filter.h.
const LOAD_CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;

/// The CPUs that this process may use.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = affinity()?;
    // SAFETY: CPU_ISSET reads the set within its CPU_SETSIZE bits.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// The affinity of the calling thread.
pub(crate) fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is as large as said and ours to be written.
    match unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the affinity of the calling thread is this one.
pub(crate) fn has_affinity(set: &libc::cpu_set_t) -> bool {
    // SAFETY: CPU_EQUAL reads both sets, which are whole.
    affinity().is_ok_and(|current| unsafe { libc::CPU_EQUAL(&current, set) })
}

/// Sets the affinity of the calling thread.
pub(crate) fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: `set` is as large as said.
    match unsafe { libc::sched_setaffinity(0, size_of_val(set), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The set of one CPU.
pub(crate) fn only(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: an all-zero cpu_set_t is the empty set, and CPU_SET stays within it for the CPUs the kernel listed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    }
}

/// Pins the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    set_affinity(&only(cpu))
}

/// The CPU on which the calling thread runs; `usize::MAX` if that is not known.
#[inline]
pub(crate) fn current_cpu() -> usize {
    // SAFETY: takes no pointers.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(usize::MAX)
}

/// The CPU on which the last packet of a socket arrived (socket(7), SO_INCOMING_CPU). `None` for a Unix socket.
pub(crate) fn incoming_cpu(socket: &Socket) -> Option<usize> {
    let (mut cpu, mut len): (libc::c_int, _) = (-1, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` bytes to our integer, and the length.
    let result = unsafe {
        let to = (&raw mut cpu).cast::<libc::c_void>();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_INCOMING_CPU, to, &raw mut len)
    };
    (result == 0).then(|| usize::try_from(cpu).ok()).flatten()
}

/// Attaches the program to the group of `listener`, which has `listeners` members. CPU number `n` of `cpus` goes to
/// member `n % listeners`.
pub(crate) fn steer(listener: &Socket, cpus: &[usize], listeners: usize) -> io::Result<()> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, LOAD_CPU)];
    for (index, cpu) in cpus.iter().enumerate() {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *cpu as u32));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, (index % listeners) as u32));
    }
    // For a CPU that the process may not use, because interrupts can arrive there as well.
    program.push(step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, listeners as u32));
    program.push(step(libc::BPF_RET | libc::BPF_A, 0, 0, 0));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, of the said length, before the call returns.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
