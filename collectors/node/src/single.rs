//! Files that hold one number each.

use taffrail_kernfs::parse::only;
use taffrail_kernfs::{Kept, Page, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::families::{ended, put, said};

/// A file, and the family of the number in it.
pub(crate) type Single = (&'static Family, Kept);

/// Writes what the files say; those that are not there are left out.
pub(crate) fn write_all(
    files: &mut [Single],
    page: &mut Page,
    samples: &mut dyn Samples,
) -> Result<(), AskError> {
    let mut troubles = Troubles::default();
    let mut found = false;
    for (family, file) in files.iter_mut() {
        let value = file.read_once(page).map(only).and_then(|value| said(value, file.path(), "not a number"));
        if let Some(value) = troubles.take(value) {
            put(samples, family, value as f64);
            found = true;
        }
    }
    let path = files.first().map_or(std::path::Path::new(""), |(_, file)| file.path());
    ended(troubles, found, path)
}
