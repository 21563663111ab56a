//! What is written down: a JSON document in ECS names for each thing that happened, and one for each session that has ended.
//!
//! What the kernel says in bytes is text here; what is no UTF-8 is replaced, and the bytes stand beside it in base64. Texts that
//! people read in a line (`message`, `process.command_line`) have no control characters.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use taffrail_record::Node;
use taffrail_spool::stamp;

use crate::chain::hash;
use crate::scan::TICK;
use crate::session::{Found, Open, Whose, shell_code};
use crate::wire::{Exec, Exit, Flags, Process, Record, Session, differences};

const ECS_VERSION: &str = "8.0.0";

/// Between the kernel's clock and everybody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// What is to be added to nanoseconds since the machine's start.
    pub(crate) offset: i64,
}

impl Clock {
    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub(crate) fn time(self, since_start: u64) -> i64 {
        i64::try_from(since_start).unwrap_or(i64::MAX).saturating_add(self.offset)
    }
}

/// A document that is not in the chain yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The same for the same thing however often it is told.
    pub(crate) id: String,
    /// When it happened, nanoseconds since the Unix epoch.
    pub(crate) time: i64,
    tree: Map<String, Value>,
}

impl Document {
    /// Its bytes, with its place in the chain.
    pub(crate) fn bytes(&self, place: Value) -> Vec<u8> {
        let mut tree = self.tree.clone();
        put(&mut tree, "audit.chain", place);
        Value::Object(tree).to_string().into_bytes()
    }

    #[cfg(test)]
    pub(crate) fn value(&self) -> Value {
        Value::Object(self.tree.clone())
    }
}

/// What is the same for all documents of a boot of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    node: Arc<ArcSwap<Node>>,
    boot: String,
    environment: HashSet<Vec<u8>>,
}

impl Writer {
    /// `boot_id` is the kernel's; `environment` names the variables that may be told.
    pub(crate) fn new(node: Arc<ArcSwap<Node>>, boot_id: &str, environment: &[String]) -> Writer {
        let mut boot = hash(format!("{}\n{}", node.load().name, boot_id.trim()).as_bytes());
        boot.truncate(8);
        let environment = environment.iter().map(|name| name.as_bytes().to_vec()).collect();
        Writer { node, boot, environment }
    }

    /// What the chain of this boot is called, and the beginning of all ids.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// The name of a session of this boot.
    pub(crate) fn session_id(&self, number: u64) -> String {
        format!("{}-{number:x}", self.boot)
    }

    /// That a process was made.
    pub(crate) fn made(&self, document: &mut Document, process: &Process) {
        let name = plain(&text(&process.name));
        put(&mut document.tree, "message", format!("{name} [{}] made {}", process.parent, process.pid));
    }

    /// Of one thing that happened.
    pub(crate) fn happened(&self, record: &Record, clock: Clock, action: &str, kind: &str) -> Document {
        let time = clock.time(record.time);
        let id = format!("{}.{}", self.session_id(record.session), record.number);
        let mut tree = Map::new();
        self.head(&mut tree, &id, time);
        put(&mut tree, "event.category", json!(["process"]));
        put(&mut tree, "event.type", json!([kind]));
        put(&mut tree, "event.action", action);
        put(&mut tree, "event.sequence", record.number);
        Document { id, time, tree }
    }

    fn head(&self, tree: &mut Map<String, Value>, id: &str, time: i64) {
        put(tree, "@timestamp", stamp(time));
        put(tree, "event.id", id);
        put(tree, "event.kind", "event");
        put(tree, "event.module", "taffrail");
        put(tree, "event.dataset", "taffrail.audit");
    }

