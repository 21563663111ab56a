//! The `taffrail` command. Everything it does is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    /// The allocator's own: gives back all that is free, also of threads that have ended. Any thread may call it at any time.
    safe fn mi_collect(force: bool);
}

fn main() -> ExitCode {
    taffrail_record::heap::released_by(|| mi_collect(true));
    // Huge pages would double the memory: what is used of each is a few kilobytes in many places. Where the kernel has none,
    // there is nothing to switch off.
    let _ = nix::sys::prctl::set_thp_disable(true);
    taffrail::cli::main(std::env::args_os())
}
