//! What is written down: a JSON document in ECS names for each thing that happened, and one for each session that has ended.
//!
//! What the kernel says in bytes is text here; what is no UTF-8 is replaced, and the bytes stand beside it in base64. Texts that
//! people read in a line (`message`, `process.command_line`) have no control characters.

mod access;
mod who;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use taffrail_record::Node;
use taffrail_spool::stamp;

use crate::chain::hash;
use crate::recording::Part;
use crate::scan::TICK;
use crate::session::{Found, Open, Whose, shell_code};
use crate::tree::{Tree, first};
use crate::wire::{Exec, Exit, Flags, NOBODY, Process, Record, Session, differences};

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

    /// Nanoseconds since the machine's start, of a time since the Unix epoch.
    #[must_use]
    pub(crate) fn since_start(self, time: i64) -> u64 {
        u64::try_from(time.saturating_sub(self.offset)).unwrap_or(0)
    }
}

/// A document that is not in the chain yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The same for the same thing however often it is told.
    pub(crate) id: String,
    /// When it happened, nanoseconds since the Unix epoch.
    pub(crate) time: i64,
    tree: Tree,
}

impl Document {
    /// Its bytes, with its place in the chain.
    pub(crate) fn bytes(&self, place: &Value) -> Vec<u8> {
        self.tree.bytes("audit.chain", place)
    }

    #[cfg(test)]
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes(&Value::Null)).expect("JSON")
    }
}

/// What is the same for all documents of a boot of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    node: Arc<ArcSwap<Node>>,
    boot: String,
    environment: HashSet<Vec<u8>>,
    /// Of containers by id, so that it is written once.
    written: Arc<Mutex<HashMap<String, Constants>>>,
}

/// What is the same for all that happens in a container, written.
#[derive(Debug)]
struct Constants {
    node: Arc<Node>,
    whose: Whose,
    text: Arc<str>,
}

/// Of how many containers it is remembered.
const REMEMBERED: usize = 256;
/// First parts of the names that documents say something of for themselves.
const OWN: [&str; 13] = [
    "@timestamp",
    "message",
    "event",
    "process",
    "user",
    "audit",
    "client",
    "source",
    "user_agent",
    "file",
    "destination",
    "network",
    "error",
];

impl Writer {
    /// `boot_id` is the kernel's; `environment` names the variables that may be told.
    pub(crate) fn new(node: Arc<ArcSwap<Node>>, boot_id: &str, environment: &[String]) -> Writer {
        let mut boot = hash(format!("{}\n{}", node.load().name, boot_id.trim()).as_bytes());
        boot.truncate(8);
        let environment = environment.iter().map(|name| name.as_bytes().to_vec()).collect();
        Writer { node, boot, environment, written: Arc::default() }
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
        document.tree.put("message", format!("{name} [{}] made {}", process.parent, process.pid));
    }

    /// Of one thing that happened.
    pub(crate) fn happened(&self, record: &Record, clock: Clock) -> Document {
        let time = clock.time(record.time);
        let id = format!("{}.{}", self.session_id(record.session), record.number);
        let mut tree = Tree::default();
        self.head(&mut tree, &id, time);
        let (category, types, action) = access::kind(&record.what);
        tree.put("event.category", json!([category]));
        tree.put("event.type", json!(types));
        tree.put("event.action", action);
        tree.put("event.sequence", record.number);
        Document { id, time, tree }
    }

    /// Of a part of a recording.
    pub(crate) fn recorded(&self, open: &Open, part: &Part, clock: Clock) -> Document {
        let time = clock.time(part.time);
        let id = format!("{}.io.{}", open.id, part.first);
        let mut tree = Tree::default();
        self.head(&mut tree, &id, time);
        tree.put("event.category", json!(["session"]));
        tree.put("event.type", json!(["info"]));
        tree.put("event.action", "recorded");
        tree.put("audit.recording.first", part.first);
        tree.put("audit.recording.count", part.count);
        tree.put("audit.recording.bytes", part.bytes);
        // It is called by its beginning.
        tree.put("audit.recording.events", part.events(open.number));
        self.about(Document { id, time, tree }, Some(open), &open.whose)
    }

    fn head(&self, tree: &mut Tree, id: &str, time: i64) {
        tree.put("@timestamp", stamp(time));
        tree.put("event.id", id);
        tree.put("event.kind", "event");
        tree.put("event.module", "taffrail");
        tree.put("event.dataset", "taffrail.audit");
    }