    /// Of a session that has ended.
    pub(crate) fn ended(&self, open: &Open, session: &Session, number: Option<u64>, time: i64) -> Document {
        let mut tree = Map::new();
        let id = format!("{}.end", open.id);
        self.head(&mut tree, &id, time);
        put(&mut tree, "event.category", json!(["session"]));
        put(&mut tree, "event.type", json!(["end"]));
        put(&mut tree, "event.action", "session-ended");
        put(&mut tree, "event.sequence", number);
        put(&mut tree, "event.start", stamp(open.begun));
        put(&mut tree, "event.end", stamp(time));
        put(&mut tree, "event.duration", time.saturating_sub(open.begun).max(0));
        let exit = session.exit();
        if let Some(exit) = exit {
            put(&mut tree, "event.outcome", if shell_code(exit) == 0 { "success" } else { "failure" });
            ended(&mut tree, exit);
        }
        let gaps = open.gaps(session);
        let entry = &open.entry;
        let ending = exit.map_or_else(String::new, |exit| format!(", exit {}", shell_code(exit)));
        let whole =
            if gaps.is_empty() { "whole".to_owned() } else { format!("not whole: {}", gaps.join("; ")) };
        let (command, place) = (line(&entry.arguments), open.whose.display());
        put(
            &mut tree,
            "message",
            format!("session ended: {command} in {place}, {} execs{ending}; {whole}", session.execs),
        );
        if !entry.lost {
            put(&mut tree, "process.pid", entry.pid);
            put(&mut tree, "process.vpid", entry.inner_pid);
            put(&mut tree, "process.entity_id", self.entity(entry.pid, entry.start));
            put(&mut tree, "process.executable", entry.executable.as_str());
            put(&mut tree, "process.args", json!(entry.arguments));
            put(&mut tree, "process.command_line", command);
            put(&mut tree, "process.working_directory", entry.directory.as_str());
            put(&mut tree, "process.tty.name", entry.tty.as_str());
            put(&mut tree, "user.id", entry.user.to_string());
            put(&mut tree, "user.group.id", entry.group.to_string());
        }
        self.told_of_session(&mut tree, open);
        let told = session.records.saturating_sub(session.lost + session.limited);
        let counts = json!({
            "complete": gaps.is_empty(), "records": session.records, "documents": told, "lost": session.lost,
            "limited": session.limited, "unwanted": session.unwanted, "untracked": session.untracked,
            "execs": session.execs, "forks": session.forks, "exits": session.exits,
        });
        for (name, value) in counts.as_object().into_iter().flatten() {
            put(&mut tree, &format!("audit.session.{name}"), value.clone());
        }
        put(&mut tree, "audit.session.gaps", if gaps.is_empty() { Value::Null } else { json!(gaps) });
        self.constants(&mut tree, &open.whose);
        Document { id, time, tree }
    }

    fn told_of_session(&self, tree: &mut Map<String, Value>, open: &Open) {
        put(tree, "audit.session.id", open.id.as_str());
        put(tree, "audit.session.origin", open.origin.as_str());
        put(tree, "audit.session.adopted", open.adopted.then_some(true));
        if !open.entry.lost {
            put(tree, "process.entry_leader.pid", open.entry.pid);
            put(tree, "process.entry_leader.entity_id", self.entity(open.entry.pid, open.entry.start));
        }
    }

    /// Completes a document by whose session and whose container it is about.
    pub(crate) fn about(&self, mut document: Document, open: Option<&Open>, whose: &Whose) -> Document {
        if let Some(open) = open {
            self.told_of_session(&mut document.tree, open);
        }
        self.constants(&mut document.tree, whose);
        document
    }

    /// Which process it was, and whose.
    pub(crate) fn process(&self, document: &mut Document, process: &Process, found: &[Found], clock: Clock) {
        let tree = &mut document.tree;
        let id = |id: u32| id.to_string();
        put(tree, "process.pid", process.pid);
        put(tree, "process.vpid", process.inner_pid);
        put(tree, "process.entity_id", self.entity(process.pid, as_found(process.pid, process.start, found)));
        put(tree, "process.name", text(&process.name));
        put(tree, "process.start", stamp(clock.time(process.start)));
        put(tree, "process.thread.id", (process.thread != process.pid).then_some(process.thread));
        put(tree, "process.parent.pid", process.parent);
        put(tree, "process.parent.vpid", Some(process.inner_parent).filter(|pid| *pid > 0));
        put(
            tree,
            "process.parent.entity_id",
            Some(self.entity(process.parent, as_found(process.parent, process.parent_start, found)))
                .filter(|_| process.parent_start > 0),
        );
        put(tree, "process.session_leader.pid", process.process_session);
        put(tree, "process.real_user.id", id(process.user));
        put(tree, "process.real_group.id", id(process.group));
        put(tree, "process.user.id", id(process.effective_user));
        put(tree, "process.group.id", id(process.effective_group));
        put(tree, "process.tty.name", text(&process.tty));
        put(tree, "user.id", id(process.user));
        put(tree, "user.group.id", id(process.group));
        put(
            tree,
            "user.effective.id",
            Some(id(process.effective_user)).filter(|_| process.effective_user != process.user),
        );
        put(tree, "audit.login_user.id", process.login_user.map(id));
        put(tree, "audit.login_session.id", process.audit_session.map(id));
        put(tree, "audit.namespaces.pid", process.pid_namespace);
        put(tree, "audit.namespaces.mount", Some(process.mount_namespace).filter(|inode| *inode > 0));
    }

