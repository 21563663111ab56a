//! As much of D-Bus as it takes to ask systemd's manager: calls without arguments or with texts, and their answers.
//!
//! Guarantee: nothing waits beyond the deadline, and an answer that is too long, malformed or of another type than the one
//! that was asked for is an error. Written out here because a library for all of D-Bus is twenty crates, and this one file.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::geteuid;

/// The longest answer that is taken: systemd tells some 300 bytes of a unit.
const LONGEST: usize = 32 << 20;
const LONGEST_HEAD: usize = 64 << 10;
const LONGEST_GREETING: usize = 1 << 10;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;

/// What went wrong between here and systemd.
#[derive(Debug, thiserror::Error)]
pub(super) enum BusError {
    /// The socket, or what is on it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It has not answered by then.
    #[error("no answer within the time it is given (metrics.node.systemd.patience_ms)")]
    Late,
    /// It says no.
    #[error("it was refused: {0}")]
    Refused(String),
    /// It does not speak as D-Bus is spoken.
    #[error("not understood: {0}")]
    Malformed(&'static str),
}

type Result<T> = std::result::Result<T, BusError>;

/// The value of a property, of the types that are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(f64),
}

/// What is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method<'a> {
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// A connection to systemd, by way of a bus or not.
pub(super) struct Bus {
    stream: UnixStream,
    deadline: Instant,
    destination: Option<&'static str>,
    serial: u32,
}

impl Bus {
    /// Connects to a bus on which systemd is `destination`; without one, to systemd's own socket.
    pub(super) fn connect(path: &Path, destination: Option<&'static str>, deadline: Instant) -> Result<Bus> {
        let stream = dial(path, left(deadline)?)?;
        let mut bus = Bus { stream, deadline, destination: None, serial: 0 };
        bus.authenticate()?;
        if destination.is_some() {
            let daemon = "org.freedesktop.DBus";
            bus.destination = Some(daemon);
            bus.call(
                &Method { path: "/org/freedesktop/DBus", interface: daemon, member: "Hello" },
                &[],
                "s",
            )?;
            bus.destination = destination;
        }
        Ok(bus)
    }

    /// Says who asks; the kernel vouches for it. All in one: systemd's own socket forgets a call that reaches it together
    /// with BEGIN, and once it has said OK it has taken what came with the question.
    fn authenticate(&mut self) -> Result<()> {
        let digits: String = geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n").as_bytes())?;
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n") {
            if said.len() > LONGEST_GREETING {
                return Err(BusError::Malformed("a greeting without an end"));
            }
            said.extend_from_slice(&self.read(1)?);
        }
        if !said.starts_with(b"OK ") {
            return Err(BusError::Refused(String::from_utf8_lossy(&said).trim().to_owned()));
        }
        Ok(())
    }

    /// The body of what a method answers, which must be of the type `signature`.
    pub(super) fn call(&mut self, method: &Method<'_>, texts: &[&str], signature: &str) -> Result<Body> {
        self.serial += 1;
        let message = message(self.serial, method, self.destination, texts);
        self.write(&message)?;
        loop {
            let answer = self.receive()?;
            if answer.reply_to != Some(self.serial) {
                // A signal, such as the name that the bus has given.
                continue;
            }
            return match answer.kind {
                RETURN if answer.signature == signature => Ok(answer.body),
                RETURN => Err(BusError::Malformed("an answer of another type")),
                ERROR => Err(BusError::Refused(answer.error)),
                _ => Err(BusError::Malformed("an answer that is none")),
            };
        }
    }

    /// A property of an object.
    pub(super) fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<Value> {
        let get = Method { path, interface: "org.freedesktop.DBus.Properties", member: "Get" };
        self.call(&get, &[interface, name], "v")?.variant()
    }

    fn receive(&mut self) -> Result<Message> {
        let start = self.read(16)?;
        if start[0] != b'l' || start[3] != 1 {
            return Err(BusError::Malformed("another byte order or version"));
        }
        let length =
            |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
        let (body, head) = (length(4), length(12));
        if body > LONGEST || head > LONGEST_HEAD {
            return Err(BusError::Malformed("a message that is too long"));
        }
        let fields = self.read(head.next_multiple_of(8))?;
        let mut message = Message { kind: start[1], ..Message::default() };
        message.read_fields(Body { bytes: fields, at: 0 }, head)?;
        message.body = Body { bytes: self.read(body)?, at: 0 };
        Ok(message)
    }

    fn read(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut at = 0;
        while at < length {
            self.stream.set_read_timeout(Some(left(self.deadline)?))?;
            match self.stream.read(&mut bytes[at..]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => at += read,
                Err(error) => late_or(error)?,
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left(self.deadline)?))?;
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => late_or(error)?,
            }
        }
        Ok(())
    }
}

