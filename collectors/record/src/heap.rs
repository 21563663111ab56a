//! The program's heap. What took much of it for a moment says so, and the program gives back what is free.

use std::sync::OnceLock;

static RELEASE: OnceLock<fn()> = OnceLock::new();

/// How this program gives back what is free on its heap. The first that is said counts.
pub fn released_by(release: fn()) {
    let _ = RELEASE.set(release);
}

/// Much was taken for a moment, by a thread that has ended: its memory goes back to the system, if the program knows how.
pub fn release() {
    if let Some(release) = RELEASE.get() {
        release();
    }
}