    /// Of a session that has ended.
    pub(crate) fn ended(&self, open: &Open, session: &Session, number: Option<u64>, time: i64) -> Document {
        let mut tree = Tree::default();
        let id = format!("{}.end", open.id);
        self.head(&mut tree, &id, time);
        tree.put("event.category", json!(["session"]));
        tree.put("event.type", json!(["end"]));
        tree.put("event.action", "session-ended");
        tree.put("event.sequence", number);
        tree.put("event.start", stamp(open.begun));
        tree.put("event.end", stamp(time));
        tree.put("event.duration", time.saturating_sub(open.begun).max(0));
        let exit = session.exit();
        if let Some(exit) = exit {
            tree.put("event.outcome", if shell_code(exit) == 0 { "success" } else { "failure" });
            ended(&mut tree, exit);
        }
        let gaps = open.gaps(session);
        let entry = &open.entry;
        let ending = exit.map_or_else(String::new, |exit| format!(", exit {}", shell_code(exit)));
        let whole =
            if gaps.is_empty() { "whole".to_owned() } else { format!("not whole: {}", gaps.join("; ")) };
        let (command, place) = (open.called(), open.whose.display());
        tree.put(
            "message",
            format!("session ended: {command} in {place}, {}{ending}; {whole}", execs(session.execs)),
        );
        if !entry.lost {
            tree.put("process.pid", Some(entry.pid).filter(|pid| *pid > 0));
            tree.put("process.vpid", Some(entry.inner_pid).filter(|pid| *pid > 0));
            tree.put("process.entity_id", self.entity(entry.pid, entry.start));
            tree.put("process.executable", entry.executable.as_str());
            tree.put("process.args", json!(entry.arguments));
            tree.put("process.command_line", command);
            tree.put("process.working_directory", entry.directory.as_str());
            tree.put("process.tty.name", entry.tty.as_str());
            tree.put("user.id", known(entry.user));
            tree.put("user.group.id", known(entry.group));
            tree.put("user.name", entry.user_name.as_str());
        }
        self.told_of_session(&mut tree, open);
        let told = session.records.saturating_sub(session.lost + session.limited);
        let some = |count: u64| Some(count).filter(|count| *count > 0);
        let counts = json!({
            "complete": gaps.is_empty(), "records": session.records, "documents": told, "lost": session.lost,
            "limited": session.limited, "unwanted": session.unwanted, "untracked": session.untracked,
            "execs": session.execs, "forks": session.forks, "exits": session.exits,
            "files": some(session.files), "connections": some(session.connections),
            "limited_accesses": some(session.limited_accesses),
        });
        for (name, value) in counts.as_object().into_iter().flatten() {
            tree.put(format!("audit.session.{name}"), value.clone());
        }
        who::put_attribution(&mut tree, &open.attribution);
        if let Some(Ok(account)) = &open.recorded {
            tree.put("audit.recording", account.value());
        }
        tree.put("audit.session.gaps", if gaps.is_empty() { Value::Null } else { json!(gaps) });
        self.constants(&mut tree, &open.whose);
        Document { id, time, tree }
    }

