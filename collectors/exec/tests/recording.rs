//! What is typed and shown in containers of a real Docker engine: recorded as it was, and nothing else.

#[path = "audit/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use serde_json::Value;
use support::{Auditor, POD, Shop, Told};
use taffrail_exec::{AuditConfig, Policy, Recording, RecordingConfig};
use taffrail_parts::Terminal;
use taffrail_parts::docker::IMAGE;

fn full() -> AuditConfig {
    let full = Policy { record: Recording::Full, ..Policy::default() };
    AuditConfig { policies: vec![full], ..AuditConfig::default() }
}

/// Runs the engine's client on a terminal.
fn terminal(shop: &Shop, arguments: &[&str]) -> Result<Terminal> {
    Terminal::open(&shop.client(arguments), &[])
}

/// What a recording says, in its order.
fn events(told: &Told) -> Vec<Value> {
    let mut parts = told.of("recorded");
    parts.sort_by_key(|part| part["audit"]["recording"]["first"].as_u64());
    let events = parts.iter().flat_map(|part| part["audit"]["recording"]["events"].as_array());
    events.flatten().cloned().collect()
}

/// All bytes of a code.
fn bytes(told: &Told, code: &str) -> Vec<u8> {
    let of = |event: &Value| match (event["text"].as_str(), event["base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (_, Some(coded)) => base64::engine::general_purpose::STANDARD.decode(coded).expect("base64"),
        _ => Vec::new(),
    };
    events(told).iter().filter(|event| event["code"] == code).flat_map(of).collect()
}

fn text(told: &Told, code: &str) -> String {
    String::from_utf8_lossy(&bytes(told, code)).into_owned()
}

/// All pieces are there, and the end says so.
fn is_recorded_whole(told: &Told) -> Result<()> {
    let of = &told.end["audit"]["recording"];
    let parts = told.of("recorded");
    let pieces: u64 = parts.iter().filter_map(|part| part["audit"]["recording"]["count"].as_u64()).sum();
    ensure!(of["pieces"] == pieces && of["lost"] == 0 && of["cut_bytes"] == 0, "{pieces} of {of}");
    ensure!(told.end["audit"]["session"]["complete"] == true, "{}", told.end["audit"]["session"]);
    Ok(())
}

/// On a busy machine the programs that record may be attached some milliseconds after the first session began, which that one
/// says. From here on they are there, for some seconds.
fn is_attached(shop: &Shop, auditor: &Auditor, container: &str) -> Result<()> {
    shop.docker.output(&["exec", container, "true"])?;
    auditor.session(&["true"]).map(drop)
}

#[test]
fn a_terminal_is_recorded_as_it_was_and_what_it_does_not_echo_is_a_length() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, full())?;
    shop.container("counter", &[])?;
    is_attached(&shop, &auditor, "counter")?;
    // The client says how large the terminal is when the program runs already.
    let script = "until stty size 2>/dev/null | grep -q '30 100'; do sleep 0.1; done; \
                  printf 'name? '; read name; stty -echo; printf 'word? '; read word; stty echo; echo; echo \"hello $name\"; exit 4";
    let mut terminal = terminal(&shop, &["exec", "-it", "counter", "sh", "-c", script])?;
    terminal.answers("name? ", "ana\n")?;
    terminal.answers("word? ", "sesame-56\n")?;
    terminal.ends()?;
    let told = auditor.session(&["sh", "-c", script])?;
    let shown = text(&told, "o");
    ensure!(shown == "name? ana\r\nword? \r\nhello ana\r\n", "{shown:?} {:#?}", told.end["audit"]);
    ensure!(text(&told, "i") == "ana\n", "{:?}", events(&told));
    let redacted: u64 = events(&told).iter().filter_map(|event| event["redacted"].as_u64()).sum();
    ensure!(redacted == 10 && told.end["audit"]["recording"]["redacted_bytes"] == 10, "{:?}", events(&told));
    let sizes: Vec<Value> = events(&told).into_iter().filter(|event| event["code"] == "r").collect();
    ensure!(sizes.last().is_some_and(|size| size["text"] == "100x30"), "{sizes:?}");
    is_recorded_whole(&told)?;
    ensure!(told.end["process"]["exit_code"] == 4);
    let all = serde_json::to_string(&auditor.documents())?;
    ensure!(!all.contains("sesame"), "the word is nowhere");
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn what_is_piped_in_and_what_comes_out_are_recorded_each_by_itself() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, full())?;
    shop.container("counter", &[])?;
    is_attached(&shop, &auditor, "counter")?;
    let script = "echo one\necho two >&2\nexit 6\n";
    let mut piped =
        shop.docker.docker(&["exec", "-i", "counter", "sh", "-s", "script"]).stdin(Stdio::piped()).spawn()?;
    piped.stdin.take().context("no input")?.write_all(script.as_bytes())?;
    ensure!(piped.wait()?.code() == Some(6));
    let told = auditor.session(&["sh", "-s", "script"])?;
    ensure!(text(&told, "i") == script, "{:?}", events(&told));
    ensure!(text(&told, "o") == "one\n" && text(&told, "e") == "two\n", "{:?}", events(&told));
    is_recorded_whole(&told)?;

    // Whatever descriptors they are by then, and whoever of the session it is.
    let script = "exec 7>&1; (sh -c 'echo inner >&7')";
    shop.docker.output(&["exec", "counter", "sh", "-c", script])?;
    let told = auditor.session(&["sh", "-c", script])?;
    ensure!(text(&told, "o") == "inner\n", "{:?}", events(&told));
    is_recorded_whole(&told)?;

    // What passes through no program's memory is counted.
    let script = "head -c 70000 /dev/zero > /tmp/zeros; cat /tmp/zeros";
    shop.docker.output(&["exec", "counter", "sh", "-c", script])?;
    let told = auditor.session(&["sh", "-c", script])?;
    let recording = &told.end["audit"]["recording"];
    let seen = bytes(&told, "o").len() as u64 + recording["unseen_bytes"].as_u64().unwrap_or(0);
    ensure!(recording["output_bytes"] == 70_000 && seen == 70_000, "{recording}");

    // Of nobody but the session.
    shop.docker.output(&["exec", "-d", "counter", "sh", "-c", "echo nobody sees it; exit 0"])?;
    let told = auditor.session(&["sh", "-c", "echo nobody sees it; exit 0"])?;
    ensure!(told.end["audit"]["recording"]["lost"] == 0, "{}", told.end["audit"]);
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn what_is_over_a_bound_is_cut_and_the_recording_and_the_end_say_so() -> Result<()> {
    let shop = Shop::open()?;
    let recording = RecordingConfig { session_bytes: 20_000, ..RecordingConfig::default() };
    let auditor = Auditor::start(&shop, AuditConfig { recording, ..full() })?;
    shop.container("loud", &[])?;
    is_attached(&shop, &auditor, "loud")?;
    let script = "yes 0123456789 | head -n 10000";
    let out = shop.docker.output(&["exec", "loud", "sh", "-c", script])?;
    ensure!(out.len() == 110_000);
    let told = auditor.session(&["sh", "-c", script])?;
    let of = &told.end["audit"]["recording"];
    let number = |name: &str| of[name].as_u64().unwrap_or(0);
    let kept = bytes(&told, "o");
    ensure!(out.as_bytes().starts_with(&kept) && kept.len() > 10_000, "{} bytes", kept.len());
    ensure!(number("cut_bytes") == 110_000 - kept.len() as u64 && number("output_bytes") == 110_000, "{of}");
    ensure!(events(&told).last().is_some_and(|last| last["code"] == "m"), "{:?}", events(&told).last());
    let gaps = told.end["audit"]["session"]["gaps"].to_string();
    ensure!(gaps.contains("audit.recording.session_bytes"), "{gaps}");
    // Nothing of what was done is missing for that.
    ensure!(told.numbers().len() as u64 == told.end["audit"]["session"]["records"].as_u64().unwrap_or(0));
    auditor.stop()
}

