//! How one line is to be delivered, told by its framing.

use taffrail_record::{FileId, Flags, Stream};

/// How a line relates to the lines before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// Belongs to no other line, and leaves pending parts alone.
    Alone,
    /// More follows on the same stream.
    More,
    /// Ends what is pending on its stream.
    End,
}

/// What is known of a line beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) time: i64,
    pub(super) stream: Stream,
    pub(super) flags: Flags,
    pub(super) join: Join,
}

impl Head {
    /// A line of a plain file.
    #[inline]
    pub(super) fn plain(now: i64) -> Head {
        Head { time: now, stream: Stream::None, flags: Flags::NONE, join: Join::Alone }
    }

    /// A line of a container without the framing that it should have.
    pub(super) fn corrupt(now: i64) -> Head {
        let flags = Flags::CORRUPT | Flags::TIME_OF_READ;
        Head { time: now, stream: Stream::None, flags, join: Join::Alone }
    }

    /// A line with framing that has been read.
    #[inline]
    pub(super) fn framed(time: Option<i64>, now: i64, stream: Stream, more: bool) -> Head {
        let join = if more { Join::More } else { Join::End };
        let flags = if time.is_some() { Flags::NONE } else { Flags::TIME_OF_READ };
        Head { time: time.unwrap_or(now), stream, flags, join }
    }

    /// The same line, delivered although it has not ended.
    pub(super) fn unfinished(self) -> Head {
        let join = if self.join == Join::More { Join::End } else { self.join };
        Head { flags: self.flags | Flags::PARTIAL, join, ..self }
    }
}

/// The beginning of the line that comes next was delivered already, or was never seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Continuation {
    /// Only in this file; anywhere else a line begins afresh.
    pub(super) file: FileId,
    pub(super) head: Head,
}

impl Continuation {
    /// What follows a line that was delivered with `head`.
    pub(super) fn of(head: Head, file: FileId) -> Continuation {
        Continuation { file, head: Head { join: Join::Alone, ..head.unfinished() } }
    }
}
