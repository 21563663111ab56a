//! Who comes into containers of a real Docker engine, and what they do there: told through a real Kafka and in files, whole
//! though the agent is killed, and nothing of it removed or changed unseen.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Agent, Bpffs, put, until_within};
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::{Kafka, KafkaOptions, Terminal, packages, terminal};

/// Other tests on this machine have containers, too, and agents here tell of them.
const SHOP: &str = "galley-of-the-audit";
const TOPIC: &str = "deck.audit";
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that audits the containers of this engine.
fn agent(docker: &Docker, bpffs: &Bpffs, output: &str) -> Result<Agent> {
    agent_by(docker, bpffs, "[]", output)
}

/// The same with policies.
fn agent_by(docker: &Docker, bpffs: &Bpffs, policies: &str, output: &str) -> Result<Agent> {
    Agent::new(&format!(
        "node: {{name: deck-1}}\ndocker: {{enabled: always, socket: {}}}\ncri: {{enabled: never}}\n\
         logs: {{kubernetes: {{enabled: false}}}}\nmetrics: {{containers: {{enabled: false}}}}\n\
         audit: {{enabled: true, bpffs: {}, policies: {policies}}}\n{output}",
        docker.socket().display(),
        bpffs.path().display()
    ))
}

fn start(agent: &mut Agent) -> Result<()> {
    agent.start()?;
    until_within(PATIENCE, "the probe in the kernel", || {
        Ok(agent.metric("taffrail_audit_tier{tier=\"probe\"}")? == Some(1.0))
    })
}