#[test]
fn the_rights_that_the_documents_name_are_enough_also_for_who_finds_the_probe() -> Result<()> {
    let shop = Shop::open()?;
    shop.container("modest", &[])?;
    let modest = || -> Result<()> {
        // All but SYS_PTRACE, PERFMON and BPF.
        let others: Vec<u32> = (0..=40).filter(|number| ![19, 38, 39].contains(number)).collect();
        support::drop_capabilities(&others)?;
        for life in ["one", "two"] {
            let auditor = Auditor::start(&shop, full())?;
            auditor.is_pinned()?;
            if life == "two" {
                // All is told that was done meanwhile, but for what was shown: the agent attaches what records.
                let told = auditor.session(&["sh", "-c", "exit 0", "away"])?;
                let gaps = told.end["audit"]["session"]["gaps"].to_string();
                ensure!(gaps.contains("the agent was away") && told.execs().len() == 1, "{gaps}");
            }
            // As `is_attached`, in each life anew.
            shop.docker.output(&["exec", "modest", "sh", "-c", "exit 0", life])?;
            auditor.session(&["sh", "-c", "exit 0", life])?;
            let script = format!("echo life {life}");
            shop.docker.output(&["exec", "modest", "sh", "-c", &script])?;
            let told = auditor.session(&["sh", "-c", &script])?;
            ensure!(
                text(&told, "o") == format!("life {life}\n"),
                "{:?} {}",
                events(&told),
                told.end["audit"]
            );
            is_recorded_whole(&told)?;
            auditor.stop()?;
            if life == "one" {
                shop.docker.output(&["exec", "modest", "sh", "-c", "exit 0", "away"])?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| scope.spawn(modest).join().expect("no panic"))
}

#[test]
fn many_short_sessions_at_once_are_recorded_each() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, full())?;
    shop.container("busy", &[])?;
    is_attached(&shop, &auditor, "busy")?;
    let mut running = Vec::new();
    for number in 0..20 {
        let script = format!("echo said by {number}; exit 0");
        running
            .push(shop.docker.docker(&["exec", "busy", "sh", "-c", &script]).stdout(Stdio::null()).spawn()?);
    }
    running.iter_mut().try_for_each(|session| session.wait().map(drop))?;
    for number in 0..20 {
        let script = format!("echo said by {number}; exit 0");
        let told = auditor.session(&["sh", "-c", &script])?;
        ensure!(text(&told, "o") == format!("said by {number}\n"), "{number}: {:#}", told.end["audit"]);
        is_recorded_whole(&told)?;
    }
    auditor.stop()
}

