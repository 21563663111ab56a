//! What the user may choose about the audit of containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use globset::{Glob, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recording::RecordingConfig;
use crate::request::RequestsConfig;
use crate::session::{Origin, Whose};
use crate::status::Tier;

/// Who comes into containers, and what they do there: whether that is audited, and how much of it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Whether sessions in containers are audited. It takes root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE.
    pub enabled: bool,
    /// By what it is to be known who comes in: `auto` (default: the first of these that is permitted), `probe`, `audit` (the kernel's
    /// audit, which knows every program's arguments, and the process connector; it takes CAP_AUDIT_CONTROL, CAP_AUDIT_READ and what the
    /// next one takes), `connector` (the process connector and /proc: CAP_NET_ADMIN and CAP_SYS_PTRACE, and knows only who lives long
    /// enough to be looked at) or `runtime` (the events of the Docker engine and of containerd: their sockets, and nothing of the kernel; it
    /// knows what they were asked to begin, and nothing that comes of it).
    pub tier: TierChoice,
    /// Whether every program that is begun on the machine is written down, not only those of sessions.
    pub whole_node: bool,
    /// Whether files are written down that a session opens to write, with their paths as the kernel has resolved them. It takes the
    /// probe, which then looks at every system call of the machine.
    pub files: bool,
    /// Whether it is written down whom a session connects to, by TCP, UDP and local sockets. The same.
    pub connections: bool,
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
    /// How what is typed and shown is recorded, where a policy says `record: full`. It takes the probe.
    pub recording: RecordingConfig,
    /// How many sessions that have ended the agent remembers for `taffrail sessions`.
    pub remembered: usize,
    /// At whose request sessions of pods come about: who tells that.
    pub requests: RequestsConfig,
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
    /// How sessions came about: `exec`, `probe`, `hook`, `debug`, `out-of-band`. Not given: any.
    pub origins: Vec<Origin>,
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
    /// The kernel's audit, and the process connector.
    Audit,
    /// The process connector.
    Connector,
    /// The events of the Docker engine.
    Runtime,
}

impl TierChoice {
    /// What is tried, the best first.
    #[must_use]
    pub fn tiers(self) -> &'static [Tier] {
        match self {
            TierChoice::Auto => &[Tier::Probe, Tier::Audit, Tier::Connector, Tier::Runtime],
            TierChoice::Probe => &[Tier::Probe],
            TierChoice::Audit => &[Tier::Audit],
            TierChoice::Connector => &[Tier::Connector],
            TierChoice::Runtime => &[Tier::Runtime],
        }
    }
}

/// What is written down of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recording {
    /// Nothing.
    Off,
    /// Its beginning, its processes and its end.
    #[default]
    Commands,
    /// These, and what is typed and shown.
    Full,
}

impl Recording {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Recording::Off => "off",
            Recording::Commands => "commands",
            Recording::Full => "full",
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
            files: false,
            connections: false,
            environment: Vec::new(),
            policies: Vec::new(),
            ring_bytes: 4 << 20,
            rate: 5000,
            burst: 20_000,
            spool_bytes: 256 << 20,
            pinned: true,
            bpffs: "/sys/fs/bpf".into(),
            recording: RecordingConfig::default(),
            remembered: 1000,
            requests: RequestsConfig::default(),
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
        self.spool_bytes
    }

    /// Whether any policy asks for recordings.
    #[must_use]
    pub fn records(&self) -> bool {
        self.policies.iter().any(|policy| policy.record == Recording::Full)
    }

    /// Whether any asks for those of containers that are added to a pod to look into that.
    pub(crate) fn records_debug(&self) -> bool {
        let is_for = |policy: &Policy| policy.origins.is_empty() || policy.origins.contains(&Origin::Debug);
        self.policies.iter().any(|policy| policy.record == Recording::Full && is_for(policy))
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
        let ring = self.recording.ring_bytes;
        if !ring.is_power_of_two() || !RING.contains(&ring) {
            let problem = format!("{ring} is no power of two from 65536 to 1073741824");
            return invalid("recording.ring_bytes".to_owned(), problem);
        }
        let by_probe = [
            (self.records(), "policies", "what is typed and shown (`record: full`)"),
            (self.files, "files", "the files that are opened"),
            (self.connections, "connections", "the connections"),
        ];
        let is_probe = self.tier.tiers().contains(&Tier::Probe);
        if let Some((_, key, what)) = by_probe.into_iter().find(|(is_wanted, ..)| *is_wanted && !is_probe) {
            let problem = format!("only the probe knows {what}; that takes audit.tier auto or probe");
            return invalid(key.to_owned(), problem);
        }
        if self.spool_bytes < LEAST_SPOOL {
            let problem = format!("{} is less than {LEAST_SPOOL} (4 MiB)", self.spool_bytes);
            return invalid("spool_bytes".to_owned(), problem);
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
        self.requests.validate()
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
pub struct Policies(Vec<Compiled>);

#[derive(Debug, Clone)]
struct Compiled {
    namespaces: Vec<GlobMatcher>,
    labels: Vec<(String, GlobMatcher)>,
    containers: Vec<GlobMatcher>,
    origins: Vec<Origin>,
    record: Recording,
}

impl Policies {
    /// Patterns that are none fit nothing; [`AuditConfig::validate`] has refused them.
    #[must_use]
    pub fn new(policies: &[Policy]) -> Policies {
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
                    origins: policy.origins.clone(),
                    record: policy.record,
                })
                .collect(),
        )
    }

    /// What is written down of a session that came about so in this container.
    pub(crate) fn decide(&self, whose: &Whose, origin: Origin) -> Recording {
        let policy = self.0.iter().find(|policy| policy.fits(whose) && policy.is_for(origin));
        policy.map_or_else(Recording::default, |policy| policy.record)
    }

    /// The most that may be written down of a session that came about so in a container of which not all is known yet; and whether
    /// that is so whatever more becomes known.
    pub(crate) fn most(&self, whose: &Whose, origin: Origin) -> (Recording, bool) {
        let mut most = None;
        for policy in self.0.iter().filter(|policy| policy.is_for(origin) && policy.may_fit(whose)) {
            let is_first = most.is_none();
            most = most.max(Some(policy.record));
            if policy.fits(whose) {
                return (most.unwrap_or_default(), is_first);
            }
        }
        (most.unwrap_or_default().max(Recording::default()), most.is_none())
    }

    /// Whether any session in this container may be recorded; `is_whole` says whether all is known of it.
    pub(crate) fn may_record(&self, whose: &Whose, is_whole: bool) -> bool {
        let fits = |policy: &Compiled| policy.fits(whose) || (!is_whole && policy.may_fit(whose));
        self.0.iter().any(|policy| policy.record == Recording::Full && fits(policy))
    }

    /// Places in the list of those that fit a container, however somebody comes into it.
    pub fn fitting(&self, whose: &Whose) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, policy)| policy.fits(whose)).map(|(number, _)| number)
    }
}