/// A container that sleeps, and is known to the agent by its name.
fn container(docker: &Docker, name: &str) -> Result<String> {
    docker.run_detached(&["--name", name, IMAGE, "sleep", "100000"])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command of the agent printed; it must have succeeded.
fn printed(agent: &Agent, name: &str, arguments: &[&str]) -> Result<String> {
    let output = agent.command(name)?.args(arguments).output()?;
    ensure!(output.status.success(), "{name} {arguments:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// The documents in the topic, as they lie there.
fn in_topic(kafka: &Kafka) -> Result<Vec<Vec<u8>>> {
    let mut documents = Vec::new();
    kafka.consume(TOPIC, |record| {
        documents.push(record.value.context("a document without a value")?);
        Ok(())
    })?;
    Ok(documents)
}

fn read(documents: &[Vec<u8>]) -> Result<Vec<Value>> {
    Ok(documents.iter().map(|bytes| serde_json::from_slice(bytes)).collect::<Result<_, _>>()?)
}

/// Names of the sessions that have ended and began with this command line.
fn ended(documents: &[Value], command: &str) -> Vec<String> {
    let of = |document: &&Value| {
        document["event"]["action"] == "session-ended" && document["process"]["command_line"] == command
    };
    let ids: BTreeSet<&str> = documents
        .iter()
        .filter(of)
        .filter_map(|document| document["audit"]["session"]["id"].as_str())
        .collect();
    ids.into_iter().map(str::to_owned).collect()
}

/// Documents of a session, each once, in their order.
fn of_session<'a>(documents: &'a [Value], id: &str) -> Vec<&'a Value> {
    let mut seen = BTreeSet::new();
    let mut of: Vec<&Value> = documents
        .iter()
        .filter(|document| document["audit"]["session"]["id"] == id)
        .filter(|document| seen.insert(document["event"]["id"].to_string()))
        .collect();
    of.sort_by_key(|document| document["event"]["sequence"].as_u64().unwrap_or(u64::MAX));
    of
}

/// The only session that began so, once it has ended and that has arrived.
fn session(kafka: &Kafka, command: &str) -> Result<(String, Vec<Value>)> {
    let mut found = Vec::new();
    until_within(PATIENCE, "the end of the session", || {
        found = read(&in_topic(kafka)?)?;
        Ok(!ended(&found, command).is_empty())
    })?;
    let ids = ended(&found, command);
    ensure!(ids.len() == 1, "{command}: {ids:?}");
    Ok((ids[0].clone(), found))
}

/// `taffrail verify` of what the agent's configuration names, with its report.
fn verify(agent: &Agent) -> Result<(Output, Value)> {
    let output = agent.command("verify")?.arg("--json").output()?;
    let report = serde_json::from_slice(&output.stdout).with_context(|| text(&output.stderr))?;
    Ok((output, report))
}

/// It must find everything.
fn verify_complete(agent: &Agent) -> Result<Value> {
    let (output, report) = verify(agent)?;
    let audit = &report["audit"];
    ensure!(output.status.code() == Some(0) && audit["complete"] == true, "{report:#}\n{}", agent.log()?);
    ensure!(audit["missing"] == 0 && audit["changed"] == 0, "{audit:#}");
    Ok(audit.clone())
}

const SCRIPT: &str = "cd /tmp; (exit 7); /bin/ls /nowhere; sleep 0.2 & wait; exit 3";

#[test]
fn what_is_done_in_a_container_arrives_whole_also_what_is_done_while_the_agent_is_dead() -> Result<()> {
    let kafka = Kafka::start(KafkaOptions::default())?;
    kafka.create_topic("deck", 1)?;
    kafka.create_topic("deck.ledger", 1)?;
    kafka.create_topic(TOPIC, 3)?;
    let docker = Docker::start()?;
    let bpffs = Bpffs::mount()?;
    let id = container(&docker, SHOP)?;
    let output = format!(
        "output: {{kafka: {{brokers: ['{}'], topic: deck, ledger_topic: deck.ledger, audit_topic: {TOPIC}}}}}\n",
        kafka.bootstrap()
    );
    let mut agent = agent(&docker, &bpffs, &output)?;
    start(&mut agent)?;
    let nothing = agent.command("sessions")?.output()?;
    ensure!(
        nothing.stdout.is_empty() && text(&nothing.stderr).contains("no session in a container of deck-1")
    );

    let done = docker.docker(&["exec", "--user", "1000:1001", SHOP, "sh", "-c", SCRIPT]).output()?;
    ensure!(done.status.code() == Some(3), "{done:?}");
    let command = format!("sh -c '{SCRIPT}'");
    let (name, documents) = session(&kafka, &command)?;
    let of = of_session(&documents, &name);

    // What was done is what arrived: programs, and how each process ended.
    let args: Vec<&Value> = of
        .iter()
        .filter(|document| document["event"]["action"] == "exec")
        .map(|document| &document["process"]["args"])
        .collect();
    assert_eq!(
        args,
        [&json!(["sh", "-c", SCRIPT]), &json!(["/bin/ls", "/nowhere"]), &json!(["sleep", "0.2"])]
    );
    let mut codes: Vec<i64> = of
        .iter()
        .filter(|document| document["event"]["action"] == "exit")
        .filter_map(|document| document["process"]["exit_code"].as_i64())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 1, 3, 7]);
    let end = of.last().context("no document")?;
    assert_eq!(end["audit"]["session"]["complete"], true, "{end:#}");
    assert_eq!(end["audit"]["session"]["documents"].as_u64(), Some(of.len() as u64), "{end:#}");
    assert_eq!((&end["process"]["exit_code"], &end["container"]["id"]), (&json!(3), &json!(id)));
    for document in &of {
        assert_eq!(document["container"]["name"], SHOP, "{document:#}");
    }

    // The agent names it, and what arrived tells it.
    let listed = printed(&agent, "sessions", &["--user", "1000", "--container", SHOP, "--since", "1h"])?;
    let cells: Vec<&str> = listed.lines().nth(1).context("nothing listed")?.split('\t').collect();
    assert_eq!((cells[0], cells[5], cells[6]), (name.as_str(), SHOP, "exec"), "{listed}");
    assert_eq!((cells[7], cells[8], cells[9], cells[10]), ("3", "3", "-", command.as_str()), "{listed}");
    let summaries: Value =
        serde_json::from_str(&printed(&agent, "sessions", &["--json", "--live", "--container", SHOP])?)?;
    assert_eq!((&summaries["tier"], &summaries["sessions"]), (&json!("probe"), &json!([])));
    let shown = printed(&agent, "sessions", &["show", &name])?;
    for line in [
        format!("  where    {SHOP} (docker, "),
        "uid 1000, gid 1001, no terminal".to_owned(),
        format!("  {command}  # uid 1000, in /, program /bin/busybox, exit 3 after "),
        "    /bin/ls /nowhere  # in /tmp, program /bin/busybox, exit 1 after ".to_owned(),
        "    (sh)  # began no program, exit 7 after ".to_owned(),
        format!("nothing: all of its {} documents are there", of.len()),
    ] {
        ensure!(shown.contains(&line), "{line:?} is not in:\n{shown}");
    }
    let lines = printed(&agent, "sessions", &["show", &name[..name.len() - 1], "--json"])?;
    assert_eq!(lines.lines().count(), of.len());
    let unknown = agent.command("sessions")?.args(["show", "nobody"]).output()?;
    ensure!(
        unknown.status.code() == Some(1)
            && text(&unknown.stderr).contains("no document of a session `nobody`")
    );
    let whole = verify_complete(&agent)?;
    assert_eq!(whole["chains"].as_array().map(Vec::len), Some(1), "{whole:#}");

    // What happens while no agent is there waits in the kernel.
    agent.kill()?;
    for number in 0..5 {
        docker.output(&["exec", SHOP, "sh", "-c", &format!("/bin/ls / # {number}")])?;
    }
    start(&mut agent)?;
    for number in 0..5 {
        let (name, documents) = session(&kafka, &format!("sh -c '/bin/ls / # {number}'"))?;
        let of = of_session(&documents, &name);
        let end = of.last().context("no document")?;
        assert_eq!(end["audit"]["session"]["complete"], true, "{end:#}");
        assert_eq!(end["audit"]["session"]["documents"].as_u64(), Some(of.len() as u64), "{end:#}");
    }
    let more = verify_complete(&agent)?;
    assert_eq!(more["chains"].as_array().map(Vec::len), Some(1), "the chain goes on: {more:#}");
    ensure!(more["documents"].as_u64() > whole["documents"].as_u64(), "{more:#}");
    let sessions = more["sessions"].as_array().context("no sessions")?;
    ensure!(
        !sessions.iter().any(|session| session["container"] == SHOP),
        "all have ended, and are whole: {more:#}"
    );
    agent.stop()
}

