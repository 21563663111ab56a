//! A file system that never answers.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// The other end of a FUSE mount: whoever asks the file system waits until this is dropped, and gets an error then.
#[derive(Debug)]
pub(crate) struct Unanswered(#[allow(dead_code, reason = "it is held")] File);

impl Unanswered {
    /// Has `command` run in a mount namespace of its own in which such a file system is mounted at `place`.
    ///
    /// # Errors
    /// When the kernel has no FUSE.
    pub(crate) fn mounted_for(command: &mut Command, place: &Path) -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let (place, options) = (CString::new(place.as_os_str().as_bytes())?, CString::new(options)?);
        // SAFETY: system calls alone; all they are told was allocated before.
        unsafe {
            command.pre_exec(move || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE, c"")?;
                mount(c"unanswered", &place, c"fuse", libc::MS_NOSUID | libc::MS_NODEV, &options)
            });
        }
        Ok(Self(device))
    }
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: &std::ffi::CStr,
    flags: libc::c_ulong,
    options: &std::ffi::CStr,
) -> io::Result<()> {
    // SAFETY: every text ends with a zero and outlives the call.
    let result = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    };
    Ok(Errno::result(result).map(drop)?)
}
