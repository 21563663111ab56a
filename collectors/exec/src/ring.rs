//! The kernel's ring of records, read in place.
//!
//! Guarantee: a record is there until [`Ring::next`] is told that it was taken, also for another process that opens the ring
//! later; nothing is read that the kernel has not finished.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};

/// As the kernel marks a record's length (`BPF_RINGBUF_*`).
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;

/// One reader of a ring.
pub(crate) struct Ring {
    /// The page with the place up to which everything was taken.
    consumer: Mapping,
    /// The page with the place up to which everything was put, and behind it the ring twice, so that no record is broken.
    producer: Mapping,
    page: usize,
    size: usize,
    /// Bytes of what was shown and has not left.
    ahead: usize,
}

impl Ring {
    /// Of this map, that has so many bytes.
    pub(crate) fn new(map: impl AsFd, size: u32) -> nix::Result<Ring> {
        let page =
            sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096);
        let size = size as usize;
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let consumer = Mapping::new(&map, page, both, 0)?;
        let producer = Mapping::new(&map, page + 2 * size, ProtFlags::PROT_READ, page as i64)?;
        Ok(Ring { consumer, producer, page, size, ahead: 0 })
    }

    fn taken(&self) -> &AtomicUsize {
        // SAFETY: the page begins with this number, and lives as long as `self`.
        unsafe { self.consumer.at.cast().as_ref() }
    }

    fn put(&self) -> usize {
        // SAFETY: the page begins with this number, and lives as long as `self`.
        let put: &AtomicUsize = unsafe { self.producer.at.cast().as_ref() };
        put.load(Ordering::Acquire)
    }

    /// Bytes of records that were put and not taken.
    pub(crate) fn waiting(&self) -> usize {
        self.put().wrapping_sub(self.taken().load(Ordering::Relaxed))
    }

    /// Shows the next record; it leaves the ring if `take` says that it was taken. Whether one was.
    pub(crate) fn next(&mut self, take: impl FnOnce(&[u8]) -> bool) -> bool {
        let begin = self.taken().load(Ordering::Relaxed);
        let (taken, at) = self.show(begin, take);
        self.taken().store(at, Ordering::Release);
        taken
    }

    /// Shows the record behind those that were shown, which stays in the ring until [`Ring::release`]. Whether there was one.
    pub(crate) fn look_ahead(&mut self, see: impl FnOnce(&[u8])) -> bool {
        let begin = self.taken().load(Ordering::Relaxed).wrapping_add(self.ahead);
        let (shown, at) = self.show(begin, |record| {
            see(record);
            true
        });
        self.ahead += at.wrapping_sub(begin);
        shown
    }

    /// What was shown leaves the ring.
    pub(crate) fn release(&mut self) {
        let at = self.taken().load(Ordering::Relaxed).wrapping_add(std::mem::take(&mut self.ahead));
        self.taken().store(at, Ordering::Release);
    }

    /// Shows the record that lies at `at`, or behind what was discarded there. Whether it was taken, and what lies behind it then.
    fn show(&self, mut at: usize, take: impl FnOnce(&[u8]) -> bool) -> (bool, usize) {
        while at != self.put() {
            let place = self.page + (at & (self.size - 1));
            // SAFETY: a header lies at every place between those of the two pages, at a multiple of eight, and before the end of
            // the second copy of the ring.
            let header: &AtomicU32 = unsafe { self.producer.at.byte_add(place).cast().as_ref() };
            let header = header.load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let length = (header & !DISCARDED) as usize;
            let next = at.wrapping_add((HEADER + length).next_multiple_of(8));
            if header & DISCARDED == 0 {
                let begin = self.producer.at.cast::<u8>();
                // SAFETY: the kernel has finished a record of this length, which is below the ring's size, and does not touch
                // it until it is taken.
                let record =
                    unsafe { std::slice::from_raw_parts(begin.as_ptr().add(place + HEADER), length) };
                return if take(record) { (true, next) } else { (false, at) };
            }
            at = next;
        }
        (false, at)
    }
}

struct Mapping {
    at: NonNull<c_void>,
    length: usize,
}

// SAFETY: it is memory that belongs to nobody's thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: impl AsFd, length: usize, may: ProtFlags, offset: i64) -> nix::Result<Mapping> {
        let whole = NonZeroUsize::new(length).ok_or(nix::errno::Errno::EINVAL)?;
        // SAFETY: where it is mapped is left to the kernel.
        let at = unsafe { mmap(None, whole, may, MapFlags::MAP_SHARED, map, offset)? };
        Ok(Mapping { at, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is mapped there, and nothing refers to it any more.
        let _ = unsafe { munmap(self.at, self.length) };
    }
}
