//! A thread that waits for the kernel to say that somebody may come into a container, and attaches at once what records.
//!
//! Guarantee: it waits for nothing else. Whatever else has to be found out or written down, who comes in is not missed for it.

use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use aya::maps::MapData;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use taffrail_spool::Observer as _;

use super::attachment::Attachment;
use crate::ring::Ring;
use crate::status::Status;
use crate::watch::since_start;
use crate::wire::foretold;

/// How long the programs stay attached when somebody was foreseen who may not be recorded.
const IN_VAIN: Duration = Duration::from_secs(1);

/// The thread; it ends with this.
pub(crate) struct Arm {
    /// Nothing is written here: the other end is told when this one is closed.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// What is waited for.
pub(crate) struct Foreseen {
    pub(crate) map: MapData,
    pub(crate) ring: Ring,
}

impl Arm {
    pub(crate) fn start(
        foreseen: Foreseen,
        attachment: Arc<Mutex<Attachment>>,
        status: Arc<Status>,
    ) -> std::io::Result<Arm> {
        let (ended, end) = pipe()?;
        let thread = std::thread::Builder::new().name("audit-arm".to_owned());
        let thread = thread.spawn(move || wait(foreseen, &ended, &attachment, &status))?;
        Ok(Arm { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn wait(mut foreseen: Foreseen, ended: &PipeReader, attachment: &Mutex<Attachment>, status: &Status) {
    loop {
        let mut first = None;
        while foreseen.ring.next(|record| {
            first = first.or(foretold(record));
            true
        }) {}
        if let Some(first) = first {
            arm(&mut attachment.lock(), IN_VAIN, first, status);
        }
        let fds = &mut [
            PollFd::new(foreseen.map.fd().as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::empty()),
        ];
        let _ = poll(fds, PollTimeout::NONE);
        if fds[1].any() == Some(true) {
            return;
        }
    }
}

/// Attaches what records for so long at least, because of what happened `at`, nanoseconds of `CLOCK_BOOTTIME`.
pub(crate) fn arm(attachment: &mut Attachment, long: Duration, at: u64, status: &Status) {
    let was_attached = attachment.is_attached();
    let failed = attachment.need(long).err();
    status.set_trouble("recording", failed.map(|error| format!("nothing is recorded: {error}")));
    let mut view = status.view.lock();
    view.recording.attached = attachment.is_attached();
    if !was_attached && view.recording.attached {
        view.recording.took = Duration::from_nanos(since_start().saturating_sub(at));
    }
}
