//! The built command: what it says and with which code it ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use taffrail::components::Components;
use taffrail::events::Timelines;
use taffrail::http::{Handle, Surface, serve};
use taffrail::ledger_report::LedgerReport;
use taffrail::reload::Reload;
use taffrail::tap::TapHub;
use taffrail_record::{
    Batch, Budget, Container, FileId, Flags, Ledger, LossReason, Origin, Payload, Pod, Receipt, Record,
    Source, Span, Stream,
};

/// The command, in a directory of its own and without overrides from outside.
fn taffrail(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taffrail"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TAFFRAIL_") {
            command.env_remove(name);
        }
    }
    command.env("TAFFRAIL_STATE__DIRECTORY", directory.join("state"));
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    taffrail(directory, arguments).output().expect("runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn file(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("t.yaml");
    let mut file = std::fs::File::create(&path).expect("created");
    file.write_all(text.as_bytes()).expect("written");
    path
}

/// A surface as an agent serves it, on the socket that the command looks for.
struct Served {
    ledger: Arc<Ledger>,
    tap: Arc<TapHub>,
    _handle: Handle,
}

fn served(directory: &Path) -> Served {
    let (ledger, tap) = (Ledger::new(), TapHub::new());
    let surface = Surface {
        timelines: Timelines::default(),
        audit: None,
        ledger: Arc::clone(&ledger),
        budget: Budget::new(1),
        asks: Vec::new(),
        pages: Vec::new(),
        shippers: Box::new(Vec::new),
        components: Components::new(),
        tap: Arc::clone(&tap),
        config: Arc::default(),
        reload: Arc::new(Reload::new(|| Ok(String::new()))),
        web: None,
    };
    let handle = serve(surface, None, Some(&directory.join("state/tap.sock"))).expect("served");
    Served { ledger, tap, _handle: handle }
}

fn batch(message: &str) -> Batch {
    let records = vec![Record {
        body: 0..message.len() as u32,
        span: Span::at(9, message.len() as u64),
        time: 1_700_000_000_000_000_000,
        stream: Stream::Stdout,
        flags: Flags::NONE,
        extra: None,
    }];
    let account = Ledger::new().account(["", "", ""]);
    account.read(message.len() as u64);
    let pod = Pod { namespace: "shop".to_owned(), name: "web-1".to_owned(), ..Pod::default() };
    let container = Container { name: "app".to_owned(), ..Container::default() };
    Batch {
        payload: Payload::Line,
        origin: Arc::new(Origin { pod: Some(pod), container: Some(container), ..Origin::default() }),
        source: Arc::new(Source { id: FileId(1), path: PathBuf::from("/0.log"), device: 0, inode: 0 }),
        receipt: Receipt::new(Vec::new(), account, &records, None),
        data: message.as_bytes().to_vec(),
        records,
    }
}

#[test]
fn help_and_version_end_with_0() {
    let directory = tempfile::tempdir().expect("directory");
    for arguments in
        [&["--help"][..], &["--version"], &["help", "tap"], &["tap", "--help"], &["ledger", "-h"]]
    {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", err(&output));
        assert!(out(&output).contains("taffrail"), "{arguments:?}");
    }
}