/// What asciinema shows of a recording, on a terminal of its own.
fn cat(cast: &Path) -> Result<String> {
    packages::ensure(&[("asciinema", "asciinema")])?;
    let cast = cast.to_str().context("a path")?;
    terminal::shown("asciinema cat \"$CAST\"", &[("CAST", cast), ("LC_ALL", "C.UTF-8")])
}

#[test]
fn what_was_typed_and_shown_is_played_and_takes_over_no_terminal() -> Result<()> {
    const SCRIPT: &str = "until [ -e /tmp/go ] && stty size 2>/dev/null | grep -q '30 100'; do sleep 0.1; done; \
                          printf 'name? '; read name; stty -echo; printf 'word? '; read word; stty echo; \
                          printf '\\n\\033]52;c;eA==\\007\\033[1mhello\\033[0m %s\\n' $name; exit 4";
    let docker = Docker::start()?;
    let bpffs = Bpffs::mount()?;
    let shop = container(&docker, SHOP)?;
    let records = tempfile::tempdir()?;
    let output = format!("output: {{file: {{directory: {}}}}}\n", records.path().display());
    let mut agent = agent_by(&docker, &bpffs, "[{record: full}]", &output)?;
    start(&mut agent)?;
    let client = format!("docker -H {} exec -it {SHOP} sh -c \"$SCRIPT\"", docker.host());
    let mut terminal = Terminal::open(&client, &[("SCRIPT", SCRIPT)])?;
    until_within(PATIENCE, "the programs that record", || {
        Ok(agent.metric("taffrail_audit_recording")? == Some(1.0))
    })?;
    let first = docker.output(&["inspect", "-f", "{{.State.Pid}}", &shop])?;
    put(Path::new(&format!("/proc/{}/root/tmp/go", first.trim())), b"")?;
    terminal.answers("name? ", "ana\n")?;
    // Killed while a word is typed that nobody is to see, and there again before it is over.
    terminal.awaits("word? ")?;
    agent.kill()?;
    terminal.types("sesame-56\n")?;
    terminal.ends()?;
    start(&mut agent)?;
    let all = || in_files(records.path());
    until_within(PATIENCE, "the end in the files", || {
        Ok(all()?.lines().any(|line| line.contains("\"session-ended\"") && line.contains(SHOP)))
    })?;
    let listed = printed(&agent, "sessions", &["--wide", "--container", SHOP])?;
    let name = listed.lines().nth(1).and_then(|line| line.split('\t').next()).context("nothing listed")?;
    ensure!(!all()?.contains("sesame"), "the word is nowhere");

    let shown = printed(&agent, "replay", &[name])?;
    assert_eq!(shown, "name? ana\nword? \nhello ana\n");
    let raw = printed(&agent, "replay", &[name, "--raw"])?;
    ensure!(raw.contains("\u{1b}]52;c;eA==\u{7}\u{1b}[1mhello"), "{raw:?}");
    let input = printed(&agent, "replay", &[name, "--input"])?;
    ensure!(input.contains("  ana\\n\n") && input.contains("[10 bytes that were not echoed"), "{input}");
    let cast = records.path().join("a.cast");
    printed(&agent, "replay", &[name, "--export", cast.to_str().context("a path")?])?;
    let by_asciinema = cat(&cast)?;
    let cast = fs::read_to_string(cast)?;
    let lines = cast.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    assert_eq!(
        (&lines[0]["version"], &lines[0]["width"], &lines[0]["height"]),
        (&json!(2), &json!(100), &json!(30))
    );
    ensure!(lines[1..].windows(2).all(|pair| pair[0][0].as_f64() <= pair[1][0].as_f64()), "{cast}");
    let frames = cast.split_once('\n').map_or("", |(_, frames)| frames);
    ensure!(frames.contains("\\u001b[1mhello") && !frames.contains("52;c"), "{cast}");
    assert_eq!(by_asciinema, "name? ana\r\nword? \r\n\u{1b}[1mhello\u{1b}[0m ana\r\n");
    let show = printed(&agent, "sessions", &["show", name])?;
    ensure!(
        show.contains(&format!("taffrail replay {name}")) && show.contains("nothing: all of its"),
        "{show}"
    );
    verify_complete(&agent)?;

    // On a terminal it takes its time, and gives the terminal back.
    let program = taffrail_suite::program()?;
    let line = format!(
        "{} replay {name} -f {} --speed 4",
        program.display(),
        agent.directory().join("taffrail.yaml").display()
    );
    let played = terminal::shown(&line, &[])?;
    ensure!(played.contains("\u{1b}[1mhello") && !played.contains("\u{1b}]52"), "{played:?}");
    ensure!(played.trim_end().ends_with("\u{1b}[?1049l\u{1b}[?25h\u{1b}[?7h\u{1b}[r\u{1b}[m"), "{played:?}");

    // A part that is taken out is missed.
    agent.stop()?;
    let rest: Vec<String> =
        all()?.lines().filter(|line| !line.contains("\"recorded\"")).map(str::to_owned).collect();
    let folder = tempfile::tempdir()?;
    put(&folder.path().join("audit-1.ndjson"), (rest.join("\n") + "\n").as_bytes())?;
    let verified = verify_folder(folder.path())?;
    ensure!(
        verified.status.code() == Some(1)
            && text(&verified.stdout).contains("pieces of its recording are not there"),
        "{verified:?}"
    );
    Ok(())
}

