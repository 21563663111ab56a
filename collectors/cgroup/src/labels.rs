//! The labels that every series of a cgroup has.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use taffrail_record::Labels;

use crate::config::LabelStyle;
use crate::entry::Owner;
use crate::names::{ContainerName, Names, PodName};

/// Longer values are cut: a label may be as long as its author likes.
const LONGEST: usize = 1024;
/// More labels of containers are left out.
const MOST: usize = 64;

/// Renders the labels of one cgroup. `keys` are those of all containers' labels.
pub(crate) fn of(id: &str, owner: &Owner, names: &Names, style: LabelStyle, keys: &[String]) -> Labels {
    let id = short(id);
    let known = owner.container.as_deref().and_then(|id| names.container(id));
    let known = known.as_deref();
    let name = match known {
        Some(known) if !known.name.is_empty() => known.name.as_str(),
        _ => owner.container.as_deref().unwrap_or_default(),
    };
    let text = |field: fn(&ContainerName) -> &str| known.map_or("", field);
    if style == LabelStyle::Cadvisor {
        let mut labels = vec![
            ("id".to_owned(), &*id),
            ("image".to_owned(), text(|k| &k.image)),
            ("name".to_owned(), name),
        ];
        for key in keys.iter().take(MOST) {
            let value = known
                .and_then(|k| k.labels.iter().find(|(known, _)| known == key))
                .map_or("", |(_, value)| value);
            let label = format!("container_label_{}", sanitised(key));
            // Two keys that differ in what a label name cannot have would be one label twice.
            if labels.iter().all(|(known, _)| *known != label) {
                labels.push((label, value));
            }
        }
        return Labels::new(labels.iter().map(|(label, value)| (label.as_str(), cut(value))));
    }
    let told = PodName { namespace: text(|k| &k.namespace).to_owned(), name: text(|k| &k.pod).to_owned() };
    let by_uid = || owner.pod.as_deref().and_then(|uid| names.pod(uid));
    let pod = if told.name.is_empty() { by_uid().unwrap_or_default() } else { told };
    Labels::new([
        ("container", cut(text(|k| &k.container))),
        ("id", &*id),
        ("image", cut(text(|k| &k.image))),
        ("name", cut(name)),
        ("namespace", cut(&pod.namespace)),
        ("pod", cut(&pod.name)),
    ])
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// A path that is cut ends in a number of its own and, as no other, in two slashes: two do not become one.
fn short(id: &str) -> Cow<'_, str> {
    if id.len() <= LONGEST {
        return id.into();
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let end = format!("~{:016x}//", hasher.finish());
    format!("{}{end}", &id[..id.floor_char_boundary(LONGEST - end.len())]).into()
}

/// What a label name can have of a key.
fn sanitised(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;

    fn names() -> Arc<Names> {
        let names = Names::new();
        let web = ContainerName {
            container: "web".into(),
            pod: "web-0".into(),
            namespace: "shop".into(),
            pod_uid: String::new(),
            image: "nginx:1".into(),
            name: "k8s_web".into(),
            labels: vec![("app.kubernetes.io/name".into(), "a\"b".into())],
            sandbox: false,
            logs: None,
        };
        names.set_containers("cri", HashMap::from([("5e".to_owned(), Arc::new(web))]));
        names.set_pods(HashMap::from([(
            "uid".to_owned(),
            PodName { namespace: "shop".into(), name: "web-0".into() },
        )]));
        names
    }

    #[test]
    fn kubelets_six_labels_are_always_there() {
        let names = names();
        let of = |id, owner| of(id, &owner, &names, LabelStyle::Kubelet, &[]).as_str().to_owned();
        let container = Owner { container: Some("5e".into()), pod: Some("uid".into()), ..Owner::default() };
        assert_eq!(
            of("/kubepods/poduid/5e", container),
            r#"container="web",id="/kubepods/poduid/5e",image="nginx:1",name="k8s_web",namespace="shop",pod="web-0""#
        );
        let unknown = Owner { container: Some("9f".into()), pod: Some("uid".into()), ..Owner::default() };
        assert_eq!(
            of("/x", unknown),
            r#"container="",id="/x",image="",name="9f",namespace="shop",pod="web-0""#
        );
        let root = r#"container="",id="/",image="",name="",namespace="",pod="""#;
        assert_eq!(of("/", Owner::default()), root);
    }

    #[test]
    fn cadvisors_own_labels_are_those_of_all_containers() {
        let names = names();
        let keys = names.label_keys();
        let of = |id, owner| of(id, &owner, &names, LabelStyle::Cadvisor, &keys).as_str().to_owned();
        let container = Owner { container: Some("5e".into()), ..Owner::default() };
        assert_eq!(
            of("/docker/5e", container),
            r#"id="/docker/5e",image="nginx:1",name="k8s_web",container_label_app_kubernetes_io_name="a\"b""#
        );
        assert_eq!(
            of("/", Owner::default()),
            r#"id="/",image="",name="",container_label_app_kubernetes_io_name="""#
        );
    }

    #[test]
    fn hostile_values_are_cut_at_a_character() {
        assert_eq!(cut(&"ü".repeat(LONGEST)).len(), LONGEST);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn paths_that_are_cut_stay_apart() {
        let long = "/a".repeat(LONGEST);
        let (one, other) = (short(&long).into_owned(), short(&long[2..]).into_owned());
        assert!(one != other && one.starts_with("/a/a") && one.len() == LONGEST, "{one}");
        assert_ne!(short(&one), short(one.trim_end_matches('/')), "it is no path");
        assert_eq!(short(&long[..LONGEST]), long[..LONGEST]);
    }
}
