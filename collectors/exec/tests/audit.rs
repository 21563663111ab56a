//! The audit beside a real Docker engine: what is done in containers is what its documents say, and each session says rightly
//! whether it is whole.

#[path = "audit/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use support::{Auditor, Shop, Told};
use taffrail_exec::{AuditConfig, Policy, Recording, Tier, TierChoice};
use taffrail_parts::docker::IMAGE;
use taffrail_parts::packages;

#[test]
fn commands_of_all_kinds_are_told_as_they_were() -> Result<()> {
    let shop = Shop::open()?;
    let auditor =
        Auditor::start(&shop, AuditConfig { environment: vec!["WHO".to_owned()], ..AuditConfig::default() })?;
    let container = shop.container("counter", &[])?;

    // As another user, detached, with an environment and in a directory.
    shop.docker.output(&[
        "exec",
        "-d",
        "-u",
        "1000:1001",
        "-w",
        "/tmp",
        "-e",
        "WHO=ana",
        "counter",
        "sh",
        "-c",
        "exit 5",
    ])?;
    let told = auditor.session(&["sh", "-c", "exit 5"])?;
    told.is_whole()?;
    let entry = told.only("exec")?;
    ensure!(entry["user"] == json!({"id": "1000", "group": {"id": "1001"}}), "{}", entry["user"]);
    ensure!(
        entry["process"]["working_directory"] == "/tmp" && entry["process"]["env_vars"] == json!(["WHO=ana"])
    );
    ensure!(entry["container"]["id"] == container.as_str() && entry["container"]["name"] == "counter");
    ensure!(entry["process"]["tty"] == Value::Null && told.end["process"]["exit_code"] == 5);

    // With a terminal.
    shop.with_terminal(&["exec", "-it", "counter", "sh", "-c", "tty; exit 0"])?;
    let told = auditor.session(&["sh", "-c", "tty; exit 0"])?;
    told.is_whole()?;
    let tty = told.execs()[0]["process"]["tty"]["name"].as_str().unwrap_or_default().to_owned();
    ensure!(tty.starts_with("pts"), "{tty}");

    // Programs that take each other's place are one process.
    shop.docker.output(&["exec", "counter", "sh", "-c", "exec sh -c 'exec sleep 0'"])?;
    let told = auditor.session(&["sh", "-c", "exec sh -c 'exec sleep 0'"])?;
    told.is_whole()?;
    let pids: BTreeSet<u64> =
        told.execs().iter().filter_map(|exec| exec["process"]["pid"].as_u64()).collect();
    ensure!(told.commands().len() == 3 && pids.len() == 1, "{:?}", told.commands());

    // A script through standard input.
    let mut piped =
        shop.docker.docker(&["exec", "-i", "counter", "sh", "-s", "script"]).stdin(Stdio::piped()).spawn()?;
    piped.stdin.take().context("no input")?.write_all(b"cat /etc/hostname\nsleep 0\nexit 6\n")?;
    ensure!(piped.wait()?.code() == Some(6));
    let told = auditor.session(&["sh", "-s", "script"])?;
    told.is_whole()?;
    ensure!(
        told.commands()[1..] == [vec!["cat", "/etc/hostname"], vec!["sleep", "0"]],
        "{:?}",
        told.commands()
    );
    ensure!(told.end["process"]["exit_code"] == 6);

    // Arguments with everything in them, and more of them than fit.
    let odd = "a\nb\u{1b}]0;title\u{7}'\"\\ \u{202e}c";
    shop.docker.output(&["exec", "counter", "echo", odd, ""])?;
    let told = auditor.session(&["echo", odd, ""])?;
    told.is_whole()?;
    let line = told.only("exec")?["process"]["command_line"].as_str().unwrap_or_default().to_owned();
    ensure!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
    let long = format!("x{}", "y".repeat(120_000));
    let many: Vec<&str> =
        ["exec", "counter", "true"].into_iter().chain(std::iter::repeat_n(long.as_str(), 8)).collect();
    shop.docker.output(&many)?;
    let told = auditor.session_where("of a million arguments", |end| {
        end["process"]["args"][1].as_str().is_some_and(|first| first.starts_with("xyy"))
    })?;
    told.is_whole()?;
    let exec = told.only("exec")?;
    ensure!(exec["audit"]["exec"]["args_bytes"] == 5 + 8 * (long.len() + 1), "{}", exec["audit"]["exec"]);
    ensure!(exec["audit"]["flags"] == json!(["args_truncated"]), "{}", exec["audit"]["flags"]);
    auditor.stop()
}