/// The files of the audit, whole or being written: one for each life of an agent.
fn audit_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_of_audit = |path: &PathBuf| {
        path.file_name().is_some_and(|name| text(name.as_encoded_bytes()).starts_with("audit-"))
    };
    Ok(entries.into_iter().filter(is_of_audit).collect())
}

/// What these hold.
fn in_files(folder: &Path) -> Result<String> {
    let of = |path: PathBuf| text(&fs::read(path).unwrap_or_default());
    Ok(audit_files(folder)?.into_iter().map(of).collect())
}

fn verify_folder(folder: &Path) -> Result<Output> {
    Ok(Command::new(taffrail_suite::program()?).arg("verify").arg(folder).output()?)
}

#[test]
fn a_document_that_is_removed_or_changed_in_the_files_is_found() -> Result<()> {
    let docker = Docker::start()?;
    let bpffs = Bpffs::mount()?;
    container(&docker, SHOP)?;
    let records = tempfile::tempdir()?;
    let output = format!("output: {{file: {{directory: {}}}}}\n", records.path().display());
    let mut agent = agent(&docker, &bpffs, &output)?;
    start(&mut agent)?;
    for _ in 0..3 {
        docker.output(&["exec", SHOP, "sh", "-c", "/bin/ls /"])?;
    }
    until_within(PATIENCE, "three ends in the files", || {
        let lines = in_files(records.path())?;
        let is_end = |line: &&str| line.contains("\"session-ended\"") && line.contains(SHOP);
        Ok(lines.lines().filter(is_end).count() == 3)
    })?;
    let shown = printed(&agent, "sessions", &["--wide", "--container", SHOP])?;
    let name = shown.lines().nth(1).and_then(|line| line.split('\t').next()).context("nothing listed")?;
    ensure!(
        printed(&agent, "sessions", &["show", name])?
            .contains("  /bin/ls /  # program /bin/busybox, exit 0 after ")
    );
    agent.stop()?;

    let path = audit_files(records.path())?.pop().context("no file of the audit")?;
    let file = path.file_name().context("no name")?;
    let lines: Vec<String> = fs::read_to_string(&path)?.lines().map(str::to_owned).collect();
    let copy = |lines: &[String]| -> Result<Output> {
        let folder = tempfile::tempdir()?;
        put(&folder.path().join(file), (lines.join("\n") + "\n").as_bytes())?;
        verify_folder(folder.path())
    };
    let whole = copy(&lines)?;
    ensure!(whole.status.code() == Some(0) && text(&whole.stdout).contains("audit complete"), "{whole:?}");
    let twice = copy(&[lines.clone(), lines[1..3].to_vec()].concat())?;
    ensure!(twice.status.code() == Some(0) && text(&twice.stdout).contains(" 2 repeated"), "{twice:?}");
    for removed in [0, 1, lines.len() / 2, lines.len() - 2] {
        let mut lines = lines.clone();
        lines.remove(removed);
        let output = copy(&lines)?;
        ensure!(
            output.status.code() == Some(1) && text(&output.stdout).contains("audit missing: "),
            "{output:?}"
        );
    }
    let mut changed = lines.clone();
    changed[1] = changed[1].replacen("deck-1", "deck-2", 1);
    let output = copy(&changed)?;
    ensure!(
        output.status.code() == Some(1) && text(&output.stdout).contains("audit changed: "),
        "{output:?}"
    );
    let mut reordered = lines;
    reordered.reverse();
    ensure!(copy(&reordered)?.status.code() == Some(0), "the order of lines does not matter");
    Ok(())
}
