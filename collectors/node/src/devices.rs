//! What is kept per entry of a folder in `/sys`, as entries come and go.

use std::path::{Path, PathBuf};

use taffrail_kernfs::parse::signed;
use taffrail_kernfs::{Kept, Page, ReadError, Reason, Troubles};

use crate::families::said;
use crate::sources::names;

/// The entries of a folder that are shown, in the order of their names and numbers.
pub(crate) struct Devices<T> {
    folder: PathBuf,
    kept: Vec<(String, Option<T>)>,
}

impl<T> Devices<T> {
    /// Those in `folder`, listed when they are first asked for.
    pub(crate) fn new(folder: PathBuf) -> Devices<T> {
        Devices { folder, kept: Vec::new() }
    }

    /// Those that are there now. `make` is given the name and the path of what is not shown yet, and says
    /// nothing when it is not to be shown.
    pub(crate) fn now(
        &mut self,
        mut make: impl FnMut(&str, &Path) -> Option<T>,
    ) -> Result<impl Iterator<Item = &mut T>, ReadError> {
        let names = names(&self.folder)?;
        if !names.iter().eq(self.kept.iter().map(|(name, _)| name)) {
            let mut before = std::mem::take(&mut self.kept);
            let known = |name: String| match before.iter().position(|(known, _)| *known == name) {
                Some(at) => before.swap_remove(at),
                None => (name, None),
            };
            self.kept = names.into_iter().map(known).collect();
        }
        // What is not shown may be later: a driver comes, a file can be read.
        for (name, entry) in self.kept.iter_mut().filter(|(_, entry)| entry.is_none()) {
            *entry = make(name, &self.folder.join(&*name));
        }
        Ok(self.kept.iter_mut().filter_map(|(_, entry)| entry.as_mut()))
    }
}

/// The number in an attribute. Nothing when the device does not have it, cannot tell it now, or went away.
pub(crate) fn attribute(file: &mut Kept, page: &mut Page, troubles: &mut Troubles) -> Option<i64> {
    let value = match file.read_once(page) {
        Err(error) if is_quiet(&error) => return None,
        read => read.map(|text| signed(text.trim_ascii())),
    };
    troubles.take(value.and_then(|value| said(value, file.path(), "not a number")))
}

/// Whether a device merely does not tell: drivers answer so for what is off or what they do not know.
pub(crate) fn is_quiet(error: &ReadError) -> bool {
    let code = error.cause.raw_os_error();
    error.is_expected()
        || error.reason() == Reason::Denied
        || matches!(code, Some(libc::EINVAL | libc::ENODATA | libc::EAGAIN | libc::EBUSY))
}
