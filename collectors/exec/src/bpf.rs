//! Calls of bpf(2) on what is pinned. The library asks the kernel for more than they take, and so for more rights than
//! CAP_BPF and CAP_PERFMON.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

/// Commands, as linux/bpf.h has them.
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// `union bpf_attr` of these commands: for a pin a path, a descriptor and flags; for a tracepoint its name, which a program that
/// names it itself has not, and the program.
#[repr(C)]
struct Arguments {
    text: u64,
    descriptor: u32,
    flags: u32,
}

/// What is pinned there.
pub(crate) fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let descriptor = call(OBJ_GET, &Arguments { text: path.as_ptr() as u64, descriptor: 0, flags: 0 })?;
    // SAFETY: the kernel has made it for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Attaches a program to the tracepoint that it was loaded for; it stays for as long as the link that is returned.
pub(crate) fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let arguments = Arguments { text: 0, descriptor: program.as_raw_fd() as u32, flags: 0 };
    let descriptor = call(RAW_TRACEPOINT_OPEN, &arguments)?;
    // SAFETY: the kernel has made it for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Pins it there.
pub(crate) fn pin(what: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let arguments = Arguments { text: path.as_ptr() as u64, descriptor: what.as_raw_fd() as u32, flags: 0 };
    call(OBJ_PIN, &arguments).map(drop)
}

fn call(command: libc::c_int, arguments: &Arguments) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads no more than is said to be there, and texts that outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(arguments), size_of::<Arguments>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
