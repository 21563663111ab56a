//! Objects as hardly any cluster has them.

use serde_json::{Value, json};

const TIME: &str = "2025-06-01T12:00:00Z";
const LATER: &str = "2025-06-01T13:30:59+01:00";

#[allow(clippy::needless_pass_by_value, reason = "it is made where it is given")]
fn status(name: &str, more: Value) -> Value {
    let mut status = json!({
        "name": name, "image": format!("{name}:1"), "imageID": format!("{name}@sha256:0"), "containerID": "containerd://ab",
        "ready": true, "restartCount": 3,
    });
    for (key, value) in more.as_object().unwrap() {
        status[key] = value.clone();
    }
    status
}

fn conditions(each: &[(&str, &str)]) -> Value {
    each.iter().map(|(kind, is)| json!({"type": kind, "status": is, "lastTransitionTime": TIME})).collect()
}

/// Names, and what each has beyond that.
pub(crate) fn pods() -> Vec<(&'static str, Value)> {
    let containers = [
        status(
            "waits",
            json!({"ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {
            "reason": "OOMKilled", "exitCode": 137, "startedAt": TIME, "finishedAt": LATER}}}),
        ),
        status("waits-for-no-reason", json!({"state": {"waiting": {}}})),
        status(
            "pulls",
            json!({"containerID": "", "imageID": "", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "x"}}}),
        ),
        status("runs", json!({"state": {"running": {"startedAt": TIME}}, "started": true})),
        status(
            "ended",
            json!({"state": {"terminated": {"reason": "Error", "exitCode": -1, "startedAt": TIME, "finishedAt": LATER}}}),
        ),
        status(
            "ended-for-no-reason",
            json!({"state": {"terminated": {"exitCode": 0, "signal": 9, "startedAt": TIME, "finishedAt": TIME}}}),
        ),
        status(
            "killed",
            json!({"lastState": {"terminated": {"reason": "ContainerCannotRun", "exitCode": 128, "startedAt": TIME, "finishedAt": TIME}}}),
        ),
        status(
            "neither",
            json!({"state": {}, "lastState": {"waiting": {"reason": "x"}, "running": {"startedAt": TIME}}}),
        ),
        status(
            "all-three",
            json!({"state": {"waiting": {"reason": "x"}, "running": {"startedAt": TIME}, "terminated": {"reason": "y", "exitCode": 1, "startedAt": LATER, "finishedAt": LATER}}}),
        ),
        status("of-no-spec", json!({"state": {"running": {"startedAt": LATER}}})),
        json!({"name": "bare"}),
    ];
    let asked: Vec<Value> = containers.iter().filter(|it| it["name"] != "of-no-spec")
        .map(|it| json!({"name": it["name"], "image": "asked:1", "restartPolicy": if it["name"] == "runs" { json!("Always") } else { Value::Null }}))
        .collect();
    let resources = json!({"requests": {
        "cpu": "100m", "memory": "1.5Gi", "storage": "1k", "ephemeral-storage": "1e3", "hugepages-2Mi": "4Mi", "hugepages-1Gi": 0,
        "attachable-volumes-aws-ebs": "39", "nvidia.com/gpu": "2", "Example.com/upper": "1", "example.com/UP_per.x-1": "0.5", "pods": "3",
        "gpu": "1", "kubernetes.io/x": "1", "a.kubernetes.io/x": "1", "requests.example.com/x": "1", "example.com/": "1",
        "-a.com/x": "1", "a..com/x": "1", "a.com/x/y": "1", "a.com/-x": "1", "a.com/é": "1",
    }, "limits": {"cpu": 2, "memory": "-1"}});
    vec![
        ("nothing", json!({})),
        (
            "nulls",
            json!({"spec": null, "status": null, "metadata": {"labels": null, "annotations": null, "ownerReferences": null}}),
        ),
        (
            "containers",
            json!({"spec": {"containers": asked, "nodeName": "n"}, "status": {"containerStatuses": containers}}),
        ),
        (
            "init-containers",
            json!({"spec": {"initContainers": asked}, "status": {"initContainerStatuses": containers}}),
        ),
        (
            "ephemeral-containers",
            json!({"spec": {"ephemeralContainers": asked}, "status": {"ephemeralContainerStatuses": containers}}),
        ),
        (
            "resources",
            json!({"spec": {"nodeName": "n\"\\\n", "containers": [{"name": "a", "resources": resources}],
            "initContainers": [{"name": "i", "resources": resources}], "overhead": {"cpu": "250m", "memory": "120.5Mi", "x": "1"}}}),
        ),
        (
            "pending",
            json!({"status": {"phase": "Pending", "qosClass": "BestEffort", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": TIME}]}}),
        ),
        (
            "running",
            json!({"metadata": {"creationTimestamp": TIME, "deletionTimestamp": LATER}, "status": {
            "phase": "Running", "qosClass": "Burstable", "startTime": TIME, "hostIP": "10.0.0.1", "podIP": "10.1.0.1",
            "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}, {"ip": "::ffff:1.2.3.4"}, {"ip": "fe80::1%eth0"}, {"ip": "nonsense"}, {}],
            "conditions": conditions(&[("Ready", "True"), ("Initialized", "True"), ("ContainersReady", "True"), ("PodScheduled", "True"),
                ("PodReadyToStartContainers", "True"), ("example.com/Mine", "True")])}}),
        ),
        (
            "not-ready",
            json!({"status": {"phase": "Unknown", "qosClass": "Guaranteed", "conditions":
            conditions(&[("Ready", "False"), ("Initialized", "False"), ("ContainersReady", "Unknown"), ("PodScheduled", "Unknown")])}}),
        ),
        (
            "odd-words",
            json!({"status": {"phase": "Odd", "qosClass": "Odd", "conditions": conditions(&[("Ready", "Odd"), ("PodScheduled", "")])}}),
        ),
        (
            "evicted",
            json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "m", "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]}}),
        ),
        (
            "shut-down",
            json!({"status": {"phase": "Failed", "reason": "Terminated", "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
            {"type": "Ready", "status": "False", "reason": "NodeLost", "lastTransitionTime": TIME}],
            "containerStatuses": [status("a", json!({"state": {"terminated": {"reason": "Shutdown", "exitCode": 0, "startedAt": TIME, "finishedAt": TIME}}}))]}}),
        ),
        (
            "disrupted",
            json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "False", "reason": "Whatever"}]}}),
        ),
        (
            "succeeded",
            json!({"spec": {"restartPolicy": "OnFailure"}, "status": {"phase": "Succeeded", "containerStatuses": [
            status("a", json!({"state": {"terminated": {"reason": "Completed", "exitCode": 0, "startedAt": TIME, "finishedAt": LATER}}})),
            status("b", json!({"state": {"terminated": {"reason": "Completed", "exitCode": 0, "startedAt": TIME, "finishedAt": TIME}}}))]}}),
        ),
        (
            "ended-before-1970",
            json!({"status": {"containerStatuses": [
            status("a", json!({"state": {"terminated": {"exitCode": 0, "startedAt": "1960-01-01T00:00:00Z", "finishedAt": "1969-12-31T23:59:58Z"}}}))]}}),
        ),
        (
            "owners",
            json!({"metadata": {"ownerReferences": [
            {"kind": "Node", "name": "n"}, {"kind": "ReplicaSet", "name": "r", "controller": true}, {"kind": "X", "name": "x", "controller": false},
            {"kind": "Y", "name": "y", "controller": null}]}}),
        ),
        (
            "asked-for",
            json!({"spec": {"hostNetwork": true, "priorityClassName": "high", "serviceAccountName": "sa", "schedulerName": "mine",
            "restartPolicy": "Never", "runtimeClassName": "kata", "nodeSelector": {"kubernetes.io/os": "linux", "kubernetes-io/os": "x"}}}),
        ),
        ("empty-class", json!({"spec": {"runtimeClassName": ""}})),
        (
            "tolerations",
            json!({"spec": {"tolerations": [
            {"operator": "Exists"}, {"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 0},
            {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": -5},
            {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": null}]}}),
        ),
        (
            "volumes",
            json!({"spec": {"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, {"name": "f", "ephemeral": {}}, {"name": "g", "emptyDir": {}},
            {"name": "both", "persistentVolumeClaim": {"claimName": "c"}, "ephemeral": {}}]}}),
        ),
        (
            "devices",
            json!({"spec": {"resourceClaims": [
            {"name": "a", "resourceClaimName": "named"}, {"name": "b", "resourceClaimTemplateName": "t"}, {"name": "c", "resourceClaimTemplateName": "t"},
            {"name": "neither"}, {"name": "d", "resourceClaimName": "n", "resourceClaimTemplateName": "t"}, {"name": "e", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "made"}, {"name": "c"}, {"name": "d", "resourceClaimName": "other"},
            {"name": "e", "resourceClaimName": "first"}, {"name": "e", "resourceClaimName": "second"}, {"name": "e"}]}}),
        ),
        (
            "odd-text",
            json!({"metadata": {"namespace": "a\"b\\c\nd", "labels": {"": "empty", "é": "ü", "quote": "\"\\\n\r\t"}},
            "spec": {"nodeName": "\u{fffd}", "containers": [{"name": "", "image": "\"", "resources": {"limits": {"cpu": "1"}}}]},
            "status": {"reason": "\n", "containerStatuses": [{"name": "", "image": "\\"}]}}),
        ),
    ]
}

/// Nodes.
pub(crate) fn nodes() -> Vec<Value> {
    let amounts = json!({
        "cpu": "3920m", "memory": "16374120Ki", "pods": "110", "ephemeral-storage": "101430960Ki", "hugepages-2Mi": "0",
        "attachable-volumes-csi-x": "25", "nvidia.com/gpu": "8", "example.com/half": "500m", "x": "1", "storage": "1.5",
    });
    vec![
        json!({"kind": "Node", "metadata": {"name": "bare"}}),
        json!({"kind": "Node", "metadata": {"name": "nulls", "labels": null}, "spec": {"taints": null, "podCIDRs": null},
            "status": {"conditions": null, "addresses": null, "capacity": null, "nodeInfo": {}}}),
        json!({"kind": "Node",
            "metadata": {"name": "n", "creationTimestamp": TIME, "deletionTimestamp": LATER, "annotations": {"a/b": "c"},
                "labels": {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/": "x", "kubernetes.io/arch": "amd64"}},
            "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"], "providerID": "cloud://x", "unschedulable": true,
                "taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute", "timeAdded": TIME}]},
            "status": {"allocatable": amounts, "capacity": amounts,
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "Unknown"}, {"type": "Mine", "status": "Odd"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "fd00::1"}],
                "nodeInfo": {"kernelVersion": "6.1", "osImage": "Debian \"12\"", "containerRuntimeVersion": "containerd://2", "kubeletVersion": "v1.34",
                    "kubeProxyVersion": "v1.34", "systemUUID": "u", "bootID": "b", "machineID": "m", "architecture": "amd64"}}}),
    ]
}

