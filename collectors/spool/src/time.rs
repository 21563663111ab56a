//! Times of documents: nanoseconds since the Unix epoch, and how they are written in JSON.

/// This moment, in nanoseconds since the Unix epoch, by this node's clock.
#[must_use]
pub fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Nanoseconds since the Unix epoch as RFC 3339 in UTC.
#[must_use]
pub fn stamp(time: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
    format!("{time:.9}")
}
