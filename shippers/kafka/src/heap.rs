//! The C heap, which is librdkafka's: its requests' buffers come and go many times a second.
//!
//! Left alone, glibc gives each of them back to the system, and the next one's pages are cleared anew: a tenth of what
//! sending costs. It keeps them here until all is quiet; what it keeps was in use a moment ago. Rust's own memory lies
//! elsewhere.

use std::sync::Once;

/// Lets the C heap keep what is freed. Once for the process; other C libraries than glibc do as they like.
pub(crate) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            /// The most that glibc allows to come from the heap rather than from a mapping of its own.
            const MAPPED: i32 = 32 << 20;
            const KEPT: i32 = 64 << 20;
            // SAFETY: sets numbers of the allocator under its own lock.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
                libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            }
        }
    });
}

/// Gives back what is free, when nothing more is being sent.
pub(crate) fn release() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: frees only what nobody has.
    unsafe {
        libc::malloc_trim(0);
    }
}