#[test]
fn programs_that_hide_are_told_for_what_they_are() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    shop.container("counter", &["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"])?;
    shop.bring_doer("counter")?;
    let done = |what: &str| -> Result<Told> {
        shop.docker.output(&["exec", "counter", "/doer", what])?;
        let told = auditor.session(&["/doer", what])?;
        told.is_whole()?;
        Ok(told)
    };

    let told = done("memory")?;
    let hidden = &told.execs()[1];
    ensure!(hidden["audit"]["exec"]["deleted"] == true, "{hidden}");
    ensure!(
        hidden["process"]["executable"].as_str().is_some_and(|path| path.contains("memfd:nowhere")),
        "{hidden}"
    );
    let told = done("gone")?;
    ensure!(told.execs()[1]["audit"]["exec"]["deleted"] == true, "{}", told.execs()[1]);
    ensure!(told.execs()[0]["audit"]["exec"]["deleted"] == Value::Null);

    let told = done("false-name")?;
    let innocent = &told.execs()[1];
    ensure!(
        innocent["process"]["args"] == json!(["innocent", "done"])
            && innocent["process"]["executable"] == "/doer",
        "{innocent}"
    );
    ensure!(innocent["audit"]["exec"]["inode"] == told.execs()[0]["audit"]["exec"]["inode"]);

    // The number of a process says nothing by itself.
    let told = done("twins")?;
    let twins = &told.execs()[1..];
    ensure!(
        twins.len() == 2 && twins.iter().all(|twin| twin["process"]["vpid"] == 31337),
        "{:?}",
        told.commands()
    );
    ensure!(twins[0]["process"]["entity_id"] != twins[1]["process"]["entity_id"]);

    // What was left behind, in a process session of its own, without a parent in the container but the first process.
    let told = done("daemon")?;
    ensure!(told.commands() == [vec!["/doer", "daemon"], vec!["doer", "done"]], "{:?}", told.commands());
    let duration = told.end["event"]["duration"].as_u64().unwrap_or(0);
    ensure!(duration > 600_000_000, "the session lasts as long as its last member: {duration}");

    let told = done("thread")?;
    ensure!(told.commands() == [vec!["/doer", "thread"], vec!["doer", "done"]], "{:?}", told.commands());

    let told = done("forks")?;
    let mut codes: Vec<u64> =
        told.of("exit").iter().filter_map(|exit| exit["process"]["exit_code"].as_u64()).collect();
    codes.sort_unstable();
    ensure!(
        codes == [0, 0, 1, 2, 3, 4] && told.of("fork").len() == 5 && told.execs().len() == 1,
        "{codes:?}"
    );
    let parent = &told.execs()[0]["process"]["entity_id"];
    ensure!(told.of("fork").iter().all(|fork| fork["process"]["parent"]["entity_id"] == *parent));

    // Another user's rights.
    shop.docker.output(&[
        "exec",
        "counter",
        "sh",
        "-c",
        "cp /doer /doer-of-root; chmod 4755 /doer-of-root",
    ])?;
    shop.docker.output(&["exec", "-u", "1000", "counter", "/doer-of-root"])?;
    let told = auditor.session(&["/doer-of-root"])?;
    let ids = &told.of("exit")[0]["process"];
    ensure!(ids["real_user"]["id"] == "1000" && ids["user"]["id"] == "0", "{ids}");
    auditor.stop()
}

