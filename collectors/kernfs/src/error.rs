//! Why something could not be read.

use std::io;
use std::path::{Path, PathBuf};

use taffrail_record::AskError;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub cause: io::Error,
}

/// What kind of failure it was; a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// There is no such file: this kernel or this machine does not have it.
    Absent,
    /// What it told of went away: a cgroup was removed, a process ended, a device was pulled.
    Gone,
    /// The agent may not read it.
    Denied,
    /// It says something that cannot be understood.
    Malformed,
    /// Anything else.
    Failed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 5] =
        [Reason::Absent, Reason::Gone, Reason::Denied, Reason::Malformed, Reason::Failed];

    /// The label value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Absent => "absent",
            Reason::Gone => "gone",
            Reason::Denied => "denied",
            Reason::Malformed => "malformed",
            Reason::Failed => "failed",
        }
    }
}

impl ReadError {
    /// `path` says something that cannot be understood.
    #[must_use]
    pub fn malformed(path: &Path, what: impl Into<String>) -> ReadError {
        ReadError { path: path.to_owned(), cause: io::Error::new(io::ErrorKind::InvalidData, what.into()) }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn reason(&self) -> Reason {
        reason(&self.cause)
    }

    /// Whether nothing is wrong: it is absent, or gone in the course of events.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        matches!(self.reason(), Reason::Absent | Reason::Gone)
    }
}

fn reason(cause: &io::Error) -> Reason {
    match (cause.raw_os_error(), cause.kind()) {
        // A removed cgroup, device or process: ENODEV, ENXIO, ESRCH.
        (Some(libc::ENODEV | libc::ENXIO | libc::ESRCH | libc::ESTALE), _) => Reason::Gone,
        // A controller or a figure that the kernel was built or started without.
        (Some(libc::EOPNOTSUPP), _) | (_, io::ErrorKind::NotFound) => Reason::Absent,
        (_, io::ErrorKind::PermissionDenied) => Reason::Denied,
        (_, io::ErrorKind::InvalidData) => Reason::Malformed,
        _ => Reason::Failed,
    }
}

impl From<ReadError> for AskError {
    fn from(error: ReadError) -> AskError {
        match error.reason() {
            Reason::Absent => AskError::Absent(error.path.display().to_string()),
            _ => AskError::Failed { what: error.path.display().to_string(), cause: Box::new(error.cause) },
        }
    }
}

/// The failures of one scrape: all are counted, the first that is not expected is told.
#[derive(Debug, Default)]
pub struct Troubles {
    counts: [u64; Reason::ALL.len()],
    first: Option<ReadError>,
}

impl Troubles {
    /// The value, or nothing and one more failure.
    pub fn take<T>(&mut self, result: Result<T, ReadError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(error);
                None
            }
        }
    }

    /// One more failure.
    pub fn note(&mut self, error: ReadError) {
        self.counts[error.reason() as usize] += 1;
        if self.first.is_none() && !error.is_expected() {
            self.first = Some(error);
        }
    }

    /// How many failures there were of a kind.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize]
    }

    /// The first failure that is not in the course of events, if there was one.
    ///
    /// # Errors
    /// That failure.
    pub fn told(self) -> Result<(), AskError> {
        let Some(first) = self.first else { return Ok(()) };
        let what = first.path.display().to_string();
        Err(AskError::Failed { what, cause: Box::new(Counted { counts: self.counts, first: first.cause }) })
    }
}

/// The cause of an [`AskError`] that stands for several failures: it says the first.
#[derive(Debug, thiserror::Error)]
#[error("{first}")]
struct Counted {
    counts: [u64; Reason::ALL.len()],
    first: io::Error,
}

/// How many failures there were of each kind that is none in the course of events, by what a collector says of a scrape.
pub fn failures(error: &AskError) -> impl Iterator<Item = (Reason, u64)> + use<> {
    let mut counts = [0; Reason::ALL.len()];
    if let AskError::Failed { cause, .. } = error {
        match (cause.downcast_ref::<Counted>(), cause.downcast_ref::<io::Error>()) {
            (Some(counted), _) => counts = counted.counts,
            (None, Some(cause)) => counts[reason(cause) as usize] = 1,
            (None, None) => counts[Reason::Failed as usize] = 1,
        }
    }
    let each = Reason::ALL.into_iter().zip(counts);
    each.filter(|(reason, count)| *count > 0 && !matches!(reason, Reason::Absent | Reason::Gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> ReadError {
        ReadError { path: "/proc/x".into(), cause: io::Error::from_raw_os_error(code) }
    }

    #[test]
    fn failures_are_counted_by_their_reason_however_they_are_told() {
        let counts = |error: AskError| failures(&error).collect::<Vec<_>>();
        let mut troubles = Troubles::default();
        for code in [libc::ENOENT, libc::EACCES, libc::EIO, libc::EACCES] {
            troubles.note(error(code));
        }
        let told = troubles.told().expect_err("denied");
        assert!(told.to_string().contains("/proc/x: Permission denied"), "{told}");
        assert_eq!(counts(told), [(Reason::Denied, 2), (Reason::Failed, 1)]);
        assert_eq!(counts(error(libc::EACCES).into()), [(Reason::Denied, 1)]);
        assert_eq!(counts(error(libc::ENOENT).into()), []);
        let other = AskError::Failed { what: "x".to_owned(), cause: "not understood".into() };
        assert_eq!(counts(other), [(Reason::Failed, 1)]);
    }

    #[test]
    fn failures_have_reasons() {
        for (code, reason) in [
            (libc::ENOENT, Reason::Absent),
            (libc::EOPNOTSUPP, Reason::Absent),
            (libc::ENODEV, Reason::Gone),
            (libc::ESRCH, Reason::Gone),
            (libc::EACCES, Reason::Denied),
            (libc::EPERM, Reason::Denied),
            (libc::EIO, Reason::Failed),
        ] {
            assert_eq!(error(code).reason(), reason, "{code}");
        }
        assert_eq!(ReadError::malformed(Path::new("/x"), "no number").reason(), Reason::Malformed);
    }

    #[test]
    fn what_is_absent_or_gone_is_counted_and_not_told() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.take(Ok(1)), Some(1));
        assert_eq!(troubles.take::<()>(Err(error(libc::ENOENT))), None);
        troubles.note(error(libc::ENODEV));
        assert_eq!((troubles.count(Reason::Absent), troubles.count(Reason::Gone)), (1, 1));
        troubles.note(error(libc::EIO));
        let told = troubles.told().expect_err("the input failed").to_string();
        assert!(told.starts_with("/proc/x: "), "{told}");
        assert!(Troubles::default().told().is_ok());
    }
}
