//! The audit of this node's containers: who tells whose they are, and which way its documents go.
//!
//! They go where everything goes, through a spool of their own: an output that is away costs disk, up to `audit.spool_bytes`,
//! and after that waits in the kernel. What has arrived is read back by [`kept`], and told to people by [`transcript`].

mod asked;
pub(crate) mod kept;
pub(crate) mod recording;
pub(crate) mod requests;
pub(crate) mod screen;
pub(crate) mod transcript;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use taffrail_cgroup::Names;
use taffrail_exec::{AskedFor, Audit, AuditCollector, AuditConfig, Namer, Summary, Whose, take_away};
use taffrail_kernfs::Roots;
use taffrail_record::{Ask, Context, Node};

use crate::config::Config;
use crate::http::Shipper;
use crate::kubernetes::{Cluster, Teller};
use crate::pipeline::Shared;
use crate::supervise::{Make, Patience, supervise};

/// Starts it, where that is wanted.
///
/// # Errors
/// When the system grants no thread.
pub(crate) fn start(
    config: &Config,
    node: &Arc<ArcSwap<Node>>,
    cluster: Option<&Cluster>,
    context: &Context,
    patience: Patience,
    shared: &Shared,
) -> std::io::Result<Option<(Audit, Vec<JoinHandle<()>>)>> {
    let folder = config.state_directory().join("audit");
    if !config.audit.enabled {
        if let Err(error) = take_away(&config.audit, &folder) {
            tracing::warn!(%error, folder = %config.audit.bpffs.display(), "the audit is off, and its probes stay in the kernel; remove taffrail-* there");
        }
        return Ok(None);
    }
    let namer = Arc::new(Known { names: Arc::clone(&shared.names), teller: cluster.map(Cluster::teller) });
    let roots = config.metrics.roots();
    let collector = AuditCollector::new(config.audit.clone(), Arc::clone(node), roots, namer, folder)
        .with_engines(config.engines())
        .with_drain(config.pipeline.drain_timeout.0);
    let audit = collector.handle();
    let make: Make = Box::new(move || Box::new(collector.again()));
    let reader = supervise("audit", make, context.clone(), Arc::clone(&shared.components), patience)?;
    let listener = requests::start(config, audit.requests(), cluster, shared)?;
    Ok(Some((audit, std::iter::once(reader).chain(listener).collect())))
}

/// What it would count, kept in `folder`: for the reference.
pub(crate) fn metrics(folder: &Path) -> [Arc<dyn Ask>; 2] {
    let namer = Arc::new(Known { names: Names::new(), teller: None });
    let (config, node, roots) = (AuditConfig::default(), Arc::default(), Roots::default());
    let audit = AuditCollector::new(config, node, roots, namer, folder).handle();
    [audit.metrics(), audit.requests().metrics()]
}

/// What troubles it, for readiness.
pub(crate) fn standing(audit: &Audit) -> [Shipper; 2] {
    let requests = requests::standing(&audit.requests());
    [Shipper { name: "audit".to_owned(), trouble: audit.view().trouble }, requests]
}

/// The sessions of this node, as the agent tells them over its socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionsReport {
    /// Whose they are.
    pub(crate) node: String,
    /// By what it is known who comes into containers: a tier as `audit.tier` names it, or `none`.
    pub(crate) tier: String,
    /// What is wrong, and what to do about it.
    pub(crate) trouble: Option<String>,
    /// Those that ended last in the order of their ends, then those that live in the order of their beginnings.
    pub(crate) sessions: Vec<Summary>,
}

impl SessionsReport {
    /// What is known now.
    pub(crate) fn new(node: String, audit: &Audit) -> SessionsReport {
        let view = audit.view();
        let (tier, trouble) = (view.tier.as_str().to_owned(), view.trouble);
        SessionsReport { node, tier, trouble, sessions: audit.sessions() }
    }
}

/// What the runtimes and the cluster have told.
struct Known {
    names: Arc<Names>,
    teller: Option<Arc<Teller>>,
}

impl Namer for Known {
    fn asked_for(&self, container_id: &str, pod_uid: &str) -> AskedFor {
        // Who is told nothing of pods waits for nothing.
        let Some(teller) = self.teller.as_ref().filter(|_| !pod_uid.is_empty()) else {
            return AskedFor { is_ephemeral: Some(false), ..AskedFor::default() };
        };
        let named = self.names.ask(container_id).map(|(_, name)| name.container.clone());
        let name = teller.of_container(container_id).map(|(_, container)| container.name).or(named);
        teller.pod(pod_uid).map_or_else(AskedFor::default, |pod| asked::of(&pod, name.as_deref()))
    }

    fn whose(&self, container_id: &str, pod_uid: &str) -> (Whose, bool) {
        let named = self.names.ask(container_id);
        let (id, uid) = (container_id.to_owned(), pod_uid.to_owned());
        let mut whose = Whose { id, pod_uid: uid, ..Whose::default() };
        if let Some((source, name)) = &named {
            whose.container.clone_from(if name.pod.is_empty() { &name.name } else { &name.container });
            whose.image.clone_from(&name.image);
            whose.runtime = if *source == "docker" { "docker".to_owned() } else { String::new() };
            whose.namespace.clone_from(&name.namespace);
            whose.pod.clone_from(&name.pod);
            if !name.pod_uid.is_empty() {
                whose.pod_uid.clone_from(&name.pod_uid);
            }
            if name.pod.is_empty() {
                whose.labels = name.labels.iter().cloned().collect();
            }
        }
        // The cluster knows labels and owners; the runtime knows a container first.
        let told = self.teller.as_ref().and_then(|teller| teller.of_container(container_id));
        let Some((pod, container)) = told else {
            let waits = self.teller.is_some() && !whose.pod_uid.is_empty();
            return (whose, named.is_some() && !waits);
        };
        whose.container = container.name;
        whose.runtime = container.runtime;
        if !container.image.is_empty() {
            whose.image = container.image;
        }
        (whose.namespace, whose.pod, whose.pod_uid) = (pod.namespace, pod.name, pod.uid);
        whose.labels = pod.labels;
        whose.owners = pod.told.map(|told| told.owners).unwrap_or_default();
        (whose, true)
    }
}
