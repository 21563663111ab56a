//! Who a container's records are about.

use std::collections::BTreeMap;
use std::sync::Arc;

use taffrail_record::{Container, Input, Node, Origin, Pod};

use crate::ContainerInfo;

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const CONTAINER_KIND: &str = "io.kubernetes.docker.type";

/// The origin of a container's records. Below kubelet the labels say which pod and container it is; kubelet's own
/// labels do not go on the records.
#[must_use]
pub fn origin(info: &ContainerInfo, node: &Arc<Node>) -> Origin {
    let pod = pod(info);
    let in_pod = info.labels.get(CONTAINER_NAME).filter(|_| pod.is_some());
    let container = Container {
        name: in_pod.unwrap_or(&info.name).clone(),
        id: info.id.clone(),
        image: info.image.clone(),
        runtime: "docker".to_owned(),
        labels: if pod.is_some() { BTreeMap::new() } else { info.labels.clone() },
    };
    Origin { node: Arc::clone(node), input: Input::Docker, pod, container: Some(container) }
}

/// Whether this container only holds a pod's namespaces: it runs `pause`, which prints nothing.
#[must_use]
pub fn is_sandbox(info: &ContainerInfo) -> bool {
    let label = |name| info.labels.get(name).map(String::as_str);
    label(CONTAINER_KIND) == Some("podsandbox") || pod(info).is_some() && label(CONTAINER_NAME) == Some("POD")
}

fn pod(info: &ContainerInfo) -> Option<Pod> {
    let label = |name| info.labels.get(name).cloned();
    Some(Pod {
        namespace: label(POD_NAMESPACE)?,
        name: label(POD_NAME)?,
        uid: label(POD_UID).unwrap_or_default(),
        ..Pod::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, labels: &[(&str, &str)]) -> ContainerInfo {
        ContainerInfo {
            id: "ab12".to_owned(),
            name: name.to_owned(),
            image: "web:1".to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..ContainerInfo::default()
        }
    }

    #[test]
    fn a_container_by_itself_keeps_its_name_and_labels() {
        let origin = origin(&info("web", &[("app", "shop")]), &Arc::default());
        let container = origin.container.expect("a container");
        assert_eq!((origin.input, origin.pod), (Input::Docker, None));
        assert_eq!(
            (container.name.as_str(), container.id.as_str(), container.image.as_str()),
            ("web", "ab12", "web:1")
        );
        assert_eq!(container.labels["app"], "shop");
    }

    #[test]
    fn a_container_of_a_pod_is_named_as_the_pod_names_it() {
        let labels = [
            (POD_NAME, "cart-7d9"),
            (POD_NAMESPACE, "shop"),
            (POD_UID, "1-2-3"),
            (CONTAINER_NAME, "app"),
            (CONTAINER_KIND, "container"),
        ];
        let info = info("k8s_app_cart-7d9_shop_1-2-3_0", &labels);
        let origin = origin(&info, &Arc::default());
        assert_eq!(origin.names(), ["shop", "cart-7d9", "app"]);
        assert_eq!(origin.pod.map(|pod| pod.uid), Some("1-2-3".to_owned()));
        assert_eq!(origin.container.map(|container| container.labels.len()), Some(0));
        assert!(!is_sandbox(&info));
    }

    #[test]
    fn what_holds_a_pods_namespaces_is_known() {
        let pod = [(POD_NAME, "cart"), (POD_NAMESPACE, "shop")];
        assert!(is_sandbox(&info("k8s_POD_cart", &[pod[0], pod[1], (CONTAINER_NAME, "POD")])));
        assert!(is_sandbox(&info("k8s_POD_cart", &[pod[0], pod[1], (CONTAINER_KIND, "podsandbox")])));
        assert!(!is_sandbox(&info("POD", &[(CONTAINER_NAME, "POD")])));
    }
}
