//! Questions to the kernel by netlink, answered in one or more messages.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Asks for the network interfaces.
pub(crate) const GET_LINK: u16 = 18;
/// What stands before an interface's attributes.
pub(crate) const LINK_HEADER: usize = 16;
/// The attribute with an interface's name, which ends in a zero.
pub(crate) const LINK_NAME: u16 = 3;

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x301;
/// What the kernel puts into one answer at most.
const BUFFER: usize = 32 << 10;

/// A socket that asks for one kind of list.
pub(crate) struct Dump {
    socket: OwnedFd,
    request: Vec<u8>,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Dump {
    /// Asks `protocol` for all messages of a `kind`; `body` is what follows the header.
    pub(crate) fn new(protocol: SockProtocol, kind: u16, body: &[u8]) -> io::Result<Dump> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(REQUEST_DUMP.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        Ok(Dump { socket, request, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// Asks, and gives the body of every message to `take`.
    pub(crate) fn each(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.request[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        send(self.socket.as_raw_fd(), &self.request, MsgFlags::empty())?;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => continue,
                length => length?,
            };
            if messages(&self.buffer[..length], self.sequence, &mut take)? {
                return Ok(());
            }
        }
    }
}

/// Whether the answer is complete with these.
fn messages(mut rest: &[u8], sequence: u32, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (word(rest, 0), half(rest, 4)) {
        let Some(body) = rest.get(HEADER..length as usize) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message is cut"));
        };
        // An answer that came too late for an earlier question is passed over.
        if word(rest, 8) == Some(sequence) {
            match kind {
                DONE => return Ok(true),
                ERROR => {
                    return Err(io::Error::from_raw_os_error(
                        word(body, 0).map_or(0, u32::cast_signed).saturating_neg(),
                    ));
                }
                _ => take(body),
            }
        }
        rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes in a message: kind and value.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        let found = (half(rest, 2)?, rest.get(4..length)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(found)
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Four bytes at a place, as the kernel writes numbers.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_is_taken_apart_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = messages(&bytes, 0, &mut |body| { attributes(body).count(); });
            attributes(&bytes).count();
        }
    }

    #[test]
    fn an_error_is_the_kernels() {
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend(ERROR.to_ne_bytes());
        message.extend([0; 10]);
        message.extend((-libc::EPERM).to_ne_bytes());
        let error = messages(&message, 0, &mut |_| {}).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
