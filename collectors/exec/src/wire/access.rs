//! What a member of a session has to do with files and with others over the network, as `probe/record.h` lays it out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Fields, Flags, Malformed, outwards};

/// Where texts follow behind a process, whatever lies before them: bytes of an exec's numbers.
const BEFORE_TEXTS: usize = 104;
const IPV4: u16 = 2;
const IPV6: u16 = 10;

/// A file that was opened to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Inode of the file.
    pub inode: u64,
    /// Its device, as the kernel numbers it.
    pub device: u32,
    /// Its names; 0 when it has none (any more).
    pub links: u32,
    /// Flags of open(2) that the kernel has kept.
    pub flags: u32,
    /// What the kernel has come to: `FMODE_…`.
    pub mode: u32,
    /// The flags that open was called with.
    pub asked: u32,
    /// What kind of file it is: of `S_IFMT` the bits.
    pub kind: u16,
    /// Its path, links followed, as its process sees it.
    pub path: Vec<u8>,
}

impl Opened {
    /// It was made by that.
    #[must_use]
    pub fn is_created(&self) -> bool {
        self.mode & 0x10_0000 != 0
    }

    /// It can be written through what was opened.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.mode & 2 != 0
    }

    /// What it had in it is gone.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.asked & 0o1000 != 0
    }

    /// All that is written goes to its end.
    #[must_use]
    pub fn appends(&self) -> bool {
        self.flags & 0o2000 != 0
    }

    /// It is a disk, and no file on one.
    #[must_use]
    pub fn is_block_device(&self) -> bool {
        self.kind == 0o6_0000
    }
}

/// Whom somebody connected to, or sent something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// To where.
    pub to: To,
    /// 0, or the error's number below 0. Nothing where it is not known yet.
    pub result: Option<i32>,
    /// As IANA numbers protocols; 0 of a local socket.
    pub protocol: u16,
    /// What kind of socket it is: 1 a stream, 2 datagrams, 3 raw ones, 5 packets in sequence.
    pub kind: u16,
    /// The address is what the program had in its memory when its call returned: nobody has confirmed it.
    pub is_as_given: bool,
    /// A datagram was sent; else it was connected.
    pub is_sent: bool,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// An address and a port.
    Network(IpAddr, u16),
    /// The path of a local socket: of one that was reached the one that it was bound to.
    Path(Vec<u8>),
    /// The name of a local socket that has no path.
    Name(Vec<u8>),
    /// It is not known: nobody said it, or in a family that is none of these.
    Unknown,
}

pub(super) fn opened(fields: &mut Fields<'_>, flags: Flags) -> Result<Opened, Malformed> {
    let mut texts = Fields(fields.0.get(BEFORE_TEXTS..).ok_or(Malformed)?);
    let mut opened = Opened { inode: fields.u64()?, device: fields.u32()?, ..Opened::default() };
    (opened.links, opened.flags) = (fields.u32()?, fields.u32()?);
    (opened.mode, opened.asked) = (fields.u32()?, fields.u32()?);
    let length = fields.u16()?;
    opened.kind = fields.u16()?;
    opened.path = outwards(texts.text(length)?, flags.path_cut());
    Ok(opened)
}

pub(super) fn connected(fields: &mut Fields<'_>, flags: Flags) -> Result<Connected, Malformed> {
    let mut texts = Fields(fields.0.get(BEFORE_TEXTS..).ok_or(Malformed)?);
    let address: [u8; 16] = fields.take(16)?.try_into().map_err(|_| Malformed)?;
    let result = fields.u32()? as i32;
    let (family, port) = (fields.u16()?, u16::from_be(fields.u16()?));
    let (protocol, kind) = (fields.u16()?, fields.u16()?);
    let (length, how) = (fields.u16()?, fields.u16()?);
    let has = |bit: u16| how & bit != 0;
    let text = texts.text(length)?;
    let [a, b, c, d, ..] = address;
    let to = match family {
        IPV4 => To::Network(Ipv4Addr::new(a, b, c, d).into(), port),
        IPV6 => To::Network(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), port),
        _ if has(4) => To::Path(outwards(text, flags.path_cut())),
        _ => match text.split_first() {
            None => To::Unknown,
            Some((0, name)) => To::Name(name.to_vec()),
            Some(_) => To::Path(text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
        },
    };
    let (is_as_given, is_sent) = (has(1), has(2));
    Ok(Connected { to, result: (!has(8)).then_some(result), protocol, kind, is_as_given, is_sent })
}
