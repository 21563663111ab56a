//! The built agent, started, asked, told and stopped as a person does it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

struct Agent {
    directory: tempfile::TempDir,
    child: Child,
    log: Receiver<Value>,
    http: String,
}

fn prepared() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::create_dir(directory.path().join("logs")).expect("made");
    configure(directory.path(), "log: {level: info}\n");
    directory
}

fn configure(directory: &Path, more: &str) {
    let (state, logs) = (directory.join("state"), directory.join("logs/*.log"));
    let text = format!(
        "http: {{listen: '127.0.0.1:0'}}\nstate: {{directory: {}}}\n\
         logs: {{kubernetes: {{enabled: false}}, poll_interval_ms: 20, files: [{{paths: ['{}']}}]}}\n\
         docker: {{enabled: never}}\n{more}",
        state.display(),
        logs.display()
    );
    File::create(directory.join("t.yaml"))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("written");
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taffrail"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TAFFRAIL_")) {
        command.env_remove(name);
    }
    command.args(arguments).env("TAFFRAIL_CONFIG", directory.join("t.yaml")).stdin(Stdio::null());
    command
}

fn start(directory: tempfile::TempDir) -> Agent {
    let mut child = command(directory.path(), &["run"]).stderr(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let (sender, log) = channel();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    let mut agent = Agent { directory, child, log, http: String::new() };
    let running = agent.logged("taffrail is running");
    let url = running["metrics"].as_str().expect("an address");
    agent.http = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    agent
}

impl Agent {
    /// Waits for a line of the agent's log whose message begins so.
    fn logged(&self, message: &str) -> Value {
        loop {
            let line = self.log.recv_timeout(Duration::from_secs(60)).expect(message);
            if line["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                return line;
            }
        }
    }

    fn print(&self, lines: &str) {
        let path = self.directory.path().join("logs/a.log");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opens");
        file.write_all(lines.as_bytes()).expect("written");
    }

    fn ledger(&self) -> Value {
        // By its socket: a test may have broken the configuration.
        let socket = self.directory.path().join("state/tap.sock");
        let mut command = command(self.directory.path(), &["ledger", "--json", "--socket"]);
        let output = command.arg(socket).output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("json")
    }

    /// Waits until so many records are confirmed.
    fn confirmed(&self, records: u64) {
        let patience = Instant::now() + Duration::from_secs(180);
        while self.ledger()["total"]["confirmed_records"] != records {
            assert!(Instant::now() < patience, "{}", self.ledger());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).expect("connects");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("sent");
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().expect("ends").code()
    }

    fn records(&self) -> String {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.directory.path().join("state/records"))
            .expect("there")
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("logs-")))
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lines_are_shipped_the_ledger_adds_up_and_term_ends_with_0() {
    let mut agent = start(prepared());
    agent.print("one\ntwo\nthree\n");
    agent.confirmed(3);
    assert_eq!(agent.ledger()["adds_up"], true);
    assert!(agent.get("/readyz").starts_with("HTTP/1.0 200"), "{}", agent.get("/readyz"));
    assert!(agent.get("/metrics").contains("taffrail_ledger_confirmed_records_total 3\n"));
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    assert_eq!(agent.records().lines().count(), 3);
    assert!(!agent.directory.path().join("state/tap.sock").exists());
}