#[test]
fn what_is_not_understood_or_cannot_be_answered_ends_with_2_and_what_to_do() {
    let directory = tempfile::tempdir().expect("directory");
    for (arguments, says) in [
        (&[][..], "Usage:"),
        (&["chek"], "'check'"),
        (&["tap", "--greb", "x"], "'--grep'"),
        (&["tap", "--fixed"], "--grep"),
        (&["completions", "tcsh"], "bash"),
        (&["run", "logs/["], "is not a glob"),
        (&["verify"], "no verdict: cannot open "),
        (&["verify", "nothing-there"], "no verdict: cannot open nothing-there"),
    ] {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(says), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn a_bad_configuration_ends_with_78_and_its_place() {
    let directory = tempfile::tempdir().expect("directory");
    let path = file(directory.path(), "http:\n  lisen: 1\n");
    let path = path.display().to_string();
    for arguments in
        [&["check", "--config", &path][..], &["tap", "--config", &path], &["ledger", "-f", &path]]
    {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(
            err(&output)
                .contains(&format!("{path}:2:3: unknown key `lisen` in `http`; did you mean `listen`?")),
            "{}",
            err(&output)
        );
    }
    let missing = run(directory.path(), &["check", "--config", "nothing.yaml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(err(&missing).contains("cannot read the configuration nothing.yaml"), "{}", err(&missing));
    let variable =
        taffrail(directory.path(), &["check"]).env("TAFFRAIL_HTTP__LISEN", "x").output().expect("runs");
    assert_eq!(variable.status.code(), Some(78));
    assert!(err(&variable).contains("variable TAFFRAIL_HTTP__LISEN: unknown key"), "{}", err(&variable));
}

#[test]
fn the_configuration_may_be_named_by_a_variable() {
    let directory = tempfile::tempdir().expect("directory");
    let path = file(directory.path(), "nonsense: 1\n");
    let output = taffrail(directory.path(), &["check"]).env("TAFFRAIL_CONFIG", &path).output().expect("runs");
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn check_says_what_is_there_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("directory");
    let command = |arguments: &[&str]| {
        taffrail(directory.path(), arguments)
            .env("TAFFRAIL_HTTP__LISTEN", "127.0.0.1:0")
            .output()
            .expect("runs")
    };
    let output = command(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    for subject in
        ["configuration", "inotify watches", "open files", "state directory", "cgroups", "bpf", "http"]
    {
        assert!(out(&output).contains(subject), "{subject} in {}", out(&output));
    }
    assert!(out(&output).ends_with("nothing stands in the way\n"));
    let json: serde_json::Value =
        serde_json::from_slice(&command(&["check", "--json"]).stdout).expect("json");
    assert_eq!(json["ok"], true);
    assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 0);
}

#[test]
fn check_ends_with_1_when_something_stands_in_the_way() {
    let directory = tempfile::tempdir().expect("directory");
    let output = taffrail(directory.path(), &["check", "--offline"])
        .env("TAFFRAIL_STATE__DIRECTORY", "/proc/taffrail")
        .env("TAFFRAIL_HTTP__ENABLED", "false")
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(out(&output).contains("bad   state directory"), "{}", out(&output));
}

#[test]
fn without_an_agent_tap_and_ledger_say_what_to_do() {
    let directory = tempfile::tempdir().expect("directory");
    for command in ["tap", "ledger"] {
        let output = run(directory.path(), &[command]);
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains("is `taffrail run` running on this machine?"), "{}", err(&output));
    }
}

#[test]
fn ledger_prints_every_account_and_the_verdict() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = served(directory.path());
    agent.ledger.account(["shop", "web-1", "app"]).lose_unread(30, LossReason::Deleted);
    let output = run(directory.path(), &["ledger"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let lines: Vec<String> = out(&output).lines().map(str::to_owned).collect();
    assert_eq!(lines[1], "shop\tweb-1\tapp\t30\t0\t0\t0\t30\tdeleted=30\t0\tadds up");
    assert_eq!(
        lines[2],
        "adds up: read 30 = confirmed 0 + pending 0 + carried 0 + lost 30 (1 of 1 accounts)"
    );
    let json = run(directory.path(), &["ledger", "--json"]);
    let report: LedgerReport = serde_json::from_slice(&json.stdout).expect("json");
    assert_eq!(report.total.lost["deleted"], 30);
}

#[test]
fn tap_prints_matching_records_until_there_are_enough() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = served(directory.path());
    let arguments = ["tap", "web", "-n", "shop", "-c", "app", "-F", "-i", "--grep", "A.C", "--max", "2"];
    for (json, expected) in [
        (false, "2023-11-14T22:13:20Z shop/web-1/app stdout a.c 1"),
        (
            true,
            "{\"time\":\"2023-11-14T22:13:20Z\",\"stream\":\"stdout\",\"namespace\":\"shop\",\"pod\":\"web-1\",\
                \"container\":\"app\",\"message\":\"a.c 1\",\"file\":\"/0.log\",\"offset\":9}",
        ),
    ] {
        let mut command = taffrail(directory.path(), &arguments);
        if json {
            command.arg("--json");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = std::thread::scope(|scope| {
            let first = scope.spawn(|| lines.next().expect("a line").expect("text"));
            // Offered again until it is heard: nobody says when the command has begun to listen.
            while !first.is_finished() {
                agent.tap.offer(&batch("abc"));
                agent.tap.offer(&batch("a.c 1"));
                std::thread::yield_now();
            }
            first.join().expect("heard")
        });
        agent.tap.offer(&batch("a.c 1"));
        assert_eq!(first, expected);
        assert_eq!(lines.count(), 1, "two in all");
        assert_eq!(child.wait().expect("ends").code(), Some(0));
    }
}

#[test]
fn verify_names_the_bytes_of_a_record_that_was_taken_out_and_ends_with_1() {
    let directory = tempfile::tempdir().expect("directory");
    let record = |offset: u64| {
        format!(
            "{{\"message\":\"m\",\"log\":{{\"offset\":{offset},\"length\":2,\"file\":{{\"path\":\"/a.log\",\
             \"fingerprint\":\"4f274f995d0d28f3937b2464f2e8760d\"}}}}}}\n"
        )
    };
    let finished = "{\"ledger\":{\"kind\":\"finished\",\"fingerprint\":\"4f274f995d0d28f3937b2464f2e8760d\",\
                    \"path\":\"/a.log\",\"from\":0,\"size\":6,\"confirmed\":6}}\n";
    let verify = |records: &[u64]| {
        let records: String = records.iter().map(|offset| record(*offset)).collect();
        std::fs::create_dir_all(directory.path().join("out")).expect("made");
        for (name, text) in [("out/logs-1.ndjson", records.as_str()), ("out/ledger-1.ndjson", finished)] {
            let mut file = std::fs::File::create(directory.path().join(name)).expect("created");
            file.write_all(text.as_bytes()).expect("written");
        }
        run(directory.path(), &["verify", "out"])
    };
    let whole = verify(&[0, 2, 4]);
    assert_eq!(whole.status.code(), Some(0), "{}", out(&whole));
    assert!(out(&whole).contains("\ncomplete: 1 file, 3 records"), "{}", out(&whole));
    let torn = verify(&[0, 4]);
    assert_eq!(torn.status.code(), Some(1));
    assert!(out(&torn).contains("missing: 2 bytes, 2..4\n"), "{}", out(&torn));
}

#[test]
fn tap_ends_quietly_when_its_reader_has_seen_enough() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = served(directory.path());
    let mut child = taffrail(directory.path(), &["tap"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    drop(child.stdout.take());
    let code = loop {
        if let Some(status) = child.try_wait().expect("waits") {
            break status.code();
        }
        agent.tap.offer(&batch("x"));
        std::thread::yield_now();
    };
    assert_eq!(code, Some(0));
    let said = std::io::read_to_string(child.stderr.take().expect("piped")).expect("text");
    assert_eq!(said, "");
}

#[test]
fn tap_says_when_the_agent_ends() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = served(directory.path());
    let mut command = taffrail(directory.path(), &["tap", "--no-wait"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (heard, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || lines.for_each(|line| drop(heard.send(line))));
    while first.try_recv().is_err() {
        agent.tap.offer(&batch("x"));
        std::thread::yield_now();
    }
    drop(agent);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0));
    reader.join().expect("read to the end");
    // Records may be missing before: this reader is not in a hurry.
    assert!(err(&output).ends_with("taffrail: the agent has ended\n"), "{}", err(&output));
}

#[test]
fn tap_says_when_nothing_that_could_match_was_read_yet() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = served(directory.path());
    let _accounts =
        [["shop", "web-1", "app"], ["", "", "/var/log/app.log"]].map(|names| agent.ledger.account(names));
    let says = |arguments: &[&str]| {
        let mut command = taffrail(directory.path(), &[&["tap", "--no-wait"][..], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let stderr = child.stderr.take().expect("piped");
        let (heard, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || BufReader::new(stderr).lines().for_each(|line| drop(heard.send(line))));
        let said = loop {
            agent.tap.offer(&batch("x"));
            if let Ok(line) = said.try_recv() {
                break Some(line.expect("text"));
            }
            if child.try_wait().expect("waits").is_some() {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        child.kill().expect("ended");
        child.wait().expect("ended");
        said
    };
    for unknown in [&["nobody"][..], &["web", "-n", "elsewhere"], &["/var/log/other.log"]] {
        let said = says(unknown).expect("it says so");
        assert!(said.contains("nothing that matches has been read"), "{unknown:?}: {said}");
    }
    assert_eq!(says(&["web", "--max", "1"]), None);
}

#[test]
fn completions_are_written_for_each_shell() {
    let directory = tempfile::tempdir().expect("directory");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(directory.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("ledger"), "{shell}");
    }
}

#[test]
fn the_reference_is_written_and_a_stale_page_found() {
    let directory = tempfile::tempdir().expect("directory");
    let check = || run(directory.path(), &["reference", "--check", "--out", "pages"]);
    assert_eq!(check().status.code(), Some(1));
    assert_eq!(run(directory.path(), &["reference", "--out", "pages"]).status.code(), Some(0));
    assert_eq!(check().status.code(), Some(0));
    let page = directory.path().join("pages/metrics.md");
    let mut text = std::fs::OpenOptions::new().append(true).open(page).expect("opens");
    text.write_all(b"edited").expect("written");
    let stale = check();
    assert_eq!(stale.status.code(), Some(1));
    assert!(err(&stale).contains("out of date: pages/metrics.md;"), "{}", err(&stale));
}

#[test]
fn the_committed_reference_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let output = run(root, &["reference", "--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}