    /// Which program it began.
    pub(crate) fn program(&self, document: &mut Document, flagged: Flags, exec: &Exec) {
        let tree = &mut document.tree;
        let arguments = arguments(&exec.arguments);
        let command = line(&arguments);
        put(tree, "message", command.as_str());
        put(tree, "process.executable", text(&exec.path));
        put(tree, "process.args", json!(arguments));
        put(tree, "process.args_count", arguments.len());
        put(tree, "process.command_line", command);
        put(tree, "process.working_directory", text(&exec.directory));
        put(tree, "process.env_vars", self.variables(&exec.environment));
        put(tree, "audit.exec.file", text(&exec.file));
        put(tree, "audit.exec.inode", exec.inode);
        // As stat(2) splits it, not as the kernel keeps it.
        put(tree, "audit.exec.device", format!("{}:{}", exec.device >> 20, exec.device & 0xf_ffff));
        put(tree, "audit.exec.deleted", (exec.links == 0).then_some(true));
        put(tree, "audit.exec.ancestors", json!(exec.ancestors));
        put(tree, "audit.exec.args_bytes", exec.arguments_total);
        let flags: Vec<&str> = flags(flagged, exec).collect();
        put(tree, "audit.flags", if flags.is_empty() { Value::Null } else { json!(flags) });
        if std::str::from_utf8(&exec.arguments).is_err() {
            put(tree, "audit.exec.args_base64", STANDARD.encode(&exec.arguments));
        }
        if flagged.is_entry() {
            put(tree, "audit.entry", true);
            put(tree, "audit.entered_by", json!(differences::names(exec.entered_by).collect::<Vec<_>>()));
        }
    }

    /// How it ended.
    pub(crate) fn exit(&self, document: &mut Document, process: &Process, exit: Exit, time: u64) {
        let tree = &mut document.tree;
        ended(tree, exit);
        let how = match exit.signal() {
            Some(signal) => format!("ended by signal {signal}"),
            None => format!("exit {}", exit.code().unwrap_or(0)),
        };
        put(tree, "message", format!("{} [{}]: {how}", plain(&text(&process.name)), process.pid));
        put(tree, "process.end", stamp(document.time));
        put(tree, "event.duration", time.saturating_sub(process.start));
        put(tree, "audit.cpu_ns", exit.cpu);
    }

    /// Names a process for ever, also over boots.
    fn entity(&self, pid: u32, start: u64) -> String {
        format!("{}-{pid}-{start:x}", self.boot)
    }

