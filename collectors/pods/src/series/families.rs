//! Every family, with kube-state-metrics' names and labels where it has them.

use taffrail_record::{Family, Kind};

/// Says each family once: what it is called here, and what it is called there.
macro_rules! families {
    ($id:ident, $list:ident;
     $($name:ident $kind:ident $text:literal [$($label:literal),*] $help:literal;)*) => {
        /// Which one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(dead_code, reason = "those of init containers are reached by their distance from the others")]
        pub(crate) enum $id {
            $($name),*
        }

        /// In the order of their ids.
        pub(crate) static $list: &[Family] = &[$(
            Family { name: $text, kind: Kind::$kind, help: $help, labels: &[$($label),*] }
        ),*];
    };
}

families! {
    Of, OF_PODS;
    CompletionTime Gauge "kube_pod_completion_time" ["namespace", "pod", "uid"]
        "When the last of the pod's containers ended that have ended, in seconds since the Unix epoch.";
    MainInfo Gauge "kube_pod_container_info" ["namespace", "pod", "uid", "container", "image_spec", "image", "image_id", "container_id"]
        "1, with the image of the container and its id at the runtime.";
    MainLimits Gauge "kube_pod_container_resource_limits" ["namespace", "pod", "uid", "container", "node", "resource", "unit"]
        "What the container may use at most, by resource.";
    MainRequests Gauge "kube_pod_container_resource_requests" ["namespace", "pod", "uid", "container", "node", "resource", "unit"]
        "What the container asks for, by resource.";
    MainStarted Gauge "kube_pod_container_state_started" ["namespace", "pod", "uid", "container"]
        "When the container was last started, in seconds since the Unix epoch, while it runs or after it ended.";
    MainLastReason Gauge "kube_pod_container_status_last_terminated_reason" ["namespace", "pod", "uid", "container", "reason"]
        "1, with the reason for which the instance before the present one of the container ended.";
    MainLastExitCode Gauge "kube_pod_container_status_last_terminated_exitcode" ["namespace", "pod", "uid", "container"]
        "With which exit code the instance before the present one of the container ended.";
    MainLastTimestamp Gauge "kube_pod_container_status_last_terminated_timestamp" ["namespace", "pod", "uid", "container"]
        "When the instance before the present one of the container ended, in seconds since the Unix epoch.";
    MainReady Gauge "kube_pod_container_status_ready" ["namespace", "pod", "uid", "container"]
        "Whether the container is ready.";
    MainRestarts Counter "kube_pod_container_status_restarts_total" ["namespace", "pod", "uid", "container"]
        "How often the container was started again.";
    MainRunning Gauge "kube_pod_container_status_running" ["namespace", "pod", "uid", "container"]
        "Whether the container runs.";
    MainTerminated Gauge "kube_pod_container_status_terminated" ["namespace", "pod", "uid", "container"]
        "Whether the container has ended.";
    MainTerminatedReason Gauge "kube_pod_container_status_terminated_reason" ["namespace", "pod", "uid", "container", "reason"]
        "1, with the reason for which the container ended, until it is started again.";
    MainWaiting Gauge "kube_pod_container_status_waiting" ["namespace", "pod", "uid", "container"]
        "Whether the container waits to be started.";
    MainWaitingReason Gauge "kube_pod_container_status_waiting_reason" ["namespace", "pod", "uid", "container", "reason"]
        "1, with the reason for which the container waits.";
    InitInfo Gauge "kube_pod_init_container_info" ["namespace", "pod", "uid", "container", "image_spec", "image", "image_id", "container_id", "restart_policy"]
        "1, with the image of the init container and its id at the runtime; a restart policy of `Always` marks one that stays beside the others.";
    InitLimits Gauge "kube_pod_init_container_resource_limits" ["namespace", "pod", "uid", "container", "node", "resource", "unit"]
        "What the init container may use at most, by resource.";
    InitRequests Gauge "kube_pod_init_container_resource_requests" ["namespace", "pod", "uid", "container", "node", "resource", "unit"]
        "What the init container asks for, by resource.";
    InitStarted Gauge "kube_pod_init_container_state_started" ["namespace", "pod", "uid", "container"]
        "When the init container was last started, in seconds since the Unix epoch, while it runs or after it ended.";
    InitLastReason Gauge "kube_pod_init_container_status_last_terminated_reason" ["namespace", "pod", "uid", "container", "reason"]
        "1, with the reason for which the instance before the present one of the init container ended.";
    InitLastExitCode Gauge "kube_pod_init_container_status_last_terminated_exitcode" ["namespace", "pod", "uid", "container"]
        "With which exit code the instance before the present one of the init container ended.";
    InitLastTimestamp Gauge "kube_pod_init_container_status_last_terminated_timestamp" ["namespace", "pod", "uid", "container"]
        "When the instance before the present one of the init container ended, in seconds since the Unix epoch.";
    InitReady Gauge "kube_pod_init_container_status_ready" ["namespace", "pod", "uid", "container"]
        "Whether the init container is ready.";
    InitRestarts Counter "kube_pod_init_container_status_restarts_total" ["namespace", "pod", "uid", "container"]
        "How often the init container was started again.";
    InitRunning Gauge "kube_pod_init_container_status_running" ["namespace", "pod", "uid", "container"]
        "Whether the init container runs.";
    InitTerminated Gauge "kube_pod_init_container_status_terminated" ["namespace", "pod", "uid", "container"]
        "Whether the init container has ended.";
    InitTerminatedReason Gauge "kube_pod_init_container_status_terminated_reason" ["namespace", "pod", "uid", "container", "reason"]
        "1, with the reason for which the init container ended, until it is started again.";
    InitWaiting Gauge "kube_pod_init_container_status_waiting" ["namespace", "pod", "uid", "container"]
        "Whether the init container waits to be started.";
    InitWaitingReason Gauge "kube_pod_init_container_status_waiting_reason" ["namespace", "pod", "uid", "container", "reason"]
        "1, with the reason for which the init container waits.";
    Created Gauge "kube_pod_created" ["namespace", "pod", "uid"]
        "When the pod was created, in seconds since the Unix epoch.";
    Deletion Gauge "kube_pod_deletion_timestamp" ["namespace", "pod", "uid"]
        "When the pod is to be gone at the latest, in seconds since the Unix epoch, once it was deleted.";
    Info Gauge "kube_pod_info" ["namespace", "pod", "uid", "host_ip", "pod_ip", "node", "created_by_kind", "created_by_name", "priority_class", "host_network"]
        "1, with where the pod runs and who made it.";
    Ips Gauge "kube_pod_ips" ["namespace", "pod", "uid", "ip", "ip_family"]
        "1 for each address of the pod.";
    Annotations Gauge "kube_pod_annotations" ["namespace", "pod", "uid", "annotation_*"]
        "1, with those annotations of the pod that are configured.";
    Labels Gauge "kube_pod_labels" ["namespace", "pod", "uid", "label_*"]
        "1, with those labels of the pod that are configured.";
    OverheadCpu Gauge "kube_pod_overhead_cpu_cores" ["namespace", "pod", "uid"]
        "What the pod's runtime class costs in CPU beyond its containers, in cores.";
    OverheadMemory Gauge "kube_pod_overhead_memory_bytes" ["namespace", "pod", "uid"]
        "What the pod's runtime class costs in memory beyond its containers, in bytes.";
    Owner Gauge "kube_pod_owner" ["namespace", "pod", "uid", "owner_kind", "owner_name", "owner_is_controller"]
        "1 for each owner of the pod; with empty labels for one without.";
    ResourceClaim Gauge "kube_pod_resourceclaim_info" ["namespace", "pod", "uid", "claim_name", "resourceclaim_name", "resourceclaim_template_name"]
        "1 for each device that the pod claims.";
    RestartPolicy Gauge "kube_pod_restart_policy" ["namespace", "pod", "uid", "type"]
        "1, with the pod's restart policy.";
    RuntimeClass Gauge "kube_pod_runtimeclass_name_info" ["namespace", "pod", "uid", "runtimeclass_name"]
        "1, with the pod's runtime class.";
    Claims Gauge "kube_pod_spec_volumes_persistentvolumeclaims_info" ["namespace", "pod", "uid", "volume", "persistentvolumeclaim", "ephemeral"]
        "1 for each volume of the pod that is a claim.";
    ClaimsReadOnly Gauge "kube_pod_spec_volumes_persistentvolumeclaims_readonly" ["namespace", "pod", "uid", "volume", "persistentvolumeclaim", "ephemeral"]
        "Whether the claim is mounted so that nothing can be written.";
    StartTime Gauge "kube_pod_start_time" ["namespace", "pod", "uid"]
        "When kubelet accepted the pod, in seconds since the Unix epoch.";
    Phase Gauge "kube_pod_status_phase" ["namespace", "pod", "uid", "phase"]
        "1 for the phase in which the pod is, 0 for the others.";
    Qos Gauge "kube_pod_status_qos_class" ["namespace", "pod", "uid", "qos_class"]
        "1 for the class of service that the pod has, 0 for the others.";
    StatusReady Gauge "kube_pod_status_ready" ["namespace", "pod", "uid", "condition"]
        "1 for what is the case of the pod being ready, 0 for the others.";
    ReadyTime Gauge "kube_pod_status_ready_time" ["namespace", "pod", "uid"]
        "When the pod became ready, in seconds since the Unix epoch, while it is.";
    InitializedTime Gauge "kube_pod_status_initialized_time" ["namespace", "pod", "uid"]
        "When the pod's init containers were through, in seconds since the Unix epoch.";
    ContainerReadyTime Gauge "kube_pod_status_container_ready_time" ["namespace", "pod", "uid"]
        "When all of the pod's containers became ready, in seconds since the Unix epoch, while they are.";
    Reason Gauge "kube_pod_status_reason" ["namespace", "pod", "uid", "reason"]
        "1 for each reason that holds of those that say that something befell the pod.";
    Disruption Gauge "kube_pod_status_disruption_reason" ["namespace", "pod", "uid", "reason"]
        "1, with the reason for which the pod is about to be ended.";
    Scheduled Gauge "kube_pod_status_scheduled" ["namespace", "pod", "uid", "condition"]
        "1 for what is the case of the pod being bound to a node, 0 for the others.";
    ScheduledTime Gauge "kube_pod_status_scheduled_time" ["namespace", "pod", "uid"]
        "When the pod was bound to its node, in seconds since the Unix epoch.";
    Unschedulable Gauge "kube_pod_status_unschedulable" ["namespace", "pod", "uid"]
        "1 while no node takes the pod.";
    UnscheduledTime Gauge "kube_pod_status_unscheduled_time" ["namespace", "pod", "uid"]
        "Since when no node takes the pod, in seconds since the Unix epoch.";
    Tolerations Gauge "kube_pod_tolerations" ["namespace", "pod", "uid", "key", "operator", "value", "effect", "toleration_seconds"]
        "1 for each toleration of the pod, when that is configured.";
    NodeSelectors Gauge "kube_pod_nodeselectors" ["namespace", "pod", "uid", "nodeselector_*"]
        "1, with the pod's node selector, when that is configured.";
    ServiceAccount Gauge "kube_pod_service_account" ["namespace", "pod", "uid", "service_account"]
        "1, with the pod's service account.";
    Scheduler Gauge "kube_pod_scheduler" ["namespace", "pod", "uid", "name"]
        "1, with the name of the scheduler that the pod asks for.";
}

