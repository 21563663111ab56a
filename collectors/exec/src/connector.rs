//! The kernel's process connector: which processes were made, began a program and ended, for kernels that refuse the probe.
//!
//! It numbers what it tells by processor, so that what it could not tell is counted, if not whose it was. It says pids and
//! nothing else: what they are is read in `/proc`, and a process that is gone by then is not known.
//!
//! Guarantee: who has one is told: the kernel has said that it will. To processes in a pid namespace of their own it says nothing.

use std::collections::HashMap;
use std::io;

use nix::libc;

use crate::netlink::{HEADER, Netlink, Read};
use crate::watch::since_start;

/// `CN_IDX_PROC` and `CN_VAL_PROC`, and what is asked for.
const PROCESSES: u32 = 1;
const LISTEN: u32 = 1;
const NETLINK_CONNECTOR: i32 = 11;
/// Bytes that may wait in the kernel.
const BUFFER: libc::c_int = 8 << 20;
const CONNECTOR_HEADER: usize = 20;
const DONE: u16 = 3;
/// Of answers, in kernels before 4.10; in later ones they are numbered with the rest.
const NO_PROCESSOR: u32 = u32::MAX;

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
    socket: Netlink,
    /// The number of the next message of each processor.
    next: HashMap<u32, u32>,
    lost: u64,
}

impl Connector {
    /// # Errors
    /// When the kernel has none, or this process may not (it takes `CAP_NET_ADMIN`, in the machine's own network and pid namespaces).
    pub(crate) fn open() -> io::Result<Connector> {
        let socket = Netlink::open(NETLINK_CONNECTOR, PROCESSES, BUFFER)?;
        let mut connector = Connector { socket, next: HashMap::new(), lost: 0 };
        // Answers to others are heard here, too.
        let question = std::process::id() ^ since_start() as u32;
        connector.listen(question)?;
        connector.is_answered(question)?;
        Ok(connector)
    }

    /// The answer is there when the question has been sent, if there is one.
    fn is_answered(&mut self, question: u32) -> io::Result<()> {
        loop {
            let answer = match self.socket.read() {
                Read::Message(bytes) => Message::read(bytes).map(|message| message.told),
                Read::Overrun => None,
                Read::Nothing => {
                    let why = "the kernel tells nothing to a process in a pid namespace of its own";
                    return Err(io::Error::other(why));
                }
            };
            match answer {
                Some(What::Answer(to, 0)) if to == question => return Ok(()),
                Some(What::Answer(to, why)) if to == question => {
                    return Err(io::Error::from_raw_os_error(why));
                }
                _ => {}
            }
        }
    }

    fn listen(&self, question: u32) -> io::Result<()> {
        let mut message = Vec::new();
        let length = (HEADER + CONNECTOR_HEADER + 4) as u32;
        message.extend(length.to_ne_bytes());
        message.extend(DONE.to_ne_bytes());
        message.extend([0; 10]);
        [PROCESSES, PROCESSES, 0, question].iter().for_each(|field| message.extend(field.to_ne_bytes()));
        message.extend(4_u16.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(LISTEN.to_ne_bytes());
        self.socket.send(&message)
    }

    /// What is to be waited for.
    pub(crate) fn socket(&self) -> &Netlink {
        &self.socket
    }

    /// How many messages are missing since this was asked last.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Hands on what has come.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Told)) {
        loop {
            let bytes = match self.socket.read() {
                Read::Message(bytes) => bytes,
                // How many they were, the numbers of the next ones say.
                Read::Overrun => continue,
                Read::Nothing => return,
            };
            let Some(message) = Message::read(bytes) else { continue };
            let event = match message.told {
                What::Answer(..) => None,
                What::Happened(event) => event,
            };
            if message.processor != NO_PROCESSOR {
                // A processor's first message begins its count.
                let next = self.next.insert(message.processor, message.number.wrapping_add(1));
                let skipped = next.map_or(0, |next| message.number.wrapping_sub(next));
                self.lost += u64::from(skipped);
            }
            if let Some(event) = event {
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
    told: What,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
enum What {
    /// To this question of somebody who wants to be told, with an error number.
    Answer(u32, i32),
    /// None: something of no interest.
    Happened(Option<Event>),
}

impl Message {
    fn read(bytes: &[u8]) -> Option<Message> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let number = u32_at(HEADER + 8)?;
        let event = HEADER + CONNECTOR_HEADER;
        let (what, processor) = (u32_at(event)?, u32_at(event + 4)?);
        let time = u64::from_ne_bytes(bytes.get(event + 8..event + 16)?.try_into().ok()?);
        let field = |index: usize| u32_at(event + 16 + 4 * index);
        if what == 0 {
            // One more than the question was.
            let question = u32_at(HEADER + 12)?.wrapping_sub(1);
            let told = What::Answer(question, field(0)? as i32);
            return Some(Message { processor, number, time, told });
        }
        let event = match what {
            // Fields are thread and process, twice for who made and who was made.
            1 if field(2)? == field(3)? => Some(Event::Fork { parent: field(1)?, child: field(3)? }),
            2 => Some(Event::Exec { pid: field(1)? }),
            0x8000_0000 if field(0)? == field(1)? => {
                Some(Event::Exit { pid: field(1)?, status: field(2)? as i32 })
            }
            _ => None,
        };
        Some(Message { processor, number, time, told: What::Happened(event) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(number: u32, what: u32, fields: [u32; 4]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + 8];
        bytes.extend(number.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0; 4]);
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
            let told = What::Happened(expected);
            assert_eq!(read, Message { processor: 3, number: 42, time: 77, told }, "{what}");
        }
        let answer = Message::read(&message(42, 0, [1, 0, 0, 0])).expect("a message");
        assert_eq!(answer, Message { processor: 3, number: 42, time: 77, told: What::Answer(6, 1) });
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::read(&bytes);
        }
    }
}