#[test]
fn what_was_shipped_before_is_not_shipped_again_and_nothing_is_missing_after_a_kill() {
    let mut agent = start(prepared());
    agent.print("one\ntwo\n");
    agent.confirmed(2);
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    agent.print("three\n");
    let directory = std::mem::replace(&mut agent.directory, tempfile::tempdir().expect("directory"));
    let mut agent = start(directory);
    agent.confirmed(1);
    assert_eq!(agent.end(Signal::SIGKILL), None);
    agent.print("four\n");
    let directory = std::mem::replace(&mut agent.directory, tempfile::tempdir().expect("directory"));
    let mut agent = start(directory);
    agent.print("five\n");
    while !agent.records().contains("five") {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(agent.end(Signal::SIGINT), Some(0));
    for line in ["one", "two", "three", "four", "five"] {
        assert!(
            agent.records().contains(&format!("\"message\":\"{line}\"")),
            "{line} in {}",
            agent.records()
        );
    }
}

#[test]
fn a_bad_configuration_is_refused_by_a_reload_and_the_old_one_stays() {
    let mut agent = start(prepared());
    configure(agent.directory.path(), "log: {levle: info}\n");
    agent.signal(Signal::SIGHUP);
    let refused = agent.logged("configuration refused");
    assert!(
        refused["message"].as_str().is_some_and(|text| text.contains("did you mean `level`?")),
        "{refused}"
    );
    assert!(agent.get("/metrics").contains("taffrail_config_last_reload_successful 0\n"));
    agent.print("still read\n");
    agent.confirmed(1);
    configure(agent.directory.path(), "envelope: {fields: minimal}\n");
    agent.signal(Signal::SIGHUP);
    agent.logged("configuration reloaded");
    assert!(agent.get("/metrics").contains("taffrail_config_last_reload_successful 1\n"));
    assert!(agent.get("/-/config").contains("minimal"));
    agent.print("and after\n");
    agent.confirmed(2);
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
}

#[test]
fn what_a_reload_does_not_take_up_is_named_and_what_runs_is_shown() {
    let mut agent = start(prepared());
    for (more, says) in [
        ("pipeline: {memory: 8 MiB}\n", "except for pipeline"),
        ("pipeline: {memory: 8 MiB}\n", "except for pipeline"),
        ("", "all of it is in force"),
    ] {
        configure(agent.directory.path(), more);
        agent.signal(Signal::SIGHUP);
        let said = agent.logged("configuration reloaded");
        assert!(said["message"].as_str().is_some_and(|text| text.contains(says)), "{said}");
        assert!(agent.get("/-/config").contains("16 MiB"), "the memory that runs");
    }
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
}

#[test]
fn two_agents_do_not_share_a_state_directory() {
    let agent = start(prepared());
    let second = command(agent.directory.path(), &["run"]).output().expect("runs");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("state"), "{said}");
}

#[test]
fn a_bad_configuration_ends_run_with_78() {
    let directory = prepared();
    configure(directory.path(), "log: {levle: info}\n");
    let output = command(directory.path(), &["run"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn a_web_configuration_guards_what_runs_and_a_broken_one_is_refused_by_run_check_and_a_reload() {
    let directory = prepared();
    let web = directory.path().join("web.yml");
    let write = |path: &Path, text: &str| {
        File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    };
    let main = directory.path().join("t.yaml");
    let text = std::fs::read_to_string(&main).expect("there");
    write(&main, &text.replace("127.0.0.1:0'", &format!("127.0.0.1:0', web_config: '{}'", web.display())));
    let hash = bcrypt::hash("right", 4).expect("hashed");
    write(&web, &format!("basic_auth_users: {{ann: {hash}}}\n"));
    let agent = start(directory);
    assert!(agent.get("/healthz").starts_with("HTTP/1.0 401 "), "{}", agent.get("/healthz"));
    write(&web, "basic_auth_users: {ann: hunter2}\n");
    agent.signal(Signal::SIGHUP);
    let refused = agent.logged("configuration refused").to_string();
    assert!(refused.contains("this is no bcrypt hash") && !refused.contains("hunter2"), "{refused}");
    assert!(agent.get("/healthz").starts_with("HTTP/1.0 401 "), "the old one stays");
    for arguments in [&["check", "--offline"][..], &["run"]] {
        let output = command(agent.directory.path(), arguments).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("web.yml:1:20: `basic_auth_users.ann`: this is no bcrypt hash"), "{said}");
    }
}

#[test]
fn an_output_that_cannot_work_ends_check_and_run_with_78_and_says_why_once() {
    let directory = prepared();
    let output = "output:\n  kafka:\n    brokers: ['127.0.0.1:1']\n    tls: {ca_file: /none/ca.pem}\n";
    configure(directory.path(), output);
    for arguments in [&["check", "--offline"][..], &["run", "--once"]] {
        let output = command(directory.path(), arguments).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("t.yaml:8:11: `output.kafka.tls.ca_file`: cannot read /none/ca.pem"), "{said}");
        assert_eq!(said.matches("No such file").count(), 1, "{said}");
    }
}

#[test]
fn why_run_cannot_begin_is_said_once() {
    let directory = prepared();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("bound").to_string();
    let output = command(directory.path(), &["run"]).env("TAFFRAIL_HTTP__LISTEN", address).output();
    let output = output.expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("in use").count(), 1, "{said}");
}

