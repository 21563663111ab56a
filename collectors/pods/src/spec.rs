//! What was asked for: a pod's `spec` as far as it is used.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::amount::Amount;
use crate::text::{Text, TextMap, or_none};

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// The node it is bound to; empty before it is scheduled.
    #[serde(deserialize_with = "or_none")]
    pub node_name: Text,
    /// Whether it has the node's network for its own.
    #[serde(deserialize_with = "or_none")]
    pub host_network: bool,
    /// Class of its priority.
    #[serde(deserialize_with = "or_none")]
    pub priority_class_name: Text,
    /// Its service account.
    #[serde(deserialize_with = "or_none")]
    pub service_account_name: Text,
    /// Who schedules it.
    #[serde(deserialize_with = "or_none")]
    pub scheduler_name: Text,
    /// `Always`, `OnFailure` or `Never`.
    #[serde(deserialize_with = "or_none")]
    pub restart_policy: Text,
    /// Class of the runtime, when one is named.
    pub runtime_class_name: Option<Text>,
    /// What the runtime class costs beyond the containers.
    #[serde(deserialize_with = "or_none")]
    pub overhead: ResourceAmounts,
    /// Labels that its node must have.
    #[serde(deserialize_with = "or_none")]
    pub node_selector: TextMap,
    /// Taints that it bears.
    #[serde(deserialize_with = "or_none")]
    pub tolerations: Box<[Toleration]>,
    /// Those volumes that are claims.
    #[serde(deserialize_with = "claims")]
    pub volumes: Box<[Volume]>,
    /// Containers.
    #[serde(deserialize_with = "or_none")]
    pub containers: Box<[ContainerSpec]>,
    /// Containers that run before the others, or beside them when their restart policy is `Always`.
    #[serde(deserialize_with = "or_none")]
    pub init_containers: Box<[ContainerSpec]>,
    /// Containers that were added to the running pod, to look into it.
    #[serde(deserialize_with = "or_none")]
    pub ephemeral_containers: Box<[ContainerSpec]>,
    /// Devices that it claims.
    #[serde(deserialize_with = "or_none")]
    pub resource_claims: Box<[PodResourceClaim]>,
}

/// One container as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub struct ContainerSpec {
    /// Its name, unique in the pod.
    pub name: Text,
    /// Image reference.
    pub image: Text,
    /// What it asks for and may use.
    pub resources: Resources,
    /// `Always` marks an init container that stays beside the others.
    pub restart_policy: Option<Text>,
    /// The commands that kubelet runs in it again and again, as it runs them: its probes, each word by word.
    pub probes: Box<[Command]>,
    /// Those that it runs after its beginning and before its end: its lifecycle hooks.
    pub hooks: Box<[Command]>,
}

/// A command's words, the program first.
pub type Command = Box<[Text]>;

