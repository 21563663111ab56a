//! Resources as kube-state-metrics shows them: under which name, and in which unit.

use crate::amount::Amount;
use crate::series::keys::sanitised;
use crate::spec::ResourceAmounts;

/// In what a resource is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Core,
    Byte,
    Integer,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Core => "core",
            Unit::Byte => "byte",
            Unit::Integer => "integer",
        }
    }

    /// That of a resource that a container may ask for; none for one that is not shown.
    pub(crate) fn of(resource: &str) -> Option<Unit> {
        match resource {
            "cpu" => Some(Unit::Core),
            "memory" | "storage" | "ephemeral-storage" => Some(Unit::Byte),
            _ if resource.starts_with("hugepages-") || resource.starts_with("attachable-volumes-") => {
                Some(Unit::Byte)
            }
            _ => is_extended(resource).then_some(Unit::Integer),
        }
    }

    /// A container's amount: cores in thousandths, all else whole.
    pub(crate) fn value(self, amount: Amount) -> f64 {
        if self == Unit::Core { amount.cores() } else { amount.whole() }
    }
}

/// Those that are shown of a container's.
pub(crate) fn shown(all: &ResourceAmounts) -> impl Iterator<Item = (String, Unit, f64)> {
    all.iter().filter_map(|(name, amount)| {
        let unit = Unit::of(name)?;
        Some((sanitised(name), unit, unit.value(amount)))
    })
}

/// One that neither Kubernetes nor a quota has made, and that a quota could name.
fn is_extended(resource: &str) -> bool {
    let Some((domain, name)) = resource.split_once('/') else { return false };
    let ours = resource.contains("kubernetes.io/") || resource.starts_with("requests.");
    !ours && is_subdomain(&format!("requests.{domain}")) && is_name(name)
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.bytes().all(inner)
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn is_name(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= 63 && ends(text.bytes().next()) && ends(text.bytes().last()) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_has_its_unit_or_is_not_shown() {
        for (resource, unit) in [
            ("cpu", Some(Unit::Core)),
            ("memory", Some(Unit::Byte)),
            ("hugepages-2Mi", Some(Unit::Byte)),
            ("attachable-volumes-csi", Some(Unit::Byte)),
            ("nvidia.com/gpu", Some(Unit::Integer)),
            ("example.com/A_b.c-9", Some(Unit::Integer)),
            ("pods", None),
            ("gpu", None),
            ("requests.nvidia.com/gpu", None),
            ("x.kubernetes.io/batch-cpu", None),
            ("Example.com/a", None),
            ("-a.com/a", None),
            ("a.com/-", None),
            ("a.com/a/b", None),
            ("/a", None),
        ] {
            assert_eq!(Unit::of(resource), unit, "{resource}");
        }
    }
}