families! {
    OfNode, OF_NODE;
    Annotations Gauge "kube_node_annotations" ["node", "annotation_*"]
        "1, with those annotations of the node that are configured.";
    Created Gauge "kube_node_created" ["node"]
        "When the node was created, in seconds since the Unix epoch.";
    Deletion Gauge "kube_node_deletion_timestamp" ["node"]
        "When the node was deleted, in seconds since the Unix epoch.";
    Info Gauge "kube_node_info" ["node", "kernel_version", "os_image", "container_runtime_version", "kubelet_version", "kubeproxy_version", "provider_id", "pod_cidr", "system_uuid", "internal_ip"]
        "1, with what runs on the node and in which version.";
    Labels Gauge "kube_node_labels" ["node", "label_*"]
        "1, with those labels of the node that are configured.";
    Role Gauge "kube_node_role" ["node", "role"]
        "1 for each role of the node.";
    PodCidrs Gauge "kube_node_spec_pod_cidrs" ["node", "pod_cidr"]
        "1 for each range of addresses of the node's pods.";
    Taint Gauge "kube_node_spec_taint" ["node", "key", "value", "effect"]
        "1 for each taint of the node.";
    Unschedulable Gauge "kube_node_spec_unschedulable" ["node"]
        "Whether the node takes no new pods.";
    Allocatable Gauge "kube_node_status_allocatable" ["node", "resource", "unit"]
        "What pods may ask for on the node, by resource.";
    Capacity Gauge "kube_node_status_capacity" ["node", "resource", "unit"]
        "What the node has, by resource.";
    Condition Gauge "kube_node_status_condition" ["node", "condition", "status"]
        "1 for what is the case of a condition of the node, 0 for the others.";
    Addresses Gauge "kube_node_status_addresses" ["node", "type", "address"]
        "1 for each address of the node.";
}

