//! A netlink socket that the kernel tells things by.
//!
//! Guarantee: what is read was sent by the kernel, whoever else knows the socket's address; reading never waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes of a message's head: length, kind, flags, number and sender.
pub(crate) const HEADER: usize = 16;
/// Longest message of those that are read here.
const LONGEST: usize = 1 << 16;

/// What comes of reading.
pub(crate) enum Read<'a> {
    /// A message, with its head.
    Message(&'a [u8]),
    /// Some were lost: more came than the kernel keeps for this socket.
    Overrun,
    /// There is nothing now.
    Nothing,
}

/// A socket.
pub(crate) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Netlink {
    /// `protocol` as netlink(7) numbers it, `groups` a bit each, `waiting` the bytes that may wait in the kernel (as far as this
    /// process may say that).
    ///
    /// # Errors
    /// When the kernel has none of the sort, or this process may not.
    pub(crate) fn open(protocol: i32, groups: u32, waiting: libc::c_int) -> io::Result<Netlink> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: a call with numbers.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made, and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let netlink = Netlink { socket, buffer: vec![0; LONGEST] };
        netlink.bind(groups)?;
        // SAFETY: the number is there for as long as the call. What is refused is a larger buffer, not all.
        unsafe {
            let (fd, size) = (netlink.socket.as_raw_fd(), size_of::<libc::c_int>() as u32);
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const waiting).cast(), size);
        }
        Ok(netlink)
    }

    fn bind(&self, groups: u32) -> io::Result<()> {
        let address = address(groups);
        let length = size_of::<libc::sockaddr_nl>() as u32;
        // SAFETY: the address is there for as long as the call, and is that long.
        let bound = unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends a message with its head to the kernel.
    ///
    /// # Errors
    /// When it is refused at once.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: the message is there for as long as the call, and is that long.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next thing that has come from the kernel.
    pub(crate) fn read(&mut self) -> Read<'_> {
        loop {
            let mut from = address(0);
            let mut length = size_of::<libc::sockaddr_nl>() as u32;
            // SAFETY: buffer, address and length are there for as long as the call, and are that long.
            let read = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut length,
                )
            };
            match usize::try_from(read) {
                // Whoever may send here but the kernel has a number.
                Ok(_) if from.nl_pid != 0 => {}
                Ok(read) => return Read::Message(self.buffer.get(..read).unwrap_or_default()),
                Err(_) => match io::Error::last_os_error().raw_os_error() {
                    Some(libc::ENOBUFS) => return Read::Overrun,
                    Some(libc::EINTR) => {}
                    _ => return Read::Nothing,
                },
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn address(groups: u32) -> libc::sockaddr_nl {
    // SAFETY: all zeros is an address.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = groups;
    address
}

/// Waits until one of them has something, for so long at most.
pub(crate) fn wait(sockets: &[&Netlink], patience: Duration) {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut polled: Vec<PollFd<'_>> =
        sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    let _ = poll(&mut polled, timeout);
}
