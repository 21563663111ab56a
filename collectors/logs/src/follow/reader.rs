//! Reading bytes at an offset: of a plain file, or of what a gzip file unpacks to.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::read::MultiGzDecoder;

use super::identity::HEAD_BYTES;

/// A held descriptor. It keeps the content readable after the name is gone.
#[derive(Debug)]
pub(crate) enum Reader {
    /// A file as it lies.
    Plain(File),
    /// A compressed file; offsets count unpacked bytes. Only ever read forwards.
    Gzip(Box<Unpacking>),
}

/// What a checked read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    /// So many bytes; 0 at the end.
    Bytes(usize),
    /// The file is not what it was: truncated, or written anew.
    Changed,
}

/// How many bytes before the offset are compared.
pub(crate) const OVERLAP: usize = 16;

/// A gzip stream and how far it has been unpacked.
#[derive(Debug)]
pub(crate) struct Unpacking {
    file: File,
    decoder: MultiGzDecoder<File>,
    at: u64,
}

impl Reader {
    /// Wraps an open file, unpacking when `gzip`.
    pub(crate) fn new(file: File, gzip: bool) -> io::Result<Reader> {
        if !gzip {
            return Ok(Reader::Plain(file));
        }
        let decoder = MultiGzDecoder::new(file.try_clone()?);
        Ok(Reader::Gzip(Box::new(Unpacking { file, decoder, at: 0 })))
    }

    /// Whether it unpacks.
    pub(crate) fn is_gzip(&self) -> bool {
        matches!(self, Reader::Gzip(_))
    }

    /// Like [`Reader::read`], after checking that the bytes before `offset` are still `before`: a file that was
    /// truncated or rewritten since they were read says so, even when it has grown past `offset` again.
    pub(crate) fn read_after(
        &mut self,
        before: &[u8],
        data: &mut Vec<u8>,
        offset: u64,
        most: usize,
    ) -> io::Result<Got> {
        match self {
            Reader::Plain(file) if !before.is_empty() => read_checked(file, before, data, offset, most),
            _ => self.read(data, offset, most).map(Got::Bytes),
        }
    }

    /// Appends up to `most` bytes from `offset` to `data`; returns how many.
    pub(crate) fn read(&mut self, data: &mut Vec<u8>, offset: u64, most: usize) -> io::Result<usize> {
        match self {
            Reader::Plain(file) => read_plain(file, data, offset, most),
            Reader::Gzip(unpacking) => unpacking.read(data, offset, most),
        }
    }

    /// The first bytes, at most [`HEAD_BYTES`].
    pub(crate) fn head(&mut self) -> io::Result<Vec<u8>> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        while head.len() < HEAD_BYTES {
            let (at, most) = (head.len() as u64, HEAD_BYTES - head.len());
            if self.read(&mut head, at, most)? == 0 {
                break;
            }
        }
        Ok(head)
    }

    /// How much there is to read, modulo 4 GiB, when it is compressed: what a whole file's trailer says, which is
    /// right for one member.
    pub(crate) fn unpacked_size(&self) -> Option<u32> {
        let Reader::Gzip(unpacking) = self else { return None };
        let end = unpacking.file.metadata().ok()?.len().checked_sub(4)?;
        let mut trailer = [0; 4];
        unpacking.file.read_exact_at(&mut trailer, end).ok()?;
        Some(u32::from_le_bytes(trailer))
    }

    /// Size of the file as it lies, and whether its last name is gone.
    pub(crate) fn size_and_unlinked(&self) -> io::Result<(u64, bool)> {
        let meta = self.metadata()?;
        Ok((meta.len(), meta.nlink() == 0))
    }

    /// Whether its content or its name has changed so lately, by the time that only the kernel sets.
    pub(crate) fn changed_within(&self, time: Duration) -> bool {
        let Ok(meta) = self.metadata() else { return false };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now.abs_diff(meta.ctime().cast_unsigned()) <= time.as_secs()
    }

    fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Reader::Plain(file) => file.metadata(),
            Reader::Gzip(unpacking) => unpacking.file.metadata(),
        }
    }
}

