//! What was done in a session, for people: its documents in, text out.
//!
//! Guarantee: nothing that a container controls looks like a line or a remark of this program, or does anything to a terminal:
//! what it says is quoted as a shell would be given it, and what the program says of it stands behind an unquoted `#`.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::Value;
use taffrail_exec::{line, plain};

/// Processes deeper in the tree than this are not indented further.
const DEEPEST: usize = 30;

/// The transcript of the session `id`. With `raw` what programs were called with is shown as it is, escape sequences
/// included.
pub(crate) fn render(id: &str, documents: &[Value], raw: bool) -> String {
    let mut tree = Tree::new(documents, raw);
    documents.iter().for_each(|document| tree.take(document));
    let mut text = head(id, documents);
    if !tree.lines.is_empty() {
        text.push('\n');
    }
    tree.lines.iter().for_each(|line| line.write(tree.begun, &mut text));
    text
}

fn text_at<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number_at(document: &Value, pointer: &str) -> Option<u64> {
    document.pointer(pointer).and_then(Value::as_u64)
}

/// Nanoseconds since the Unix epoch.
fn time_at(document: &Value, pointer: &str) -> Option<i64> {
    let time: jiff::Timestamp = text_at(document, pointer).parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

fn action(document: &Value) -> &str {
    text_at(document, "/event/action")
}

fn ended(documents: &[Value]) -> Option<&Value> {
    documents.iter().rev().find(|document| action(document) == "session-ended")
}

/// When the session began.
fn begun(documents: &[Value]) -> i64 {
    let said = ended(documents).and_then(|ended| time_at(ended, "/event/start"));
    said.or_else(|| documents.iter().filter_map(|document| time_at(document, "/@timestamp")).min())
        .unwrap_or(0)
}

/// A length of time in nanoseconds, for people.
pub(crate) fn span(nanoseconds: i64) -> String {
    let millis = nanoseconds.max(0) / 1_000_000;
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{}.{:03}s", seconds, millis % 1000),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A moment in UTC, to the second.
pub(crate) fn moment(nanoseconds: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
    time.strftime("%F %T").to_string()
}

fn head(id: &str, documents: &[Value]) -> String {
    let mut text = format!("session {}\n", plain(id));
    let ended = ended(documents);
    // The beginning may have been lost, and names may be known only at the end.
    let entry = documents.iter().find(|document| document.pointer("/audit/entry").is_some());
    let about = ended.or(entry).or(documents.first()).unwrap_or(&Value::Null);
    let mut say = |name: &str, what: String| {
        let _ = writeln!(text, "  {name:<8} {what}");
    };
    say("where", place(about));
    say("who", who(entry, about));
    if let Some(asked) = asked(documents) {
        say("asked", asked);
    }
    say("came in", way(entry, about));
    let begun = begun(documents);
    let lasted = ended.and_then(|ended| time_at(ended, "/event/end")).map(|end| span(end - begun));
    let lasted = lasted.map_or_else(|| "has not ended".to_owned(), |span| format!("lasted {span}"));
    say("began", format!("{} UTC, {lasted}", moment(begun)));
    say("ended", ended.map_or_else(|| open(about), how));
    if documents.iter().any(|document| action(document) == "recorded") {
        say("recorded", format!("what was typed and shown: taffrail replay {}", plain(id)));
    }
    for (index, gap) in missing(documents).into_iter().enumerate() {
        say(if index == 0 { "missing" } else { "" }, gap);
    }
    text
}

fn place(about: &Value) -> String {
    let names =
        ["/kubernetes/namespace", "/kubernetes/pod/name", "/container/name"].map(|name| text_at(about, name));
    let known: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let id = text_at(about, "/container/id");
    let id = id.get(..12).unwrap_or(id);
    let name = if known.is_empty() { "a container without a known name".to_owned() } else { known.join("/") };
    let details: Vec<&str> =
        [text_at(about, "/container/runtime"), text_at(about, "/container/image/name"), id]
            .into_iter()
            .filter(|detail| !detail.is_empty())
            .collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    plain(&format!("{name}{details} on {}", text_at(about, "/host/name")))
}

fn who(entry: Option<&Value>, about: &Value) -> String {
    let said = entry.unwrap_or(about);
    let uid = match text_at(said, "/user/id") {
        "" if text_at(about, "/audit/session/origin") == "attach" => {
            return "no process of its own".to_owned();
        }
        "" => return "not known: the record of its beginning is missing".to_owned(),
        uid => uid,
    };
    let mut text = format!("uid {uid}, gid {}", text_at(said, "/user/group/id"));
    match text_at(said, "/process/tty/name") {
        "" => text.push_str(", no terminal"),
        tty => drop(write!(text, ", terminal {tty}")),
    }
    match text_at(said, "/audit/login_user/id") {
        "" => {}
        login => drop(write!(text, ", logged in as uid {login}")),
    }
    plain(&text)
}

/// At whose request it came about, as far as the last document says that does.
fn asked(documents: &[Value]) -> Option<String> {
    let said = documents.iter().rev().filter(|document| document.pointer("/audit/attribution").is_some());
    let said = said.max_by_key(|document| number_at(document, "/audit/attribution/documents"))?;
    let user = text_at(said, "/client/user/name");
    if user.is_empty() {
        let known = text_at(said, "/audit/attribution/known");
        return Some(plain(&format!("{known}: {}", text_at(said, "/audit/attribution/reason"))));
    }
    let list = |pointer: &str| {
        let texts = said.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        texts.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let is_ambiguous = said.pointer("/audit/attribution/ambiguous").and_then(Value::as_bool) == Some(true);
    let details = [
        ("", if is_ambiguous { "or another who asked for the same".to_owned() } else { String::new() }),
        ("in reality ", text_at(said, "/audit/request/impersonator/name").to_owned()),
        ("groups ", list("/client/user/group/name")),
        ("for ", text_at(said, "/audit/request/resource").to_owned()),
        ("from ", list("/source/ip")),
        ("with ", text_at(said, "/user_agent/original").to_owned()),
        ("known by ", list("/audit/request/sources")),
    ];
    let details = details.into_iter().filter(|(_, what)| !what.is_empty());
    Some(details.fold(plain(user), |text, (how, what)| format!("{text}; {how}{}", plain(&what))))
}

fn way(entry: Option<&Value>, about: &Value) -> String {
    let said = |known: &str| text_at(about, "/audit/attribution/known") == known;
    let mut text = match text_at(about, "/audit/session/origin") {
        "exec" => "exec: by the runtime, at somebody's request".to_owned(),
        "probe" => "probe: by kubelet, as the pod asks for it".to_owned(),
        "hook" => "hook: by kubelet, as the pod asks for it at a container's beginning or end".to_owned(),
        "debug" => "debug: a container that was added to the running pod".to_owned(),
        "attach" => "attach: with the container's first process".to_owned(),
        "out-of-band" if said("out-of-band") => {
            "out-of-band: by the runtime, and nobody asked the API server for it".to_owned()
        }
        "out-of-band" if said("known") => {
            "out-of-band: by kubelet, past what the API server has for it".to_owned()
        }
        "out-of-band" => "out-of-band: past the runtime".to_owned(),
        other => other.to_owned(),
    };
    let differences = entry.and_then(|entry| entry.pointer("/audit/entered_by")?.as_array());
    let names: Vec<&str> = differences.into_iter().flatten().filter_map(Value::as_str).collect();
    if !names.is_empty() {
        let _ = write!(text, " ({})", names.join(", "));
    }
    if let Some(from) = entry.and_then(came_from) {
        let _ = write!(text, ", {from}");
    }
    plain(&text)
}

/// From where somebody came past the runtime.
fn came_from(entry: &Value) -> Option<String> {
    let names = ["kubernetes/namespace", "kubernetes/pod/name", "container/name"];
    let names = names.map(|name| text_at(entry, &format!("/audit/came_from/{name}")));
    let known: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let (id, cgroup) =
        (text_at(entry, "/audit/came_from/container/id"), text_at(entry, "/audit/came_from/cgroup"));
    match (known.is_empty(), id, cgroup) {
        (false, ..) => Some(format!("from the container {}", known.join("/"))),
        (_, "", "") => None,
        (_, "", cgroup) => Some(format!("from the cgroup {cgroup}")),
        (_, id, _) => Some(format!("from the container {}", id.get(..12).unwrap_or(id))),
    }
}

fn open(about: &Value) -> String {
    format!(
        "not yet, or its end has not arrived; `taffrail sessions --live` on {} knows",
        plain(text_at(about, "/host/name"))
    )
}

fn how(ended: &Value) -> String {
    let session = |name: &str| number_at(ended, &format!("/audit/session/{name}")).unwrap_or(0);
    let of = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let mut counts = format!(
        "{}, {}, {} ended",
        of(session("execs"), "program begun", "programs begun"),
        of(session("forks"), "process made", "processes made"),
        session("exits")
    );
    for (count, what) in
        [(session("files"), "files opened to write"), (session("connections"), "connections")]
    {
        if count > 0 {
            let _ = write!(counts, ", {count} {what}");
        }
    }
    format!("{}; {counts}", outcome(ended).unwrap_or_else(|| "how is not known".to_owned()))
}

/// Exit code or signal.
fn outcome(document: &Value) -> Option<String> {
    if let Some(signal) = number_at(document, "/audit/signal") {
        return Some(format!("killed by signal {signal}"));
    }
    Some(format!("exit {}", document.pointer("/process/exit_code")?.as_i64()?))
}

/// What is missing: as the session says itself, and by the number of its documents. At least one line.
fn missing(documents: &[Value]) -> Vec<String> {
    let numbers: HashSet<u64> =
        documents.iter().filter_map(|document| number_at(document, "/event/sequence")).collect();
    let attributions = documents.iter().filter(|document| action(document) == "session-attributed").count();
    let found = numbers.len() as u64 + attributions as u64;
    let Some(ended) = ended(documents) else {
        return vec![format!("not known before its end; {found} documents so far")];
    };
    let gaps = ended.pointer("/audit/session/gaps").and_then(Value::as_array);
    let mut lines: Vec<String> = gaps.into_iter().flatten().filter_map(Value::as_str).map(plain).collect();
    let told = ["/audit/session/documents", "/audit/attribution/documents"];
    let told: u64 = told.into_iter().filter_map(|pointer| number_at(ended, pointer)).sum();
    if found < told {
        lines.push(format!(
            "{} of its {told} documents are not there; `taffrail verify` says where they are missing",
            told - found
        ));
    }
    if lines.is_empty() {
        lines.push(format!("nothing: all of its {told} documents are there"));
    }
    lines
}

/// What one process is known to be.
struct Process {
    depth: usize,
    user: String,
    directory: String,
    /// Its line that has not ended.
    line: Option<usize>,
}

struct Line {
    at: i64,
    pid: u64,
    depth: usize,
    what: String,
    /// User and working directory, where they are other than before.
    changes: Vec<String>,
    end: Option<(String, i64)>,
}

impl Line {
    fn write(&self, begun: i64, text: &mut String) {
        let offset = self.at - begun;
        let (sign, millis) = (if offset < 0 { '-' } else { '+' }, (offset / 1_000_000).unsigned_abs());
        let offset = format!("{sign}{}.{:03}", millis / 1000, millis % 1000);
        let indent = "  ".repeat(self.depth.min(DEEPEST));
        let mut remarks = self.changes.clone();
        if let Some((how, after)) = &self.end {
            remarks.push(format!("{how} after {}", span(after - self.at)));
        }
        let remarks = if remarks.is_empty() { String::new() } else { format!("  # {}", remarks.join(", ")) };
        let _ = writeln!(text, "{offset:>10} {:>8}  {indent}{}{remarks}", self.pid, self.what);
    }
}

/// The processes of a session and what they began.
struct Tree {
    raw: bool,
    begun: i64,
    /// Processes that began a program.
    with_program: HashSet<String>,
    processes: HashMap<String, Process>,
    lines: Vec<Line>,
}

impl Tree {
    fn new(documents: &[Value], raw: bool) -> Self {
        let programs = documents.iter().filter(|document| action(document) == "exec");
        Tree {
            raw,
            begun: begun(documents),
            with_program: programs.map(|document| entity(document).to_owned()).collect(),
            processes: HashMap::new(),
            lines: Vec::new(),
        }
    }

    fn take(&mut self, document: &Value) {
        match action(document) {
            "exec" => self.program(document),
            "fork" => self.made(document),
            "exit" => self.ended(document),
            "file-opened" => self.opened(document),
            "connected" => self.connected(document),
            _ => {}
        }
    }

    /// The process of a document, which is made known if it is not.
    fn process(&mut self, document: &Value) -> &mut Process {
        let parent = self.processes.get(text_at(document, "/process/parent/entity_id"));
        let new = parent.map_or_else(
            || Process { depth: 0, user: String::new(), directory: String::new(), line: None },
            |parent| Process {
                depth: parent.depth + 1,
                user: parent.user.clone(),
                directory: parent.directory.clone(),
                line: None,
            },
        );
        self.processes.entry(entity(document).to_owned()).or_insert(new)
    }

    fn program(&mut self, document: &Value) {
        let at = time_at(document, "/@timestamp").unwrap_or(self.begun);
        let what = self.command(document);
        let process = self.process(document);
        let before = process.line.take();
        let mut changes = process.changes(document);
        changes.extend(program(document));
        let depth = process.depth;
        if let Some(line) = before.and_then(|line| self.lines.get_mut(line)) {
            line.end = Some(("goes on as another program".to_owned(), at));
        }
        self.add(document, Line { at, pid: 0, depth, what, changes, end: None });
    }

    fn made(&mut self, document: &Value) {
        let at = time_at(document, "/@timestamp").unwrap_or(self.begun);
        let process = self.process(document);
        let depth = process.depth;
        if !self.with_program.contains(entity(document)) {
            self.bare(document, at, depth, "began no program");
        }
    }

    fn ended(&mut self, document: &Value) {
        let at = time_at(document, "/@timestamp").unwrap_or(self.begun);
        let is_known = self.processes.contains_key(entity(document));
        let process = self.process(document);
        let depth = process.depth;
        let mut line = process.line.take();
        let user = user(document);
        let other = (!process.user.is_empty() && user != process.user).then_some(user);
        if line.is_none() && !is_known {
            let start = time_at(document, "/process/start").unwrap_or(at);
            self.bare(document, start, depth, "the record of its beginning is missing");
            line = Some(self.lines.len() - 1);
        }
        let Some(line) = line.and_then(|line| self.lines.get_mut(line)) else { return };
        let how = outcome(document).unwrap_or_else(|| "ended".to_owned());
        let how = other.map_or_else(|| how.clone(), |user| format!("{how} as {user}"));
        line.end = Some((how, at));
    }

    /// A file that was opened to write.
    fn opened(&mut self, document: &Value) {
        let how = document.pointer("/audit/file/opened_for").and_then(Value::as_array);
        let how: Vec<&str> = how.into_iter().flatten().filter_map(Value::as_str).collect();
        let path = line(&[text_at(document, "/file/path").to_owned()]);
        self.touched(document, path, plain(&format!("opened: {}", how.join(", "))));
    }

    /// Whom somebody connected to.
    fn connected(&mut self, document: &Value) {
        let at = |pointer: &str| text_at(document, pointer);
        let to = match (at("/destination/ip"), at("/audit/socket/path"), at("/audit/socket/name")) {
            ("", "", "") => "(an address that is not known)".to_owned(),
            ("", "", name) => line(&[format!("@{name}")]),
            ("", path, _) => line(&[path.to_owned()]),
            (address, ..) => {
                let port = number_at(document, "/destination/port").unwrap_or(0);
                line(&[format!("{address}:{port}")])
            }
        };
        let means = [at("/network/transport"), at("/network/type")].into_iter().find(|text| !text.is_empty());
        let mut how = format!("connects by {}", means.unwrap_or("a socket"));
        if !at("/error/code").is_empty() {
            let _ = write!(how, ", {}", at("/error/code"));
        }
        self.touched(document, to, plain(&how));
    }

    /// Something that a process did besides, below its own line.
    fn touched(&mut self, document: &Value, what: String, how: String) {
        let at = time_at(document, "/@timestamp").unwrap_or(self.begun);
        let depth = self.process(document).depth + 1;
        let pid = number_at(document, "/process/pid").unwrap_or(0);
        self.lines.push(Line { at, pid, depth, what, changes: vec![how], end: None });
    }

    /// A process by its name alone.
    fn bare(&mut self, document: &Value, at: i64, depth: usize, why: &str) {
        let name = line(&[text_at(document, "/process/name").to_owned()]);
        let changes = vec![why.to_owned()];
        self.add(document, Line { at, pid: 0, depth, what: format!("({name})"), changes, end: None });
    }

    fn add(&mut self, document: &Value, line: Line) {
        let pid = number_at(document, "/process/pid").unwrap_or(0);
        if let Some(process) = self.processes.get_mut(entity(document)) {
            process.line = Some(self.lines.len());
        }
        self.lines.push(Line { pid, ..line });
    }

    fn command(&self, document: &Value) -> String {
        let arguments = document.pointer("/process/args").and_then(Value::as_array);
        let arguments: Vec<String> =
            arguments.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let flags = document.pointer("/audit/flags").and_then(Value::as_array);
        let is_cut = flags.into_iter().flatten().any(|flag| flag == "args_truncated");
        let command = match arguments.as_slice() {
            [] => format!("({})", line(&[text_at(document, "/process/executable").to_owned()])),
            _ if self.raw => raw_line(&arguments),
            arguments => line(arguments),
        };
        if is_cut { format!("{command} ...") } else { command }
    }
}

impl Process {
    /// What is other than it was before, which it is from now on.
    fn changes(&mut self, document: &Value) -> Vec<String> {
        let (user, directory) = (user(document), text_at(document, "/process/working_directory").to_owned());
        let mut changes = Vec::new();
        if !user.is_empty() && user != self.user {
            changes.push(user.clone());
            self.user = user;
        }
        if !directory.is_empty() && directory != self.directory {
            changes.push(format!("in {}", line(std::slice::from_ref(&directory))));
            self.directory = directory;
        }
        changes
    }
}

/// Which file it was, where what it calls itself does not say that: by another name, deleted, or in memory alone.
fn program(document: &Value) -> Option<String> {
    let path = text_at(document, "/process/executable");
    let called = text_at(document, "/process/args/0");
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let (path, is_gone) = path.strip_suffix(" (deleted)").map_or((path, false), |path| (path, true));
    let is_deleted = is_gone || document.pointer("/audit/exec/deleted") == Some(&Value::Bool(true));
    // A login shell is called with a `-` before its name.
    let is_so_called = last(called.strip_prefix('-').unwrap_or(called)) == last(path);
    let how = match () {
        () if path.is_empty() => return None,
        () if path.starts_with("/memfd:") => " (in memory alone)",
        () if is_deleted => " (deleted)",
        () if called.is_empty() || is_so_called => return None,
        () => "",
    };
    Some(format!("program {}{how}", line(&[path.to_owned()])))
}

/// Names a process for ever.
fn entity(document: &Value) -> &str {
    text_at(document, "/process/entity_id")
}

fn user(document: &Value) -> String {
    let real = text_at(document, "/user/id");
    match text_at(document, "/user/effective/id") {
        _ if real.is_empty() => String::new(),
        "" => format!("uid {}", plain(real)),
        effective => format!("uid {}, effectively {}", plain(real), plain(effective)),
    }
}

/// As a shell would be given it, and nothing escaped.
fn raw_line(arguments: &[String]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./=:,@%+".contains(c);
    let quoted = arguments.iter().map(|argument| {
        let needs_none = !argument.is_empty() && argument.chars().all(is_plain);
        if needs_none { argument.clone() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What happened `millis` after ten o'clock to a process.
    fn told(sequence: u64, action: &str, millis: u64, pid: u64, parent: u64) -> Value {
        json!({
            "@timestamp": format!("2026-11-22T10:00:{:02}.{:03}Z", millis / 1000, millis % 1000),
            "event": {"action": action, "sequence": sequence},
            "process": {"pid": pid, "entity_id": format!("e{pid}"), "name": "sh",
                        "parent": {"entity_id": format!("e{parent}")}},
            "user": {"id": "0", "group": {"id": "0"}},
            "audit": {"session": {"id": "a1-b", "origin": "exec"}},
            "container": {"id": "0123456789abcdef", "name": "app", "runtime": "docker"},
            "host": {"name": "n1"},
        })
    }

    fn with(mut document: Value, changes: &[(&str, Value)]) -> Value {
        for (pointer, value) in changes {
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            document.pointer_mut(parent).expect(parent)[name] = value.clone();
        }
        document
    }

    fn exec(sequence: u64, millis: u64, pid: u64, parent: u64, arguments: &[&str]) -> Value {
        let directory = ("/process/working_directory", json!("/srv"));
        with(told(sequence, "exec", millis, pid, parent), &[("/process/args", json!(arguments)), directory])
    }

    fn exit(sequence: u64, millis: u64, pid: u64, code: i64) -> Value {
        with(told(sequence, "exit", millis, pid, 1), &[("/process/exit_code", json!(code))])
    }

    fn end(documents: u64, gaps: &Value) -> Value {
        let session = json!({"id": "a1-b", "origin": "exec", "documents": documents, "execs": 3, "forks": 2,
                             "exits": 3, "gaps": gaps});
        with(
            told(9, "session-ended", 2000, 100, 1),
            &[
                ("/audit/session", session),
                ("/event/start", json!("2026-11-22T10:00:00Z")),
                ("/event/end", json!("2026-11-22T10:00:02Z")),
                ("/process/exit_code", json!(3)),
            ],
        )
    }

    fn session() -> Vec<Value> {
        let entry = with(
            exec(0, 0, 100, 1, &["sh", "-c", "ls; \u{1b}[2J"]),
            &[("/audit/entry", json!(true)), ("/audit/entered_by", json!(["cgroup", "mount"]))],
        );
        vec![
            entry,
            told(1, "fork", 10, 101, 100),
            with(exec(2, 12, 101, 100, &["ls", "# exit 0"]), &[("/user/id", json!("1000"))]),
            with(exec(3, 13, 101, 100, &["busybox"]), &[("/user/id", json!("1000"))]),
            with(exit(4, 1013, 101, 0), &[("/user/id", json!("1000"))]),
            told(5, "fork", 1100, 102, 100),
            with(exit(6, 1200, 102, 137), &[("/audit/signal", json!(9))]),
            exit(7, 2000, 100, 3),
            exit(8, 2000, 104, 0),
            end(10, &Value::Null),
        ]
    }

    #[test]
    fn what_was_done_is_told_as_a_tree_with_how_each_ended() {
        let expected = r"session a1-b
  where    app (docker, 0123456789ab) on n1
  who      uid 0, gid 0, no terminal
  came in  exec: by the runtime, at somebody's request (cgroup, mount)
  began    2026-11-22 10:00:00 UTC, lasted 2.000s
  ended    exit 3; 3 programs begun, 2 processes made, 3 ended
  missing  nothing: all of its 10 documents are there

    +0.000      100  sh -c $'ls; \x1b[2J'  # uid 0, in /srv, exit 3 after 2.000s
    +0.012      101    ls '# exit 0'  # uid 1000, goes on as another program after 0.001s
    +0.013      101    busybox  # exit 0 after 1.000s
    +1.100      102    (sh)  # began no program, killed by signal 9 after 0.100s
    +2.000      104  (sh)  # the record of its beginning is missing, exit 0 after 0.000s
";
        assert_eq!(render("a1-b", &session(), false), expected);
        assert!(render("a1-b", &session(), true).contains("sh -c 'ls; \u{1b}[2J'"), "raw is as it was");
    }

    #[test]
    fn files_and_connections_stand_below_who_had_to_do_with_them() {
        let file = json!({"path": "/etc/a b\n", "inode": "7"});
        let opened = with(
            told(1, "file-opened", 5, 100, 1),
            &[("/file", file), ("/audit/file", json!({"opened_for": ["append", "write"]}))],
        );
        let peer = ("/destination", json!({"ip": "::1", "port": 443}));
        let connected =
            with(told(2, "connected", 6, 100, 1), &[peer, ("/network", json!({"transport": "tcp"}))]);
        let local = with(
            told(3, "connected", 7, 100, 1),
            &[
                ("/network", json!({"type": "unix"})),
                ("/audit/socket", json!({"path": "/run/x.sock"})),
                ("/error", json!({"code": "ENOENT"})),
            ],
        );
        let text = render("a1-b", &[exec(0, 0, 100, 1, &["sh"]), opened, connected, local], false);
        let lines = r"    +0.005      100    $'/etc/a b\n'  # opened: append, write
    +0.006      100    ::1:443  # connects by tcp
    +0.007      100    /run/x.sock  # connects by unix, ENOENT
";
        assert!(text.ends_with(lines), "{text}");
    }

    #[test]
    fn who_asked_is_told_with_all_that_is_known_of_it() {
        let mut documents = session();
        let known = json!({"known": "known", "documents": 1});
        let said = |document: Value| {
            with(
                document,
                &[
                    ("/audit/attribution", known.clone()),
                    ("/client", json!({"user": {"name": "ana\u{1b}", "group": {"name": ["sre", "dev"]}}})),
                    ("/source", json!({"ip": ["10.0.0.7"]})),
                    (
                        "/audit/request",
                        json!({"resource": "pods/exec", "sources": ["webhook", "audit-log"],
                                              "impersonator": {"name": "root"}}),
                    ),
                ],
            )
        };
        let end = said(documents.pop().expect("an end"));
        let who = with(said(told(0, "session-attributed", 20, 100, 1)), &[("/event/sequence", Value::Null)]);
        documents.extend([who, end]);
        let text = render("a1-b", &documents, false);
        let line = "  asked    ana\\u{1b}; in reality root; groups sre, dev; for pods/exec; from 10.0.0.7; known by webhook, audit-log\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("nothing: all of its 11 documents are there"), "{text}");
        documents.remove(documents.len() - 2);
        assert!(render("a1-b", &documents, false).contains("1 of its 11 documents are not there"));
    }

    #[test]
    fn what_is_missing_is_said_at_the_head() {
        let mut documents = session();
        documents.remove(4);
        let text = render("a1-b", &documents, false);
        assert!(text.contains("  missing  1 of its 10 documents are not there"), "{text}");
        let gaps = json!(["2 records did not fit the kernel's ring"]);
        let said = render("a1-b", &[end(1, &gaps)], false);
        assert!(said.contains("  missing  2 records did not fit the kernel's ring\n"), "{said}");
    }

    #[test]
    fn a_session_that_goes_on_says_so() {
        let text = render("a1-b", &session()[..3], false);
        assert!(text.contains("  began    2026-11-22 10:00:00 UTC, has not ended\n"), "{text}");
        assert!(text.contains("`taffrail sessions --live` on n1 knows"), "{text}");
        assert!(text.contains("  missing  not known before its end; 3 documents so far\n"), "{text}");
        assert!(text.ends_with("ls '# exit 0'  # uid 1000\n"), "{text}");
    }

    #[test]
    fn what_is_hostile_neither_breaks_nor_speaks() {
        let hostile = with(
            told(0, "fork", 0, 7, 1),
            &[
                ("/process/name", json!("\u{1b}c) # x\n")),
                ("/container/name", json!("a\nb\u{202e}")),
                ("/process/pid", json!("seven")),
                ("/user/id", json!(7)),
            ],
        );
        let text = render("a\u{1b}", &[hostile, json!(3), json!({"event": {"action": "exit"}})], false);
        assert!(!text.contains(['\u{1b}', '\u{202e}']) && text.contains("($'\\x1bc) # x\\n')"), "{text}");
        assert_eq!(render("a", &[], false).lines().count(), 7);
    }

    #[test]
    fn lengths_of_time_are_written_for_people() {
        for (millis, written) in [
            (0, "0.000s"),
            (59_999, "59.999s"),
            (61_000, "1m01s"),
            (3_661_000, "1h01m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(span(millis * 1_000_000), written);
        }
        assert_eq!(moment(1_700_000_000_999_000_000), "2023-11-14 22:13:20");
    }

    #[test]
    fn a_program_that_calls_itself_otherwise_is_told_by_its_file() {
        let of = |called: &str, path: &str, is_deleted: bool| {
            let deleted = ("/audit/exec", json!({"deleted": is_deleted.then_some(true)}));
            let path = ("/process/executable", json!(path));
            let text = render("a1-b", &[with(exec(0, 0, 100, 1, &[called]), &[path, deleted])], false);
            let line = text.lines().last().expect("a line");
            line.split_once("in /srv").map_or_else(String::new, |(_, rest)| rest.to_owned())
        };
        assert_eq!(
            of("[kworker]", "/memfd:kworker/0:0", true),
            ", program /memfd:kworker/0:0 (in memory alone)"
        );
        assert_eq!(of("memfd:x", "/memfd:x (deleted)", false), ", program /memfd:x (in memory alone)");
        assert_eq!(of("./x", "/tmp/x", true), ", program /tmp/x (deleted)");
        assert_eq!(of("x", "/tmp/x (deleted)", false), ", program /tmp/x (deleted)");
        assert_eq!(of("sshd", "/tmp/a b\u{1b}", false), ", program $'/tmp/a b\\x1b'");
        for (called, path) in
            [("sh", "/bin/sh"), ("/usr/bin/sh", "/bin/sh"), ("-bash", "/bin/bash"), ("x", "")]
        {
            assert_eq!(of(called, path, false), "", "{called} {path}");
        }
    }
}
