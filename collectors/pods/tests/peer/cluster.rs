//! Objects of a real cluster: what its controllers, its scheduler and its kubelet write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taffrail_parts::node::pod;
use taffrail_parts::{IMAGE, Node, NodeOptions};
use taffrail_pods::{Found, PodSeries, PodStore, PodsConfig, owners};
use taffrail_record::{Ask as _, Gathered};

use crate::NOTHING;
use crate::compare::compare;

const LONG: Duration = Duration::from_secs(180);

/// A store that is fed by listing, and what it says of ends.
struct Followed<'a> {
    node: &'a Node,
    store: Arc<PodStore>,
    series: PodSeries,
}

impl Followed<'_> {
    fn listed(&self) -> Vec<Value> {
        let text = self.node.output(&["get", "pods", "--all-namespaces", "-o", "json"]).unwrap();
        let mut list: Value = serde_json::from_str(&text).unwrap();
        let items: Vec<Value> = serde_json::from_value(list["items"].take()).unwrap();
        let parsed = items.iter().map(|item| self.store.parse(item.to_string().as_bytes()).unwrap());
        self.store.replace_all(parsed.collect());
        items
    }

    /// Lists until a pod whose name begins so is as wanted.
    fn wait_for(&self, start: &str, wanted: impl Fn(&Found) -> bool) -> Found {
        let begin = Instant::now();
        loop {
            self.listed();
            let mut pods = self.store.snapshot().into_iter().filter(|pod| pod.meta.name.starts_with(start));
            let found = pods.find_map(|pod| self.store.by_uid(&pod.meta.uid).filter(&wanted));
            if let Some(found) = found {
                return found;
            }
            assert!(begin.elapsed() < LONG, "{start}: {:#?}", self.store.by_name("default", start));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The sum of a family over a pod's containers.
    fn sum(&self, family: &str, pod: &Found) -> f64 {
        let mut gathered = Gathered::default();
        let _ = self.series.ask(&mut gathered);
        let of = format!("uid=\"{}\"", pod.pod.meta.uid);
        let samples = gathered.samples().iter();
        samples.filter(|it| it.family == family && it.labels.contains(&of)).map(|it| it.value).sum()
    }
}

fn running(found: &Found) -> bool {
    &*found.pod.status.phase == "Running"
}

fn chain(found: &Found) -> Vec<String> {
    owners(&found.pod).iter().map(|owner| format!("{}/{}", owner.kind, owner.name)).collect()
}

/// What a controller makes pods of.
fn template(script: &str, policy: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "x", "app.kubernetes.io/part-of": "peer"}, "annotations": {"example.com/a": "b"}},
        "spec": {
            "hostNetwork": true, "restartPolicy": policy, "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "initContainers": [
                {"name": "first", "image": IMAGE, "command": ["true"], "resources": {"limits": {"memory": "20Mi"}}},
                {"name": "beside", "image": IMAGE, "command": ["sleep", "1000"], "restartPolicy": "Always"},
            ],
            "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", script],
                "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}, "limits": {"cpu": "1", "memory": "100Mi"}}}],
        },
    })
}

fn controlled(node: &Node) {
    let selector = json!({"matchLabels": {"app": "x"}});
    let forever = template("sleep 1000", "Always");
    let mut once = template("true", "Never");
    once["spec"]["initContainers"].as_array_mut().unwrap().pop();
    let meta = |name: &str| json!({"name": name, "namespace": "default"});
    for object in [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("web"), "spec": {"selector": selector, "template": forever}}),
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta("each"), "spec": {"selector": selector, "template": forever}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta("db"),
            "spec": {"selector": selector, "template": forever, "serviceName": "db"}}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta("night-ly"),
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}}}),
    ] {
        node.apply(&object).unwrap();
    }
}

