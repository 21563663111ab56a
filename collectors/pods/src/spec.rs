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
    /// Devices that it claims.
    #[serde(deserialize_with = "or_none")]
    pub resource_claims: Box<[PodResourceClaim]>,
}

/// One container as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerSpec {
    /// Its name, unique in the pod.
    #[serde(deserialize_with = "or_none")]
    pub name: Text,
    /// Image reference.
    #[serde(deserialize_with = "or_none")]
    pub image: Text,
    /// What it asks for and may use.
    #[serde(deserialize_with = "or_none")]
    pub resources: Resources,
    /// `Always` marks an init container that stays beside the others.
    pub restart_policy: Option<Text>,
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
