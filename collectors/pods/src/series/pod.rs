//! What is told of a pod as a whole.

use std::net::IpAddr;

use crate::allow::AllowList;
use crate::amount::Amount;
use crate::pod::Pod;
use crate::series::families::Of;
use crate::series::render::{Rendered, Writer, flag};
use crate::series::{containers, keys};
use crate::spec::VolumeClaim;
use crate::status::Condition;

const PHASES: [&str; 5] = ["Pending", "Succeeded", "Failed", "Unknown", "Running"];
const CLASSES: [&str; 3] = ["BestEffort", "Burstable", "Guaranteed"];
/// Reasons that have a series of their own.
const REASONS: [&str; 8] = [
    "Evicted",
    "NodeAffinity",
    "NodeLost",
    "PreemptionByScheduler",
    "SchedulingGated",
    "Shutdown",
    "TerminationByKubelet",
    "UnexpectedAdmissionError",
];
/// Reasons for which a pod is about to be ended.
const DISRUPTIONS: [&str; 5] = [
    "PreemptionByScheduler",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "DeletionByPodGC",
    "TerminationByKubelet",
];
/// Any other reason.
const OTHER: &str = "Other";
/// What a condition may be, and the label of each.
pub(super) const CONDITIONS: [(&str, &str); 3] =
    [("True", "true"), ("False", "false"), ("Unknown", "unknown")];

/// Which series there are beside those that always are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub(crate) labels: AllowList,
    pub(crate) annotations: AllowList,
    pub(crate) tolerations: bool,
    pub(crate) node_selectors: bool,
}

/// All series of a pod.
pub(crate) fn render(pod: &Pod, shown: &Shown) -> Rendered {
    let meta = &pod.meta;
    let mut writer = Writer::new(&[("namespace", &meta.namespace), ("pod", &meta.name), ("uid", &meta.uid)]);
    let mut told = Told { writer: &mut writer, pod };
    told.identity();
    told.owners();
    told.asked_for();
    told.volumes();
    told.devices();
    told.status();
    told.conditions();
    told.reasons();
    told.keys(shown);
    if shown.tolerations {
        told.tolerations();
    }
    containers::write(&mut writer, pod);
    writer.done()
}

struct Told<'a> {
    writer: &'a mut Writer,
    pod: &'a Pod,
}