/// The processes of the machine, its cgroups, its devices: whoever comes in there can go anywhere, and is watched wherever he goes.
#[test]
fn who_may_do_everything_is_told_wherever_he_goes() -> Result<()> {
    packages::ensure(&[("nsenter", "util-linux")])?;
    let shop = Shop::open_where_machines_grant_less()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    let id = shop.container("master", &["--privileged", "--pid", "host", "--cgroupns", "host"])?;
    let out =
        format!("nsenter -t {} -m -u -i -n -p sh -c 'cat /proc/self/cgroup; exit 3'", std::process::id());
    let moved = format!(
        "nsenter -t {} -m sh -c 'for all in /sys/fs/cgroup /sys/fs/cgroup/*; do echo $$ > $all/cgroup.procs; done 2> /dev/null; grep -q :/$ /proc/self/cgroup && exit 3'",
        std::process::id()
    );
    let sessions = [
        "echo in; exit 3",
        // Out of the container, into the machine.
        &out,
        // Out of its cgroups.
        &moved,
        // Out of its parents.
        "(setsid sh -c 'sleep 0.5; cat /dev/null; exit 3' &); exit 3",
        // Into everything that it can have of its own.
        "unshare -m -u -i -n -p -f sh -c 'sh -c true; exit 3'",
    ];
    let programs = [1, 4, 4, 5, 4];
    for (script, programs) in sessions.iter().zip(programs) {
        let output = shop.docker.docker(&["exec", "master", "sh", "-c", script]).output()?;
        ensure!(output.status.code() == Some(3), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let told = auditor.session(&["sh", "-c", script])?;
        told.is_whole()?;
        ensure!(told.end["container"]["id"] == id.as_str(), "{script}: {}", told.end["container"]);
        ensure!(told.end["audit"]["session"]["origin"] == "exec", "{script}: {}", told.end["audit"]);
        ensure!(told.execs().len() == programs, "{script}: {:?}", told.commands());
    }
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn a_fork_bomb_is_told_like_anything_else_and_disturbs_nobody() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    shop.container("bombed", &["--pids-limit", "40"])?;
    shop.container("quiet", &[])?;
    shop.bring_doer("bombed")?;
    let mut bomb = shop.docker.docker(&["exec", "bombed", "/doer", "bomb"]).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    shop.docker.output(&["exec", "quiet", "sh", "-c", "exit 0 # beside"])?;
    auditor.session(&["sh", "-c", "exit 0 # beside"])?.is_whole()?;
    bomb.wait()?;
    let told = auditor.session(&["/doer", "bomb"])?;
    told.is_whole()?;
    ensure!(told.of("fork").len() >= 38 && told.of("fork").len() + 1 == told.of("exit").len());
    auditor.stop()
}

#[test]
fn sessions_of_a_container_that_is_stopped_end_with_it() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    shop.container("short", &[])?;
    let mut session = shop.docker.docker(&["exec", "short", "sh", "-c", "sleep 1000; true"]).spawn()?;
    auditor.until("the session's beginning", |documents| {
        documents.iter().any(|document| document["process"]["args"] == json!(["sleep", "1000"]))
    })?;
    shop.docker.output(&["kill", "short"])?;
    session.wait()?;
    let told = auditor.session(&["sh", "-c", "sleep 1000; true"])?;
    told.is_whole()?;
    ensure!(
        told.end["process"]["exit_code"] == 137 && told.end["audit"]["signal"] == 9,
        "{}",
        told.end["process"]
    );
    ensure!(told.of("exit").iter().all(|exit| exit["audit"]["signal"] == 9));
    auditor.stop()
}