/// Connects; a queue that is full holds up for so long and no longer.
fn dial(path: &Path, patience: Duration) -> Result<UnixStream> {
    let dialled = || -> nix::Result<UnixStream> {
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let patience = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path)?)?;
        Ok(socket.into())
    };
    dialled().map_err(|error| late_or(error.into()).err().unwrap_or(BusError::Late))
}

/// What is left of the time; never nothing, which sockets take for endless.
fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) { Err(BusError::Late) } else { Ok(left) }
}

/// Nothing when a signal interrupted.
fn late_or(error: io::Error) -> Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(BusError::Late),
        _ => Err(error.into()),
    }
}

#[derive(Default)]
struct Message {
    kind: u8,
    reply_to: Option<u32>,
    error: String,
    signature: String,
    body: Body,
}

impl Message {
    fn read_fields(&mut self, mut fields: Body, end: usize) -> Result<()> {
        while fields.at < end {
            fields.align(8)?;
            let code = fields.take(1)?[0];
            let kind = fields.signature()?;
            match (code, kind.as_str()) {
                (4, "s") => self.error = fields.text()?,
                (5, "u") => self.reply_to = Some(fields.number()?),
                (8, "g") => self.signature = fields.signature()?,
                (_, "s" | "o") => drop(fields.text()?),
                (_, "u") => drop(fields.number()?),
                (_, "g") => drop(fields.signature()?),
                _ => return Err(BusError::Malformed("a field of an unknown type")),
            }
        }
        Ok(())
    }
}

/// Values, one after the other.
#[derive(Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
    at: usize,
}