/// Those that kube-state-metrics does not have.
pub(crate) static OWN: [Family; 4] = [
    Family {
        name: "taffrail_pod_container_terminations_total",
        kind: Kind::Counter,
        help: "How often a container ended, by reason and exit code, whether or not anybody looked meanwhile: kept over a restart \
               of the agent, and for a while after the pod is gone. The reason `unseen` counts those of which only the number \
               of restarts tells.",
        labels: &["namespace", "pod", "uid", "container", "reason", "exit_code"],
    },
    Family {
        name: "taffrail_pod_container_oom_kills_total",
        kind: Kind::Counter,
        help: "How often a container ended because it had no more memory; of those among its terminations whose reason is \
               `OOMKilled`.",
        labels: &["namespace", "pod", "uid", "container"],
    },
    Family {
        name: "taffrail_pods_stale",
        kind: Kind::Gauge,
        help: "1 while what is told of pods is the last that was heard before their source went away.",
        labels: &[],
    },
    Family {
        name: "taffrail_pods_seen_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When everything that is told of pods was last known to be so, in seconds since the Unix epoch.",
        labels: &[],
    },
];
pub(crate) const TERMINATIONS: usize = 0;
pub(crate) const OOM_KILLS: usize = 1;
pub(crate) const STALE: usize = 2;
pub(crate) const SEEN: usize = 3;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_family_is_declared_once() {
        let all = OF_PODS.iter().chain(OF_NODE).chain(&OWN).map(|family| family.name);
        let names: Vec<&str> = all.collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