/// A container as it is written.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    #[serde(deserialize_with = "or_none")]
    name: Text,
    #[serde(deserialize_with = "or_none")]
    image: Text,
    #[serde(deserialize_with = "or_none")]
    resources: Resources,
    restart_policy: Option<Text>,
    #[serde(deserialize_with = "or_none")]
    env: Vec<Variable>,
    #[serde(deserialize_with = "or_none")]
    startup_probe: Handler,
    #[serde(deserialize_with = "or_none")]
    readiness_probe: Handler,
    #[serde(deserialize_with = "or_none")]
    liveness_probe: Handler,
    #[serde(deserialize_with = "or_none")]
    lifecycle: Lifecycle,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Variable {
    #[serde(deserialize_with = "or_none")]
    name: String,
    #[serde(deserialize_with = "or_none")]
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Handler {
    #[serde(deserialize_with = "or_none")]
    exec: Exec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Exec {
    #[serde(deserialize_with = "or_none")]
    command: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Lifecycle {
    #[serde(deserialize_with = "or_none")]
    post_start: Handler,
    #[serde(deserialize_with = "or_none")]
    pre_stop: Handler,
}

impl From<Written> for ContainerSpec {
    fn from(written: Written) -> Self {
        let commands = |handlers: &[Handler], make: &dyn Fn(&str) -> Text| {
            let commands = handlers.iter().map(|handler| &handler.exec.command);
            let asked = commands.filter(|command| !command.is_empty());
            asked.map(|command| command.iter().map(|word| make(word)).collect()).collect()
        };
        let probes = [written.startup_probe, written.readiness_probe, written.liveness_probe];
        let hooks = [written.lifecycle.post_start, written.lifecycle.pre_stop];
        ContainerSpec {
            // Kubelet puts variables into the commands of probes, and not into those of hooks.
            probes: commands(&probes, &|word| expanded(word, &written.env).as_str().into()),
            hooks: commands(&hooks, &|word| word.into()),
            name: written.name,
            image: written.image,
            resources: written.resources,
            restart_policy: written.restart_policy,
        }
    }
}

/// A word with the values of variables in the place of `$(NAME)`, and `$` in that of `$$`. What is no variable of the container stays
/// as it is; one whose value comes from elsewhere is empty to kubelet.
fn expanded(word: &str, variables: &[Variable]) -> String {
    let (mut made, mut rest) = (String::new(), word);
    while let Some((before, from)) = rest.split_once('$') {
        made.push_str(before);
        let named = from.strip_prefix('(').and_then(|name| name.split_once(')'));
        let known = named.and_then(|(name, behind)| {
            Some((variables.iter().rfind(|variable| variable.name == name)?, behind))
        });
        rest = match (known, named) {
            (Some((variable, behind)), _) => {
                made.push_str(&variable.value);
                behind
            }
            (None, Some((name, behind))) => {
                made.extend(["$(", name, ")"]);
                behind
            }
            (None, None) => {
                made.push('$');
                from.strip_prefix('$').unwrap_or(from)
            }
        };
    }
    made + rest
}

/// What a container asks for and may use.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Asked for.
    #[serde(deserialize_with = "or_none")]
    pub requests: ResourceAmounts,
    /// At most.
    #[serde(deserialize_with = "or_none")]
    pub limits: ResourceAmounts,
}

/// Amounts by resource, sorted by its name. One that is no amount is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceAmounts(Box<[(Text, Amount)]>);

impl ResourceAmounts {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.0.iter().map(|(name, amount)| (&**name, *amount))
    }

    /// That of one resource.
    #[must_use]
    pub fn get(&self, resource: &str) -> Option<Amount> {
        self.iter().find(|(name, _)| *name == resource).map(|(_, amount)| amount)
    }
}

impl<'de> Deserialize<'de> for ResourceAmounts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Amounts;
        impl<'de> Visitor<'de> for Amounts {
            type Value = ResourceAmounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of amounts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResourceAmounts, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text, serde_json::Value>()? {
                    all.extend(serde_json::from_value(value).ok().map(|amount| (name, amount)));
                }
                all.sort_by(|a: &(Text, Amount), b| a.0.cmp(&b.0));
                Ok(ResourceAmounts(all.into()))
            }
        }
        from.deserialize_map(Amounts)
    }
}

/// A taint that a pod bears.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint; empty for all.
    #[serde(deserialize_with = "or_none")]
    pub key: Text,
    /// `Exists` or `Equal`.
    #[serde(deserialize_with = "or_none")]
    pub operator: Text,
    /// Value of the taint.
    #[serde(deserialize_with = "or_none")]
    pub value: Text,
    /// Effect of the taint; empty for all.
    #[serde(deserialize_with = "or_none")]
    pub effect: Text,
    /// For how long, in seconds; for ever when none.
    pub toleration_seconds: Option<i64>,
}

/// A volume that is a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the pod.
    pub name: Text,
    /// What it claims.
    pub claim: VolumeClaim,
}

/// What a volume claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeClaim {
    /// A claim that exists apart from the pod.
    Named {
        /// Its name.
        name: Text,
        /// Whether it is mounted so that nothing can be written.
        read_only: bool,
    },
    /// One that is made for the pod and called `POD-VOLUME`.
    Ephemeral,
}

