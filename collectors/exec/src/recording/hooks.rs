//! What records, in the kernel: maps of what it tells and of what it is told.
//!
//! Guarantee: where they are pinned, whoever comes next finds everything that was told meanwhile and does not lie on the disk yet.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use aya::maps::{Array, HashMap, Map, MapData};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;

use super::arm::Foreseen;
use super::attachment::{Attachment, Programs};
use super::piece::Counted;
use crate::pins::Kind;
use crate::probe::chain;
use crate::ring::Ring;

/// The maps that this process asks, and what they are.
pub(crate) const MAPS: [(&str, Kind); 7] = [
    ("pieces", Map::RingBuf),
    ("foreseen", Map::RingBuf),
    ("unrecorded", Map::HashMap),
    ("recordings", Map::HashMap),
    ("terminals", Map::HashMap),
    ("refused", Map::HashMap),
    ("attached", Map::Array),
];
/// Those with a place for each session.
pub(crate) const TABLES: [&str; 4] = ["recordings", "terminals", "refused", "unechoed"];

/// What the programs tell, and what they are told.
pub(crate) struct Hooks {
    pub(crate) attachment: Arc<Mutex<Attachment>>,
    ring: Ring,
    _pieces: MapData,
    /// Says once, when it is asked, that there has been much to read: the ring alone would say so for as long as anything lies there.
    much: Epoll,
    foreseen: Option<Foreseen>,
    unrecorded: HashMap<MapData, u64, u32>,
    recordings: HashMap<MapData, u64, [u8; Counted::SIZE]>,
    terminals: HashMap<MapData, u64, u64>,
    refused: HashMap<MapData, u64, [u64; 2]>,
}

impl Hooks {
    /// Of these maps.
    pub(crate) fn new(programs: Programs, maps: Vec<(String, Map)>) -> Result<Hooks, String> {
        let mut maps: std::collections::HashMap<String, Map> = maps.into_iter().collect();
        let mut map = |name: &str| maps.remove(name).ok_or_else(|| format!("there is no map {name}"));
        let ((pieces, ring), (foretold, foreseen)) = (ring(map("pieces")?)?, ring(map("foreseen")?)?);
        let attached = Array::try_from(map("attached")?).map_err(|error| chain(&error))?;
        Ok(Hooks {
            attachment: Arc::new(Mutex::new(Attachment::new(programs, attached, super::LINGER)?)),
            ring,
            much: much(&pieces).map_err(|error| format!("the ring cannot be waited for: {error}"))?,
            _pieces: pieces,
            foreseen: Some(Foreseen { map: foretold, ring: foreseen }),
            unrecorded: HashMap::try_from(map("unrecorded")?).map_err(|error| chain(&error))?,
            recordings: HashMap::try_from(map("recordings")?).map_err(|error| chain(&error))?,
            terminals: HashMap::try_from(map("terminals")?).map_err(|error| chain(&error))?,
            refused: HashMap::try_from(map("refused")?).map_err(|error| chain(&error))?,
        })
    }

    /// What tells that somebody may come into a container soon; once.
    pub(crate) fn take_foreseen(&mut self) -> Option<Foreseen> {
        self.foreseen.take()
    }

    /// What can be waited for: that there is much to read.
    pub(crate) fn much(&self) -> BorrowedFd<'_> {
        self.much.0.as_fd()
    }

    /// It is being read.
    pub(crate) fn is_read(&self) {
        let _ = self.much.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO);
    }

    /// Containers of which nobody is told that somebody may come into them, by kernfs id.
    pub(crate) fn unrecorded(&self) -> Vec<u64> {
        self.unrecorded.keys().filter_map(Result::ok).collect()
    }

    /// Of this container nobody is told that any more, or is again.
    pub(crate) fn is_unrecorded(&mut self, container: u64, is_so: bool) {
        let _ =
            if is_so { self.unrecorded.insert(container, 1, 0) } else { self.unrecorded.remove(&container) };
    }

    /// Shows the next piece; it stays in the ring until [`Hooks::release`].
    pub(crate) fn look_ahead(&mut self, see: impl FnOnce(&[u8])) -> bool {
        self.ring.look_ahead(see)
    }

    /// What was shown lies on the disk, or is counted.
    pub(crate) fn release(&mut self) {
        self.ring.release();
    }

    /// What is counted of a recording.
    pub(crate) fn counted(&self, session: u64) -> Option<Counted> {
        Counted::read(&self.recordings.get(&session, 0).ok()?).ok()
    }

    /// Pieces and their bytes that were not put down.
    pub(crate) fn refused(&self, session: u64) -> (u64, u64) {
        self.refused.get(&session, 0).map_or((0, 0), |[pieces, bytes]| (pieces, bytes))
    }

    /// So many more pieces and bytes are not put down.
    pub(crate) fn refuse(&mut self, session: u64, pieces: u64, bytes: u64) {
        let before = self.refused(session);
        let _ = self.refused.insert(session, [before.0 + pieces, before.1 + bytes], 0);
    }

    /// Nothing more of this session is wanted.
    pub(crate) fn close(&mut self, session: u64) {
        if let Some(counted) = self.counted(session).filter(|counted| counted.terminal > 0)
            && self.terminals.get(&counted.terminal, 0).is_ok_and(|of| of == session)
        {
            let _ = self.terminals.remove(&counted.terminal);
        }
    }

    /// Nothing is to be known of this session any more.
    pub(crate) fn forget(&mut self, session: u64) {
        self.close(session);
        let _ = self.recordings.remove(&session);
        let _ = self.refused.remove(&session);
    }

    /// Sessions that are recorded.
    pub(crate) fn sessions(&self) -> Vec<u64> {
        self.recordings.keys().filter_map(Result::ok).collect()
    }
}

fn much(pieces: &MapData) -> nix::Result<Epoll> {
    let much = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    much.add(pieces.fd().as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    Ok(much)
}

/// A ring, and what reads it.
fn ring(map: Map) -> Result<(MapData, Ring), String> {
    let Map::RingBuf(map) = map else { return Err("what should be a ring is none".to_owned()) };
    let bytes = map.info().map_err(|error| chain(&error))?.max_entries();
    let ring = Ring::new(map.fd().as_fd(), bytes).map_err(|error| chain(&error))?;
    Ok((map, ring))
}