impl Compiled {
    fn fits(&self, whose: &Whose) -> bool {
        let any = |patterns: &[GlobMatcher], name: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(name))
        };
        let has = |(key, pattern): &(String, GlobMatcher)| {
            whose.labels.get(key).is_some_and(|value| pattern.is_match(value))
        };
        any(&self.namespaces, &whose.namespace)
            && any(&self.containers, &whose.container)
            && self.labels.iter().all(has)
    }

    /// Whether it fits, or may as soon as more is known.
    fn may_fit(&self, whose: &Whose) -> bool {
        let any = |patterns: &[GlobMatcher], name: &str| {
            name.is_empty() || patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(name))
        };
        let has = |(key, pattern): &(String, GlobMatcher)| {
            whose.labels.get(key).is_none_or(|value| pattern.is_match(value))
        };
        any(&self.namespaces, &whose.namespace)
            && any(&self.containers, &whose.container)
            && self.labels.iter().all(has)
    }

    fn is_for(&self, origin: Origin) -> bool {
        self.origins.is_empty() || self.origins.contains(&origin)
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
            policies.decide(&Whose { namespace, container, labels, ..Whose::default() }, Origin::Exec)
        };
        assert_eq!(decide("shop-1", "testing", "app"), Recording::Off);
        assert_eq!(decide("shop-1", "live", "app"), Recording::Commands);
        assert_eq!(decide("shop-1", "live", "istio-proxy"), Recording::Off);
        assert_eq!(decide("kube-system", "", "app"), Recording::Off);
        assert_eq!(decide("", "", "app"), Recording::Commands, "in no pod");
        assert_eq!(Policies::default().decide(&Whose::default(), Origin::Probe), Recording::Commands);
        let probes = Policies::new(&[policy(r#"{"origins":["probe","out-of-band"],"record":"off"}"#)]);
        let of = |origin| probes.decide(&Whose::default(), origin);
        assert_eq!([of(Origin::Probe), of(Origin::OutOfBand)], [Recording::Off; 2]);
        assert_eq!([of(Origin::Exec), of(Origin::Debug)], [Recording::Commands; 2]);
        let vault =
            Policies::new(&[policy(r#"{"containers":["vault"],"origins":["exec"],"record":"full"}"#)]);
        let in_ = |container: &str| Whose { container: container.to_owned(), ..Whose::default() };
        assert!(vault.may_record(&in_("vault"), true) && !vault.may_record(&in_("app"), true));
        assert!(vault.may_record(&in_(""), false) && !vault.may_record(&in_(""), true));
    }

    #[test]
    fn while_not_all_is_known_of_a_container_the_most_is_supposed_that_may_be() {
        let policies = Policies::new(&[
            policy(r#"{"containers":["dull"],"record":"off"}"#),
            policy(r#"{"containers":["vault"],"labels":{"tier":"live"},"record":"full"}"#),
            policy(r#"{"origins":["exec"],"record":"off"}"#),
        ]);
        let most = |container: &str, labels: &[(&str, &str)], origin| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            policies.most(&Whose { container: container.to_owned(), labels, ..Whose::default() }, origin)
        };
        assert_eq!(most("", &[], Origin::Exec), (Recording::Full, false));
        assert_eq!(most("", &[], Origin::Debug), (Recording::Full, false));
        assert_eq!(most("dull", &[], Origin::Exec), (Recording::Off, true));
        assert_eq!(most("vault", &[], Origin::Exec), (Recording::Full, false));
        assert_eq!(most("vault", &[("tier", "live")], Origin::Exec), (Recording::Full, true));
        assert_eq!(most("vault", &[("tier", "test")], Origin::Exec), (Recording::Off, true));
        assert_eq!(most("app", &[], Origin::Exec), (Recording::Off, true));
        assert_eq!(most("app", &[], Origin::Debug), (Recording::Commands, true), "none is for it");
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
            refused(&|config| config.recording.ring_bytes = 3).as_deref(),
            Some("recording.ring_bytes")
        );
        let by_connector = |config: &mut AuditConfig| {
            config.policies = vec![policy(r#"{"record":"full"}"#)];
            config.tier = TierChoice::Connector;
        };
        let files_by_audit = |config: &mut AuditConfig| {
            (config.files, config.tier) = (true, TierChoice::Audit);
        };
        assert_eq!(refused(&files_by_audit).as_deref(), Some("files"));
        assert_eq!(refused(&by_connector).as_deref(), Some("policies"));
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
