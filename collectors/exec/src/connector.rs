//! The kernel's process connector: which processes were made, began a program and ended, for kernels that refuse the probe.
//!
//! It numbers what it tells by processor, so that what it could not tell is counted, if not whose it was. It says pids and
//! nothing else: what they are is read in `/proc`, and a process that is gone by then is not known.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// `CN_IDX_PROC` and `CN_VAL_PROC`, and what is asked for.
const PROCESSES: u32 = 1;
const LISTEN: u32 = 1;
const NETLINK_CONNECTOR: i32 = 11;
/// Bytes that may wait in the kernel.
const BUFFER: libc::c_int = 8 << 20;
const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
const DONE: u16 = 3;

/// Something that happened to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A process was made; threads are left out.
    Fork { parent: u32, child: u32 },
    /// It began a program.
    Exec { pid: u32 },
    /// Its first thread ended, with this status as wait(2) has it.
    Exit { pid: u32, status: i32 },
}

/// An event, and when: nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) time: u64,
    pub(crate) event: Event,
}

/// A socket that hears of all processes.
pub(crate) struct Connector {
    socket: OwnedFd,
    /// The number of the next message of each processor.
    next: HashMap<u32, u32>,
    lost: u64,
    buffer: Vec<u8>,
}

impl Connector {
    /// # Errors
    /// When the kernel has none, or this process may not (it takes `CAP_NET_ADMIN`, in the machine's own network namespace).
    pub(crate) fn open() -> io::Result<Connector> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: a call with numbers.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_CONNECTOR) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made, and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let connector = Connector { socket, next: HashMap::new(), lost: 0, buffer: vec![0; 1 << 16] };
        connector.bind()?;
        connector.listen()?;
        Ok(connector)
    }

    fn bind(&self) -> io::Result<()> {
        // SAFETY: all zeros is an address.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = PROCESSES;
        let length = size_of::<libc::sockaddr_nl>() as u32;
        // SAFETY: the address is there for as long as the call, and is that long.
        let bound = unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        let buffer = BUFFER;
        // SAFETY: the number is there for as long as the call. What is refused is a larger buffer, not all.
        unsafe {
            let (fd, size) = (self.socket.as_raw_fd(), size_of::<libc::c_int>() as u32);
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const buffer).cast(), size);
        }
        Ok(())
    }

    fn listen(&self) -> io::Result<()> {
        let mut message = Vec::new();
        let length = (NETLINK_HEADER + CONNECTOR_HEADER + 4) as u32;
        message.extend(length.to_ne_bytes());
        message.extend(DONE.to_ne_bytes());
        message.extend([0; 10]);
        [PROCESSES, PROCESSES, 0, 0].iter().for_each(|field| message.extend(field.to_ne_bytes()));
        message.extend(4_u16.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(LISTEN.to_ne_bytes());
        // SAFETY: the message is there for as long as the call, and is that long.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// How many messages are missing since this was asked last.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Hands on what has come, waiting for something for so long at most.
    pub(crate) fn read(&mut self, patience: Duration, mut each: impl FnMut(Told)) {
        use std::os::fd::AsFd as _;
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout);
        // SAFETY: the buffer is there for as long as the call, and is that long.
        while let Ok(length) = usize::try_from(unsafe {
            libc::recv(self.socket.as_raw_fd(), self.buffer.as_mut_ptr().cast(), self.buffer.len(), 0)
        }) {
            let Some(message) = self.buffer.get(..length).and_then(Message::read) else { continue };
            // A processor's first message begins its count.
            let next = self.next.insert(message.processor, message.number.wrapping_add(1));
            let skipped = next.map_or(0, |next| message.number.wrapping_sub(next));
            self.lost += u64::from(skipped);
            if let Some(event) = message.event {
                each(Told { time: message.time, event });
            }
        }
    }
}

/// One message of the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    processor: u32,
    number: u32,
    time: u64,
    event: Option<Event>,
}

impl Message {
    fn read(bytes: &[u8]) -> Option<Message> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let number = u32_at(NETLINK_HEADER + 8)?;
        let event = NETLINK_HEADER + CONNECTOR_HEADER;
        let (what, processor) = (u32_at(event)?, u32_at(event + 4)?);
        let time = u64::from_ne_bytes(bytes.get(event + 8..event + 16)?.try_into().ok()?);
        let field = |index: usize| u32_at(event + 16 + 4 * index);
        let event = match what {
            // Fields are thread and process, twice for who made and who was made.
            1 if field(2)? == field(3)? => Some(Event::Fork { parent: field(1)?, child: field(3)? }),
            2 => Some(Event::Exec { pid: field(1)? }),
            0x8000_0000 if field(0)? == field(1)? => {
                Some(Event::Exit { pid: field(1)?, status: field(2)? as i32 })
            }
            _ => None,
        };
        Some(Message { processor, number, time, event })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(number: u32, what: u32, fields: [u32; 4]) -> Vec<u8> {
        let mut bytes = vec![0; NETLINK_HEADER + 8];
        bytes.extend(number.to_ne_bytes());
        bytes.extend([0; 8]);
        [what, 3].iter().for_each(|field| bytes.extend(field.to_ne_bytes()));
        bytes.extend(77_u64.to_ne_bytes());
        fields.iter().for_each(|field| bytes.extend(field.to_ne_bytes()));
        bytes
    }

    #[test]
    fn messages_are_read_and_threads_are_left_out() {
        for (what, fields, expected) in [
            (1, [5, 4, 6, 6], Some(Event::Fork { parent: 4, child: 6 })),
            (1, [5, 4, 7, 4], None),
            (2, [9, 8, 0, 0], Some(Event::Exec { pid: 8 })),
            (0x8000_0000, [8, 8, 0x300, 17], Some(Event::Exit { pid: 8, status: 0x300 })),
            (0x8000_0000, [9, 8, 0, 0], None),
            (0x200, [8, 8, 0, 0], None),
        ] {
            let read = Message::read(&message(42, what, fields)).expect("a message");
            assert_eq!(read, Message { processor: 3, number: 42, time: 77, event: expected }, "{what}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::read(&bytes);
        }
    }
}