#[test]
fn a_recording_goes_on_over_the_agents_lives() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, full())?;
    shop.container("long", &[])?;
    is_attached(&shop, &auditor, "long")?;
    let script = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.5; done";
    let mut session =
        shop.docker.docker(&["exec", "long", "sh", "-c", script]).stdout(Stdio::null()).spawn()?;
    auditor.until("the first lines", |documents| {
        documents.iter().any(|document| document["event"]["action"] == "recorded")
    })?;
    auditor.stop()?;
    std::thread::sleep(Duration::from_secs(1));
    let auditor = Auditor::start(&shop, full())?;
    auditor.is_pinned()?;
    session.wait()?;
    let told = auditor.session(&["sh", "-c", script])?;
    let expected: String = (1..=8).map(|number| format!("line {number}\n")).collect();
    ensure!(text(&told, "o") == expected, "{:?}", text(&told, "o"));
    is_recorded_whole(&told)?;
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn nothing_is_recorded_that_no_policy_asks_for() -> Result<()> {
    let shop = Shop::open()?;
    let only = |containers: &str, record| Policy {
        containers: vec![containers.to_owned()],
        record,
        ..Policy::default()
    };
    let policies = vec![only("dull", Recording::Off), only("vault", Recording::Full)];
    let auditor = Auditor::start(&shop, AuditConfig { policies, ..AuditConfig::default() })?;
    shop.container("vault", &[])?;
    is_attached(&shop, &auditor, "vault")?;
    shop.container("dull", &[])?;
    shop.container("usual", &[])?;
    for name in ["dull", "usual", "vault"] {
        shop.docker.output(&["exec", name, "sh", "-c", "echo secret of $0; exit 0", name])?;
    }
    auditor.session(&["sh", "-c", "echo secret of $0; exit 0", "usual"])?.is_whole()?;
    let told = auditor.session(&["sh", "-c", "echo secret of $0; exit 0", "vault"])?;
    ensure!(text(&told, "o") == "secret of vault\n", "{:?}", events(&told));
    let recorded: Vec<Value> = auditor
        .documents()
        .into_iter()
        .filter(|document| document["event"]["action"] == "recorded")
        .collect();
    ensure!(recorded.iter().all(|document| document["container"]["name"] == "vault"), "{recorded:#?}");
    ensure!(!serde_json::to_string(&auditor.documents())?.contains("secret of dull"));
    // Only lengths, where that is wanted.
    auditor.stop()?;
    let recording = RecordingConfig { input: false, ..RecordingConfig::default() };
    let auditor = Auditor::start(&shop, AuditConfig { recording, ..full() })?;
    let mut piped =
        shop.docker.docker(&["exec", "-i", "vault", "sh", "-s", "mute"]).stdin(Stdio::piped()).spawn()?;
    piped.stdin.take().context("no input")?.write_all(b"hidden=5; exit 0\n")?;
    piped.wait()?;
    let told = auditor.session(&["sh", "-s", "mute"])?;
    ensure!(
        text(&told, "i").is_empty() && told.end["audit"]["recording"]["input_bytes"] == 17,
        "{:?}",
        events(&told)
    );
    auditor.stop()
}