/// `pread` into the spare capacity, so that the buffer is not cleared first.
fn read_plain(file: &File, data: &mut Vec<u8>, offset: u64, most: usize) -> io::Result<usize> {
    data.reserve(most);
    let at = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    loop {
        let spare = data.spare_capacity_mut();
        // SAFETY: the pointer and length describe spare capacity that the vector owns and nobody else refers to.
        let read =
            unsafe { libc::pread(file.as_raw_fd(), spare.as_mut_ptr().cast(), most.min(spare.len()), at) };
        match usize::try_from(read) {
            Ok(read) => {
                // SAFETY: pread has written `read` bytes there, and `read` is at most the spare capacity.
                unsafe { data.set_len(data.len() + read) };
                return Ok(read);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// One system call reads the overlap and the new bytes.
fn read_checked(file: &File, before: &[u8], data: &mut Vec<u8>, offset: u64, most: usize) -> io::Result<Got> {
    let mut overlap = [0_u8; OVERLAP];
    let overlap = &mut overlap[..before.len().min(OVERLAP)];
    let before = &before[before.len() - overlap.len()..];
    data.reserve(most);
    let start = offset.saturating_sub(overlap.len() as u64);
    let at = i64::try_from(start).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let spare = data.spare_capacity_mut();
    let vectors = [
        libc::iovec { iov_base: overlap.as_mut_ptr().cast(), iov_len: overlap.len() },
        libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: most.min(spare.len()) },
    ];
    let read = loop {
        // SAFETY: both vectors describe memory that is exclusively borrowed here and as long as they say.
        let read = unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), 2, at) };
        match usize::try_from(read) {
            Ok(read) => break read,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    if read < overlap.len() || overlap != before {
        return Ok(Got::Changed);
    }
    let fresh = read - overlap.len();
    // SAFETY: preadv fills vectors in order, so `fresh` bytes of the spare capacity have been written.
    unsafe { data.set_len(data.len() + fresh) };
    Ok(Got::Bytes(fresh))
}

impl Unpacking {
    fn read(&mut self, data: &mut Vec<u8>, offset: u64, most: usize) -> io::Result<usize> {
        if offset < self.at {
            self.rewind()?;
        }
        self.skip_to(offset)?;
        let before = data.len();
        let read = (&mut self.decoder).take(most as u64).read_to_end(data);
        let got = data.len() - before;
        self.at += got as u64;
        // What came before the damage is good; the next call meets the damage with nothing in front of it.
        if got > 0 { Ok(got) } else { read }
    }

    fn rewind(&mut self) -> io::Result<()> {
        // A clone shares the file's cursor with the decoder, so the start must be set for both.
        let again = self.file.try_clone()?;
        rewind_cursor(&again)?;
        self.decoder = MultiGzDecoder::new(again);
        self.at = 0;
        Ok(())
    }

    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let missing = offset - self.at;
        let skipped = io::copy(&mut (&mut self.decoder).take(missing), &mut io::sink())?;
        self.at += skipped;
        Ok(())
    }
}

fn rewind_cursor(mut file: &File) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(0)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_rewritten_file_is_noticed_even_when_it_is_longer_than_before() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"one\ntwo\n").expect("written");
        let mut reader = Reader::new(file.try_clone().expect("cloned"), false).expect("opened");
        let mut data = Vec::new();
        assert_eq!(reader.read_after(b"", &mut data, 0, 100).expect("read"), Got::Bytes(8));
        assert_eq!(reader.read_after(b"two\n", &mut data, 8, 100).expect("read"), Got::Bytes(0));
        file.write_all(b"three\n").expect("written");
        assert_eq!(reader.read_after(b"two\n", &mut data, 8, 100).expect("read"), Got::Bytes(6));
        assert_eq!(data, b"one\ntwo\nthree\n");
        file.set_len(0).expect("truncated");
        assert_eq!(reader.read_after(b"ree\n", &mut data, 14, 100).expect("read"), Got::Changed);
        file.write_all_at(b"entirely different content\n", 0).expect("written");
        assert_eq!(reader.read_after(b"ree\n", &mut data, 14, 100).expect("read"), Got::Changed);
        assert_eq!(data.len(), 14, "nothing is taken from a changed file");
    }

    #[test]
    fn a_gzip_file_reads_like_the_file_it_was_made_from() {
        let mut packed = tempfile::tempfile().expect("a file");
        let text: Vec<u8> = (0..20_000_u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        // Two members, as when logs are appended to a compressed file.
        for part in text.chunks(text.len() / 2 + 1) {
            let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
            encoder.write_all(part).expect("packed");
            encoder.finish().expect("packed");
        }
        rewind_cursor(&packed).expect("rewound");
        let mut reader = Reader::new(packed, true).expect("opened");
        assert_eq!(reader.head().expect("head"), &text[..HEAD_BYTES]);
        let mut data = Vec::new();
        assert_eq!(reader.read(&mut data, 5000, 10).expect("read"), 10);
        assert_eq!(data, &text[5000..5010]);
        data.clear();
        loop {
            let at = 100 + data.len() as u64;
            if reader.read(&mut data, at, 4096).expect("read") == 0 {
                break;
            }
        }
        assert_eq!(data, &text[100..], "read backwards by unpacking again");
    }
}
