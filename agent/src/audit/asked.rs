//! What a pod's specification asks for in one of its containers: what kubelet runs there of its own accord.
//!
//! Guarantee: a container whose name is not known yet is not told from the others of its pod: all that is asked for in any of them is
//! asked for in it. A lifecycle hook runs before anybody is told which container it runs in.

use taffrail_exec::AskedFor;
use taffrail_pods::{Command, ContainerSpec, Pod};

/// Of the container of this name, if that is known.
pub(super) fn of(pod: &Pod, name: Option<&str>) -> AskedFor {
    let spec = &pod.spec;
    let name = name.filter(|name| !name.is_empty());
    let is_it = |container: &&ContainerSpec| name.is_none_or(|name| *container.name == *name);
    let own = || spec.containers.iter().chain(&spec.init_containers).filter(is_it);
    // A specification that does not have it is one of before it was added.
    let added = || spec.ephemeral_containers.iter().any(|container| is_it(&container));
    let is_ephemeral = name.and_then(|_| added().then_some(true).or_else(|| own().next().map(|_| false)));
    AskedFor {
        probes: own().flat_map(|container| &container.probes).map(words).collect(),
        hooks: own().flat_map(|container| &container.hooks).map(words).collect(),
        is_ephemeral,
    }
}

fn words(command: &Command) -> Vec<String> {
    command.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_whose_name_is_not_known_may_be_any_of_its_pod() {
        let container =
            |name: &str| json!({"name": name, "livenessProbe": {"exec": {"command": ["is", name]}}});
        let mut pod = json!({
            "metadata": {"namespace": "shop", "name": "web-0", "uid": "u-1"},
            "spec": {"containers": [container("web"), container("side")], "initContainers": [
                {"name": "set-up", "lifecycle": {"postStart": {"exec": {"command": ["go"]}}}}]},
        });
        let asked = |pod: &serde_json::Value, name: Option<&str>| {
            of(&Pod::parse(pod.to_string().as_bytes()).expect("a pod"), name)
        };
        let web = asked(&pod, Some("web"));
        assert_eq!(
            (web.probes, web.hooks.len(), web.is_ephemeral),
            (vec![vec!["is".to_owned(), "web".to_owned()]], 0, Some(false))
        );
        let any = asked(&pod, Some(""));
        assert_eq!((any.probes.len(), any.hooks.len(), any.is_ephemeral), (2, 1, None));
        assert_eq!(asked(&pod, Some("debugger-x")).is_ephemeral, None, "it may have been added since");

        pod["spec"]["ephemeralContainers"] = json!([{"name": "debugger-x"}]);
        assert_eq!(asked(&pod, None).is_ephemeral, None);
        assert_eq!(asked(&pod, Some("web")).is_ephemeral, Some(false));
        assert_eq!(asked(&pod, Some("debugger-x")).is_ephemeral, Some(true));
    }
}