#[test]
fn once_ships_the_files_of_the_command_line_with_their_unfinished_lines_and_ends() {
    let directory = prepared();
    let path = directory.path().join("named.txt");
    File::create(&path).and_then(|mut file| file.write_all(b"one\ntwo")).expect("written");
    let mut command = command(directory.path(), &["run", "--once"]);
    let command = command.arg("named.txt").current_dir(directory.path());
    let output = command.env("TAFFRAIL_LOGS__PARTIAL_TIMEOUT_MS", "100").output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let stopped = said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    assert_eq!(stopped.expect("a last line")["confirmed_records"], 2, "{said}");
    let records = directory.path().join("state/records");
    for entry in std::fs::read_dir(records).expect("there").map(|entry| entry.expect("readable")) {
        let mode = entry.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{entry:?} is for anybody to read");
    }
}

#[test]
fn json_is_said_whatever_the_configuration_would_have_said() {
    let directory = prepared();
    let mut command = command(directory.path(), &["run", "--once", "--json"]);
    let output = command.env("TAFFRAIL_LOG__FORMAT", "text").output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.lines().count() > 1, "{said}");
    for line in said.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "no JSON: {line}");
    }
}

#[test]
fn once_ends_beside_a_writer_that_never_pauses() {
    let directory = prepared();
    let path = directory.path().join("busy.log");
    File::create(&path).and_then(|mut file| file.write_all(b"there before\n")).expect("written");
    let ended = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (path, ended) = (path.clone(), Arc::clone(&ended));
        move || {
            let mut file = OpenOptions::new().append(true).open(path).expect("opened");
            while !ended.load(Ordering::Relaxed) {
                file.write_all(b"and one more\n").expect("written");
                thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let mut child = command(directory.path(), &["run", "--once"]).arg(&path).spawn().expect("starts");
    let patience = Instant::now() + Duration::from_secs(240);
    let status = loop {
        match child.try_wait().expect("asked") {
            None if Instant::now() < patience => thread::sleep(Duration::from_millis(50)),
            status => break status,
        }
    };
    ended.store(true, Ordering::Relaxed);
    writer.join().expect("wrote to the end");
    let _ = child.kill();
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// An agent that has a line under way to a Kafka that is not there.
fn undelivered(drain: &str) -> Agent {
    let directory = prepared();
    let output = "output: {kafka: {brokers: ['127.0.0.1:1']}}";
    configure(directory.path(), &format!("{output}\npipeline: {{drain_timeout: {drain}}}\n"));
    let agent = start(directory);
    agent.print("one\n");
    let patience = Instant::now() + Duration::from_secs(180);
    while agent.ledger()["total"]["pending_records"] != 1 {
        assert!(Instant::now() < patience, "{}", agent.ledger());
        thread::sleep(Duration::from_millis(20));
    }
    agent
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let mut agent = undelivered("2s");
    agent.signal(Signal::SIGTERM);
    agent.logged("stopping");
    assert_eq!(agent.end(Signal::SIGTERM), Some(0), "it waited for what was under way");
    assert_eq!(agent.logged("not everything that was read was confirmed")["bytes"], 4);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut agent = undelivered("10m");
    agent.signal(Signal::SIGTERM);
    agent.logged("stopping");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.end(Signal::SIGINT), Some(1));
}
