//! What the user may choose about events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Events of the cluster: whether, which, and how much disk they may take while nobody takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Whether this agent is a candidate: one of all agents of a cluster watches its events. `auto` (default: when
    /// `elasticsearch` is set and there is an API server), `always` (without `elasticsearch` they go to `output`) or `never`.
    pub enabled: Enabled,
    /// With `elasticsearch`: send a copy of each event to `output`, too (Kafka's `events_topic`, or `events-*.ndjson`). While one
    /// of the two is away both wait: an event leaves this node's disk when both have it.
    pub copy_to_output: bool,
    /// Namespaces of the objects that events are about. Objects that are in none, such as nodes, have the empty name here.
    pub namespaces: Choice,
    /// Kinds of the objects that events are about: `Pod`, `Node`.
    pub kinds: Choice,
    /// Reasons: `BackOff`, `Failed*`.
    pub reasons: Choice,
    /// Types: `Normal`, `Warning`.
    pub types: Choice,
    /// How many bytes of events may lie on this node's disk, in the state directory, until they are stored. When as many do,
    /// watching pauses, and goes on where it was. At least 4 MiB.
    pub spool_bytes: u64,
    /// The Lease by which agents agree who watches. `-standby-1` to `-standby-4` behind it name those of the candidates that
    /// stand by.
    pub lease: String,
    /// Namespace of the Lease. Default: that of this pod's service account, else `default`.
    pub lease_namespace: Option<String>,
    /// Whether the controller of a pod is asked for, to be named in the events of the pod.
    pub owners: bool,
    /// How many events the agent that watches remembers for `taffrail events`.
    pub remembered: usize,
}

/// Whether an agent is a candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enabled {
    /// When there is a search engine to store them in, and an API server to have them from.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Not at all.
    Never,
}

/// Which of many: patterns with `*` for any text; capitals do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// Only these; everything when empty.
    pub include: Vec<String>,
    /// Not these, even if included.
    pub exclude: Vec<String>,
}

/// How many agents look closely whether the one that watches still does.
pub(crate) const STANDBY_PLACES: u32 = 4;

/// The Lease of a place to stand by.
pub(crate) fn standby_place(lease: &str, number: u32) -> String {
    format!("{lease}-standby-{number}")
}

/// Room for a few events of a usual size, at least.
const LEAST_SPOOL: u64 = 4 << 20;

/// What kubelet mounts into every pod that has a service account.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

impl Default for EventsConfig {
    fn default() -> Self {
        EventsConfig {
            enabled: Enabled::Auto,
            copy_to_output: false,
            namespaces: Choice::default(),
            kinds: Choice::default(),
            reasons: Choice::default(),
            types: Choice::default(),
            spool_bytes: 512 << 20,
            lease: "taffrail-events".to_owned(),
            lease_namespace: None,
            owners: true,
            remembered: 2000,
        }
    }
}

impl EventsConfig {
    /// The bound of the spool.
    #[must_use]
    pub fn spool_limit(&self) -> u64 {
        self.spool_bytes.max(LEAST_SPOOL)
    }

    /// The names of all Leases by which agents agree: that of who watches, and those of the places to stand by.
    pub fn leases(&self) -> impl Iterator<Item = String> {
        let places = (1..=STANDBY_PLACES).map(|number| standby_place(&self.lease, number));
        std::iter::once(self.lease.clone()).chain(places)
    }

    /// Where the Lease is.
    #[must_use]
    pub fn namespace(&self) -> String {
        let own = || std::fs::read_to_string(OWN_NAMESPACE).ok().map(|text| text.trim().to_owned());
        let named = self.lease_namespace.clone().or_else(own);
        named.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
    }
}

impl Choice {
    /// Whether a name is chosen.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let fits = |pattern: &String| fits(pattern.as_bytes(), name.as_bytes());
        (self.include.is_empty() || self.include.iter().any(fits)) && !self.exclude.iter().any(fits)
    }
}

/// Goes back to the last `*` only: linear in what people write, quadratic at worst.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, of));
            at += 1;
        } else if pattern.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&name[of])) {
            at += 1;
            of += 1;
        } else if let Some((starred, taken)) = star {
            star = Some((starred, taken + 1));
            at = starred + 1;
            of = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, expected) in [
            ("Failed*", "FailedMount", true),
            ("Failed*", "Failed", true),
            ("Failed*", "BackOff", false),
            ("warning", "Warning", true),
            ("*Off", "BackOff", true),
            ("*a*b", "xaabxb", true),
            ("*a*b", "xaabx", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("Pod", "Pods", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} of {name}");
        }
    }

    #[test]
    fn what_is_excluded_is_not_taken_even_if_included() {
        let choice = |include: &[&str], exclude: &[&str]| Choice {
            include: include.iter().map(ToString::to_string).collect(),
            exclude: exclude.iter().map(ToString::to_string).collect(),
        };
        assert!(choice(&[], &[]).takes("shop"));
        assert!(choice(&["shop-*"], &[]).takes("shop-1"));
        assert!(!choice(&["shop-*"], &[]).takes("kube-system"));
        assert!(!choice(&["shop-*"], &["shop-test"]).takes("shop-test"));
        assert!(!choice(&[], &["kube-*"]).takes("kube-system"));
        assert!(!choice(&["shop"], &[]).takes(""), "objects in no namespace");
    }

    #[test]
    fn nothing_need_be_said_and_unknown_keys_are_refused() {
        assert_eq!(serde_json::from_str::<EventsConfig>("{}").expect("valid"), EventsConfig::default());
        assert!(serde_json::from_str::<EventsConfig>(r#"{"spool":1}"#).is_err());
        let tiny = EventsConfig { spool_bytes: 1, ..EventsConfig::default() };
        assert_eq!(tiny.spool_limit(), LEAST_SPOOL);
    }
}