impl Body {
    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(BusError::Malformed("a message that is cut"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<()> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    /// A `u`.
    pub(super) fn number(&mut self) -> Result<u32> {
        self.align(4)?;
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// An `s` or an `o`.
    pub(super) fn text(&mut self) -> Result<String> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.take(1)?[0];
        self.ended(length.into())
    }

    /// A text with the zero behind it.
    fn ended(&mut self, length: usize) -> Result<String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn variant(&mut self) -> Result<Value> {
        match self.signature()?.as_str() {
            "s" => self.text().map(Value::Text),
            "u" => self.number().map(|number| Value::Number(number.into())),
            _ => Err(BusError::Malformed("a property of another type")),
        }
    }

    /// The elements of an `a(…)`, each read by `element`.
    pub(super) fn structs<T>(mut self, mut element: impl FnMut(&mut Body) -> Result<T>) -> Result<Vec<T>> {
        let length = self.number()? as usize;
        self.align(8)?;
        let end = self.at.saturating_add(length);
        let mut elements = Vec::new();
        while self.at < end {
            self.align(8)?;
            elements.push(element(&mut self)?);
        }
        Ok(elements)
    }
}

/// A call as it goes over the wire.
fn message(serial: u32, method: &Method<'_>, destination: Option<&str>, texts: &[&str]) -> Vec<u8> {
    let mut body = Wire::default();
    texts.iter().for_each(|text| body.text(text));
    let mut wire = Wire(vec![b'l', CALL, 0, 1]);
    wire.number(u32::try_from(body.0.len()).unwrap_or(u32::MAX));
    wire.number(serial);
    // The length of the fields, known once they are written.
    wire.number(0);
    let named =
        [(1, "o", Some(method.path)), (2, "s", Some(method.interface)), (3, "s", Some(method.member))];
    for (code, kind, text) in named.into_iter().chain([(6, "s", destination)]) {
        if let Some(text) = text {
            wire.field(code, kind);
            wire.text(text);
        }
    }
    if !texts.is_empty() {
        wire.field(8, "g");
        wire.signature(&"s".repeat(texts.len()));
    }
    let fields = u32::try_from(wire.0.len() - 16).unwrap_or(u32::MAX);
    wire.0[12..16].copy_from_slice(&fields.to_le_bytes());
    wire.align(8);
    wire.0.append(&mut body.0);
    wire.0
}

/// Values being written.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, kind: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(kind);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const PING: Method<'_> = Method { path: "/a", interface: "b.c", member: "Ping" };

    /// What a call comes to when whoever listens sends these bytes after the greeting, and closes or keeps silent.
    fn answered(sent: &[u8], closes: bool) -> Result<Body> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let sent = sent.to_vec();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut greeting = Vec::new();
            while !greeting.ends_with(b"BEGIN\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a greeting");
                greeting.push(byte[0]);
            }
            assert!(greeting.starts_with(b"\0AUTH EXTERNAL "));
            let _ = stream.write_all(b"OK 0123\r\n");
            let _ = stream.write_all(&sent);
            let _ = closes.then(|| stream.shutdown(Shutdown::Write));
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let deadline = Instant::now() + Duration::from_millis(if closes { 60_000 } else { 50 });
        let said = Bus::connect(&path, None, deadline).and_then(|mut bus| bus.call(&PING, &[], "s"));
        peer.join().expect("the peer");
        said
    }

    fn reply(kind: u8, to: u32, signature: &str, body: &[u8]) -> Vec<u8> {
        let mut wire = Wire(vec![b'l', kind, 0, 1]);
        [u32::try_from(body.len()).expect("short"), 7, 0].into_iter().for_each(|number| wire.number(number));
        wire.field(5, "u");
        wire.number(to);
        wire.field(4, "s");
        wire.text("org.example.Why");
        wire.field(8, "g");
        wire.signature(signature);
        let fields = u32::try_from(wire.0.len() - 16).expect("short");
        wire.0[12..16].copy_from_slice(&fields.to_le_bytes());
        wire.align(8);
        [wire.0, body.to_vec()].concat()
    }

    const HI: &[u8] = b"\x02\0\0\0hi\0";

    #[test]
    fn an_answer_is_found_behind_what_else_is_said() {
        let sent = [reply(4, 0, "s", HI), reply(RETURN, 1, "s", HI)].concat();
        assert_eq!(answered(&sent, true).and_then(|mut body| body.text()).expect("said"), "hi");
    }

    #[test]
    fn a_refusal_silence_and_an_end_are_told_apart() {
        let refused = answered(&reply(ERROR, 1, "s", HI), true);
        assert!(matches!(refused, Err(BusError::Refused(why)) if why == "org.example.Why"));
        assert!(matches!(answered(b"l", false), Err(BusError::Late)));
        assert!(matches!(answered(b"l", true), Err(BusError::Io(_))));
        let other = answered(&reply(RETURN, 1, "u", HI), true);
        assert!(matches!(other, Err(BusError::Malformed("an answer of another type"))));
    }

    #[test]
    fn lengths_are_not_believed() {
        let mut long = reply(RETURN, 1, "s", HI);
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(answered(&long, true), Err(BusError::Malformed("a message that is too long"))));
        let lying = answered(&reply(RETURN, 1, "s", b"\xff\xff\0\0hi\0"), true);
        assert!(matches!(lying.and_then(|mut body| body.text()), Err(BusError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = || Body { bytes: bytes.clone(), at: 0 };
            let _ = body().variant();
            let _ = Message::default().read_fields(body(), bytes.len());
            let _ = body().structs(|body| Ok((body.text()?, body.number()?)));
        }
    }
}