/// A device that a pod claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodResourceClaim {
    /// Its name in the pod.
    #[serde(deserialize_with = "or_none")]
    pub name: Text,
    /// The claim that exists apart from the pod.
    pub resource_claim_name: Option<Text>,
    /// The template of which one is made.
    pub resource_claim_template_name: Option<Text>,
}

fn claims<'de, D: Deserializer<'de>>(from: D) -> Result<Box<[Volume]>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Any {
        #[serde(deserialize_with = "or_none")]
        name: Text,
        persistent_volume_claim: Option<Claim>,
        ephemeral: Option<serde::de::IgnoredAny>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Claim {
        #[serde(deserialize_with = "or_none")]
        claim_name: Text,
        #[serde(deserialize_with = "or_none")]
        read_only: bool,
    }
    let all: Vec<Any> = or_none(from)?;
    let claimed = all.into_iter().filter_map(|volume| {
        let named = volume
            .persistent_volume_claim
            .map(|it| VolumeClaim::Named { name: it.claim_name, read_only: it.read_only });
        let claim = named.or(volume.ephemeral.map(|_| VolumeClaim::Ephemeral))?;
        Some(Volume { name: volume.name, claim })
    });
    Ok(claimed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_that_are_none_are_left_out() {
        let read: ResourceAmounts =
            serde_json::from_str(r#"{"memory":"1Gi","cpu":1,"x/y":"many","z":null}"#).expect("amounts");
        let names: Vec<&str> = read.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["cpu", "memory"]);
        assert_eq!(read.get("memory").map(Amount::whole), Some(1_073_741_824.0));
    }

    #[test]
    fn what_kubelet_runs_in_a_container_is_known() {
        let container: ContainerSpec = serde_json::from_str(
            r#"{"name":"a","livenessProbe":{"exec":{"command":["cat","$(FILE).$$(FILE)"]},"periodSeconds":5},"readinessProbe":{"httpGet":{"port":80}},
                "env":[{"name":"FILE","value":"/ok"},{"name":"SECRET","valueFrom":{"secretKeyRef":{}}}],
                "startupProbe":null,"lifecycle":{"preStop":{"exec":{"command":["sh","-c","sleep $(FILE)"]}},"postStart":{"exec":null}}}"#,
        )
        .expect("a container");
        let command = |words: &[&str]| words.iter().map(|word| Text::from(*word)).collect::<Command>();
        assert_eq!(*container.probes, [command(&["cat", "/ok.$(FILE)"])]);
        assert_eq!(*container.hooks, [command(&["sh", "-c", "sleep $(FILE)"])]);
    }

    #[test]
    fn variables_stand_in_commands_as_kubelet_puts_them_there() {
        let variable = |name: &str, value: &str| Variable { name: name.to_owned(), value: value.to_owned() };
        let variables = [variable("A", "0"), variable("A", "1"), variable("B", "$(A)"), variable("NONE", "")];
        let held = [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)$(B)y", "x1$(A)y"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(UNKNOWN)-$(A)", "$(UNKNOWN)-1"),
            ("[$(NONE)]", "[]"),
            ("$(A", "$(A"),
            ("$A$", "$A$"),
            ("$", "$"),
            ("$$", "$"),
        ];
        for (word, made) in held {
            assert_eq!(expanded(word, &variables), made, "{word}");
        }
    }

    #[test]
    fn only_volumes_that_are_claims_are_kept() {
        let spec: Spec = serde_json::from_str(
            r#"{"volumes":[{"name":"a","emptyDir":{}},{"name":"b","persistentVolumeClaim":{"claimName":"c","readOnly":true}},
                {"name":"d","ephemeral":{"volumeClaimTemplate":{}}},{"name":"e","persistentVolumeClaim":null}]}"#,
        )
        .expect("a spec");
        let expected = [
            Volume { name: "b".into(), claim: VolumeClaim::Named { name: "c".into(), read_only: true } },
            Volume { name: "d".into(), claim: VolumeClaim::Ephemeral },
        ];
        assert_eq!(*spec.volumes, expected);
    }
}