impl Told<'_> {
    fn put(&mut self, family: Of, labels: &[(&str, &str)], value: f64) {
        self.writer.put(family as u8, labels, value);
    }

    fn time(&mut self, family: Of, seconds: Option<i64>) {
        if let Some(seconds) = seconds {
            self.put(family, &[], seconds as f64);
        }
    }

    fn identity(&mut self) {
        let Pod { meta, spec, status } = self.pod;
        let by = self.pod.controller();
        let labels = [
            ("host_ip", &*status.host_ip),
            ("pod_ip", &status.pod_ip),
            ("node", &spec.node_name),
            ("created_by_kind", by.map_or("", |by| &by.kind)),
            ("created_by_name", by.map_or("", |by| &by.name)),
            ("priority_class", &spec.priority_class_name),
            ("host_network", if spec.host_network { "true" } else { "false" }),
        ];
        self.put(Of::Info, &labels, 1.0);
        self.time(Of::Created, meta.created);
        self.time(Of::Deletion, meta.deleted);
        for ip in &status.pod_ips {
            if let Some(family) = ip_family(ip) {
                self.put(Of::Ips, &[("ip", ip), ("ip_family", family)], 1.0);
            }
        }
    }

    fn owners(&mut self) {
        let mut put = |kind: &str, name: &str, controls: &str| {
            let labels = [("owner_kind", kind), ("owner_name", name), ("owner_is_controller", controls)];
            self.writer.put(Of::Owner as u8, &labels, 1.0);
        };
        let owners = &self.pod.meta.owners;
        if owners.is_empty() {
            put("", "", "");
        }
        for owner in owners {
            let controls = owner.controller == Some(true);
            put(&owner.kind, &owner.name, if controls { "true" } else { "false" });
        }
    }

    fn asked_for(&mut self) {
        let spec = &self.pod.spec;
        self.put(Of::RestartPolicy, &[("type", &spec.restart_policy)], 1.0);
        self.put(Of::ServiceAccount, &[("service_account", &spec.service_account_name)], 1.0);
        self.put(Of::Scheduler, &[("name", &spec.scheduler_name)], 1.0);
        if let Some(class) = &spec.runtime_class_name {
            self.put(Of::RuntimeClass, &[("runtimeclass_name", class)], 1.0);
        }
        if let Some(cpu) = spec.overhead.get("cpu") {
            self.put(Of::OverheadCpu, &[], cpu.cores());
        }
        if let Some(memory) = spec.overhead.get("memory").map(Amount::whole) {
            self.put(Of::OverheadMemory, &[], memory);
        }
    }

    fn volumes(&mut self) {
        for volume in &self.pod.spec.volumes {
            let own = format!("{}-{}", self.pod.meta.name, volume.name);
            let (claim, ephemeral, read_only) = match &volume.claim {
                VolumeClaim::Named { name, read_only } => (&**name, "false", *read_only),
                VolumeClaim::Ephemeral => (&*own, "true", false),
            };
            let labels =
                [("volume", &*volume.name), ("persistentvolumeclaim", claim), ("ephemeral", ephemeral)];
            self.put(Of::Claims, &labels, 1.0);
            self.put(Of::ClaimsReadOnly, &labels, flag(read_only));
        }
    }

    fn devices(&mut self) {
        for claim in &self.pod.spec.resource_claims {
            let (named, template) = (&claim.resource_claim_name, &claim.resource_claim_template_name);
            if named.is_none() && template.is_none() {
                continue;
            }
            // What was made of a template is only told by the status, the last of one name counting.
            let mut made = self.pod.status.resource_claim_statuses.iter().rev();
            let made = made.find(|made| made.name == claim.name && made.resource_claim_name.is_some());
            let name = named.as_ref().or(made.and_then(|made| made.resource_claim_name.as_ref()));
            let labels = [
                ("claim_name", &*claim.name),
                ("resourceclaim_name", name.map_or("", |name| name)),
                ("resourceclaim_template_name", template.as_deref().unwrap_or_default()),
            ];
            self.put(Of::ResourceClaim, &labels, 1.0);
        }
    }

    fn status(&mut self) {
        let status = &self.pod.status;
        self.time(Of::StartTime, status.started);
        if !status.phase.is_empty() {
            for phase in PHASES {
                self.put(Of::Phase, &[("phase", phase)], flag(*status.phase == *phase));
            }
        }
        if !status.qos_class.is_empty() {
            for class in CLASSES {
                self.put(Of::Qos, &[("qos_class", class)], flag(*status.qos_class == *class));
            }
        }
        let ended = status.containers.iter().filter_map(|it| it.state.terminated.as_ref()?.finished);
        self.time(Of::CompletionTime, ended.max().filter(|seconds| *seconds > 0));
    }

    fn conditions(&mut self) {
        for condition in &self.pod.status.conditions {
            let (is, changed) = (&*condition.status, condition.changed);
            match (&*condition.kind, is) {
                ("Ready", "True") => self.time(Of::ReadyTime, changed),
                ("Initialized", "True") => self.time(Of::InitializedTime, changed),
                ("ContainersReady", "True") => self.time(Of::ContainerReadyTime, changed),
                ("PodScheduled", "True") => self.time(Of::ScheduledTime, changed),
                ("PodScheduled", "False") => {
                    self.put(Of::Unschedulable, &[], 1.0);
                    self.time(Of::UnscheduledTime, changed);
                }
                _ => {}
            }
            match &*condition.kind {
                "Ready" => self.condition(Of::StatusReady, condition),
                "PodScheduled" => self.condition(Of::Scheduled, condition),
                "DisruptionTarget" => {
                    let known = DISRUPTIONS.contains(&&*condition.reason);
                    let reason = if known { &*condition.reason } else { OTHER };
                    self.put(Of::Disruption, &[("reason", reason)], 1.0);
                }
                _ => {}
            }
        }
    }

    fn condition(&mut self, family: Of, condition: &Condition) {
        for (status, label) in CONDITIONS {
            self.put(family, &[("condition", label)], flag(*condition.status == *status));
        }
    }

    fn reasons(&mut self) {
        let status = &self.pod.status;
        let conditions = status.conditions.iter().map(|condition| &*condition.reason);
        let ended = status.containers.iter().filter_map(|it| Some(&*it.state.terminated.as_ref()?.reason));
        let said: Vec<&str> = conditions.chain(ended).chain([&*status.reason]).collect();
        for reason in REASONS.iter().filter(|reason| said.contains(*reason)) {
            self.put(Of::Reason, &[("reason", reason)], 1.0);
        }
        if !status.reason.is_empty() && !REASONS.contains(&&*status.reason) {
            self.put(Of::Reason, &[("reason", OTHER)], 1.0);
        }
    }

    fn keys(&mut self, shown: &Shown) {
        let (meta, spec) = (&self.pod.meta, &self.pod.spec);
        if !shown.labels.is_empty() {
            self.named(Of::Labels, &keys::shown("label", &meta.labels, &shown.labels));
        }
        if !shown.annotations.is_empty() {
            self.named(Of::Annotations, &keys::shown("annotation", &meta.annotations, &shown.annotations));
        }
        if shown.node_selectors {
            self.named(Of::NodeSelectors, &keys::named("nodeselector", spec.node_selector.iter()));
        }
    }

    fn named(&mut self, family: Of, labels: &[(String, &str)]) {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.put(family, &labels, 1.0);
    }

    fn tolerations(&mut self) {
        for it in &self.pod.spec.tolerations {
            let seconds = it.toleration_seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
            let labels = [
                ("key", &*it.key),
                ("operator", &it.operator),
                ("value", &it.value),
                ("effect", &it.effect),
                ("toleration_seconds", &seconds),
            ];
            self.put(Of::Tolerations, &labels, 1.0);
        }
    }
}

/// `4` or `6`; an address of version 4 that is written as one of version 6 is of version 4.
fn ip_family(text: &str) -> Option<&'static str> {
    let (address, zone) = text.split_once('%').unwrap_or((text, "none"));
    match address.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(_) if address.len() == text.len() => Some("4"),
        IpAddr::V6(_) if !zone.is_empty() => Some("6"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for (text, family) in [
            ("10.0.0.1", Some("4")),
            ("::ffff:10.0.0.1", Some("4")),
            ("fd00::1", Some("6")),
            ("fe80::1%eth0", Some("6")),
            ("fe80::1%", None),
            ("10.0.0.1%eth0", None),
            ("", None),
            ("10.0.0", None),
        ] {
            assert_eq!(ip_family(text), family, "{text}");
        }
    }
}
