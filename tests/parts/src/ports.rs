//! Loopback ports and networks that nothing else on this machine has.
//!
//! A reservation lasts as long as the value: while its part is stopped, no other part gets its port.
//! It is a name in the kernel's abstract socket space, so it ends with the process and leaves no file.
//!
//! Ports lie below the range from which the kernel picks the ports of outgoing connections. Above
//! it, a client that keeps trying a stopped server's port can one day be given that very port as its
//! own and connect to itself.

use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Context as _, Result};

const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// A port of 127.0.0.1, taken until dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _held: UnixListener,
}

impl Port {
    /// Takes a port that is free now.
    pub(crate) fn reserve() -> Result<Self> {
        let last = LAST.min(first_outgoing().saturating_sub(1)).max(FIRST);
        let count = last - FIRST + 1;
        let start = u16::try_from(std::process::id() % u32::from(count)).unwrap_or(0);
        (0..count)
            .map(|step| FIRST + (start + step) % count)
            .find_map(Self::try_reserve)
            .with_context(|| format!("no free port between {FIRST} and {last}"))
    }

    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// True when something listens there.
    pub(crate) fn accepts(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.number)).is_ok()
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let held = hold(&format!("port-{number}"))?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self { number, _held: held })
    }
}

/// Takes a name among all parts of this machine, or tells that it is taken.
pub(crate) fn hold(name: &str) -> Option<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("taffrail-parts-{name}")).ok()?;
    UnixListener::bind_addr(&address).ok()
}

fn first_outgoing() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(LAST + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_use_or_reserved_are_not_given_twice() -> Result<()> {
        let first = Port::reserve()?;
        let second = Port::reserve()?;
        assert_ne!(first.number(), second.number());
        assert!(Port::try_reserve(first.number()).is_none(), "reserved, though nothing listens there");
        // One of the kernel's choice: no other test reserves such a port.
        let listens = || -> Result<_> {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let number = listener.local_addr()?.port();
            Ok((listener, number))
        };
        let (listener, number) = listens()?;
        assert!(Port::try_reserve(number).is_none(), "in use by another program");
        drop(listener);
        let is_given = |_| {
            let ended = listens().map(|(_, number)| number);
            ended.is_ok_and(|number| Port::try_reserve(number).is_some())
        };
        assert!((0..100).any(is_given), "the port of a program that has ended");
        Ok(())
    }

    #[test]
    fn ports_lie_below_those_of_outgoing_connections() -> Result<()> {
        assert!(Port::reserve()?.number() < first_outgoing());
        Ok(())
    }
}
