//! What kubelet's metrics call a container, which depends on the runtime.
//!
//! containerd's containers go by their id, and its sandboxes have no name in the pod but an image. CRI-O and
//! cri-dockerd name containers after their pod, and sandboxes `POD`.

use crate::ContainerInfo;

/// What a sandbox is called where it has a name.
const SANDBOX: &str = "POD";

/// A container as metrics name it. Empty: unknown, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// Its id.
    pub id: String,
    /// Its name in the pod; `POD` or empty for a sandbox.
    pub container: String,
    /// Name of the pod.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// The image, by name.
    pub image: String,
    /// What the runtime calls it.
    pub name: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Whether it is a sandbox.
    pub sandbox: bool,
}

/// Names of these containers as a runtime of this name has them.
#[must_use]
pub fn names(runtime: &str, containers: &[ContainerInfo]) -> Vec<Name> {
    containers.iter().map(|info| name(runtime, info)).collect()
}

fn name(runtime: &str, info: &ContainerInfo) -> Name {
    let after_pod = matches!(runtime, "cri-o" | "docker");
    let container = if info.sandbox && after_pod { SANDBOX } else { &info.container };
    Name {
        id: info.id.clone(),
        container: container.to_owned(),
        pod: info.pod.clone(),
        namespace: info.namespace.clone(),
        pod_uid: info.pod_uid.clone(),
        image: if info.sandbox && runtime == "cri-o" { String::new() } else { info.image.clone() },
        name: if after_pod { of_pod(container, info) } else { info.id.clone() },
        labels: info.labels.clone().into_iter().collect(),
        sandbox: info.sandbox,
    }
}

fn of_pod(container: &str, info: &ContainerInfo) -> String {
    let ContainerInfo { pod, namespace, pod_uid, attempt, .. } = info;
    format!("k8s_{container}_{pod}_{namespace}_{pod_uid}_{attempt}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runtime_has_its_own_way_to_name() {
        let app = ContainerInfo {
            id: "c1".to_owned(),
            container: "app".to_owned(),
            attempt: 2,
            pod: "cart".to_owned(),
            namespace: "shop".to_owned(),
            pod_uid: "u-1".to_owned(),
            image: "web:1".to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..ContainerInfo::default()
        };
        let sandbox = ContainerInfo {
            id: "s1".to_owned(),
            sandbox: true,
            container: String::new(),
            attempt: 0,
            image: "pause:3".to_owned(),
            ..app.clone()
        };
        for (runtime, info, container, image, name) in [
            ("containerd", &app, "app", "web:1", "c1"),
            ("containerd", &sandbox, "", "pause:3", "s1"),
            ("cri-o", &app, "app", "web:1", "k8s_app_cart_shop_u-1_2"),
            ("cri-o", &sandbox, "POD", "", "k8s_POD_cart_shop_u-1_0"),
            ("docker", &app, "app", "web:1", "k8s_app_cart_shop_u-1_2"),
            ("docker", &sandbox, "POD", "pause:3", "k8s_POD_cart_shop_u-1_0"),
            ("another", &sandbox, "", "pause:3", "s1"),
        ] {
            let found = super::name(runtime, info);
            assert_eq!([&*found.container, &found.image, &found.name], [container, image, name], "{runtime}");
            let of_pod = [&*found.id, &found.pod, &found.namespace, &found.pod_uid];
            assert_eq!(of_pod, [&*info.id, "cart", "shop", "u-1"]);
            assert_eq!((found.sandbox, found.labels.len()), (info.sandbox, 1));
        }
    }
}
