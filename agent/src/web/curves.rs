//! Groups of the key exchange under the names that Go gives them.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::kx_group;

use super::file::{Wrong, wrong};
use crate::config::nearest;

/// Each name with the group; those without are known and not offered.
const CURVES: [(&str, Option<&'static dyn SupportedKxGroup>); 5] = [
    ("X25519", Some(kx_group::X25519)),
    ("CurveP256", Some(kx_group::SECP256R1)),
    ("CurveP384", Some(kx_group::SECP384R1)),
    ("CurveP521", None),
    ("X25519MLKEM768", None),
];

/// The groups of these names in their order, all of them when there are none.
pub(super) fn chosen(key: &str, names: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>, Wrong> {
    if names.is_empty() {
        return Ok(rustls::crypto::ring::default_provider().kx_groups);
    }
    let mut groups = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let found = CURVES.iter().find(|(known, _)| known == name);
        let (_, group) = found.ok_or_else(|| unknown(format!("{key}[{index}]"), name))?;
        groups.extend(*group);
    }
    if groups.is_empty() {
        return Err(wrong(key, "none of these is offered; name X25519, CurveP256 or CurveP384 too"));
    }
    Ok(groups)
}

fn unknown(key: String, name: &str) -> Wrong {
    let known = nearest(name, CURVES.iter().map(|(known, _)| *known));
    let hint = known
        .map_or("name X25519, CurveP256 or CurveP384".to_owned(), |near| format!("did you mean `{near}`?"));
    wrong(key, format!("`{name}` is no curve; {hint}"))
}
