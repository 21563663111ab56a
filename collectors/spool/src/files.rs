//! The files of a spool: found, read through, and read in pieces.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use taffrail_record::FileId;

use crate::confirmed::Confirmed;
use crate::frame::{Found, Frame, Kind, decode};
use crate::spool::{LastDocument, Spool, SpoolError};

/// Before the entries: what it is, whose, and from where on. It and the ending are from when events were all that lay here.
const MAGIC: &[u8; 8] = b"TFEVENT1";
const HEADER: usize = 8 + 16 + 8;
const ENDING: &str = ".events";
/// How much is read at once.
const BLOCK: usize = 1 << 20;

/// One file, by the places of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Whether any of them is a document.
    pub(crate) has_documents: bool,
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) id: Option<FileId>,
    pub(crate) segments: Vec<Segment>,
    /// Where it ends, even if nothing is in it.
    pub(crate) end: u64,
    /// The version up to which nothing is missing, when entries say so.
    pub(crate) newest: Option<u64>,
    /// Whether entries are missing between others.
    pub(crate) broken: bool,
    /// Whether the place that is confirmed is between two entries.
    pub(crate) is_boundary: bool,
}

pub(crate) fn path_of(folder: &Path, start: u64) -> PathBuf {
    folder.join(format!("{start:020}{ENDING}"))
}

/// Where the file is put that has the last of the confirmed documents. Its name is none of a file of the row.
pub(crate) fn path_aside(folder: &Path) -> PathBuf {
    folder.join(format!("last{ENDING}"))
}

/// Held until it is closed, however this process ends.
pub(crate) fn lock(folder: &Path) -> Result<File, SpoolError> {
    let path = folder.join("lock");
    let failed = |error| SpoolError::Failed { path: path.clone(), error };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SpoolError::InUse(folder.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

pub(crate) fn new_id() -> FileId {
    let half = || u128::from(RandomState::new().build_hasher().finish());
    FileId(half() << 64 | half())
}

pub(crate) fn create(folder: &Path, id: FileId, start: u64) -> io::Result<File> {
    let path = path_of(folder, start);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&id.0.to_le_bytes());
    header.extend_from_slice(&start.to_le_bytes());
    file.write_all(&header)?;
    Ok(file)
}

/// Takes away what was written of an entry that did not fit.
pub(crate) fn cut(mut file: &File, start: u64, end: u64) -> io::Result<()> {
    let end = HEADER as u64 + end - start;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end)).map(drop)
}

/// Reads through every file; what is confirmed tells where that was understood before.
pub(crate) fn scan(folder: &Path, confirmed: &Confirmed, alive: &dyn Fn()) -> io::Result<Scan> {
    let mut starts: Vec<u64> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(ENDING)?.parse().ok())
        .collect();
    starts.sort_unstable();
    let mut scan = Scan { newest: confirmed.version, ..Scan::default() };
    for start in starts {
        let path = path_of(folder, start);
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        let Some((id, _)) = header(&mut file)?.filter(|(_, named)| *named == start) else {
            // Not even its beginning was written: nothing was in it.
            std::fs::remove_file(&path)?;
            continue;
        };
        scan.id = scan.id.or(Some(id));
        scan.broken |= scan.segments.last().is_some_and(|last| last.end != start);
        let mut has_documents = false;
        let end = through(&file, start, alive, &mut |at, frame| {
            scan.is_boundary |= at == confirmed.offset;
            has_documents |= frame.is_document();
            match frame.kind {
                _ if scan.broken || at < confirmed.offset => {}
                Kind::InOrder | Kind::Mark => scan.newest = Some(frame.version),
                Kind::Reset => scan.newest = None,
                Kind::Unordered => {}
            }
        })?;
        scan.is_boundary |= end == confirmed.offset;
        cut(&file, start, end)?;
        scan.end = end;
        if end == start {
            std::fs::remove_file(&path)?;
            continue;
        }
        scan.segments.push(Segment { start, end, has_documents });
    }
    scan.is_boundary |= scan.segments.is_empty();
    Ok(scan)
}

/// The last whole document in the file at `path`; none also when there is no such file.
pub(crate) fn last_document(path: &Path) -> io::Result<Option<LastDocument>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let Some((_, start)) = header(&mut file)? else { return Ok(None) };
    let mut last = None;
    through(&file, start, &|| {}, &mut |_, frame| {
        if frame.is_document() {
            last = Some(LastDocument {
                version: frame.version,
                id: frame.id.to_owned(),
                body: frame.body.to_vec(),
            });
        }
    })?;
    Ok(last)
}

/// Whose it is and from where on, if it is a file of a spool.
fn header(file: &mut File) -> io::Result<Option<(FileId, u64)>> {
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (mut id, mut start) = ([0; 16], [0; 8]);
    id.copy_from_slice(&header[8..24]);
    start.copy_from_slice(&header[24..]);
    let known = header.starts_with(MAGIC);
    Ok(known.then(|| (FileId(u128::from_le_bytes(id)), u64::from_le_bytes(start))))
}

/// Shows each whole entry and its place; the end of the last.
fn through(
    file: &File,
    start: u64,
    alive: &dyn Fn(),
    show: &mut dyn FnMut(u64, &Frame<'_>),
) -> io::Result<u64> {
    let (mut bytes, mut at, mut wanted) = (Vec::new(), start, BLOCK);
    loop {
        alive();
        let read = file.take((wanted - bytes.len()) as u64).read_to_end(&mut bytes)?;
        let mut used = 0;
        let stopped = loop {
            match decode(&bytes[used..]) {
                Found::Whole(frame, _, length) => {
                    show(at, &frame);
                    used += length;
                    at += length as u64;
                }
                Found::Begun(length) => break Some(length),
                Found::Damaged => break None,
            }
        };
        let Some(length) = stopped.filter(|_| read > 0) else { return Ok(at) };
        bytes.drain(..used);
        wanted = length.max(BLOCK);
    }
}

/// Reads entries in pieces; keeps the file of the last piece open.
#[derive(Debug, Default)]
pub(crate) struct Reader(Option<(u64, File)>);

/// A piece of a spool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The place of its first byte, which begins an entry.
    pub(crate) start: u64,
    /// The end of its file: if nothing can be read here, it goes on there.
    pub(crate) file_end: u64,
}

impl Reader {
    /// Reads from `from` on, or from the next place where there is anything: about `most` bytes, or one entry if that is
    /// larger. None when nothing is there yet.
    pub(crate) fn read(
        &mut self,
        spool: &Spool,
        from: u64,
        most: usize,
        into: &mut Vec<u8>,
    ) -> io::Result<Option<Piece>> {
        let Some(segment) = spool.segment(from) else { return Ok(None) };
        let start = from.max(segment.start);
        let file = match self.0.take() {
            Some((open, file)) if open == segment.start => file,
            _ => File::open(path_of(spool.folder(), segment.start))?,
        };
        let there = usize::try_from(segment.end - start).unwrap_or(usize::MAX);
        let at = HEADER as u64 + start - segment.start;
        into.resize(there.min(most), 0);
        file.read_exact_at(into, at)?;
        if let Found::Begun(length) = decode(into) {
            into.resize(there.min(length), 0);
            file.read_exact_at(into, at)?;
        }
        self.0 = Some((segment.start, file));
        Ok(Some(Piece { start, file_end: segment.end }))
    }
}
