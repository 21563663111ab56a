//! One file of a cgroup.

use std::path::{Path, PathBuf};

use taffrail_kernfs::{Kept, Page, ReadError, Reason, Troubles, parse};

/// A file that this kernel does not have is looked for again after so many reads: controllers may be enabled later.
const ABSENT_FOR: u8 = 20;

/// A file that is there, or not.
#[derive(Debug)]
pub(crate) struct Attribute {
    kept: Kept,
    absent_for: u8,
    /// Whether the descriptor is let go after each reading.
    seldom: bool,
}

impl Attribute {
    pub(crate) fn new(path: PathBuf) -> Attribute {
        Attribute { kept: Kept::new(path), absent_for: 0, seldom: false }
    }

    /// One that is read so seldom that its descriptor is not worth keeping.
    pub(crate) fn seldom(path: PathBuf) -> Attribute {
        Attribute { seldom: true, ..Attribute::new(path) }
    }

    /// What it says; nothing when it cannot be read, which is counted once for each time that it was tried.
    pub(crate) fn read<'p>(&mut self, page: &'p mut Page, troubles: &mut Troubles) -> Option<&'p [u8]> {
        if self.absent_for > 0 {
            self.absent_for -= 1;
            return None;
        }
        let result = self.kept.read_once(page);
        if result.as_ref().is_err_and(|error| error.reason() == Reason::Absent) {
            self.absent_for = ABSENT_FOR;
        }
        if self.seldom {
            self.kept.close();
        }
        troubles.take(result)
    }

    /// The one number in it.
    pub(crate) fn number(&mut self, page: &mut Page, troubles: &mut Troubles) -> Option<u64> {
        let text = self.read(page, troubles)?;
        let number = parse::only(text);
        if number.is_none() {
            let what = format!("no number: {:?}", String::from_utf8_lossy(&text[..text.len().min(40)]));
            troubles.note(ReadError::malformed(self.kept.path(), what));
        }
        number
    }

    /// The one number in it; 0 for `max` and for what v1 shows instead of it.
    pub(crate) fn limit(&mut self, page: &mut Page, troubles: &mut Troubles) -> Option<u64> {
        const NONE: u64 = 1 << 62;
        match self.read(page, troubles)?.trim_ascii() {
            b"max" | b"-1" => Some(0),
            text => parse::number(text).map(|limit| if limit > NONE { 0 } else { limit }),
        }
    }

    /// Lets the descriptor go.
    pub(crate) fn close(&mut self) {
        self.kept.close();
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.kept.path()
    }
}
