//! What is known of one container, out of the runtime's lists.

use std::collections::{BTreeMap, HashMap};

use crate::messages::{Container, Image, ImageSpec, Sandbox, SandboxMetadata};

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Hex digits of a SHA-256.
const DIGEST_LENGTH: usize = 64;

/// One container, or the sandbox that holds a pod's namespaces. The lists do not name processes. Empty: unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// 64 hex digits. A sandbox's own id is that of its container.
    pub id: String,
    /// Whether it is a sandbox.
    pub sandbox: bool,
    /// The sandbox of its pod; of a sandbox itself its own id.
    pub sandbox_id: String,
    /// Its name in the pod; empty for a sandbox.
    pub container: String,
    /// How often it, or its sandbox, was made anew.
    pub attempt: u32,
    /// Name of the pod.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// The image by name where one is known, else by id.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created, in Unix nanoseconds.
    pub created: Option<i64>,
}

/// Images by id without `sha256:`.
pub(crate) type Images = HashMap<String, Image>;

impl ContainerInfo {
    pub(crate) fn of_sandbox(sandbox: Sandbox, image: String) -> ContainerInfo {
        let Sandbox { id, metadata, created_at, labels } = sandbox;
        let attempt = metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        ContainerInfo {
            sandbox: true,
            sandbox_id: id.clone(),
            attempt,
            image,
            created: (created_at > 0).then_some(created_at),
            id,
            ..in_pod(labels, metadata.unwrap_or_default())
        }
    }

    /// What the labels do not say of the pod, its sandbox does.
    pub(crate) fn of_container(
        container: Container,
        pod: Option<&SandboxMetadata>,
        images: &Images,
    ) -> ContainerInfo {
        let image = image(&container, images);
        let Container { id, pod_sandbox_id, metadata, created_at, labels, .. } = container;
        let metadata = metadata.unwrap_or_default();
        ContainerInfo {
            sandbox_id: pod_sandbox_id,
            container: labels.get(CONTAINER_NAME).cloned().unwrap_or(metadata.name),
            attempt: metadata.attempt,
            image,
            created: (created_at > 0).then_some(created_at),
            id,
            ..in_pod(labels, pod.cloned().unwrap_or_default())
        }
    }
}

fn in_pod(labels: BTreeMap<String, String>, pod: SandboxMetadata) -> ContainerInfo {
    let label = |key: &str, otherwise: String| labels.get(key).cloned().unwrap_or(otherwise);
    ContainerInfo {
        pod: label(POD_NAME, pod.name),
        namespace: label(POD_NAMESPACE, pod.namespace),
        pod_uid: label(POD_UID, pod.uid),
        labels,
        ..ContainerInfo::default()
    }
}

/// The id of the image that a container's name can only be learned from, if it is so.
pub(crate) fn nameless_image(container: &Container) -> Option<&str> {
    let listed = container.image.as_ref().map(|spec| spec.image.as_str()).filter(|text| !text.is_empty());
    image_id(listed.unwrap_or(&container.image_ref))
}