/// Pods that no node takes, and whose status is then written as kubelet would write it.
fn unbound(node: &Node) {
    let mut waits = pod("waits", "true");
    waits["spec"].as_object_mut().unwrap().remove("nodeName");
    waits["spec"]["nodeSelector"] = json!({"no": "such"});
    let mut gated = waits.clone();
    gated["metadata"]["name"] = "gated".into();
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/gate"}]);
    gated["spec"]["overhead"] = Value::Null;
    let mut odd = waits.clone();
    odd["metadata"]["name"] = "odd".into();
    odd["metadata"]["labels"] = json!({"aB": "1", "a-b": "2", "a_b": "3"});
    odd["spec"]["volumes"] =
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}]);
    odd["spec"]["containers"][0]["resources"] = json!({
        "requests": {"cpu": "0.1", "memory": "1.5Gi", "ephemeral-storage": "1e3", "example.com/x": "2"},
        "limits": {"cpu": "1500000u", "memory": "2000M", "ephemeral-storage": "1Ki", "example.com/x": "2"},
    });
    for object in [&waits, &gated, &odd] {
        node.apply(object).unwrap();
    }
    let time = "2025-06-01T12:00:00Z";
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": time, "finishedAt": time}});
    let of = |name: &str, state: Value| json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 4, "state": state, "lastState": ended});
    for phase in ["Running", "Unknown", "Failed", "Succeeded"] {
        let mut object = odd.clone();
        let name = format!("patched-{}", phase.to_lowercase());
        object["metadata"]["name"] = name.clone().into();
        node.apply(&object).unwrap();
        let states = if phase == "Running" {
            json!({"waiting": {"reason": "CrashLoopBackOff"}})
        } else {
            ended.clone()
        };
        let status = json!({"status": {
            "phase": phase, "reason": "NodeLost", "startTime": time, "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": time},
                {"type": "DisruptionTarget", "status": "True", "reason": "Odd", "lastTransitionTime": time}],
            "containerStatuses": [of("main", states)],
        }});
        let patch = status.to_string();
        node.output(&["patch", "pod", &name, "--subresource=status", "--type=merge", "-p", &patch]).unwrap();
    }
}

/// Pods that name their node.
fn bound(node: &Node) {
    node.apply(&pod("done", "true")).unwrap();
    node.apply(&pod("broken", "exit 3")).unwrap();
    let mut loops = pod("loops", "exit 7");
    loops["spec"]["restartPolicy"] = "Always".into();
    node.apply(&loops).unwrap();
    let mut absent = pod("absent", "true");
    absent["spec"]["containers"][0]["image"] = "no.such/image:1".into();
    absent["spec"]["containers"][0]["imagePullPolicy"] = "Never".into();
    node.apply(&absent).unwrap();
}

#[test]
fn what_a_cluster_writes_is_told_alike() {
    let node = Node::start(NodeOptions { controllers: true, ..NodeOptions::default() }).unwrap();
    let store = Arc::new(PodStore::default());
    let series = PodSeries::new(&store, &PodsConfig::default(), None);
    let followed = Followed { node: &node, store, series };
    controlled(&node);
    unbound(&node);
    bound(&node);

    let waiting = |found: &Found| {
        let states = found.pod.status.containers.iter().filter_map(|it| it.state.waiting.as_ref());
        states.map(|waiting| (*waiting.reason).to_owned()).collect::<String>()
    };
    followed.wait_for("absent", |found| waiting(found) == "ErrImageNeverPull");
    followed.wait_for("done", |found| &*found.pod.status.phase == "Succeeded");
    followed.wait_for("broken", |found| &*found.pod.status.phase == "Failed");
    followed.wait_for("waits", |found| !found.pod.status.conditions.is_empty());

    // Who made them, from their names alone, is who did.
    let web = followed.wait_for("web-", running);
    let replica_set = web.pod.controller().unwrap().name.clone();
    assert_eq!(chain(&web), [format!("ReplicaSet/{replica_set}"), "Deployment/web".to_owned()]);
    assert_eq!(chain(&followed.wait_for("each-", running)), ["DaemonSet/each"]);
    assert_eq!(chain(&followed.wait_for("db-0", running)), ["StatefulSet/db"]);
    let job = followed.wait_for("night-ly-", |found| &*found.pod.status.phase == "Succeeded");
    assert_eq!(chain(&job)[1..], ["CronJob/night-ly"]);
    let (found, container) = followed.store.by_container(&web.pod.status.containers[0].container_id).unwrap();
    assert_eq!((&found.pod.meta.uid, &*container), (&web.pod.meta.uid, "main"));

    // Each end of one that goes on ending is counted, and none twice.
    let back = |found: &Found| found.pod.status.containers.iter().any(|it| it.restart_count >= 3);
    let loops = followed.wait_for("loops", |found| back(found) && waiting(found) == "CrashLoopBackOff");
    let restarts = loops.pod.status.containers[0].restart_count as f64;
    assert_eq!(followed.sum("taffrail_pod_container_terminations_total", &loops), restarts + 1.0);
    assert_eq!(followed.sum("taffrail_pod_container_oom_kills_total", &loops), 0.0);

    let mut objects = followed.listed();
    let phases: Vec<&str> = objects.iter().filter_map(|pod| pod["status"]["phase"].as_str()).collect();
    for phase in ["Pending", "Running", "Succeeded", "Failed", "Unknown"] {
        assert!(phases.contains(&phase), "{phase} in {phases:?}");
    }
    objects.push(
        serde_json::from_str(
            &node.output(&["get", "node", taffrail_parts::node::NAME, "-o", "json"]).unwrap(),
        )
        .unwrap(),
    );
    assert_eq!(objects.last().unwrap()["kind"], "Node");
    assert_eq!(compare(&objects, &["*"], &["example.com/*"]), NOTHING);
}
