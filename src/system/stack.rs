//! The stacks of the threads that call handlers.

/// The least size of such a stack, bytes: the usual one of a main thread.
const LEAST: usize = 8 << 20;

/// The size that the system gives a main thread (RLIMIT_STACK, getrlimit(2)), but at least 8 MiB.
///
/// Threads of Rust have 2 MiB. Code that recurses, and code in C with large arrays, expects more.
pub fn usual_size() -> usize {
    // SAFETY: getrlimit writes the limit into our own memory; it fails only for resources that do not exist.
    let soft = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit);
        limit.rlim_cur
    };
    size_for(soft)
}

fn size_for(soft: libc::rlim_t) -> usize {
    match soft {
        // A size for "unlimited" exists nowhere; glibc takes 2 MiB.
        libc::RLIM_INFINITY => LEAST,
        soft => usize::try_from(soft).unwrap_or(LEAST).max(LEAST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_as_large_as_the_limit_and_never_small() {
        assert_eq!(size_for(64 << 20), 64 << 20);
        assert_eq!(size_for(1 << 20), LEAST);
        assert_eq!(size_for(libc::RLIM_INFINITY), LEAST);
    }
}