/// The hex digits of a text that is an image's id.
pub(crate) fn image_id(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    (digits.len() == DIGEST_LENGTH && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

/// The name in full where the runtime has one: the pod's author may have left the registry out.
fn image(container: &Container, images: &Images) -> String {
    let ImageSpec { image, user_specified_image: asked } = container.image.clone().unwrap_or_default();
    let Some(id) = nameless_image(container) else {
        return if image.is_empty() { container.image_ref.clone() } else { image };
    };
    let tags = images.get(id).map(|image| image.repo_tags.as_slice()).unwrap_or_default();
    let digests = images.get(id).map(|image| image.repo_digests.as_slice()).unwrap_or_default();
    let full = tags.iter().chain(digests).find(|name| says_the_same(name, &asked));
    let any =
        || if asked.is_empty() { tags.first().or(digests.first()).cloned() } else { Some(asked.clone()) };
    let known = full.cloned().or_else(any);
    known.unwrap_or_else(|| if image.is_empty() { container.image_ref.clone() } else { image })
}

/// Whether a name in full is what was asked for: a registry, a folder and the tag `latest` may be left out.
fn says_the_same(full: &str, asked: &str) -> bool {
    let short = |asked: &str| {
        let rest = full.strip_suffix(asked);
        !asked.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    short(asked) || short(&format!("{asked}:latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn container(image: &str, asked: &str, image_ref: &str) -> Container {
        Container {
            image: Some(ImageSpec { image: image.to_owned(), user_specified_image: asked.to_owned() }),
            image_ref: image_ref.to_owned(),
            ..Container::default()
        }
    }

    fn images(tags: &[&str], digests: &[&str]) -> Images {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let image = Image { id: format!("sha256:{ID}"), repo_tags: own(tags), repo_digests: own(digests) };
        Images::from([(ID.to_owned(), image)])
    }

    #[test]
    fn an_image_is_named_in_full_where_its_name_is_known() {
        let id = format!("sha256:{ID}");
        let both = images(&["reg/other:2", "docker.io/library/web:1"], &["reg/web@sha256:00"]);
        let digest = images(&[], &["reg/web@sha256:00"]);
        let none = Images::new();
        for (image, asked, image_ref, images, expected) in [
            ("docker.io/library/web:1", "", &*id, &none, "docker.io/library/web:1"),
            ("docker.io/library/web:1", "web:1", &id, &both, "docker.io/library/web:1"),
            (&id, "web:1", &id, &both, "docker.io/library/web:1"),
            (ID, "library/web:1", ID, &both, "docker.io/library/web:1"),
            (&id, "eb:1", &id, &both, "eb:1"),
            (&id, "web:3", &id, &both, "web:3"),
            (&id, "", &id, &both, "reg/other:2"),
            (&id, "web@sha256:00", &id, &digest, "reg/web@sha256:00"),
            (&id, "", &id, &digest, "reg/web@sha256:00"),
            (&id, "web:1", &id, &none, "web:1"),
            (&id, "", &id, &none, &id),
            ("", "", &id, &both, "reg/other:2"),
            ("", "", "reg/web@sha256:00", &both, "reg/web@sha256:00"),
            ("", "", "", &both, ""),
        ] {
            let found = super::image(&container(image, asked, image_ref), images);
            assert_eq!(found, expected, "{image} {asked} {image_ref}");
        }
        let latest = images(&["docker.io/library/web:latest"], &[]);
        assert_eq!(super::image(&container(&id, "web", &id), &latest), "docker.io/library/web:latest");
    }

    #[test]
    fn an_id_is_64_hex_digits_with_or_without_its_kind() {
        for (text, expected) in [
            (ID, Some(ID)),
            (&format!("sha256:{ID}"), Some(ID)),
            (&ID[1..], None),
            (&format!("web@sha256:{ID}"), None),
            (&ID.replace('0', "g"), None),
            ("", None),
        ] {
            assert_eq!(image_id(text), expected, "{text}");
        }
    }

    #[test]
    fn labels_say_the_pod_and_the_sandbox_where_they_do_not() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let pod = SandboxMetadata {
            name: "cart".to_owned(),
            uid: "u-1".to_owned(),
            namespace: "shop".to_owned(),
            attempt: 3,
        };
        let bare = Container { id: "c".to_owned(), pod_sandbox_id: "s".to_owned(), ..Container::default() };
        let told = Container {
            labels: labels(&[
                (POD_NAME, "web"),
                (POD_NAMESPACE, "net"),
                (POD_UID, "u-2"),
                (CONTAINER_NAME, "app"),
            ]),
            created_at: 7,
            ..bare.clone()
        };
        let of = |container, pod| ContainerInfo::of_container(container, pod, &Images::new());
        let facts = |info: &ContainerInfo| {
            [&info.pod, &info.namespace, &info.pod_uid, &info.container].map(ToString::to_string)
        };
        assert_eq!(facts(&of(told.clone(), Some(&pod))), ["web", "net", "u-2", "app"]);
        assert_eq!(facts(&of(bare.clone(), Some(&pod))), ["cart", "shop", "u-1", ""]);
        assert_eq!(facts(&of(bare.clone(), None)), ["", "", "", ""]);
        assert_eq!((of(told, None).created, of(bare, None).created), (Some(7), None));
        let sandbox = Sandbox { id: "s".to_owned(), metadata: Some(pod), ..Sandbox::default() };
        let sandbox = ContainerInfo::of_sandbox(sandbox, "pause:3".to_owned());
        assert_eq!(facts(&sandbox), ["cart", "shop", "u-1", ""]);
        assert_eq!((sandbox.sandbox, sandbox.attempt, &*sandbox.sandbox_id), (true, 3, "s"));
    }
}