    fn told_of_session(&self, tree: &mut Tree, open: &Open) {
        tree.put("audit.session.id", open.id.as_str());
        tree.put("audit.session.origin", open.origin.as_str());
        tree.put("audit.session.adopted", open.adopted.then_some(true));
        if !open.entry.lost {
            tree.put("process.entry_leader.pid", open.entry.pid);
            tree.put("process.entry_leader.entity_id", self.entity(open.entry.pid, open.entry.start));
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
        tree.put("process.pid", Some(process.pid).filter(|pid| *pid > 0));
        tree.put("process.vpid", Some(process.inner_pid).filter(|pid| *pid > 0));
        tree.put("process.entity_id", self.entity(process.pid, as_found(process.pid, process.start, found)));
        tree.put("process.name", text(&process.name));
        tree.put("process.start", stamp(clock.time(process.start)));
        tree.put("process.thread.id", (process.thread != process.pid).then_some(process.thread));
        tree.put("process.parent.pid", Some(process.parent).filter(|_| process.pid > 0));
        tree.put("process.parent.vpid", Some(process.inner_parent).filter(|pid| *pid > 0));
        tree.put(
            "process.parent.entity_id",
            Some(self.entity(process.parent, as_found(process.parent, process.parent_start, found)))
                .filter(|_| process.parent_start > 0),
        );
        tree.put("process.session_leader.pid", process.process_session);
        tree.put("process.real_user.id", known(process.user));
        tree.put("process.real_group.id", known(process.group));
        tree.put("process.user.id", known(process.effective_user));
        tree.put("process.group.id", known(process.effective_group));
        tree.put("process.tty.name", text(&process.tty));
        tree.put("user.id", known(process.user));
        tree.put("user.group.id", known(process.group));
        tree.put(
            "user.effective.id",
            known(process.effective_user).filter(|_| process.effective_user != process.user),
        );
        tree.put("audit.login_user.id", process.login_user.and_then(known));
        tree.put("audit.login_session.id", process.audit_session.and_then(known));
        tree.put("audit.namespaces.pid", process.pid_namespace);
        tree.put("audit.namespaces.mount", Some(process.mount_namespace).filter(|inode| *inode > 0));
    }

    /// Which program it began.
    pub(crate) fn program(&self, document: &mut Document, flagged: Flags, exec: &Exec) {
        let tree = &mut document.tree;
        let arguments = arguments(&exec.arguments);
        let command = line(&arguments);
        tree.put("message", command.as_str());
        tree.put("process.executable", text(&exec.path));
        tree.put("process.args", json!(arguments));
        tree.put("process.args_count", arguments.len());
        tree.put("process.command_line", command);
        tree.put("process.working_directory", text(&exec.directory));
        tree.put("user.name", text(&exec.user_name));
        tree.put("process.env_vars", self.variables(&exec.environment));
        tree.put("audit.exec.file", text(&exec.file));
        tree.put("audit.exec.inode", exec.inode);
        // As stat(2) splits it, not as the kernel keeps it.
        tree.put("audit.exec.device", format!("{}:{}", exec.device >> 20, exec.device & 0xf_ffff));
        tree.put("audit.exec.deleted", (exec.links == 0).then_some(true));
        tree.put("audit.exec.ancestors", json!(exec.ancestors));
        tree.put("audit.exec.args_bytes", exec.arguments_total);
        let flags: Vec<&str> = flags(flagged, exec).collect();
        tree.put("audit.flags", if flags.is_empty() { Value::Null } else { json!(flags) });
        if std::str::from_utf8(&exec.arguments).is_err() {
            tree.put("audit.exec.args_base64", STANDARD.encode(&exec.arguments));
        }
        if flagged.is_entry() {
            tree.put("audit.entry", true);
            tree.put("audit.entered_by", json!(differences::names(exec.entered_by).collect::<Vec<_>>()));
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
        tree.put("message", format!("{} [{}]: {how}", plain(&text(&process.name)), process.pid));
        tree.put("process.end", stamp(document.time));
        tree.put("event.duration", time.saturating_sub(process.start));
        tree.put("audit.cpu_ns", exit.cpu);
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

    /// Puts behind the rest what is the same for all that happens in a container.
    fn constants(&self, tree: &mut Tree, whose: &Whose) {
        let node = self.node.load_full();
        // What the user adds to what each document says for itself has to stand there.
        for (name, value) in node.fields.iter().filter(|(name, _)| OWN.contains(&first(name))) {
            tree.put(name.clone(), value.as_str());
        }
        let mut written = self.written.lock();
        if let Some(constants) = written.get(&whose.id)
            && Arc::ptr_eq(&constants.node, &node)
            && constants.whose == *whose
        {
            return tree.end_with(Arc::clone(&constants.text));
        }
        if written.len() >= REMEMBERED {
            written.clear();
        }
        let text = Arc::from(constants(&node, whose).fields());
        tree.end_with(Arc::clone(&text));
        written.insert(whose.id.clone(), Constants { node, whose: whose.clone(), text });
    }
}

/// What is the same for all that happens in a container on this node.
fn constants(node: &Node, whose: &Whose) -> Tree {
    let mut tree = Tree::default();
    tree.put("container.id", whose.id.as_str());
    tree.put("container.name", whose.container.as_str());
    tree.put("container.image.name", whose.image.as_str());
    tree.put("container.runtime", whose.runtime.as_str());
    if whose.pod.is_empty() && whose.pod_uid.is_empty() {
        tree.put("container.labels", json!(dedotted(whose)));
    } else {
        of_pod(&mut tree, node, whose);
    }
    tree.put("orchestrator.cluster.name", node.cluster.as_str());
    tree.put("orchestrator.cluster.id", node.cluster_id.as_str());
    tree.put("host.name", node.name.as_str());
    tree.put("input.type", "audit");
    tree.put("ecs.version", ECS_VERSION);
    tree.put("agent.type", "taffrail");
    tree.put("agent.name", node.name.as_str());
    tree.put("agent.version", env!("CARGO_PKG_VERSION"));
    for (name, value) in node.fields.iter().filter(|(name, _)| !OWN.contains(&first(name))) {
        tree.put(name.clone(), value.as_str());
    }
    tree
}

fn of_pod(tree: &mut Tree, node: &Node, whose: &Whose) {
    tree.put("kubernetes.namespace", whose.namespace.as_str());
    tree.put("kubernetes.pod.name", whose.pod.as_str());
    tree.put("kubernetes.pod.uid", whose.pod_uid.as_str());
    tree.put("kubernetes.container.name", whose.container.as_str());
    tree.put("kubernetes.node.name", node.name.as_str());
    tree.put("kubernetes.labels", json!(dedotted(whose)));
    for (kind, name) in &whose.owners {
        tree.put(format!("kubernetes.{}.name", kind.to_lowercase()), name.as_str());
    }
    tree.put("orchestrator.type", "kubernetes");
    tree.put("orchestrator.namespace", whose.namespace.as_str());
    tree.put("orchestrator.resource.type", "pod");
    tree.put("orchestrator.resource.name", whose.pod.as_str());
    tree.put("orchestrator.resource.id", whose.pod_uid.as_str());
}

/// An id of a user or a group, if it is known.
fn known(id: u32) -> Option<String> {
    (id != NOBODY).then(|| id.to_string())
}

/// The start by which a process is called: of one that was found, the one that /proc tells, which is less exact.
fn as_found(pid: u32, start: u64, found: &[Found]) -> u64 {
    let same = |(known, begun): &&Found| *known == pid && (*begun..*begun + TICK).contains(&start);
    found.iter().find(same).map_or(start, |(_, begun)| *begun)
}

fn ended(tree: &mut Tree, exit: Exit) {
    tree.put("process.exit_code", shell_code(exit));
    tree.put("audit.signal", exit.signal());
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

/// How many programs were begun, for people.
#[must_use]
pub fn execs(count: u64) -> String {
    format!("{count} {}", if count == 1 { "exec" } else { "execs" })
}

/// A command as a shell would be given it, in one line: quoted where that is needed, so that bash makes the same of it again.
#[must_use]
pub fn line(arguments: &[String]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./=:,@%+".contains(c);
    let quoted = arguments.iter().map(|argument| {
        if !argument.is_empty() && argument.chars().all(is_plain) {
            return argument.clone();
        }
        if argument.chars().any(disturbs) {
            return format!("$'{}'", escaped(argument));
        }
        format!("'{}'", argument.replace('\'', "'\\''"))
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What stands in `$'…'`, as bash, zsh and ksh read it back where text is UTF-8.
fn escaped(argument: &str) -> String {
    argument.chars().fold(String::with_capacity(argument.len()), |mut text, c| {
        match (c, u32::from(c)) {
            ('\n', _) => text.push_str("\\n"),
            ('\r', _) => text.push_str("\\r"),
            ('\t', _) => text.push_str("\\t"),
            ('\'' | '\\', _) => text.extend(['\\', c]),
            (_, code @ ..0x80) if disturbs(c) => text.push_str(&format!("\\x{code:02x}")),
            (_, code @ ..0x1_0000) if disturbs(c) => text.push_str(&format!("\\u{code:04x}")),
            (_, code) if disturbs(c) => text.push_str(&format!("\\U{code:08x}")),
            _ => text.push(c),
        }
        text
    })
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
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_that_is_pasted_is_the_same_again() {
        let odd = [
            "a b",
            "",
            "it's",
            "\u{1b}[2J'\\x41\\",
            "a\nb\t\rc\u{7f}1",
            "\u{9b}2J\u{202e}x\u{2028}y",
            "\u{feff}\u{e9}\u{1f6a2}",
            "$HOME `x`",
        ];
        let arguments: Vec<String> = odd.map(str::to_owned).to_vec();
        let said = line(&arguments);
        assert!(!said.chars().any(disturbs), "{said:?}");
        assert!(
            said.contains("$'\\x1b[2J\\'\\\\x41\\\\'") && said.contains("\\u009b2J\\u202ex\\u2028y"),
            "{said}"
        );
        let mut bash = Command::new("bash");
        bash.env("LC_ALL", "C.UTF-8").args(["-c", &format!("printf '%s\\0' {said}")]);
        let told = bash.output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&told.stdout), arguments.join("\0") + "\0");
    }
}
