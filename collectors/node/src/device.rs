//! Which devices are shown.

use taffrail_record::Labels;

use crate::DeviceFilter;

impl DeviceFilter {
    /// Whether a device of this name is shown.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        self.include.matches(name).unwrap_or(true) && !self.exclude.matches(name).unwrap_or(false)
    }

    /// `device="name"` for one that is shown.
    pub(crate) fn labels(&self, name: &str) -> Option<Labels> {
        self.shows(name).then(|| device(name))
    }
}

/// `device="name"`.
pub(crate) fn device(name: &str) -> Labels {
    Labels::new([("device", name)])
}

/// As a part of a metric's name: what may not be in one becomes an underscore.
pub(crate) fn valid(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}