/// Amounts of resources: odd ones, and many that are made up by rule.
pub(crate) fn amounts() -> Vec<String> {
    let odd = [
        "0",
        "1",
        "-1",
        "+1",
        "0.5",
        ".5",
        "5.",
        "00012",
        "0.000",
        "-0.5",
        "100m",
        "1500000u",
        "1n",
        "999999999n",
        "1000000001n",
        "1e3",
        "1E3",
        "1e-3",
        "1E-9",
        "1e-10",
        "12e+2",
        "1Ki",
        "1.5Gi",
        "0.1Ki",
        "0.0001Ki",
        "1Ei",
        "7.9Ei",
        "1E",
        "9E",
        "9.2E",
        "2k",
        "1.1k",
        "123456789.987654321",
        "0.1234567891",
        "0.9999999999",
        "9223372036854775807",
        "9007199254740993",
        "9223372036854775",
        "9223372036854776",
        "9223372036854775.5",
        "0.1",
        "0.3",
        "2.675",
        "1.005",
        "3.0000000001",
        "33m",
        "1001m",
        "0.001n",
        "8Ei",
        "100Ei",
    ];
    let mut seed = 1_u64;
    let mut next = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    let suffixes = ["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "e2", "e-2", "E5", "e-8"];
    let made = (0..400).map(|_| {
        let digits = [1 + next(7), 1 + next(9)].map(|count| 10_u64.pow(count as u32));
        let whole = next(digits[0]);
        let fraction = if next(2) == 0 { String::new() } else { format!(".{}", next(digits[1])) };
        let suffix = suffixes[next(suffixes.len() as u64) as usize];
        // No server accepts a negative amount, and theirs are made-up numbers when they are neither whole nor small.
        let simple = fraction.is_empty() && ["", "u", "m", "k", "M"].contains(&suffix);
        let sign = if simple && next(3) == 0 { "-" } else { "" };
        format!("{sign}{whole}{fraction}{suffix}")
    });
    odd.map(str::to_owned).into_iter().chain(made.collect::<Vec<_>>()).collect()
}