#[test]
fn nothing_is_missed_while_nobody_reads_and_who_was_there_before_is_adopted() -> Result<()> {
    let shop = Shop::open()?;
    shop.container("old", &[])?;
    let mut before =
        shop.docker.docker(&["exec", "old", "sh", "-c", "sleep 6; /bin/ls /; exit 3"]).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    auditor.is_pinned()?;
    auditor.until("the adoption", |documents| {
        documents.iter().any(|document| document["process"]["args"] == json!(["sleep", "6"]))
    })?;
    // An end and a beginning, and an end without a word.
    let mut over = shop.docker.docker(&["exec", "old", "sh", "-c", "sleep 2; exit 4"]).spawn()?;
    auditor.until("a beginning", |documents| {
        documents.iter().any(|document| document["process"]["args"] == json!(["sleep", "2"]))
    })?;
    auditor.stop()?;
    shop.docker.output(&["exec", "old", "sh", "-c", "/bin/ls /nowhere || exit 2"]).unwrap_err();
    over.wait()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    auditor.is_pinned()?;
    let told = auditor.session(&["sh", "-c", "/bin/ls /nowhere || exit 2"])?;
    told.is_whole()?;
    ensure!(told.commands().len() == 2 && told.end["process"]["exit_code"] == 2);
    let told = auditor.session(&["sh", "-c", "sleep 2; exit 4"])?;
    told.is_whole()?;
    ensure!(told.end["process"]["exit_code"] == 4 && told.commands().len() == 2, "{:?}", told.commands());
    before.wait()?;
    let told = auditor.session(&["sh", "-c", "sleep 6; /bin/ls /; exit 3"])?;
    ensure!(
        told.end["audit"]["session"]["gaps"] == json!(["its beginning was before the probe"]),
        "{}",
        told.end["audit"]
    );
    ensure!(told.end["process"]["exit_code"] == 3, "{}", told.end["process"]);
    // Found twice, and what came of them since: `ls`, made by the shell that was found.
    ensure!(
        told.commands()
            == [vec!["sh", "-c", "sleep 6; /bin/ls /; exit 3"], vec!["sleep", "6"], vec!["/bin/ls", "/"]],
        "{:?}",
        told.commands()
    );
    ensure!(told.numbers().len() as u64 == told.end["audit"]["session"]["documents"].as_u64().unwrap_or(0));
    let entities = |action: &str| -> BTreeSet<String> {
        told.of(action).iter().map(|document| document["process"]["entity_id"].to_string()).collect()
    };
    ensure!(entities("exec") == entities("exit"), "{:?} {:?}", entities("exec"), entities("exit"));
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn what_the_disk_does_not_take_waits_in_the_kernel_and_what_does_not_fit_there_is_counted() -> Result<()> {
    let shop = Shop::open()?;
    let config = AuditConfig {
        ring_bytes: 64 << 10,
        rate: 1_000_000,
        burst: 1_000_000,
        spool_bytes: 4 << 20,
        ..AuditConfig::default()
    };
    let auditor = Auditor::start(&shop, config)?;
    shop.container("busy", &[])?;
    auditor.far_is_away(true);
    // More than fits also where, on a busy machine, most of it does not get past the ring.
    let script = "i=0; while [ $i -lt 6000 ]; do i=$((i+1)); /bin/true; done";
    shop.docker.output(&["exec", "busy", "sh", "-c", script])?;
    let trouble = auditor.trouble().context("nothing troubles it")?;
    ensure!(trouble.contains("audit.spool_bytes"), "{trouble}");
    auditor.far_is_away(false);
    let told = auditor.session(&["sh", "-c", script])?;
    let session = &told.end["audit"]["session"];
    let number = |name: &str| session[name].as_u64().unwrap_or(0);
    ensure!(number("lost") > 0 && number("execs") == 6001 && session["complete"] == false, "{session}");
    ensure!(told.numbers().len() as u64 == number("documents"), "{} of {session}", told.numbers().len());
    auditor.until("well again", |_| auditor.trouble().is_none())?;
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn who_goes_past_the_runtime_is_out_of_band() -> Result<()> {
    packages::ensure(&[("nsenter", "util-linux")])?;
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    let id = shop.container("counter", &[])?;
    let pid = shop.docker.output(&["inspect", "--format", "{{.State.Pid}}", "counter"])?.trim().to_owned();
    for (mark, flags) in [("all", "-a"), ("network", "-n")] {
        let status =
            Command::new("nsenter").args(["-t", &pid, flags, "--", "sh", "-c", "exit 5", mark]).status()?;
        ensure!(status.code() == Some(5));
        let told = auditor.session(&["sh", "-c", "exit 5", mark])?;
        told.is_whole()?;
        ensure!(told.end["audit"]["session"]["origin"] == "out-of-band", "{}", told.end["audit"]);
        ensure!(told.end["container"]["id"] == id.as_str() && told.end["container"]["name"] == "counter");
        let from = &told.execs()[0]["audit"]["came_from"];
        ensure!(from["cgroup"].is_string() && from["container"].is_null(), "{from}");
    }
    // From another container, which is named.
    let options = "--cap-add SYS_ADMIN --cap-add SYS_PTRACE --cap-add SYS_CHROOT --pid host";
    let other = shop.container("visitor", &options.split(' ').collect::<Vec<_>>())?;
    shop.docker.output(&["exec", "visitor", "nsenter", "-t", &pid, "-m", "sh", "-c", "exit 0", "visit"])?;
    let told = auditor.session(&["sh", "-c", "exit 0", "visit"])?;
    ensure!(told.end["audit"]["session"]["origin"] == "out-of-band", "{}", told.end["audit"]);
    ensure!(told.end["container"]["id"] == id.as_str(), "{}", told.end["container"]);
    let from = &told.execs()[0]["audit"]["came_from"];
    ensure!(from["container"]["id"] == other.as_str() && from["container"]["name"] == "visitor", "{from}");
    auditor.stop()
}

#[test]
fn who_goes_in_before_he_begins_a_program_is_found_by_that_program() -> Result<()> {
    let shop = Shop::open()?;
    let old = shop.container("old", &[])?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    let new = shop.container("new", &[])?;
    let doer = shop.make("tests/audit/doer.c")?;
    for (name, id) in [("old", &old), ("new", &new)] {
        let pid = shop.docker.output(&["inspect", "--format", "{{.State.Pid}}", name])?.trim().to_owned();
        // What a container of the engine does itself, is nobody who came in.
        let inside: [&[&str]; 4] = [&["mnt"], &["net"], &["mnt", "net", "ipc", "uts"], &["mnt", "pid"]];
        for namespaces in inside {
            let script = format!("/bin/true; exit 5 # {name} {namespaces:?}");
            let went = Command::new(&doer).args(["into", &pid, &script]).args(namespaces).status()?;
            ensure!(went.code() == Some(5), "{namespaces:?}: {went}");
            let told = auditor.session(&["sh", "-c", &script])?;
            told.is_whole()?;
            ensure!(told.end["container"]["id"] == id.as_str(), "{namespaces:?}: {}", told.end["container"]);
            let origin = &told.end["audit"]["session"]["origin"];
            ensure!(origin == "out-of-band" && told.execs().len() == 2, "{origin} {:?}", told.commands());
        }
    }
    auditor.stop()
}

#[test]
fn what_a_container_does_itself_is_no_session_whatever_it_shares_and_whenever_it_began() -> Result<()> {
    let shop = Shop::open()?;
    let work = "while true; do /bin/true; sleep 0.2; done";
    let begin = |name: &str, options: &[&str]| -> Result<()> {
        let image = [&["--name", name][..], options, &[IMAGE, "sh", "-c", work]].concat();
        let id = shop.docker.run_detached(&image)?;
        shop.known_as(&id, name);
        Ok(())
    };
    begin("old", &[])?;
    begin("old-guest", &["--pid", "container:old"])?;
    begin("old-host", &["--pid", "host"])?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    begin("new", &[])?;
    begin("guest", &["--pid", "container:new"])?;
    begin("host", &["--pid", "host", "--ipc", "host", "--uts", "host"])?;
    // Namespaces that go are given out again, with the same numbers.
    for again in 0..3 {
        shop.docker.output(&["restart", "-t", "0", "old-host"])?;
        shop.docker.output(&["restart", "-t", "0", "old"])?;
        shop.docker.output(&["rm", "-f", "new-again"]).ok();
        begin("new-again", &[])?;
        if again == 1 {
            std::thread::sleep(Duration::from_secs(2));
        }
    }
    shop.docker.output(&["restart", "-t", "0", "old-guest"])?;
    std::thread::sleep(Duration::from_secs(1));
    for name in ["old", "old-guest", "old-host", "new", "guest", "host", "new-again"] {
        shop.docker.output(&["exec", name, "sh", "-c", "/bin/true; exit 0", name])?;
        let told = auditor.session(&["sh", "-c", "/bin/true; exit 0", name])?;
        told.is_whole()?;
        ensure!(told.end["audit"]["session"]["origin"] == "exec" && told.execs().len() == 2, "{name}");
    }
    let own: Vec<String> = auditor
        .documents()
        .iter()
        .filter(|document| {
            document["process"]["args"][2] == work || document["process"]["args"][0] == "sleep"
        })
        .map(|document| format!("{} {}", document["message"], document["container"]["name"]))
        .collect();
    ensure!(own.is_empty(), "{own:?}");
    auditor.stop()
}

#[test]
fn a_container_to_look_into_a_pod_is_a_session_though_it_is_known_late_and_in_another_life() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    let short = "/bin/ls /; exit 3";
    shop.in_pod("looker", short)?;
    // More than is told of a container of which nobody knows what it is; and it goes on.
    let long = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); /bin/true; done; sleep 4; exit 4";
    shop.in_pod("busy", long)?;
    auditor.until("all that is told of both", |_| auditor.audit.view().counts.told >= 6 + 64)?;
    let early = auditor.own_documents();
    ensure!(early.is_empty(), "{early:?}");
    auditor.abandon();
    shop.they_are_ephemeral(Some(true));
    let auditor = Auditor::start(&shop, AuditConfig::default())?;

    let told = auditor.session(&["sh", "-c", short])?;
    told.is_whole()?;
    ensure!(told.commands() == [vec!["sh", "-c", short], vec!["/bin/ls", "/"]], "{:?}", told.commands());
    ensure!(told.end["audit"]["session"]["origin"] == "debug" && told.end["container"]["name"] == "looker");
    ensure!(told.end["process"]["exit_code"] == 3, "{}", told.end);

    let told = auditor.session(&["sh", "-c", long])?;
    let session = &told.end["audit"]["session"];
    let number = |name: &str| session[name].as_u64().unwrap_or(0);
    ensure!(number("unwanted") > 0 && number("execs") == 62, "{session}");
    ensure!(told.numbers().len() as u64 == number("documents") && session["complete"] == false, "{session}");
    // From when it was known on, all of it.
    ensure!(told.of("exit").last().is_some_and(|last| last["process"]["exit_code"] == 4));

    // What a pod is there for is none.
    shop.they_are_ephemeral(Some(false));
    let documents = auditor.own_documents().len();
    shop.in_pod("app", "exit 5")?;
    shop.docker.output(&["wait", "app"])?;
    shop.container("counter", &[])?;
    shop.docker.output(&["exec", "counter", "true"])?;
    auditor.session(&["true"])?.is_whole()?;
    let later = auditor.own_documents().split_off(documents);
    ensure!(later.iter().all(|document| document["container"]["name"] == "counter"), "{later:?}");
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn where_the_probe_is_refused_who_lives_long_enough_is_known() -> Result<()> {
    let shop = Shop::open()?;
    shop.container("old", &[])?;
    let script = "sleep 4; exit 7";
    let mut before = shop.docker.docker(&["exec", "old", "sh", "-c", script]).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let auditor =
        Auditor::start(&shop, AuditConfig { tier: TierChoice::Connector, ..AuditConfig::default() })?;
    ensure!(auditor.audit.view().tier == Tier::Connector);
    let new = shop.container("new", &[])?;
    for container in ["old", "new"] {
        let script = format!("sleep 0.5 & sleep 0.3; wait; exit 3 # {container}");
        shop.docker.docker(&["exec", "-u", "1000", container, "sh", "-c", &script]).status()?;
        let told = auditor.session(&["sh", "-c", &script])?;
        let mut commands = told.commands();
        commands[1..].sort_unstable();
        ensure!(
            commands == [vec!["sh", "-c", &script], vec!["sleep", "0.3"], vec!["sleep", "0.5"]],
            "{commands:?}"
        );
        ensure!(told.end["process"]["exit_code"] == 3 && told.end["user"]["id"] == "1000", "{}", told.end);
        ensure!(
            told.end["container"]["name"] == container && told.end["audit"]["session"]["origin"] == "exec"
        );
        told.is_whole()?;
    }
    ensure!(auditor.documents().iter().any(|document| document["container"]["id"] == new.as_str()));
    before.wait()?;
    let told = auditor.session(&["sh", "-c", script])?;
    ensure!(told.end["process"]["exit_code"] == 7, "{}", told.end);
    ensure!(told.numbers().len() as u64 == told.end["audit"]["session"]["documents"].as_u64().unwrap_or(0));
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn a_kernel_that_does_not_describe_its_types_is_no_reason_to_fail() -> Result<()> {
    let shop = Shop::open()?;
    // For this thread and those that it makes, the kernel's types are not there.
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("none"), "/sys/kernel/btf", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    let view = auditor.audit.view();
    ensure!(view.tier == Tier::Audit && view.trouble.is_none(), "{view:?}");
    ensure!(view.refused.as_deref().is_some_and(|why| why.contains("CONFIG_DEBUG_INFO_BTF")), "{view:?}");
    auditor.abandon();
    let probe = Auditor::start(&shop, AuditConfig { tier: TierChoice::Probe, ..AuditConfig::default() });
    let refusal = format!("{:#}", probe.err().context("a probe without types")?);
    ensure!(refusal.contains("CONFIG_DEBUG_INFO_BTF"), "{refusal}");
    Ok(())
}

#[test]
fn the_whole_node_is_what_is_done_in_and_out_of_containers() -> Result<()> {
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, AuditConfig { whole_node: true, ..AuditConfig::default() })?;
    let mark = format!("whole-node-{}", std::process::id());
    let status = Command::new("sh").args(["-c", "/bin/sleep 0.1; exit 7", &mark]).status()?;
    ensure!(status.code() == Some(7));
    let id = shop.docker.run_detached(&["--name", "own", IMAGE, "sh", "-c", "/bin/ls /; exit 6", &mark])?;
    shop.known_as(&id, "own");
    shop.container("counter", &[])?;
    shop.docker.docker(&["exec", "counter", "sh", "-c", "exit 5", &mark]).status()?;
    let told = auditor.session(&["sh", "-c", "exit 5", &mark])?;
    told.is_whole()?;

    let of = |what: &[&str], exit: i64| {
        let began = |document: &&Value| {
            document["event"]["action"] == "exec" && document["process"]["args"] == json!(what)
        };
        auditor.until(&format!("{what:?} and its end"), |documents| {
            let Some(exec) = documents.iter().find(began) else { return false };
            documents.iter().any(|document| {
                document["event"]["action"] == "exit"
                    && document["process"]["entity_id"] == exec["process"]["entity_id"]
                    && document["process"]["exit_code"] == exit
            })
        })?;
        auditor.documents().into_iter().find(|document| began(&document)).context("gone")
    };
    // Neither is anybody's session.
    let outside = of(&["sh", "-c", "/bin/sleep 0.1; exit 7", &mark], 7)?;
    ensure!(outside["container"] == Value::Null && outside["audit"]["session"] == Value::Null, "{outside}");
    let inside = of(&["sh", "-c", "/bin/ls /; exit 6", &mark], 6)?;
    ensure!(inside["container"]["id"] == id.trim() && inside["audit"]["session"] == Value::Null, "{inside}");
    of(&["/bin/ls", "/"], 0)?;
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn a_policy_says_what_is_written_down() -> Result<()> {
    let shop = Shop::open()?;
    let off = Policy { containers: vec!["dull*".to_owned()], record: Recording::Off, ..Policy::default() };
    let auditor = Auditor::start(&shop, AuditConfig { policies: vec![off], ..AuditConfig::default() })?;
    shop.container("dull-1", &[])?;
    shop.container("counter", &[])?;
    shop.docker.output(&["exec", "dull-1", "sh", "-c", "exit 0"])?;
    shop.docker.output(&["exec", "counter", "sh", "-c", "exit 0"])?;
    let told = auditor.session(&["sh", "-c", "exit 0"])?;
    ensure!(told.end["container"]["name"] == "counter");
    auditor.until("both sessions", |_| auditor.audit.sessions().len() == 2)?;
    ensure!(auditor.documents().iter().all(|document| document["container"]["name"] == "counter"));
    auditor.stop()
}