#[test]
fn a_name_that_comes_late_loses_no_recording_and_nothing_is_recorded_for_it_that_no_policy_wants()
-> Result<()> {
    let shop = Shop::open()?;
    let only = |containers: &str, record| Policy {
        containers: vec![containers.to_owned()],
        record,
        ..Policy::default()
    };
    let policies = vec![only("dull", Recording::Off), only("vault*", Recording::Full)];
    let auditor = Auditor::start(&shop, AuditConfig { policies, ..AuditConfig::default() })?;
    shop.container("vault-0", &[])?;
    is_attached(&shop, &auditor, "vault-0")?;
    // Somebody comes in as soon as each is there, and nobody knows yet what it is called, for longer than that is waited for.
    let script = "echo secret of $0; exit 0";
    let ids: Vec<(&str, String)> = ["dull", "usual", "vault-1"]
        .into_iter()
        .map(|name| {
            let id = shop.docker.run_detached(&["--name", name, "--init=false", IMAGE, "sleep", "100000"])?;
            shop.docker.output(&["exec", name, "sh", "-c", script, name])?;
            Ok((name, id))
        })
        .collect::<Result<_>>()?;
    let mut lasting =
        shop.docker.docker(&["exec", "vault-1", "sh", "-c", "echo before; sleep 6; echo after"]);
    let mut lasting = lasting.stdout(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_secs(4));
    for (name, id) in &ids {
        shop.known_as(id, name);
    }
    lasting.wait()?;
    let told = auditor.session(&["sh", "-c", script, "vault-1"])?;
    ensure!(text(&told, "o") == "secret of vault-1\n", "{:?} {:#}", events(&told), told.end["audit"]);
    is_recorded_whole(&told)?;
    let told = auditor.session(&["sh", "-c", "echo before; sleep 6; echo after"])?;
    ensure!(text(&told, "o") == "before\nafter\n", "{:?} {:#}", events(&told), told.end["audit"]);
    is_recorded_whole(&told)?;
    for name in ["dull", "usual"] {
        let told = auditor.session(&["sh", "-c", script, name])?;
        ensure!(told.of("recorded").is_empty() && told.end["audit"]["recording"] == Value::Null, "{name}");
    }
    ensure!(!serde_json::to_string(&auditor.documents())?.contains("secret of dull"));
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn who_looks_into_a_pod_by_a_container_of_his_own_is_recorded_and_what_the_pod_does_itself_is_not()
-> Result<()> {
    let shop = Shop::open()?;
    shop.they_are_ephemeral(None);
    let auditor = Auditor::start(&shop, full())?;
    shop.container("counter", &[])?;
    is_attached(&shop, &auditor, "counter")?;
    // A container with a terminal of its own, of which it becomes known late what it is.
    let container = |name: &str, script: &str, typed: &[(&str, &str)]| -> Result<()> {
        let run = ["run", "-it", "--name", name, "--cgroup-parent", POD, IMAGE, "sh", "-c", script];
        let mut terminal = terminal(&shop, &run)?;
        typed.iter().try_for_each(|(prompt, text)| terminal.answers(prompt, text))?;
        terminal.ends()?;
        let id = shop.docker.output(&["ps", "-aq", "--no-trunc", "--filter", &format!("name={name}")])?;
        shop.known_as(&id, name);
        Ok(())
    };
    let script = "printf 'name? '; read name; stty -echo; printf 'word? '; read word; stty echo; echo hello $name; exit 3";
    container("looker", script, &[("name? ", "ana\n"), ("word? ", "sesame-57\n")])?;
    std::thread::sleep(Duration::from_secs(2));
    shop.they_are_ephemeral(Some(true));
    let told = auditor.session(&["sh", "-c", script])?;
    ensure!(told.end["audit"]["session"]["origin"] == "debug", "{:#}", told.end["audit"]);
    let (shown, typed) = (text(&told, "o"), text(&told, "i"));
    ensure!(shown == "name? ana\r\nword? hello ana\r\n" && typed == "ana\n", "{shown:?} {typed:?}");
    ensure!(told.end["audit"]["recording"]["redacted_bytes"] == 10, "{}", told.end["audit"]["recording"]);
    is_recorded_whole(&told)?;

    // What a pod is there for is recorded by the kernel until that is known, and by nobody after that.
    shop.they_are_ephemeral(None);
    container("app", "echo its own; sleep 1; exit 4", &[])?;
    shop.they_are_ephemeral(Some(false));
    std::thread::sleep(Duration::from_secs(2));
    shop.docker.output(&["exec", "counter", "sh", "-c", "echo later; exit 0"])?;
    is_recorded_whole(&auditor.session(&["sh", "-c", "echo later; exit 0"])?)?;
    let all = serde_json::to_string(&auditor.documents())?;
    ensure!(!all.contains("its own") && !all.contains("sesame"), "it is nowhere");
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn the_programs_that_record_are_there_only_while_somebody_is() -> Result<()> {
    let shop = Shop::open()?;
    // Others on this machine have containers, too.
    shop.all_are_known();
    let quiet = vec!["quiet".to_owned()];
    let policies = vec![Policy { containers: quiet, record: Recording::Full, ..Policy::default() }];
    shop.container("quiet", &[])?;
    let auditor = Auditor::start(&shop, AuditConfig { policies, ..AuditConfig::default() })?;
    shop.docker.output(&["exec", "quiet", "sh", "-c", "echo x; exit 0"])?;
    auditor.session(&["sh", "-c", "echo x; exit 0"])?;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while auditor.audit.view().recording.attached {
        ensure!(std::time::Instant::now() < deadline, "they are still there");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut session = shop.docker.docker(&["exec", "quiet", "sleep", "2"]).spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(auditor.audit.view().recording.attached);
    session.wait()?;
    auditor.stop()
}
