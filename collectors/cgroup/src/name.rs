//! What the path of a cgroup says about whose it is.
//!
//! Runtimes and kubelet put a container's id and a pod's uid into the names of their cgroups, each in its own way and in
//! one of two styles (the `cgroupfs` driver nests plain directories, the `systemd` driver slices and scopes). Nothing else
//! is needed to know a container; what it is called comes from the runtime.

/// Whose a cgroup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind<'p> {
    /// The machine itself, `/`.
    Root,
    /// `kubepods` or one of its classes.
    Pods,
    /// A pod, by its uid as the API server writes it.
    Pod(String),
    /// A container or a sandbox.
    Container(Container<'p>),
    /// Anything else: a unit, a user's session.
    Other,
}

/// A container, as far as its path tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container<'p> {
    /// Its id in the runtime.
    pub(crate) id: &'p str,
    /// The runtime that the name speaks of.
    pub(crate) runtime: Runtime,
    /// The pod it belongs to.
    pub(crate) pod: Option<String>,
}

/// Who made a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Containerd,
    CriO,
    Docker,
    Podman,
    /// The name does not say: the `cgroupfs` driver of containerd and Docker names the id alone.
    Unnamed,
}

/// Prefixes of scopes and directories, and whose they are.
const PREFIXES: [(&str, Runtime); 6] = [
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
    ("", Runtime::Unnamed),
];

/// Reads a path such as `/kubepods.slice/kubepods-pod1234.slice/cri-containerd-5678.scope`.
pub(crate) fn kind(path: &str) -> Kind<'_> {
    if path == "/" {
        return Kind::Root;
    }
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    let Some(last) = parts.next() else { return Kind::Root };
    if let Some((id, runtime)) = container(last) {
        let runtime = match runtime {
            Runtime::Unnamed if path.starts_with("/docker/") => Runtime::Docker,
            runtime => runtime,
        };
        return Kind::Container(Container { id, runtime, pod: parts.find_map(pod) });
    }
    if let Some(uid) = pod(last) {
        return Kind::Pod(uid);
    }
    let slice = last.strip_suffix(".slice").unwrap_or(last);
    let is_pods = |name: &str| {
        let class = name.rsplit('-').next().unwrap_or(name);
        matches!(class, "kubepods" | "burstable" | "besteffort" | "guaranteed")
    };
    if path.contains("kubepods") && is_pods(slice) { Kind::Pods } else { Kind::Other }
}

/// The id in the name of a container's cgroup: 64 hexadecimal digits, alone or in a scope.
fn container(name: &str) -> Option<(&str, Runtime)> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    PREFIXES.iter().find_map(|(prefix, runtime)| {
        let id = name.strip_prefix(prefix)?;
        is_id(id).then_some((id, *runtime))
    })
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The uid in the name of a pod's cgroup. systemd's slices have underscores where the uid has dashes.
fn pod(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid)?,
        None => name.strip_prefix("pod")?,
    };
    // A static pod's uid is a hash without dashes.
    let valid =
        uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_' || byte == b'-');
    valid.then(|| uid.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "1b4b6b3c-8a0e-4a57-9d6e-0a4f1c1d2e3f";

    fn of(path: &str) -> String {
        match kind(path) {
            Kind::Container(Container { id, runtime, pod }) => {
                assert_eq!(id, ID);
                format!("{runtime:?} {}", pod.unwrap_or_default())
            }
            Kind::Pod(uid) => format!("pod {uid}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_names_that_runtimes_and_drivers_make_are_read() {
        let systemd = UID.replace('-', "_");
        let slice = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice");
        let plain = format!("/kubepods/besteffort/pod{UID}");
        for (path, expected) in [
            ("/".to_owned(), "Root".to_owned()),
            ("/kubepods.slice".to_owned(), "Pods".to_owned()),
            ("/kubepods.slice/kubepods-burstable.slice".to_owned(), "Pods".to_owned()),
            ("/kubepods/besteffort".to_owned(), "Pods".to_owned()),
            ("/kubelet.slice/kubelet-kubepods.slice".to_owned(), "Pods".to_owned()),
            (slice.clone(), format!("pod {UID}")),
            (plain.clone(), format!("pod {UID}")),
            (format!("{slice}/cri-containerd-{ID}.scope"), format!("Containerd {UID}")),
            (format!("{slice}/crio-{ID}.scope"), format!("CriO {UID}")),
            (format!("{slice}/docker-{ID}.scope"), format!("Docker {UID}")),
            (format!("{plain}/{ID}"), format!("Unnamed {UID}")),
            (format!("{plain}/crio-{ID}"), format!("CriO {UID}")),
            (format!("/kubelet/kubepods/pod{UID}/{ID}"), format!("Unnamed {UID}")),
            (format!("/system.slice/docker-{ID}.scope"), "Docker ".to_owned()),
            (format!("/docker/{ID}"), "Docker ".to_owned()),
            (format!("/k8s.io/{ID}"), "Unnamed ".to_owned()),
            (format!("/machine.slice/libpod-{ID}.scope"), "Podman ".to_owned()),
            (format!("/libpod_parent/libpod-{ID}"), "Podman ".to_owned()),
            (format!("{slice}/crio-conmon-{ID}.scope"), "Other".to_owned()),
            (format!("{slice}/cri-containerd-{ID}.scope/init"), "Other".to_owned()),
            (
                "/kubepods/pod0123456789abcdef0123456789abcdef".to_owned(),
                "pod 0123456789abcdef0123456789abcdef".to_owned(),
            ),
            ("/system.slice/sshd.service".to_owned(), "Other".to_owned()),
            ("/system.slice/pod-of-whales.service".to_owned(), "Other".to_owned()),
            ("/user.slice/user-0.slice/session-besteffort".to_owned(), "Other".to_owned()),
            (format!("/docker/{}", &ID[1..]), "Other".to_owned()),
            (format!("/docker/{}", ID.to_uppercase()), "Other".to_owned()),
        ] {
            assert_eq!(of(&path), expected, "{path}");
        }
    }
}