    /// Of the environment what may be told.
    fn variables(&self, environment: &[u8]) -> Value {
        let allowed = environment.split(|byte| *byte == 0).filter(|pair| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            self.environment.contains(name)
        });
        let allowed: Vec<String> = allowed.map(text).collect();
        if allowed.is_empty() { Value::Null } else { json!(allowed) }
    }

    fn constants(&self, tree: &mut Map<String, Value>, whose: &Whose) {
        put(tree, "container.id", whose.id.as_str());
        put(tree, "container.name", whose.container.as_str());
        put(tree, "container.image.name", whose.image.as_str());
        put(tree, "container.runtime", whose.runtime.as_str());
        let node = self.node.load();
        if whose.pod.is_empty() && whose.pod_uid.is_empty() {
            put(tree, "container.labels", json!(dedotted(whose)));
        } else {
            put(tree, "kubernetes.namespace", whose.namespace.as_str());
            put(tree, "kubernetes.pod.name", whose.pod.as_str());
            put(tree, "kubernetes.pod.uid", whose.pod_uid.as_str());
            put(tree, "kubernetes.container.name", whose.container.as_str());
            put(tree, "kubernetes.node.name", node.name.as_str());
            put(tree, "kubernetes.labels", json!(dedotted(whose)));
            for (kind, name) in &whose.owners {
                put(tree, &format!("kubernetes.{}.name", kind.to_lowercase()), name.as_str());
            }
            put(tree, "orchestrator.type", "kubernetes");
            put(tree, "orchestrator.namespace", whose.namespace.as_str());
            put(tree, "orchestrator.resource.type", "pod");
            put(tree, "orchestrator.resource.name", whose.pod.as_str());
            put(tree, "orchestrator.resource.id", whose.pod_uid.as_str());
        }
        put(tree, "orchestrator.cluster.name", node.cluster.as_str());
        put(tree, "orchestrator.cluster.id", node.cluster_id.as_str());
        put(tree, "host.name", node.name.as_str());
        put(tree, "input.type", "audit");
        put(tree, "ecs.version", ECS_VERSION);
        put(tree, "agent.type", "taffrail");
        put(tree, "agent.name", node.name.as_str());
        put(tree, "agent.version", env!("CARGO_PKG_VERSION"));
        for (name, value) in &node.fields {
            put(tree, name, value.as_str());
        }
    }
}

/// The start by which a process is called: of one that was found, the one that /proc tells, which is less exact.
fn as_found(pid: u32, start: u64, found: &[Found]) -> u64 {
    let same = |(known, begun): &&Found| *known == pid && (*begun..*begun + TICK).contains(&start);
    found.iter().find(same).map_or(start, |(_, begun)| *begun)
}

fn ended(tree: &mut Map<String, Value>, exit: Exit) {
    put(tree, "process.exit_code", shell_code(exit));
    put(tree, "audit.signal", exit.signal());
}

fn flags(flags: Flags, exec: &Exec) -> impl Iterator<Item = &'static str> {
    let cut = |shown: &[u8], total: u32| shown.len() < total as usize;
    [
        (flags.arguments_unreadable(), "args_unreadable"),
        (!flags.arguments_unreadable() && cut(&exec.arguments, exec.arguments_total), "args_truncated"),
        (flags.environment_unreadable(), "environment_unreadable"),
        (flags.path_cut(), "executable_truncated"),
        (flags.directory_cut(), "working_directory_truncated"),
    ]
    .into_iter()
    .filter_map(|(is, name)| is.then_some(name))
}

/// Labels as Filebeat writes them: a dot would make an object of them.
fn dedotted(whose: &Whose) -> Map<String, Value> {
    whose.labels.iter().map(|(key, value)| (key.replace('.', "_"), value.as_str().into())).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Arguments as they are told: each but the last with a NUL behind it.
pub(crate) fn arguments(bytes: &[u8]) -> Vec<String> {
    let whole = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() { Vec::new() } else { whole.split(|byte| *byte == 0).map(text).collect() }
}

/// A command as a shell would be given it, in one line: quoted where that is needed.
#[must_use]
pub fn line(arguments: &[String]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./=:,@%+".contains(c);
    let quoted = arguments.iter().map(|argument| {
        if !argument.is_empty() && argument.chars().all(is_plain) {
            return argument.clone();
        }
        if argument.chars().any(disturbs) {
            return format!("$'{}'", plain(argument).replace('\'', "\\'"));
        }
        format!("'{}'", argument.replace('\'', "'\\''"))
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A text that does nothing to a terminal: control characters are written out.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        if disturbs(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
        plain
    })
}

/// What a terminal obeys, turns the direction of writing, or is not seen.
fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Puts a value under a dotted name unless it says nothing or stands already; the first to say something is right.
fn put(tree: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let value = value.into();
    let says_nothing = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    if says_nothing {
        return;
    }
    match name.split_once('.') {
        None => {
            tree.entry(name).or_insert(value);
        }
        Some((first, rest)) => {
            let inner = tree.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
