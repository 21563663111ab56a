//! What the user may choose about the audit of containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use globset::{Glob, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::session::Whose;

/// Who comes into containers, and what they do there: whether that is audited, and how much of it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Whether sessions in containers are audited. It takes root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE.
    pub enabled: bool,
    /// By what it is to be known who comes in: `auto` (default: the probe, and what is next best where the kernel refuses it), `probe`
    /// or `connector` (the process connector and /proc: it takes CAP_NET_ADMIN, and knows only who lives long enough to be looked at).
    pub tier: TierChoice,
    /// Whether every program that is begun on the machine is written down, not only those of sessions.
    pub whole_node: bool,
    /// Names of environment variables that are written down with each program. No other ones are.
    pub environment: Vec<String>,
    /// How much is written down of which sessions: the first entry that fits decides. `commands` where none does.
    pub policies: Vec<Policy>,
    /// Bytes of memory in the kernel for what was not read yet: a power of two, at least 64 KiB. What does not fit is lost, and
    /// counted in the session that it is of.
    pub ring_bytes: u32,
    /// How many records of one container are taken in a second; further ones are counted.
    pub rate: u32,
    /// And how many at once.
    pub burst: u32,
    /// How many bytes of documents may lie on this node's disk, in the state directory, until they are delivered. When as many
    /// do, they wait in the kernel. At least 4 MiB.
    pub spool_bytes: u64,
    /// Whether the probes stay in the kernel while the agent is away, so that nothing is missed.
    pub pinned: bool,
    /// The folder of bpffs that they are pinned in.
    pub bpffs: PathBuf,
    /// How many sessions that have ended the agent remembers for `taffrail sessions`.
    pub remembered: usize,
}

/// How much is written down of some sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Namespaces of pods, with `*` for any text; those of no pod are in none. Not given: any.
    pub namespaces: Vec<String>,
    /// Labels that the pod has, each with this value, with `*` for any text.
    pub labels: BTreeMap<String, String>,
    /// Names of containers, with `*` for any text. Not given: any.
    pub containers: Vec<String>,
    /// What is written down.
    pub record: Recording,
}

/// By what it is to be known who comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TierChoice {
    /// The best that the kernel permits.
    #[default]
    Auto,
    /// The probe, or nothing.
    Probe,
    /// The process connector.
    Connector,
}

/// What is written down of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recording {
    /// Nothing.
    Off,
    /// Its beginning, its processes and its end.
    #[default]
    Commands,
}

impl Recording {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Recording::Off => "off",
            Recording::Commands => "commands",
        }
    }
}

const LEAST_SPOOL: u64 = 4 << 20;
/// The least and the most that the kernel's ring may have.
const RING: std::ops::RangeInclusive<u32> = 64 << 10..=1 << 30;

impl Default for AuditConfig {
    fn default() -> Self {
        AuditConfig {
            enabled: false,
            tier: TierChoice::Auto,
            whole_node: false,
            environment: Vec::new(),
            policies: Vec::new(),
            ring_bytes: 4 << 20,
            rate: 5000,
            burst: 20_000,
            spool_bytes: 256 << 20,
            pinned: true,
            bpffs: "/sys/fs/bpf".into(),
            remembered: 1000,
        }
    }
}

/// A value that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Where, below this section: `policies.0.namespaces.1`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl AuditConfig {
    /// The bound of the spool.
    #[must_use]
    pub fn spool_limit(&self) -> u64 {
        self.spool_bytes.max(LEAST_SPOOL)
    }

    /// Whether it can be done.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid = |key: String, problem: String| Err(Invalid { key, problem });
        if !self.ring_bytes.is_power_of_two() || !RING.contains(&self.ring_bytes) {
            let problem = format!("{} is no power of two from 65536 to 1073741824", self.ring_bytes);
            return invalid("ring_bytes".to_owned(), problem);
        }
        if self.rate == 0 || self.burst == 0 {
            let key = if self.rate == 0 { "rate" } else { "burst" };
            return invalid(key.to_owned(), "0 would let nothing be told".to_owned());
        }
        for (number, policy) in self.policies.iter().enumerate() {
            for (key, pattern) in policy.patterns() {
                if let Err(error) = Glob::new(pattern) {
                    let problem = format!("{pattern:?} is no pattern: {}", error.kind());
                    return invalid(format!("policies.{number}.{key}"), problem);
                }
            }
        }
        Ok(())
    }
}

