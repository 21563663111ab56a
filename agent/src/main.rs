//! The `taffrail` command. Everything it does is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages would double the memory: what is used of each is a few kilobytes in many places. Where the kernel has none,
    // there is nothing to switch off.
    let _ = nix::sys::prctl::set_thp_disable(true);
    taffrail::cli::main(std::env::args_os())
}
