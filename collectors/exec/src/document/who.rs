//! What documents say of who asked for a session.
//!
//! Users are named by the API server, and by themselves: texts that people read in a line have no control characters.

use std::net::IpAddr;

use serde_json::{Value, json};
use taffrail_spool::{now, stamp};

use super::{Document, Writer, line, plain};
use crate::request::{Attribution, Known};
use crate::session::{Open, Origin, Whose};
use crate::tree::Tree;
use crate::wire::differences;

impl Writer {
    /// From where on the machine somebody came who was not brought by the runtime.
    pub(crate) fn came_from(
        &self,
        document: &mut Document,
        entered_by: u32,
        cgroup: &str,
        whose: Option<&Whose>,
    ) {
        let tree = &mut document.tree;
        // Where his cgroup is another one than his parent's, it is not by that that he came in.
        let entered_by = entered_by & !differences::CGROUP;
        tree.put("audit.entered_by", json!(differences::names(entered_by).collect::<Vec<_>>()));
        tree.put("audit.came_from.cgroup", cgroup);
        if let Some(whose) = whose {
            tree.put("audit.came_from.container.id", whose.id.as_str());
            tree.put("audit.came_from.container.name", whose.container.as_str());
            tree.put("audit.came_from.kubernetes.namespace", whose.namespace.as_str());
            tree.put("audit.came_from.kubernetes.pod.name", whose.pod.as_str());
        }
    }

    /// That it became known at whose request a session came about, or that it will not.
    pub(crate) fn attributed(&self, open: &Open) -> Document {
        let (attribution, time) = (&open.attribution, now());
        let id = format!("{}.who.{}", open.id, attribution.told.saturating_sub(1));
        let mut tree = Tree::default();
        let is_finding = attribution.known == Known::OutOfBand;
        tree.put("event.kind", is_finding.then_some("alert"));
        self.head(&mut tree, &id, time);
        tree.put("event.category", json!(["session"]));
        tree.put("event.type", json!(["info"]));
        tree.put("event.action", "session-attributed");
        tree.put("event.start", stamp(open.begun));
        tree.put("message", said(open));
        tree.put("process.args", json!(open.entry.arguments));
        tree.put("audit.login_user.id", open.entry.login_user.map(|user| user.to_string()));
        self.told_of_session(&mut tree, open);
        put_attribution(&mut tree, attribution);
        self.constants(&mut tree, &open.whose);
        Document { id, time, tree }
    }

    /// That somebody is with a container's first process.
    pub(crate) fn attached(&self, open: &Open) -> Document {
        let id = format!("{}.0", open.id);
        let mut tree = Tree::default();
        self.head(&mut tree, &id, open.begun);
        tree.put("event.category", json!(["session"]));
        tree.put("event.type", json!(["start"]));
        tree.put("event.action", "session-attached");
        tree.put("event.sequence", 0);
        tree.put("message", format!("attached to {}", plain(&open.whose.display())));
        self.told_of_session(&mut tree, open);
        self.constants(&mut tree, &open.whose);
        Document { id, time: open.begun, tree }
    }
}

impl Open {
    /// What was begun, in a line.
    pub(super) fn called(&self) -> String {
        if self.origin == Origin::Attach { "attach".to_owned() } else { line(&self.entry.arguments) }
    }
}

fn said(open: &Open) -> String {
    let what = format!("{} in {}", open.called(), plain(&open.whose.display()));
    let attribution = &open.attribution;
    match &attribution.request {
        Some(request) => {
            let perhaps = if attribution.is_ambiguous { ", or another one" } else { "" };
            format!("{}{perhaps} asked for {} ({})", plain(&request.user.name), what, request.asked.as_str())
        }
        None => format!("{}: {}: {what}", attribution.known.as_str(), plain(&attribution.reason)),
    }
}

/// Puts down who asked for a session, and how far that is known.
pub(super) fn put_attribution(tree: &mut Tree, attribution: &Attribution) {
    if attribution.known == Known::Unasked {
        return;
    }
    tree.put("audit.attribution.known", attribution.known.as_str());
    tree.put("audit.attribution.reason", attribution.reason.as_str());
    tree.put("audit.attribution.ambiguous", attribution.is_ambiguous.then_some(true));
    tree.put("audit.attribution.documents", attribution.told);
    let Some(request) = &attribution.request else { return };
    let list = |texts: &[String]| if texts.is_empty() { Value::Null } else { json!(texts) };
    tree.put("client.user.name", request.user.name.as_str());
    tree.put("client.user.id", request.user.uid.as_str());
    tree.put("client.user.group.name", list(&request.user.groups));
    let addresses = request.source_ips.iter().filter(|text| text.parse::<IpAddr>().is_ok());
    tree.put("source.ip", list(&addresses.cloned().collect::<Vec<_>>()));
    tree.put("user_agent.original", request.user_agent.as_str());
    tree.put("audit.request.resource", request.asked.as_str());
    tree.put("audit.request.id", list(&request.ids));
    tree.put("audit.request.at", stamp(request.at));
    tree.put("audit.request.command", request.command.as_deref().map_or(Value::Null, |words| json!(words)));
    let sources: Vec<&str> = request.sources.iter().map(|source| source.as_str()).collect();
    tree.put("audit.request.sources", json!(sources));
    if let Some(user) = &request.impersonator {
        tree.put("audit.request.impersonator.name", user.name.as_str());
        tree.put("audit.request.impersonator.id", user.uid.as_str());
        tree.put("audit.request.impersonator.group.name", list(&user.groups));
    }
}