impl Policy {
    fn patterns(&self) -> impl Iterator<Item = (String, &String)> {
        let of = |name: &'static str, list: &'_ [String]| -> Vec<String> {
            (0..list.len()).map(|index| format!("{name}.{index}")).collect()
        };
        let namespaces = of("namespaces", &self.namespaces).into_iter().zip(&self.namespaces);
        let containers = of("containers", &self.containers).into_iter().zip(&self.containers);
        let labels = self.labels.iter().map(|(key, value)| (format!("labels.{key}"), value));
        namespaces.chain(containers).chain(labels)
    }
}

/// Policies, ready to be asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies(Vec<Compiled>);

#[derive(Debug, Clone)]
struct Compiled {
    namespaces: Vec<GlobMatcher>,
    labels: Vec<(String, GlobMatcher)>,
    containers: Vec<GlobMatcher>,
    record: Recording,
}

impl Policies {
    /// Patterns that are none fit nothing; [`AuditConfig::validate`] has refused them.
    pub(crate) fn new(policies: &[Policy]) -> Policies {
        let matcher = |pattern: &String| Glob::new(pattern).ok().map(|glob| glob.compile_matcher());
        let all = |patterns: &[String]| patterns.iter().filter_map(matcher).collect();
        Policies(
            policies
                .iter()
                .map(|policy| Compiled {
                    namespaces: all(&policy.namespaces),
                    labels: policy
                        .labels
                        .iter()
                        .filter_map(|(key, value)| Some((key.clone(), matcher(value)?)))
                        .collect(),
                    containers: all(&policy.containers),
                    record: policy.record,
                })
                .collect(),
        )
    }

    /// What is written down of sessions in a container.
    pub(crate) fn decide(&self, whose: &Whose) -> Recording {
        let fits = |patterns: &[GlobMatcher], name: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(name))
        };
        let labelled = |labels: &[(String, GlobMatcher)]| {
            labels
                .iter()
                .all(|(key, pattern)| whose.labels.get(key).is_some_and(|value| pattern.is_match(value)))
        };
        let policy = self.0.iter().find(|policy| {
            fits(&policy.namespaces, &whose.namespace)
                && fits(&policy.containers, &whose.container)
                && labelled(&policy.labels)
        });
        policy.map_or_else(Recording::default, |policy| policy.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        serde_json::from_str(text).expect("a policy")
    }

    #[test]
    fn the_first_policy_that_fits_decides() {
        let policies = Policies::new(&[
            policy(r#"{"namespaces":["shop-*"],"labels":{"tier":"test*"},"record":"off"}"#),
            policy(r#"{"containers":["istio-proxy"],"record":"off"}"#),
            policy(r#"{"namespaces":["kube-system"],"record":"off"}"#),
        ]);
        let decide = |namespace: &str, tier: &str, container: &str| {
            let labels = [("tier".to_owned(), tier.to_owned())].into();
            let (namespace, container) = (namespace.to_owned(), container.to_owned());
            policies.decide(&Whose { namespace, container, labels, ..Whose::default() })
        };
        assert_eq!(decide("shop-1", "testing", "app"), Recording::Off);
        assert_eq!(decide("shop-1", "live", "app"), Recording::Commands);
        assert_eq!(decide("shop-1", "live", "istio-proxy"), Recording::Off);
        assert_eq!(decide("kube-system", "", "app"), Recording::Off);
        assert_eq!(decide("", "", "app"), Recording::Commands, "in no pod");
        assert_eq!(Policies::default().decide(&Whose::default()), Recording::Commands);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let refused = |change: &dyn Fn(&mut AuditConfig)| {
            let mut config = AuditConfig::default();
            change(&mut config);
            config.validate().err().map(|invalid| invalid.key)
        };
        assert_eq!(refused(&|_| {}), None);
        assert_eq!(refused(&|config| config.ring_bytes = 100_000).as_deref(), Some("ring_bytes"));
        assert_eq!(refused(&|config| config.rate = 0).as_deref(), Some("rate"));
        assert_eq!(
            refused(&|config| config.policies = vec![policy(r#"{"namespaces":["a","[b"]}"#)]).as_deref(),
            Some("policies.0.namespaces.1")
        );
    }

    #[test]
    fn nothing_need_be_said_and_unknown_keys_are_refused() {
        assert_eq!(serde_json::from_str::<AuditConfig>("{}").expect("valid"), AuditConfig::default());
        assert!(serde_json::from_str::<AuditConfig>(r#"{"spool":1}"#).is_err());
        assert!(serde_json::from_str::<AuditConfig>(r#"{"policies":[{"record":"some"}]}"#).is_err());
    }
}
