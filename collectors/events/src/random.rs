//! A little chance, so that thousands do not do the same at once.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

/// Any number. The standard library's hasher is keyed at random.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Between 0 and 1.
pub(crate) fn fraction() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}
