//! Back from an encoded record to the bytes of files that it stands for: what a verifier reads.

use std::borrow::Cow;

use serde::Deserialize;
use taffrail_record::{FileId, Fragment, Span};

use crate::head::Head;

/// Where a delivered record lay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<'a> {
    /// `log.file.fingerprint`; with `offset` the record's id.
    pub file: FileId,
    /// `log.offset`: the first byte of the record's (last) piece in `file`.
    pub offset: u64,
    /// `log.length`: bytes of files that the record stands for, over all its pieces.
    pub length: u64,
    /// `log.file.path`; empty when unknown.
    pub path: Cow<'a, str>,
    /// `log.truncated_bytes`: bytes of these that are not in the message.
    pub truncated: u64,
    /// All pieces when there are several, else empty.
    pub fragments: Vec<Fragment>,
}

impl Located<'_> {
    /// Every piece of every file that the record stands for.
    pub fn pieces(&self) -> impl Iterator<Item = Fragment> {
        let whole = Fragment { file: self.file, span: Span::at(self.offset, self.length) };
        let single = self.fragments.is_empty().then_some(whole);
        single.into_iter().chain(self.fragments.iter().copied())
    }
}

/// Why a message is not a record.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// Not JSON, or without the fields that place a record.
    #[error("not a record: {0}")]
    NotARecord(serde_json::Error),
    /// A fingerprint that is not 32 hex digits, or absent.
    #[error("record without a valid log.file.fingerprint: {0:?}")]
    Fingerprint(String),
    /// A header `taffrail.record` that has not the words it should have.
    #[error("record with an unreadable header taffrail.record: {0:?}")]
    Head(String),
}

/// Reads the place of a JSON record out of its value.
///
/// # Errors
/// [`LocateError`] when the value is not such a record (a ledger statement, or somebody else's message).
pub fn locate_json(value: &[u8]) -> Result<Located<'_>, LocateError> {
    let Envelope { log } =
        serde_json::from_slice::<Envelope<Log<'_>>>(value).map_err(LocateError::NotARecord)?;
    located(log.offset, log.length, log.truncated_bytes, &log.fragments, log.file)
}

/// Reads the place of a raw record out of its headers `taffrail.origin`, which is empty when there is none, and
/// `taffrail.record`.
///
/// # Errors
/// [`LocateError`] when the headers are not such a record's.
pub fn locate_raw<'a>(origin: &'a [u8], record: &'a [u8]) -> Result<Located<'a>, LocateError> {
    let head =
        Head::parse(record).ok_or_else(|| LocateError::Head(String::from_utf8_lossy(record).into()))?;
    let path = match origin {
        [] => Cow::default(),
        origin => {
            let envelope = serde_json::from_slice::<Envelope<OriginLog<'_>>>(origin);
            envelope.map_err(LocateError::NotARecord)?.log.file.path
        }
    };
    Ok(Located {
        file: head.file,
        offset: head.offset,
        length: head.length,
        path,
        truncated: head.truncated,
        fragments: head.fragments,
    })
}

fn located<'a>(
    offset: u64,
    length: u64,
    truncated: u64,
    pieces: &[Piece<'_>],
    file: File<'a>,
) -> Result<Located<'a>, LocateError> {
    let fragments = pieces.iter().map(Piece::fragment).collect::<Result<_, _>>()?;
    Ok(Located { file: file_id(&file.fingerprint)?, offset, length, path: file.path, truncated, fragments })
}

fn file_id(text: &str) -> Result<FileId, LocateError> {
    text.parse().map_err(|_| LocateError::Fingerprint(text.to_owned()))
}

#[derive(Deserialize)]
struct Envelope<L> {
    log: L,
}

/// `log` of a JSON record.
#[derive(Deserialize)]
struct Log<'a> {
    offset: u64,
    length: u64,
    #[serde(default)]
    truncated_bytes: u64,
    #[serde(borrow, default)]
    fragments: Vec<Piece<'a>>,
    #[serde(borrow)]
    file: File<'a>,
}

/// `log` of `taffrail.origin`.
#[derive(Deserialize)]
struct OriginLog<'a> {
    #[serde(borrow)]
    file: File<'a>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    path: Cow<'a, str>,
    #[serde(borrow, default)]
    fingerprint: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow)]
    fingerprint: Cow<'a, str>,
    offset: u64,
    length: u64,
}

impl Piece<'_> {
    fn fragment(&self) -> Result<Fragment, LocateError> {
        Ok(Fragment { file: file_id(&self.fingerprint)?, span: Span::at(self.offset, self.length) })
    }
}
